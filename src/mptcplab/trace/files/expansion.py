"""Compressed captures, which must expand in proportion: few bytes may stand for gigabytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from mptcplab.trace.files.batch import CaptureError
from mptcplab.units import format_size

FREE_BYTES: Final = 64 << 20
"""Decompressed bytes that need no proportion."""
MOST_TIMES: Final = 200
"""How many times its compressed size a capture may expand to beyond that.

Headers of a bulk transfer compress to a fifth, with payload that is all zeros to a hundredth.
"""


class Readable(Protocol):
    """A stream of bytes."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill some of the buffer; returns how much, 0 at the end."""


class BoundedExpansion:
    """A decompressed stream that raises CaptureError when it expands beyond all proportion."""

    def __init__(self, stream: Readable, compressed_bytes: Callable[[], int]) -> None:
        """Read ``stream``, which has taken as many bytes as ``compressed_bytes`` says."""
        self._stream = stream
        self._compressed_bytes = compressed_bytes
        self._bytes = 0

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill some of the buffer; returns how much, 0 at the end."""
        count = self._stream.readinto(buffer)
        self._bytes += count or 0
        taken = max(self._compressed_bytes(), 1)
        if self._bytes > FREE_BYTES and self._bytes > MOST_TIMES * taken:
            raise CaptureError(
                f"{format_size(taken)} of it expand to {format_size(self._bytes)} and more, over "
                f"{MOST_TIMES} times as much; expected a capture, or, where it is one, the file "
                "decompressed (gzip -d, zstd -d)"
            )
        return count
