"""New and reinjected data on their way to subflows: what the scheduler orders, carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack.mptcp import closing
from mptcplab.stack.mptcp.dsn import MASK32
from mptcplab.stack.schedulers.base import Allotment, sendable_bytes
from mptcplab.wire.checksum import dss_checksum, ones_sum
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

    from mptcplab.stack.mptcp.connection import Connection
    from mptcplab.stack.mptcp.subflow import MptcpSubflow


def poll_data(connection: Connection, now_ns: i64) -> Segment | None:
    """Return the next segment with data of the stream, or ``None``."""
    send = connection.send
    waiting = False
    for subflow in connection.usable:
        if subflow.backlog.waiting_bytes:
            segment = _poll_backlog(connection, subflow, now_ns)
            if segment is not None:
                return segment
            waiting = waiting or subflow.backlog.waiting_bytes > 0
    if send.finished and not send.fin_sent and not waiting and send.all_sent():
        closing.finish_sending(connection, now_ns)
        for subflow in connection.subflows:
            segment = subflow.poll_transmit(now_ns)
            if segment is not None:
                return segment
    if send.is_idle():
        return None
    while True:
        allotment = send.next_allotment(connection.usable, now_ns)
        if allotment is None:
            send.arm_persist(connection.usable, now_ns)
            return None
        segment = _carry_out(connection, allotment, now_ns)
        if segment is not None:
            return segment


def _carry_out(connection: Connection, allotment: Allotment, now_ns: i64) -> Segment | None:
    """Send what can leave now and queue the rest."""
    view = allotment.subflow
    subflow = connection.subflow(view.subflow_id)
    assert subflow is not None
    offset, end = allotment.offset, allotment.end_offset
    connection.send.note_given(subflow, offset, end)
    stop = end
    if view.queued_bytes:
        stop = offset
    elif end - offset > view.train_room_bytes or end - offset > view.window_room_bytes():
        stop = offset + sendable_bytes(view, end - offset, connection.send.view.train_bytes)
    if stop < end:
        subflow.backlog.add(stop, end)
    return send_on(connection, subflow, offset, stop, now_ns) if stop > offset else None


def _poll_backlog(connection: Connection, subflow: MptcpSubflow, now_ns: i64) -> Segment | None:
    """Send the next of what the subflow was given earlier, if its window has opened."""
    send = connection.send
    start, end = subflow.backlog.first(send.buffer.acked_offset)
    if start == end:
        return None
    subflow.refresh_view(now_ns)
    view = subflow.view
    view.queued_bytes = 0  # it is the queue itself that asks for room
    length = sendable_bytes(view, end - start, send.view.train_bytes)
    if length <= 0:
        return None
    subflow.backlog.remove_to(start + length)
    return send_on(connection, subflow, start, start + length, now_ns)


def send_on(
    connection: Connection, subflow: MptcpSubflow, offset: i64, end: i64, now_ns: i64
) -> Segment:
    """Give stream data the subflow's next sequence numbers, and return the segment."""
    send = connection.send
    sender = subflow.sender
    payload = send.buffer.content(offset, end)
    ssn = sender.snd_nxt
    size = end - offset
    send.last_train_bytes = size
    idle_ns = now_ns - sender.last_send_ns
    if sender.last_send_ns and sender.queue.out_bytes == 0 and idle_ns > sender.rtt.rto_ns:
        sender.congestion.restart_after_idle(now_ns)
    record = sender.record_new(ssn + size, payload, subflow.view.in_flight_bytes, now_ns)
    if connection.mptcp:
        record.offset = offset
        record.map_ssn = ssn
        if connection.tx_infinite:
            if connection.infinite_ssn < 0:
                connection.infinite_ssn = ssn
        else:
            record.map_length = size
            if connection.checksum:
                dsn = connection.tx_numbers.at(offset)
                total = 0 if payload is None else ones_sum(payload)
                record.checksum = dss_checksum(dsn, ssn & MASK32, size, total)
            send.arm(connection.usable, now_ns)
    return subflow.make_data(record, now_ns)
