"""Sequence-number arithmetic: 32-bit (TCP, RFC 9293 section 3.4) and 64-bit (MPTCP data level).

Sequence numbers are plain non-negative integers. Of two numbers, the *later* one is that whose
distance from the other, reduced to the space, lies in the lower half of it.

In a compiled build the 32-bit functions take and return machine integers; those of 64-bit numbers,
which have one bit more than a machine integer holds, take and return Python's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

SEQ32_MASK: Final = 0xFFFF_FFFF
SEQ64_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF

_HALF32: Final = 0x8000_0000
_HALF64: Final = 0x8000_0000_0000_0000
_SPACE32: Final = 0x1_0000_0000
_SPACE64: Final = 0x1_0000_0000_0000_0000


def seq_add(seq: i64, count: i64) -> i64:
    """Return the 32-bit sequence number ``count`` (possibly negative) after ``seq``."""
    return (seq + count) & SEQ32_MASK


def seq_lt(left: i64, right: i64) -> bool:
    """Whether ``left`` comes before ``right`` in the 32-bit space.

    For timestamps too (RFC 7323 section 5.2), which are compared alike.
    """
    return ((left - right) & SEQ32_MASK) >= _HALF32


def unwrap32(number: i64, near: i64) -> i64:
    """Return the integer closest to ``near`` whose lower 32 bits are those of ``number``.

    ``number`` may be a 32-bit field or a difference of two; ``near``, where in the unwrapped
    numbers (stream offsets, for instance) it is expected, below 2**61. Of two that are equally
    close, the earlier one.
    """
    distance: i64 = (number - near) & SEQ32_MASK
    if distance >= _HALF32:
        distance -= _SPACE32
    return near + distance


def dsn_add(dsn: int, count: int) -> int:
    """Return the 64-bit data sequence number ``count`` (possibly negative) after ``dsn``."""
    return (dsn + count) & SEQ64_MASK


def dsn_diff(left: int, right: int) -> int:
    """Return ``left - right`` as a signed 64-bit distance, in -2**63 .. 2**63 - 1."""
    distance = (left - right) & SEQ64_MASK
    return distance - _SPACE64 if distance >= _HALF64 else distance
