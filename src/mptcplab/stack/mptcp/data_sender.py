"""The sending half of a connection's stream: what goes next, and what must go again elsewhere.

Data stay here until the peer acknowledges them at the data level (RFC 8684 section 3.3.5): a
subflow's acknowledgment is not enough. The scheduler picks the subflow; this class tells it what
is pending: ranges to reinject first, then new data within the peer's window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.config import StackConfig
from mptcplab.stack.mptcp.outstanding import Outstanding, RangeSet
from mptcplab.stack.mptcp.send_buffer import SendBuffer
from mptcplab.stack.schedulers.base import Allotment, ConnectionView, Scheduler, has_room
from mptcplab.stack.tcp.receiver import NEVER_NS

if TYPE_CHECKING:
    from mptcplab.stack.mptcp.subflow import MptcpSubflow

MAX_MAPPING_BYTES: Final = 65_535
"""The data-level length has 16 bits (RFC 8684 section 3.3.1)."""

MAX_DATA_BACKOFF: Final = 6
"""Doublings of the data-level retransmission timer."""


class DataSender:
    """Send buffer, window, outstanding pieces and pending reinjections of one connection."""

    __slots__ = (
        "_backoff",
        "buffer",
        "config",
        "deadline_ns",
        "fin_acked",
        "fin_sent",
        "finished",
        "outstanding",
        "penalties",
        "reinject",
        "reinjected_bytes",
        "scheduler",
        "sent_offset",
        "size_bytes",
        "view",
        "window_end",
        "write_short",
    )

    def __init__(self, config: StackConfig, scheduler: Scheduler) -> None:
        self.config: StackConfig = config
        self.scheduler: Scheduler = scheduler
        self.buffer = SendBuffer()
        self.size_bytes: int = config.send_buffer_bytes
        self.outstanding = Outstanding()
        self.reinject = RangeSet()
        self.view = ConnectionView()
        self.view.train_bytes = min(config.train_bytes, MAX_MAPPING_BYTES)
        self.sent_offset: int = 0
        self.window_end: int = 0
        """Right edge of the peer's window."""
        self.finished: bool = False
        """The application writes no more."""
        self.fin_sent: bool = False
        self.fin_acked: bool = False
        self.write_short: bool = False
        """A write found no room; the application waits to be told."""
        self.reinjected_bytes: int = 0
        self.penalties: int = 0
        self.deadline_ns: int = NEVER_NS
        """Data-level retransmission timer."""
        self._backoff: int = 0

    # The application's side.

    def room_bytes(self) -> int:
        """Return how much the application may write now."""
        room = self.size_bytes - self.buffer.held_bytes()
        return room if room > 0 else 0

    def tune(self, subflows: list[MptcpSubflow]) -> None:
        """Let the buffer hold twice what all windows take (Linux's tcp_sndbuf_expand)."""
        limit = self.config.send_buffer_max_bytes
        if limit <= self.size_bytes:
            return
        wanted = 0
        for subflow in subflows:
            wanted += 2 * subflow.sender.congestion.cwnd_bytes
        if wanted > self.size_bytes:
            self.size_bytes = wanted if wanted < limit else limit

    def all_sent(self) -> bool:
        """Say whether everything written was given to some subflow."""
        return self.sent_offset >= self.buffer.written_offset

    def all_acked(self) -> bool:
        """Say whether everything written is acknowledged at the data level."""
        return self.buffer.acked_offset >= self.buffer.written_offset

    # Acknowledgments.

    def acknowledge(self, offset: int, now_ns: int) -> None:
        """Everything before ``offset`` is acknowledged at the data level."""
        written = self.buffer.written_offset
        if offset > written:
            self.fin_acked = True
            offset = written
        if offset > self.buffer.acked_offset:
            self.buffer.release(offset)
            self.outstanding.release(offset)
            if self.reinject:
                self.reinject.remove_before(offset)
            if self.sent_offset < offset:
                self.sent_offset = offset  # rewound by a fallback, but delivered after all
        self._backoff = 0
        self.deadline_ns = NEVER_NS

    def waiting(self) -> bool:
        """Say whether a DATA_ACK is due to come."""
        return self.buffer.acked_offset < self.sent_offset or (self.fin_sent and not self.fin_acked)

    def arm(self, subflows: list[MptcpSubflow], now_ns: int) -> None:
        """Start the data-level timer if it should run and does not.

        As Linux's mptcp_set_timeout: the longest RTO of the subflows, doubled as it fires.
        """
        if self.deadline_ns != NEVER_NS or not self.waiting():
            return
        longest_ns = 0
        for subflow in subflows:
            rto_ns = subflow.sender.rtt.rto_ns
            if rto_ns > longest_ns and not subflow.view.stale:
                longest_ns = rto_ns
        if longest_ns == 0:
            longest_ns = self.config.initial_rto_ns
        self.deadline_ns = now_ns + (longest_ns << self._backoff)

    def handle_timeout(self, subflows: list[MptcpSubflow], now_ns: int) -> None:
        """No DATA_ACK came: queue the oldest piece again, for a subflow with nothing in flight.

        One that still has data in flight retransmits itself; a second copy behind them on the
        same subflow would only add load (Linux's mptcp_subflow_get_retrans).
        """
        self.deadline_ns = NEVER_NS
        if self._backoff < MAX_DATA_BACKOFF:
            self._backoff += 1
        head = self.outstanding.head()
        if head is None:
            return
        for subflow in subflows:
            if subflow.sender.queue.out_bytes == 0:
                end = min(head.end, head.start + self.view.train_bytes)
                self.reinject.add(head.start, end)
                return

    # Scheduling.

    def reinject_all(self, subflow: MptcpSubflow) -> None:
        """Queue for others what only this subflow carries and has not had acknowledged."""
        carrier = 1 << subflow.subflow_id
        acked = self.buffer.acked_offset
        for record in subflow.sender.queue.records():
            if record.map_ssn == 0 or record.map_length == 0:
                continue
            start = record.offset + record.seq - record.map_ssn
            end = start + record.end - record.seq
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

    def next_allotment(self, usable: list[MptcpSubflow], now_ns: int) -> Allotment | None:
        """Ask the scheduler what to send now on which subflow."""
        buffer = self.buffer
        if not self.reinject:
            blocked = self.sent_offset >= self.window_end
            if self.sent_offset >= buffer.written_offset or blocked:
                if not self._is_stuck(blocked):
                    return self._repeat(usable, now_ns) if usable else None
                return self._opportunity(usable, now_ns)
            if self.config.nagle and self._nagle_holds(usable):
                return None
        if not usable:
            return None
        view = self._refresh(usable, now_ns)
        if self.reinject:
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
        return self.scheduler.next_allotment(view)

    def note_given(self, subflow: MptcpSubflow, offset: int, end: int) -> None:
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

    def _refresh(self, usable: list[MptcpSubflow], now_ns: int) -> ConnectionView:
        view = self.view
        buffer = self.buffer
        view.now_ns = now_ns
        for subflow in usable:
            subflow.refresh_view(now_ns)
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

    def _nagle_holds(self, usable: list[MptcpSubflow]) -> bool:
        """RFC 9293 section 3.7.4: less than a segment waits while anything is unacknowledged."""
        pending = self.buffer.written_offset - self.sent_offset
        if self.finished or self.sent_offset == self.buffer.acked_offset or not usable:
            return False
        return pending < usable[0].sender.mss_bytes

    def _is_stuck(self, blocked: bool) -> bool:
        """Say whether the peer's window or our full buffer keeps idle subflows from sending."""
        if not self.config.opportunistic_retransmission or not self.waiting():
            return False
        return (blocked and self.sent_offset < self.buffer.written_offset) or self.write_short

    def _repeat(self, usable: list[MptcpSubflow], now_ns: int) -> Allotment | None:
        """Nothing is pending, but a scheduler that sends data more than once may want to."""
        if not self.scheduler.sends_copies:
            return None
        view = self._refresh(usable, now_ns)
        view.pending_offset = self.sent_offset
        view.pending_end_offset = self.buffer.written_offset
        view.pending_is_new = True
        view.pending_carriers = 0
        return self.scheduler.next_allotment(view)

    def _opportunity(self, usable: list[MptcpSubflow], now_ns: int) -> Allotment | None:
        """Opportunistic retransmission and penalisation.

        Raiciu et al., "How Hard Can It Be?" (NSDI 2012), sections 4.1 and 4.2: when the oldest
        data, carried by a slower subflow, hold everything up, a subflow that could send carries
        them again, and the slower one's window is halved, once per its round trip.
        """
        head = self.outstanding.head()
        if head is None or len(usable) < 2:
            return self._repeat(usable, now_ns) if usable else None
        view = self._refresh(usable, now_ns)
        fastest: MptcpSubflow | None = None
        for subflow in usable:
            if head.carriers >> subflow.subflow_id & 1 or subflow.view.stale or subflow.backup:
                continue
            if has_room(subflow.view) and (
                fastest is None or subflow.sender.rtt.srtt_ns < fastest.sender.rtt.srtt_ns
            ):
                fastest = subflow
        if fastest is None:
            return None
        slower = False
        for subflow in usable:
            if not head.carriers >> subflow.subflow_id & 1:
                continue
            if subflow.sender.rtt.srtt_ns > fastest.sender.rtt.srtt_ns:
                slower = True
                self._penalise(subflow, now_ns)
        if not slower:
            return None
        view.pending_offset = head.start
        view.pending_end_offset = head.end
        view.pending_is_new = False
        view.pending_carriers = head.carriers
        return self.scheduler.next_allotment(view)

    def _penalise(self, subflow: MptcpSubflow, now_ns: int) -> None:
        if not self.config.penalisation:
            return
        if now_ns - subflow.penalised_ns < subflow.sender.rtt.srtt_ns:
            return
        subflow.penalised_ns = now_ns
        self.penalties += 1
        subflow.sender.congestion.penalise(now_ns)
