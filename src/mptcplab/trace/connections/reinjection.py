"""What one side sent more than once at the data level, on another subflow or again on the same."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints


class Sent:
    """Everything one side sent, extent by extent in order of time."""

    def __init__(self, extents: NDArray[Any], start: Ints) -> None:
        """``start`` is each extent's relative data sequence number."""
        self.extents = extents
        self.start = start
        self.stop: Ints = start + extents["bytes"]

    def reinjections(self) -> tuple[Ints, Ints]:
        """Return (bytes sent before, extent that first carried the first of them) per extent.

        The second is -1 where nothing was sent before.
        """
        size = self.start.size
        before = np.zeros(size, dtype=np.int64)
        origin = np.full(size, -1, dtype=np.int64)
        if size < 2:
            return before, origin
        order = np.lexsort((np.arange(size), self.start))
        start, stop = self.start[order], self.stop[order]
        reach = np.maximum.accumulate(stop)
        breaks = np.append(True, start[1:] >= reach[:-1])
        cluster = np.cumsum(breaks) - 1
        crowded = np.flatnonzero(np.bincount(cluster)[cluster] > 1)
        if crowded.size == 0:
            return before, origin
        members = np.sort(order[crowded])
        covered = _Covered()
        for k in members.tolist():
            before[k], origin[k] = covered.add(int(self.start[k]), int(self.stop[k]), k)
        return before, origin


class _Covered:
    """Disjoint ranges, each with the extent that brought it."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._owners: list[int] = []

    def add(self, start: int, stop: int, owner: int) -> tuple[int, int]:
        """Add [start, stop); returns (bytes already covered, owner of the first of them or -1)."""
        starts, stops = self._starts, self._stops
        k = bisect_right(stops, start)
        if k == len(starts) or starts[k] >= stop:
            starts.insert(k, start)
            stops.insert(k, stop)
            self._owners.insert(k, owner)
            return 0, -1
        first = self._owners[k]
        before = 0
        at = start
        while k < len(starts) and starts[k] < stop:
            if at < starts[k]:  # a gap: ours
                gap = starts[k]
                starts.insert(k, at)
                stops.insert(k, gap)
                self._owners.insert(k, owner)
                k += 1
            before += min(stop, stops[k]) - max(at, starts[k])
            at = max(at, stops[k])
            k += 1
        if at < stop:
            starts.insert(k, at)
            stops.insert(k, stop)
            self._owners.insert(k, owner)
        return before, first
