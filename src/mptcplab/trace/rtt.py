"""Round-trip times: each new acknowledgement against the newest data that it covers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.gather import Ints, Mask
from mptcplab.trace.running import LOWEST, Groups

_SHIFT: Final = 44
_MAX_WAITING: Final = 1 << 16
"""Unacknowledged data segments remembered from one batch to the next."""


class RoundTrips:
    """Data that waits for its acknowledgement."""

    def __init__(self) -> None:
        empty: Ints = np.zeros(0, dtype=np.int64)
        self._half, self._end, self._time = empty, empty, empty

    def match(
        self,
        groups: Groups,
        half: Ints,
        time_ns: Ints,
        end: Ints,
        is_new: Mask,
        is_again: Mask,
        ack: Ints,
        acked_before: Ints,
        halves: NDArray[Any],
    ) -> Ints:
        """Return the sample that each segment's acknowledgement gives, 0 for none.

        Karn's rule: data of which anything was sent again between it and its acknowledgement gives
        no sample (RFC 6298 section 3).  ``acked_before`` is what each segment's side had
        acknowledged by then: an acknowledgement of a FIN says nothing of older data.
        """
        advances = ack > acked_before
        new = np.flatnonzero(is_new)
        points = Points(
            np.concatenate((self._half, half[new])),
            np.concatenate((self._end, end[new])),
            np.concatenate((self._time, time_ns[new])),
        )
        rtt = np.zeros(half.size, dtype=np.int64)
        asking = np.flatnonzero(advances)
        if asking.size and points.half.size:
            rank = points.sort()
            peer = half[asking] ^ 1
            place = points.find(rank, peer, ack[asking])
            sample = time_ns[asking] - points.time[place]
            good = (points.half[place] == peer) & (points.end[place] <= ack[asking])
            good &= (sample > 0) & (points.end[place] > acked_before[asking])
            again_ns = self._sent_again(groups, half, time_ns, is_again, halves)[asking]
            good &= again_ns < points.time[place]
            rtt[asking[good]] = sample[good]
        else:
            self._sent_again(groups, half, time_ns, is_again, halves)
        acked = halves["acked"][points.half]
        latest = np.flatnonzero(advances)
        if latest.size:
            highest = np.full(halves.size, LOWEST)
            np.maximum.at(highest, half[latest] ^ 1, ack[latest])
            acked = np.maximum(acked, highest[points.half])
        waiting = np.flatnonzero(points.end > acked)[-_MAX_WAITING:]
        self._half, self._end = points.half[waiting], points.end[waiting]
        self._time = points.time[waiting]
        return rtt

    def _sent_again(
        self, groups: Groups, half: Ints, time_ns: Ints, is_again: Mask, halves: NDArray[Any]
    ) -> Ints:
        """When the half that each segment acknowledges last sent something again."""
        initial = halves["retransmitted_ns"][half ^ 1]
        if not is_again.any():
            return np.asarray(initial)
        out = np.asarray(initial).copy()
        for direction in (0, 1):
            mine = is_again & (half & 1 == direction)
            place = groups.last_where(mine)
            asking = (half & 1 != direction) & (place >= 0)
            out[asking] = time_ns[place[asking]]
        again = np.flatnonzero(is_again)
        np.maximum.at(halves["retransmitted_ns"], half[again], time_ns[again])
        return out


class Points:
    """Ends of data segments by half."""

    def __init__(self, half: Ints, end: Ints, time: Ints) -> None:
        self.half, self.end, self.time = half, end, time
        self._ids: Ints = np.zeros(0, dtype=np.int64)

    def sort(self) -> Ints:
        """Order by half and end; returns the sort keys."""
        self._ids = np.unique(self.half)
        key = self._key(self.half, self.end)
        if (key[1:] < key[:-1]).any():
            order = np.argsort(key, kind="stable")
            self.half, self.end, self.time = self.half[order], self.end[order], self.time[order]
            key = key[order]
        return key

    def find(self, key: Ints, half: Ints, end: Ints) -> Ints:
        """Return the place of the last point of ``half`` that ends at or before ``end``."""
        return np.maximum(np.searchsorted(key, self._key(half, end), side="right") - 1, 0)

    def _key(self, half: Ints, end: Ints) -> Ints:
        return (np.searchsorted(self._ids, half) << _SHIFT) + np.maximum(end, 0)
