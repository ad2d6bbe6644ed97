"""The stream as the application wrote it, from the oldest unacknowledged byte on.

Positions are stream offsets: how many bytes of the stream come before. Content is optional: an
application that writes lengths gets a buffer that only counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i64


class SendBuffer:
    """What was written and is not yet acknowledged at the data level."""

    __slots__ = ("_bytes", "acked_offset", "counting", "written_offset")

    def __init__(self) -> None:
        self.acked_offset: i64 = 0
        self.written_offset: i64 = 0
        self._bytes = bytearray()
        self.counting: bool = True
        """No bytes were written, only lengths."""

    def held_bytes(self) -> i64:
        """Return how many bytes wait or are unacknowledged."""
        return self.written_offset - self.acked_offset

    def append(self, content: bytes | memoryview) -> None:
        """Add bytes. Raises ``ValueError`` after lengths were written."""
        if self.counting:
            if self.written_offset:
                raise ValueError("this stream was written as lengths: bytes cannot follow")
            self.counting = False
        self._bytes += content
        self.written_offset += len(content)

    def append_length(self, length: i64) -> None:
        """Add ``length`` bytes without content. Raises ``ValueError`` after bytes were written."""
        if not self.counting:
            raise ValueError("this stream was written as bytes: lengths cannot follow")
        self.written_offset += length

    def content(self, offset: i64, end_offset: i64) -> bytes | None:
        """Return the bytes between two offsets, or ``None`` where only lengths were written."""
        if self.counting:
            return None
        base = self.acked_offset
        return bytes(self._bytes[offset - base : end_offset - base])

    def release(self, offset: i64) -> None:
        """Drop everything before ``offset``: it is acknowledged."""
        if offset <= self.acked_offset:
            return
        if not self.counting:
            del self._bytes[: offset - self.acked_offset]
        self.acked_offset = offset
