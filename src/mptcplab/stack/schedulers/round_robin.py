"""Round robin: the subflows take turns (out-of-tree kernel, mptcp_rr.c)."""

from __future__ import annotations

from mptcplab.stack.schedulers.base import (
    Allotment,
    ConnectionView,
    Scheduler,
    SubflowView,
    has_room,
)


class RoundRobin(Scheduler):
    """Each subflow in turn gets a burst.

    DEVIATION: the kernel's default burst is one segment. Here it is a train (up to 64 KiB), the
    unit in which hosts hand data to a NIC; give ``burst_segments=1`` for the kernel's.
    """

    __slots__ = ("_left_bytes", "_turn_id", "burst_segments", "fills_windows")

    def __init__(self, burst_segments: int = 0, fills_windows: bool = True) -> None:
        """Take the burst, 0 for a whole train, and whether a subflow without room is passed over.

        With ``fills_windows`` (the kernel's cwnd_limited) every window is used; without, the
        subflow whose turn it is makes the others wait.
        """
        self.burst_segments: int = burst_segments
        self.fills_windows: bool = fills_windows
        self._turn_id: int = -1
        self._left_bytes: int = 0

    def select(self, usable: list[SubflowView], view: ConnectionView) -> SubflowView | None:
        """Return the subflow that has the turn, or the next one after it that has room."""
        ordered = sorted(usable, key=_by_id)
        start = 0
        for index, subflow in enumerate(ordered):
            if subflow.subflow_id == self._turn_id and self._left_bytes > 0:
                start = index
                break
            if subflow.subflow_id > self._turn_id:
                start = index
                break
        for step in range(len(ordered)):
            subflow = ordered[(start + step) % len(ordered)]
            if has_room(subflow, view):
                return subflow
            if not self.fills_windows:
                return None
        return None

    def next_allotment(self, view: ConnectionView) -> Allotment | None:
        """Return what is left of the burst of the subflow whose turn it is."""
        allotment = super().next_allotment(view)
        if allotment is None:
            return None
        subflow = allotment.subflow
        if subflow.subflow_id != self._turn_id or self._left_bytes <= 0:
            self._turn_id = subflow.subflow_id
            self._left_bytes = self._burst_bytes(subflow, view)
        allotment.end_offset = min(allotment.end_offset, allotment.offset + self._left_bytes)
        self._left_bytes -= allotment.end_offset - allotment.offset
        return allotment

    def _burst_bytes(self, subflow: SubflowView, view: ConnectionView) -> int:
        if self.burst_segments:
            return self.burst_segments * subflow.congestion.mss_bytes
        return view.train_bytes - view.train_bytes % subflow.congestion.mss_bytes


def _by_id(subflow: SubflowView) -> int:
    return subflow.subflow_id
