"""Finding the records of a capture file in a block of its bytes.

A record states its length, so that the place of each is known only when the one before has been
read: a chain, and walking it in Python would cost more than everything else done to a packet.
Therefore all places where a plausible record starts are searched for, and the chain is followed
along them; that each leads to the next is checked for all at once.

Where such places are hard to recognise, the block is cut into segments, the first record of each is
*guessed* (a plausible one that leads to plausible records), and all segments are walked in step,
with one numpy operation for all.  No guess is trusted: the walk through a segment must arrive
exactly at the guessed start of the next; where it does not, that segment is walked again one record
at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Bytes, Heads, Ints, Mask, windows

_SCANNED_BYTES = 512  # a scan looks at every byte: faster where records are shorter than this
_BREAKS_APART = 16  # records in a row, on average, that a scan must find
_MOST_SEGMENTS = 1000  # not a power of two, or all segments compete for the same cache lines
_SEGMENT_RECORDS = 32  # at least so many a segment, or the steps do not pay
_LOOK_RECORDS = 3  # a guess is searched for within this many records' mean length
_FEWEST_RECORDS = 4096  # below this, or with fewer segments, the plain walk is as fast
_FEWEST_SEGMENTS = 64
_MOST_DOUBTS: Final = 64  # records of a block that are looked at more closely
_SURE_RECORDS: Final = 4  # in a row, after damage: chance makes no such chain
_MOST_STEPS = 16  # times the mean; where guesses fail, the rest is walked plainly

ABSURD: Final = 1 << 40
"""Stands for the length of a record that states an impossible one."""


class RecordFormat(ABC):
    """What the walk needs to know about a file format."""

    header_bytes: int
    """Bytes of a record that are needed to read its length."""
    head_bytes: int
    """Bytes copied from the start of each record."""
    alignment: int
    """Records start at multiples of this many bytes from one another."""

    @abstractmethod
    def begin(self, data: Bytes, stop: int) -> None:
        """Look at the first bytes of the file, before its records are read."""

    @abstractmethod
    def sizes(self, heads: Heads) -> Ints:
        """Return each record's length in bytes, header included, given the records' heads."""

    @abstractmethod
    def size(self, data: memoryview, at: int) -> int:
        """Return one record's length in bytes, header included."""

    def chain(self, _data: Bytes, _start: int, _stop: int) -> Walk | None:
        """Walk along the records by compiled code; None where there is none for the format."""
        return None

    @abstractmethod
    def scan(self, data: Bytes, start: int, stop: int) -> tuple[Ints, Heads] | None:
        """Return where plausible records start, ascending, and their heads.

        None where walking is faster.
        """

    @abstractmethod
    def candidates(self, data: Bytes, bases: Ints, span: int) -> tuple[Ints, Ints]:
        """Return (segment, position) of plausible records within ``span`` bytes after each base.

        Ordered by segment and, within it, by position.
        """

    @abstractmethod
    def plausible(self, data: Bytes, at: Ints) -> Mask:
        """Tell which positions look like a record."""

    @abstractmethod
    def places(self, data: Bytes, start: int, stop: int) -> Ints:
        """Return where plausible records start after damage, ascending."""

    @abstractmethod
    def doubtful(self, data: Bytes, at: Ints, heads: Heads) -> Ints:
        """Return which of the records at ``at`` may be none: they do not fit to the others."""

    def proven(self, _data: Bytes, at: Ints, _end: int, _following: int | None) -> Mask:
        """Tell which plausible records before ``end`` are ones whatever is around them.

        ``following`` is where the next record is that is known to be one, None for nowhere.
        """
        return np.zeros(at.size, dtype=bool)

    def heads(self, data: Bytes, at: Ints) -> Heads:
        """Copy the heads of the records at each position."""
        return windows(data, self.head_bytes)[at]


@dataclass(slots=True, eq=False, repr=False)
class Walk:
    """The complete records found in a block."""

    offsets: Ints
    heads: Heads
    end: int
    """Where the first incomplete record starts."""
    damaged: bool = False
    """Whether the record at ``end`` states an impossible length."""


def walk(form: RecordFormat, data: Bytes, start: int, stop: int, mean_bytes: int) -> Walk:
    """Find all complete records in ``data[start:stop]``.

    ``mean_bytes`` is a record's usual length, 0 while unknown.
    """
    compiled = form.chain(data, start, stop)
    if compiled is not None:
        return compiled
    if mean_bytes == 0 or stop - start < _FEWEST_RECORDS * mean_bytes:
        return _walk_plainly(form, data, start, stop)
    plausible = form.scan(data, start, stop) if mean_bytes <= _SCANNED_BYTES else None
    along = None if plausible is None else _walk_along(form, data, start, stop, *plausible)
    if along is not None:
        return along
    starts = _guess_starts(form, data, start, stop, mean_bytes)
    if starts.size < _FEWEST_SEGMENTS:
        return _walk_plainly(form, data, start, stop)
    records = (stop - start) // mean_bytes
    return _walk_in_step(form, data, starts, stop, _MOST_STEPS * (records // starts.size + 1))


def resume(
    form: RecordFormat, data: Bytes, start: int, stop: int, until: int, last: bool
) -> int | None:
    """Return where records go on after damage that ends before ``until``; None for nowhere.

    A plausible record counts where several follow it that are plausible and whole, or where those
    that do end with the file: ``last`` says that nothing comes after the block.
    """
    at = form.places(data, start, min(stop, until))
    following = at.copy()
    live = np.ones(at.size, dtype=bool)
    for _ in range(_SURE_RECORDS):
        rows = np.flatnonzero(live & (following + form.header_bytes <= stop))
        live &= last & (following == stop)
        places = following[rows]
        sizes = form.sizes(form.heads(data, places))
        live[rows] = form.plausible(data, places) & (places + sizes <= stop)
        following[rows] += sizes
    found = np.flatnonzero(live)
    return int(at[found[0]]) if found.size else None


def between_damage(
    form: RecordFormat, data: Bytes, start: int, end: int, following: int | None
) -> Walk:
    """Return the whole records in damaged bytes that prove to be ones by themselves.

    ``following`` is where records go on, None for nowhere.  The walk's end is that of the last one.
    """
    at = form.places(data, start, end)
    at = at[form.proven(data, at, end, following)]
    chosen = []
    free = start
    sizes = form.sizes(form.heads(data, at))
    for place, size in zip(at.tolist(), sizes.tolist(), strict=True):
        if place >= free:
            chosen.append(place)
            free = place + size
    offsets = np.array(chosen, dtype=np.int64)
    return Walk(offsets, form.heads(data, offsets), free)


def without_damage(form: RecordFormat, data: Bytes, records: Walk, stop: int, last: bool) -> Walk:
    """Return the records up to the first that is none, though it looked like one.

    That is one that does not fit to the others, and in the midst of which others begin.  ``last``
    says that no more bytes follow, so that what is incomplete is looked at as well.
    """
    at, heads = records.offsets, records.heads
    if last and not records.damaged and records.end + form.header_bytes <= stop:
        at = np.append(at, records.end)
        heads = form.heads(data, at)
    for k in form.doubtful(data, at, heads)[:_MOST_DOUBTS].tolist():
        end = int(at[k + 1]) if k + 1 < at.size else stop
        if resume(form, data, int(at[k]) + 1, stop, end, last) is not None:
            return Walk(
                records.offsets[:k], form.heads(data, records.offsets[:k]), int(at[k]), damaged=True
            )
    return records


def _walk_plainly(
    form: RecordFormat, data: Bytes, start: int, stop: int, until: int | None = None
) -> Walk:
    """Walk one record at a time, up to the first that starts at ``until`` or later."""
    view = data.data
    size_of = form.size
    last = stop - form.header_bytes if until is None else min(stop - form.header_bytes, until - 1)
    offsets = []
    at = start
    damaged = False
    while at <= last:
        size = size_of(view, at)
        if at + size > stop:
            damaged = size == ABSURD
            break
        offsets.append(at)
        at += size
    places = np.array(offsets, dtype=np.int64)
    return Walk(places, form.heads(data, places), at, damaged)


def _walk_along(
    form: RecordFormat, data: Bytes, start: int, stop: int, at: Ints, heads: Heads
) -> Walk | None:
    """Follow the chain along the plausible records, at ``at``; None where it hardly does so."""
    following = at + form.sizes(heads)
    whole = following <= stop
    breaks = np.flatnonzero(~np.append((following[:-1] == at[1:]) & whole[:-1], False))
    if breaks.size > at.size // _BREAKS_APART:
        return None
    count = at.size - int(not whole[-1])
    if at[0] == start and breaks.size == 1 and count:
        end = int(following[count - 1])
        return _to_the_end(form, data, at[:count], heads[:count], end, stop)
    pieces: list[Ints] = []
    position = start
    while position < stop:
        k = int(np.searchsorted(at, position))
        if k < at.size and at[k] == position:
            last = int(breaks[np.searchsorted(breaks, k)])
            end = last + int(whole[last])
            pieces.append(at[k:end])
            position = int(following[end - 1]) if end > k else position
            if end <= last:
                break
            continue
        until = int(at[k]) if k < at.size else stop
        between = _walk_plainly(form, data, position, stop, until)
        pieces.append(between.offsets)
        position = between.end
        if position < until:
            break
    places = np.concatenate(pieces)
    return _to_the_end(form, data, places, form.heads(data, places), position, stop)


def _to_the_end(
    form: RecordFormat, data: Bytes, offsets: Ints, heads: Heads, end: int, stop: int
) -> Walk:
    """Return complete records, and whether the chain broke where they end."""
    damaged = end + form.header_bytes <= stop and form.size(data.data, end) == ABSURD
    return Walk(offsets, heads, end, damaged)


def _guess_starts(form: RecordFormat, data: Bytes, start: int, stop: int, mean_bytes: int) -> Ints:
    segments = min(_MOST_SEGMENTS, (stop - start) // (_SEGMENT_RECORDS * mean_bytes))
    segment_bytes = (stop - start) // segments
    segment_bytes -= segment_bytes % form.alignment
    span = min(segment_bytes, _LOOK_RECORDS * mean_bytes)
    bases = start + segment_bytes * np.arange(1, segments, dtype=np.int64)
    segment, at = form.candidates(data, bases, span)
    following = at
    for _ in range(2):
        size = form.sizes(form.heads(data, following))
        following = following + size
        good = following + form.header_bytes <= stop
        good[good] = form.plausible(data, following[good])
        segment, at, following = segment[good], at[good], following[good]
    first = np.ones(segment.size, dtype=bool)
    first[1:] = segment[1:] != segment[:-1]
    return np.concatenate((np.array([start], dtype=np.int64), at[first]))


def _walk_in_step(
    form: RecordFormat, data: Bytes, starts: Ints, stop: int, most_steps: int
) -> Walk:
    past = stop - form.header_bytes + 1
    ends = np.append(starts[1:], past)
    view = windows(data, form.head_bytes)
    position = starts
    places: list[Ints] = []
    heads: list[Heads] = []
    # Those that have arrived walk on into the next segment, unused, until all have.
    while (position < ends).any() and len(places) < most_steps:
        head = view[position]
        places.append(position)
        heads.append(head)
        position = np.minimum(position + form.sizes(head), past)
    places.append(position)
    visited = np.stack(places, axis=1)
    mine = visited[:, :-1] < ends[:, None]
    counts = mine.sum(axis=1)
    chosen = np.flatnonzero(mine)
    flat = visited[:, :-1].ravel().take(chosen)
    every = np.stack(heads, axis=1).ravel().take(chosen)
    landed = visited[np.arange(counts.size), counts]
    if bool((landed == ends).all()):
        return _without_incomplete(form, data, flat, every, stop)
    ends[-1] = stop
    return _repair(form, data, flat, counts, landed, ends, stop)


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
            through = k + 1 == counts.size and at > stop - form.header_bytes
            if through or form.size(data.data, int(pieces[-1][-1])) == ABSURD:
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
    places = np.concatenate(pieces)
    return _without_incomplete(form, data, places, form.heads(data, places), stop)


def _without_incomplete(
    form: RecordFormat, data: Bytes, offsets: Ints, heads: Heads, stop: int
) -> Walk:
    """Drop what the block cuts off at its end and say whether the chain broke."""
    size = form.sizes(heads)
    bad = np.flatnonzero(offsets + size > stop)
    if bad.size:
        k = int(bad[0])
        return Walk(offsets[:k], heads[:k], int(offsets[k]), bool(size[k] == ABSURD))
    return _to_the_end(form, data, offsets, heads, int(offsets[-1] + size[-1]), stop)
