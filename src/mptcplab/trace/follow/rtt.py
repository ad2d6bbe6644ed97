"""Round-trip times: from the newest data that an acknowledgement covers to it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.follow.by_direction import HalfOrder

_SHIFT: Final = 43  # ends are below 2^43, halves below 2^20
_MAX_WAITING: Final = 1 << 16
"""Unacknowledged data segments remembered from one batch to the next."""


class RoundTrips:
    """Data that waits for its acknowledgement: ends of data segments by half."""

    def __init__(self) -> None:
        empty: Ints = np.zeros(0, dtype=np.int64)
        self._half, self._end, self._time = empty, empty, empty

    def match(
        self,
        order: HalfOrder,
        time_ns: Ints,
        new_from: Ints,
        new_bytes: Ints,
        is_again: Mask,
        ack: Ints,
        advances: Mask,
        acked_before: Ints,
        halves: NDArray[Any],
    ) -> Ints:
        """Return the sample that each segment's acknowledgement gives, 0 for none.

        Karn's algorithm (RFC 6298 section 3): where anything was retransmitted between data and its
        acknowledgement, there is no sample.  ``acked_before`` is what each segment's side had
        acknowledged by then: an acknowledgement of a FIN says nothing of older data.  ``halves``
        has the state after the batch.
        """
        new = np.flatnonzero(new_bytes > 0)
        self._half = np.concatenate((self._half, order.half[new]))
        self._end = np.concatenate((self._end, new_from[new] + new_bytes[new]))
        self._time = np.concatenate((self._time, time_ns[new]))
        rtt = np.zeros(time_ns.size, dtype=np.int64)
        asking = np.flatnonzero(advances)
        again_ns = self._sent_again(order, time_ns, is_again, asking, halves)
        if asking.size and self._half.size:
            key = self._sorted()
            peer = order.half[asking] ^ 1
            wanted = ack[asking]
            place = np.searchsorted(key, _key(peer, wanted), side="right") - 1
            sent_ns, end = self._time[place], self._end[place]
            sample = time_ns[asking] - sent_ns
            good = (self._half[place] == peer) & (end <= wanted) & (place >= 0)
            good &= (sample > 0) & (end > acked_before[asking]) & (again_ns < sent_ns)
            rtt[asking] = sample * good
        waiting = np.flatnonzero(self._end > halves["acked"][self._half])[-_MAX_WAITING:]
        self._half, self._end = self._half[waiting], self._end[waiting]
        self._time = self._time[waiting]
        return rtt

    def _sorted(self) -> Ints:
        """Order the data by half and end; returns the sort keys."""
        key = _key(self._half, self._end)
        if (key[1:] < key[:-1]).any():
            order = np.argsort(key, kind="stable")
            self._half, self._end = self._half[order], self._end[order]
            self._time = self._time[order]
            key = key[order]
        return key

    @staticmethod
    def _sent_again(
        order: HalfOrder, time_ns: Ints, is_again: Mask, asking: Ints, halves: NDArray[Any]
    ) -> Ints:
        """When the half that each asking segment acknowledges last sent something again."""
        out: Ints = halves["retransmitted_ns"][order.half[asking] ^ 1]
        again = np.flatnonzero(is_again)
        if again.size:
            peer = order.peer[asking]
            place = np.where(peer >= 0, order.latest(is_again)[peer], -1)
            out = np.where(place >= 0, time_ns[place], out)
            np.maximum.at(halves["retransmitted_ns"], order.half[again], time_ns[again])
        return out


def _key(half: Ints, end: Ints) -> Ints:
    return (half << _SHIFT) + np.maximum(end, 0)
