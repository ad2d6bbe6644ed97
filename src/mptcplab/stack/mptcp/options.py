"""MPTCP options other than DSS mappings: what each asks of the connection when it arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack import events
from mptcplab.stack.events import CloseReason
from mptcplab.stack.mptcp import closing, fallback
from mptcplab.wire.checksum import dss_checksum
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mptcplab.stack.mptcp.connection import Connection
    from mptcplab.stack.mptcp.subflow import MptcpSubflow


def take(
    connection: Connection,
    subflow: MptcpSubflow,
    option: MptcpOption,
    segment: Segment,
    now_ns: int,
) -> bool:
    """Take in an option; ``False`` to ignore the rest of the segment that brought it."""
    if isinstance(option, MpCapable):
        if subflow.initial and option.data_length is not None and segment.payload_bytes:
            checksum = -1 if option.checksum is None else option.checksum
            return subflow.add_mapping(1, option.data_length, 0, checksum, False, now_ns)
    elif isinstance(option, AddAddr):
        if option.version == connection.version:
            connection.settle_fully(now_ns)
            connection.paths.handle_add_addr(option, subflow, now_ns)
    elif isinstance(option, RemoveAddr):
        connection.paths.handle_remove_addr(option.address_ids, now_ns)
    elif isinstance(option, MpPrio):
        _take_priority(connection, subflow, option)
    elif isinstance(option, MpFail):
        fallback.handle_fail(connection, subflow, now_ns)
    elif isinstance(option, MpFastclose) and option.receiver_key == connection.local_key:
        closing.abort(connection, CloseReason.FASTCLOSE, now_ns)
    return connection.closed_for is None


def take_reset(
    connection: Connection, subflow: MptcpSubflow, segment: Segment, now_ns: int
) -> None:
    """Take in what an acceptable RST says (RFC 8684 sections 3.5 and 3.6)."""
    for option in segment.mptcp:
        if isinstance(option, MpTcpRst):
            subflow.reset_reason = option.reason
        elif isinstance(option, MpFastclose):
            take(connection, subflow, option, segment, now_ns)


def _take_priority(connection: Connection, subflow: MptcpSubflow, option: MpPrio) -> None:
    """RFC 8684 section 3.3.8; version 0 may name all subflows of an address."""
    targets = [subflow]
    if option.address_id is not None:
        targets = [item for item in connection.subflows if item.remote_id == option.address_id]
    for target in targets:
        if target.backup_remote != option.backup:
            target.backup_remote = option.backup
            connection.emit(
                events.SubflowPriorityChanged(
                    connection, target.subflow_id, option.backup, by_peer=True
                )
            )
    connection.refresh_usable()


def data_fin(connection: Connection) -> MptcpOption | None:
    """Return a DSS with our DATA_FIN, if it was sent and is unacknowledged."""
    send = connection.send
    if not send.fin_sent or send.fin_acked:
        return None
    dsn = connection.tx_numbers.at(send.buffer.written_offset)
    checksum = dss_checksum(dsn, 0, 1, 0) if connection.checksum else None
    return Dss(connection.data_ack_wire(), connection.ack_8, dsn, True, 0, 1, checksum, True)
