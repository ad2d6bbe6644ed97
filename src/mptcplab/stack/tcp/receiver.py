"""The receiving half of a subflow: what arrived, what is missing, and when an ACK is due.

Sequence numbers are relative to the peer's initial one and never wrap: its SYN is 0, its first
payload byte 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.seq import SEQ32_MASK, unwrap32
from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.reassembly import Chunk, Reassembly
from mptcplab.stack.tcp.timers import Timers
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

DELAYED_ACK_NS: Final = 40_000_000
"""Linux's TCP_DELACK_MIN; RFC 9293 section 3.8.6.3 allows up to 0.5 seconds."""

ACK_EVERY_SEGMENTS: Final = 2
"""RFC 5681 section 4.2: an ACK for at least every second full-sized segment."""

MAX_QUICK_ACKS: Final = 16
"""Linux's TCP_MAX_QUICKACKS: so many ACKs leave at once when data begin to come, and after text
that came again, while the peer's window is small."""


GROWTH_PER_SEGMENT: Final = 2
"""In segments (tcp_grow_window)."""


class Receiver:
    """Receive state of one subflow."""

    __slots__ = (
        "_ack_span_bytes",
        "_coalesce_ns",
        "_growth_bytes",
        "_last_data_ns",
        "_pingpong",
        "_pushed",
        "_quick_acks",
        "_ranges",
        "_timers",
        "_train_packets",
        "_train_pushed",
        "_train_spread_ns",
        "_unacked_bytes",
        "ack_now",
        "duplicate_bytes",
        "duplicate_range",
        "fin_seq",
        "irs",
        "last_ack_sent",
        "mss_bytes",
        "rcv_nxt",
        "reassembly",
        "received_bytes",
    )

    def __init__(self, timers: Timers, coalesce_ns: i64) -> None:
        self._timers: Timers = timers
        self._coalesce_ns: i64 = coalesce_ns
        """How long the interface collects packets before it hands them over together; 0: never."""
        self._quick_acks: i64 = MAX_QUICK_ACKS
        """ACKs that are still to leave at once (icsk_ack.quick)."""
        self._growth_bytes: i64 = 0
        """By how much the window is still to grow, with segments each of which is acknowledged
        (``window_clamp`` less ``rcv_ssthresh``)."""
        self._pingpong: bool = False
        """We answer with data, which carry ACKs (inet_csk_in_pingpong_mode)."""
        self._pushed: i64 = 0
        """Segments that are not full and wait for their ACK: ends of what the peer had to say for
        now (ICSK_ACK_PUSHED, ICSK_ACK_PUSHED2)."""
        self._last_data_ns: i64 = 0
        """When the last text came."""
        self._train_packets: i64 = 1
        self._train_spread_ns: i64 = 0
        """How many packets the text at hand is, and over what time they came."""
        self._train_pushed: bool = False
        """Whether the last of them has PSH."""
        self._ack_span_bytes: i64 = 0
        """How much of the text at hand came in order; 0 where its ACKs all say the same."""
        self.irs: i64 = 0
        """The peer's initial sequence number, as on the wire."""
        self.rcv_nxt: i64 = 0
        self.reassembly = Reassembly()
        self.fin_seq: i64 = -1
        """Where the peer's FIN stands, -1 while unknown."""
        self.mss_bytes: i64 = 536
        """The largest payload per packet seen or agreed, for "every second segment"."""
        self.ack_now: bool = False
        self.last_ack_sent: i64 = 0
        self.duplicate_range: tuple[int, int] | None = None
        """What arrived again, to be reported in a D-SACK (RFC 2883)."""
        self.received_bytes: i64 = 0
        self.duplicate_bytes: i64 = 0
        self._unacked_bytes: i64 = 0
        self._ranges: list[tuple[int, int]] = []

    def open_at(self, irs: i64) -> None:
        """Take in the peer's SYN."""
        self.irs = irs
        self.rcv_nxt = 1
        self.last_ack_sent = 1

    def unwrap(self, seq: i64) -> i64:
        """Return the relative form of the peer's sequence number ``seq``."""
        return unwrap32(seq - self.irs, self.rcv_nxt)

    def note_train(
        self, packets: i64, spread_ns: i64, rto_ns: i64, now_ns: i64, pushed: bool = False
    ) -> None:
        """Text comes, in so many packets; the first came ``spread_ns`` before the last.

        ``pushed`` says that the last one has PSH.
        """
        self._train_packets = packets
        self._train_spread_ns = spread_ns
        self._train_pushed = pushed
        self._ack_span_bytes = 0
        if now_ns - self._last_data_ns > rto_ns:
            self._quick_acks = MAX_QUICK_ACKS  # tcp_event_data_recv: the sender starts anew
        self._last_data_ns = now_ns

    def note_data_sent(self, now_ns: i64) -> None:
        """We answer soon with data, which carry ACKs themselves (tcp_event_data_sent)."""
        if self._last_data_ns and now_ns - self._last_data_ns < DELAYED_ACK_NS:
            self._pingpong = True

    def note_delayed_ack(self) -> None:
        """An ACK waited in vain for data of ours to carry it (tcp_delack_timer_handler)."""
        self._pingpong = False
        self.ack_now = True

    def note_all_read(self) -> bool:
        """The application has read all: acknowledge what was not a full segment.

        As tcp_cleanup_rbuf: its sender may wait for that ACK, and we do not answer with data, or
        have not answered the first. ``True`` if so.
        """
        if self._timers.delayed_ack_ns == NEVER_NS or self._pushed <= (1 if self._pingpong else 0):
            return False
        self.ack_now = True
        return True

    def note_window_growth(self, grown_bytes: i64) -> None:
        """The window is to be so much larger, two segments with each that comes.

        As tcp_grow_window, which has each acknowledged at once, so that its sender gets to know.
        """
        self._growth_bytes += grown_bytes

    def enter_quick_ack_mode(self) -> None:
        """Acknowledge at once, even if we answer with data (tcp_enter_quickack_mode)."""
        self._quick_acks = MAX_QUICK_ACKS
        self._pingpong = False

    def accept(self, seq: i64, end: i64, payload: bytes | None, now_ns: i64) -> list[Chunk] | None:
        """Take payload in, the part at or after ``rcv_nxt``; return what is now in order.

        ``None`` means that the train in hand was itself next and alone: the usual case. The
        caller then delivers ``seq`` to ``end`` as it came.
        """
        rcv_nxt = self.rcv_nxt
        if seq == rcv_nxt and not self._ranges:
            size = end - seq
            self.received_bytes += size
            self.rcv_nxt = end
            self._unacked_bytes += size
            self._ack_span_bytes = size
            if self._growth_bytes > 0:
                packets = self._train_packets
                self._growth_bytes -= GROWTH_PER_SEGMENT * self.mss_bytes * packets
                # tcp_grow_window sets the lowest bit for each of them
                self._quick_acks += packets - (self._quick_acks & 1)
            # As __tcp_ack_snd_check: more than a full segment, or in the quick mode.
            if (
                self._quick_acks > 0 and not self._pingpong
            ) or self._unacked_bytes > self.mss_bytes:
                self.ack_now = True
            else:
                if size < self.mss_bytes:
                    self._pushed += 1
                elif self._train_pushed and self._pushed == 0:
                    self._pushed = 1  # tcp_measure_rcv_mss
                if self._timers.delayed_ack_ns == NEVER_NS:
                    self._timers.delayed_ack_ns = now_ns + DELAYED_ACK_NS
            return None
        self.ack_now = True  # RFC 5681 section 4.2: out of order, or filling a gap
        if end <= rcv_nxt:
            self.enter_quick_ack_mode()  # tcp_data_queue
            self.note_duplicate(seq, end)
            return []
        if seq < rcv_nxt:
            self.note_duplicate(seq, rcv_nxt)
            if payload is not None:
                payload = payload[rcv_nxt - seq :]
            seq = rcv_nxt
        size = end - seq
        added = self.reassembly.insert(seq, end, payload)
        if added < size:
            self.note_duplicate(seq, end)
        self.received_bytes += added
        if seq > rcv_nxt:
            self._add_range(seq, end)
            return []
        ready = self.reassembly.take_from(rcv_nxt)
        self.rcv_nxt = rcv_nxt = ready[-1][1]
        if self._ranges:
            self._ranges = [item for item in self._ranges if item[1] > rcv_nxt]
        return ready

    def note_duplicate(self, seq: i64, end: i64) -> None:
        """Remember a range that arrived again."""
        self.duplicate_bytes += end - seq
        if end - seq > 0:
            self.duplicate_range = (seq, end)

    def sack_blocks(self, room: i64) -> tuple[tuple[int, int], ...]:
        """Return up to ``room`` SACK blocks as wire numbers, a D-SACK first (RFC 2018, 2883)."""
        irs = self.irs
        duplicate = self.duplicate_range
        blocks: list[tuple[int, int]] = []
        if duplicate is not None:
            self.duplicate_range = None
            blocks.append(((duplicate[0] + irs) & SEQ32_MASK, (duplicate[1] + irs) & SEQ32_MASK))
        for left, right in self._ranges:
            if len(blocks) >= room:
                break
            blocks.append(((left + irs) & SEQ32_MASK, (right + irs) & SEQ32_MASK))
        return tuple(blocks)

    def ack_is_due(self) -> bool:
        """Say whether an acknowledgment is due, now or soon."""
        return self.ack_now or self._timers.delayed_ack_ns != NEVER_NS

    def has_sacks(self) -> bool:
        """Say whether there is something for a SACK option."""
        return bool(self._ranges) or self.duplicate_range is not None

    def make_ack_train(self, ack: Segment) -> None:
        """Let an ACK stand for all those that the packets at hand give rise to.

        With offload, one for what the interface hands over together (Linux acknowledges it at
        once if it is two segments), else one for every second packet; for every one while they
        come out of order (RFC 5681 section 4.2), or are the first ones.
        """
        packets = self._train_packets
        spread_ns = self._train_spread_ns
        if packets <= 1 or (self._coalesce_ns > 0 and spread_ns <= self._coalesce_ns):
            return
        each = ACK_EVERY_SEGMENTS
        if self._ack_span_bytes == 0 or (self._quick_acks >= packets and not self._pingpong):
            each = 1
        if self._coalesce_ns > 0:
            together = packets * self._coalesce_ns // spread_ns
            if each < together:
                each = together
        count = packets // each
        if each == ACK_EVERY_SEGMENTS and self._train_pushed and packets & 1:
            count += 1  # the last one is acknowledged alone (tcp_cleanup_rbuf)
        if count <= 1:
            return
        ack.ack_count = count
        ack.ack_step_bytes = self._ack_span_bytes // count
        ack.spread_ns = spread_ns * (packets - each) // (packets - 1)

    def ack_sent(self, acks: i64 = 1) -> None:
        """An acknowledgment of everything up to ``rcv_nxt`` leaves, the last of so many."""
        if self._quick_acks > 0:
            self._quick_acks -= acks
        self._pushed = 0
        self._train_packets = 1
        self.ack_now = False
        self._timers.delayed_ack_ns = NEVER_NS
        self._unacked_bytes = 0
        self.last_ack_sent = self.rcv_nxt

    def stop(self) -> None:
        """Acknowledge nothing more."""
        self.ack_now = False
        self._timers.delayed_ack_ns = NEVER_NS

    def _add_range(self, left: i64, right: i64) -> None:
        """Merge a range with those that touch it, and put it first: RFC 2018 section 4."""
        kept: list[tuple[int, int]] = []
        for item in self._ranges:
            if item[1] < left or item[0] > right:
                kept.append(item)
            else:
                if item[0] < left:
                    left = item[0]
                if item[1] > right:
                    right = item[1]
        kept.insert(0, (left, right))
        self._ranges = kept
