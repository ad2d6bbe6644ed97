"""BALIA, the Balanced Linked Adaptation (draft-walid-mptcp-congestion-control-04).

Between LIA, which can be unfriendly to TCP, and OLIA, which can be slow to answer: both increase
and decrease depend on how far a path's rate is below the best of the connection.
"""

from __future__ import annotations

from mptcplab.stack.congestion.base import AckSample, CongestionControl

MAX_DECREASE = 1.5
"""A loss takes at most 1.5 / 2 of the window (draft, section 3)."""


class Balia(CongestionControl):
    """Balanced linked increase and decrease.

    DEVIATION: the out-of-tree kernel (mptcp_balia.c) divides rates as integers, which makes every
    alpha in [1, 2) act as 1 at a loss; here alpha is exact, as the draft has it.
    """

    __slots__ = ()

    def avoid_congestion(self, acked_bytes: int, ack: AckSample) -> None:
        """Add x/(rtt (sum x)^2) (1+alpha)/2 (4+alpha)/5 segments per segment acknowledged."""
        rate_sum = 0.0
        best_rate = 0.0
        for member in self.group.members:
            if member.srtt_ns > 0:
                member_rate = member.cwnd_bytes / member.srtt_ns
                rate_sum += member_rate
                best_rate = max(best_rate, member_rate)
        if rate_sum == 0.0 or self.srtt_ns == 0:
            self.grow(acked_bytes * self.mss_bytes / self.cwnd_bytes)
            return
        rate = self.cwnd_bytes / self.srtt_ns
        alpha = best_rate / rate
        linked = rate / self.srtt_ns / (rate_sum * rate_sum)
        balance = (1.0 + alpha) / 2.0 * (4.0 + alpha) / 5.0
        self.grow(acked_bytes * self.mss_bytes * linked * balance)

    def ssthresh_after_loss(self, flight_bytes: int) -> int:
        """Take w/2 min(alpha, 1.5) off, down to two segments.

        DEVIATION: the draft and mptcp_balia.c go down to one when there are other paths; with one
        segment every acknowledgment is a delayed one and every loss a timeout, which holds the
        path far below its equilibrium.
        """
        if len(self.group.members) < 2 or self.srtt_ns == 0:
            return super().ssthresh_after_loss(flight_bytes)
        rate = self.cwnd_bytes / self.srtt_ns
        best_rate = rate
        for member in self.group.members:
            if member.srtt_ns > 0:
                best_rate = max(best_rate, member.cwnd_bytes / member.srtt_ns)
        decrease = flight_bytes / 2.0 * min(best_rate / rate, MAX_DECREASE)
        return max(int(flight_bytes - decrease), 2 * self.mss_bytes)
