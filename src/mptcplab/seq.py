"""Sequence-number arithmetic: 32-bit (TCP, RFC 9293 section 3.4) and 64-bit (MPTCP data level).

Sequence numbers are plain non-negative integers; every function reduces its result. A number is
"less" than another when it lies in the half of the space before it.
"""

from __future__ import annotations

from typing import Final

SEQ32_MASK: Final = 0xFFFF_FFFF
SEQ64_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF

_HALF32: Final = 0x8000_0000
_HALF64: Final = 0x8000_0000_0000_0000
_SPACE32: Final = 0x1_0000_0000
_SPACE64: Final = 0x1_0000_0000_0000_0000


def seq_add(seq: int, count: int) -> int:
    """Return the 32-bit sequence number ``count`` (possibly negative) after ``seq``."""
    return (seq + count) & SEQ32_MASK


def seq_diff(left: int, right: int) -> int:
    """Return ``left - right`` as a signed 32-bit distance, in -2**31 .. 2**31 - 1."""
    distance = (left - right) & SEQ32_MASK
    return distance - _SPACE32 if distance >= _HALF32 else distance


def seq_lt(left: int, right: int) -> bool:
    """Whether ``left`` comes before ``right`` in the 32-bit space."""
    return ((left - right) & SEQ32_MASK) >= _HALF32


def seq_leq(left: int, right: int) -> bool:
    """Whether ``left`` comes before ``right``, or is it."""
    return ((right - left) & SEQ32_MASK) < _HALF32


def seq_gt(left: int, right: int) -> bool:
    """Whether ``left`` comes after ``right`` in the 32-bit space."""
    return ((right - left) & SEQ32_MASK) >= _HALF32


def seq_geq(left: int, right: int) -> bool:
    """Whether ``left`` comes after ``right``, or is it."""
    return ((left - right) & SEQ32_MASK) < _HALF32


def seq_max(left: int, right: int) -> int:
    """Return the later of two 32-bit sequence numbers."""
    return left if seq_geq(left, right) else right


def seq_min(left: int, right: int) -> int:
    """Return the earlier of two 32-bit sequence numbers."""
    return left if seq_leq(left, right) else right


def seq_between(low: int, seq: int, high: int) -> bool:
    """Whether ``seq`` lies in the half-open range [``low``, ``high``) of the 32-bit space."""
    return ((seq - low) & SEQ32_MASK) < ((high - low) & SEQ32_MASK)


def dsn_add(dsn: int, count: int) -> int:
    """Return the 64-bit data sequence number ``count`` (possibly negative) after ``dsn``."""
    return (dsn + count) & SEQ64_MASK


def dsn_diff(left: int, right: int) -> int:
    """Return ``left - right`` as a signed 64-bit distance, in -2**63 .. 2**63 - 1."""
    distance = (left - right) & SEQ64_MASK
    return distance - _SPACE64 if distance >= _HALF64 else distance


def dsn_lt(left: int, right: int) -> bool:
    """Whether ``left`` comes before ``right`` in the 64-bit space."""
    return ((left - right) & SEQ64_MASK) >= _HALF64


def dsn_leq(left: int, right: int) -> bool:
    """Whether ``left`` comes before ``right`` in the 64-bit space, or is it."""
    return ((right - left) & SEQ64_MASK) < _HALF64


def dsn_gt(left: int, right: int) -> bool:
    """Whether ``left`` comes after ``right`` in the 64-bit space."""
    return ((right - left) & SEQ64_MASK) >= _HALF64


def dsn_geq(left: int, right: int) -> bool:
    """Whether ``left`` comes after ``right`` in the 64-bit space, or is it."""
    return ((left - right) & SEQ64_MASK) < _HALF64


def expand_dsn(low32: int, near: int) -> int:
    """Return the 64-bit number closest to ``near`` whose lower 32 bits are ``low32``.

    For 4-byte data sequence numbers and DATA_ACKs (RFC 8684 section 3.3.1): ``near`` is what the
    receiver expects next, or has had acknowledged last.
    """
    return (near + seq_diff(low32, near & SEQ32_MASK)) & SEQ64_MASK
