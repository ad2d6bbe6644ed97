"""The sending half of a connection's stream: what goes next, and what must go again elsewhere.

Data stay here until the peer acknowledges them at the data level (RFC 8684 section 3.3.5): a
subflow's acknowledgment is not enough. The scheduler picks the subflow; this class tells it what
is pending (ranges to reinject first, then new data within the peer's window) and carries its order
out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.config import StackConfig
from mptcplab.stack.mptcp.ending import Ending
from mptcplab.stack.mptcp.outstanding import Outstanding, RangeSet
from mptcplab.stack.mptcp.send_buffer import SendBuffer
from mptcplab.stack.mptcp.send_limits import (
    APPLICATION,
    AVOIDANCE,
    BACKUP,
    HEAD_OF_LINE_LOST,
    HEAD_OF_LINE_SLOW,
    NO_SUBFLOW,
    OVER,
    PENALISED,
    RECEIVE_WINDOW,
    RECOVERY,
    SCHEDULER,
    SEND_BUFFER,
    SLOW_START,
    TAIL,
    TIMEOUT,
    SendLimits,
)
from mptcplab.stack.mptcp.session import Session
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.mptcp.trains import CommonLimits
from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.schedulers.base import (
    Allotment,
    ConnectionView,
    Scheduler,
    SubflowView,
    sendable_bytes,
)
from mptcplab.stack.tcp.sender import CA_LOSS, CA_RECOVERY
from mptcplab.wire.checksum import dss_checksum, ones_sum
from mptcplab.wire.mptcp import MAX_MAPPING_BYTES
from mptcplab.wire.segment import PSH, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

MAX_PERSIST_BACKOFF: Final = 10
"""Doublings of the interval between window probes, which the longest RTO limits as well."""

WRITABLE_DIVISOR: Final = 3
"""The part of the send buffer that is free when an application that waits is told (Linux's
sk_stream_min_wspace: half of what is used)."""

HELD_DIVISOR: Final = 4
"""The part of a full window or buffer that has arrived and waits behind missing bytes, from which
on these are what holds the connection back: paths with one round trip hold next to nothing so."""

SLOWER_FACTOR: Final = 2
"""From so many round trips of an idle subflow on, that of another is what it waits for."""

MAX_DATA_BACKOFF: Final = 6
"""Doublings of the data-level retransmission timer."""


class DataSender:
    """Send buffer, window, outstanding pieces and pending reinjections of one connection."""

    __slots__ = (
        "_backoff",
        "_common",
        "_ending",
        "_session",
        "backlogged",
        "buffer",
        "config",
        "deadline_ns",
        "fin_timeouts",
        "finished",
        "last_train_bytes",
        "limits",
        "nagle",
        "offered_bytes",
        "outstanding",
        "persist_backoff",
        "persist_ns",
        "reinject",
        "reinjected_bytes",
        "scheduler",
        "sent_offset",
        "size_bytes",
        "view",
        "window_end",
        "write_short",
    )

    def __init__(
        self, config: StackConfig, scheduler: Scheduler, session: Session, ending: Ending
    ) -> None:
        self.config: StackConfig = config
        self.scheduler: Scheduler = scheduler
        self._session: Session = session
        self._ending: Ending = ending
        self.buffer = SendBuffer()
        self.size_bytes: i64 = config.send_buffer_bytes
        self._common = CommonLimits()
        self.outstanding = Outstanding()
        self.reinject = RangeSet()
        self.view = ConnectionView()
        self.view.train_bytes = min(config.train_bytes, MAX_MAPPING_BYTES)
        """One mapping a train; more once ``lengthen_trains`` says so."""
        self.backlogged: bool = False
        """Something waits in the backlog of a subflow, or did when last looked."""
        self.sent_offset: i64 = 0
        self.window_end: i64 = 0
        """Right edge of the peer's window."""
        self.finished: bool = False
        """The application writes no more."""
        self.fin_timeouts: int = 0
        """Data-level timeouts in a row with nothing but the DATA_FIN unacknowledged."""
        self.write_short: bool = False
        """A write found no room; the application waits to be told."""
        self.offered_bytes: i64 = -1
        """What of the room the application is to see, after it was told of room; -1 for all."""
        self.reinjected_bytes: i64 = 0
        self.limits = SendLimits()
        self.last_train_bytes: i64 = 0
        """How long the train was that left last."""
        self.deadline_ns: i64 = NEVER_NS
        """Data-level retransmission timer."""
        self._backoff: i64 = 0
        self.nagle: bool = config.nagle
        self.persist_ns: i64 = NEVER_NS
        """When the peer's closed window is probed."""
        self.persist_backoff: i64 = 0

    def lengthen_trains(self) -> None:
        """Let a train of lengths stand for several mappings: the handshake is done."""
        if self.config.train_bytes > self.view.train_bytes and self.buffer.counting:
            self.view.train_bytes = self.config.train_bytes

    def fit_trains(self, mss_bytes: i64) -> None:
        """A train is a segment at least."""
        if self.view.train_bytes < mss_bytes:
            self.view.train_bytes = mss_bytes

    # The application's side.

    def room_bytes(self) -> i64:
        """Return how much the application may write now."""
        room = self.size_bytes - self.buffer.held_bytes()
        if 0 <= self.offered_bytes < room:
            return self.offered_bytes
        if room < 0:
            return 0
        return room

    def note_written(self, size_bytes: i64) -> None:
        """The application wrote so much."""
        if self.offered_bytes >= 0:
            self.offered_bytes -= size_bytes

    def offers_room(self, released_bytes: i64, segment_bytes: i64) -> bool:
        """Say whether to tell an application that waits: a third is free (sk_stream_is_writeable).

        An ACK train releases ``released_bytes`` one after another, and the application writes as
        soon as there is enough, which is a segment more than just enough: it does not see what
        came after that.
        """
        self.offered_bytes = -1
        room = self.room_bytes()
        enough = self.size_bytes // WRITABLE_DIVISOR
        if room < enough:
            return False
        if self.config.trains_per_window > 0:
            before = room - released_bytes
            self.offered_bytes = (before if before > enough else enough) + segment_bytes
        self.write_short = False
        return True

    def tune(self, subflows: list[MptcpSubflow]) -> None:
        """Let the buffer hold twice what all windows take (Linux's tcp_sndbuf_expand)."""
        limit = self.config.send_buffer_max_bytes
        if limit <= self.size_bytes:
            return
        wanted = 0
        for subflow in subflows:
            wanted += 2 * subflow.tcp.sender.congestion.cwnd_bytes
        if wanted > self.size_bytes:
            self.size_bytes = wanted if wanted < limit else limit

    def had_plenty(self, written_bytes: i64) -> bool:
        """Say whether so much was unsent that what was just written changes nothing now."""
        unsent = self.buffer.written_offset - self.sent_offset
        return unsent - written_bytes >= self.view.train_bytes

    def is_idle(self) -> bool:
        """Say whether nothing waits to be sent or acknowledged."""
        buffer = self.buffer
        return self.sent_offset >= buffer.written_offset and buffer.acked_offset >= self.sent_offset

    def skip(self, size_bytes: i64) -> None:
        """So much of the stream, from its beginning, went with our SYN and is acknowledged."""
        self.sent_offset = size_bytes
        self.buffer.release(size_bytes)

    def all_sent(self) -> bool:
        """Say whether everything written was given to some subflow."""
        return self.sent_offset >= self.buffer.written_offset

    def all_acked(self) -> bool:
        """Say whether everything written is acknowledged at the data level."""
        return self.buffer.acked_offset >= self.buffer.written_offset

    # Acknowledgments.

    def acknowledge(self, offset: i64) -> None:
        """Everything before ``offset`` is acknowledged at the data level."""
        written = self.buffer.written_offset
        if offset > written:
            self._ending.end_acked()
            offset = written
        if offset > self.buffer.acked_offset:
            self.buffer.release(offset)
            self.outstanding.release(offset)
            if self.reinject:
                self.reinject.remove_before(offset)
            if self.sent_offset < offset:
                self.sent_offset = offset  # rewound by a fallback, but delivered after all
        self._backoff = 0
        self.fin_timeouts = 0
        self.deadline_ns = NEVER_NS

    def arm(self, subflows: list[MptcpSubflow], now_ns: i64) -> None:
        """Start the data-level timer if it should run and does not.

        As Linux's mptcp_set_timeout: the longest RTO of the subflows, doubled as it fires.
        """
        if self.deadline_ns != NEVER_NS:
            return
        if self.buffer.acked_offset >= self.sent_offset and (
            self._ending.fin_acked or not self._ending.fin_sent
        ):
            return  # no DATA_ACK is due
        longest_ns = 0
        for subflow in subflows:
            rto_ns = subflow.tcp.sender.rtt.rto_ns
            if rto_ns > longest_ns and not subflow.view.stale:
                longest_ns = rto_ns
        if longest_ns == 0:
            longest_ns = self.config.initial_rto_ns
        self.deadline_ns = now_ns + (longest_ns << self._backoff)

    def handle_timeout(self, subflows: list[MptcpSubflow]) -> None:
        """No DATA_ACK came: queue the oldest piece again, for a subflow with nothing in flight.

        One that still has data in flight retransmits itself; a second copy behind them on the
        same subflow would only add load (Linux's mptcp_subflow_get_retrans).
        """
        self.deadline_ns = NEVER_NS
        if self._backoff < MAX_DATA_BACKOFF:
            self._backoff += 1
        head = self.outstanding.head()
        if head is None:
            self.fin_timeouts += 1
            return
        for subflow in subflows:
            if subflow.tcp.sender.queue.out_bytes == 0:
                end = min(head.end, head.start + self.view.train_bytes)
                self.reinject.add(head.start, end)
                return

    def head_arrived_on(self, subflow: MptcpSubflow) -> bool:
        """Say whether a subflow's ACKs cover the oldest data, for which no DATA_ACK came."""
        head = self.outstanding.head()
        if head is None or not head.carriers >> subflow.subflow_id & 1:
            return False
        for record in subflow.tcp.sender.queue.records():
            start = record.offset + record.seq - record.map_ssn
            if record.map_length and start <= head.start < start + record.end - record.seq:
                return False
        return subflow.backlog.waiting_bytes == 0

    # The peer's window.

    def open_window(self, edge: i64) -> None:
        """The peer takes data up to offset ``edge``; edges never move back (RFC 8684 3.3.4)."""
        if edge > self.window_end:
            self.move_window(edge)

    def move_window(self, edge: i64) -> None:
        """The peer takes data up to offset ``edge``, which may be less than it said before."""
        if edge > self.window_end:
            self.persist_ns = NEVER_NS
            self.persist_backoff = 0
            common = self._common
            if edge - self.buffer.acked_offset > common.largest_window_bytes:
                common.largest_window_bytes = edge - self.buffer.acked_offset
        self.window_end = edge

    def arm_persist(self, usable: list[MptcpSubflow], now_ns: i64) -> None:
        """A closed window and nothing in flight: probe it (RFC 9293 section 3.8.6.1)."""
        if (
            self.persist_ns != NEVER_NS
            or self.window_end > self.sent_offset
            or self.all_sent()
            or not usable
        ):
            return
        for subflow in usable:
            if subflow.tcp.sender.queue.out_bytes:
                return
        rto_ns = usable[0].tcp.sender.rtt.rto_ns << self.persist_backoff
        self.persist_ns = now_ns + min(rto_ns, self.config.max_rto_ns)

    def window_is_closed(self) -> bool:
        """Say whether the peer's window takes nothing beyond what it acknowledged."""
        return self.window_end <= self.buffer.acked_offset

    def needs_probe(self, usable: list[MptcpSubflow]) -> bool:
        """The timer of the closed window expired: say whether there is still data to probe for."""
        self.persist_ns = NEVER_NS
        if self.all_sent() or not usable:
            return False
        self.persist_backoff = min(self.persist_backoff + 1, MAX_PERSIST_BACKOFF)
        return True

    # Fallback and ending.

    def fall_back(self) -> None:
        """Repeat nothing at the data level any more."""
        self.reinject.clear()
        self.deadline_ns = NEVER_NS

    def rewind_to_sent(self, subflow: MptcpSubflow) -> None:
        """Take what waits in a subflow's backlog for not sent: the one subflow sends in order."""
        for start, _ in subflow.backlog.take_all():
            restart = max(start, self.buffer.acked_offset)
            if restart < self.sent_offset:
                self.outstanding.rewind(restart)
                self.sent_offset = restart

    def stop(self) -> None:
        """Stop the timers: the connection is over."""
        self.persist_ns = NEVER_NS
        self.deadline_ns = NEVER_NS

    # Scheduling.

    def poll_backlog(self, usable: list[MptcpSubflow], now_ns: i64) -> Segment | None:
        """Return the next of what subflows were given earlier, if a window has opened for it."""
        self.backlogged = False
        for subflow in usable:
            if subflow.backlog.waiting_bytes:
                segment = self._poll_backlog_of(subflow, usable, now_ns)
                if segment is not None:
                    self.backlogged = True
                    return segment
                if subflow.backlog.waiting_bytes:
                    self.backlogged = True
        return None

    def _poll_backlog_of(
        self, subflow: MptcpSubflow, usable: list[MptcpSubflow], now_ns: i64
    ) -> Segment | None:
        start, end = subflow.backlog.first(self.buffer.acked_offset)
        if start == end:
            return None
        subflow.refresh_view(self._refresh_common(subflow), now_ns)
        view = subflow.view
        view.queued_bytes = 0  # it is the queue itself that asks for room
        length = sendable_bytes(view, end - start, self.view.train_bytes)
        if length <= 0:
            return None
        subflow.backlog.remove_to(start + length)
        return self._send_on(subflow, usable, start, start + length, now_ns)

    def poll_probe(
        self, subflow: MptcpSubflow, usable: list[MptcpSubflow], now_ns: i64
    ) -> Segment | None:
        """Return new data as a tail loss probe, whatever the congestion window says, or ``None``.

        RFC 8985 section 7.3 prefers them to repeated ones, within the peer's window. A subflow has
        those that it was given and, where it is alone, all; others are the scheduler's to give.
        """
        if not subflow.tcp.sender.may_probe() or subflow not in usable:
            return None
        start, end = subflow.backlog.first(self.buffer.acked_offset)
        waiting = end > start
        if not waiting:
            if len(usable) > 1 or self.reinject:
                return None
            start, end = self.sent_offset, self.buffer.written_offset
        if end > self.window_end:
            end = self.window_end
        if end > start + subflow.tcp.sender.mss_bytes:
            end = start + subflow.tcp.sender.mss_bytes
        if end <= start:
            return None
        if waiting:
            subflow.backlog.remove_to(end)
        else:
            self._note_given(subflow, start, end)
            self.scheduler.on_probe(subflow.subflow_id, end)
        subflow.view.in_flight_bytes = subflow.tcp.sender.in_flight_bytes()
        segment = self._send_on(subflow, usable, start, end, now_ns)
        subflow.tcp.sender.note_probe(now_ns)
        return segment

    def is_finishing(self) -> bool:
        """Say whether the end of the stream is what is to be sent next, after ``poll_backlog``."""
        return (
            self.finished and not self._ending.fin_sent and not self.backlogged and self.all_sent()
        )

    def poll_data(self, usable: list[MptcpSubflow], now_ns: i64) -> Segment | None:
        """Return the next segment with data that the scheduler orders, or ``None``."""
        if self.is_idle():
            return None
        while True:
            allotment = self._next_allotment(usable, now_ns)
            if allotment is None:
                self.arm_persist(usable, now_ns)
                return None
            segment = self._carry_out(allotment, usable, now_ns)
            if segment is not None:
                return segment

    def _carry_out(
        self, allotment: Allotment, usable: list[MptcpSubflow], now_ns: i64
    ) -> Segment | None:
        """Send what can leave now and queue the rest."""
        view = allotment.subflow
        subflow = _subflow_of(usable, view)
        offset, end = allotment.offset, allotment.end_offset
        self._note_given(subflow, offset, end)
        stop = end
        if view.queued_bytes:
            stop = offset
        elif end - offset > view.train_room_bytes or end - offset > view.window_room_bytes():
            stop = offset + sendable_bytes(view, end - offset, self.view.train_bytes)
        if stop < end:
            subflow.backlog.add(stop, end)
            self.backlogged = True
        return self._send_on(subflow, usable, offset, stop, now_ns) if stop > offset else None

    def _send_on(
        self,
        subflow: MptcpSubflow,
        usable: list[MptcpSubflow],
        offset: i64,
        end: i64,
        now_ns: i64,
    ) -> Segment:
        """Give stream data the subflow's next sequence numbers, and return the segment."""
        session = self._session
        sender = subflow.tcp.sender
        payload = self.buffer.content(offset, end)
        ssn = sender.snd_nxt
        size = end - offset
        self.last_train_bytes = size
        if (
            sender.queue.out_bytes == 0
            and sender.last_send_ns
            and now_ns - sender.last_send_ns > sender.rtt.rto_ns
        ):
            sender.congestion.restart_after_idle(now_ns)
        record = sender.record_new(ssn + size, payload, subflow.view.in_flight_bytes, now_ns)
        if session.mptcp:
            record.offset = offset
            record.map_ssn = ssn
            if session.tx_infinite:
                if session.infinite_ssn < 0:
                    session.infinite_ssn = ssn
            else:
                record.map_length = size
                if session.checksum:
                    dsn = session.tx_numbers.at(offset)
                    total = 0 if payload is None else ones_sum(payload)
                    record.checksum = dss_checksum(dsn, subflow.wire_ssn(ssn), size, total)
                self.arm(usable, now_ns)
        train = subflow.make_train(record, now_ns)
        if train.segment_size_bytes == 0 and end < self.buffer.written_offset:
            train.flags &= ~PSH  # more follows; only bursts end with it (__tcp_transmit_skb)
        return train

    def reinject_all(self, subflow: MptcpSubflow) -> None:
        """Queue for others what only this subflow carries and has not had acknowledged.

        With checksums, that is all of a mapping whose end is missing: the peer may not take any of
        it, though the subflow has acknowledged its beginning (RFC 8684 section 3.3.1).
        """
        self.take_back(subflow)
        carrier = 1 << subflow.subflow_id
        acked = self.buffer.acked_offset
        for record in subflow.tcp.sender.queue.records():
            if record.map_ssn == 0 or record.map_length == 0:
                continue
            start = record.offset + record.seq - record.map_ssn
            end = start + record.end - record.seq
            if self._session.checksum:
                start = record.offset
            if start < acked:
                start = acked
            position = start
            while position < end:
                piece = self.outstanding.at(position)
                if piece is None:
                    break
                stop = piece.end if piece.end < end else end
                if piece.carriers == carrier:
                    self.reinject.add(position, stop)
                position = stop

    def take_back(self, subflow: MptcpSubflow) -> None:
        """Queue for others what waits in the subflow's backlog."""
        acked = self.buffer.acked_offset
        for start, end in subflow.backlog.take_all():
            if end > acked:
                self.reinject.add(start if start > acked else acked, end)

    def _next_allotment(self, usable: list[MptcpSubflow], now_ns: i64) -> Allotment | None:
        """Ask the scheduler what to send now on which subflow."""
        if not usable:
            return None
        buffer = self.buffer
        reinjects = bool(self.reinject)
        if not reinjects:
            if self.sent_offset >= buffer.written_offset or self.sent_offset >= self.window_end:
                # Nothing may be sent for the first time; a scheduler may want to repeat something.
                if len(usable) < 2 or buffer.acked_offset >= self.sent_offset:
                    return None
            elif (self.nagle and self._nagle_holds(usable)) or (
                self.window_end < buffer.written_offset and self._window_is_silly(usable)
            ):
                return None
        view = self._refresh(usable, now_ns)
        if reinjects:
            start, end = self.reinject.first()
            piece = self.outstanding.at(start)
            view.pending_offset = start
            view.pending_end_offset = end if piece is None or piece.end > end else piece.end
            view.pending_is_new = False
            view.pending_carriers = 0 if piece is None else piece.carriers
        else:
            view.pending_offset = self.sent_offset
            view.pending_end_offset = buffer.written_offset
            view.pending_is_new = True
            view.pending_carriers = 0
        allotment = self.scheduler.next_allotment(view)
        session = self._session
        if allotment is None or reinjects or (session.mptcp and not session.tx_infinite):
            return allotment
        return self._in_order(allotment)

    def _in_order(self, allotment: Allotment) -> Allotment | None:
        """Return an allotment of what comes next: without mappings, nothing else can be told."""
        start = self.sent_offset
        if allotment.offset == start:
            return allotment
        end = start + (allotment.end_offset - allotment.offset)
        for bound in (self.buffer.written_offset, self.window_end):
            if end > bound:
                end = bound
        return Allotment(allotment.subflow, start, end) if end > start else None

    def _note_given(self, subflow: MptcpSubflow, offset: i64, end: i64) -> None:
        """Account for data that a subflow was given."""
        carrier = 1 << subflow.subflow_id
        if offset >= self.sent_offset:
            self.outstanding.append(offset, end, carrier)
            self.sent_offset = end
            return
        self.outstanding.carry(offset, end, carrier)
        self.reinjected_bytes += end - offset
        if self.reinject:
            self.reinject.remove(offset, end)

    def _refresh(self, usable: list[MptcpSubflow], now_ns: i64) -> ConnectionView:
        view = self.view
        buffer = self.buffer
        view.now_ns = now_ns
        common = self._refresh_common(usable[0])
        for subflow in usable:
            subflow.refresh_view(common, now_ns)
        view.acked_offset = buffer.acked_offset
        view.sent_offset = self.sent_offset
        view.written_offset = buffer.written_offset
        view.window_end_offset = self.window_end
        view.send_buffer_full = self.write_short
        head = self.outstanding.head()
        if head is None:
            view.head_end_offset = buffer.acked_offset
            view.head_carriers = 0
        else:
            view.head_end_offset = head.end
            view.head_carriers = head.carriers
        return view

    def _refresh_common(self, subflow: MptcpSubflow) -> CommonLimits:
        """Return what all subflows have in common, of which this is one."""
        common = self._common
        common.window_bytes = self.window_end - self.buffer.acked_offset
        common.buffer_bytes = self.size_bytes
        common.train_bytes = self.view.train_bytes
        common.compare(subflow.tcp.sender.congestion.group)
        return common

    # What holds it back.

    def note_limit(self, usable: list[MptcpSubflow], now_ns: i64) -> None:
        """Nothing more can be sent now: note why."""
        buffer = self.buffer
        written = buffer.written_offset
        if self.sent_offset >= written and not self.backlogged and not self.reinject:
            for subflow in usable:
                subflow.tcp.sender.note_no_data()
            if self.finished:
                self.limits.note(self._why_not_over(usable), now_ns)
            elif self.write_short:
                self._note_full(SEND_BUFFER, usable, now_ns)
            else:
                self.limits.note(APPLICATION, now_ns)
        elif not usable:
            self.limits.note(NO_SUBFLOW, now_ns)
        elif self._window_blocks(usable):
            self._note_full(RECEIVE_WINDOW, usable, now_ns)
        else:
            self.limits.note(self._why_no_room(usable, now_ns), now_ns)

    def _why_not_over(self, usable: list[MptcpSubflow]) -> i64:
        """The application writes no more, and everything was sent: return what goes on."""
        if self._ending.fin_acked or self.buffer.acked_offset >= self.buffer.written_offset:
            return OVER
        reason: i64 = TAIL
        for subflow in usable:
            sender = subflow.tcp.sender
            if sender.ca_state == CA_LOSS:
                reason = TIMEOUT
            elif sender.ca_state == CA_RECOVERY and reason != TIMEOUT:
                reason = RECOVERY
        return reason

    def _window_blocks(self, usable: list[MptcpSubflow]) -> bool:
        """Say whether it is the peer's window that keeps new data from being sent."""
        room = self.window_end - self.sent_offset
        if self.reinject or self.backlogged or self.window_end >= self.buffer.written_offset:
            return False
        if room <= 0 or self._window_is_silly(usable):
            return True
        for subflow in usable:
            view = subflow.view
            if room < view.worthwhile_bytes and view.window_room_bytes() >= room:
                return True
        return False

    def _note_full(self, reason: i64, usable: list[MptcpSubflow], now_ns: i64) -> None:
        """A window or buffer is full: see whether by what one subflow has not delivered yet.

        It is where a good part of what fills it has arrived and waits behind missing bytes, or
        where the subflow that carries these is much slower than one that has nothing to send.
        """
        head = self.outstanding.head()
        if len(usable) < 2 or head is None:
            self.limits.note(reason, now_ns)
            return
        held = self.sent_offset - self.buffer.acked_offset
        unacked = held
        idle_ns = NEVER_NS
        blocking: MptcpSubflow | None = None
        for subflow in usable:
            sender = subflow.tcp.sender
            queue = sender.queue
            held -= queue.out_bytes - queue.sacked_bytes + subflow.backlog.waiting_bytes
            if head.carriers >> subflow.subflow_id & 1:
                if blocking is None:
                    blocking = subflow
            elif queue.out_bytes == 0 and not subflow.backup and sender.rtt.srtt_ns < idle_ns:
                idle_ns = sender.rtt.srtt_ns
        if blocking is None:
            self.limits.note(reason, now_ns)
            return
        sender = blocking.tcp.sender
        repairs = sender.ca_state >= CA_RECOVERY or sender.queue.lost_bytes > 0
        if HELD_DIVISOR * held >= unacked:
            blocks = True
        elif idle_ns != NEVER_NS:
            blocks = repairs or sender.rtt.srtt_ns >= SLOWER_FACTOR * idle_ns
        else:
            blocks = False
        if blocks:
            reason = HEAD_OF_LINE_LOST if repairs else HEAD_OF_LINE_SLOW
            self.limits.note(reason, now_ns, blocking.subflow_id)
        else:
            self.limits.note(reason, now_ns)

    def _why_no_room(self, usable: list[MptcpSubflow], now_ns: i64) -> i64:
        """There are data and a window for them: return why no subflow carries them."""
        wanted = self.buffer.written_offset - self.sent_offset
        reason: i64 = AVOIDANCE
        backup = regular = False
        for subflow in usable:
            view = subflow.view
            sender = subflow.tcp.sender
            mss = sender.mss_bytes
            least = wanted if 0 < wanted < mss else mss
            if (
                view.train_room_bytes >= least
                and view.window_room_bytes() >= least
                and not (view.stale or view.timed_out or view.queued_bytes)
            ):
                if subflow.backup:
                    backup = True
                else:
                    regular = True
            if sender.ca_state == CA_LOSS:
                reason = TIMEOUT
            elif sender.ca_state == CA_RECOVERY and reason != TIMEOUT:
                reason = RECOVERY
            elif reason in (AVOIDANCE, SLOW_START):
                if view.penalised_until_ns > now_ns:
                    reason = PENALISED
                elif reason == AVOIDANCE and sender.congestion.in_slow_start():
                    reason = SLOW_START
        if regular:
            return SCHEDULER
        return BACKUP if backup else reason

    def _window_is_silly(self, usable: list[MptcpSubflow]) -> bool:
        """RFC 9293 section 3.8.6.2.1: a sliver of window waits while anything is in flight."""
        room = self.window_end - self.sent_offset
        return (
            room < usable[0].tcp.sender.mss_bytes
            and 2 * room < self._common.largest_window_bytes
            and self.buffer.acked_offset < self.sent_offset
        )

    def _nagle_holds(self, usable: list[MptcpSubflow]) -> bool:
        """RFC 9293 section 3.7.4: less than a segment waits while anything is unacknowledged."""
        pending = self.buffer.written_offset - self.sent_offset
        if self.finished or self.sent_offset == self.buffer.acked_offset or not usable:
            return False
        return pending < usable[0].tcp.sender.mss_bytes


def _subflow_of(usable: list[MptcpSubflow], view: SubflowView) -> MptcpSubflow:
    for subflow in usable:
        if subflow.view is view:
            return subflow
    raise ValueError(f"the scheduler chose subflow {view.subflow_id}, which can carry nothing")
