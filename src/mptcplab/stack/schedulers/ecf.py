"""ECF, Earliest Completion First (Lim et al., CoNEXT 2017; out-of-tree kernel, mptcp_ecf.c).

Lowest RTT first, except that a slower subflow is left idle when waiting for the fastest would
finish what is left to send earlier. Subflows long idle count as ``round_trips`` says, which the
kernel's do not.
"""

from __future__ import annotations

from mptcplab.stack.schedulers.base import ConnectionView, SubflowView
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt, fastest
from mptcplab.stack.schedulers.round_trips import RoundTrips

BETA = 0.25
"""Hysteresis of the decision to wait (paper, section 3.2; kernel: 1 / r_beta = 1 / 4)."""


class Ecf(LowestRtt):
    """Lowest RTT, with waiting when that completes earlier."""

    __slots__ = ("_round_trips", "waiting")

    def __init__(self) -> None:
        super().__init__()
        self._round_trips = RoundTrips()
        self.waiting: bool = False
        """Whether the last decision about a slower subflow was to wait for the fastest."""

    def select(self, usable: list[SubflowView], view: ConnectionView) -> SubflowView | None:
        """Return the fastest subflow with room, or None if the fastest of all is worth waiting."""
        round_trips = self._round_trips
        round_trips.note(usable, view.now_ns)
        slow = super().select(usable, view)
        fast = fastest(usable)
        if slow is None or fast is None or slow is fast:
            return slow
        unsent_bytes = view.written_offset - view.sent_offset
        # The kernel takes 2 RTTVAR for the paper's standard deviation.
        slow_variation_ns = round_trips.variation_ns(slow, view.now_ns)
        delta_ns = 2 * max(fast.rttvar_ns, slow_variation_ns)
        fast_cwnd_bytes = fast.congestion.cwnd_bytes
        fast_srtt_ns = fast.congestion.srtt_ns
        slow_cwnd_bytes = slow.congestion.cwnd_bytes
        slow_srtt_ns = round_trips.round_trip_ns(slow, view.now_ns)
        fast_work_bytes = max(unsent_bytes, fast_cwnd_bytes)
        fast_time = fast_srtt_ns * (fast_work_bytes / fast_cwnd_bytes + 1.0)
        margin = 1.0 + BETA if self.waiting else 1.0
        if fast_time >= margin * (slow_srtt_ns + delta_ns):
            self.waiting = False
            return slow
        slow_work_bytes = max(unsent_bytes, slow_cwnd_bytes)
        if slow_srtt_ns * (slow_work_bytes / slow_cwnd_bytes) >= 2 * fast_srtt_ns + delta_ns:
            self.waiting = True
            return None
        return slow

    def on_subflow_closed(self, subflow_id: int) -> None:
        """Forget its round trips."""
        super().on_subflow_closed(subflow_id)
        self._round_trips.forget(subflow_id)
