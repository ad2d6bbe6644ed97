"""Captures that others do not make: changed by the structure of the file and of its headers.

Records are cut, repeated, swapped, moved in time or mixed with those of others; bytes are changed
mostly where headers are, and options of MPTCP by their kind, length, subtype and flags.
"""

from __future__ import annotations

import random
import struct
from typing import Final

MOST_RECORDS: Final = 150
_INTERESTING: Final = (0, 1, 2, 3, 4, 7, 8, 10, 12, 20, 30, 40, 0x45, 0x60, 0x7F, 0x80, 0xFE, 0xFF)

Record = tuple[int, int, bytes, int]
"""(seconds, fraction, bytes, original length)."""


class Capture:
    """A pcap file of this machine's byte order as its parts."""

    def __init__(self, link_type: int, records: list[Record]) -> None:
        self.link_type = link_type
        self.records = records

    @classmethod
    def decoded(cls, data: bytes) -> Capture:
        """Read the first records of a file that :meth:`encoded` or ``write_packets`` wrote."""
        (link_type,) = struct.unpack_from("<I", data, 20)
        records: list[Record] = []
        at = 24
        while at + 16 <= len(data) and len(records) < MOST_RECORDS:
            seconds, fraction, captured, original = struct.unpack_from("<IIII", data, at)
            records.append((seconds, fraction, data[at + 16 : at + 16 + captured], original))
            at += 16 + captured
        return cls(link_type, records)

    def encoded(self) -> bytes:
        """Return the file."""
        head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, self.link_type)
        return head + b"".join(
            struct.pack("<IIII", seconds & 0xFFFFFFFF, fraction & 0xFFFFFFFF, len(data), original)
            + data
            for seconds, fraction, data, original in self.records
        )


def _changed_bytes(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not out:
            break
        at = min(rng.randrange(len(out)), rng.randrange(len(out)))  # mostly in the headers
        match rng.randrange(5):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.choice(_INTERESTING)
            case 2:
                out[at : at + 2] = struct.pack(
                    ">H", rng.choice((0, 1, 0xFFFF, rng.getrandbits(16)))
                )
            case 3:
                step = rng.choice((-1, 1)) * rng.choice((1, 2, 1000, 1 << 16, 1 << 31))
                word = int.from_bytes(out[at : at + 4], "big") + step & 0xFFFFFFFF
                out[at : at + 4] = word.to_bytes(4, "big")
            case _:
                out[at : at + 8] = rng.randbytes(8)
    return bytes(out)


def _changed_option(rng: random.Random, data: bytes) -> bytes:
    """Change an MPTCP option, which starts with its kind, 30, and its length."""
    places = [k for k in range(len(data) - 3) if data[k] == 30 and 3 <= data[k + 1] <= 40]
    if not places:
        return _changed_bytes(rng, data)
    at = rng.choice(places)
    out = bytearray(data)
    match rng.randrange(4):
        case 0:
            out[at + 1] = rng.randrange(42)
        case 1:
            out[at + 2] = rng.randrange(256)
        case 2:
            out[at + 3] = rng.randrange(256)
        case _:
            size = max(1, out[at + 1] - 4)
            out[at + 4 : at + 4 + size] = rng.randbytes(size)
    return bytes(out[: len(data)])


def changed_capture(rng: random.Random, data: bytes, corpus: list[bytes]) -> bytes:
    """Change records and link type, with records of others of the corpus."""
    base = Capture.decoded(data)
    records = list(base.records)
    link_type = base.link_type
    for _ in range(rng.choice((1, 1, 2, 3, 8, 20))):
        if not records:
            break
        k = rng.randrange(len(records))
        seconds, fraction, data, original = records[k]
        match rng.randrange(12):
            case 0 | 1 | 2:
                records[k] = seconds, fraction, _changed_bytes(rng, data), original
            case 3 | 4:
                records[k] = seconds, fraction, _changed_option(rng, data), original
            case 5:  # cut by the snap length
                records[k] = seconds, fraction, data[: rng.randrange(len(data) + 1)], original
            case 6:
                del records[k : k + rng.choice((1, 1, 5, 50))]
            case 7:
                records[k:k] = records[k : k + rng.choice((1, 1, 5))]
            case 8:
                other = rng.randrange(len(records))
                records[k], records[other] = records[other], records[k]
            case 9:
                step = rng.choice((-1, 1)) * rng.choice((0, 1, 3600, 1 << 20, 1 << 31))
                records[k] = seconds + step, rng.randrange(1 << 20), data, original
            case 10:
                other_one = Capture.decoded(rng.choice(corpus))
                first = rng.randrange(len(other_one.records) or 1)
                records[k:k] = other_one.records[first : first + rng.choice((1, 5, 40))]
            case _:
                original = rng.choice((0, 1, len(data), len(data) + 1, 1500, 1 << 17))
                records[k] = seconds, fraction, data, original
    if rng.randrange(40) == 0:
        link_type = rng.choice((0, 1, 9, 12, 101, 105, 113, 127, 228, 229, 276, rng.randrange(300)))
    return Capture(link_type, records[: 3 * MOST_RECORDS]).encoded()
