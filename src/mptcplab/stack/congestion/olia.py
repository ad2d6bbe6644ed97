"""OLIA, the Opportunistic Linked Increases Algorithm (Khalili et al., CoNEXT 2012).

``Olia`` ranks paths as the paper and the out-of-tree kernel do (mptcp_olia.c), ``OliaDraft`` as
draft-khalili-mptcp-congestion-control-05 does.

The first term of the increase moves traffic to the less congested paths (as fully coupled control
would); the second takes window from the paths that have the largest and gives it to good paths
that have not, so that the algorithm answers to change without flapping.

DEVIATION: after a loss the window is at least two segments, as in the out-of-tree kernel
(mptcp_olia.c, tcp_reno_ssthresh), where the draft allows one when there are other paths: with one
segment every acknowledgment is a delayed one and every loss a timeout, and a path that lost the
more would stay there, far below its equilibrium.
"""

from __future__ import annotations

from mptcplab.stack.congestion.base import AckSample, CongestionControl, CongestionGroup


class Olia(CongestionControl):
    """Linked increase with opportunistic shifts; the best paths are the paper's."""

    __slots__ = ("between_losses_bytes", "since_loss_bytes")

    def __init__(self, mss_bytes: int, group: CongestionGroup) -> None:
        super().__init__(mss_bytes, group)
        self.between_losses_bytes: int = 0
        """Acknowledged between the last two losses (l1 of the paper)."""
        self.since_loss_bytes: int = 0
        """Acknowledged after the last loss (l2 of the paper)."""

    def path_quality(self) -> float:
        """Return what the best paths have most of: l / rtt^2, with l the larger of l1 and l2.

        Between losses at rate p a path has 1/p acknowledged, so that sqrt(2 l) / rtt is the rate of
        a TCP on it (the paper's section on OLIA; mptcp_get_epsilon of the kernel).
        """
        distance_bytes = float(max(self.between_losses_bytes, self.since_loss_bytes))
        return distance_bytes / self.srtt_ns / self.srtt_ns

    def on_ack(self, ack: AckSample) -> None:
        """Count the distance between losses, in every state, then open the window."""
        self.since_loss_bytes += ack.acked_bytes
        super().on_ack(ack)

    def avoid_congestion(self, acked_bytes: int, ack: AckSample) -> None:
        """Add (w/rtt^2 / (sum w/rtt)^2 + alpha / w) segments per segment; keep at least one."""
        rate_sum = 0.0
        for member in self.group.members:
            if member.srtt_ns > 0:
                rate_sum += member.cwnd_bytes / member.srtt_ns
        cwnd_bytes = self.cwnd_bytes
        if rate_sum == 0.0 or self.srtt_ns == 0:
            self.grow(acked_bytes * self.mss_bytes / cwnd_bytes)
            return
        rate = cwnd_bytes / self.srtt_ns
        linked = rate / self.srtt_ns / (rate_sum * rate_sum)
        self.grow(acked_bytes * self.mss_bytes * (linked + self.shift() / cwnd_bytes))
        if self.cwnd_bytes < self.mss_bytes:
            self.cwnd_bytes = self.mss_bytes

    def shift(self) -> float:
        """Return this path's alpha: positive to gain window, negative to give it up."""
        members: list[Olia] = []
        for member in self.group.members:
            if member.srtt_ns > 0 and isinstance(member, Olia):
                members.append(member)
        largest_bytes = 0
        best = 0.0
        for member in members:
            largest_bytes = max(largest_bytes, member.cwnd_bytes)
            best = max(best, member.path_quality())
        largest = 0
        collected = 0
        for member in members:
            if member.cwnd_bytes == largest_bytes:
                largest += 1
            elif member.path_quality() == best:
                collected += 1
        if collected == 0:
            return 0.0
        if self.cwnd_bytes == largest_bytes:
            return -1.0 / (len(members) * largest)
        if self.path_quality() == best:
            return 1.0 / (len(members) * collected)
        return 0.0

    def on_loss_event(self, now_ns: int, flight_size_bytes: int) -> None:
        """Start a new distance between losses and halve."""
        self._start_distance()
        super().on_loss_event(now_ns, flight_size_bytes)

    def on_rto(self, now_ns: int, flight_size_bytes: int, first: bool) -> None:
        """Start a new distance on the first expiry and fall back to one segment."""
        if first:
            self._start_distance()
        super().on_rto(now_ns, flight_size_bytes, first)

    def _start_distance(self) -> None:
        if self.since_loss_bytes > 0:
            self.between_losses_bytes = self.since_loss_bytes
            self.since_loss_bytes = 0


class OliaDraft(Olia):
    """OLIA with the best paths as the draft has them."""

    __slots__ = ()

    def path_quality(self) -> float:
        """Return l^2 / rtt (draft-khalili-mptcp-congestion-control-05, section 2)."""
        distance_bytes = float(max(self.between_losses_bytes, self.since_loss_bytes))
        return distance_bytes * distance_bytes / self.srtt_ns
