"""Data sequence numbers of the wire and stream offsets (RFC 8684 section 3.3.1)."""

from __future__ import annotations

from typing import Final

MASK32: Final = 0xFFFF_FFFF
MASK64: Final = 0xFFFF_FFFF_FFFF_FFFF
FAR_BYTES: Final = 1 << 60
"""Farther from the stream than any window: data sequence numbers beyond it are all the same."""
HALF62: Final = 0x2000_0000_0000_0000
HALF64: Final = 0x8000_0000_0000_0000


def wrap(base: int, offset: int) -> int:
    """Return the 64-bit data sequence number of the byte at ``offset``.

    A DSN has one bit more than an ``i64`` holds: the sum is for Python's own integers.
    """
    number = base + offset
    return number if number <= MASK64 else number & MASK64


def unwrap(number: int, base: int, near: int, is_8: bool) -> int:
    """Return the offset from ``base`` that ``number`` means, the one closest to ``near``."""
    if is_8:
        offset = number - base
        if 0 <= offset < HALF62:
            return offset  # no integer of the common case needs more than a word
        offset &= MASK64
        return offset if offset < HALF64 else offset - (MASK64 + 1)
    distance = (number - base - near) & MASK32
    if distance >= 0x8000_0000:
        distance -= 0x1_0000_0000
    return near + distance


def limited(offset: int) -> int:
    """Return an offset, or the nearest one that is merely far from any window of the stream."""
    if -FAR_BYTES < offset < FAR_BYTES:
        return offset
    return FAR_BYTES if offset > 0 else -FAR_BYTES
