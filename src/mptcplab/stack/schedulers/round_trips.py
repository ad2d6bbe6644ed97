"""What a subflow's round trip is taken for, also while nothing measures it.

BLEST and ECF leave a slow subflow idle for as long as it looks slow.  Its smoothed round trip comes
from its last packets, which may have waited in a queue of their own making, as slow start leaves
behind; it is not measured again while it is idle.  The kernel's mptcp_blest.c and mptcp_ecf.c then
never come back to it.

DEVIATION: a subflow that has carried nothing for two of its round trips has let its own queue
drain.  It counts with the lowest round trip that it ever showed, until it carries data again and is
measured: one train, if the path is as slow as it was.
"""

from __future__ import annotations

from mptcplab.stack.schedulers.base import SubflowView


class RoundTrips:
    """The lowest and highest smoothed round trip of each subflow, and when it last carried data."""

    __slots__ = ("_busy_ns", "_range_ns")

    def __init__(self) -> None:
        self._busy_ns: dict[int, int] = {}
        self._range_ns: dict[int, tuple[int, int]] = {}

    def note(self, subflows: list[SubflowView], now_ns: int) -> None:
        """Take what is measured of each subflow now."""
        for subflow in subflows:
            number = subflow.subflow_id
            srtt_ns = subflow.congestion.srtt_ns
            low_ns, high_ns = self._range_ns.get(number, (srtt_ns, srtt_ns))
            if srtt_ns:
                low_ns = min(low_ns, srtt_ns) if low_ns else srtt_ns
            busy = subflow.in_flight_bytes + subflow.queued_bytes > 0
            if busy or number not in self._busy_ns:
                self._busy_ns[number] = now_ns
            if self.is_idle(subflow, now_ns):
                self._range_ns[number] = (low_ns, low_ns)
            else:
                self._range_ns[number] = (low_ns, max(high_ns, srtt_ns))

    def is_idle(self, subflow: SubflowView, now_ns: int) -> bool:
        """Say whether it has carried nothing for so long that its own queue has drained."""
        busy_ns = self._busy_ns.get(subflow.subflow_id, now_ns)
        return now_ns - busy_ns > 2 * subflow.congestion.srtt_ns

    def range_ns(self, subflow: SubflowView) -> tuple[int, int]:
        """Return the lowest and the highest smoothed round trip, as of the last note."""
        return self._range_ns[subflow.subflow_id]

    def round_trip_ns(self, subflow: SubflowView, now_ns: int) -> int:
        """Return what its round trip is taken for."""
        if self.is_idle(subflow, now_ns):
            return self._range_ns[subflow.subflow_id][0]
        return subflow.congestion.srtt_ns

    def variation_ns(self, subflow: SubflowView, now_ns: int) -> int:
        """Return what its RTTVAR is taken for: half a first round trip, as RFC 6298 has it."""
        if self.is_idle(subflow, now_ns):
            return min(subflow.rttvar_ns, self._range_ns[subflow.subflow_id][0] // 2)
        return subflow.rttvar_ns

    def forget(self, subflow_id: int) -> None:
        """Forget a subflow that closed."""
        self._busy_ns.pop(subflow_id, None)
        self._range_ns.pop(subflow_id, None)
