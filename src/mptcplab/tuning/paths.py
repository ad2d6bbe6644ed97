"""Which subflows a connection opens, over the links that its flow may use.

The report's mesh was of all addresses; those that no link joins came to nothing and were dropped
after a timeout (section 2.3.4).  Here routing knows that and such pairs are not tried.
"""

from __future__ import annotations

from collections.abc import Collection

from mptcplab.stack.path_managers import FullMesh, PathManager
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


def most_subflows(paths: int) -> int:
    """Return the bound on subflows for a connection that should have one on each of its paths.

    Twice as many: where a link returns, the peer may not have given up the subflow of before.
    """
    return max(8, 2 * paths)


class RoutedMesh(FullMesh):
    """A full mesh of the addresses that links join; these bound it, and no number of a kernel's.

    It follows the state of links only where asked to, as Linux's path manager.
    """

    def __init__(self, link_aware: bool, pairs: Pairs, backups: Collection[bytes] = ()) -> None:
        """Take whether links that go and return are acted on, and the (local, remote) pairs.

        Subflows from the addresses in ``backups``, which may change meanwhile, are backups.
        """
        super().__init__(most_subflows=most_subflows(len(pairs)))
        self._backups = backups
        self._link_aware = link_aware
        self._pairs = pairs
        self._locals = {local for local, _ in pairs}

    def routes(self, local: bytes, remote: bytes) -> bool:
        """Say whether links of the flow join two addresses."""
        return (local, remote) in self._pairs

    def usable(self, view: PathView) -> list[LocalAddress]:
        """Return our addresses on links of the flow."""
        return [local for local in view.local_addresses if local.address in self._locals]

    def is_backup(self, local: bytes) -> bool:
        """Say whether subflows from an address are backups."""
        return local in self._backups

    def on_established(self, view: PathView) -> list[Command]:
        """Announce addresses and open what is missing; the initial subflow may be a backup."""
        commands: list[Command] = []
        if self.is_backup(view.initial_local):
            commands += self.on_priority_changed(view, view.initial_local, True)
        return commands + super().on_established(view)

    def on_local_up(self, view: PathView, local: LocalAddress) -> list[Command]:
        """Open the address's subflows again, where links are watched."""
        return super().on_local_up(view, local) if self._link_aware else []

    def on_local_down(self, view: PathView, local: LocalAddress) -> list[Command]:
        """Withdraw the address, where links are watched."""
        return super().on_local_down(view, local) if self._link_aware else []

    def on_subflow_closed(self, view: PathView, path: SubflowPath, failed: bool) -> list[Command]:
        """Try again later, where links are watched; Linux's path manager does not."""
        return super().on_subflow_closed(view, path, failed) if self._link_aware else []


class Routed(PathManager):
    """A path manager whose orders are carried out as far as a flow's links allow."""

    def __init__(self, inner: PathManager, pairs: Pairs) -> None:
        """Take the path manager, and the (local, remote) pairs that links join."""
        self._inner = inner
        self._pairs = pairs
        self._locals = {local for local, _ in pairs}

    def on_established(self, view: PathView) -> list[Command]:
        """Ask, and keep what links allow."""
        return self._routed(self._inner.on_established(view))

    def on_local_up(self, view: PathView, local: LocalAddress) -> list[Command]:
        """Ask, and keep what links allow."""
        return self._routed(self._inner.on_local_up(view, local))

    def on_local_down(self, view: PathView, local: LocalAddress) -> list[Command]:
        """Ask, and keep what links allow."""
        return self._routed(self._inner.on_local_down(view, local))

    def on_remote_added(self, view: PathView, remote: RemoteAddress) -> list[Command]:
        """Ask, and keep what links allow."""
        return self._routed(self._inner.on_remote_added(view, remote))

    def on_remote_removed(self, view: PathView, address_id: int) -> list[Command]:
        """Ask, and keep what links allow."""
        return self._routed(self._inner.on_remote_removed(view, address_id))

    def on_subflow_established(self, view: PathView, path: SubflowPath) -> list[Command]:
        """Ask, and keep what links allow."""
        return self._routed(self._inner.on_subflow_established(view, path))

    def on_subflow_closed(self, view: PathView, path: SubflowPath, failed: bool) -> list[Command]:
        """Ask, and keep what links allow."""
        return self._routed(self._inner.on_subflow_closed(view, path, failed))

    def on_timeout(self, view: PathView) -> list[Command]:
        """Ask, and keep what links allow."""
        return self._routed(self._inner.on_timeout(view))

    def accepts(self, view: PathView) -> bool:
        """Ask."""
        return self._inner.accepts(view)

    def on_priority_changed(self, view: PathView, local: bytes, backup: bool) -> list[Command]:
        """Ask, and keep what links allow."""
        return self._routed(self._inner.on_priority_changed(view, local, backup))

    def is_backup(self, local: bytes) -> bool:
        """Ask."""
        return self._inner.is_backup(local)

    def deadline_ns(self) -> int | None:
        """Ask."""
        return self._inner.deadline_ns()

    def _routed(self, commands: list[Command]) -> list[Command]:
        return [command for command in commands if self._allows(command)]

    def _allows(self, command: Command) -> bool:
        if isinstance(command, OpenSubflow):
            return (command.local_address, command.remote.address) in self._pairs
        if isinstance(command, AnnounceAddress):
            return command.address in self._locals
        return True
