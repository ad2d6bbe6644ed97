"""The Internet checksum (RFC 1071) and the DSS checksum (RFC 8684 section 3.3.1).

A *sum* is the 16-bit ones' complement sum of big-endian words, odd data padded with a zero byte;
a *checksum* is its complement. Sums of pieces combine with ``add_sums``.
"""

from __future__ import annotations

from typing import Final

# Above this size numpy's sum beats a division of one long integer (measured: 4.6 against 6.3 us at
# 1,400 bytes, 15 against 262 us at 65,000).
_VECTOR_BYTES: Final = 1024


def ones_sum(data: bytes | memoryview) -> int:
    """Return the ones' complement sum of ``data``; 0 only when every byte is zero."""
    size = len(data)
    if size >= _VECTOR_BYTES:
        return _long_ones_sum(data)
    total = int.from_bytes(data, "big")
    if size & 1:
        total <<= 8
    folded = total % 0xFFFF
    return 0xFFFF if folded == 0 and total else folded


def _long_ones_sum(data: bytes | memoryview) -> int:
    import numpy as np  # costs 0.1 s to import: only those who checksum bulk data pay

    words = len(data) >> 2
    total = int(np.frombuffer(data, "<u4", words).sum(dtype=np.uint64))
    total += int.from_bytes(data[words << 2 :], "little")
    folded = total % 0xFFFF
    if folded == 0:
        return 0xFFFF if total else 0
    # RFC 1071 section 2 (B): summing in the other byte order swaps the bytes of the sum.
    return (folded & 0xFF) << 8 | folded >> 8


def add_sums(left: int, right: int, *, odd: bool = False) -> int:
    """Return the sum of two pieces; ``odd`` says that the bytes before ``right`` are odd in number.

    Sums are folded: each in 0 .. 0xFFFF.
    """
    if odd:
        right = (right & 0xFF) << 8 | right >> 8
    total = left + right
    return (total & 0xFFFF) + (total >> 16)


def checksum(data: bytes | memoryview) -> int:
    """Return the Internet checksum of ``data``."""
    return 0xFFFF ^ ones_sum(data)


def dss_checksum(dsn: int, ssn: int, data_length: int, payload_sum: int) -> int:
    """Return the checksum of a mapping (RFC 8684 section 3.3.1).

    ``dsn`` is the whole 64-bit number also where the option carries 32 bits, ``data_length`` the
    field with the DATA_FIN counted, and ``payload_sum`` the ``ones_sum`` of the mapping's payload
    (all segments of it). Both versions compute it alike.
    """
    total = (dsn >> 48) + (dsn >> 32 & 0xFFFF) + (dsn >> 16 & 0xFFFF) + (dsn & 0xFFFF)
    total += (ssn >> 16) + (ssn & 0xFFFF) + data_length + payload_sum
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF ^ ((total & 0xFFFF) + (total >> 16))
