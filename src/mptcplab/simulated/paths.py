"""Which subflows a connection opens: the report's full mesh, over the links a flow may use.

The report's mesh was of all addresses; those that no link joins came to nothing and were dropped
after a timeout (section 2.3.4).  Here routing knows that and such pairs are not tried.
"""

from __future__ import annotations

from collections.abc import Callable

from mptcplab.scenario.model import Flow, Scenario, Tunables
from mptcplab.stack.path_managers import FullMesh, InitialOnly, NdiffPorts, PathManager
from mptcplab.stack.path_managers.base import (
    AnnounceAddress,
    Command,
    LocalAddress,
    OpenSubflow,
    PathView,
    RemoteAddress,
    SubflowPath,
)

Pairs = frozenset[tuple[bytes, bytes]]


class RoutedMesh(FullMesh):
    """A full mesh of the address pairs that links join; heeds link state only if told to."""

    def __init__(self, pairs: Pairs, link_aware: bool) -> None:
        """Take (local, remote) pairs, and whether links that go and return are acted on."""
        super().__init__()
        self._pairs = pairs
        self._locals = {local for local, _ in pairs}
        self._link_aware = link_aware

    def on_established(self, view: PathView) -> list[Command]:
        """Announce and open what links allow."""
        return self._routed(super().on_established(view))

    def on_local_up(self, view: PathView, local: LocalAddress) -> list[Command]:
        """Open the address's subflows again, where links are watched."""
        return self._routed(super().on_local_up(view, local)) if self._link_aware else []

    def on_local_down(self, view: PathView, local: LocalAddress) -> list[Command]:
        """Withdraw the address, where links are watched."""
        return super().on_local_down(view, local) if self._link_aware else []

    def on_remote_added(self, view: PathView, remote: RemoteAddress) -> list[Command]:
        """Open subflows to the address from those that a link joins to it."""
        return self._routed(super().on_remote_added(view, remote))

    def on_subflow_closed(self, view: PathView, path: SubflowPath, failed: bool) -> list[Command]:
        """Try again later, where links are watched; Linux's path manager does not."""
        if not self._link_aware:
            return []
        return super().on_subflow_closed(view, path, failed)

    def on_timeout(self, view: PathView) -> list[Command]:
        """Try the paths that are due."""
        return self._routed(super().on_timeout(view))

    def _routed(self, commands: list[Command]) -> list[Command]:
        return [command for command in commands if self._allows(command)]

    def _allows(self, command: Command) -> bool:
        if isinstance(command, OpenSubflow):
            return (command.local_address, command.remote.address) in self._pairs
        if isinstance(command, AnnounceAddress):
            return command.address in self._locals
        return True


def path_manager_for(scenario: Scenario, flow: Flow, host: str) -> Callable[[], PathManager]:
    """Return what makes the path manager of a flow's connections at one of its hosts."""
    tunables = scenario.tunables.get(host, Tunables())
    if tunables.ndiffports == 0:
        return InitialOnly
    if tunables.ndiffports > 1:
        return lambda: NdiffPorts(tunables.ndiffports)
    is_client = host == flow.client
    pairs = frozenset(
        (path.local_address.ip.packed, path.remote_address.ip.packed)
        if is_client
        else (path.remote_address.ip.packed, path.local_address.ip.packed)
        for path in scenario.paths(flow)
    )
    link_aware = tunables.path_manager == "link-aware"
    return lambda: RoutedMesh(pairs, link_aware)
