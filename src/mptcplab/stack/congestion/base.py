"""What a subflow tells its congestion control, and what it reads back.

A subflow owns one ``CongestionControl`` and obeys ``cwnd_bytes``. The controls of one connection
share a ``CongestionGroup``, which is how coupled ones see each other; an uncoupled one ignores it.

Who calls what (all times are the loop's nanoseconds):

==========================  ======================================================================
``on_send``                 after each transmission, with the bytes in flight including it
``on_ack``                  for each ACK that newly acknowledges bytes, cumulatively or by SACK,
                            in every state; ``ack.in_recovery`` says whether fast recovery is on
``on_loss_event``           once on entering fast recovery; not again until it ended
``on_mark``                 once a round trip in which the peer echoes marks (ECN), in place of loss
``on_recovery_exit``        when the cumulative ACK passes the recovery point, after loss or mark
``on_rto``                  on each expiry of the retransmission timer
``undo``                    when the last ``on_loss_event`` or ``on_rto`` proves spurious
``restart_after_idle``      before sending when nothing was sent for longer than one RTO
``on_transmit_start``       before new data leave with nothing in flight, with the time since the
                            last transmission (Linux's CA_EVENT_TX_START)
``restart_after_syn_loss``  when the handshake ended and our SYN had to be sent again
``change_mss``              when packets carry more or less from now on (the path MTU)
``penalise``                when a scheduler finds this subflow blocking its connection
``close``                   when the subflow is gone
==========================  ======================================================================

The window is never inflated by duplicate ACKs: the sender is expected to count what is in flight
(RFC 6675 "pipe"). Growth counts bytes, so one ACK for a train of 44 packets opens the window as
44 ACKs would (RFC 3465), and the fraction of a byte that each ACK leaves over is carried along:
integer arithmetic would stop growth at windows above MSS squared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from mptcplab.compiling import mypyc_attr
from mptcplab.stack.congestion.rate_sample import RateSample

UNLIMITED_BYTES: Final = 1 << 60
"""The first ssthresh: arbitrarily high (RFC 5681, section 3.1)."""


def initial_window_bytes(mss_bytes: int) -> int:
    """Return the initial window for segments of ``mss_bytes`` (RFC 6928, section 2)."""
    return min(10 * mss_bytes, max(2 * mss_bytes, 14600))


class AckSample:
    """What one ACK told the sender. The subflow may fill and pass the same object each time."""

    __slots__ = (
        "acked_bytes",
        "advanced",
        "echoed",
        "in_flight_bytes",
        "in_recovery",
        "mean_rtt_ns",
        "now_ns",
        "rate",
        "rtt_ns",
        "spread_ns",
        "srtt_ns",
    )

    def __init__(
        self,
        now_ns: int = 0,
        acked_bytes: int = 0,
        rtt_ns: int = 0,
        srtt_ns: int = 0,
        in_flight_bytes: int = 0,
        in_recovery: bool = False,
        advanced: bool = True,
        echoed: bool = False,
        spread_ns: int = 0,
    ) -> None:
        self.now_ns: int = now_ns
        self.acked_bytes: int = acked_bytes
        """Bytes this ACK newly acknowledged, cumulatively or selectively; each counted once."""
        self.rtt_ns: int = rtt_ns
        """The round-trip time this ACK measured, 0 if it measured none; the least of those that
        the ACKs measured for which it stands,"""
        self.mean_rtt_ns: int = rtt_ns
        """and their mean."""
        self.srtt_ns: int = srtt_ns
        """The smoothed round-trip time with this ACK included, 0 before the first sample."""
        self.in_flight_bytes: int = in_flight_bytes
        """Bytes still in flight after this ACK (RFC 6675 pipe)."""
        self.in_recovery: bool = in_recovery
        """Whether the subflow is in fast recovery after this ACK."""
        self.advanced: bool = advanced
        """Whether the cumulative acknowledgment moved on."""
        self.echoed: bool = echoed
        """Whether it echoes that packets were marked (ECE, RFC 3168)."""
        self.spread_ns: int = spread_ns
        """Over what time the ACKs came that it stands for, the last one now; 0 for one ACK."""
        self.rate = RateSample()
        """How fast the path delivers, for controls that ask for it."""


class CongestionGroup:
    """The congestion controls of the live subflows of one connection."""

    __slots__ = ("members",)

    def __init__(self) -> None:
        self.members: list[CongestionControl] = []


@mypyc_attr(allow_interpreted_subclasses=True)
class CongestionControl(ABC):
    """The window of one subflow: slow start, halving and bookkeeping; growth is the subclass's.

    A subclass must give ``avoid_congestion``; it may replace ``ssthresh_after_loss`` and extend
    any ``on_...`` hook.
    """

    __slots__ = (
        "_carry_bytes",
        "_flight_peak_before_bytes",
        "_flight_peak_bytes",
        "_round_left_bytes",
        "_undo_cwnd_bytes",
        "_undo_ssthresh_bytes",
        "_was_full",
        "_was_full_before",
        "cwnd_bytes",
        "group",
        "mss_bytes",
        "pacing_rate",
        "round_ended",
        "rounds",
        "srtt_ns",
        "ssthresh_bytes",
    )

    def __init__(self, mss_bytes: int, group: CongestionGroup) -> None:
        self.mss_bytes: int = mss_bytes
        self.cwnd_bytes: int = initial_window_bytes(mss_bytes)
        self.ssthresh_bytes: int = UNLIMITED_BYTES
        self.srtt_ns: int = 0
        """As of the last ACK; 0 until there is a sample. The subflow may set it at handshake."""
        self.rounds: int = 0
        """Round trips completed: windows of data acknowledged."""
        self.round_ended: bool = False
        """Whether the ACK at hand completed one."""
        self.group: CongestionGroup = group
        self.pacing_rate: int = 0
        """How fast to send, in bytes per second, where sending is paced; 0 to follow the window."""
        self._carry_bytes: float = 0.0
        self._round_left_bytes: int = 0
        self._flight_peak_bytes: int = 0
        self._flight_peak_before_bytes: int = 0
        self._was_full: bool = False
        self._was_full_before: bool = False
        self._undo_cwnd_bytes: int = 0
        self._undo_ssthresh_bytes: int = 0
        if self not in group.members:  # compiled, an inherited __init__ may run twice
            group.members.append(self)

    needs_ecn: ClassVar[bool] = False
    """Whether it works by marks alone, and precise ones (Linux's TCP_CONG_NEEDS_ECN)."""
    controls_rate: ClassVar[bool] = False
    """Whether it has sending paced, and sets rate and window itself, in recovery as well, by
    samples of the delivery rate (Linux's cong_control)."""

    @abstractmethod
    def avoid_congestion(self, acked_bytes: int, ack: AckSample) -> None:
        """Open the window for ``acked_bytes`` acknowledged at or above ssthresh (use ``grow``)."""

    def ssthresh_after_loss(self, flight_bytes: int) -> int:
        """Return ssthresh in bytes after a loss with ``flight_bytes`` used of the window.

        Half of it, at least two segments: RFC 5681, equation 4.
        """
        return max(flight_bytes // 2, 2 * self.mss_bytes)

    def in_slow_start(self) -> bool:
        """Say whether the window is below ssthresh (RFC 5681, section 3.1)."""
        return self.cwnd_bytes < self.ssthresh_bytes

    def window_was_used(self) -> bool:
        """Say whether the window, not the application or a peer's window, held sending back.

        A window that was not needed must not grow (RFC 7661). As Linux's tcp_is_cwnd_limited,
        over this round trip and the one before: in slow start half the window in flight suffices,
        beyond it the window must have been full, to within one segment, after some transmission.
        """
        if self.cwnd_bytes < self.ssthresh_bytes:
            peak_bytes = max(self._flight_peak_bytes, self._flight_peak_before_bytes)
            return self.cwnd_bytes < 2 * peak_bytes
        return self._was_full or self._was_full_before

    def grow(self, increase_bytes: float) -> None:
        """Open the window by ``increase_bytes``, keeping the fraction for later."""
        self._carry_bytes += increase_bytes
        whole_bytes = int(self._carry_bytes)
        self._carry_bytes -= whole_bytes
        self.cwnd_bytes += whole_bytes

    def on_send(self, now_ns: int, in_flight_bytes: int) -> None:
        """Note that ``in_flight_bytes`` are now in flight."""
        if in_flight_bytes > self._flight_peak_bytes:
            self._flight_peak_bytes = in_flight_bytes
        if in_flight_bytes + self.mss_bytes > self.cwnd_bytes:
            self._was_full = True

    def on_ack(self, ack: AckSample) -> None:
        """Take account of an ACK: slow start up to ssthresh, ``avoid_congestion`` beyond it."""
        if ack.srtt_ns:
            self.srtt_ns = ack.srtt_ns
        self._count_round(ack)
        # RFC 3042 section 2: limited transmit leaves the window as it is.
        if ack.in_recovery or not ack.advanced or not self.window_was_used():
            return
        acked_bytes = ack.acked_bytes
        if self.cwnd_bytes < self.ssthresh_bytes:
            acked_bytes -= self.slow_start(acked_bytes, ack)
        if acked_bytes > 0:
            self.avoid_congestion(acked_bytes, ack)

    def slow_start(self, acked_bytes: int, ack: AckSample) -> int:
        """Open the window by what was acknowledged, up to ssthresh; return the bytes used.

        DEVIATION: RFC 3465 limits the increase to L = 2 segments per ACK. An ACK for a train
        stands for the ACKs of all its packets, so the limit holds per packet and never binds.
        """
        used_bytes = min(acked_bytes, self.ssthresh_bytes - self.cwnd_bytes)
        self.cwnd_bytes += used_bytes
        return used_bytes

    def on_loss_event(self, now_ns: int, flight_size_bytes: int) -> None:
        """Enter fast recovery with ``flight_size_bytes`` unacknowledged (RFC 5681, section 3.2)."""
        self._remember()
        self.ssthresh_bytes = self.ssthresh_after_loss(self._used_bytes(flight_size_bytes))
        self.cwnd_bytes = self.ssthresh_bytes
        self._carry_bytes = 0.0

    def on_mark(self, now_ns: int, flight_size_bytes: int) -> None:
        """React to marks as to a loss (RFC 3168, section 6.1.2), which no ACK can disprove."""
        self.on_loss_event(now_ns, flight_size_bytes)
        self._remember()

    def on_recovery_exit(self, now_ns: int) -> None:
        """Leave fast recovery: the window stays at ssthresh."""

    def on_rto(self, now_ns: int, flight_size_bytes: int, first: bool) -> None:
        """Fall back to one segment; ``first`` is false when the same data timed out before.

        RFC 5681, section 3.1: ssthresh changes on the first expiry only.
        """
        if first:
            self._remember()
            self.ssthresh_bytes = self.ssthresh_after_loss(self._used_bytes(flight_size_bytes))
        self.cwnd_bytes = self.mss_bytes
        self._carry_bytes = 0.0

    def undo(self, now_ns: int) -> None:
        """Take back the last reduction, which was for a loss that did not happen."""
        self.cwnd_bytes = max(self.cwnd_bytes, self._undo_cwnd_bytes)
        self.ssthresh_bytes = max(self.ssthresh_bytes, self._undo_ssthresh_bytes)

    def restart_after_idle(self, now_ns: int) -> None:
        """Return to the restart window (RFC 5681, section 4.1)."""
        self.cwnd_bytes = min(self.cwnd_bytes, initial_window_bytes(self.mss_bytes))

    def on_transmit_start(self, now_ns: int, idle_ns: int) -> None:
        """Note that sending begins again, ``idle_ns`` after the last transmission."""

    def restart_after_syn_loss(self) -> None:
        """Begin with one segment: our SYN timed out (RFC 5681, section 3.1)."""
        self.cwnd_bytes = self.mss_bytes

    def change_mss(self, mss_bytes: int) -> None:
        """Count in segments of another size: the window stays as many of them, as in Linux."""
        before_bytes = self.mss_bytes
        self.mss_bytes = mss_bytes
        self.cwnd_bytes = max(self.cwnd_bytes * mss_bytes // before_bytes, mss_bytes)
        if self.ssthresh_bytes < UNLIMITED_BYTES:
            scaled_bytes = self.ssthresh_bytes * mss_bytes // before_bytes
            self.ssthresh_bytes = max(scaled_bytes, 2 * mss_bytes)
        self._remember()

    def penalise(self, now_ns: int) -> None:
        """Halve the window of a subflow that holds its connection back.

        Raiciu et al., "How Hard Can It Be?" (NSDI 2012), section 4.2; in slow start ssthresh
        stays (out-of-tree kernel, mptcp_sched.c, mptcp_rcv_buf_optimization).
        """
        if self.cwnd_bytes >= self.ssthresh_bytes:
            self.ssthresh_bytes = max(self.ssthresh_bytes // 2, 2 * self.mss_bytes)
        self.cwnd_bytes = max(self.cwnd_bytes // 2, self.mss_bytes)

    def close(self) -> None:
        """Leave the group. A second call changes nothing."""
        if self in self.group.members:
            self.group.members.remove(self)

    def _used_bytes(self, flight_size_bytes: int) -> int:
        """Return what of the window was in use when a loss is noticed.

        DEVIATION: RFC 5681 takes FlightSize at that moment. An ACK for a train empties a large
        part of the window in one step, so the moment says little; here it is the most that was in
        flight in this round trip and the one before, and never more than the window.
        """
        used_bytes = max(flight_size_bytes, self._flight_peak_bytes, self._flight_peak_before_bytes)
        return min(used_bytes, self.cwnd_bytes)

    def _remember(self) -> None:
        self._undo_cwnd_bytes = self.cwnd_bytes
        self._undo_ssthresh_bytes = self.ssthresh_bytes

    def _count_round(self, ack: AckSample) -> None:
        self.round_ended = False
        self._round_left_bytes -= ack.acked_bytes
        if self._round_left_bytes <= 0:
            self.round_ended = True
            self.rounds += 1
            self._round_left_bytes = ack.in_flight_bytes
            self._flight_peak_before_bytes = self._flight_peak_bytes
            self._flight_peak_bytes = ack.in_flight_bytes + ack.acked_bytes
            self._was_full_before = self._was_full
            self._was_full = self._flight_peak_bytes + self.mss_bytes > self.cwnd_bytes
