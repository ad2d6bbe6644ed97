"""TCP streams numbered as Wireshark does (``tcp.stream``), plain TCP included.

A stream is an address pair with its ports; a SYN with another sequence number starts a new one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.columns.growing import grown
from mptcplab.trace.columns.interning import Interner
from mptcplab.trace.columns.sorting import distinct
from mptcplab.trace.decode.segments import ACK, SYN, Segments


class Streams:
    """The streams of a capture, numbered in the order of their first segments."""

    def __init__(self) -> None:
        self._pairs = Interner(3)
        self._count = 0
        self._stream: Ints = np.zeros(64, dtype=np.int64)
        """The latest stream of each pair."""
        self._base: dict[tuple[int, int], int] = {}
        """(pair, direction) -> the sequence number before the first byte."""

    def numbers(self, segments: Segments) -> Ints:
        """Return the stream of each segment of the next batch."""
        known = self._pairs.count
        ports = segments.ports
        swapped = ports >> 16 | (ports & 0xFFFF) << 16
        second = segments.source > segments.destination
        second |= (segments.source == segments.destination) & (ports > swapped)
        words: list[NDArray[np.uint64]] = [
            np.where(second, segments.destination, segments.source).view(np.uint64),
            np.where(second, segments.source, segments.destination).view(np.uint64),
            np.where(second, swapped, ports).view(np.uint64),
        ]
        pair = self._pairs.find(words)
        self._stream = grown(self._stream, self._pairs.count)
        fresh = np.flatnonzero(pair >= known)
        numbers, first = np.unique(pair[fresh], return_index=True)
        order = np.argsort(first)
        self._stream[numbers[order]] = self._count + np.arange(numbers.size)
        self._count += numbers.size
        stream = self._stream[pair]
        self._note_bases(segments, pair, second, stream)
        return stream

    def _note_bases(
        self, segments: Segments, pair: Ints, second: NDArray[np.bool_], stream: Ints
    ) -> None:
        """Note where each direction starts, and start a new stream where a SYN says so."""
        side = 2 * pair + second
        _, firsts = np.unique(side, return_index=True)
        syns = np.flatnonzero(segments.flags & (SYN | ACK) == SYN)
        for row in distinct(np.append(firsts, syns)).tolist():
            key = int(pair[row]), int(second[row])
            flags, seq = int(segments.flags[row]), int(segments.seq[row])
            is_syn = flags & (SYN | ACK) == SYN
            if is_syn and self._base.get(key, seq) != seq:
                later = np.flatnonzero(pair[row:] == key[0]) + row
                stream[later] = self._stream[key[0]] = self._count
                self._count += 1
                self._base.pop((key[0], key[1] ^ 1), None)
                self._base[key] = seq
            self._base.setdefault(key, seq if flags & SYN else seq - 1 & 0xFFFF_FFFF)
