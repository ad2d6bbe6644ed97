"""The data level: 64-bit numbers from 32 bits, and what was sent on more than one subflow."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.columns.interning import Words

_LOW: Final = np.uint64(0xFFFF_FFFF)
_SPACE: Final = 1 << 32


def relative(
    number: Words, is_wide: NDArray[np.bool_], from_idsn: NDArray[np.bool_], idsn: int
) -> Ints:
    """Return data sequence numbers, in order of time, relative to ``idsn``.

    64-bit numbers are exact.  32-bit numbers are taken to be within 2^31 of the one before them
    (RFC 8684 section 3.3.1 lets a sender use them only where that holds).
    """
    low = ((number - np.uint64(idsn & (1 << 64) - 1)) & _LOW).astype(np.int64)
    low[from_idsn] = (number[from_idsn] & _LOW).astype(np.int64)
    step = np.diff(low, prepend=0)
    step = ((step + _SPACE // 2) & (_SPACE - 1)) - _SPACE // 2
    out: Ints = np.cumsum(step)
    exact = is_wide & ~from_idsn
    if exact.any():
        wide = (number - np.uint64(idsn & (1 << 64) - 1)).view(np.int64)
        if exact.all():
            return wide
        # 32-bit numbers count from the latest exact one before them.
        place = np.maximum.accumulate(np.where(exact, np.arange(exact.size), -1))
        anchor = np.where(place >= 0, wide[place] - out[place], 0)
        out = np.where(exact, wide, out + anchor)
    return out


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
    """Disjoint ranges and who brought each."""

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
