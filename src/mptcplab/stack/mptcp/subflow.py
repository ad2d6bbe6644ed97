"""A subflow of a connection: TCP below, and its share of the Multipath TCP signals.

The initial subflow negotiates MP_CAPABLE and may fall back to TCP; a joined one proves itself with
MP_JOIN and never falls back (RFC 8684 sections 3.1, 3.2, 3.7). With MPTCP off, or after a
fallback, the one subflow's sequence numbers are the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.config import StackConfig
from mptcplab.stack.events import CloseReason
from mptcplab.stack.mptcp import fallback, handshake, options
from mptcplab.stack.mptcp.backlog import Backlog
from mptcplab.stack.mptcp.mapping import NOTHING_HELD, Mapping, MappingTable
from mptcplab.stack.mptcp.trains import longest_train, reader_bound
from mptcplab.stack.schedulers.base import SubflowView
from mptcplab.stack.tcp.receiver import NEVER_NS
from mptcplab.stack.tcp.sender import Sender
from mptcplab.stack.tcp.sent import Sent
from mptcplab.stack.tcp.state import CAN_SEND, ESTABLISHED, SYN_SENT
from mptcplab.stack.tcp.subflow import Subflow
from mptcplab.stack.tcp.subflow_base import TIMESTAMP_BYTES
from mptcplab.wire.mptcp import (
    MAX_MAPPING_BYTES,
    RST_LACK_OF_RESOURCES,
    RST_MIDDLEBOX,
    RST_MPTCP_ERROR,
    RST_UNSPECIFIED,
    Dss,
    MpCapable,
    MptcpOption,
    MpTcpRst,
)
from mptcplab.wire.segment import RST, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

    from mptcplab.stack.mptcp.connection import Connection

MASK32: Final = 0xFFFF_FFFF

DSS_BYTES: Final = 28
"""A DSS with 8-byte DATA_ACK and DSN is 26 bytes, 28 with checksum or padding."""

UNMAPPED_LIMIT_BYTES: Final = 65_536
"""Least data without a mapping after which a subflow counts as broken (RFC 8684 3.3.1 says: the
receive window)."""


MAX_MAPPINGS: Final = 65_536
"""Mappings of one subflow that wait for their data: far more than the packets of any window."""


class MptcpSubflow(Subflow):
    """One subflow of a :class:`~mptcplab.stack.mptcp.connection.Connection`."""

    __slots__ = (
        "_established_options",
        "_train_time_ns",
        "_unmapped",
        "_unmapped_bytes",
        "_window_ack",
        "_window_seq",
        "backlog",
        "backup_local",
        "backup_remote",
        "bare_acks",
        "confirmed",
        "connection",
        "data_fin_due",
        "initial",
        "join_ack_deadline_ns",
        "join_hmac",
        "join_retries",
        "local_id",
        "local_nonce",
        "mappings",
        "remote_id",
        "remote_nonce",
        "reset_option",
        "rx_delta",
        "saw_data_ack",
        "subflow_id",
        "tx_delta",
        "view",
    )

    def __init__(
        self,
        connection: Connection,
        subflow_id: int,
        config: StackConfig,
        local: bytes,
        local_port: int,
        remote: bytes,
        remote_port: int,
        sender: Sender,
        outbox: list[Segment],
        active: bool,
        ts_offset: int,
        mss_bytes: int,
    ) -> None:
        super().__init__(
            config,
            local,
            local_port,
            remote,
            remote_port,
            sender,
            outbox,
            active,
            ts_offset,
            mss_bytes,
        )
        self.connection: Connection = connection
        self.subflow_id: i64 = subflow_id
        """Number in its connection, in the order of creation; 0 is the initial subflow."""
        self.initial: bool = subflow_id == 0
        self.plain = not connection.mptcp
        self.local_id: i64 = 0
        """Address identifiers of MP_JOIN (RFC 8684 section 3.2)."""
        self.remote_id: i64 = 0
        self.local_nonce: int = 0
        self.remote_nonce: int = 0
        self.join_hmac: bytes = b""
        self.join_ack_deadline_ns: i64 = NEVER_NS
        self.join_retries: i64 = 0
        self.confirmed: bool = False
        """The peer is known to know that the subflow is established: data may be sent."""
        self.saw_data_ack: bool = False
        """A DATA_ACK arrived on this subflow: its path lets MPTCP options through."""
        self.bare_acks: bool = False
        """ACKs came without options since the last DATA_ACK."""
        self.backup_local: bool = False
        """We ask the peer to treat it as a backup."""
        self.backup_remote: bool = False
        """The peer asks us."""
        self.mappings = MappingTable()
        self.view = SubflowView(subflow_id, sender.congestion)
        self.backlog = Backlog()
        self.tx_delta: i64 = -1
        """After a fallback: stream offset less subflow sequence number."""
        self.rx_delta: i64 = -1
        """After our MP_FAIL: nothing is taken before the infinite mapping."""
        self.data_fin_due: bool = False
        self.reset_option: MptcpOption | None = None
        """What our RST is to say."""
        self._unmapped: list[tuple[int, int, bytes | None]] = []
        self._unmapped_bytes: i64 = 0
        self._train_time_ns: i64 = config.train_time_ns
        self._window_seq: i64 = 0
        """Plain TCP: what the segment said that updated the window last (SND.WL1, SND.WL2)."""
        self._window_ack: i64 = 0
        self._established_options: tuple[MptcpOption, ...] = ()

    # State for others.

    @property
    def backup(self) -> bool:
        """Whether either side asked for it to be a backup."""
        return self.backup_local or self.backup_remote

    def can_carry(self) -> bool:
        """Say whether new data may be given to it."""
        return self.confirmed and self.state in CAN_SEND and not self.fin_pending

    def refresh_view(self, now_ns: i64) -> None:
        """Bring the scheduler's view up to date."""
        view = self.view
        sender = self.sender
        view.in_flight_bytes = sender.in_flight_bytes()
        view.in_recovery = sender.in_recovery
        view.timed_out = sender.in_loss
        view.rttvar_ns = sender.rtt.rttvar_ns
        if sender.pacing and now_ns < sender.next_send_ns:
            view.train_room_bytes = 0
        else:
            view.train_room_bytes = self._room_bytes(view.in_flight_bytes, now_ns)
        view.queued_bytes = self.backlog.waiting_bytes
        # Linux's tcp_sndbuf_expand: a send buffer of two windows.
        occupied_bytes = view.in_flight_bytes + view.queued_bytes
        view.queue_room_bytes = 2 * sender.congestion.cwnd_bytes - occupied_bytes

    def _room_bytes(self, in_flight_bytes: i64, now_ns: i64) -> i64:
        """Return what one train may hold now; 0 to wait for a better filled one.

        As Linux's tcp_tso_should_defer: with an ACK to come soon (the oldest data are out for
        half a round trip), a third of the window or a whole train is waited for, so that trains
        do not crumble; ``view.worthwhile_bytes`` says so for the peer's window, which is shared,
        where it opens in the steps in which the peer reads.
        """
        sender = self.sender
        congestion = sender.congestion
        cwnd: i64 = congestion.cwnd_bytes
        srtt_ns: i64 = sender.rtt.srtt_ns
        send = self.connection.send
        window = send.window_end - send.buffer.acked_offset
        room = cwnd - in_flight_bytes
        target: i64 = sender.mss_bytes
        if room >= target:  # else it is short of any train, however long that may be
            target = longest_train(
                sender,
                in_flight_bytes,
                send.window_end - send.sent_offset,
                window,
                send.largest_window,
                send.view.train_bytes,
                self._train_time_ns,
            )
        self.view.worthwhile_bytes = 0
        if in_flight_bytes > 0 and not sender.in_recovery:
            oldest = sender.queue.first()
            if oldest is not None and now_ns - oldest.sent_ns >= srtt_ns >> 1:
                if reader_bound(window, send.largest_window):
                    self.view.worthwhile_bytes = target
                if room < target and room * 3 < cwnd:
                    congestion.on_send(sender.last_send_ns, cwnd)  # the window is what limits us
                    return 0
        if room >= target:
            return target
        if room < 0:
            return 0
        return room

    def finish(self) -> None:
        """Close our direction; what waits here goes to other subflows."""
        self.connection.send.take_back(self)
        super().finish()

    # Building segments.

    def on_window(self) -> i64:
        return self.connection.receive_buffer.window(
            0 if self.state is SYN_SENT else self.rcv_wscale, self.receiver.mss_bytes
        )

    def on_largest_window(self) -> i64:
        return self.connection.receive_buffer.largest_bytes()

    def on_acceptance_edge(self) -> i64:
        # RFC 8684 section 3.3.4: the window is the connection's; each subflow may use all of it.
        buffer = self.connection.receive_buffer
        return self.receiver.rcv_nxt + buffer.edge_offset - buffer.rcv_nxt

    def on_syn_options(self) -> tuple[MptcpOption, ...]:
        return handshake.syn_options(self)

    def on_ack_options(self) -> tuple[MptcpOption, ...]:
        connection = self.connection
        if not connection.mptcp:
            return ()
        if self._established_options and not self._handshake_confirmed():
            return self._established_options
        if connection.tx_infinite or not connection.peer_key_known:
            return ()
        if self.data_fin_due:
            self.data_fin_due = False
            fin = options.data_fin(connection)
            if fin is not None:
                return (fin,)
        return (Dss(connection.data_ack_wire(), connection.ack_8),)

    def on_data_options(self, record: Sent) -> tuple[MptcpOption, ...]:
        connection = self.connection
        if not connection.mptcp:
            return ()
        if record.fin or record.map_ssn == 0:
            return self.on_ack_options()
        dsn = connection.tx_numbers.at(record.offset)
        if connection.tx_infinite:
            return fallback.infinite_options(connection, record, dsn)
        if (
            record.map_ssn == 1
            and self.initial
            and self.active
            and connection.version == 1
            and not connection.fully_established
        ):
            return (
                MpCapable(
                    1,
                    connection.capable_flags(),
                    connection.local_key,
                    connection.peer_key,
                    record.map_length,
                    record.checksum if record.checksum >= 0 else None,
                ),
            )
        dss = Dss(
            connection.data_ack_wire(),
            connection.ack_8,
            dsn,
            True,
            record.map_ssn & MASK32,
            record.map_length,
            record.checksum if record.checksum >= 0 else None,
        )
        if record.map_length > MAX_MAPPING_BYTES and record.map_length != record.end - record.seq:
            # Part of a train of several mappings: name its own bytes (lengths, which sum to 0).
            dss = dss.of_part(record.seq - record.map_ssn, record.end - record.seq, 0)
        return (dss,)

    def on_reset_options(self) -> tuple[MptcpOption, ...]:
        connection = self.connection
        if not connection.mptcp or connection.tx_infinite:
            return ()
        if self.reset_option is not None:
            if isinstance(self.reset_option, MpTcpRst) or connection.version == 0:
                return (self.reset_option,)
            return (self.reset_option, MpTcpRst(RST_UNSPECIFIED))
        return () if connection.version == 0 else (MpTcpRst(RST_UNSPECIFIED),)

    def _handshake_confirmed(self) -> bool:
        return self.connection.fully_established if self.initial else self.confirmed

    def reset_for(self, reset_code: int, reason: CloseReason, now_ns: i64) -> None:
        """Reset the subflow and say why with MP_TCPRST (RFC 8684 section 3.6; version 1 only)."""
        if self.connection.version != 0:
            self.reset_option = MpTcpRst(reset_code)
        self.reset(reason, now_ns)

    # Handshake.

    def on_agreed_mss(self, mss_bytes: i64) -> None:
        taken = TIMESTAMP_BYTES if self.ts_enabled else 0
        if self.connection.mptcp:
            taken += DSS_BYTES
        self.receiver.mss_bytes = mss_bytes - taken
        self.connection.set_subflow_mss(self, mss_bytes - taken)

    def on_syn_ack(self, segment: Segment, now_ns: i64) -> bool:
        offered = self.connection.mptcp
        accepted = handshake.judge_syn_ack(self, segment, now_ns)
        if self.initial:
            self.connection.send.open_window(segment.window)
            if offered and not self.connection.mptcp:
                self._regain_option_space()
        return accepted

    def on_handshake_ack(self, segment: Segment, now_ns: i64) -> bool:
        offered = self.connection.mptcp
        accepted = handshake.judge_ack(self, segment, now_ns)
        if offered and not self.connection.mptcp:
            self._regain_option_space()
        return accepted

    def _regain_option_space(self) -> None:
        """After a fallback in the handshake: no DSS will take room from the payload."""
        self.on_agreed_mss(
            self.sender.mss_bytes + DSS_BYTES + (TIMESTAMP_BYTES if self.ts_enabled else 0)
        )

    def on_established(self, now_ns: i64) -> None:
        connection = self.connection
        if connection.mptcp and self.active:
            self._established_options = handshake.ack_options(self)
        if self.initial:
            self.confirmed = True
        elif self.active:
            self.join_ack_deadline_ns = now_ns + self.sender.rtt.rto_ns
        else:
            self.confirmed = True
            self.receiver.ack_now = True  # the fourth packet, which lets the peer send
        connection.on_subflow_established(self, now_ns)

    def _confirm_join(self, now_ns: i64) -> None:
        self.confirmed = True
        self._established_options = ()
        self.join_ack_deadline_ns = NEVER_NS
        self.connection.on_subflow_confirmed(self, now_ns)

    # Arriving segments.

    def on_segment(self, segment: Segment, now_ns: i64) -> bool:
        connection = self.connection
        if not connection.mptcp:
            self._plain_window(segment)
            return True
        if segment.flags & RST:
            options.take_reset(connection, self, segment, now_ns)
            return True
        if not self.confirmed and not self.initial and self.state is ESTABLISHED:
            self._confirm_join(now_ns)
        dss: Dss | None = None
        for option in segment.mptcp:
            if isinstance(option, Dss):
                dss = option
            elif not options.take(connection, self, option, segment, now_ns):
                return False
        if self.initial and not fallback.settle_establishment(
            connection, self, segment, dss, now_ns
        ):
            self._plain_window(segment)
            return True
        if connection.tx_infinite:
            self._plain_window(segment)
        if dss is None:
            if fallback.shows_stripping(self, segment):
                return self._break(RST_MIDDLEBOX, CloseReason.PROTOCOL, now_ns)
            return True
        if dss.data_ack is not None:
            self.saw_data_ack = True
            self.bare_acks = False
            if not connection.tx_infinite:
                # RFC 8684 section 3.7: after our infinite mapping only the subflow's ACKs count.
                connection.handle_data_ack(
                    dss.data_ack, dss.data_ack_8, segment.window << self.snd_wscale, now_ns
                )
        if dss.dsn is not None:
            return self._take_mapping(dss, now_ns)
        return True

    def _plain_window(self, segment: Segment) -> None:
        """Update SND.WND as RFC 9293 section 3.10.7.4 says; it may have shrunk (MUST-34)."""
        sender = self.sender
        ack = sender.unwrap(segment.ack)
        seq = self.receiver.unwrap(segment.seq)
        if ack < sender.snd_una or seq < self._window_seq:
            return
        if seq == self._window_seq and ack < self._window_ack:
            return
        self._window_seq = seq
        self._window_ack = ack
        edge = ack + self.tx_delta + (segment.window << self.snd_wscale)
        self.connection.send.move_window(edge)

    def on_window_closed(self) -> bool:
        send = self.connection.send
        return send.window_end <= send.buffer.acked_offset

    def _take_mapping(self, dss: Dss, now_ns: i64) -> bool:
        connection = self.connection
        dsn = dss.dsn
        assert dsn is not None
        offset = connection.unwrap_dsn(dsn, dss.dsn_8)
        if dss.infinite:
            return fallback.handle_infinite(connection, self, offset, dss.ssn, now_ns)
        if dss.dsn_8:
            connection.ack_8 = True
        if (dss.checksum is not None) is not connection.checksum:
            # RFC 8684 section 3.3.1: the checksum is there exactly if it was negotiated.
            return self._break(RST_MPTCP_ERROR, CloseReason.PROTOCOL, now_ns)
        length = dss.data_length
        if dss.data_fin:
            length -= 1
            connection.handle_data_fin(offset + length, now_ns)
            if length == 0:
                self.receiver.ack_now = True
                return True
        ssn = self._unwrap_ssn(dss.ssn)
        return self.add_mapping(
            ssn, length, offset, -1 if dss.checksum is None else dss.checksum, dss.data_fin, now_ns
        )

    def add_mapping(
        self, ssn: i64, length: i64, offset: i64, checksum: i64, data_fin: bool, now_ns: i64
    ) -> bool:
        """Take in a mapping; ``False`` after the subflow was reset for it."""
        table = self.mappings
        end = ssn + length
        if ssn == table.last_ssn and end == table.last_end and offset == table.last_offset:
            return True
        if end <= self.receiver.rcv_nxt and not self._unmapped:
            return True
        if ssn > self.on_acceptance_edge():
            return True  # data that it could speak of would not be taken
        if len(table) >= MAX_MAPPINGS:
            return self._break(RST_LACK_OF_RESOURCES, CloseReason.PROTOCOL, now_ns)
        if not table.add(Mapping(ssn, end, offset, checksum, data_fin)):
            return self._break(RST_MPTCP_ERROR, CloseReason.PROTOCOL, now_ns)
        if self._unmapped:
            waiting = self._unmapped
            self._unmapped = []
            self._unmapped_bytes = 0
            for start, stop, payload in waiting:
                self.on_payload(start, stop, payload, now_ns)
        return True

    def _unwrap_ssn(self, ssn: i64) -> i64:
        near = self.receiver.rcv_nxt
        distance = (ssn - near) & MASK32
        if distance >= 0x8000_0000:
            distance -= 0x1_0000_0000
        return near + distance

    def on_payload(self, seq: i64, end: i64, payload: bytes | None, now_ns: i64) -> None:
        connection = self.connection
        if self._in_order_of_stream():
            connection.handle_data(seq + self.rx_delta, end + self.rx_delta, payload, now_ns)
            return
        position = seq
        while position < end:
            mapping = self.mappings.find(position)
            if mapping is None:
                rest = payload if payload is None else payload[position - seq :]
                self._keep_unmapped(position, end, rest, now_ns)
                return
            stop = end if end < mapping.end else mapping.end
            part = payload
            if part is not None and (position > seq or stop < end):
                part = part[position - seq : stop - seq]
            if mapping.checksum >= 0 and (
                part is not None or position > mapping.ssn or stop < mapping.end
            ):
                mapping.hold(position, stop, part)
                if stop == mapping.end and not self._deliver_checked(mapping, now_ns):
                    return
                if stop < end and self._in_order_of_stream():
                    rest = payload if payload is None else payload[stop - seq :]
                    self.on_payload(stop, end, rest, now_ns)
                    return
            else:
                offset = mapping.offset + position - mapping.ssn
                connection.handle_data(offset, offset + stop - position, part, now_ns)
            position = stop

    def _in_order_of_stream(self) -> bool:
        """Say whether the subflow's bytes are the stream's, in order, whatever mappings say."""
        return not self.connection.mptcp or self.connection.rx_infinite

    def _deliver_checked(self, mapping: Mapping, now_ns: i64) -> bool:
        connection = self.connection
        dsn = connection.rx_numbers.at(mapping.offset)
        if not mapping.checksum_holds(dsn) and not fallback.survives_bad_checksum(
            connection, self, mapping, now_ns
        ):
            return False
        for start, stop, part in mapping.held:
            offset = mapping.offset + start - mapping.ssn
            connection.handle_data(offset, offset + stop - start, part, now_ns)
        mapping.held = NOTHING_HELD
        return True

    def _keep_unmapped(self, start: int, end: int, payload: bytes | None, now_ns: i64) -> None:
        """Bytes without a mapping: fall back if the RFC allows, else wait for one, not for ever."""
        connection = self.connection
        if fallback.allowed(connection, self):
            fallback.receive_unmapped(connection, self, start, "data without a mapping", now_ns)
            self.on_payload(start, end, payload, now_ns)
            return
        self._unmapped.append((start, end, payload))
        self._unmapped_bytes += end - start
        limit = max(UNMAPPED_LIMIT_BYTES, connection.receive_buffer.size_bytes)
        if self._unmapped_bytes > limit:
            self._break(RST_MIDDLEBOX, CloseReason.PROTOCOL, now_ns)

    def _break(self, reset_code: int, reason: CloseReason, now_ns: i64) -> bool:
        self.reset_for(reset_code, reason, now_ns)
        return False

    # Changes for the connection.

    def on_acked(self, now_ns: i64) -> None:
        if self.view.stale:
            self.connection.on_subflow_recovered(self)
        if not self.connection.mptcp or self.connection.tx_infinite:
            self.connection.handle_plain_ack(self, now_ns)

    def on_fin(self, now_ns: i64) -> None:
        self.connection.on_subflow_fin(self, now_ns)

    def on_timeout(self) -> None:
        self.connection.on_subflow_timeout(self)

    def on_time_wait(self) -> None:
        self.connection.on_subflow_time_wait()

    def on_closed(self, now_ns: i64) -> None:
        self.join_ack_deadline_ns = NEVER_NS
        self.connection.on_subflow_closed(self, now_ns)

    # The third packet of MP_JOIN.

    def next_deadline_ns(self) -> i64:
        deadline = super().next_deadline_ns()
        return deadline if deadline < self.join_ack_deadline_ns else self.join_ack_deadline_ns

    def handle_timeout(self, now_ns: i64) -> None:
        if self.join_ack_deadline_ns <= now_ns:
            self._resend_join_ack(now_ns)
        super().handle_timeout(now_ns)

    def _resend_join_ack(self, now_ns: i64) -> None:
        """RFC 8684 section 3.2: the ACK with the HMAC is retransmitted until it is answered."""
        if self.join_retries >= self.config.synack_retries:
            self.reset_for(RST_UNSPECIFIED, CloseReason.TIMEOUT, now_ns)
            return
        self.join_retries += 1
        self.join_ack_deadline_ns = now_ns + (self.sender.rtt.rto_ns << self.join_retries)
        self.receiver.ack_now = True

    def held_bytes(self) -> int:
        """Return what waits on this subflow: out of order, or for a mapping."""
        return self.receiver.reassembly.held_bytes + self._unmapped_bytes
