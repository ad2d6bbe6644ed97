"""A batch sorted by half, and running values within each half without a loop over them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints, Mask

_SHIFT: Final = 44
"""Bits for a value: halves are kept apart by adding their place above them."""

LOWEST: Final = -(1 << 42)
"""Stands for "no value"; values are between this and its negative (4 TiB of sequence space)."""


class HalfOrder:
    """The followed segments of a batch sorted by half, each half in order of time."""

    def __init__(self, ids: Ints, counts: Ints, peer: NDArray[Any]) -> None:
        """Take the halves in the batch, ascending, how many segments each has, and the peers."""
        self.ids = ids
        """The halves in the batch, ascending."""
        self.counts = counts
        ends = np.cumsum(counts)
        self.size = int(ends[-1])
        self.ends: Ints = ends - 1
        self.starts: Ints = ends - counts
        self.half: Ints = self.each(ids)
        """Of each segment."""
        self.start: Ints = self.each(self.starts)
        """The place of the first segment of each one's half."""
        self.peer: Ints = peer.astype(np.int64, copy=False)
        """The place of the latest segment of the flow's other half, -1 for none."""
        self._above: Ints = self.each(np.arange(ids.size) << _SHIFT)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a pickle hold what the rest follows from."""
        return HalfOrder, (self.ids, self.counts, self.peer.astype(np.int32))

    @staticmethod
    def of(half: Ints, bound: int) -> tuple[HalfOrder, Ints]:
        """Sort by ``half``, all of which are in 0 .. ``bound`` - 1; ``bound`` is even.

        Returns the order, and what sorts a column of the batch by half.
        """
        flow = half >> 1
        present = np.zeros(bound >> 1, dtype=bool)
        present[flow] = True
        flows = np.flatnonzero(present)
        dense = np.zeros(bound >> 1, dtype=np.uint16)
        dense[flows] = np.arange(flows.size)
        row = dense[flow]
        second = half & 1
        every = 2 * row.astype(np.int64) + second
        sizes = np.bincount(every, minlength=2 * flows.size)
        ids = (2 * flows[:, None] + np.arange(2)).ravel()
        by_half, peer = _places(np.argsort(row, kind="stable"), second, sizes)
        return HalfOrder(ids[sizes > 0], sizes[sizes > 0], peer), by_half

    def each(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return a value of every half for each of its segments."""
        return np.repeat(values, self.counts)

    def running_max(self, values: Ints, initial: Ints) -> tuple[Ints, Ints]:
        """Return the greatest value so far, with and without the segment itself.

        ``initial`` is what came before the batch, per half.
        """
        including = values + self._above
        starts = self.starts
        including[starts] = np.maximum(including[starts], initial + self._above[starts])
        np.maximum.accumulate(including, out=including)
        including -= self._above
        excluding = np.empty_like(including)
        excluding[1:] = including[:-1]
        excluding[starts] = initial
        return including, excluding

    def last_of(self, places: Ints) -> Ints:
        """Return the last of the (ascending) places in every half, -1 for none."""
        return last_within(places, self.starts, self.ends)

    def latest(self, mask: Mask) -> Ints:
        """Return the place of each one's latest in ``mask`` in its half, itself included, or -1."""
        place = np.where(mask, np.arange(self.size), -1)
        latest: Ints = np.maximum.accumulate(place)
        latest[latest < self.start] = -1
        return latest


def _places(by_flow: Ints, second: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """Return what sorts a batch by half, and the latest segment of the other half by each.

    Of a flow's segments up to any one of them, those not of one direction are of the other:
    counting one direction gives the places of both.
    """
    ends = np.cumsum(sizes)
    flow_sizes = sizes[0::2] + sizes[1::2]
    second = second[by_flow]
    ones = np.cumsum(second)
    before = np.cumsum(sizes[1::2]) - sizes[1::2]  # seconds of earlier flows
    first_place = np.arange(second.size) - ones + np.repeat(before, flow_sizes)
    second_place = ones + np.repeat(ends[0::2] - 1 - before, flow_sizes)
    own = np.where(second.astype(bool), second_place, first_place)
    by_half = np.empty(second.size, dtype=np.int64)
    by_half[own] = by_flow
    peer = np.empty(second.size, dtype=np.int64)
    peer[own] = first_place + second_place - own
    peer_start = (ends - sizes).reshape(-1, 2)[:, ::-1].ravel()
    peer[peer < np.repeat(peer_start, sizes)] = -1
    return by_half, peer


def last_index(places: Ints, starts: Ints, ends: Ints) -> Ints:
    """Return the index of the last of the (ascending) places from each start to each end, or -1."""
    if places.size == 0:
        return np.full(starts.size, -1, dtype=np.int64)
    index = np.searchsorted(places, ends, side="right") - 1
    return np.where((index >= 0) & (places[index] >= starts), index, -1)


def last_within(places: Ints, starts: Ints, ends: Ints) -> Ints:
    """Return the last of the (ascending) places from each start to each end, -1 for none."""
    index = last_index(places, starts, ends)
    return np.where(index >= 0, places[index], -1) if places.size else index
