"""How the two directions of a stream end: the data-level states of RFC 8684 appendix D.

The states are those of TCP one level up: a DATA_FIN in place of a FIN, a DATA_ACK in place of an
ACK. In plain TCP, and after a fallback, the subflow's own FIN and ACK move the same table. Nothing
else in the package assigns a state.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from mptcplab.stack.events import CloseReason
from mptcplab.stack.ready import NEVER_NS

if TYPE_CHECKING:
    from mypy_extensions import i64


class DataState(Enum):
    """States of a connection at the data level."""

    ESTABLISHED = "M_ESTAB"
    FIN_WAIT_1 = "M_FIN-WAIT-1"
    FIN_WAIT_2 = "M_FIN-WAIT-2"
    CLOSE_WAIT = "M_CLOSE-WAIT"
    CLOSING = "M_CLOSING"
    LAST_ACK = "M_LAST-ACK"
    TIME_WAIT = "M_TIME-WAIT"
    CLOSED = "M_CLOSED"


class DataChange(Enum):
    """What moves a connection from one state to another."""

    END_SENT = "our DATA_FIN sent"
    END_ACKED = "our DATA_FIN acknowledged"
    PEER_ENDED = "the peer's DATA_FIN, and everything before it"
    END_WITHDRAWN = "fallback: what ends our stream is the subflow's FIN instead"
    GONE = "all subflows closed, or aborted"


TRANSITIONS: Final[dict[tuple[DataState, DataChange], DataState]] = {
    (DataState.ESTABLISHED, DataChange.END_SENT): DataState.FIN_WAIT_1,
    (DataState.ESTABLISHED, DataChange.PEER_ENDED): DataState.CLOSE_WAIT,
    (DataState.FIN_WAIT_1, DataChange.END_ACKED): DataState.FIN_WAIT_2,
    (DataState.FIN_WAIT_1, DataChange.PEER_ENDED): DataState.CLOSING,
    (DataState.FIN_WAIT_1, DataChange.END_WITHDRAWN): DataState.ESTABLISHED,
    (DataState.FIN_WAIT_2, DataChange.PEER_ENDED): DataState.TIME_WAIT,
    (DataState.CLOSE_WAIT, DataChange.END_SENT): DataState.LAST_ACK,
    (DataState.CLOSING, DataChange.END_ACKED): DataState.TIME_WAIT,
    (DataState.CLOSING, DataChange.END_WITHDRAWN): DataState.CLOSE_WAIT,
    (DataState.LAST_ACK, DataChange.END_ACKED): DataState.TIME_WAIT,
    (DataState.LAST_ACK, DataChange.END_WITHDRAWN): DataState.CLOSE_WAIT,
}
"""DEVIATION: M_LAST-ACK leads to M_TIME-WAIT as well, where the RFC goes to M_CLOSED at once: in
both, all that is left is for the subflows to close."""

END_SENT_IN: Final = (
    DataState.FIN_WAIT_1,
    DataState.FIN_WAIT_2,
    DataState.CLOSING,
    DataState.LAST_ACK,
    DataState.TIME_WAIT,
)
END_ACKED_IN: Final = (DataState.FIN_WAIT_2, DataState.TIME_WAIT)
PEER_ENDED_IN: Final = (
    DataState.CLOSE_WAIT,
    DataState.CLOSING,
    DataState.LAST_ACK,
    DataState.TIME_WAIT,
)


def next_state(state: DataState, change: DataChange) -> DataState:
    """Return the state after ``change``; ``KeyError`` if the change is impossible in ``state``."""
    if change is DataChange.GONE:
        return DataState.CLOSED
    return TRANSITIONS[state, change]


class Ending:
    """The state, where both streams end, and what has been said of it."""

    __slots__ = (
        "_delivered_told",
        "closed_for",
        "fin_acked",
        "fin_sent",
        "last_fins",
        "orphaned_ns",
        "peer_end_offset",
        "peer_finished",
        "state",
        "subflow_done",
    )

    def __init__(self) -> None:
        self.state: DataState = DataState.ESTABLISHED
        self.fin_sent: bool = False
        """What the state says, for those who ask for every segment; kept when all is over."""
        self.fin_acked: bool = False
        self.peer_finished: bool = False
        self.peer_end_offset: i64 = -1
        """Where the peer's stream ends, -1 while unknown."""
        self.closed_for: CloseReason | None = None
        """Why the connection is over; ``None`` while it is not."""
        self.orphaned_ns: i64 = NEVER_NS
        """When a connection ends that has no subflow its peer could use."""
        self.last_fins: i64 = 0
        """The subflows that were told of the end by a FIN sent once both streams were done: bits
        by number. Whoever acknowledged such a FIN has our last DATA_ACK as well."""
        self.subflow_done: bool = False
        """One of ``last_fins`` was closed in order."""
        self._delivered_told: bool = False

    def change(self, change: DataChange) -> None:
        """Take the next state."""
        state = next_state(self.state, change)
        self.state = state
        if change is not DataChange.GONE:
            self.fin_sent = state in END_SENT_IN
            self.fin_acked = state in END_ACKED_IN
            self.peer_finished = state in PEER_ENDED_IN

    def end_acked(self) -> None:
        """The peer has our end of the stream; it may have been told by a subflow's FIN alone."""
        if self.closed_for is None and not self.fin_acked:
            if not self.fin_sent:
                self.change(DataChange.END_SENT)
            self.change(DataChange.END_ACKED)

    def withdraw_end(self) -> None:
        """After a fallback the subflow's FIN ends the stream: our DATA_FIN was not acknowledged."""
        if self.closed_for is None and self.fin_sent and not self.fin_acked:
            self.change(DataChange.END_WITHDRAWN)

    def waits_for_end_ack(self) -> bool:
        """Say whether our end of the stream was sent and is unacknowledged."""
        return self.fin_sent and not self.fin_acked

    def both_done(self) -> bool:
        """Say whether both streams have ended and the peer knows of ours."""
        return self.fin_acked and self.peer_finished

    def tells_delivered(self) -> bool:
        """Say, once, that the peer has everything."""
        if not self.fin_acked or self._delivered_told:
            return False
        self._delivered_told = True
        return True

    def close(self, reason: CloseReason) -> None:
        """The connection is over."""
        self.closed_for = reason
        self.orphaned_ns = NEVER_NS
        self.change(DataChange.GONE)
