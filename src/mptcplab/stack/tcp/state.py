"""The connection states of one subflow and the events that move between them.

The table below is Figure 5 of RFC 9293 (section 3.3.2), and nothing else in the package assigns a
state: a subflow calls :func:`next_state` with what happened and takes what comes back. An event
that the table does not list in a state is one that the caller has to exclude first, so it raises.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """States of a TCP connection (RFC 9293 section 3.3.2); LISTEN belongs to a listener."""

    CLOSED = "CLOSED"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"


class Change(Enum):
    """What moves a connection from one state to another."""

    ACTIVE_OPEN = "active open"
    PASSIVE_OPEN = "SYN received by a listener"
    SYN = "SYN received"
    SYN_ACK = "acceptable SYN and ACK received"
    SYN_ACKED = "our SYN acknowledged"
    FIN_SENT = "our FIN sent"
    FIN = "FIN received, and everything before it"
    FIN_ACKED = "our FIN acknowledged"
    ENDED = "reset, given up, or 2 MSL after the close"


TRANSITIONS: dict[tuple[State, Change], State] = {
    (State.CLOSED, Change.ACTIVE_OPEN): State.SYN_SENT,
    (State.CLOSED, Change.PASSIVE_OPEN): State.SYN_RECEIVED,
    (State.SYN_SENT, Change.SYN): State.SYN_RECEIVED,
    (State.SYN_SENT, Change.SYN_ACK): State.ESTABLISHED,
    (State.SYN_RECEIVED, Change.SYN_ACKED): State.ESTABLISHED,
    (State.SYN_RECEIVED, Change.FIN_SENT): State.FIN_WAIT_1,
    (State.ESTABLISHED, Change.FIN_SENT): State.FIN_WAIT_1,
    (State.ESTABLISHED, Change.FIN): State.CLOSE_WAIT,
    (State.FIN_WAIT_1, Change.FIN_ACKED): State.FIN_WAIT_2,
    (State.FIN_WAIT_1, Change.FIN): State.CLOSING,
    (State.FIN_WAIT_2, Change.FIN): State.TIME_WAIT,
    (State.CLOSE_WAIT, Change.FIN_SENT): State.LAST_ACK,
    (State.CLOSING, Change.FIN_ACKED): State.TIME_WAIT,
    (State.LAST_ACK, Change.FIN_ACKED): State.CLOSED,
}

CLOSED: Final[State] = State.CLOSED
SYN_SENT: Final[State] = State.SYN_SENT
SYN_RECEIVED: Final[State] = State.SYN_RECEIVED
ESTABLISHED: Final[State] = State.ESTABLISHED
FIN_WAIT_1: Final[State] = State.FIN_WAIT_1
FIN_WAIT_2: Final[State] = State.FIN_WAIT_2
CLOSE_WAIT: Final[State] = State.CLOSE_WAIT
CLOSING: Final[State] = State.CLOSING
LAST_ACK: Final[State] = State.LAST_ACK
TIME_WAIT: Final[State] = State.TIME_WAIT

# Tuples: looking for a member compares identities, a set would hash it.
SYNCHRONIZED: Final = tuple(
    state for state in State if state not in (CLOSED, SYN_SENT, SYN_RECEIVED)
)
"""States after the handshake (RFC 9293 section 3.5.2, group 3)."""

CAN_SEND: Final = (ESTABLISHED, CLOSE_WAIT)
"""States in which new data may leave: our FIN has not."""

CAN_RECEIVE: Final = (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2)
"""States in which data may still arrive: the peer's FIN has not."""


def next_state(state: State, change: Change) -> State:
    """Return the state after ``change``; ``KeyError`` if the change is impossible in ``state``."""
    if change is Change.ENDED:
        return State.CLOSED
    return TRANSITIONS[state, change]
