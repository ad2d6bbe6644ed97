"""Which data are in whose hands: unacknowledged pieces of the stream and their carriers.

A carrier set is an integer with bit ``1 << subflow_id`` for each subflow that was given the data.
Offsets are stream offsets.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from mptcplab.compiling import mypyc_attr

if TYPE_CHECKING:
    from mypy_extensions import i64


@mypyc_attr(free_list_len=1)
class Piece:
    """A run of the stream with one set of carriers throughout."""

    __slots__ = ("carriers", "end", "start")

    def __init__(self, start: i64, end: i64, carriers: i64) -> None:
        self.start: i64 = start
        self.end: i64 = end
        self.carriers: i64 = carriers


class Outstanding:
    """The pieces between ``acked_offset`` and ``sent_offset``, in order and without gaps."""

    __slots__ = ("_head", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._head: i64 = 0

    def head(self) -> Piece | None:
        """Return the oldest piece."""
        return self._pieces[self._head] if self._head < len(self._pieces) else None

    def append(self, start: i64, end: i64, carrier: i64) -> None:
        """Note new data given to a first carrier."""
        pieces = self._pieces
        if self._head < len(pieces):
            last = pieces[-1]
            if last.carriers == carrier and last.end == start:
                last.end = end
                return
        pieces.append(Piece(start, end, carrier))

    def carry(self, start: i64, end: i64, carrier: i64) -> None:
        """Note that outstanding data were given to one more carrier."""
        index = self._index(start)
        pieces = self._pieces
        while index < len(pieces):
            piece = pieces[index]
            if piece.start >= end:
                break
            if not piece.carriers & carrier:
                if piece.start < start:
                    pieces.insert(index + 1, Piece(start, piece.end, piece.carriers))
                    piece.end = start
                    index += 1
                    continue
                if piece.end > end:
                    pieces.insert(index + 1, Piece(end, piece.end, piece.carriers))
                    piece.end = end
                piece.carriers |= carrier
            index += 1

    def at(self, offset: i64) -> Piece | None:
        """Return the piece that holds ``offset``."""
        index = self._index(offset)
        if index < len(self._pieces) and self._pieces[index].start <= offset:
            return self._pieces[index]
        return None

    def drop_carrier(self, carrier: i64) -> None:
        """Take a subflow that is gone out of all sets."""
        for index in range(self._head, len(self._pieces)):
            self._pieces[index].carriers &= ~carrier

    def rewind(self, offset: i64) -> None:
        """Forget everything from ``offset`` on: it will be sent anew."""
        pieces = self._pieces
        while self._head < len(pieces) and pieces[-1].end > offset:
            if pieces[-1].start < offset:
                pieces[-1].end = offset
                break
            pieces.pop()

    def release(self, offset: i64) -> None:
        """Forget everything before ``offset``."""
        pieces = self._pieces
        head = self._head
        while head < len(pieces):
            piece = pieces[head]
            if piece.end > offset:
                if piece.start < offset:
                    piece.start = offset
                break
            head += 1
        if head > 64 and head * 2 > len(pieces):
            del pieces[:head]
            head = 0
        self._head = head

    def _index(self, offset: i64) -> i64:
        low = self._head
        high = len(self._pieces)
        while low < high:
            middle = (low + high) >> 1
            if self._pieces[middle].end <= offset:
                low = middle + 1
            else:
                high = middle
        return low


class RangeSet:
    """Disjoint ranges of offsets, in order: what waits for reinjection."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        return len(self._starts)

    def first(self) -> tuple[int, int]:
        """Return the lowest range; there must be one."""
        return self._starts[0], self._ends[0]

    def add(self, start: int, end: int) -> None:
        """Add a range, merging it with those it touches."""
        if start >= end:
            return
        starts = self._starts
        ends = self._ends
        low = bisect_right(starts, start)
        if low > 0 and ends[low - 1] >= start:
            low -= 1
            start = starts[low]
            if ends[low] > end:
                end = ends[low]
        high = low
        while high < len(starts) and starts[high] <= end:
            if ends[high] > end:
                end = ends[high]
            high += 1
        starts[low:high] = [start]
        ends[low:high] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take a range out."""
        starts: list[int] = []
        ends: list[int] = []
        for left, right in zip(self._starts, self._ends, strict=True):
            if right <= start or left >= end:
                starts.append(left)
                ends.append(right)
                continue
            if left < start:
                starts.append(left)
                ends.append(start)
            if right > end:
                starts.append(end)
                ends.append(right)
        self._starts = starts
        self._ends = ends

    def remove_before(self, offset: int) -> None:
        """Take out everything before ``offset``."""
        starts = self._starts
        count = 0
        while count < len(starts) and self._ends[count] <= offset:
            count += 1
        if count:
            del starts[:count]
            del self._ends[:count]
        if starts and starts[0] < offset:
            starts[0] = offset

    def clear(self) -> None:
        """Empty the set."""
        self._starts.clear()
        self._ends.clear()
