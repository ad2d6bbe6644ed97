"""What a connection does about its subflows when its streams end, or when one of them is gone.

RFC 8684 section 3.3.3: the stream ends with a DATA_FIN, which takes one data sequence number and is
acknowledged at the data level; once both directions are done the subflows are closed with FINs.
Everything here is a decision without effect: :class:`~mptcplab.stack.mptcp.connection.Connection`
carries it out.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from mptcplab.stack.mptcp.ending import Ending
from mptcplab.stack.mptcp.mode import Mode

FIN_TIMEOUT_NS: Final = 60_000_000_000
"""How long subflows may take to close once both streams are done (Linux's tcp_fin_timeout): RFC
8684 section 3.3.3 has their timeouts reduced then."""

SIGNALS_END: Final = (Mode.OFFERED, Mode.FULL, Mode.RX_INFINITE)
"""Modes in which a DATA_FIN ends our stream; in others the subflow's FIN does."""

SURVIVES_WITHOUT_SUBFLOW: Final = (Mode.FULL, Mode.RX_INFINITE)
"""Modes in which joins may bring a connection back that has lost its last subflow."""


class Action(Enum):
    """What to do."""

    NOTHING = "carry on"
    CLOSE_SUBFLOWS = "both streams are done: a FIN on every subflow"
    CLOSE_HALF_CLOSED = "a FIN on every subflow that the peer has closed"
    FINISH_SUBFLOW = "a FIN on the subflow that the peer has closed"
    AWAIT_SUBFLOW = "wait for a subflow that the peer could use"
    END = "the connection is over"
    REPLACE = "let the path manager know: others carry on"


def at_progress(ending: Ending, mode: Mode, subflows: int, peer_may_send: bool) -> Action:
    """Something was acknowledged at the data level, or the peer's stream ended.

    ``peer_may_send`` says that a subflow is left whose direction to us is open.
    """
    if not ending.fin_acked or mode not in SIGNALS_END:
        return Action.NOTHING
    if not ending.peer_finished:
        return Action.NOTHING if peer_may_send else Action.CLOSE_HALF_CLOSED
    return Action.CLOSE_SUBFLOWS if subflows else Action.END


def at_subflow_fin(ending: Ending, subflows: int) -> Action:
    """The peer closed its direction of a subflow, not the stream (RFC 8684 section 3.3.3).

    We close ours as well, unless it is the only one left and we have still to send: a host must
    not close all subflows with data outstanding (so does Linux). The wait for a subflow that the
    peer could end its stream on begins, as when none is left at all.
    """
    if subflows > 1 or ending.fin_acked:
        return Action.FINISH_SUBFLOW
    return Action.AWAIT_SUBFLOW


def at_subflow_gone(ending: Ending, mode: Mode, subflows: int) -> Action:
    """A subflow is CLOSED or in TIME-WAIT, and ``subflows`` are left that are neither.

    Without any, a fully established connection waits for a join: break before make (RFC 8684
    section 3.3.3 and appendix D). The data that were not acknowledged wait as well.
    """
    if ending.closed_for is not None:
        return Action.NOTHING
    if subflows:
        return Action.REPLACE
    if ending.both_done() or mode not in SURVIVES_WITHOUT_SUBFLOW:
        return Action.END
    return Action.AWAIT_SUBFLOW


def at_orphan_timeout(subflows: int, idle: bool) -> Action:
    """No subflow came that the peer could send on: end, once what we have to send is delivered."""
    if not subflows:
        return Action.END
    return Action.CLOSE_HALF_CLOSED if idle else Action.AWAIT_SUBFLOW
