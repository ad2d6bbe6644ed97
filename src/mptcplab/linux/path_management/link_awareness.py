"""The link-aware path manager at work on a lab: it watches interfaces and changes endpoints."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.path_management.link_aware import Change, LinkAwarePathManager, LinkStates
from mptcplab.linux.probes.link_state import LinkWatch


class LinkAwareness:
    """Watches the interfaces of a lab's hosts; on each change, endpoints follow their links.

    ``follow`` False leaves endpoints to the kernel once their links have come up for the first
    time; the limits of the hosts in ``exact`` stay as they are.  Whoever runs the loop calls the
    readers that :meth:`readers` returns.
    """

    def __init__(
        self,
        lab: Lab,
        states: LinkStates,
        hosts: Iterable[str],
        on_change: Callable[[Change], None],
        *,
        follow: bool = True,
        before_delete: Callable[[], object] = lambda: None,
        exact: Collection[str] = (),
    ) -> None:
        self.states = states
        self._watches: dict[str, LinkWatch] = {}
        for host in hosts:
            with lab.enter(host):
                self._watches[host] = LinkWatch()
        tables = {host: lab.pm(host) for host in self._watches}
        self.endpoints = LinkAwarePathManager(
            lab.topology,
            states,
            tables,
            on_change,
            follow=follow,
            before_delete=before_delete,
            exact=exact,
        )

    def readers(self) -> Mapping[int, Callable[[], None]]:
        """Return what to call when a descriptor is readable."""
        return {watch.fileno(): self.read for watch in self._watches.values()}

    def read(self) -> None:
        """Take in what the kernel has announced, and act on it."""
        news = [
            self.states.set_interface(host, *change)
            for host, watch in self._watches.items()
            for change in watch.changes()
        ]
        if any(news):
            self.update()

    def update(self) -> None:
        """Bring endpoints into step with the states as they are known."""
        self.endpoints.update()

    def withdraw(self, link: str) -> bool:
        """Delete a link's endpoints until the next update; False where it has none."""
        return self.endpoints.withdraw(link)

    def close(self) -> None:
        """Give the watches back."""
        for watch in self._watches.values():
            watch.close()
