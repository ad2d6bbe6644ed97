"""How a connection ends: DATA_FIN and the subflows' FINs, fast close, and being left without any.

RFC 8684 section 3.3.3: the stream ends with a DATA_FIN, which takes one data sequence number and
is acknowledged at the data level; once both directions are done the subflows are closed with
FINs. Section 3.5: MP_FASTCLOSE. Plain TCP: the subflow's own FIN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack import events
from mptcplab.stack.events import CloseReason
from mptcplab.stack.tcp.receiver import NEVER_NS
from mptcplab.stack.tcp.state import CAN_RECEIVE, CLOSE_WAIT, TIME_WAIT
from mptcplab.wire.mptcp import MpFastclose

if TYPE_CHECKING:
    from mptcplab.stack.mptcp.connection import Connection
    from mptcplab.stack.mptcp.subflow import MptcpSubflow


def finish_sending(connection: Connection, now_ns: int) -> None:
    """Everything written was given out and the application closed: send the end of the stream."""
    send = connection.send
    if not connection.established:
        return
    send.fin_sent = True
    if not connection.mptcp or connection.tx_infinite:
        for subflow in connection.subflows:
            subflow.finish()
        connection.refresh_usable()
        return
    signal_data_fin(connection)
    send.arm(connection.usable, now_ns)


def signal_data_fin(connection: Connection) -> None:
    """Have every subflow send our DATA_FIN, if it is unacknowledged."""
    send = connection.send
    if not send.fin_sent or send.fin_acked or connection.tx_infinite or not connection.mptcp:
        return
    for subflow in connection.usable:
        subflow.data_fin_due = True
        subflow.receiver.ack_now = True


def advance(connection: Connection, now_ns: int) -> None:
    """Something was acknowledged or the peer finished: close subflows once both sides are done."""
    send = connection.send
    if send.fin_acked and not send.delivered_told:
        send.delivered_told = True
        connection.emit(events.AllDelivered(connection))
    if not send.fin_acked or not connection.mptcp or connection.tx_infinite:
        return
    if not connection.peer_finished:
        if not any(subflow.state in CAN_RECEIVE for subflow in connection.subflows):
            finish_half_closed(connection)
        return
    if not connection.subflows:
        end(connection, CloseReason.FINISHED)
        return
    for subflow in list(connection.subflows):
        if subflow.confirmed:
            subflow.finish()
        else:
            subflow.reset(CloseReason.FINISHED, now_ns)
    connection.refresh_usable()


def after_subflow_fin(connection: Connection, subflow: MptcpSubflow, now_ns: int) -> None:
    """The peer closed its direction of a subflow, not the stream (RFC 8684 section 3.3.3).

    We close ours as well, unless it is the only one left and we have still to send: a host must
    not close all subflows with data outstanding (so does Linux). The wait for a subflow that the
    peer could end its stream on begins, as when none is left at all.
    """
    if len(connection.subflows) > 1 or connection.send.fin_acked:
        subflow.finish()
    else:
        connection.orphaned_ns = now_ns + connection.config.close_timeout_ns
    connection.refresh_usable()


def finish_half_closed(connection: Connection) -> None:
    """Close subflows that the peer has closed: others carry on, or there is nothing to carry."""
    for subflow in connection.subflows:
        if subflow.state is CLOSE_WAIT:
            subflow.finish()
    connection.refresh_usable()


def handle_orphan_timeout(connection: Connection, now_ns: int) -> None:
    """No subflow came that the peer could send on: end, once what we have to send is delivered."""
    if not connection.subflows:
        end(connection, CloseReason.TIMEOUT)
    elif connection.send.is_idle():
        connection.orphaned_ns = NEVER_NS
        finish_half_closed(connection)
    else:
        connection.orphaned_ns = now_ns + connection.config.close_timeout_ns


def after_subflow(
    connection: Connection, subflow: MptcpSubflow, reason: CloseReason, now_ns: int
) -> None:
    """A subflow is gone: tell the path manager, and see whether the connection ends with it."""
    if connection.closed_for is not None:
        return
    finished = connection.send.fin_acked and connection.peer_finished
    if connection.subflows:
        connection.paths.handle_closed(subflow, reason is not CloseReason.FINISHED, now_ns)
        return
    if finished:
        end(connection, CloseReason.FINISHED)
    elif not connection.mptcp or connection.tx_infinite or not connection.fully_established:
        end(connection, reason)
    else:
        # Break before make: what is unacknowledged waits for a subflow to join.
        connection.orphaned_ns = now_ns + connection.config.close_timeout_ns
        connection.send.deadline_ns = NEVER_NS
        connection.paths.handle_closed(subflow, reason is not CloseReason.FINISHED, now_ns)


def abort(connection: Connection, reason: CloseReason, now_ns: int) -> None:
    """Reset everything: with MP_FASTCLOSE in our RSTs where we abort (RFC 8684 section 3.5).

    The peer's own fast close is answered by plain RSTs.
    """
    if connection.closed_for is not None:
        return
    tell = (
        reason is CloseReason.ABORTED
        and connection.mptcp
        and connection.peer_key_known
        and not connection.tx_infinite
    )
    end(connection, reason)
    for subflow in list(connection.subflows):
        if tell:
            subflow.reset_option = MpFastclose(connection.peer_key)
        subflow.reset(reason, now_ns)


def end(connection: Connection, reason: CloseReason) -> None:
    """The connection is over; subflows in TIME-WAIT still answer."""
    if connection.closed_for is not None:
        return
    connection.closed_for = reason
    connection.orphaned_ns = NEVER_NS
    connection.send.persist_ns = NEVER_NS
    connection.send.deadline_ns = NEVER_NS
    connection.paths.announcements.clear()
    connection.emit(events.ConnectionClosed(connection, reason))


def settle_end(connection: Connection) -> None:
    """End the connection once all its subflows did, or wait out TIME-WAIT only."""
    if connection.closed_for is None and connection.subflows:
        for subflow in connection.subflows:
            if subflow.state is not TIME_WAIT:
                return
        end(connection, CloseReason.FINISHED)
