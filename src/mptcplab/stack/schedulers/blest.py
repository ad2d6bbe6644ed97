"""BLEST: leave the slow subflow idle if using it would block the window (Ferlin et al., 2016).

Lowest RTT first, except that a slower subflow is used only if, while its data are on their way,
the fastest still finds room for all it could send in the connection's window. The estimate is
scaled by lambda, which grows while blocking happens nevertheless. Numbers and formulas as in the
out-of-tree kernel, mptcp_blest.c, but for subflows long idle: see ``round_trips``.
"""

from __future__ import annotations

from mptcplab.stack.congestion.base import UNLIMITED_BYTES
from mptcplab.stack.schedulers.base import ConnectionView, SubflowView, sendable_bytes
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt, fastest
from mptcplab.stack.schedulers.round_trips import RoundTrips

FIRST_LAMBDA = 1.2
LEAST_LAMBDA = 1.0
LARGEST_LAMBDA = 1.3
LAMBDA_UP = 0.04
"""Per round trip of the slow subflow in which the window was blocked."""
LAMBDA_DOWN = 0.01
"""Per round trip in which it was not."""
MOST_SLOW_START_ROUNDS = 16


class Blest(LowestRtt):
    """Lowest RTT, with waiting instead of blocking."""

    __slots__ = ("_blocked", "_lambda_ns", "_round_trips", "scale")

    def __init__(self) -> None:
        super().__init__()
        self.scale: float = FIRST_LAMBDA
        """Lambda: how much more the fast subflow is taken to send than estimated."""
        self._blocked: bool = False
        self._lambda_ns: int = -1
        self._round_trips = RoundTrips()

    def select(self, usable: list[SubflowView], view: ConnectionView) -> SubflowView | None:
        """Return the fastest subflow with room, or None if it would block the fastest of all."""
        self._round_trips.note(usable, view.now_ns)
        best = super().select(usable, view)
        overall = fastest(usable)
        if best is None or overall is None or best is overall:
            return best
        self._move_lambda(best, view.now_ns)
        fast_bytes = self._fast_bytes(overall, self._linger_ns(best, view.now_ns))
        wanted_bytes = view.pending_end_offset - view.pending_offset
        slow_bytes = sendable_bytes(best, wanted_bytes, view.train_bytes)
        slow_bytes += best.in_flight_bytes + best.queued_bytes
        window_bytes = view.window_end_offset - view.acked_offset
        return None if fast_bytes > max(0, window_bytes - slow_bytes) else best

    def on_window_blocked(self, view: ConnectionView) -> None:
        """Remember it for lambda."""
        self._blocked = True

    def on_subflow_closed(self, subflow_id: int) -> None:
        """Forget its round trips."""
        super().on_subflow_closed(subflow_id)
        self._round_trips.forget(subflow_id)

    def _move_lambda(self, slow: SubflowView, now_ns: int) -> None:
        if self._lambda_ns < 0:
            self._lambda_ns = now_ns
        if now_ns - self._lambda_ns < self._round_trips.range_ns(slow)[0]:
            return
        self.scale += LAMBDA_UP if self._blocked else -LAMBDA_DOWN
        self.scale = min(max(self.scale, LEAST_LAMBDA), LARGEST_LAMBDA)
        self._blocked = False
        self._lambda_ns = now_ns

    def _linger_ns(self, slow: SubflowView, now_ns: int) -> int:
        """Return how long data sent on ``slow`` now stay unacknowledged."""
        low_ns, high_ns = self._round_trips.range_ns(slow)
        control = slow.congestion
        flight_bytes = slow.in_flight_bytes + control.mss_bytes
        if flight_bytes >= control.cwnd_bytes:
            estimate_ns = high_ns
        else:
            estimate_ns = low_ns + (high_ns - low_ns) * flight_bytes // control.cwnd_bytes
        return max(self._round_trips.round_trip_ns(slow, now_ns), estimate_ns)

    def _fast_bytes(self, fast: SubflowView, time_ns: int) -> float:
        """Return what ``fast`` could send in ``time_ns``, taken for Reno, times lambda."""
        low_ns, high_ns = self._round_trips.range_ns(fast)
        mean_ns = (low_ns + high_ns) // 2
        rounds = time_ns // mean_ns + 1 if mean_ns else 1
        control = fast.congestion
        if control.ssthresh_bytes >= UNLIMITED_BYTES:
            rounds = min(rounds, MOST_SLOW_START_ROUNDS)
            return control.cwnd_bytes * float((1 << rounds) - 1) * self.scale
        window_bytes = max(control.cwnd_bytes, control.ssthresh_bytes + control.mss_bytes)
        return (window_bytes + (rounds - 1) // 2 * control.mss_bytes) * rounds * self.scale
