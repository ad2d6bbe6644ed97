"""Redundant: every subflow carries everything, so that the fastest path decides the latency.

Each regular subflow has a place of its own in the stream (as in the out-of-tree kernel's later
mptcp_redundant.c) and skips what was acknowledged meanwhile; backups are used alone, and only
while no regular subflow works.
"""

from __future__ import annotations

from mptcplab.stack.schedulers.base import (
    Allotment,
    ConnectionView,
    SubflowView,
    eligible_subflows,
    sendable_bytes,
)
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt


class Redundant(LowestRtt):
    """All data on all regular subflows."""

    __slots__ = ("_place",)

    def __init__(self) -> None:
        super().__init__(retransmits=False, penalises=False)
        self._place: dict[int, int] = {}

    def next_allotment(self, view: ConnectionView) -> Allotment | None:
        """Return the next piece for the fastest subflow that has room and is not at the end."""
        if not view.pending_is_new:
            return super().next_allotment(view)
        end_offset = max(view.sent_offset, min(view.pending_end_offset, view.window_end_offset))
        best: SubflowView | None = None
        for subflow in eligible_subflows(view.subflows, 0):
            left_bytes = end_offset - self._offset(subflow, view)
            if left_bytes <= 0 or sendable_bytes(subflow, left_bytes, view.train_bytes) <= 0:
                continue
            if best is None or subflow.congestion.srtt_ns < best.congestion.srtt_ns:
                best = subflow
        if best is None:
            return None
        offset = self._offset(best, view)
        if offset < view.sent_offset:
            end_offset = view.sent_offset
        length_bytes = sendable_bytes(best, end_offset - offset, view.train_bytes)
        if length_bytes == 0:
            return None
        self._place[best.subflow_id] = offset + length_bytes
        return Allotment(best, offset, offset + length_bytes)

    def on_probe(self, subflow_id: int, end_offset: int) -> None:
        """The subflow's place is behind the probe."""
        self._place[subflow_id] = end_offset

    def on_subflow_closed(self, subflow_id: int) -> None:
        """Forget its place in the stream."""
        super().on_subflow_closed(subflow_id)
        self._place.pop(subflow_id, None)

    def _offset(self, subflow: SubflowView, view: ConnectionView) -> int:
        place = min(self._place.get(subflow.subflow_id, 0), view.sent_offset)
        return max(place, view.acked_offset)
