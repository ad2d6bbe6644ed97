"""Out-of-order bytes of one sequence space, kept until what is missing before them arrives.

Used twice: by a subflow for its sequence numbers and by a connection for its stream offsets.
Positions are plain integers that never wrap.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i64

Chunk = tuple[int, int, bytes | None]
"""Start, end and, where the content matters, the bytes between."""


class Reassembly:
    """Disjoint chunks in order, and how many bytes they hold."""

    __slots__ = ("_chunks", "_starts", "held_bytes")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._chunks: list[Chunk] = []
        self.held_bytes: i64 = 0

    def __len__(self) -> int:
        return len(self._starts)

    def insert(self, start: int, end: int, payload: bytes | None) -> int:
        """Keep what of ``start`` to ``end`` is not held yet; return how many bytes are new."""
        starts = self._starts
        chunks = self._chunks
        if not starts or start >= chunks[-1][1]:
            starts.append(start)
            chunks.append((start, end, payload))
            self.held_bytes += end - start
            return end - start
        added = 0
        index = bisect_right(starts, start)
        position = start
        if index > 0 and chunks[index - 1][1] > position:
            position = chunks[index - 1][1]
        while position < end:
            limit = starts[index] if index < len(starts) else end
            piece_end = limit if limit < end else end
            if piece_end > position:
                piece = None if payload is None else payload[position - start : piece_end - start]
                starts.insert(index, position)
                chunks.insert(index, (position, piece_end, piece))
                added += piece_end - position
                index += 1
            if index >= len(starts) or starts[index] >= end:
                break
            position = chunks[index][1]
            index += 1
        self.held_bytes += added
        return added

    def take_from(self, position: int) -> list[Chunk]:
        """Take out the chunks that continue the stream at ``position``, trimmed to start there.

        Chunks wholly before ``position`` are dropped.
        """
        chunks = self._chunks
        ready: list[Chunk] = []
        count = 0
        for chunk in chunks:
            start, end, payload = chunk
            if start > position:
                break
            count += 1
            self.held_bytes -= end - start
            if end <= position:
                continue
            if start < position:
                if payload is not None:
                    payload = payload[position - start :]
                ready.append((position, end, payload))
            else:
                ready.append(chunk)
            position = end
        if count:
            del chunks[:count]
            del self._starts[:count]
        return ready

    def clear(self) -> None:
        """Drop everything."""
        self._starts.clear()
        self._chunks.clear()
        self.held_bytes = 0
