"""Finding the records of a capture file in a block of its bytes.

A record says how long it is, so each one's place is known only when the one before has been read:
a chain, and a chain walked in Python costs more than everything else done to a packet.  Therefore
the block is cut into segments, the first record of each is *guessed* (a place where a plausible
record starts and leads to plausible records), and all segments are walked in step, one numpy
operation for all.  A guess is never trusted: the walk through a segment must arrive exactly at the
guessed start of the next; where it does not, that segment is walked again one record at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from mptcplab.trace.gather import Bytes, Ints, Mask

_SEGMENTS = 1024
_LOOK_RECORDS = 3  # a guess is sought within this many records' mean length
_FEWEST_RECORDS = 4096  # below this the plain walk is as fast


class RecordFormat(ABC):
    """What the walk must know of a file format."""

    header_bytes: int
    """A record's length can be read when this many of its bytes are there."""
    alignment: int
    """Records start at multiples of this many bytes from one another."""

    @abstractmethod
    def sizes(self, data: Bytes, at: Ints) -> Ints:
        """Return each record's length in bytes, header included; -1 where it cannot be right."""

    @abstractmethod
    def size(self, data: memoryview, at: int) -> int:
        """Return one record's length in bytes, header included; -1 where it cannot be right."""

    @abstractmethod
    def candidates(self, data: Bytes, bases: Ints, span: int) -> tuple[Ints, Ints]:
        """Return (segment, position) of plausible records within ``span`` bytes after each base.

        Ordered by segment and, within it, by position.
        """

    @abstractmethod
    def plausible(self, data: Bytes, at: Ints) -> Mask:
        """Tell which positions look like a record."""


@dataclass(slots=True)
class Walk:
    """The complete records found in a block."""

    offsets: Ints
    end: int
    """Where the first incomplete record starts."""
    damaged: bool = False
    """Whether the record at ``end`` states an impossible length."""


def walk(form: RecordFormat, data: Bytes, start: int, stop: int, mean_bytes: int) -> Walk:
    """Find all complete records in ``data[start:stop]``.

    ``mean_bytes`` is a record's usual length, 0 while unknown.
    """
    if mean_bytes == 0 or stop - start < _FEWEST_RECORDS * mean_bytes:
        return _walk_plainly(form, data, start, stop)
    starts = _guess_starts(form, data, start, stop, mean_bytes)
    if starts.size < 2:
        return _walk_plainly(form, data, start, stop)
    return _walk_in_step(form, data, starts, stop)


def _walk_plainly(form: RecordFormat, data: Bytes, start: int, stop: int) -> Walk:
    view = data.data
    size_of = form.size
    last = stop - form.header_bytes
    offsets = []
    at = start
    damaged = False
    while at <= last:
        size = size_of(view, at)
        if size < 0:
            damaged = True
            break
        if at + size > stop:
            break
        offsets.append(at)
        at += size
    return Walk(np.array(offsets, dtype=np.int64), at, damaged)


def _guess_starts(form: RecordFormat, data: Bytes, start: int, stop: int, mean_bytes: int) -> Ints:
    segment_bytes = (stop - start) // _SEGMENTS
    segment_bytes -= segment_bytes % form.alignment
    span = min(segment_bytes, _LOOK_RECORDS * mean_bytes)
    bases = start + segment_bytes * np.arange(1, _SEGMENTS, dtype=np.int64)
    segment, at = form.candidates(data, bases, span)
    following = at
    for _ in range(2):
        size = form.sizes(data, following)
        following = following + np.maximum(size, 0)
        good = (size >= 0) & (following + form.header_bytes <= stop)
        good[good] = form.plausible(data, following[good])
        segment, at, following = segment[good], at[good], following[good]
    first = np.ones(segment.size, dtype=bool)
    first[1:] = segment[1:] != segment[:-1]
    return np.concatenate((np.array([start], dtype=np.int64), at[first]))


def _walk_in_step(form: RecordFormat, data: Bytes, starts: Ints, stop: int) -> Walk:
    ends = np.append(starts[1:], stop)
    last = stop - form.header_bytes
    position = starts.copy()
    steps = []
    live = np.ones(starts.size, dtype=bool)
    while live.any():
        steps.append(np.where(live, position, -1))
        size = form.sizes(data, np.minimum(position, last))
        position = np.where(live, position + size, position)
        live &= (size > 0) & (position < ends) & (position <= last)
    visited = np.stack(steps, axis=1)
    counts = (visited >= 0).sum(axis=1)
    flat = visited.ravel()
    flat = flat[flat >= 0]
    if bool((position[:-1] == ends[:-1]).all()):
        return _without_incomplete(form, data, flat, stop)
    return _repair(form, data, flat, counts, position, ends, stop)


def _repair(
    form: RecordFormat,
    data: Bytes,
    flat: Ints,
    counts: Ints,
    landed: Ints,
    ends: Ints,
    stop: int,
) -> Walk:
    """Keep the segments that were entered where they were guessed; walk the others again."""
    bounds = np.append(0, np.cumsum(counts))
    pieces: list[Ints] = []
    at = int(flat[0])
    for k in range(counts.size):
        first = int(flat[bounds[k]])
        end = int(ends[k])
        if at == first:
            pieces.append(flat[bounds[k] : bounds[k + 1]])
            at = int(landed[k])
            if at == end:
                continue
            if k + 1 == counts.size or at <= int(pieces[-1][-1]):
                break
            # The next guess was wrong, or the length here is: read on one record at a time.
        if at >= end:
            continue
        again = _walk_plainly(form, data, at, end)
        pieces.append(again.offsets)
        at = again.end
        if again.damaged:
            break
        if at < end:  # the record reaches into the next segment
            size = form.size(data.data, at) if at + form.header_bytes <= stop else 0
            if size <= 0 or at + size > stop:
                break
            pieces.append(np.array([at], dtype=np.int64))
            at += size
    return _without_incomplete(form, data, np.concatenate(pieces), stop)


def _without_incomplete(form: RecordFormat, data: Bytes, offsets: Ints, stop: int) -> Walk:
    """Drop what the block cuts off at its end and say whether the chain broke."""
    size = form.sizes(data, offsets)
    bad = np.flatnonzero((size < 0) | (offsets + size > stop))
    if bad.size:
        k = int(bad[0])
        return Walk(offsets[:k], int(offsets[k]), bool(size[k] < 0))
    end = int(offsets[-1] + size[-1])
    damaged = end + form.header_bytes <= stop and form.size(data.data, end) < 0
    return Walk(offsets, end, damaged)
