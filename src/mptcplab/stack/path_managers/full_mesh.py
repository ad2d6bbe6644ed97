"""Full mesh, the path manager of 2012: every address of ours to every address of the peer.

Both sides announce their addresses; the client opens the subflows. Links are watched: an address
whose link goes down is withdrawn with its subflows, and comes back with its link (out-of-tree
kernel, mptcp_fullmesh.c). Failed attempts are repeated as ``retries`` says, where that kernel
repeated once, after 1 s, and only if there was no route.
"""

from __future__ import annotations

from mptcplab.stack.path_managers.base import (
    AnnounceAddress,
    CloseSubflow,
    Command,
    LocalAddress,
    OpenSubflow,
    PathManager,
    PathView,
    RemoteAddress,
    RemoveAddress,
    SubflowPath,
)
from mptcplab.stack.path_managers.retries import Retries

MOST_ADDRESSES = 8
"""MPTCP_MAX_ADDR of mptcp_fullmesh.c, per side and address family."""
MOST_SUBFLOWS = 32
"""Of ours: a bound for peers that announce and announce."""


class FullMesh(PathManager):
    """All pairs of addresses."""

    def __init__(
        self,
        retries: Retries | None = None,
        most_addresses: int = MOST_ADDRESSES,
        most_subflows: int = MOST_SUBFLOWS,
    ) -> None:
        """Take the policy for failed attempts (the default tries eight times more) and bounds."""
        self.retries = retries or Retries()
        self.most_addresses = most_addresses
        """Of ours, that are announced and used."""
        self.most_subflows = most_subflows
        self._announced: set[int] = set()

    def routes(self, local: bytes, remote: bytes) -> bool:
        """Say whether a packet from one address would reach the other: here nobody knows better."""
        return True

    def usable(self, view: PathView) -> list[LocalAddress]:
        """Return our addresses that are announced and used, whatever their links do."""
        return view.local_addresses[: self.most_addresses]

    def on_established(self, view: PathView) -> list[Command]:
        """Announce our other addresses and open what is missing."""
        return self._announce(view) + self._open_missing(view)

    def on_local_up(self, view: PathView, local: LocalAddress) -> list[Command]:
        """Announce the address and open its subflows."""
        self.retries.forget_local(local.address)
        return self._announce(view) + self._open_missing(view)

    def on_local_down(self, view: PathView, local: LocalAddress) -> list[Command]:
        """Withdraw the address and close its subflows."""
        self.retries.forget_local(local.address)
        address_id = view.local_id(local)
        self._announced.discard(address_id)
        commands: list[Command] = [RemoveAddress(address_id)]
        for subflow in view.subflows:
            if subflow.local_address == local.address:
                commands.append(CloseSubflow(subflow.subflow_id))
        return commands

    def on_remote_added(self, view: PathView, remote: RemoteAddress) -> list[Command]:
        """Open subflows to the address."""
        self.retries.forget_remote(remote.address_id)
        return self._open_missing(view)

    def on_remote_removed(self, view: PathView, address_id: int) -> list[Command]:
        """Close the subflows to the address and stop trying."""
        self.retries.forget_remote(address_id)
        return super().on_remote_removed(view, address_id)

    def on_subflow_established(self, view: PathView, path: SubflowPath) -> list[Command]:
        """Start the count of failures anew."""
        self.retries.note_success((path.local_address, path.remote))
        return []

    def on_subflow_closed(self, view: PathView, path: SubflowPath, failed: bool) -> list[Command]:
        """Try again later if it failed, as often as the policy allows."""
        if failed and view.is_client:
            self.retries.note_failure((path.local_address, path.remote), view.now_ns)
        return []

    def accepts(self, view: PathView) -> bool:
        """Accept until the bound."""
        return len(view.subflows) < self.most_subflows

    def deadline_ns(self) -> int | None:
        """Return when a failed path is tried again."""
        return self.retries.deadline_ns()

    def on_timeout(self, view: PathView) -> list[Command]:
        """Try the paths that are due, where both ends still exist."""
        commands: list[Command] = []
        for address, remote in self.retries.take_due(view.now_ns):
            for local in view.local_addresses:
                if local.address == address and local.up and remote in _remotes(view):
                    commands += self._open(view, local, remote)
        return commands

    def _announce(self, view: PathView) -> list[Command]:
        commands: list[Command] = []
        for local in self.usable(view):
            address_id = view.local_id(local)
            is_in_use = local.address == view.initial_local and view.uses_local(local.address)
            if local.up and address_id not in self._announced and not is_in_use:
                self._announced.add(address_id)
                commands.append(AnnounceAddress(address_id, local.address))
        return commands

    def _open_missing(self, view: PathView) -> list[Command]:
        commands: list[Command] = []
        if not view.is_client:
            return commands
        for remote in _remotes(view):
            for local in self.usable(view):
                if local.up and not self.retries.waiting((local.address, remote)):
                    room = self.most_subflows - len(view.subflows) - len(commands)
                    commands += self._open(view, local, remote)[: max(room, 0)]
        return commands

    def _open(self, view: PathView, local: LocalAddress, remote: RemoteAddress) -> list[Command]:
        if len(local.address) != len(remote.address) or view.has_path(local.address, remote):
            return []
        if not self.routes(local.address, remote.address):
            return []
        return [OpenSubflow(view.local_id(local), local.address, remote)]


def _remotes(view: PathView) -> list[RemoteAddress]:
    remotes = [] if view.peer_denies_initial else [view.initial_remote]
    for remote in view.remote_addresses:
        if remote.address_id != 0:
            remotes.append(remote)
    return remotes
