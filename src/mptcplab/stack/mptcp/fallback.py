"""Falling back to plain TCP, where RFC 8684 section 3.7 allows it, and MP_FAIL.

There are three stages. During the handshake the options are simply absent. Until a DATA_ACK or a
mapping came from the peer, their lack shows that a box removes them. Later, with one subflow only,
a failed checksum or lost mappings lead to the infinite mapping. With more subflows, or on a joined
one, the subflow is reset instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack import events
from mptcplab.stack.events import CloseReason
from mptcplab.stack.mptcp.dsn import MASK32
from mptcplab.stack.mptcp.mapping import Mapping
from mptcplab.stack.tcp.receiver import NEVER_NS
from mptcplab.stack.tcp.sent import Sent
from mptcplab.wire.mptcp import RST_MIDDLEBOX, RST_MPTCP_ERROR, Dss, MpCapable, MpFail, MptcpOption
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mptcplab.stack.mptcp.connection import Connection
    from mptcplab.stack.mptcp.subflow import MptcpSubflow


def allowed(connection: Connection, subflow: MptcpSubflow) -> bool:
    """Say whether the connection may go on over ``subflow`` as plain TCP.

    Only if it is the one that ever was established: all data of the stream are in its order.
    """
    return (
        subflow.initial
        and not connection.joined
        and connection.receive_buffer.out_of_order_bytes() == 0
    )


def to_tcp(connection: Connection, why: str, now_ns: int) -> None:
    """Be plain TCP from now on."""
    if not connection.mptcp:
        return
    connection.mptcp = False
    connection.fallback_reason = why
    connection.emit(events.FellBack(connection, why))
    connection.stack.forget_token(connection)
    send = connection.send
    send.reinject.clear()
    send.deadline_ns = NEVER_NS
    if send.fin_sent and not send.fin_acked:
        send.fin_sent = False  # the end of the stream is the subflow's FIN now
    for subflow in connection.subflows:
        subflow.plain = True
        connection.handle_plain_ack(subflow, now_ns)


def in_mid_connection(connection: Connection, subflow: MptcpSubflow, why: str, now_ns: int) -> None:
    """Mapped data stand as they are; from here on the subflow's order is the stream's."""
    connection.rx_infinite = True
    subflow.plain = True
    _send_infinitely(connection, subflow, why, now_ns)
    for other in list(connection.subflows):
        if other is not subflow:  # half open: only one is left to plain TCP
            other.reset(CloseReason.ABORTED, now_ns)


def settle_establishment(
    connection: Connection,
    subflow: MptcpSubflow,
    segment: Segment,
    dss: Dss | None,
    now_ns: int,
) -> bool:
    """See whether the peer still speaks MPTCP; ``False`` after a fallback for lack of it."""
    if not connection.fully_established:
        return _judge_first_segments(connection, subflow, segment, dss, now_ns)
    if dss is None and not segment.mptcp and not segment.payload_bytes:
        judge_bare_ack(connection, subflow, now_ns)
    return True


def _judge_first_segments(
    connection: Connection,
    subflow: MptcpSubflow,
    segment: Segment,
    dss: Dss | None,
    now_ns: int,
) -> bool:
    """Judge the peer's first segments; ``False`` if they made us fall back.

    RFC 8684 section 3.7: "If a host receives data packets with no mapping ... or ACKs without a
    DATA_ACK" at the start, options are being removed.
    """
    if dss is not None and dss.data_ack is not None:
        connection.settle_fully(now_ns)
        return True
    if connection.is_client:
        if segment.mptcp or (not segment.payload_bytes and subflow.sender.snd_una <= 1):
            return True
    else:
        option = None
        for item in segment.mptcp:
            if isinstance(item, MpCapable):
                option = item
        if option is not None:
            window = segment.window << subflow.snd_wscale
            connection.send.open_window(connection.send.buffer.acked_offset + window)
            if option.data_length is not None and segment.payload_bytes:
                connection.settle_fully(now_ns)
            return True
        if segment.mptcp:
            return True
    to_tcp(connection, "first segments without MPTCP options", now_ns)
    return False


def receive_unmapped(
    connection: Connection, subflow: MptcpSubflow, ssn: int, why: str, now_ns: int
) -> None:
    """Unmapped data came: from ``ssn`` on the subflow's order is the stream's."""
    subflow.rx_delta = connection.receive_buffer.rcv_nxt - ssn
    in_mid_connection(connection, subflow, why, now_ns)
    _tell(connection, subflow, connection.send.sent_offset)


def infinite_options(connection: Connection, record: Sent, dsn: int) -> tuple[MptcpOption, ...]:
    """Return the infinite mapping for the first data after a fallback, nothing later."""
    if record.seq != connection.infinite_ssn:
        return ()
    checksum = 0 if connection.checksum else None
    return (
        Dss(connection.data_ack_wire(), connection.ack_8, dsn, True, record.map_ssn, 0, checksum),
    )


def judge_bare_ack(connection: Connection, subflow: MptcpSubflow, now_ns: int) -> None:
    """An ACK without options came from a fully established peer.

    If it acknowledges data on the only subflow, and no DATA_ACK ever came on it, its path removes
    options (RFC 8684 section 3.7). Later an ACK may go without (section 3.3.2): then only the
    data-level timer shows that none comes any more.
    """
    if not subflow.saw_data_ack:
        to_the_order_of_acks(connection, subflow, now_ns)
    subflow.bare_acks = True


def shows_stripping(subflow: MptcpSubflow, segment: Segment) -> bool:
    """Say whether a segment shows that a joined subflow's path removes options.

    RFC 8684 section 3.7: the first ACK of data has to bring a DATA_ACK.
    """
    if subflow.initial or subflow.saw_data_ack or segment.mptcp:
        return False
    return subflow.sender.snd_una > 1 and subflow.fin_seq < 0


def judge_silence(connection: Connection, now_ns: int) -> None:
    """No DATA_ACK came in time: fall back if ACKs do come, but without options by now."""
    for subflow in connection.subflows:
        if subflow.bare_acks and allowed(connection, subflow):
            to_the_order_of_acks(connection, subflow, now_ns)
            return
        if subflow.bare_acks and connection.send.head_arrived_on(subflow):
            subflow.reset_for(RST_MIDDLEBOX, CloseReason.PROTOCOL, now_ns)
            return


def to_the_order_of_acks(connection: Connection, subflow: MptcpSubflow, now_ns: int) -> None:
    """Fall back if the only subflow has data acknowledged that the connection has not."""
    if connection.tx_infinite or not allowed(connection, subflow):
        return
    sender = subflow.sender
    if sender.snd_una + subflow.tx_delta <= connection.send.buffer.acked_offset:
        return
    if subflow.fin_seq >= 0 and sender.snd_una > subflow.fin_seq:
        return
    subflow.rx_delta = connection.receive_buffer.rcv_nxt - subflow.receiver.rcv_nxt
    in_mid_connection(connection, subflow, "acknowledgments without DATA_ACK", now_ns)
    _tell(connection, subflow, connection.send.sent_offset)


def handle_infinite(
    connection: Connection, subflow: MptcpSubflow, offset: int, ssn: int, now_ns: int
) -> bool:
    """The peer sent an infinite mapping; ``False`` if the subflow was reset for it."""
    if connection.rx_infinite:
        return True
    if not subflow.initial or connection.joined:
        subflow.reset_for(RST_MPTCP_ERROR, CloseReason.PROTOCOL, now_ns)
        return False
    near = subflow.receiver.rcv_nxt
    distance = (ssn - near) & 0xFFFF_FFFF
    if distance >= 0x8000_0000:
        distance -= 0x1_0000_0000
    subflow.rx_delta = offset - (near + distance)
    in_mid_connection(connection, subflow, "infinite mapping received", now_ns)
    return True


def handle_fail(connection: Connection, subflow: MptcpSubflow, now_ns: int) -> None:
    """The peer found a bad checksum (RFC 8684 section 3.7).

    With one subflow: what is on it already stands as it is, and an infinite mapping that acts
    retroactively, from the last byte that was DATA_ACKed, covers it and all that follows. Nothing
    is sent again. Otherwise the peer closes the subflow with the RST that carried this.
    """
    if connection.tx_infinite or not allowed(connection, subflow):
        return
    signals = connection.paths.signals
    if not connection.rx_infinite:
        # Linux waits for an MP_FAIL in answer to its own, and resets if none comes.
        dsn = connection.rx_numbers.at(connection.receive_buffer.rcv_nxt)
        signals.append((subflow, MpFail(dsn)))
    acked = connection.send.buffer.acked_offset
    _send_infinitely(connection, subflow, "MP_FAIL received", now_ns)
    _tell(connection, subflow, acked)


def _tell(connection: Connection, subflow: MptcpSubflow, offset: int) -> None:
    """Signal the infinite mapping from ``offset`` on at once, whether or not data follow.

    RFC 8684 section 3.7: "to inform the other end in case the path drops options in one direction
    only"; a peer that kept to MPTCP would send again what we now take for new.
    """
    option = Dss(
        connection.data_ack_wire(),
        connection.ack_8,
        connection.tx_numbers.at(offset),
        True,
        (offset - subflow.tx_delta) & MASK32,
        0,
        0 if connection.checksum else None,
    )
    connection.paths.signals.append((subflow, option))


def survives_bad_checksum(
    connection: Connection, subflow: MptcpSubflow, mapping: Mapping, now_ns: int
) -> bool:
    """A mapping's checksum failed: MP_FAIL; ``False`` if the subflow was reset for it.

    On the only subflow the stream goes on in the subflow's order, the changed bytes included: they
    are acknowledged to TCP, so that nobody will send them again (RFC 8684 section 3.7; so does
    Linux, which needs their DATA_ACK to go on).
    """
    connection.emit(events.ChecksumFailed(connection, subflow.subflow_id))
    dsn = connection.rx_numbers.at(mapping.offset)
    if allowed(connection, subflow):
        connection.rx_infinite = True
        subflow.rx_delta = mapping.offset - mapping.ssn
        connection.paths.signals.append((subflow, MpFail(dsn)))
        return True
    subflow.reset_option = MpFail(dsn)
    subflow.reset_reason = RST_MIDDLEBOX
    subflow.reset(CloseReason.CHECKSUM, now_ns)
    return False


def _send_infinitely(connection: Connection, subflow: MptcpSubflow, why: str, now_ns: int) -> None:
    if connection.tx_infinite:
        return
    send = connection.send
    connection.tx_infinite = True
    connection.fallback_reason = why
    send.reinject.clear()
    send.deadline_ns = NEVER_NS  # nothing is repeated at the data level any more
    for start, _ in subflow.backlog.take_all():
        restart = max(start, send.buffer.acked_offset)
        if restart < send.sent_offset:
            send.outstanding.rewind(restart)
            send.sent_offset = restart
    subflow.tx_delta = send.sent_offset - subflow.sender.snd_nxt
    # The end of the stream is the subflow's FIN now.
    if send.fin_acked:
        subflow.finish()
    elif send.fin_sent:
        send.fin_sent = False
    connection.emit(events.FellBack(connection, why))
    connection.stack.forget_token(connection)
    connection.handle_plain_ack(subflow, now_ns)
