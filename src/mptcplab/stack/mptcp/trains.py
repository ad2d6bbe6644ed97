"""How long trains are, and when their packets leave.

Two things make a sender put packets together. A host with segmentation offload hands its interface
bursts, sized as Linux does it (tcp_tso_autosize, tcp_tso_should_defer). And a simulation need not
look at each packet: where a window is large, a train stands for packets that leave one after
another, as the acknowledgments for them came (``Segment.spread_ns``). That is how finely a run
looks, and changes nothing in what it sees; so such a train is a small part of the window, several
ACKs answer it, and it takes no longer than the least round trip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion.base import CongestionGroup
from mptcplab.stack.tcp.receiver import ACK_EVERY_SEGMENTS
from mptcplab.stack.tcp.sender import CA_RECOVERY, Sender
from mptcplab.wire.segment import MAX_TRAIN_BYTES, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

BURSTS_PER_S: Final = 1024
"""A burst holds what leaves in this part of a second at the pacing rate (tcp_tso_autosize:
sk_pacing_shift 10)."""

BURST_RTT_SHIFT: Final = 9
"""On short paths, a burst holds more: the largest one, halved for each 512 microseconds of the
least round trip (Linux's tcp_tso_rtt_log)."""

BURST_DIVISOR: Final = 3
"""A burst is worth sending from this part of the window on (Linux's tcp_tso_win_divisor)."""

DEFER_NS: Final = 1_000_000
"""A burst is deferred only while the last one left less than this ago (tcp_tso_should_defer)."""

LEAST_PACKETS: Final = 2 * ACK_EVERY_SEGMENTS
"""A train is answered by several ACKs, or it is a packet: one ACK of two or three packets lets as
many go again, and flows with windows that differ then share a queue otherwise than by packets."""

QUEUED_RATIO: Final = 2
"""Several bursts are one train where the round trip is so many times the least one."""

MICROSECOND_NS: Final = 1_000

NO_LIMIT: Final = 1 << 60
"""More bytes than any window."""


class Cause:
    """What a connection acts upon: a train that has come, over some time, or something at once."""

    __slots__ = ("_at_ns", "_since_ns")

    def __init__(self) -> None:
        self._at_ns: i64 = -1
        self._since_ns: i64 = 0

    def note(self, spread_ns: i64, now_ns: i64) -> None:
        """A train has come of which the first packet came ``spread_ns`` ago."""
        self._at_ns = now_ns
        self._since_ns = now_ns - spread_ns

    def since_ns(self, now_ns: i64) -> i64:
        """Return when what is at hand began."""
        return self._since_ns if self._at_ns == now_ns else now_ns


class CommonLimits:
    """What the subflows of a connection have in common: the peer's window and our send buffer.

    All in bytes. ``least_cwnd_bytes`` is the smallest congestion window of a subflow in use, where
    all of them together are more than that; ``NO_LIMIT`` where they are not.
    """

    __slots__ = (
        "buffer_bytes",
        "largest_window_bytes",
        "least_cwnd_bytes",
        "train_bytes",
        "window_bytes",
    )

    def __init__(self) -> None:
        self.window_bytes: i64 = 0
        """The peer's window beyond what it acknowledged,"""
        self.largest_window_bytes: i64 = 0
        """and the widest that it has been."""
        self.buffer_bytes: i64 = 0
        self.train_bytes: i64 = 0
        """The most that one train may carry."""
        self.least_cwnd_bytes: i64 = NO_LIMIT

    def flight_bytes(self) -> i64:
        """Return what may be in flight."""
        if self.buffer_bytes < self.largest_window_bytes:
            return self.buffer_bytes
        return self.largest_window_bytes

    def compare(self, group: CongestionGroup) -> None:
        """See whether the windows of all subflows are more than may be in flight.

        Where the peer's window or the send buffer is what limits a connection, a train that arrives
        lets as much leave at once, and the fastest subflow takes of it what its window holds:
        packet by packet it would take all.
        """
        self.least_cwnd_bytes = NO_LIMIT
        if len(group.members) < 2:
            return
        total: i64 = 0
        least: i64 = NO_LIMIT
        for member in group.members:
            if member.rounds > 0:  # it is in use
                window: i64 = member.cwnd_bytes
                total += window
                if window < least:
                    least = window
        if total > self.flight_bytes():
            self.least_cwnd_bytes = least


def reader_bound(limits: CommonLimits) -> bool:
    """Say whether the peer's buffer is more than half full of what its application has not read.

    Reading then clocks the sender. What is in flight, or waits behind a gap, does not narrow the
    window that is offered; what is unread does.
    """
    return 2 * limits.window_bytes < limits.largest_window_bytes


class Trains:
    """The trains of one subflow."""

    __slots__ = (
        "_burst_bytes",
        "_cause",
        "_held_since_ns",
        "_left_ns",
        "_offload",
        "_part_bytes",
        "_parts",
        "_piece_bytes",
        "_sent_ns",
        "worthwhile_bytes",
    )

    def __init__(self, config: StackConfig, cause: Cause) -> None:
        self._offload: bool = config.offload
        self._parts: i64 = config.trains_per_window
        self._cause: Cause = cause
        self._burst_bytes: i64 = 0
        """What the interface takes at once; 0 without offload, where that is a packet."""
        self._part_bytes: i64 = 0
        """What a train of packets that leave one after another holds."""
        self._piece_bytes: i64 = 0
        """What of a train may travel together."""
        self._held_since_ns: i64 = -1
        """When what is held back for a longer train could have left; -1 for nothing."""
        self._sent_ns: i64 = -1
        """When the last train was sent,"""
        self._left_ns: i64 = -1
        """and when its last packet left, which may be before."""
        self.worthwhile_bytes: i64 = 0
        """The least room in the peer's window that is to be used now; see ``SubflowView``."""

    def room_bytes(
        self,
        sender: Sender,
        in_flight_bytes: i64,
        limits: CommonLimits,
        now_ns: i64,
    ) -> i64:
        """Return what one train may hold now; 0 to wait for a longer one."""
        congestion = sender.congestion
        cwnd: i64 = congestion.cwnd_bytes
        mss = sender.mss_bytes
        room = cwnd - in_flight_bytes
        self.worthwhile_bytes = 0
        if room < mss:  # short of any train
            self._part_bytes = self._burst_bytes = self._piece_bytes = least = most = mss
        else:
            most = self._size(sender, cwnd, limits)
            least = self._part_bytes
            if self._burst_bytes > least:
                most = least = self._burst_bytes
        if in_flight_bytes > 0 and sender.ca_state != CA_RECOVERY:
            oldest = sender.queue.first()
            # An acknowledgment will come soon.
            if oldest is not None and now_ns - oldest.sent_ns >= sender.rtt.srtt_ns >> 1:
                if reader_bound(limits):
                    self.worthwhile_bytes = least
                if room < least and self._defers(sender, room, cwnd, now_ns):
                    congestion.on_send(sender.last_send_ns, cwnd)  # the window is what limits us
                    return 0
        if room >= most:
            return most
        if room < 0:
            return 0
        if room >= least:
            room -= room % self._unit_bytes(mss)
        return room

    def _most(self, mss: i64) -> i64:
        """Return how much more than it has to hold a train may, so that little room is left."""
        most = self._part_bytes + self._part_bytes // 3
        return most - most % self._unit_bytes(mss)

    def _unit_bytes(self, mss: i64) -> i64:
        """Return what trains of several hold whole numbers of: bursts, or packets."""
        if self._offload and self._part_bytes >= self._burst_bytes > mss:
            return self._burst_bytes
        return mss

    def _defers(self, sender: Sender, room: i64, cwnd: i64, now_ns: i64) -> bool:
        """Say whether to wait for more room; what then leaves late is told as having left before.

        A burst is really late: as Linux has it (tcp_tso_should_defer).
        """
        if room <= 0:
            return True
        if self._burst_bytes > self._part_bytes:
            return room * BURST_DIVISOR < cwnd and now_ns - sender.last_send_ns <= DEFER_NS
        if self._held_since_ns < 0:
            since_ns = now_ns if self._sent_ns == now_ns else self._cause.since_ns(now_ns)
            self._held_since_ns = since_ns
        return True

    def _size(self, sender: Sender, cwnd: i64, limits: CommonLimits) -> i64:
        """Work out how long bursts and trains are; return the most that a train may hold."""
        mss = sender.mss_bytes
        most_bytes = limits.train_bytes
        window = cwnd
        if limits.least_cwnd_bytes < window:
            window = limits.least_cwnd_bytes
        shared = limits.flight_bytes()
        if window > shared:
            window = shared
        paced = sender.pacing.enabled  # a timer spreads what is paced
        share: i64 = 0
        if not paced and self._parts > 0:
            share = window // self._parts
        part = mss if share == 0 else self._part(sender, window, share)
        if part > most_bytes // 2:
            part = most_bytes // 2
        part -= part % mss
        if part < LEAST_PACKETS * mss:
            part = mss
        self._part_bytes = part
        self._burst_bytes = mss
        if self._offload:
            burst = _burst_bytes(sender, most_bytes)
            self._burst_bytes = burst
            if part > burst:
                # Where packets wait in queues most of the time, gaps between bursts do not matter.
                queued = sender.rtt.srtt_ns >= QUEUED_RATIO * sender.rtt.min_rtt_ns
                self._part_bytes = part - part % burst if queued else burst
        most = self._most(mss)
        self._piece_bytes = most
        if most < self._burst_bytes <= share:  # it came at once, and queues are deep
            self._piece_bytes = self._burst_bytes
        return most

    def _part(self, sender: Sender, window: i64, share: i64) -> i64:
        """Return the ``share`` of a window, or what is on the way no longer than the least RTT."""
        rtt = sender.rtt
        min_rtt_ns = rtt.min_rtt_ns
        part = share
        if 0 < self._parts * min_rtt_ns < rtt.srtt_ns:
            part = window // (rtt.srtt_ns // min_rtt_ns)
        rate = sender.queue.rate
        if rate.acks_spread_ns > 0:  # the window may be more than what is in flight
            most = rate.acks_bytes * min_rtt_ns // rate.acks_spread_ns
            if most < part:
                part = most
        return part

    def note_sent(self, train: Segment, room_bytes: i64, acked_bytes: i64, now_ns: i64) -> None:
        """A train leaves: say over what time its packets do.

        With this train the window has room for ``room_bytes``, after ``acked_bytes`` of it were
        acknowledged. A burst leaves as soon as there is room for it, and of several trains each
        in its turn.
        """
        since_ns = self._held_since_ns
        if since_ns < 0:
            since_ns = self._cause.since_ns(now_ns)
        else:
            self._held_since_ns = -1
        self._sent_ns = now_ns
        mss = train.segment_size_bytes
        if self._parts > 0 and mss > 0:
            train.piece_packets = self._piece_bytes // mss
        if since_ns < self._left_ns:  # behind the train before it
            since_ns = self._left_ns
            acked_bytes = room_bytes
        span_ns = now_ns - since_ns
        self._left_ns = now_ns
        if span_ns == 0:
            return
        size = train.payload_bytes
        rest_bytes = room_bytes - size  # for what leaves after this train
        if rest_bytes < 0:
            rest_bytes = 0
        if not self._offload or size > self._burst_bytes:
            if rest_bytes > 0:
                train.late_ns = span_ns * rest_bytes // room_bytes
            train.spread_ns = span_ns - train.late_ns
            if self._offload and mss > 0:
                train.burst_packets = self._burst_bytes // mss
        elif acked_bytes > 0:
            if rest_bytes > acked_bytes:
                rest_bytes = acked_bytes
            train.late_ns = span_ns * rest_bytes // acked_bytes
        self._left_ns = now_ns - train.late_ns


def _burst_bytes(sender: Sender, most_bytes: i64) -> i64:
    """Return what an interface with offload is given at once (tcp_tso_autosize)."""
    mss = sender.mss_bytes
    burst = most_bytes
    if burst > MAX_TRAIN_BYTES:
        burst = MAX_TRAIN_BYTES
    if sender.rtt.srtt_ns > 0:
        paced = sender.pacing_rate() // BURSTS_PER_S
        halvings = sender.rtt.min_rtt_ns // MICROSECOND_NS >> BURST_RTT_SHIFT
        if halvings < 17:
            paced += MAX_TRAIN_BYTES >> halvings
        if paced < burst:
            burst = paced
    if burst < 2 * mss:
        burst = 2 * mss if 2 * mss < most_bytes else most_bytes
    return burst - burst % mss if burst > mss else mss
