"""A connection: one byte stream each way over any number of subflows (RFC 8684).

Plain TCP is the case of one subflow without Multipath TCP: the same code, with subflow sequence
numbers for the stream's. Inside, the stream is counted in *offsets* from its first byte; data
sequence numbers appear on the wire only: DSN = IDSN + 1 + offset.

The application uses ``write``, ``write_length``, ``read``, ``read_length``, ``close`` and
``abort``; all else is called by :class:`~mptcplab.stack.stack.Stack`. A connection brings its parts
together, and the parts do not know it: what was agreed (``session``), how the streams end
(``ending``), what is sent and received (``send``, ``inbound``), addresses (``paths``) and subflows.
They say what happened; what follows from it for the others is decided by tables and functions
without effect (``mode``, ``ending``, ``fallback``, ``closing``, ``handshake``), and carried out
here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion.base import CongestionGroup
from mptcplab.stack.events import CloseReason
from mptcplab.stack.host_view import HostView
from mptcplab.stack.mptcp import closing, fallback, handshake
from mptcplab.stack.mptcp.closing import Action
from mptcplab.stack.mptcp.data_receiver import DataReceiver
from mptcplab.stack.mptcp.data_sender import DataSender
from mptcplab.stack.mptcp.dsn import unwrap
from mptcplab.stack.mptcp.ending import DataChange, Ending
from mptcplab.stack.mptcp.handshake import Judgment
from mptcplab.stack.mptcp.mode import FULL, OFFERED, Evidence, Verdict, judge
from mptcplab.stack.mptcp.paths import Paths, subflow_path
from mptcplab.stack.mptcp.receive_buffer import ReceiveBuffer
from mptcplab.stack.mptcp.send_limits import HANDSHAKE, OVER
from mptcplab.stack.mptcp.session import Session
from mptcplab.stack.mptcp.subflow import MAPPING_KNOWN, NOT_TOLD, MptcpSubflow
from mptcplab.stack.mptcp.trains import Cause
from mptcplab.stack.path_managers.base import (
    AnnounceAddress,
    CloseSubflow,
    Command,
    LocalAddress,
    OpenSubflow,
    PathManager,
    PathView,
    RemoteAddress,
    RemoveAddress,
    SetPriority,
)
from mptcplab.stack.ready import NEVER_NS, Node, ReadyQueue
from mptcplab.stack.syn_queue import SynQueue
from mptcplab.stack.tcp.control_block import ControlBlock
from mptcplab.stack.tcp.report import ACKNOWLEDGED, DROPPED, RESET, SYN_ACK, THIRD_ACK, Report
from mptcplab.stack.tcp.rtt import RttEstimator
from mptcplab.stack.tcp.sender import Sender
from mptcplab.stack.tcp.state import (
    CAN_RECEIVE,
    CLOSE_WAIT,
    CLOSED,
    ESTABLISHED,
    SYN_SENT,
    SYNCHRONIZED,
    TIME_WAIT,
)
from mptcplab.stack.tcp.timers import Timers
from mptcplab.wire.fast_open import find_cookie
from mptcplab.wire.icmp import IcmpError
from mptcplab.wire.mptcp import (
    MAX_MAPPING_BYTES,
    RST_MIDDLEBOX,
    RST_MPTCP_ERROR,
    RST_PROHIBITED,
    RST_TOO_MUCH_OUTSTANDING,
    RST_UNSPECIFIED,
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)
from mptcplab.wire.segment import FIN, MAX_OPTION_BYTES, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

MAX_DSCP: Final = 63
"""RFC 2474 section 3: the field has six bits."""

UNMAPPED_LIMIT_BYTES: Final = 65_536
"""Least data without a mapping after which a subflow counts as broken (RFC 8684 3.3.1 says: the
receive window)."""


class Change:
    """What its stack is to find a connection by, or no longer: a subflow, or the token."""

    __slots__ = ("added", "connection", "subflow")

    def __init__(self, connection: Connection, subflow: MptcpSubflow | None, added: bool) -> None:
        self.connection = connection
        self.subflow = subflow
        """``None`` for the connection's token."""
        self.added = added


class Outputs:
    """What connections hand to their stack, each in order."""

    __slots__ = ("changes", "events", "segments")

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        """Segments that must leave whatever becomes of their subflow."""
        self.events: list[tuple[Connection, events.Event]] = []
        self.changes: list[Change] = []


class Connection(Node):
    """One connection, MPTCP or plain TCP."""

    __slots__ = (
        "_cause",
        "_dscp",
        "_host",
        "_next_subflow_id",
        "_outputs",
        "_readable",
        "_report",
        "_writable",
        "config",
        "congestion_group",
        "ending",
        "established",
        "inbound",
        "paths",
        "send",
        "session",
        "subflows",
        "syn_queue",
        "usable",
    )

    def __init__(
        self,
        host: HostView,
        queue: ReadyQueue,
        outputs: Outputs,
        config: StackConfig,
        is_client: bool,
        initial_local: bytes,
        initial_remote: RemoteAddress,
    ) -> None:
        super().__init__(queue)
        self._host: HostView = host
        self._outputs: Outputs = outputs
        self.config: StackConfig = config
        self._dscp: i64 = config.dscp
        self.session = Session(config, is_client)
        self.ending = Ending()
        self.established: bool = False
        """The handshake of the initial subflow is done: data may flow."""
        self.send = DataSender(config, config.scheduler(), self.session, self.ending)
        self.inbound = DataReceiver(config, self.session, self.ending)
        self.subflows: list[MptcpSubflow] = []
        self.usable: list[MptcpSubflow] = []
        """Those that may be given data, as the scheduler's view lists them."""
        self.congestion_group = CongestionGroup()
        self.paths = Paths(
            host,
            self.session,
            config.path_manager(),
            self.subflows,
            initial_local,
            initial_remote,
            config.add_addr_timeout_ns,
        )
        self.syn_queue: SynQueue | None = None
        """Where it stands while its own handshake, which a listener answers, is not done."""
        self._next_subflow_id: i64 = 0
        self._cause = Cause()
        self._report = Report()
        # Told for nearly every train, and always the same.
        self._readable: tuple[Connection, events.Event] = (self, events.DataReadable())
        self._writable: tuple[Connection, events.Event] = (self, events.DataWritable())

    # The application.

    def write(self, content: bytes | memoryview) -> int:
        """Give bytes to send; return how many were taken (``DataWritable`` tells when to go on).

        Raises ``ValueError`` after ``close`` or after lengths were written.
        """
        taken = self._may_write(len(content))
        if taken:
            view = self.send.view
            if view.train_bytes > MAX_MAPPING_BYTES:
                view.train_bytes = MAX_MAPPING_BYTES
            self.send.buffer.append(content if taken == len(content) else content[:taken])
            self._note_written(taken)
        return taken

    def write_length(self, length: int) -> int:
        """As ``write``, for ``length`` bytes whose content does not matter."""
        taken = self._may_write(length)
        if taken:
            self.send.buffer.append_length(taken)
            self._note_written(taken)
        return taken

    def _note_written(self, taken: i64) -> None:
        """The buffer has so much more; behind enough data it changes nothing now."""
        self.send.note_written(taken)
        if not self.send.had_plenty(taken):
            self.mark()

    def _may_write(self, length: int) -> int:
        send = self.send
        if send.finished or self.ending.closed_for is not None:
            raise ValueError("the stream is closed for writing")
        room = send.room_bytes()
        if room < length:
            send.write_short = True
            return room
        return length

    def read(self, limit: int = 1 << 30) -> bytes:
        """Take received bytes. Raises ``ValueError`` if the peer wrote lengths."""
        content = self.inbound.buffer.read(limit)
        if self.inbound.after_read(self.subflows):
            self.mark()
        return content

    def read_length(self, limit: int = 1 << 60) -> int:
        """Take received bytes, whatever they are, and return how many."""
        length = self.inbound.buffer.read_length(limit)
        if self.inbound.after_read(self.subflows):
            self.mark()
        return length

    def close(self) -> None:
        """Write no more; the stream ends once everything written is delivered. Reading goes on."""
        if not self.send.finished and self.ending.closed_for is None:
            self.send.finished = True
            self.mark()

    def abort(self, now_ns: i64) -> None:
        """End at once (RFC 8684 section 3.5, RFC 9293 section 3.10.5)."""
        self._abort(CloseReason.ABORTED, now_ns)
        self.mark()

    def set_backup(self, subflow_id: int, backup: bool) -> None:
        """Ask the peer to use a subflow only when no other works, or to use it again (MP_PRIO)."""
        self._set_priority(subflow_id, backup)
        self.mark()

    def close_subflow(self, subflow_id: int) -> None:
        """Close one subflow in order (FIN); what it carries is delivered first."""
        subflow = self.subflow(subflow_id)
        if subflow is not None:
            self._finish(subflow)
            self._refresh_usable()
            self.mark()

    def set_nodelay(self, nodelay: bool) -> None:
        """Send less than a segment at once, or as Nagle's algorithm says (RFC 9293 3.7.4)."""
        self.send.nagle = not nodelay
        self.mark()

    def set_dscp(self, dscp: int) -> None:
        """Mark what all subflows send from now on. Raises ``ValueError`` unless it is 0 to 63."""
        if not 0 <= dscp <= MAX_DSCP:
            raise ValueError(f"DSCP {dscp}: expected 0 to {MAX_DSCP}")
        self._dscp = dscp
        for subflow in self.subflows:
            subflow.tcp.dscp = dscp

    # What others read.

    @property
    def mptcp(self) -> bool:
        """Whether it speaks MPTCP: not plain TCP, from the start or after a fallback."""
        return self.session.mptcp

    @property
    def version(self) -> int:
        """The version of MPTCP, 0 or 1."""
        return self.session.version

    @property
    def fully_established(self) -> bool:
        """Whether the peer proved to have our key: joins may start (RFC 8684 section 3.1)."""
        return self.session.fully_established

    @property
    def fallback_reason(self) -> str:
        """Why it fell back; empty if it did not."""
        return self.session.fallback_reason

    @property
    def local_token(self) -> int:
        """Our token (RFC 8684 section 3.2)."""
        return self.session.local_token

    @property
    def initial_remote(self) -> RemoteAddress:
        """The peer's address of the initial subflow."""
        return self.paths.initial_remote

    @property
    def receive_buffer(self) -> ReceiveBuffer:
        """What was received and is not read."""
        return self.inbound.buffer

    @property
    def peer_finished(self) -> bool:
        """Whether the peer's stream has ended; what is buffered can still be read."""
        return self.ending.peer_finished

    @property
    def closed_for(self) -> CloseReason | None:
        """Why it is over; ``None`` while it is not."""
        return self.ending.closed_for

    def subflow(self, subflow_id: i64) -> MptcpSubflow | None:
        """Return the subflow of that number, unless it is gone."""
        for subflow in self.subflows:
            if subflow.subflow_id == subflow_id:
                return subflow
        return None

    def data_acked_bytes(self) -> int:
        """Return how many of our bytes the peer acknowledged at the data level."""
        return self.send.buffer.acked_offset

    def out_of_order_bytes(self) -> int:
        """Return what waits in reassembly, of the connection and of its subflows."""
        held = self.inbound.buffer.out_of_order_bytes()
        for subflow in self.subflows:
            held += subflow.held_bytes()
        return held

    # Opening, for the stack.

    def open(self, local: bytes, local_port: int, now_ns: i64) -> None:
        """Open the initial subflow."""
        remote = self.paths.initial_remote
        subflow = self._add_subflow(local, local_port, remote.address, remote.port, True, now_ns)
        subflow.tcp.open(self.inbound.buffer.largest_bytes(), now_ns)
        if self.config.fast_open and (not self.session.mptcp or self.session.version):
            known = self._host.fast_open().peer(local, remote.address, now_ns)
            if known is not None:
                opening = subflow.tcp.opening
                opening.cookie = known.cookie
                if known.cookie:  # tcp_send_syn_data: with room for all options
                    least = min(known.mss_bytes, subflow.tcp.path.payload_bytes())
                    opening.room_bytes = max(least - MAX_OPTION_BYTES, 0)
        self.mark()

    def accept(self, syn: Segment, syn_queue: SynQueue, now_ns: i64) -> None:
        """Answer the SYN of the initial subflow; the queue of half-open ones counts it.

        With our cookie in it the connection is open at once, and what it carries can be read
        (tcp_try_fastopen); a SYN that asks for one, or has a wrong one, is granted it.
        """
        subflow = self._add_subflow(syn.dst, syn.dst_port, syn.src, syn.src_port, False, now_ns)
        syn_queue.length += 1
        self.syn_queue = syn_queue
        self._emit(events.ConnectionAccepted())
        self._answer(subflow, syn, now_ns)
        cookie = find_cookie(syn) if self.config.fast_open else None
        if cookie is None:
            return
        right = self._host.fast_open().cookie_for(syn.src, syn.dst)
        if cookie == right:
            self._open_fast(subflow, syn, now_ns)
        else:
            subflow.tcp.opening.cookie = right

    def _open_fast(self, subflow: MptcpSubflow, syn: Segment, now_ns: i64) -> None:
        """Take in the data of a SYN, and be open (tcp_fastopen_create_child)."""
        tcp = subflow.tcp
        tcp.opening.fast = True
        self.send.open_window(syn.window)
        size = syn.payload_bytes
        if size > 0:
            payload: bytes | None = None if syn.payload is None else bytes(syn.payload)
            tcp.receiver.accept(1, 1 + size, payload, now_ns)
            self.inbound.deliver_unnumbered(size, payload)
        subflow.confirmed = True
        self._refresh_usable()
        self._become_established(subflow)
        if self.inbound.readable:
            self.inbound.readable = False
            self._outputs.events.append(self._readable)

    def accept_join(self, syn: Segment, join: MpJoinSyn, now_ns: i64) -> bool:
        """Answer the SYN of a further subflow; ``False`` if none is wanted (RFC 8684 3.2).

        The token, which everybody on a path can read, gets a SYN in; whether there is room is
        asked again when the third packet has shown the keys.
        """
        config = self.config
        if (
            not self._may_join()
            or (
                not config.allow_join_initial
                and not self.session.is_client
                and syn.dst == self.paths.initial_local
            )
            or not self._has_room_for_join(now_ns)
        ):
            return False
        half_open = [subflow for subflow in self.subflows if subflow.is_half_open_join()]
        if half_open and len(half_open) >= config.max_half_open_joins:
            self._forget_join(half_open[0], now_ns)
        subflow = self._add_subflow(syn.dst, syn.dst_port, syn.src, syn.src_port, False, now_ns)
        subflow.join.remote_id = join.address_id
        subflow.join.local_id = self.paths.local_id_of(syn.dst)
        subflow.join.remote_nonce = join.nonce
        subflow.join.local_nonce = self._host.random_bits(32)
        subflow.backup_remote = join.backup
        subflow.backup_local = self.paths.manager.is_backup(syn.dst)
        self._emit(events.SubflowOpening(subflow.subflow_id))
        self._answer(subflow, syn, now_ns)
        return True

    def _may_join(self) -> bool:
        """Say whether subflows may join now: the peer has our key, and data their mappings."""
        session = self.session
        if session.in_stream_order or session.tx_infinite or self.ending.both_done():
            return False
        # Our ADD_ADDR may be all that the client has heard, and lets it join: its echo may come
        # after the SYN.
        return session.fully_established or (session.mptcp and bool(self.paths.announcements))

    def _has_room_for_join(self, now_ns: i64) -> bool:
        return self._live_subflows() < self.config.max_subflows and self.paths.manager.accepts(
            self.paths.view(now_ns)
        )

    def _live_subflows(self) -> int:
        """Return how many subflows there are but those in TIME-WAIT, and half-open joins."""
        live = 0
        for subflow in self.subflows:
            if subflow.tcp.state is not TIME_WAIT and not subflow.is_half_open_join():
                live += 1
        return live

    def _forget_join(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """Drop a half-open join, and say nothing: its address proves nothing either."""
        subflow.tcp.close(CloseReason.ABORTED)
        self.handle_closed(subflow, now_ns)

    def _forget_joins(self, now_ns: i64) -> None:
        for subflow in list(self.subflows):
            if subflow.is_half_open_join():
                self._forget_join(subflow, now_ns)

    def _answer(self, subflow: MptcpSubflow, syn: Segment, now_ns: i64) -> None:
        tcp = subflow.tcp
        subflow.agree_mss(tcp.accept(syn, self.inbound.buffer.largest_bytes(), now_ns))
        self.send.fit_trains(tcp.sender.mss_bytes)
        tcp.answer_syn(now_ns)
        self.mark()

    def _add_subflow(
        self,
        local: bytes,
        local_port: int,
        remote: bytes,
        remote_port: int,
        active: bool,
        now_ns: i64,
    ) -> MptcpSubflow:
        """Make a subflow, not yet opened."""
        config = self.config
        host = self._host
        mss = host.mss_for(local)
        rtt = RttEstimator(config.initial_rto_ns, config.min_rto_ns, config.max_rto_ns)
        congestion = config.congestion(mss, self.congestion_group)
        sender = Sender(host.random_bits(32), rtt, congestion, Timers(), config.user_timeout_ns)
        if config.pacing:
            sender.pacing.enabled = True
        tcp = ControlBlock(
            config,
            local,
            local_port,
            remote,
            remote_port,
            sender,
            self._outputs.segments,
            active,
            host.random_bits(32),
            mss,
        )
        tcp.dscp = self._dscp
        tcp.path.mtu_bytes, tcp.timers.path_mtu_ns = host.path_mtu(local, remote, now_ns)
        subflow = MptcpSubflow(
            self._next_subflow_id,
            tcp,
            self.session,
            self.ending,
            self.inbound.buffer,
            self._cause,
        )
        tcp.receiver.note_window_growth(self.inbound.buffer.first_growth_bytes())
        self._next_subflow_id += 1
        self.subflows.append(subflow)
        self._outputs.changes.append(Change(self, subflow, added=True))
        return subflow

    # Arriving segments.

    def receive(self, subflow: MptcpSubflow, segment: Segment, now_ns: i64) -> None:
        """Take in a segment of one of our subflows (RFC 9293 section 3.10.7).

        TCP takes it as far as the acknowledgment; then come the MPTCP options and the window, which
        may be the connection's, then the text and the peer's FIN.
        """
        tcp = subflow.tcp
        self._cause.note(segment.spread_ns, now_ns)
        self.send.offered_bytes = -1
        if tcp.state is SYN_SENT:
            self._receive_in_syn_sent(subflow, segment, now_ns)
            return
        buffer = self.inbound.buffer
        window_bytes = buffer.edge_offset - buffer.rcv_nxt
        arrival = tcp.receive(segment, window_bytes, now_ns, self._report)
        if arrival is ACKNOWLEDGED or (
            arrival is THIRD_ACK and self._finish_passive_open(subflow, segment, now_ns)
        ):
            if self._after_acknowledgment(subflow, segment, now_ns) and (
                segment.payload_bytes or segment.flags & FIN or tcp.receiver.fin_seq >= 0
            ):
                self._receive_text(subflow, segment, now_ns)
        elif arrival is RESET:
            self._receive_reset(subflow, segment, now_ns)

    def _after_acknowledgment(self, subflow: MptcpSubflow, segment: Segment, now_ns: i64) -> bool:
        """Act upon a segment's acknowledgment and options; ``False`` to leave its text and FIN."""
        report = self._report
        if report.acked and (
            subflow.view.stale or not self.session.mptcp or self.session.tx_infinite
        ):
            self._after_ack(subflow, now_ns)
        if report.time_wait:
            self._after_time_wait(subflow, now_ns)
        if subflow.tcp.state is CLOSED:
            self.handle_closed(subflow, now_ns)
            return False
        if self.ending.closed_for is not None:
            subflow.note_late_data_fin(segment)
            return True
        if self.session.mptcp:
            return self._take_options(subflow, segment, report.seq, now_ns)
        self._take_plain_window(subflow, segment, report.seq)
        return True

    def _receive_text(self, subflow: MptcpSubflow, segment: Segment, now_ns: i64) -> None:
        """Take in a segment's text, if it has any, and the peer's FIN (RFC 9293 3.10.7.4)."""
        report = self._report
        seq = report.seq
        if segment.payload_bytes:
            end = seq + segment.payload_bytes
            text = segment.payload
            payload = text if text is None or isinstance(text, bytes) else bytes(text)
            ready = subflow.take_text(seq, end, payload, now_ns)
            if ready is None:
                self._deliver(subflow, seq, end, payload, now_ns)
            else:
                for start, stop, part in ready:
                    self._deliver(subflow, start, stop, part, now_ns)
        if (segment.flags & FIN or subflow.tcp.receiver.fin_seq >= 0) and subflow.tcp.take_fin(
            segment, seq, now_ns, report
        ):
            self._after_peer_fin(subflow, now_ns)
            if report.time_wait:
                self._after_time_wait(subflow, now_ns)

    def _receive_in_syn_sent(self, subflow: MptcpSubflow, segment: Segment, now_ns: i64) -> None:
        tcp = subflow.tcp
        arrival = tcp.receive_in_syn_sent(segment)
        if arrival is DROPPED:
            return
        if arrival is RESET:
            self._receive_reset(subflow, segment, now_ns)
            return
        subflow.agree_mss(tcp.take_syn(segment, self.inbound.buffer.largest_bytes(), now_ns))
        self.send.fit_trains(tcp.sender.mss_bytes)
        if arrival is not SYN_ACK:
            tcp.open_simultaneously(now_ns)
            return
        session = self.session
        if subflow.initial:
            judgment = handshake.judge_capable_syn_ack(session, segment, subflow.offers_mptcp())
            if judgment is Judgment.FALL_BACK:
                self._fall_back_in_handshake(subflow, Evidence.NO_CAPABLE, now_ns)
        elif session.mptcp:
            option = handshake.judge_join_syn_ack(session, subflow.join, segment)
            if option is None:
                subflow.refuse_syn_ack(now_ns)
                self.handle_closed(subflow, now_ns)
                return
            subflow.backup_remote = option.backup
        tcp.finish_active_open(segment, now_ns)
        if subflow.initial:
            if tcp.opening.cookie is not None:
                self._learn_of_fast_open(subflow, segment, now_ns)
            self.send.open_window(tcp.opening.acked_bytes + segment.window)
        self._after_established(subflow, now_ns)

    def _learn_of_fast_open(self, subflow: MptcpSubflow, answer: Segment, now_ns: i64) -> None:
        """Take in what a SYN/ACK says of the SYN's data and cookie (tcp_rcv_fastopen_synack).

        Data that it does not acknowledge are sent as if the SYN had not had them.
        """
        tcp = subflow.tcp
        opening = tcp.opening
        cookie = find_cookie(answer)
        acked_bytes = opening.acked_bytes
        lost = opening.sent_bytes > 0 and opening.timeouts > 0
        lost_ns = now_ns if lost and cookie is None and acked_bytes == 0 else -1
        mss_bytes = tcp.path.agreed_mss_bytes
        self._host.fast_open().note_answer(tcp.local, tcp.remote, cookie, mss_bytes, lost_ns)
        if acked_bytes > 0:
            session = self.session
            session.tx_syn_bytes = acked_bytes
            session.tx_numbers.leave_out(acked_bytes)
            self.send.skip(acked_bytes)

    def _finish_passive_open(self, subflow: MptcpSubflow, segment: Segment, now_ns: i64) -> bool:
        """Judge the third packet, and take in its acknowledgment; ``False`` to leave the rest."""
        session = self.session
        judgment = Judgment.ACCEPT
        if subflow.initial:
            in_order = self._report.seq == subflow.tcp.receiver.rcv_nxt
            judgment = handshake.judge_capable_ack(session, segment, in_order)
        elif session.mptcp:
            judgment = handshake.judge_join_ack(session, subflow.join, segment)
            if judgment is Judgment.ACCEPT and not self._has_room_for_join(now_ns):
                self._reset_for(subflow, RST_PROHIBITED, CloseReason.ABORTED, now_ns)
                return False
        if judgment is Judgment.IGNORE:
            return False
        if judgment is Judgment.RESET:
            self._reset_for(subflow, RST_MPTCP_ERROR, CloseReason.PROTOCOL, now_ns)
            return False
        if judgment is Judgment.FALL_BACK:
            self._fall_back_in_handshake(subflow, Evidence.NO_THIRD_CAPABLE, now_ns)
        subflow.tcp.finish_passive_open(segment, now_ns)
        if not subflow.initial:
            self._confirm(now_ns)  # the HMAC has shown that the peer has our key
        self._after_established(subflow, now_ns)
        return subflow.tcp.receive_ack(segment, now_ns, self._report) is ACKNOWLEDGED

    def _fall_back_in_handshake(
        self, subflow: MptcpSubflow, evidence: Evidence, now_ns: i64
    ) -> None:
        self._fall_back_to_tcp(evidence, now_ns)
        subflow.regain_option_space()
        self.send.fit_trains(subflow.tcp.sender.mss_bytes)

    def _receive_reset(self, subflow: MptcpSubflow, segment: Segment, now_ns: i64) -> None:
        """An acceptable RST: take in what it says (RFC 8684 sections 3.5 and 3.6), and close."""
        fast_close: MpFastclose | None = None
        reason = subflow.tcp.reason_for_reset()
        if self.session.mptcp:
            for option in segment.mptcp:
                if isinstance(option, MpTcpRst):
                    subflow.reset_reason = option.reason
                elif isinstance(option, MpFastclose):
                    fast_close = option
        subflow.tcp.close(reason)  # before all else: a RST is never answered (RFC 9293 3.5.2)
        if fast_close is not None:
            self.take_fast_close(fast_close, now_ns)
        self.handle_closed(subflow, now_ns)

    def _deliver(
        self, subflow: MptcpSubflow, start: i64, end: i64, payload: bytes | None, now_ns: i64
    ) -> None:
        """Hand on bytes that are in order on a subflow; see what is wrong where that stops."""
        inbound = self.inbound
        while True:
            evidence = inbound.deliver(subflow, start, end, payload)
            if inbound.readable:
                inbound.readable = False
                self._outputs.events.append(self._readable)
            if self.ending.peer_end_offset >= 0 and inbound.is_at_end():
                self._finish_peer(now_ns)
            if evidence is None:
                return
            stopped_at = inbound.stopped_at
            if payload is not None:
                payload = payload[stopped_at - start :]
            start = stopped_at
            if evidence is Evidence.BAD_CHECKSUM:
                if not self._survive_bad_checksum(subflow, now_ns):
                    return
            elif judge(self.session.mode, evidence, self._is_alone(subflow)) is Verdict.CHANGE:
                subflow.rx_delta = inbound.buffer.rcv_nxt - start
                self._fall_back_to_order(subflow, evidence, now_ns)
            else:
                self._keep_unmapped(subflow, start, end, payload, now_ns)
                return

    def _keep_unmapped(
        self, subflow: MptcpSubflow, start: i64, end: i64, payload: bytes | None, now_ns: i64
    ) -> None:
        """Bytes without a mapping wait for one, not for ever."""
        subflow.mappings.keep_unmapped(start, end, payload)
        limit = max(UNMAPPED_LIMIT_BYTES, self.inbound.buffer.size_bytes)
        if subflow.mappings.unmapped_bytes > limit:
            self._reset_for(subflow, RST_MIDDLEBOX, CloseReason.PROTOCOL, now_ns)

    # Errors in (ICMP).

    def handle_unreachable(self, subflow: MptcpSubflow, error: IcmpError, now_ns: i64) -> None:
        """A segment of a subflow did not get to the peer."""
        subflow.tcp.take_unreachable(error.problem, error.seq, now_ns)
        if subflow.tcp.state is CLOSED:
            self.handle_closed(subflow, now_ns)

    def limit_packets(self, local: bytes, remote: bytes, mtu_bytes: i64, expires_ns: i64) -> None:
        """The path between two addresses takes packets of so many bytes."""
        for subflow in self.subflows:
            tcp = subflow.tcp
            if tcp.local == local and tcp.remote == remote:
                if tcp.path.mtu_bytes != mtu_bytes:
                    self._emit(events.PathMtuReduced(subflow.subflow_id, mtu_bytes))
                tcp.limit_packets(mtu_bytes, expires_ns)
        self.send.offered_bytes = -1
        self.mark()

    # MPTCP options in.

    def _take_options(self, subflow: MptcpSubflow, segment: Segment, seq: i64, now_ns: i64) -> bool:
        """Take in a segment's options and window; ``False`` to leave its text and FIN."""
        session = self.session
        if not subflow.confirmed and not subflow.initial and subflow.tcp.state is ESTABLISHED:
            subflow.confirm_join()
            self._after_confirmed(subflow, now_ns)
        dss: Dss | None = None
        if subflow.told_delta != NOT_TOLD and not self._judge_told_mapping(
            subflow, segment, now_ns
        ):
            return False
        for option in segment.mptcp:
            if isinstance(option, Dss):
                dss = option
            elif not self._take_option(subflow, option, segment, now_ns):
                return False
        if (
            subflow.initial
            and (dss is None or session.mode is OFFERED)
            and not self._judge_options(subflow, segment, dss, now_ns)
        ):
            self._take_plain_window(subflow, segment, seq)
            return True
        if session.tx_infinite:
            self._take_plain_window(subflow, segment, seq)
        if dss is None:
            tcp = subflow.tcp
            if fallback.join_is_stripped(
                subflow.initial, subflow.saw_data_ack, segment, tcp.sender.snd_una, tcp.fin_seq
            ):
                self._reset_for(subflow, RST_MIDDLEBOX, CloseReason.PROTOCOL, now_ns)
                return False
            return True
        if dss.data_ack is not None:
            subflow.saw_data_ack = True
            subflow.bare_acks = False
            if not session.tx_infinite:
                # RFC 8684 section 3.7: after our infinite mapping only the subflow's ACKs count.
                window = segment.window << subflow.tcp.peer_window.scale
                self._take_data_ack(dss.data_ack, dss.data_ack_8, window, now_ns)
        if dss.dsn is not None:
            return self._take_mapping(subflow, dss, segment.payload_bytes > 0, now_ns)
        return True

    def _take_option(
        self, subflow: MptcpSubflow, option: MptcpOption, segment: Segment, now_ns: i64
    ) -> bool:
        """Take in an option other than DSS; ``False`` to ignore the rest of its segment."""
        session = self.session
        if isinstance(option, MpCapable):
            if not subflow.initial or not handshake.usable_capable(option, session.version):
                return True
            if session.mode is OFFERED and not session.is_client:
                window = segment.window << subflow.tcp.peer_window.scale
                self.send.open_window(self.send.buffer.acked_offset + window)
            if option.data_length is not None and segment.payload_bytes:
                checksum = -1 if option.checksum is None else option.checksum
                begin = session.rx_syn_bytes
                outcome = subflow.add_mapping(1 + begin, option.data_length, begin, checksum, False)
                return self._after_mapping(subflow, outcome, now_ns)
        elif isinstance(option, AddAddr):
            if option.version == session.version:
                self._take_address(option, subflow, now_ns)
        elif isinstance(option, RemoveAddr):
            self._take_removals(option.address_ids, now_ns)
        elif isinstance(option, MpPrio):
            self._take_priority(subflow, option)
        elif isinstance(option, MpJoinAck):
            # RFC 8684 section 3.2: it comes again until it is answered (check_fully_established).
            if not subflow.initial and not subflow.tcp.active:
                subflow.tcp.receiver.ack_now = True
        elif isinstance(option, MpFail):
            self._take_fail(subflow, now_ns)
        elif isinstance(option, MpFastclose):
            self.take_fast_close(option, now_ns)
        return self.ending.closed_for is None

    def take_fast_close(self, option: MpFastclose, now_ns: i64) -> None:
        """MP_FASTCLOSE: end at once, if it has our key (RFC 8684 section 3.5)."""
        if option.receiver_key == self.session.local_key:
            self._abort(CloseReason.FASTCLOSE, now_ns)

    def _take_priority(self, subflow: MptcpSubflow, option: MpPrio) -> None:
        """RFC 8684 section 3.3.8; version 0 alone may name all subflows of an address."""
        targets = [subflow]
        if option.address_id is not None:
            if self.session.version != 0:
                return
            targets = [item for item in self.subflows if item.join.remote_id == option.address_id]
        for target in targets:
            if target.backup_remote != option.backup:
                target.backup_remote = option.backup
                self._emit(
                    events.SubflowPriorityChanged(target.subflow_id, option.backup, by_peer=True)
                )
        self._refresh_usable()

    def _take_mapping(
        self, subflow: MptcpSubflow, dss: Dss, with_payload: bool, now_ns: i64
    ) -> bool:
        session = self.session
        dsn = dss.dsn
        assert dsn is not None
        offset = self.inbound.offset_of(dsn, dss.dsn_8)
        if dss.infinite:
            delta = offset - subflow.unwrap_ssn(dss.ssn)
            if not with_payload and (session.mode is FULL or session.mode is OFFERED):
                # Some say a length of 0 where there is no payload, and mean nothing by it. What
                # follows shows whether the peer has stopped mapping.
                subflow.told_delta = delta
                return True
            return self._take_infinite_mapping(subflow, delta, now_ns)
        if dss.dsn_8:
            session.ack_8 = True
        if (dss.checksum is not None) is not session.checksum:
            # RFC 8684 section 3.3.1: the checksum is there exactly if it was negotiated.
            self._reset_for(subflow, RST_MPTCP_ERROR, CloseReason.PROTOCOL, now_ns)
            return False
        length = dss.data_length
        if dss.data_fin:
            length -= 1
            subflow.data_fin_seen = True
            self._take_data_fin(offset + length, now_ns)
            if length == 0:
                subflow.tcp.receiver.ack_now = True
                return True
        checksum = -1 if dss.checksum is None else dss.checksum
        ssn = subflow.unwrap_ssn(dss.ssn)
        outcome = subflow.add_mapping(ssn, length, offset, checksum, dss.data_fin)
        return outcome == MAPPING_KNOWN or self._after_mapping(subflow, outcome, now_ns)

    def _after_mapping(self, subflow: MptcpSubflow, outcome: i64, now_ns: i64) -> bool:
        """Deliver what waited for a mapping; ``False`` if the mapping broke its subflow."""
        if outcome >= 0:
            self._reset_for(subflow, outcome, CloseReason.PROTOCOL, now_ns)
            return False
        if outcome != MAPPING_KNOWN and subflow.mappings.unmapped_bytes:
            for start, end, payload in subflow.mappings.take_unmapped():
                self._deliver(subflow, start, end, payload, now_ns)
        return True

    def _take_plain_window(self, subflow: MptcpSubflow, segment: Segment, seq: i64) -> None:
        """Plain TCP: the window is the subflow's, and may have shrunk (RFC 9293, MUST-34)."""
        tcp = subflow.tcp
        ack = tcp.sender.unwrap(segment.ack)
        if tcp.peer_window.is_update(seq, ack, tcp.sender.snd_una):
            window = segment.window << tcp.peer_window.scale
            self.send.move_window(ack + subflow.tx_delta + window)

    # Acknowledgments in.

    def _take_data_ack(self, data_ack: int, is_8: bool, window: i64, now_ns: i64) -> None:
        """Take in a DATA_ACK and the window that is relative to it (RFC 8684 section 3.3.4)."""
        send = self.send
        acked = send.buffer.acked_offset
        offset: i64 = unwrap(data_ack, self.session.tx_numbers.base, acked, is_8)
        if offset > (send.buffer.written_offset + 1 if self.ending.fin_sent else send.sent_offset):
            return  # what was not sent cannot be acknowledged
        if offset + window > send.window_end:
            send.move_window(offset + window)
        if offset > acked:
            self._advance_acked(offset, now_ns)

    def _take_plain_ack(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """Plain TCP: the subflow's acknowledgment is the stream's."""
        tcp = subflow.tcp
        una = tcp.sender.snd_una
        if 0 <= tcp.fin_seq < una:
            self.ending.end_acked()
            una = tcp.fin_seq
        offset = una + subflow.tx_delta
        if offset > self.send.buffer.acked_offset or self.ending.fin_acked:
            self._advance_acked(offset, now_ns)

    def _advance_acked(self, offset: i64, now_ns: i64) -> None:
        send = self.send
        released_bytes = offset - send.buffer.acked_offset
        send.acknowledge(offset)
        send.tune(self.usable)
        if self.session.mptcp and not self.session.tx_infinite:
            send.arm(self.usable, now_ns)
        if send.write_short:
            segment_bytes: i64 = 0
            if self.subflows:
                segment_bytes = self.subflows[0].tcp.sender.mss_bytes
            if send.offers_room(released_bytes, segment_bytes):
                self._outputs.events.append(self._writable)
        if send.finished and send.all_acked():
            self._advance_ending(now_ns)

    # What happens to subflows.

    def _refresh_usable(self) -> None:
        """Bring the list of subflows that may carry data up to date."""
        self.usable = [subflow for subflow in self.subflows if subflow.can_carry()]
        for subflow in self.usable:
            subflow.view.backup = subflow.backup
        self.send.view.subflows = [subflow.view for subflow in self.usable]

    def _after_established(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """The handshake of a subflow is done; a join we opened still waits to be confirmed."""
        subflow.note_established(now_ns)
        if not self.ending.both_done():
            self.ending.orphaned_ns = NEVER_NS
        self._refresh_usable()
        if subflow.initial:
            self._leave_syn_queue()
            if not self.session.mptcp:
                self.send.lengthen_trains()
            session = self.session
            if not self.established:
                self._become_established(subflow)
            elif session.mptcp:
                subflow.tcp.receiver.ack_now = True  # it says, as data would, that we have the key
            if session.mptcp and not session.is_client and session.peer_key_known:
                self._start_paths(now_ns)  # as Linux does: both keys are known
            return
        self.session.joined = True
        if subflow.confirmed:
            self._after_confirmed(subflow, now_ns)

    def _become_established(self, subflow: MptcpSubflow) -> None:
        """Data may flow."""
        self.established = True
        self._emit(events.ConnectionEstablished(self.session.mptcp))
        self._emit(events.SubflowEstablished(subflow.subflow_id))
        self.send.write_short = False
        self._emit(events.DataWritable())

    def _after_confirmed(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """A joined subflow may carry data."""
        self._refresh_usable()
        self._emit(events.SubflowEstablished(subflow.subflow_id))
        self._signal_data_fin()
        self._finish_half_closed()
        paths = self.paths
        if paths.started:
            manager = paths.manager
            view = paths.view(now_ns)
            self._carry_out(manager.on_subflow_established(view, subflow_path(subflow)), now_ns)

    def _after_ack(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """``snd_una`` moved."""
        if subflow.view.stale:
            subflow.view.stale = False
            self._emit(events.SubflowStale(subflow.subflow_id, stale=False))
        if not self.session.mptcp or self.session.tx_infinite:
            self._take_plain_ack(subflow, now_ns)

    def _after_rto(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """A retransmission timeout: let others carry what this one cannot (RFC 8684 3.3.6)."""
        view = subflow.view
        if subflow.tcp.sender.rtt.timeouts == 1:
            view.first_timeout_ns = now_ns
        if not view.stale and self._is_silent(subflow, now_ns):
            view.stale = True
            self._emit(events.SubflowStale(subflow.subflow_id, stale=True))
        if len(self.usable) > 1 and self.session.mptcp and not self.session.tx_infinite:
            self.send.reinject_all(subflow)
        self._give_up_silent(now_ns)

    def _is_silent(self, subflow: MptcpSubflow, now_ns: i64) -> bool:
        """Say whether a subflow has had so many timeouts that it counts as stale.

        Linux counts by the timer of the data level, which is 200 ms (TCP_RTO_MIN) once a subflow
        has timed out (mptcp_timeout_from_subflow), and only while another may do better.
        """
        config = self.config
        limit: i64 = config.stale_loss_count
        timeouts = subflow.tcp.sender.rtt.timeouts
        if limit == 0 or timeouts < 2:
            return False
        if timeouts > limit:
            return True
        others = [other for other in self.usable if other is not subflow and not other.view.stale]
        silent_ns = now_ns - subflow.view.first_timeout_ns
        return silent_ns > limit * config.min_rto_ns and any(
            other.tcp.sender.rtt.timeouts == 0 for other in others
        )

    def _after_peer_fin(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """The peer closes a subflow; in plain TCP that is the end of its stream."""
        session = self.session
        if session.in_stream_order or session.tx_infinite:
            self._take_data_fin(self.inbound.buffer.rcv_nxt, now_ns)
            return
        if closing.at_subflow_fin(self.ending, self._live_subflows()) is Action.FINISH_SUBFLOW:
            self._finish(subflow)
        else:
            self.ending.orphaned_ns = now_ns + self.config.close_timeout_ns
        self._refresh_usable()

    def _after_time_wait(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """A subflow is done but for TIME-WAIT, in which it lives on as TCP alone."""
        self._refresh_usable()
        self._after_subflow_end(subflow, CloseReason.FINISHED, now_ns)

    def _after_subflow_end(self, subflow: MptcpSubflow, reason: CloseReason, now_ns: i64) -> Action:
        """A subflow is CLOSED or in TIME-WAIT: see whether the connection goes on."""
        ending = self.ending
        action = closing.at_subflow_gone(ending, self.session.mode, self._live_subflows())
        if action is Action.END:
            self._end(CloseReason.FINISHED if ending.both_done() else reason, now_ns)
        elif action is Action.AWAIT_SUBFLOW:
            # Break before make: what is unacknowledged waits for a subflow to join.
            ending.orphaned_ns = now_ns + self.config.close_timeout_ns
            self.send.deadline_ns = NEVER_NS
        elif reason is CloseReason.FINISHED and ending.last_fins & 1 << subflow.subflow_id:
            ending.subflow_done = True
            self._give_up_silent(now_ns)
        return action

    def _give_up_silent(self, now_ns: i64) -> None:
        """Both streams are done: end stale subflows when the others are closed in order.

        RFC 8684 section 3.3.3 has their timeouts reduced, and lets a RST close them.
        """
        ending = self.ending
        if not ending.subflow_done or ending.closed_for is not None:
            return
        for subflow in self.subflows:
            if subflow.tcp.state is not TIME_WAIT and not subflow.view.stale:
                return
        self._end(CloseReason.FINISHED, now_ns)
        self._reset_leftovers(now_ns)

    def _reset_leftovers(self, now_ns: i64) -> None:
        """The connection is over: reset what is not in TIME-WAIT."""
        for subflow in list(self.subflows):
            tcp = subflow.tcp
            if tcp.state is not TIME_WAIT:
                has_data = tcp.sender.snd_una < tcp.fin_seq
                code = RST_TOO_MUCH_OUTSTANDING if has_data else RST_UNSPECIFIED
                self._reset_for(subflow, code, CloseReason.TIMEOUT, now_ns)

    def handle_closed(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """A subflow is CLOSED: others carry on, or the connection waits for one, or ends."""
        if subflow not in self.subflows:
            return
        session = self.session
        send = self.send
        if session.mptcp and not session.tx_infinite:
            send.reinject_all(subflow)
        send.outstanding.drop_carrier(1 << subflow.subflow_id)
        self.subflows.remove(subflow)
        self._outputs.changes.append(Change(self, subflow, added=False))
        self._refresh_usable()
        send.scheduler.on_subflow_closed(subflow.subflow_id)
        reason = subflow.tcp.close_reason or CloseReason.FINISHED
        code = subflow.reset_reason
        self._emit(events.SubflowClosed(subflow.subflow_id, reason, code if code >= 0 else None))
        action = self._after_subflow_end(subflow, reason, now_ns)
        paths = self.paths
        if action is not Action.NOTHING and paths.started and self._may_signal():
            failed = reason is not CloseReason.FINISHED
            path = subflow_path(subflow)
            commands = paths.manager.on_subflow_closed(paths.view(now_ns), path, failed)
            self._carry_out(commands, now_ns)

    def _finish(self, subflow: MptcpSubflow) -> None:
        """Close our direction of a subflow; what waits there goes to other subflows."""
        self.send.take_back(subflow)
        subflow.tcp.finish()

    def _reset(self, subflow: MptcpSubflow, reason: CloseReason, now_ns: i64) -> None:
        subflow.reset(reason, now_ns)
        self.handle_closed(subflow, now_ns)

    def _reset_for(
        self, subflow: MptcpSubflow, reset_code: i64, reason: CloseReason, now_ns: i64
    ) -> None:
        subflow.reset_for(reset_code, reason, now_ns)
        self.handle_closed(subflow, now_ns)

    # Addresses.

    def handle_local(self, local: LocalAddress, now_ns: i64) -> None:
        """One of the host's addresses came or went."""
        paths = self.paths
        if paths.started and self._may_signal():
            view = paths.view(now_ns)
            if local.up:
                paths.keep(view.local_id(local))
                self._carry_out(paths.manager.on_local_up(view, local), now_ns)
            else:
                self._carry_out(paths.manager.on_local_down(view, local), now_ns)
        self.mark()

    def resend_waiting(self, address: bytes, now_ns: i64) -> None:
        """What subflows from an address have last sent again leaves now."""
        for subflow in self.subflows:
            tcp = subflow.tcp
            if tcp.local == address and tcp.state in SYNCHRONIZED:
                tcp.sender.resend_waiting(now_ns)
        self.mark()

    def change_paths(
        self, change: Callable[[PathManager, PathView], list[Command]], now_ns: i64
    ) -> None:
        """Have the path manager act upon a change of what its host wants; one that is not at work
        yet is made anew.
        """
        paths = self.paths
        if not paths.started:
            paths.manager = self.config.path_manager()
        elif self._may_signal():
            self._carry_out(change(paths.manager, paths.view(now_ns)), now_ns)
        self.mark()

    def _confirm(self, now_ns: i64) -> None:
        """The peer proved to have our key: joins may start (RFC 8684 section 3.1)."""
        session = self.session
        if session.mode is OFFERED and session.peer_key_known:
            session.take(Evidence.CONFIRMED)
            self.send.lengthen_trains()
            self._start_paths(now_ns)
            commands = self.paths.waiting
            if commands:
                self.paths.waiting = []
                self._carry_out(commands, now_ns)

    def _start_paths(self, now_ns: i64) -> None:
        """Let the path manager begin: both keys are known, which sign its ADD_ADDRs."""
        paths = self.paths
        if not paths.started:
            paths.started = True
            self._carry_out(paths.manager.on_established(paths.view(now_ns)), now_ns)

    def _take_address(self, option: AddAddr, subflow: MptcpSubflow, now_ns: i64) -> None:
        paths = self.paths
        if option.echo:
            self._confirm(now_ns)
            paths.take_echo(option)
            return
        remote = paths.take_address(option, subflow)
        self._confirm(now_ns)  # a path manager that begins now knows the address, as Linux's does
        if remote is None:
            return
        self._emit(events.AddressAnnounced(option.address_id, option.address, option.port or 0))
        if paths.started:
            self._carry_out(paths.manager.on_remote_added(paths.view(now_ns), remote), now_ns)

    def _take_removals(self, address_ids: tuple[int, ...], now_ns: i64) -> None:
        paths = self.paths
        for address_id in address_ids:
            if paths.take_removal(address_id):
                self._emit(events.AddressRemoved(address_id))
                commands = paths.manager.on_remote_removed(paths.view(now_ns), address_id)
                self._carry_out(commands, now_ns, CloseReason.REMOVED)

    def _may_signal(self) -> bool:
        """Say whether MPTCP signals still have a meaning."""
        session = self.session
        return session.mptcp and not session.tx_infinite and self.ending.closed_for is None

    def _carry_out(
        self, commands: list[Command], now_ns: i64, reason: CloseReason = CloseReason.ABORTED
    ) -> None:
        """Do what the path manager ordered; ``reason`` is that of subflows that it closes."""
        paths = self.paths
        paths.note_wish()
        for command in commands:
            if not self._may_signal():
                break
            if isinstance(command, OpenSubflow):
                if self.session.fully_established:
                    self._open_subflow(command, now_ns)
                else:
                    paths.waiting.append(command)  # RFC 8684 section 3.1
            elif isinstance(command, AnnounceAddress):
                paths.announce(command, self.usable, now_ns)
            elif isinstance(command, RemoveAddress):
                paths.remove(command.address_id, self.usable)
            elif isinstance(command, CloseSubflow):
                subflow = self.subflow(command.subflow_id)
                if subflow is not None:
                    self._reset_for(subflow, RST_UNSPECIFIED, reason, now_ns)
            elif isinstance(command, SetPriority):
                self._set_priority(command.subflow_id, command.backup)
        paths.settle_due()

    def _open_subflow(self, command: OpenSubflow, now_ns: i64) -> None:
        if self._live_subflows() >= self.config.max_subflows:
            return
        host = self._host
        remote = command.remote
        local = command.local_address
        local_id = command.local_id
        if not local:
            local = host.source_for(remote.address)
            if not local:
                return
            local_id = self.paths.local_id_of(local)
        if len(local) != len(remote.address):
            return
        port = host.local_port(local, command.local_port, remote.address, remote.port)
        if port == 0:
            return
        subflow = self._add_subflow(local, port, remote.address, remote.port, True, now_ns)
        subflow.join.local_id = local_id
        subflow.join.remote_id = remote.address_id
        subflow.backup_local = command.backup or self.paths.manager.is_backup(local)
        subflow.join.local_nonce = host.random_bits(32)
        self._emit(events.SubflowOpening(subflow.subflow_id))
        subflow.tcp.open(self.inbound.buffer.largest_bytes(), now_ns)
        self.mark()

    def _set_priority(self, subflow_id: i64, backup: bool) -> None:
        """Make a subflow backup or regular, and tell the peer (MP_PRIO, RFC 8684 3.3.8)."""
        subflow = self.subflow(subflow_id)
        if subflow is None or subflow.backup_local == backup:
            return
        subflow.backup_local = backup
        subflow.view.backup = subflow.backup
        self.paths.signals.append((subflow, MpPrio(backup)))
        self._emit(events.SubflowPriorityChanged(subflow_id, backup, by_peer=False))

    # Falling back.

    def _is_alone(self, subflow: MptcpSubflow) -> bool:
        """Say whether all data of the stream have come, and go, in the order of one subflow."""
        return (
            subflow.initial
            and not self.session.joined
            and self.inbound.buffer.out_of_order_bytes() == 0
        )

    def _judge_options(
        self, subflow: MptcpSubflow, segment: Segment, dss: Dss | None, now_ns: i64
    ) -> bool:
        """See whether the peer still speaks MPTCP; ``False`` after a fallback for lack of it."""
        session = self.session
        sender = subflow.tcp.sender
        if session.mode is OFFERED:
            evidence = fallback.of_first_segments(session.is_client, segment, dss, sender.snd_una)
            if evidence is Evidence.CONFIRMED:
                self._confirm(now_ns)
            elif evidence is Evidence.FIRST_BARE:
                self._fall_back_to_tcp(evidence, now_ns)
                return False
        elif dss is None and not segment.mptcp and not segment.payload_bytes:
            # RFC 8684 section 3.3.2: an ACK may go without DATA_ACK once one came. Then only the
            # data-level timer shows that none comes any more.
            if not subflow.saw_data_ack:
                self._follow_bare_acks(subflow, now_ns)
            subflow.bare_acks = True
        return True

    def _judge_silence(self, now_ns: i64) -> None:
        """No DATA_ACK came in time: fall back if ACKs do come, but without options by now."""
        for subflow in self.subflows:
            if subflow.bare_acks and self._is_alone(subflow):
                self._follow_bare_acks(subflow, now_ns)
                return
            if subflow.bare_acks and self.send.head_arrived_on(subflow):
                self._reset_for(subflow, RST_MIDDLEBOX, CloseReason.PROTOCOL, now_ns)
                return

    def _follow_bare_acks(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """Fall back if the only subflow has data acknowledged that the connection has not."""
        tcp = subflow.tcp
        evidence = Evidence.BARE_ACKS
        if judge(
            self.session.mode, evidence, self._is_alone(subflow)
        ) is Verdict.CHANGE and fallback.acks_outrun_data_acks(
            tcp.sender.snd_una, subflow.tx_delta, tcp.fin_seq, self.send.buffer.acked_offset
        ):
            subflow.rx_delta = self.inbound.buffer.rcv_nxt - tcp.receiver.rcv_nxt
            self._fall_back_to_order(subflow, evidence, now_ns)

    def _judge_told_mapping(self, subflow: MptcpSubflow, segment: Segment, now_ns: i64) -> bool:
        """An infinite mapping came on an ACK: it holds if no DSS follows (RFC 8684 section 3.7)."""
        if segment.mptcp:
            for option in segment.mptcp:
                if isinstance(option, Dss):
                    subflow.told_delta = NOT_TOLD
            return True
        delta = subflow.told_delta
        subflow.told_delta = NOT_TOLD
        return not self._is_alone(subflow) or self._take_infinite_mapping(subflow, delta, now_ns)

    def _take_infinite_mapping(self, subflow: MptcpSubflow, delta: i64, now_ns: i64) -> bool:
        """The peer sent an infinite mapping; ``False`` if the subflow was reset for it."""
        session = self.session
        alone = subflow.initial and not session.joined
        verdict = judge(session.mode, Evidence.INFINITE_MAPPING, alone)
        if verdict is Verdict.IMPOSSIBLE:
            self._reset_for(subflow, RST_MPTCP_ERROR, CloseReason.PROTOCOL, now_ns)
            return False
        if verdict is Verdict.CHANGE:
            subflow.rx_delta = delta
            self._fall_back_to_order(subflow, Evidence.INFINITE_MAPPING, now_ns)
        return True

    def _take_fail(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """The peer found a bad checksum (RFC 8684 section 3.7).

        With one subflow: what is on it already stands as it is, and an infinite mapping that acts
        retroactively, from the last byte that was DATA_ACKed, covers it and all that follows.
        Nothing is sent again. Otherwise the peer closes the subflow with the RST that carried this.
        """
        session = self.session
        evidence = Evidence.FAIL_RECEIVED
        if judge(session.mode, evidence, self._is_alone(subflow)) is not Verdict.CHANGE:
            return
        if not session.in_stream_order:
            # Linux waits for an MP_FAIL in answer to its own, and resets if none comes.
            dsn = session.rx_numbers.at(self.inbound.buffer.rcv_nxt)
            self.paths.signals.append((subflow, MpFail(dsn)))
        acked = self.send.buffer.acked_offset
        self._send_in_order(subflow, evidence, now_ns)
        self._tell_infinite(subflow, acked)

    def _survive_bad_checksum(self, subflow: MptcpSubflow, now_ns: i64) -> bool:
        """A mapping's checksum failed: MP_FAIL; ``False`` if the subflow was reset for it.

        On the only subflow the stream goes on in the subflow's order, the changed bytes included:
        they are acknowledged to TCP, so that nobody will send them again (RFC 8684 section 3.7; so
        does Linux, which needs their DATA_ACK to go on).
        """
        session = self.session
        mapping = self.inbound.failed
        assert mapping is not None
        self._emit(events.ChecksumFailed(subflow.subflow_id))
        fail = MpFail(session.rx_numbers.at(mapping.offset))
        evidence = Evidence.BAD_CHECKSUM
        if judge(session.mode, evidence, self._is_alone(subflow)) is Verdict.CHANGE:
            session.take(evidence)
            subflow.rx_delta = mapping.offset - mapping.ssn
            self.paths.signals.append((subflow, fail))
            self.inbound.deliver_held(mapping)
            return True
        subflow.reset_option = fail
        subflow.reset_reason = RST_MIDDLEBOX
        self._reset(subflow, CloseReason.CHECKSUM, now_ns)
        return False

    def _fall_back_to_tcp(self, evidence: Evidence, now_ns: i64) -> None:
        """Be plain TCP from now on: the peer never spoke MPTCP, or options are removed."""
        session = self.session
        session.take(evidence)
        session.fallback_reason = evidence.value
        self._emit(events.FellBack(evidence.value))
        self._outputs.changes.append(Change(self, None, added=False))
        self.send.fall_back()
        self.ending.withdraw_end()
        self.paths.stop()
        self._forget_joins(now_ns)
        for subflow in self.subflows:
            self._take_plain_ack(subflow, now_ns)

    def _fall_back_to_order(self, subflow: MptcpSubflow, evidence: Evidence, now_ns: i64) -> None:
        """Mapped data stand as they are; from here on the subflow's order is the stream's.

        The peer is told at once, but for what it began itself.
        """
        if not self.session.tx_infinite:
            self._send_in_order(subflow, evidence, now_ns)
        else:
            self.session.take(evidence)
        for other in list(self.subflows):
            if other is not subflow:  # half open: only one is left to plain TCP
                self._reset(other, CloseReason.ABORTED, now_ns)
        if evidence is not Evidence.INFINITE_MAPPING:
            self._tell_infinite(subflow, self.send.sent_offset)

    def _send_in_order(self, subflow: MptcpSubflow, evidence: Evidence, now_ns: i64) -> None:
        """What we send has the order of one subflow from now on, without mappings."""
        session = self.session
        send = self.send
        session.take(evidence)
        session.fallback_reason = evidence.value
        send.fall_back()
        send.rewind_to_sent(subflow)
        subflow.tx_delta = send.sent_offset - subflow.tcp.sender.snd_nxt
        # The end of the stream is the subflow's FIN now.
        if self.ending.fin_acked:
            self._finish(subflow)
        else:
            self.ending.withdraw_end()
        self._emit(events.FellBack(evidence.value))
        self._outputs.changes.append(Change(self, None, added=False))
        self._take_plain_ack(subflow, now_ns)

    def _tell_infinite(self, subflow: MptcpSubflow, offset: i64) -> None:
        """Signal the infinite mapping from ``offset`` on at once, whether or not data follow.

        RFC 8684 section 3.7 asks for it where the path may drop options in one direction only: a
        peer that kept to MPTCP would send again what we now take for new.
        """
        mapping = subflow.infinite_mapping(offset, offset - subflow.tx_delta)
        self.paths.signals.append((subflow, mapping))

    # Ending.

    def _finish_sending(self, now_ns: i64) -> None:
        """Everything written was given out and the application closed: send the end."""
        if not self.established or self.ending.closed_for is not None:
            return
        self.ending.change(DataChange.END_SENT)
        if not self.session.mptcp or self.session.tx_infinite:
            for subflow in self.subflows:
                self._finish(subflow)
            self._refresh_usable()
            return
        self._signal_data_fin()
        self.send.arm(self.usable, now_ns)

    def _signal_data_fin(self) -> None:
        """Have every subflow send our DATA_FIN, if it is unacknowledged."""
        session = self.session
        if self.ending.waits_for_end_ack() and session.mptcp and not session.tx_infinite:
            end_offset = self.send.buffer.written_offset
            for subflow in self.usable:
                subflow.data_fin_offset = end_offset
                subflow.tcp.receiver.ack_now = True

    def _take_data_fin(self, offset: i64, now_ns: i64) -> None:
        """The peer's stream ends at ``offset`` (RFC 8684 section 3.3.3)."""
        self.inbound.note_end(offset)
        if self.inbound.is_at_end():
            self._finish_peer(now_ns)

    def _finish_peer(self, now_ns: i64) -> None:
        if self.ending.closed_for is not None:
            return
        self.ending.change(DataChange.PEER_ENDED)
        for subflow in self.subflows:
            subflow.tcp.receiver.ack_now = True
        self._emit(events.PeerFinished())
        self._advance_ending(now_ns)

    def _advance_ending(self, now_ns: i64) -> None:
        """Something was acknowledged or the peer finished: see what that leads to."""
        ending = self.ending
        if ending.tells_delivered():
            self._emit(events.AllDelivered())
        subflows = self.subflows
        peer_may_send = any(subflow.tcp.state in CAN_RECEIVE for subflow in subflows)
        live = self._live_subflows()
        action = closing.at_progress(ending, self.session.mode, live, peer_may_send)
        if action is Action.CLOSE_HALF_CLOSED:
            self._finish_half_closed()
        elif action is Action.END:
            self._end(CloseReason.FINISHED, now_ns)
        elif action is Action.CLOSE_SUBFLOWS:
            ending.orphaned_ns = now_ns + closing.FIN_TIMEOUT_NS
            self._forget_joins(now_ns)
            for subflow in list(subflows):
                if not subflow.confirmed:
                    self._reset(subflow, CloseReason.FINISHED, now_ns)
                    continue
                if subflow.can_carry():
                    ending.last_fins |= 1 << subflow.subflow_id
                self._finish(subflow)
            self._refresh_usable()

    def _finish_half_closed(self) -> None:
        """Close subflows that the peer has closed: others carry on, or there is nothing left."""
        for subflow in self.subflows:
            if subflow.tcp.state is CLOSE_WAIT:
                self._finish(subflow)
        self._refresh_usable()

    def _handle_orphan_timeout(self, now_ns: i64) -> None:
        ending = self.ending
        if ending.both_done():
            # RFC 8684 section 3.3.3 has the timeouts of subflows reduced by now.
            self._end(CloseReason.FINISHED, now_ns)
            self._reset_leftovers(now_ns)
            return
        action = closing.at_orphan_timeout(self._live_subflows(), self.send.is_idle())
        if action is Action.END:
            self._end(CloseReason.TIMEOUT, now_ns)
        elif action is Action.CLOSE_HALF_CLOSED:
            ending.orphaned_ns = NEVER_NS
            self._finish_half_closed()
        else:
            ending.orphaned_ns = now_ns + self.config.close_timeout_ns

    def _abort(self, reason: CloseReason, now_ns: i64) -> None:
        """Reset everything: with MP_FASTCLOSE in our RSTs where we abort (RFC 8684 section 3.5).

        The peer's own fast close is answered by plain RSTs.
        """
        if self.ending.closed_for is not None:
            return
        session = self.session
        tell = (
            reason is CloseReason.ABORTED
            and session.mptcp
            and session.peer_key_known
            and not session.tx_infinite
        )
        self._end(reason, now_ns)
        for subflow in list(self.subflows):
            if tell:
                subflow.reset_option = MpFastclose(session.peer_key)
            self._reset(subflow, reason, now_ns)

    def _end(self, reason: CloseReason, now_ns: i64) -> None:
        """The connection is over, and its token free; subflows in TIME-WAIT still answer."""
        if self.ending.closed_for is not None:
            return
        self.ending.close(reason)
        self.send.stop()
        self.paths.stop()
        self._leave_syn_queue()
        self._outputs.changes.append(Change(self, None, added=False))
        self._forget_joins(now_ns)
        self._emit(events.ConnectionClosed(reason))

    def _leave_syn_queue(self) -> None:
        """Its own handshake is done, or given up."""
        if self.syn_queue is not None:
            self.syn_queue.length -= 1
            self.syn_queue = None

    def is_over(self) -> bool:
        """Say whether it is closed and has no subflow left."""
        return self.ending.closed_for is not None and not self.subflows

    # Leaving segments.

    def poll_transmit(self, now_ns: i64) -> Segment | None:
        """Return the next segment of this connection, or ``None``.

        Signals go first, so that an ADD_ADDR is echoed before what it leads to.
        """
        if self.paths.signals:
            segment = self.paths.poll_signal(self.usable, now_ns)
            if segment is not None:
                return segment
        for subflow in self.subflows:
            # What poll_transmit looks for: rare, and asked for every segment.
            tcp = subflow.tcp
            if tcp.sender.queue.lost_bytes or tcp.sender.probe_due or tcp.fin_pending:
                segment = self._poll_due(subflow, now_ns)
                if segment is not None:
                    return segment
        send = self.send
        if send.backlogged:
            segment = send.poll_backlog(self.usable, now_ns)
            if segment is not None:
                return segment
        if send.is_finishing():
            segment = self._poll_end(now_ns)
            if segment is not None:
                return segment
        segment = send.poll_data(self.usable, now_ns)
        if segment is not None:
            return segment
        for subflow in self.subflows:
            if subflow.tcp.receiver.ack_now:
                segment = subflow.poll_ack(now_ns)
                if segment is not None:
                    return segment
        self._note_limit(now_ns)
        return None

    def _poll_due(self, subflow: MptcpSubflow, now_ns: i64) -> Segment | None:
        """Return what is due on a subflow; a tail loss probe takes new data where it can."""
        opening = subflow.tcp.opening
        if opening.room_bytes > 0 and opening.timeouts == 0 and subflow.tcp.state is SYN_SENT:
            # RFC 7413 section 4.2.1: the SYN carries what there is by now.
            opening.sent_bytes = min(opening.room_bytes, self.send.buffer.written_offset)
            if opening.sent_bytes > 0:
                opening.payload = self.send.buffer.content(0, opening.sent_bytes)
        segment = self.send.poll_probe(subflow, self.usable, now_ns)
        return subflow.poll_transmit(now_ns) if segment is None else segment

    def _note_limit(self, now_ns: i64) -> None:
        """Nothing more can be sent now: note why."""
        if self.established and self.ending.closed_for is None:
            self.send.note_limit(self.usable, now_ns)
        else:
            over = self.ending.closed_for is not None
            self.send.limits.note(OVER if over else HANDSHAKE, now_ns)

    def _poll_end(self, now_ns: i64) -> Segment | None:
        """The end of our stream is next: say it, and return a FIN where that says it."""
        self._finish_sending(now_ns)
        for subflow in self.subflows:
            segment = subflow.poll_transmit(now_ns)
            if segment is not None:
                return segment
        return None

    # Timers.

    def next_deadline_ns(self) -> i64:
        """Return the earliest timer of the connection and its subflows."""
        send = self.send
        deadline = send.deadline_ns
        for subflow in self.subflows:
            subflow_deadline = subflow.tcp.timers.earliest_ns()
            if subflow_deadline < deadline:
                deadline = subflow_deadline
        if send.persist_ns < deadline:
            deadline = send.persist_ns
        if self.ending.orphaned_ns < deadline:
            deadline = self.ending.orphaned_ns
        if self.paths.started and self._may_signal():
            paths_deadline = self.paths.next_deadline_ns()
            if paths_deadline < deadline:
                deadline = paths_deadline
        return deadline

    def handle_timeout(self, now_ns: i64) -> None:
        """Do what is due; nothing if nothing is."""
        send = self.send
        report = self._report
        for subflow in list(self.subflows):
            if subflow.tcp.timers.earliest_ns() <= now_ns:
                subflow.handle_timeout(send.window_is_closed(), now_ns, report)
                if report.timed_out:
                    self._after_rto(subflow, now_ns)
                if subflow.tcp.state is CLOSED:
                    self.handle_closed(subflow, now_ns)
        if send.deadline_ns <= now_ns:
            self._judge_silence(now_ns)
        if send.deadline_ns <= now_ns:
            if send.fin_timeouts > self.config.retries:
                self._abort(CloseReason.TIMEOUT, now_ns)
                return
            send.handle_timeout(self.usable)
            self._signal_data_fin()
            send.arm(self.usable, now_ns)
        if send.persist_ns <= now_ns:
            self._probe_window(now_ns)
        paths = self.paths
        if paths.started and self._may_signal() and paths.repeat_announcements(now_ns):
            self._carry_out(paths.manager.on_timeout(paths.view(now_ns)), now_ns)
        if self.ending.orphaned_ns <= now_ns:
            self._handle_orphan_timeout(now_ns)

    def _probe_window(self, now_ns: i64) -> None:
        """Send a probe on every subflow, and the next one later.

        A closed window alone never ends a subflow (RFC 9293 section 3.8.6.1), but a peer that
        leaves probes unanswered is gone (Linux's tcp_probe_timer).
        """
        send = self.send
        if not send.needs_probe(self.usable):
            return
        for subflow in self.usable:
            if subflow.tcp.window_probes.unanswered >= self.config.retries:
                self._reset(subflow, CloseReason.TIMEOUT, now_ns)
            else:
                subflow.send_window_probe(now_ns)
        send.arm_persist(self.usable, now_ns)

    # Events out.

    def _emit(self, event: events.Event) -> None:
        self._outputs.events.append((self, event))
