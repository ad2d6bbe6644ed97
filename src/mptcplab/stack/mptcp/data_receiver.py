"""The receiving half of a connection's stream: from what subflows have in order to the buffer.

Mappings say which stream offsets a subflow's bytes stand for (RFC 8684 section 3.3.1). Where one
is missing or its checksum fails, delivery stops and says so; the connection decides how to go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack.config import StackConfig
from mptcplab.stack.mptcp.dsn import FAR_BYTES, unwrap
from mptcplab.stack.mptcp.ending import Ending
from mptcplab.stack.mptcp.mapping import NOTHING_HELD, Mapping
from mptcplab.stack.mptcp.mode import Evidence
from mptcplab.stack.mptcp.receive_buffer import ReceiveBuffer
from mptcplab.stack.mptcp.session import Session
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.tcp.state import CAN_RECEIVE

if TYPE_CHECKING:
    from mypy_extensions import i64


class DataReceiver:
    """The receive buffer of one connection, and what fills it."""

    __slots__ = (
        "_ending",
        "_readable_told",
        "_session",
        "buffer",
        "failed",
        "readable",
        "stopped_at",
    )

    def __init__(self, config: StackConfig, session: Session, ending: Ending) -> None:
        self._session: Session = session
        self._ending: Ending = ending
        self.buffer = ReceiveBuffer(config.receive_buffer_bytes, config.receive_buffer_max_bytes)
        self.readable: bool = False
        """There is something to read, and nobody was told: the connection does, and resets this."""
        self.stopped_at: i64 = 0
        """Where ``deliver`` stopped: a relative sequence number of the subflow."""
        self.failed: Mapping | None = None
        """The mapping whose checksum failed."""
        self._readable_told: bool = False

    def offset_of(self, dsn: int, is_8: bool) -> i64:
        """Return the stream offset of one of the peer's data sequence numbers."""
        offset = unwrap(dsn, self._session.rx_numbers.base, self.buffer.rcv_nxt, is_8)
        return min(max(offset, -FAR_BYTES), FAR_BYTES)

    def deliver(
        self, subflow: MptcpSubflow, start: i64, end: i64, payload: bytes | None
    ) -> Evidence | None:
        """Take bytes that a subflow has in order; ``None`` when all are taken.

        Else the answer says what is wrong at ``stopped_at``, up to which all are taken.
        """
        session = self._session
        if session.in_stream_order:
            self._take(start + subflow.rx_delta, end + subflow.rx_delta, payload)
            return None
        mappings = subflow.mappings
        position = start
        while position < end:
            mapping = mappings.find(position)
            if mapping is None:
                self.stopped_at = position
                return Evidence.UNMAPPED_DATA
            stop = end if end < mapping.end else mapping.end
            part = payload
            if part is not None and (position > start or stop < end):
                part = part[position - start : stop - start]
            if mapping.checksum >= 0 and (
                part is not None or position > mapping.ssn or stop < mapping.end
            ):
                mapping.hold(position, stop, part)
                if stop == mapping.end:
                    skipped: i64 = session.rx_syn_bytes if subflow.initial else 0
                    dsn = session.rx_numbers.at(mapping.offset)
                    if not mapping.checksum_holds(dsn, mapping.ssn - skipped):
                        self.stopped_at = stop
                        self.failed = mapping
                        return Evidence.BAD_CHECKSUM
                    self.deliver_held(mapping)
            else:
                offset = mapping.offset + position - mapping.ssn
                self._take(offset, offset + stop - position, part)
            position = stop
        return None

    def deliver_unnumbered(self, size_bytes: i64, payload: bytes | None) -> None:
        """Take the beginning of the stream, which came with the peer's SYN (RFC 7413)."""
        self._session.rx_syn_bytes = size_bytes
        self._take(0, size_bytes, payload)

    def deliver_held(self, mapping: Mapping) -> None:
        """Take the bytes of a mapping that were held until its checksum could be verified."""
        for start, stop, part in mapping.held:
            offset = mapping.offset + start - mapping.ssn
            self._take(offset, offset + stop - start, part)
        mapping.held = NOTHING_HELD

    def _take(self, offset: i64, end: i64, payload: bytes | None) -> None:
        """Put bytes of the stream into the buffer; nothing comes after its end."""
        stream_end = self._ending.peer_end_offset
        if 0 <= stream_end < end:
            if offset >= stream_end:
                return
            end = stream_end
            if payload is not None:
                payload = payload[: end - offset]
        if self.buffer.insert(offset, end, payload) and not self._readable_told:
            self._readable_told = True
            self.readable = True

    def is_at_end(self) -> bool:
        """Say whether the peer's stream is there to its end, and nobody has acted upon it."""
        return (
            self.buffer.rcv_nxt == self._ending.peer_end_offset and not self._ending.peer_finished
        )

    def note_end(self, offset: i64) -> None:
        """The peer says that its stream ends at ``offset`` (RFC 8684 section 3.3.3)."""
        if not self._ending.peer_finished and offset >= self.buffer.rcv_nxt:
            self._ending.peer_end_offset = offset

    def after_read(self, subflows: list[MptcpSubflow]) -> bool:
        """The application has read: tune the buffer, and see whether the peer is to be told.

        The window opens in steps worth a segment (RFC 9293 section 3.8.6.2.2), and, as by
        tcp_cleanup_rbuf and mptcp_cleanup_rbuf, without data to acknowledge only where that at
        least doubles what the peer has left of it. ``True`` if ACKs are due.
        """
        buffer = self.buffer
        acks_due = False
        if buffer.read_offset == buffer.rcv_nxt:
            self._readable_told = False
            for subflow in subflows:
                if subflow.tcp.receiver.note_all_read():
                    acks_due = True
        if self._ending.peer_finished:
            return acks_due
        first = self._tune(subflows)
        if first is None:
            return acks_due
        mss = first.tcp.receiver.mss_bytes
        size = buffer.size_bytes
        left = buffer.edge_offset - buffer.rcv_nxt
        gained = buffer.read_offset + size - buffer.edge_offset
        if gained < left or gained < min(size // 2, 2 * mss):
            return acks_due
        for subflow in subflows:
            if subflow is first or (left <= mss and subflow.tcp.state in CAN_RECEIVE):
                subflow.tcp.receiver.ack_now = True
        return True

    def _tune(self, subflows: list[MptcpSubflow]) -> MptcpSubflow | None:
        """Tune the buffer by the slowest subflow, as Linux's mptcp_rcv_space_adjust.

        Returns the first subflow that can receive.
        """
        first: MptcpSubflow | None = None
        rtt_ns: i64 = 0
        last_receive_ns: i64 = 0
        for subflow in subflows:
            tcp = subflow.tcp
            if tcp.state not in CAN_RECEIVE:
                continue
            if first is None:
                first = subflow
            measured_ns = tcp.timestamps.round_trip_ns
            if measured_ns == 0:
                measured_ns = tcp.sender.rtt.srtt_ns
            if measured_ns > rtt_ns:
                rtt_ns = measured_ns
            if tcp.last_receive_ns > last_receive_ns:
                last_receive_ns = tcp.last_receive_ns
        if first is None:
            return None
        grown = self.buffer.adjust(rtt_ns, first.tcp.receiver.mss_bytes, last_receive_ns)
        if grown > 0:
            for subflow in subflows:
                subflow.tcp.receiver.note_window_growth(grown)
        return first
