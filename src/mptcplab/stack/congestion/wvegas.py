"""wVegas, weighted Vegas: coupled control by delay (Cao, Xu, Fu: ICNP 2012; mptcp_wvegas.c).

Each subflow keeps about alpha segments queued in the network, and the alphas of a connection,
10 in all, are shared in proportion to the rates: paths with less queueing delay get more. The
arithmetic is that of the out-of-tree kernel, in whole segments, once per round trip.
"""

from __future__ import annotations

from mptcplab.stack.congestion.base import AckSample, CongestionControl, CongestionGroup

LEAST_ALPHA = 2
"""Segments that a subflow may always keep queued (mptcp_wvegas.c, initial_alpha)."""
TOTAL_ALPHA = 10
"""Segments that a connection keeps queued on all its paths (mptcp_wvegas.c, total_alpha)."""
GAMMA = 1
"""Segments queued that end slow start (mptcp_wvegas.c, gamma)."""
FEWEST_SAMPLES = 2
"""With no more round-trip samples in a round than this, it acts as Reno (mptcp_wvegas.c)."""
LEAST_CWND_SEGMENTS = 2


class WVegas(CongestionControl):
    """Weighted Vegas."""

    __slots__ = (
        "_sampled_ns",
        "_samples",
        "alpha_segments",
        "base_rtt_ns",
        "least_queueing_ns",
        "rate",
        "weight",
    )

    def __init__(self, mss_bytes: int, group: CongestionGroup) -> None:
        super().__init__(mss_bytes, group)
        self.base_rtt_ns: int = 0
        """Shortest round-trip time seen; 0 before the first sample."""
        self.alpha_segments: int = LEAST_ALPHA
        self.rate: float = 0.0
        """cwnd / rtt when alpha was last set, in segments per nanosecond."""
        self.weight: float = 1.0
        """Share of the connection's rate."""
        self.least_queueing_ns: int = 0
        self._sampled_ns: int = 0
        self._samples: int = 0

    def on_ack(self, ack: AckSample) -> None:
        """Sample the round trip, and at its end move the window.

        An ACK for a train counts as a sample for each of its segments.
        """
        if ack.rtt_ns > 0:
            if self.base_rtt_ns == 0 or ack.rtt_ns < self.base_rtt_ns:
                self.base_rtt_ns = ack.rtt_ns
            count = max(1, ack.acked_bytes // self.mss_bytes)
            self._sampled_ns += ack.mean_rtt_ns * count
            self._samples += count
        cwnd_bytes = self.cwnd_bytes
        super().on_ack(ack)
        if ack.in_recovery or not self.round_ended:
            return
        if self._samples > FEWEST_SAMPLES and self.window_was_used():
            self._end_round(cwnd_bytes // self.mss_bytes, self._sampled_ns // self._samples)
        self._samples = 0
        self._sampled_ns = 0

    def avoid_congestion(self, acked_bytes: int, ack: AckSample) -> None:
        """Leave the window alone between the ends of rounds, unless delay cannot be judged."""
        if self.round_ended and self._samples <= FEWEST_SAMPLES:
            self.grow(acked_bytes * self.mss_bytes / self.cwnd_bytes)

    def on_recovery_exit(self, now_ns: int) -> None:
        """Start Vegas afresh, keeping the shortest round trip."""
        self._restart()

    def on_rto(self, now_ns: int, flight_size_bytes: int, first: bool) -> None:
        """Fall back to one segment and slow start, with Vegas afresh."""
        super().on_rto(now_ns, flight_size_bytes, first)
        self._restart()

    def restart_after_idle(self, now_ns: int) -> None:
        """Forget the shortest round trip as well: the path may have changed."""
        super().restart_after_idle(now_ns)
        self._restart()
        self.base_rtt_ns = 0

    def _restart(self) -> None:
        self._samples = 0
        self._sampled_ns = 0
        self.rate = 0.0
        self.weight = 1.0
        self.alpha_segments = LEAST_ALPHA
        self.least_queueing_ns = 0

    def _end_round(self, cwnd: int, rtt_ns: int) -> None:
        mss_bytes = self.mss_bytes
        queueing_ns = rtt_ns - self.base_rtt_ns
        queued = cwnd * queueing_ns // rtt_ns
        if not self.in_slow_start():
            self._avoid(cwnd, queued, queueing_ns, rtt_ns)
        elif queued > GAMMA:
            cwnd = min(cwnd, cwnd * self.base_rtt_ns // rtt_ns + 1)
            self.ssthresh_bytes = min(self.ssthresh_bytes, (cwnd - 1) * mss_bytes)
            self.cwnd_bytes = cwnd * mss_bytes
        self.cwnd_bytes = max(self.cwnd_bytes, LEAST_CWND_SEGMENTS * mss_bytes)
        # tcp_current_ssthresh of Linux: a window that shrank may grow back by slow start.
        self.ssthresh_bytes = max(self.ssthresh_bytes, self.cwnd_bytes * 3 // 4)

    def _avoid(self, cwnd: int, queued: int, queueing_ns: int, rtt_ns: int) -> None:
        mss_bytes = self.mss_bytes
        if queued >= self.alpha_segments:
            self.rate = cwnd / rtt_ns
            self._weigh()
            self.alpha_segments = max(LEAST_ALPHA, int(self.weight * TOTAL_ALPHA))
        if queued > self.alpha_segments:
            cwnd -= 1
            self.ssthresh_bytes = min(self.ssthresh_bytes, (cwnd - 1) * mss_bytes)
        elif queued < self.alpha_segments:
            cwnd += 1
        if self.least_queueing_ns == 0 or self.least_queueing_ns > queueing_ns:
            self.least_queueing_ns = queueing_ns
        # DEVIATION: the kernel drains also when there is no queueing at all (0 >= 2 * 0), which
        # only its clock's granularity keeps from happening in every round.
        if queueing_ns > 0 and queueing_ns >= 2 * self.least_queueing_ns:
            cwnd = cwnd * self.base_rtt_ns // (2 * rtt_ns)
            self.least_queueing_ns = 0
        self.cwnd_bytes = cwnd * mss_bytes

    def _weigh(self) -> None:
        total = 0.0
        for member in self.group.members:
            if isinstance(member, WVegas) and member._sampled_ns > 0:
                total += member.rate
        if total > 0.0 and self.rate > 0.0:
            self.weight = self.rate / total
