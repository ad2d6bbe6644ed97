"""What a segment or a timer did to a subflow, for its connection to act upon."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64


class Arrival(Enum):
    """How far a segment got (RFC 9293 section 3.10.7)."""

    DROPPED = "not acceptable, or all done"
    RESET = "an acceptable RST"
    SYN = "a SYN without ACK for our own (simultaneous open)"
    SYN_ACK = "the peer's SYN and ACK for our SYN"
    THIRD_ACK = "the ACK for our SYN and ACK: the handshake's last"
    ACKNOWLEDGED = "the acknowledgment is taken in: text and FIN are next"


DROPPED: Final[Arrival] = Arrival.DROPPED
RESET: Final[Arrival] = Arrival.RESET
SYN_ACK: Final[Arrival] = Arrival.SYN_ACK
THIRD_ACK: Final[Arrival] = Arrival.THIRD_ACK
ACKNOWLEDGED: Final[Arrival] = Arrival.ACKNOWLEDGED


class Report:
    """One object a connection, used again for each segment and timer."""

    __slots__ = ("acked", "gave_up", "keepalive_due", "seq", "time_wait", "timed_out")

    def __init__(self) -> None:
        self.seq: i64 = 0
        """The segment's sequence number, relative to the peer's initial one."""
        self.acked: bool = False
        """``snd_una`` moved."""
        self.time_wait: bool = False
        """Both directions are done; only the wait of 2 MSL is left."""
        self.timed_out: bool = False
        """The retransmission timer expired."""
        self.gave_up: bool = False
        """The peer does not answer any more: the subflow is to be reset."""
        self.keepalive_due: bool = False

    def begin(self) -> None:
        """Forget the last segment or timer."""
        self.acked = False
        self.time_wait = False
        self.timed_out = False
        self.gave_up = False
        self.keepalive_due = False
