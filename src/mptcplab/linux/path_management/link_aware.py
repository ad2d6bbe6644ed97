"""A path manager that knows about links: endpoints go when their link goes, and return with it.

The kernel's own path manager has no notifier for interfaces: a subflow whose link failed stays, and
resumes at its next retransmission timeout, which doubles all the while, or it dies and is never
made again.  Here the endpoint is deleted when its link fails (REMOVE_ADDR closes the subflow on
both sides) and added when the link returns (ADD_ADDR, and the peer joins within a round trip or
two).  Deleting first is what keeps a link from ever carrying two subflows.

One host of a path is enough, the one that announces its address; the kernel handles the initial
subflow's address, whose id is 0, in the same way as the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from mptcplab.linux.kernel.mptcp_endpoints import (
    ENDPOINTS_MAX,
    Address,
    Endpoint,
    Flags,
    Limits,
)
from mptcplab.network.topology import InterfaceEnd, Link, Topology


class Endpoints(Protocol):
    """One host's MPTCP endpoints in the kernel, as :class:`mptcp_pm.PathManager` serves them.

    Each method raises OSError where the kernel refuses.
    """

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints that there are."""

    def limits(self) -> Limits:
        """Return the limits."""

    def set_limits(self, limits: Limits) -> None:
        """Set the limits."""

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint."""

    def delete(self, endpoint: Endpoint) -> None:
        """Delete an endpoint."""

    def set_flags(self, endpoint: Endpoint) -> None:
        """Give the endpoint of an address the priority that its flags say."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that the path manager did."""

    host: str
    address: str
    added: bool
    problem: str = ""


class LinkStates:
    """Which links can carry frames, put together from interfaces and from what was ordered."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._interfaces: dict[InterfaceEnd, bool] = {}
        self._ordered = {link.name: link.up for link in topology.links}

    def set_link(self, name: str, up: bool) -> bool:
        """Note that a link was set up or down; return whether that is news."""
        news = self._ordered[name] != up
        self._ordered[name] = up
        return news

    def set_interface(self, host: str, interface: str, up: bool) -> bool:
        """Note an interface's state; return whether that is news."""
        end = InterfaceEnd(host, interface)
        news = self._interfaces.get(end, True) != up
        self._interfaces[end] = up
        return news

    def interface_is_up(self, end: InterfaceEnd) -> bool:
        """Return an interface's last known state."""
        return self._interfaces.get(end, True)

    def is_ordered_up(self, name: str) -> bool:
        """Return whether a link was last set up, whatever its interfaces have said since."""
        return self._ordered[name]

    def is_up(self, link: Link) -> bool:
        """Return whether a link was not set down and the interfaces at its ends are up."""
        return self._ordered[link.name] and all(
            self._interfaces.get(end, True)
            for end in (link.a, link.b)
            if isinstance(end, InterfaceEnd)
        )


class LinkAwarePathManager:
    """Keeps every host's endpoints in step with its links."""

    def __init__(
        self,
        topology: Topology,
        states: LinkStates,
        endpoints: Mapping[str, Endpoints],
        on_change: Callable[[Change], None],
        *,
        follow: bool = True,
        before_delete: Callable[[], object] = lambda: None,
        exact: Collection[str] = (),
    ) -> None:
        """Take the kernel's present endpoints as those that are wanted when all links are up.

        Raises each host's limit of subflows by one: the subflow that takes the place of an initial
        one counts against it, which the initial one did not. Limits of the hosts in ``exact`` stay.

        Without ``follow`` an endpoint whose link is down at the first :meth:`update` waits for that
        link, as one that is configured later would, and the kernel has the rest to itself.
        ``before_delete`` is called while the subflows of an endpoint are still there.
        """
        self._deletes = True
        self._follow = follow
        self._states = states
        self._endpoints = endpoints
        self._on_change = on_change
        self._before_delete = before_delete
        self._paths = {
            host: [
                (path, [topology.link(name) for name in topology.own_links(path)])
                for other in endpoints
                if other != host
                for path in topology.paths(host, other)
            ]
            for host in endpoints
        }
        self._wanted = {
            host: [each for each in table.endpoints() if Flags.IMPLICIT not in each.flags]
            for host, table in endpoints.items()
        }
        for host, table in endpoints.items():
            limits = table.limits()
            if host not in exact and 0 < limits.subflows < ENDPOINTS_MAX:
                table.set_limits(Limits(limits.subflows + 1, limits.add_addr_accepted))
        self._absent: set[tuple[str, Endpoint]] = set()

    def update(self) -> None:
        """Delete the endpoints whose paths are all down and add those that have one again.

        A host that would be left without any keeps what it has: with no path alive there is none
        to tell the peer on, and the subflow that stays recovers with its link.
        """
        for host, table in self._endpoints.items():
            wanted = self._wanted[host]
            alive = [each for each in wanted if self._has_path(host, str(each.address))]
            if not alive:
                continue
            for endpoint in wanted:
                known = (host, endpoint) in self._absent
                if self._deletes and endpoint not in alive and not known:
                    self._apply(host, endpoint, table, added=False)
            for endpoint in alive:
                if (host, endpoint) in self._absent:
                    self._apply(host, endpoint, table, added=True)
        self._deletes = self._follow

    def set_priority(self, host: str, address: Address, backup: bool) -> None:
        """Make the endpoints of an address backups or regular ones, there or not at present.

        Raises OSError where the kernel refuses, RuntimeError where it does otherwise.
        """
        table = self._endpoints[host]
        for place, endpoint in enumerate(self._wanted[host]):
            if endpoint.address != address:
                continue
            flags = endpoint.flags & ~Flags.BACKUP
            changed = replace(endpoint, flags=flags | Flags.BACKUP if backup else flags)
            self._wanted[host][place] = changed
            if (host, endpoint) in self._absent:
                self._absent.discard((host, endpoint))
                self._absent.add((host, changed))
                continue
            table.set_flags(changed)
            now = [each.flags for each in table.endpoints() if _same(each, changed)]
            if now != [changed.flags]:
                raise RuntimeError(f"the kernel has left endpoint {endpoint} as it was")

    def add(self, host: str, endpoint: Endpoint) -> None:
        """Let a host have one more endpoint, now or once its link is up; OSError where refused."""
        table = self._endpoints[host]
        if not self._follow or self._has_path(host, str(endpoint.address)):
            table.add(endpoint)
            (endpoint,) = (each for each in table.endpoints() if _same(each, endpoint))
        else:
            self._absent.add((host, endpoint))
        self._wanted[host].append(endpoint)

    def remove(self, host: str, endpoint: Endpoint) -> None:
        """Let a host have an endpoint no more; OSError where the kernel refuses."""
        for known in [each for each in self._wanted[host] if _same(each, endpoint)]:
            self._wanted[host].remove(known)
            if (host, known) in self._absent:
                self._absent.discard((host, known))
            else:
                self._before_delete()
                self._endpoints[host].delete(known)

    def withdraw(self, link: str) -> bool:
        """Delete the endpoints whose paths lie on a link, for :meth:`update` to add again.

        Returns whether there were any.  A host's last endpoint stays.
        """
        done = False
        for host, table in self._endpoints.items():
            present = [each for each in self._wanted[host] if (host, each) not in self._absent]
            for endpoint in present:
                address = str(endpoint.address)
                lies_there = any(
                    link in (each.name for each in links)
                    for path, links in self._paths[host]
                    if str(path.local_address.ip) == address
                )
                if lies_there and self._follow and len(present) > 1:
                    self._apply(host, endpoint, table, added=False)
                    done = True
        return done

    def _apply(self, host: str, endpoint: Endpoint, table: Endpoints, *, added: bool) -> None:
        problem = ""
        if not added:
            self._before_delete()
        try:
            if added:
                table.add(endpoint)
            else:
                table.delete(endpoint)
        except OSError as error:
            problem = str(error)
        if not problem:
            (self._absent.discard if added else self._absent.add)((host, endpoint))
        self._on_change(Change(host, str(endpoint.address), added, problem))

    def _has_path(self, host: str, address: str) -> bool:
        states = self._states
        return any(
            states.interface_is_up(path.local)
            and (path.routed or states.interface_is_up(path.remote))
            and all(states.is_up(link) for link in links)
            for path, links in self._paths[host]
            if str(path.local_address.ip) == address
        )


def _same(one: Endpoint, other: Endpoint) -> bool:
    """Say whether two endpoints are the same one, whatever its flags and its identifier."""
    return (one.address, one.port) == (other.address, other.port)
