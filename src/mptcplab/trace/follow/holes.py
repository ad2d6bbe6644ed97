"""Gaps in the sequence space of a flow's direction as the capture saw it."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

REORDERED_NS: Final = 3_000_000
"""A gap filled within this time was reordering, later a retransmission (Wireshark's default)."""

_MAX_HOLES: Final = 1024


class Holes:
    """Sequence space that one direction of a flow has skipped and not filled since."""

    __slots__ = ("_ends", "_opened_ns", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._opened_ns: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    def open(self, start: int, end: int, now_ns: int) -> None:
        """Note that [start, end), beyond everything seen, is missing."""
        if len(self._starts) == _MAX_HOLES:
            del self._starts[0], self._ends[0], self._opened_ns[0]
        self._starts.append(start)
        self._ends.append(end)
        self._opened_ns.append(now_ns)

    def fill(self, start: int, end: int) -> tuple[int, int]:
        """Take [start, end) as seen; returns (missing bytes it brought, when they went missing).

        The time is that of the first gap it touched, 0 for none.
        """
        k = bisect_left(self._ends, start + 1)
        filled, opened_ns = 0, 0
        while k < len(self._starts) and self._starts[k] < end:
            hole_start, hole_end, since = self._starts[k], self._ends[k], self._opened_ns[k]
            opened_ns = opened_ns or since
            filled += min(end, hole_end) - max(start, hole_start)
            del self._starts[k], self._ends[k], self._opened_ns[k]
            for left, right in ((hole_start, start), (end, hole_end)):
                if left < right:
                    self._starts.insert(k, left)
                    self._ends.insert(k, right)
                    self._opened_ns.insert(k, since)
                    k += 1
        return filled, opened_ns

    def forget_below(self, acknowledged: int) -> int:
        """Drop what was acknowledged although it was never captured; returns its bytes."""
        gone = 0
        while self._starts and self._ends[0] <= acknowledged:
            gone += self._ends[0] - self._starts[0]
            del self._starts[0], self._ends[0], self._opened_ns[0]
        return gone

    def missing(self) -> int:
        """Return the bytes in gaps."""
        return sum(self._ends) - sum(self._starts)
