"""LIA, the Linked Increases Algorithm (RFC 6356): equations 1 to 3 of the 2012 report.

The increases of a connection's subflows are linked so that together they take what TCP would on
the best of their paths, and no subflow takes more than TCP on its own path. Slow start, halving
and timeouts are TCP's. RFC 6356 lets alpha be refreshed once per RTT; here it is exact for every
ACK, which costs a loop over a handful of subflows.
"""

from __future__ import annotations

from mptcplab.stack.congestion.base import AckSample, CongestionControl, CongestionGroup


def lia_alpha(group: CongestionGroup) -> float:
    """Return the aggressiveness of the group (RFC 6356, section 3; equation 2 of the report).

    Subflows without a round-trip sample do not count; 0.0 when none has one.
    """
    total_bytes = 0
    best = 0.0
    rate_sum = 0.0
    for member in group.members:
        rtt_ns = member.srtt_ns
        if rtt_ns > 0:
            rate = member.cwnd_bytes / rtt_ns
            total_bytes += member.cwnd_bytes
            rate_sum += rate
            best = max(best, rate / rtt_ns)
    if rate_sum == 0.0:
        return 0.0
    return total_bytes * best / (rate_sum * rate_sum)


class Lia(CongestionControl):
    """Linked increase, per-subflow halving."""

    __slots__ = ()

    def avoid_congestion(self, acked_bytes: int, ack: AckSample) -> None:
        """Add min(alpha / cwnd_total, 1 / cwnd_i) segments per segment (equation 1)."""
        total_bytes = 0
        for member in self.group.members:
            if member.srtt_ns > 0:
                total_bytes += member.cwnd_bytes
        scaled_bytes = acked_bytes * self.mss_bytes
        increase_bytes = scaled_bytes / self.cwnd_bytes
        if total_bytes > self.cwnd_bytes:
            linked_bytes = lia_alpha(self.group) * scaled_bytes / total_bytes
            increase_bytes = min(increase_bytes, linked_bytes)
        self.grow(increase_bytes)
