"""The chain of a pcap file's records, walked by machine integers: what a compiled build does.

Interpreted, this would take longer than the walks of ``record_scan``, which find the same.
"""

from __future__ import annotations

from typing import Final

from librt.strings import read_i32_be, read_i32_le
from librt.vecs import append, vec
from mypy_extensions import i64

IS_COMPILED: Final = not __file__.endswith(".py")
"""Whether the walk is a fast one."""

_LOW_32: Final = 0xFFFF_FFFF


def record_chain(
    raw: bytes,
    start: i64,
    stop: i64,
    header_bytes: i64,
    limit: i64,
    big_endian: bool,
    has_times: bool,
) -> tuple[vec[i64], i64, bool]:
    """Return where the whole records in ``raw[start:stop]`` start, and where they end.

    The third says whether the chain breaks there: the record at that end states to hold more than
    ``limit`` bytes, or is all zeros in a file of packets that have times.
    """
    places = vec[i64](capacity=(stop - start) // 64)
    at: i64 = start
    last: i64 = stop - header_bytes
    while at <= last:
        if big_endian:
            captured: i64 = i64(read_i32_be(raw, at + 8)) & _LOW_32
        else:
            captured = i64(read_i32_le(raw, at + 8)) & _LOW_32
        if captured > limit:
            return places, at, True
        if captured == 0 and has_times and read_i32_be(raw, at + 12) == 0:
            return places, at, True
        if at + header_bytes + captured > stop:
            break
        places = append(places, at)
        at += header_bytes + captured
    return places, at, False
