"""NewReno: the standard AIMD window (RFC 5681 and 6582), uncoupled."""

from __future__ import annotations

from mptcplab.stack.congestion.base import AckSample, CongestionControl


class NewReno(CongestionControl):
    """One segment per window of acknowledged data; half on a loss."""

    __slots__ = ()

    def avoid_congestion(self, acked_bytes: int, ack: AckSample) -> None:
        """Add SMSS * SMSS / cwnd per segment acknowledged (RFC 5681, equation 3)."""
        self.grow(acked_bytes * self.mss_bytes / self.cwnd_bytes)
