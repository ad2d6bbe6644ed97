"""A subflow of a connection: TCP below, and its share of the Multipath TCP signals.

The initial subflow negotiates MP_CAPABLE and may fall back to TCP; a joined one proves itself with
MP_JOIN and never falls back (RFC 8684 sections 3.1, 3.2, 3.7). With MPTCP off, or after a
fallback, the one subflow's sequence numbers are the stream.

A subflow puts its segments together and keeps what arrives on it; it knows what the connection's
parts share (session, ending, receive buffer), not the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.seq import SEQ32_MASK, unwrap32
from mptcplab.stack.events import CloseReason
from mptcplab.stack.mptcp import handshake
from mptcplab.stack.mptcp.backlog import Backlog
from mptcplab.stack.mptcp.ending import Ending
from mptcplab.stack.mptcp.handshake import Join
from mptcplab.stack.mptcp.mapping import Mapping, MappingTable
from mptcplab.stack.mptcp.mode import OFFERED
from mptcplab.stack.mptcp.receive_buffer import ReceiveBuffer
from mptcplab.stack.mptcp.session import Session
from mptcplab.stack.mptcp.trains import Cause, CommonLimits, Trains
from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.reassembly import Chunk
from mptcplab.stack.schedulers.base import SubflowView
from mptcplab.stack.tcp.control_block import ControlBlock
from mptcplab.stack.tcp.report import Report
from mptcplab.stack.tcp.sender import CA_LOSS, CA_RECOVERY
from mptcplab.stack.tcp.sent import Sent
from mptcplab.stack.tcp.state import (
    CAN_RECEIVE,
    CAN_SEND,
    CLOSED,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
)
from mptcplab.stack.tcp.timestamps import OPTION_BYTES as TIMESTAMP_BYTES
from mptcplab.wire.checksum import dss_checksum
from mptcplab.wire.mptcp import (
    MAX_MAPPING_BYTES,
    RST_LACK_OF_RESOURCES,
    RST_MPTCP_ERROR,
    RST_UNSPECIFIED,
    Dss,
    MpCapable,
    MptcpOption,
    MpTcpRst,
)
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

DSS_BYTES: Final = 28
"""A DSS with 8-byte DATA_ACK and DSN is 26 bytes, 28 with checksum or padding."""

MAX_MAPPINGS: Final = 65_536
"""Mappings of one subflow that wait for their data: far more than the packets of any window."""

SAYS_NO_ACK: Final = (CLOSED, SYN_SENT, SYN_RECEIVED)
"""States in which nothing is to be acknowledged, or a SYN/ACK does so."""

NOT_TOLD: Final = -(1 << 61)
"""Of ``MptcpSubflow.told_delta``: no infinite mapping was told."""

MAPPING_TAKEN: Final = -1
MAPPING_KNOWN: Final = -2
"""What became of a mapping that does not break its subflow."""


class MptcpSubflow:
    """One subflow of a :class:`~mptcplab.stack.mptcp.connection.Connection`."""

    __slots__ = (
        "_ending",
        "_opening_options",
        "_opening_sent",
        "_receive_buffer",
        "_session",
        "backlog",
        "backup_local",
        "backup_remote",
        "bare_acks",
        "confirmed",
        "data_fin_offset",
        "data_fin_seen",
        "initial",
        "join",
        "mappings",
        "reset_option",
        "reset_reason",
        "rx_delta",
        "saw_data_ack",
        "subflow_id",
        "tcp",
        "told_delta",
        "trains",
        "tx_delta",
        "view",
    )

    def __init__(
        self,
        subflow_id: int,
        tcp: ControlBlock,
        session: Session,
        ending: Ending,
        receive_buffer: ReceiveBuffer,
        cause: Cause,
    ) -> None:
        self.tcp: ControlBlock = tcp
        self._session: Session = session
        self._ending: Ending = ending
        self._receive_buffer: ReceiveBuffer = receive_buffer
        self.subflow_id: i64 = subflow_id
        """Number in its connection, in the order of creation; 0 is the initial subflow."""
        self.initial: bool = subflow_id == 0
        self.join = Join()
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
        self.view = SubflowView(subflow_id, tcp.sender.congestion)
        self.backlog = Backlog()
        self.tx_delta: i64 = -1
        """After a fallback: stream offset less subflow sequence number."""
        self.rx_delta: i64 = -1
        """After our MP_FAIL: nothing is taken before the infinite mapping."""
        self.data_fin_offset: i64 = -1
        """The end of our stream, where its DATA_FIN is to leave on the next ACK; else -1."""
        self.data_fin_seen: bool = False
        """A DATA_FIN of the peer came, and no DATA_ACK has left here since."""
        self.told_delta: i64 = NOT_TOLD
        """``rx_delta`` of an infinite mapping that came on an ACK without payload."""
        self.reset_option: MptcpOption | None = None
        """What our RST is to say."""
        self.reset_reason: i64 = -1
        """Code of the MP_TCPRST that closed it, -1 for none."""
        self.trains = Trains(tcp.config, cause)
        self._opening_options: tuple[MptcpOption, ...] = ()
        """What our ACKs say until the peer is known to have seen the third packet."""
        self._opening_sent: bool = False

    # What others read.

    @property
    def backup(self) -> bool:
        """Whether either side asked for it to be a backup."""
        return self.backup_local or self.backup_remote

    def can_carry(self) -> bool:
        """Say whether new data may be given to it.

        After a SYN with our cookie and data an answer need not wait for the third packet, but with
        MPTCP it does: without the client's key it would have no DATA_ACK, for want of which Linux
        falls back to TCP (check_fully_established), and whose server does not answer before either
        (__mptcp_subflow_active).
        """
        tcp = self.tcp
        state = tcp.state
        fast = state is SYN_RECEIVED and tcp.opening.fast and not self._session.mptcp
        return self.confirmed and (state in CAN_SEND or fast) and not tcp.fin_pending

    def held_bytes(self) -> int:
        """Return what waits on this subflow: out of order, or for a mapping."""
        return self.tcp.receiver.reassembly.held_bytes + self.mappings.unmapped_bytes

    def acceptance_edge(self) -> i64:
        """Return the sequence number up to which text is taken.

        RFC 8684 section 3.3.4: the window is the connection's; each subflow may use all of it.
        """
        buffer = self._receive_buffer
        return self.tcp.receiver.rcv_nxt + buffer.edge_offset - buffer.rcv_nxt

    def refresh_view(self, limits: CommonLimits, now_ns: i64) -> None:
        """Bring the scheduler's view up to date."""
        view = self.view
        sender = self.tcp.sender
        in_flight_bytes = sender.in_flight_bytes()
        queued_bytes = self.backlog.waiting_bytes
        view.in_flight_bytes = in_flight_bytes
        view.unacked_bytes = sender.snd_nxt - sender.snd_una
        view.in_recovery = sender.ca_state == CA_RECOVERY
        view.timed_out = sender.ca_state == CA_LOSS
        view.timeouts = sender.rtt.timeouts
        view.rttvar_ns = sender.rtt.rttvar_ns
        view.worthwhile_bytes = 0
        if sender.pacing.enabled and sender.pacing.holds(now_ns):
            view.train_room_bytes = 0
        else:
            view.train_room_bytes = self.trains.room_bytes(sender, in_flight_bytes, limits, now_ns)
            view.worthwhile_bytes = self.trains.worthwhile_bytes
        view.queued_bytes = queued_bytes
        # Linux's tcp_sndbuf_expand: a send buffer of two windows.
        view.queue_room_bytes = 2 * sender.congestion.cwnd_bytes - in_flight_bytes - queued_bytes

    # Handshake.

    def agree_mss(self, mss_bytes: i64) -> None:
        """The smaller of both MSS is known: take off what our options need."""
        tcp = self.tcp
        taken = TIMESTAMP_BYTES if tcp.timestamps.enabled else 0
        if self._session.mptcp:
            taken += DSS_BYTES
        path = tcp.path
        path.agreed_mss_bytes = mss_bytes
        path.option_bytes = taken
        self._set_payload()

    def regain_option_space(self) -> None:
        """After a fallback in the handshake: no DSS will take room from the payload."""
        self.tcp.path.option_bytes -= DSS_BYTES
        self._set_payload()

    def _set_payload(self) -> None:
        """The payload per packet is known: start congestion control for it."""
        tcp = self.tcp
        sender = tcp.sender
        path = tcp.path
        tcp.receiver.mss_bytes = path.agreed_mss_bytes - path.option_bytes
        mss_bytes = path.payload_bytes()
        if sender.mss_bytes == mss_bytes:
            return
        group = sender.congestion.group
        sender.congestion.close()
        sender.congestion = tcp.config.congestion(mss_bytes, group)
        sender.mss_bytes = mss_bytes
        self.view.congestion = sender.congestion

    def offers_mptcp(self) -> bool:
        """Say whether our SYNs (still) offer MPTCP: a box may drop those with unknown options."""
        tcp = self.tcp
        return self._session.mptcp and tcp.opening.timeouts <= tcp.config.syn_mptcp_retries

    def note_established(self, now_ns: i64) -> None:
        """The TCP handshake is done; a join that we opened still waits to be confirmed."""
        tcp = self.tcp
        session = self._session
        if session.mptcp and tcp.active:
            if self.initial:
                self._opening_options = handshake.capable_ack(session)
            else:
                self._opening_options = handshake.join_ack(session, self.join)
        if not self.initial and tcp.active:
            tcp.timers.join_ack_ns = now_ns + tcp.sender.rtt.rto_ns
            return
        self.confirmed = True
        if not self.initial:
            tcp.receiver.ack_now = True  # the fourth packet, which lets the peer send

    def confirm_join(self) -> None:
        """The peer answered the third packet of a join."""
        self.confirmed = True
        self._opening_options = ()
        self.tcp.timers.join_ack_ns = NEVER_NS

    # Leaving segments.

    def poll_transmit(self, now_ns: i64) -> Segment | None:
        """Return a segment that is due whatever new data there are: SYN, resent data, FIN."""
        record = self.tcp.next_due(now_ns)
        return None if record is None else self.make_train(record, now_ns)

    def poll_ack(self, now_ns: i64) -> Segment | None:
        """Return an ACK if one is due and nothing else carried it."""
        tcp = self.tcp
        if tcp.receiver.ack_now and tcp.state not in SAYS_NO_ACK:
            was_opened = self._opening_sent
            segment = self.make_ack(now_ns)
            if self.data_fin_offset >= 0 and self._opening_sent and not was_opened:
                tcp.receiver.ack_now = True  # the third packet had no room for our DATA_FIN
            return segment
        return None

    def make_train(self, record: Sent, now_ns: i64) -> Segment:
        """Return the segment for what was recorded as leaving now."""
        tcp = self.tcp
        shift: i64 = 0
        if tcp.state is not SYN_SENT:
            shift = tcp.rcv_wscale
        window = self._receive_buffer.window(shift, tcp.receiver.mss_bytes)
        if record.syn:
            return tcp.make_syn(window, self._syn_options(), now_ns)
        train = tcp.make_train(record, window, self._data_options(record), now_ns)
        sender = tcp.sender
        room_bytes = sender.congestion.cwnd_bytes - sender.in_flight_bytes() + train.payload_bytes
        self.trains.note_sent(train, room_bytes, sender.queue.delivered_bytes, now_ns)
        record.sent_ns -= train.late_ns
        record.spread_ns = train.spread_ns
        return train

    def make_ack(self, now_ns: i64, options: tuple[MptcpOption, ...] | None = None) -> Segment:
        """Return an ACK without payload; ``options`` replace its usual MPTCP options."""
        tcp = self.tcp
        if options is None:
            options = self.ack_options()
        window = self._receive_buffer.window(tcp.rcv_wscale, tcp.receiver.mss_bytes)
        return tcp.make_ack(window, options, now_ns)

    def send_window_probe(self, now_ns: i64) -> None:
        """Ask for the peer's window, or whether it is there."""
        tcp = self.tcp
        options = self.ack_options()
        window = self._receive_buffer.window(tcp.rcv_wscale, tcp.receiver.mss_bytes)
        tcp.outbox.append(tcp.make_probe(window, options, now_ns))

    def _syn_options(self) -> tuple[MptcpOption, ...]:
        session = self._session
        if not session.mptcp:
            return ()
        passive = self.tcp.state is SYN_RECEIVED
        if self.initial:
            if not passive and not self.offers_mptcp():
                return ()
            return handshake.capable_syn(session, passive)
        if passive:
            return handshake.join_syn_ack(session, self.join, self.backup_local)
        return handshake.join_syn(session, self.join, self.backup_local)

    def ack_options(self) -> tuple[MptcpOption, ...]:
        """Return the MPTCP options of an ACK without payload.

        After the third packet our DATA_FIN needs no answer to leave: RFC 8684 section 3.3.3 lets it
        go as soon as there is nothing more to send.
        """
        session = self._session
        if not session.mptcp:
            return ()
        if self._opening_options and (
            session.mode is OFFERED and not (self._opening_sent and self.data_fin_offset >= 0)
            if self.initial
            else not self.confirmed
        ):
            self._opening_sent = True
            if self._receive_buffer.rcv_nxt > 0 and self.initial:
                # The answer to a SYN's data came before the peer can know that this packet did.
                number = session.rx_numbers.at(self._receive_buffer.rcv_nxt) & SEQ32_MASK
                return (*self._opening_options, Dss(number, False))
            return self._opening_options
        if session.tx_infinite or not session.peer_key_known:
            return ()
        if self.tcp.state is TIME_WAIT and not self.data_fin_seen:
            return ()  # of the connection nothing is left to say
        self.data_fin_seen = False
        if self.data_fin_offset >= 0:
            offset = self.data_fin_offset
            self.data_fin_offset = -1
            if self._ending.waits_for_end_ack():
                return (self._data_fin(offset),)
        return (Dss(self._data_ack(), session.ack_8),)

    def _data_fin(self, offset: i64) -> Dss:
        """Return a DSS with our DATA_FIN, which stands at ``offset`` (RFC 8684 section 3.3.3)."""
        session = self._session
        dsn = session.tx_numbers.at(offset)
        checksum = dss_checksum(dsn, 0, 1, 0) if session.checksum else None
        return Dss(self._data_ack(), session.ack_8, dsn, True, 0, 1, checksum, True)

    def _data_options(self, record: Sent) -> tuple[MptcpOption, ...]:
        session = self._session
        if not session.mptcp:
            return ()
        if record.fin or record.map_ssn == 0:
            return self.ack_options()
        if session.tx_infinite:
            if record.seq != session.infinite_ssn:
                return ()
            return (self.infinite_mapping(record.offset, record.map_ssn),)
        checksum = record.checksum if record.checksum >= 0 else None
        if (
            session.mode is OFFERED
            and self.initial
            and record.map_ssn == 1 + session.tx_syn_bytes
            and self.tcp.active
            and session.version == 1
        ):
            return (
                MpCapable(
                    1,
                    session.capable_flags(),
                    session.local_key,
                    session.peer_key,
                    record.map_length,
                    checksum,
                ),
            )
        dss = Dss(
            self._data_ack(),
            session.ack_8,
            session.tx_numbers.at(record.offset),
            True,
            self.wire_ssn(record.map_ssn),
            record.map_length,
            checksum,
        )
        if record.map_length > MAX_MAPPING_BYTES and record.map_length != record.end - record.seq:
            # Part of a train of several mappings: name its own bytes (lengths, which sum to 0).
            dss = dss.of_part(record.seq - record.map_ssn, record.end - record.seq, 0)
        return (dss,)

    def infinite_mapping(self, offset: i64, ssn: i64) -> Dss:
        """Return the mapping that ends mappings: from ``offset`` on, the order is the subflow's."""
        session = self._session
        return Dss(
            self._data_ack(),
            session.ack_8,
            session.tx_numbers.at(offset),
            True,
            self.wire_ssn(ssn),
            0,
            0 if session.checksum else None,
        )

    def wire_ssn(self, ssn: i64) -> int:
        """Return the subflow sequence number of our mappings for one of ours: less a SYN's data."""
        if self.initial:
            ssn -= self._session.tx_syn_bytes
        return ssn & SEQ32_MASK

    def unwrap_ssn(self, ssn: int) -> i64:
        """Return which of the peer's sequence numbers one of its mappings means."""
        skipped: i64 = 0
        if self.initial:
            skipped = self._session.rx_syn_bytes
        return unwrap32(ssn, self.tcp.receiver.rcv_nxt - skipped) + skipped

    def _data_ack(self) -> int:
        """Return our DATA_ACK for the wire."""
        session = self._session
        received = self._receive_buffer.rcv_nxt
        if self._ending.peer_finished:
            received += 1
        number = session.rx_numbers.at(received)
        return number if session.ack_8 else number & SEQ32_MASK

    def _reset_options(self) -> tuple[MptcpOption, ...]:
        session = self._session
        if not session.mptcp or session.tx_infinite:
            return ()
        said = self.reset_option
        if session.version == 0:
            return () if said is None else (said,)
        if said is None:
            return (MpTcpRst(RST_UNSPECIFIED),)
        return (said,) if isinstance(said, MpTcpRst) else (said, MpTcpRst(RST_UNSPECIFIED))

    # Arriving segments.

    def take_text(
        self, seq: i64, end: i64, payload: bytes | None, now_ns: i64
    ) -> list[Chunk] | None:
        """Put text in order; return what is to be delivered now.

        ``None`` means the text as it came: the usual case. In a state in which none is taken, what
        comes is acknowledged and left.
        """
        tcp = self.tcp
        receiver = tcp.receiver
        if tcp.state in CAN_RECEIVE:
            if receiver.ack_now:
                # The previous train's ACK was not collected yet: each gets its own.
                tcp.outbox.append(self.make_ack(now_ns))
            if self._session.in_stream_order or receiver.fin_seq >= 0:
                # No other level sends again what we drop: take what the window allows only. And
                # nothing comes after a FIN.
                edge = self.acceptance_edge() if self._session.in_stream_order else end
                if 0 <= receiver.fin_seq < edge:
                    edge = receiver.fin_seq
                if end > edge:
                    receiver.ack_now = True
                    if edge <= seq:
                        return []
                    if payload is not None:
                        payload = payload[: edge - seq]
                    ready = receiver.accept(seq, edge, payload, now_ns)
                    return [(seq, int(edge), payload)] if ready is None else ready
            return receiver.accept(seq, end, payload, now_ns)
        if end > receiver.rcv_nxt:
            receiver.note_duplicate(seq, end)
        receiver.ack_now = True
        return []

    def add_mapping(self, ssn: i64, length: i64, offset: i64, checksum: i64, fin: bool) -> i64:
        """Take in a mapping.

        Returns ``MAPPING_TAKEN``, ``MAPPING_KNOWN`` if it says nothing new, or the reason code of a
        RST if it breaks the subflow.
        """
        table = self.mappings
        end = ssn + length
        if ssn == table.last_ssn and end == table.last_end and offset == table.last_offset:
            return MAPPING_KNOWN
        if end <= self.tcp.receiver.rcv_nxt and not table.unmapped_bytes:
            return MAPPING_KNOWN
        if ssn > self.tcp.receiver.rcv_nxt and ssn > self.acceptance_edge():
            return MAPPING_KNOWN  # data that it could speak of would not be taken
        if len(table) >= MAX_MAPPINGS:
            return RST_LACK_OF_RESOURCES
        if not table.add(Mapping(ssn, end, offset, checksum, fin)):
            return RST_MPTCP_ERROR
        return MAPPING_TAKEN

    def note_late_data_fin(self, segment: Segment) -> None:
        """The connection is over; a peer that asks again for the DATA_ACK of its end gets it."""
        for option in segment.mptcp:
            if isinstance(option, Dss) and option.data_fin:
                self.data_fin_seen = True
                self.tcp.receiver.ack_now = True

    # Timers.

    def handle_timeout(self, window_closed: bool, now_ns: i64, report: Report) -> None:
        """Do what is due; nothing if nothing is. The caller looks whether it is CLOSED then."""
        tcp = self.tcp
        if tcp.timers.join_ack_ns <= now_ns and not self._repeat_join_ack(now_ns):
            report.begin()
            return
        tcp.handle_timeout(window_closed, now_ns, report)
        if report.gave_up:
            self.reset(tcp.reason_for_silence(), now_ns)
        elif report.keepalive_due:
            self.send_window_probe(now_ns)

    def _repeat_join_ack(self, now_ns: i64) -> bool:
        """RFC 8684 section 3.2: the ACK with the HMAC is retransmitted until it is answered."""
        tcp = self.tcp
        if self.join.retries >= tcp.config.synack_retries:
            self.reset_for(RST_UNSPECIFIED, CloseReason.TIMEOUT, now_ns)
            return False
        self.join.retries += 1
        tcp.timers.join_ack_ns = now_ns + (tcp.sender.rtt.rto_ns << self.join.retries)
        tcp.receiver.ack_now = True
        return True

    # Ending.

    def is_half_open_join(self) -> bool:
        """Say whether it is a join by the peer, whose third packet has not come."""
        return self.tcp.state is SYN_RECEIVED and not self.initial and not self.tcp.active

    def reset(self, reason: CloseReason, now_ns: i64) -> None:
        """Abort: send RST where there is someone to send it to, and be CLOSED."""
        tcp = self.tcp
        if tcp.owes_reset():
            tcp.send_reset(self._reset_options(), now_ns)
        tcp.close(reason)

    def reset_for(self, reset_code: int, reason: CloseReason, now_ns: i64) -> None:
        """Reset and say why with MP_TCPRST (RFC 8684 section 3.6; version 1 only)."""
        if self._session.version != 0:
            self.reset_option = MpTcpRst(reset_code)
        self.reset(reason, now_ns)

    def refuse_syn_ack(self, now_ns: i64) -> None:
        """The SYN/ACK of a join has no right HMAC: answer it with RST (RFC 8684 section 3.2)."""
        tcp = self.tcp
        tcp.sender.snd_una = 1
        tcp.sender.snd_nxt = 1
        if self._session.version != 0:
            self.reset_option = MpTcpRst(RST_MPTCP_ERROR)
        tcp.send_reset(self._reset_options(), now_ns)
        tcp.close(CloseReason.PROTOCOL)
