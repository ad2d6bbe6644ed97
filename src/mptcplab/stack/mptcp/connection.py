"""A connection: one byte stream each way over any number of subflows (RFC 8684).

Plain TCP is the case of one subflow without Multipath TCP: the same code, with subflow sequence
numbers for the stream's. Inside, the stream is counted in *offsets* from its first byte; data
sequence numbers appear on the wire only: DSN = IDSN + 1 + offset.

The application uses ``write``, ``write_length``, ``read``, ``read_length``, ``close`` and
``abort``; all else is called by :class:`~mptcplab.stack.stack.Stack` and by the subflows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion.base import CongestionGroup
from mptcplab.stack.events import CloseReason
from mptcplab.stack.mptcp import closing, fallback, handshake, reading, sending
from mptcplab.stack.mptcp.data_sender import DataSender
from mptcplab.stack.mptcp.dsn import MASK32, Numbers, limited, unwrap
from mptcplab.stack.mptcp.paths import Paths
from mptcplab.stack.mptcp.receive_buffer import ReceiveBuffer
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.path_managers.base import RemoteAddress
from mptcplab.stack.tcp.receiver import NEVER_NS
from mptcplab.stack.tcp.rtt import RttEstimator
from mptcplab.stack.tcp.sender import Sender
from mptcplab.wire.keys import token_and_idsn
from mptcplab.wire.mptcp import (
    CAPABLE_CHECKSUM,
    CAPABLE_NO_JOIN,
    MAX_MAPPING_BYTES,
)
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

    from mptcplab.stack.stack import Stack


class Connection:
    """One connection, MPTCP or plain TCP."""

    __slots__ = (
        "_readable",
        "_readable_told",
        "ack_8",
        "checksum",
        "closed_for",
        "config",
        "congestion_group",
        "data_fin_offset",
        "established",
        "fallback_reason",
        "fully_established",
        "infinite_ssn",
        "initial_local",
        "initial_remote",
        "is_client",
        "joined",
        "local_key",
        "local_token",
        "mptcp",
        "next_pending",
        "next_subflow_id",
        "next_unsure",
        "orphaned_ns",
        "paths",
        "peer_denies_initial",
        "peer_finished",
        "peer_key",
        "peer_key_known",
        "peer_token",
        "pending",
        "receive_buffer",
        "rx_infinite",
        "rx_numbers",
        "send",
        "stack",
        "subflows",
        "timer_unsure",
        "tx_infinite",
        "tx_numbers",
        "usable",
        "version",
        "wake_ns",
    )

    def __init__(
        self,
        stack: Stack,
        config: StackConfig,
        is_client: bool,
        initial_local: bytes,
        initial_remote: RemoteAddress,
    ) -> None:
        self.stack: Stack = stack
        self.config: StackConfig = config
        self.is_client: bool = is_client
        self.initial_local: bytes = initial_local
        self.initial_remote: RemoteAddress = initial_remote
        self.mptcp: bool = config.mptcp
        """False for plain TCP, from the start or after a fallback."""
        self.version: i64 = config.version
        self.checksum: bool = config.checksum
        self.local_key: int = 0
        self.local_token: int = 0
        self.peer_key: int = 0
        self.peer_key_known: bool = False
        self.peer_token: int = 0
        self.tx_numbers = Numbers()
        """Data sequence numbers of what we send, and of what the peer does."""
        self.rx_numbers = Numbers()
        self.ack_8: bool = True
        """Send DATA_ACKs of 8 bytes."""
        self.peer_denies_initial: bool = False
        self.established: bool = False
        self.fully_established: bool = False
        self.fallback_reason: str = ""
        self.tx_infinite: bool = False
        """We fell back in mid-connection: what we send is mapped for ever by one rule."""
        self.rx_infinite: bool = False
        self.infinite_ssn: i64 = -1
        self.send = DataSender(config, config.scheduler())
        self.receive_buffer = ReceiveBuffer(
            config.receive_buffer_bytes, config.receive_buffer_max_bytes
        )
        self.data_fin_offset: i64 = -1
        """Where the peer's stream ends, -1 while unknown."""
        self.peer_finished: bool = False
        self.closed_for: CloseReason | None = None
        self.subflows: list[MptcpSubflow] = []
        self.usable: list[MptcpSubflow] = []
        """Those that may be given data, as the scheduler's view lists them."""
        self.next_subflow_id: i64 = 0
        self.joined: bool = False
        """A further subflow was established once, if only for the peer: data may go elsewhere."""
        self.congestion_group = CongestionGroup()
        self.paths = Paths(self, config.path_manager())
        self.orphaned_ns: i64 = NEVER_NS
        """When a connection without subflows ends."""
        self.wake_ns: i64 = NEVER_NS
        """The stack's notes: the earliest timer, whether it may have changed, and whether there
        may be something to send."""
        self.timer_unsure: bool = False
        self.next_unsure: Connection | None = None
        self.pending: bool = False
        self.next_pending: Connection | None = None
        self._readable_told: bool = False
        self._readable = events.DataReadable(self)

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
            self.stack.touch(self)
        return taken

    def write_length(self, length: int) -> int:
        """As ``write``, for ``length`` bytes whose content does not matter."""
        taken = self._may_write(length)
        if taken:
            self.send.buffer.append_length(taken)
            self.stack.touch(self)
        return taken

    def read(self, limit: int = 1 << 30) -> bytes:
        """Take received bytes. Raises ``ValueError`` if the peer wrote lengths."""
        content = self.receive_buffer.read(limit)
        self._after_read()
        return content

    def read_length(self, limit: int = 1 << 60) -> int:
        """Take received bytes, whatever they are, and return how many."""
        length = self.receive_buffer.read_length(limit)
        self._after_read()
        return length

    def close(self) -> None:
        """Write no more; the stream ends once everything written is delivered. Reading goes on."""
        if not self.send.finished and self.closed_for is None:
            self.send.finished = True
            self.stack.touch(self)

    def abort(self, now_ns: i64) -> None:
        """End at once (RFC 8684 section 3.5, RFC 9293 section 3.10.5)."""
        closing.abort(self, CloseReason.ABORTED, now_ns)
        self.stack.touch(self)

    def set_backup(self, subflow_id: int, backup: bool) -> None:
        """Ask the peer to use a subflow only when no other works, or to use it again (MP_PRIO)."""
        self.paths.set_priority(subflow_id, backup)
        self.stack.touch(self)

    def close_subflow(self, subflow_id: int) -> None:
        """Close one subflow in order (FIN); what it carries is delivered first."""
        subflow = self.subflow(subflow_id)
        if subflow is not None:
            subflow.finish()
            self.refresh_usable()
            self.stack.touch(self)

    def _may_write(self, length: int) -> int:
        send = self.send
        if send.finished or self.closed_for is not None:
            raise ValueError("the stream is closed for writing")
        room = send.room_bytes()
        if room < length:
            send.write_short = True
            return room
        return length

    def _after_read(self) -> None:
        buffer = self.receive_buffer
        if buffer.read_offset == buffer.rcv_nxt:
            self._readable_told = False
        if not self.peer_finished:
            reading.open_window(self)

    # What measurements read.

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
        held = self.receive_buffer.out_of_order_bytes()
        for subflow in self.subflows:
            held += subflow.held_bytes()
        return held

    # Identity.

    def set_local_key(self, key: int) -> None:
        """Take our key, from which token and IDSN follow."""
        self.local_key = key
        self.local_token, idsn = token_and_idsn(key, self.version)
        self.tx_numbers.begin_after(idsn)

    def set_peer_key(self, key: int, flags: int) -> None:
        """Take the peer's key and flags (RFC 8684 section 3.1)."""
        self.peer_key = key
        self.peer_key_known = True
        self.peer_token, idsn = token_and_idsn(key, self.version)
        self.rx_numbers.begin_after(idsn)
        self.take_flags(flags)

    def take_flags(self, flags: int) -> None:
        """Take the flags of the peer's MP_CAPABLE."""
        self.checksum = self.checksum or bool(flags & CAPABLE_CHECKSUM)
        self.peer_denies_initial = self.version != 0 and bool(flags & CAPABLE_NO_JOIN)

    def capable_flags(self) -> int:
        """Return the flags of our MP_CAPABLE: A once either side asks for the checksum."""
        return handshake.capable_flags(self.checksum, self.config.allow_join_initial, self.version)

    def local_id_of(self, address: bytes) -> int:
        """Return the address identifier of one of our addresses in this connection."""
        if address == self.initial_local:
            return 0
        for local in self.stack.local_addresses:
            if local.address == address:
                return local.address_id
        return 255

    # Subflows.

    def add_subflow(
        self,
        local: bytes,
        local_port: int,
        remote: bytes,
        remote_port: int,
        active: bool,
    ) -> MptcpSubflow:
        """Make a subflow, not yet opened."""
        config = self.config
        stack = self.stack
        mss = stack.mss_for(local)
        rtt = RttEstimator(config.initial_rto_ns, config.min_rto_ns, config.max_rto_ns)
        congestion = config.congestion(mss, self.congestion_group)
        sender = Sender(stack.random.getrandbits(32), rtt, congestion)
        sender.pacing = config.pacing
        subflow = MptcpSubflow(
            self,
            self.next_subflow_id,
            config,
            local,
            local_port,
            remote,
            remote_port,
            sender,
            stack.outbox,
            active,
            stack.random.getrandbits(32),
            mss,
        )
        self.next_subflow_id += 1
        self.subflows.append(subflow)
        stack.register(subflow)
        return subflow

    def set_subflow_mss(self, subflow: MptcpSubflow, mss_bytes: i64) -> None:
        """The payload per packet is agreed: start congestion control for it."""
        sender = subflow.sender
        if self.send.view.train_bytes < mss_bytes:
            self.send.view.train_bytes = mss_bytes  # a train is a segment at least
        if sender.mss_bytes == mss_bytes:
            return
        sender.congestion.close()
        sender.congestion = self.config.congestion(mss_bytes, self.congestion_group)
        sender.mss_bytes = mss_bytes
        subflow.view.congestion = sender.congestion

    def refresh_usable(self) -> None:
        """Bring the list of subflows that may carry data up to date."""
        self.usable = [subflow for subflow in self.subflows if subflow.can_carry()]
        for subflow in self.usable:
            subflow.view.backup = subflow.backup
        self.send.view.subflows = [subflow.view for subflow in self.usable]

    def on_subflow_established(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """The handshake of a subflow is done; a join we opened still waits to be confirmed."""
        self.orphaned_ns = NEVER_NS
        self.refresh_usable()
        if subflow.initial:
            self.established = True
            if not self.mptcp:
                self.send.lengthen_trains()
            self.emit(events.ConnectionEstablished(self, self.mptcp))
            self.emit(events.SubflowEstablished(self, subflow.subflow_id))
            self.send.write_short = False
            self.emit(events.DataWritable(self))
            return
        self.joined = True
        if subflow.confirmed:
            self.on_subflow_confirmed(subflow, now_ns)

    def on_subflow_confirmed(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """A joined subflow may carry data."""
        self.refresh_usable()
        self.emit(events.SubflowEstablished(self, subflow.subflow_id))
        closing.signal_data_fin(self)
        closing.finish_half_closed(self)
        self.paths.handle_established(subflow, now_ns)

    def on_subflow_fin(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """The peer closes a subflow; in plain TCP that is the end of its stream."""
        if not self.mptcp or self.rx_infinite or self.tx_infinite:
            self.handle_data_fin(self.receive_buffer.rcv_nxt, now_ns)
        else:
            closing.after_subflow_fin(self, subflow, now_ns)

    def on_subflow_timeout(self, subflow: MptcpSubflow) -> None:
        """A retransmission timeout: let others carry what this one cannot (RFC 8684 3.3.6)."""
        view = subflow.view
        limit = self.config.stale_loss_count
        if limit and not view.stale and subflow.sender.rtt.backoff > limit:
            view.stale = True
            self.emit(events.SubflowStale(self, subflow.subflow_id, stale=True))
        if len(self.usable) > 1 and self.mptcp and not self.tx_infinite:
            self.send.reinject_all(subflow)

    def on_subflow_recovered(self, subflow: MptcpSubflow) -> None:
        """A stale subflow had something acknowledged."""
        subflow.view.stale = False
        self.emit(events.SubflowStale(self, subflow.subflow_id, stale=False))

    def on_subflow_closed(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """A subflow is CLOSED: others carry on, or the connection waits for one, or ends."""
        if subflow not in self.subflows:
            return
        if self.mptcp and not self.tx_infinite:
            self.send.reinject_all(subflow)
        self.send.outstanding.drop_carrier(1 << subflow.subflow_id)
        self.subflows.remove(subflow)
        self.stack.unregister(subflow)
        self.refresh_usable()
        self.send.scheduler.on_subflow_closed(subflow.subflow_id)
        reason = subflow.close_reason or CloseReason.FINISHED
        code = subflow.reset_reason
        self.emit(
            events.SubflowClosed(self, subflow.subflow_id, reason, code if code >= 0 else None)
        )
        closing.after_subflow(self, subflow, reason, now_ns)

    def on_subflow_time_wait(self) -> None:
        """A subflow is done but for TIME-WAIT."""
        self.refresh_usable()
        closing.settle_end(self)

    # Data in.

    def unwrap_dsn(self, dsn: int, is_8: bool) -> i64:
        """Return the stream offset of one of the peer's data sequence numbers."""
        return limited(unwrap(dsn, self.rx_numbers.base, self.receive_buffer.rcv_nxt, is_8))

    def settle_fully(self, now_ns: i64) -> None:
        """The peer proved to have our key: joins may start (RFC 8684 section 3.1)."""
        if not self.fully_established and self.peer_key_known:
            self.fully_established = True
            self.send.lengthen_trains()
            closing.signal_data_fin(self)  # the handshake's own segments had no room for it
            self.paths.start(now_ns)

    def data_ack_wire(self) -> int:
        """Return our DATA_ACK for the wire."""
        received = self.receive_buffer.rcv_nxt
        if self.peer_finished:
            received += 1
        number = self.rx_numbers.at(received)
        return number if self.ack_8 else number & MASK32

    def handle_data(self, offset: i64, end: i64, payload: bytes | None, now_ns: i64) -> None:
        """Payload arrived on some subflow, in its order."""
        buffer = self.receive_buffer
        if 0 <= self.data_fin_offset < end:
            # Nothing comes after the end of the stream.
            if offset >= self.data_fin_offset:
                return
            end = self.data_fin_offset
            if payload is not None:
                payload = payload[: end - offset]
        gained = buffer.insert(offset, end, payload)
        if gained:
            if not self._readable_told:
                self._readable_told = True
                self.emit(self._readable)
            if buffer.rcv_nxt == self.data_fin_offset:
                self._finish_peer(now_ns)

    def handle_data_fin(self, offset: int, now_ns: i64) -> None:
        """The peer's stream ends at ``offset`` (RFC 8684 section 3.3.3)."""
        if self.peer_finished or offset < self.receive_buffer.rcv_nxt:
            return
        self.data_fin_offset = offset
        if offset == self.receive_buffer.rcv_nxt:
            self._finish_peer(now_ns)

    def _finish_peer(self, now_ns: i64) -> None:
        self.peer_finished = True
        for subflow in self.subflows:
            subflow.receiver.ack_now = True
        self.emit(events.PeerFinished(self))
        closing.advance(self, now_ns)

    # Acknowledgments in.

    def handle_data_ack(self, data_ack: int, is_8: bool, window: int, now_ns: i64) -> None:
        """Take in a DATA_ACK and the window that is relative to it (RFC 8684 section 3.3.4)."""
        send = self.send
        acked = send.buffer.acked_offset
        offset = unwrap(data_ack, self.tx_numbers.base, acked, is_8)
        if offset > (send.buffer.written_offset + 1 if send.fin_sent else send.sent_offset):
            return  # what was not sent cannot be acknowledged
        if offset + window > send.window_end:
            send.open_window(offset + window)
        if offset > acked:
            self._advance_acked(offset, now_ns)

    def handle_plain_ack(self, subflow: MptcpSubflow, now_ns: i64) -> None:
        """Plain TCP: the subflow's acknowledgment is the stream's."""
        sender = subflow.sender
        una = sender.snd_una
        if subflow.fin_seq >= 0 and una > subflow.fin_seq:
            self.send.fin_acked = True
            una = subflow.fin_seq
        offset = una + subflow.tx_delta
        if offset > self.send.buffer.acked_offset or self.send.fin_acked:
            self._advance_acked(offset, now_ns)

    def _advance_acked(self, offset: i64, now_ns: i64) -> None:
        send = self.send
        send.acknowledge(offset)
        send.tune(self.usable)
        if self.mptcp and not self.tx_infinite:
            send.arm(self.usable, now_ns)
        if send.write_short and send.room_bytes() * 3 >= send.size_bytes:
            send.write_short = False
            self.emit(events.DataWritable(self))
        if send.finished and send.all_acked():
            closing.advance(self, now_ns)

    # Output.

    def poll_transmit(self, now_ns: i64) -> Segment | None:
        """Return the next segment of this connection, or ``None``."""
        subflows = self.subflows
        for subflow in subflows:
            # What poll_transmit looks for: rare, and asked for every segment.
            if subflow.sender.queue.lost_bytes or subflow.probe_due or subflow.fin_pending:
                segment = subflow.poll_transmit(now_ns)
                if segment is not None:
                    return segment
        if self.paths.signals:
            segment = self.paths.poll_signal(now_ns)
            if segment is not None:
                return segment
        segment = sending.poll_data(self, now_ns)
        if segment is not None:
            return segment
        for subflow in subflows:
            if subflow.receiver.ack_now:
                segment = subflow.poll_ack(now_ns)
                if segment is not None:
                    return segment
        return None

    # Timers.

    def next_deadline_ns(self) -> i64:
        """Return the earliest timer of the connection and its subflows."""
        deadline = self.send.deadline_ns
        for subflow in self.subflows:
            subflow_deadline = subflow.next_deadline_ns()
            if subflow_deadline < deadline:
                deadline = subflow_deadline
        if self.send.persist_ns < deadline:
            deadline = self.send.persist_ns
        if self.orphaned_ns < deadline:
            deadline = self.orphaned_ns
        if self.paths.started:
            paths_deadline = self.paths.next_deadline_ns()
            if paths_deadline < deadline:
                deadline = paths_deadline
        return deadline

    def handle_timeout(self, now_ns: i64) -> None:
        """Do what is due; nothing if nothing is."""
        for subflow in list(self.subflows):
            if subflow.next_deadline_ns() <= now_ns:
                subflow.handle_timeout(now_ns)
        send = self.send
        if send.deadline_ns <= now_ns:
            fallback.judge_silence(self, now_ns)
        if send.deadline_ns <= now_ns:
            if send.fin_timeouts > self.config.retries:
                closing.abort(self, CloseReason.TIMEOUT, now_ns)
                return
            send.handle_timeout(self.usable)
            closing.signal_data_fin(self)
            send.arm(self.usable, now_ns)
        if send.persist_ns <= now_ns:
            send.probe_window(self.usable, now_ns)
        self.paths.handle_timeout(now_ns)
        if self.orphaned_ns <= now_ns:
            closing.handle_orphan_timeout(self, now_ns)

    # Events out.

    def emit(self, event: events.Event) -> None:
        """Hand an event to whoever polls the stack."""
        self.stack.events.append(event)
