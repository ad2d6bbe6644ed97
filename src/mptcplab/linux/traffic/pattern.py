"""The byte stream that the generator sends: any piece of it can be made, and checked, on its own.

The stream is a sequence of blocks.  A block opens with its number and the number of its stream; the
rest is a stretch of one pseudo-random table, at a place that depends on both.  A changed byte never
compares equal, and bytes out of place do only if they are away by a whole number of rounds (1 MiB)
plus that round's own odd shift, in pieces without a header; what they overwrote is then missed
where it was.  Comparing is memcmp (``bytes.startswith``), some microseconds for a block, so that
checking does not limit the flow.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from functools import cache
from typing import Final

BLOCK_BYTES: Final = 65536
_HEADER: Final = struct.Struct("!QQ")
HEADER_BYTES: Final = _HEADER.size
_BODY_BYTES: Final = BLOCK_BYTES - HEADER_BYTES
_ROUND_BLOCKS: Final = 16  # blocks that have no stretch of the table in common
_SHIFT_PERIOD: Final = 4093  # prime, as are the shifts: no multiple of a segment's size
_ROUND_SHIFT: Final = 521
_STREAM_SHIFT: Final = 1019
_SEARCHED_BYTES: Final = 1 << 20


@cache
def _table() -> bytes:
    """Return what all streams are stretches of; made once, since short streams are many."""
    return random.Random("mptcplab").randbytes(_ROUND_BLOCKS * _BODY_BYTES + _SHIFT_PERIOD)


class Pattern:
    """The stream with a given number; two with the same number are the same stream."""

    def __init__(self, stream: int = 0) -> None:
        self.stream = stream
        self._table = _table()
        self._view = memoryview(self._table)

    def pieces(self, position: int, count: int) -> list[memoryview | bytes]:
        """Return the ``count`` bytes from ``position`` on as buffers, without copying bodies."""
        parts: list[memoryview | bytes] = []
        for header, body_start, length in self._stretches(position, count):
            if header is None:
                parts.append(self._view[body_start : body_start + length])
            else:
                parts.append(header)
        return parts

    def mismatch(self, position: int, received: memoryview) -> int | None:
        """Return the stream position of the first wrong byte, None where all are right.

        ``received`` is taken to be what belongs at ``position``.
        """
        done = 0
        table = self._table
        for header, body_start, length in self._stretches(position, len(received)):
            piece = received[done : done + length]
            if header is None:
                if not table.startswith(piece, body_start):
                    right = table[body_start : body_start + length]
                    return position + done + _first_difference(right, bytes(piece))
            elif header != piece:
                return position + done + _first_difference(header, bytes(piece))
            done += length
        return None

    def wrong(self, position: int, received: memoryview) -> str | None:
        """Say what is wrong with what was received for ``position``, None where nothing is."""
        at = self.mismatch(position, received)
        if at is None:
            return None
        start = at - position
        return self.describe(at, bytes(received[start : start + HEADER_BYTES]))

    def block(self, number: int) -> list[memoryview | bytes]:
        """Return block ``number`` as buffers."""
        return self.pieces(number * BLOCK_BYTES, BLOCK_BYTES)

    def describe(self, position: int, wrong: bytes) -> str:
        """Say where in the stream a wrong byte is, and where what was found there belongs.

        ``wrong`` starts with that byte; 16 bytes are enough to be told from others nearby.
        """
        number, offset = divmod(position, BLOCK_BYTES)
        text = f"byte {position} (block {number}, offset {offset}) is wrong"
        if offset < HEADER_BYTES and len(wrong) >= HEADER_BYTES - offset:
            found, stream = _HEADER.unpack(
                _HEADER.pack(number, 0)[:offset] + wrong[: HEADER_BYTES - offset]
            )
            return f"{text}: found the number {found} of stream {stream}"
        if len(wrong) < HEADER_BYTES:
            return text
        first = max(position - _SEARCHED_BYTES, 0)
        around = b"".join(self.pieces(first, position + _SEARCHED_BYTES - first))
        here = position - first
        found_at = [
            at for at in (around.rfind(wrong, 0, here), around.find(wrong, here)) if at >= 0
        ]
        if not found_at:
            return text
        nearest = min(found_at, key=lambda at: abs(at - here))
        return f"{text}: found what belongs at byte {first + nearest}"

    def _stretches(self, position: int, count: int) -> Iterator[tuple[bytes | None, int, int]]:
        """Split a range into header parts (their bytes) and body parts (their place in the table).

        Yields (header bytes or None, start in the table, length).
        """
        while count > 0:
            number, offset = divmod(position, BLOCK_BYTES)
            if offset < HEADER_BYTES:
                header = _HEADER.pack(number, self.stream)[offset : offset + count]
                length = len(header)
                yield header, 0, length
            else:
                length = min(count, BLOCK_BYTES - offset)
                round_number, turn = divmod(number, _ROUND_BLOCKS)
                shift = round_number * _ROUND_SHIFT + self.stream * _STREAM_SHIFT
                place = turn * _BODY_BYTES + shift % _SHIFT_PERIOD
                yield None, place + offset - HEADER_BYTES, length
            position += length
            count -= length


def _first_difference(right: bytes, received: bytes) -> int:
    for index, (expected, found) in enumerate(zip(right, received, strict=True)):
        if expected != found:
            return index
    raise AssertionError("equal bytes compared as different")
