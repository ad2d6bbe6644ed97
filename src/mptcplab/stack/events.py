"""What happened, for the application and for a table of events.

``Stack.poll_event`` gives each with its connection. ``kind`` is the word an events table uses.
Events that concern one subflow name it by its number, 0 for the initial one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class CloseReason(Enum):
    """Why a subflow or a connection ended."""

    FINISHED = "finished"
    RESET = "reset by peer"
    REFUSED = "refused"
    TIMEOUT = "timed out"
    UNREACHABLE = "unreachable"
    ABORTED = "aborted"
    REMOVED = "address removed"
    LINK_DOWN = "link down"
    PROTOCOL = "protocol error"
    CHECKSUM = "checksum failed"
    FASTCLOSE = "fast close"


@dataclass(slots=True)
class Event:
    """Base of all events."""

    kind: ClassVar[str] = ""


@dataclass(slots=True)
class ConnectionAccepted(Event):
    """A listener has a new connection; nothing can be written before ``ConnectionEstablished``."""

    kind: ClassVar[str] = "connection-accepted"


@dataclass(slots=True)
class ConnectionEstablished(Event):
    """Data may flow."""

    kind: ClassVar[str] = "connection-established"
    mptcp: bool


@dataclass(slots=True)
class ConnectionClosed(Event):
    """The connection is gone; nothing more comes from it."""

    kind: ClassVar[str] = "connection-closed"
    reason: CloseReason


@dataclass(slots=True)
class FellBack(Event):
    """The connection goes on as plain TCP (RFC 8684 section 3.7)."""

    kind: ClassVar[str] = "fallback"
    why: str


@dataclass(slots=True)
class SubflowOpening(Event):
    """We sent a SYN for a further subflow, or got one."""

    kind: ClassVar[str] = "subflow-opening"
    subflow_id: int


@dataclass(slots=True)
class SubflowEstablished(Event):
    """A subflow may carry data."""

    kind: ClassVar[str] = "subflow-established"
    subflow_id: int


@dataclass(slots=True)
class SubflowClosed(Event):
    """A subflow is gone. ``reset_reason`` is the MP_TCPRST code where one was given."""

    kind: ClassVar[str] = "subflow-closed"
    subflow_id: int
    reason: CloseReason
    reset_reason: int | None = None


@dataclass(slots=True)
class SubflowPriorityChanged(Event):
    """A subflow became backup or regular, by our wish or the peer's (MP_PRIO)."""

    kind: ClassVar[str] = "subflow-priority"
    subflow_id: int
    backup: bool
    by_peer: bool


@dataclass(slots=True)
class SubflowStale(Event):
    """A subflow timed out repeatedly, or works again; its data are reinjected elsewhere."""

    kind: ClassVar[str] = "subflow-stale"
    subflow_id: int
    stale: bool


@dataclass(slots=True)
class PathMtuReduced(Event):
    """A router told that packets of a subflow are too big for its next link (RFC 1191)."""

    kind: ClassVar[str] = "path-mtu"
    subflow_id: int
    mtu_bytes: int


@dataclass(slots=True)
class AddressAnnounced(Event):
    """The peer announced an address (ADD_ADDR). ``port`` is 0 where none was given."""

    kind: ClassVar[str] = "address-announced"
    address_id: int
    address: bytes
    port: int


@dataclass(slots=True)
class AddressRemoved(Event):
    """The peer withdrew an address (REMOVE_ADDR)."""

    kind: ClassVar[str] = "address-removed"
    address_id: int


@dataclass(slots=True)
class ChecksumFailed(Event):
    """A mapping's checksum was wrong: someone on the path changed the payload."""

    kind: ClassVar[str] = "checksum-failed"
    subflow_id: int


@dataclass(slots=True)
class DataReadable(Event):
    """There is something to read; told again only after it was all read."""

    kind: ClassVar[str] = "readable"


@dataclass(slots=True)
class DataWritable(Event):
    """A write that came short may go on."""

    kind: ClassVar[str] = "writable"


@dataclass(slots=True)
class PeerFinished(Event):
    """The peer sends no more; what is buffered can still be read."""

    kind: ClassVar[str] = "peer-finished"


@dataclass(slots=True)
class AllDelivered(Event):
    """After ``close``: the peer acknowledged every byte and the end of the stream."""

    kind: ClassVar[str] = "all-delivered"
