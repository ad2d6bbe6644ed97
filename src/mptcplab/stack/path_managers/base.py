"""What happens to a connection's paths, and what its path manager may order.

Each event method returns the commands to carry out, in order. A path manager holds what it must
remember; what exists is in the ``PathView`` it is given with each event. Addresses are packed
bytes as in ``wire.segment``. Address identifiers are those on the wire (RFC 8684, section 3.4.1):
0 is the address of the initial subflow on either side, whatever else it is called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum

from mptcplab.compiling import mypyc_attr


class SubflowState(Enum):
    """How far a subflow is."""

    OPENING = "opening"
    ESTABLISHED = "established"


@dataclass(slots=True)
class LocalAddress:
    """One of our addresses that MPTCP may use."""

    address: bytes
    address_id: int
    """1 to 255, the same for all connections of the host; see ``PathView.local_id``."""
    up: bool = True
    """Whether its link is up. Path managers that imitate Linux do not look."""
    interface: str = ""


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """An address that the peer announced (ADD_ADDR), or the one of the initial subflow (id 0)."""

    address_id: int
    address: bytes
    port: int
    """The port to connect to: the announced one, or that of the initial subflow."""


@dataclass(slots=True)
class SubflowPath:
    """The path of one subflow."""

    subflow_id: int
    local_id: int
    local_address: bytes
    local_port: int
    remote_id: int
    remote_address: bytes
    remote_port: int
    state: SubflowState
    backup: bool = False
    opened_by_us: bool = True
    joined: bool = True
    """Whether it came by MP_JOIN; false for the initial subflow."""

    @property
    def remote(self) -> RemoteAddress:
        """The address of the peer that it goes to."""
        return RemoteAddress(self.remote_id, self.remote_address, self.remote_port)


@dataclass(slots=True)
class PathView:
    """The paths of a connection, as its path manager sees them."""

    is_client: bool
    """Whether we opened the connection."""
    initial_local: bytes
    initial_remote: RemoteAddress
    now_ns: int = 0
    local_addresses: list[LocalAddress] = field(default_factory=list)
    """All of the host's, in the host's order, the initial one included, links down included."""
    remote_addresses: list[RemoteAddress] = field(default_factory=list)
    """The initial one (id 0), and what the peer announced and did not remove, in that order."""
    subflows: list[SubflowPath] = field(default_factory=list)
    """Those opening or established; a join by the peer from its third packet on."""
    peer_denies_initial: bool = False
    """The peer's C flag: no further subflow to the initial address and port (RFC 8684, 3.1)."""

    def local_id(self, local: LocalAddress) -> int:
        """Return the identifier of ``local`` in this connection: 0 for the initial address."""
        return 0 if local.address == self.initial_local else local.address_id

    def uses_local(self, local: bytes) -> bool:
        """Say whether a subflow from ``local`` exists."""
        return any(subflow.local_address == local for subflow in self.subflows)

    def has_path(self, local: bytes, remote: RemoteAddress) -> bool:
        """Say whether a subflow from ``local`` to ``remote`` (address and port) exists."""
        return any(
            subflow.local_address == local
            and subflow.remote_address == remote.address
            and (subflow.remote_port == remote.port or not subflow.opened_by_us)
            for subflow in self.subflows
        )


@dataclass(frozen=True, slots=True)
class OpenSubflow:
    """Open a subflow (MP_JOIN). ``local_port`` 0 takes a free one; ``local_address`` empty lets
    the host's routing choose the source, and its identifier."""

    local_id: int
    local_address: bytes
    remote: RemoteAddress
    local_port: int = 0
    backup: bool = False


@dataclass(frozen=True, slots=True)
class AnnounceAddress:
    """Send ADD_ADDR until it is echoed. ``port`` 0 announces none."""

    address_id: int
    address: bytes
    port: int = 0


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Send REMOVE_ADDR for one of our addresses and stop announcing it."""

    address_id: int


@dataclass(frozen=True, slots=True)
class CloseSubflow:
    """Close a subflow at once (RST where it still exists) and reinject what it carried."""

    subflow_id: int


@dataclass(frozen=True, slots=True)
class SetPriority:
    """Make a subflow backup or regular (MP_PRIO)."""

    subflow_id: int
    backup: bool


Command = OpenSubflow | AnnounceAddress | RemoveAddress | CloseSubflow | SetPriority


@mypyc_attr(allow_interpreted_subclasses=True)
class PathManager(ABC):
    """Decides which subflows a connection has. One object per connection and side.

    A subclass gives ``on_established`` and whichever other events concern it.
    """

    @abstractmethod
    def on_established(self, view: PathView) -> list[Command]:
        """The connection is fully established: further subflows may be opened."""

    def on_local_up(self, view: PathView, local: LocalAddress) -> list[Command]:
        """One of our addresses is there: it is new, or its link came up."""
        return []

    def on_local_down(self, view: PathView, local: LocalAddress) -> list[Command]:
        """The link of one of our addresses went down, or the address is gone."""
        return []

    def on_remote_added(self, view: PathView, remote: RemoteAddress) -> list[Command]:
        """The peer announced an address (ADD_ADDR); an echo is sent by the connection."""
        return []

    def on_remote_removed(self, view: PathView, address_id: int) -> list[Command]:
        """The peer removed an address (REMOVE_ADDR): close the subflows that use it."""
        return [
            CloseSubflow(subflow.subflow_id)
            for subflow in view.subflows
            if subflow.remote_id == address_id
        ]

    def on_subflow_established(self, view: PathView, path: SubflowPath) -> list[Command]:
        """A further subflow is established (whoever opened it)."""
        return []

    def on_subflow_closed(self, view: PathView, path: SubflowPath, failed: bool) -> list[Command]:
        """A subflow is gone: ``failed`` by reset or timeout (or never established), or closed."""
        return []

    def on_priority_changed(self, view: PathView, local: bytes, backup: bool) -> list[Command]:
        """Subflows from one of our addresses are to be backups from now on, or regular ones."""
        return [
            SetPriority(subflow.subflow_id, backup)
            for subflow in view.subflows
            if subflow.local_address == local
        ]

    def is_backup(self, local: bytes) -> bool:
        """Say whether new subflows from one of our addresses are backups, whoever opens them."""
        return False

    def accepts(self, view: PathView) -> bool:
        """Say whether one more subflow may be joined by the peer."""
        return True

    def deadline_ns(self) -> int | None:
        """Return when ``on_timeout`` is wanted, or None."""
        return None

    def on_timeout(self, view: PathView) -> list[Command]:
        """The deadline has passed. A call before it must change nothing."""
        return []
