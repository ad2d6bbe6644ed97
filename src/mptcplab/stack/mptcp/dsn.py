"""Data sequence numbers of the wire and stream offsets (RFC 8684 section 3.3.1)."""

from __future__ import annotations

from typing import Final

from mptcplab.seq import SEQ32_MASK, SEQ64_MASK, dsn_diff, unwrap32

FAR_BYTES: Final = 1 << 60
"""Farther from the stream than any window: data sequence numbers beyond it are all the same."""
HALF62: Final = 0x2000_0000_0000_0000


class Numbers:
    """The data sequence numbers of one direction, whose first byte has the number ``base``."""

    __slots__ = ("_number", "_offset", "_wraps_at", "base")

    def __init__(self) -> None:
        self.base: int = 0
        self._wraps_at: int = FAR_BYTES
        """From which offset on the numbers begin at 0 again, if ever."""
        self._offset: int = -1
        self._number: int = 0
        """What ``at`` last worked out, and for which offset: a train needs the same one several
        times, and each is an object (a DSN has one bit more than an ``i64`` holds)."""

    def begin_after(self, idsn: int) -> None:
        """The first byte has the number after the initial one (RFC 8684 section 3.1)."""
        self.base = (idsn + 1) & SEQ64_MASK
        self._wraps_at = min(SEQ64_MASK + 1 - self.base, FAR_BYTES)
        self._offset = -1

    def leave_out(self, count: int) -> None:
        """The first ``count`` bytes, which went with a SYN, have no numbers: begin after them.

        RFC 8684 appendix B.2: what no mapping can cover is not part of the number space.
        """
        self.begin_after(self.base - 1 - count)

    def at(self, offset: int) -> int:
        """Return the 64-bit data sequence number of the byte at ``offset``.

        The sum is for Python's own integers: with an ``i64`` in it, it would have to be one.
        """
        if offset != self._offset:
            self._offset = offset
            self._number = self.base + offset
            if offset >= self._wraps_at or offset < 0:  # before the stream, as a peer may claim
                self._number &= SEQ64_MASK
        return self._number


def unwrap(number: int, base: int, near: int, is_8: bool) -> int:
    """Return the offset from ``base`` that ``number`` means, the one closest to ``near``."""
    if is_8:
        offset = number - base
        if 0 <= offset < HALF62:
            return offset  # no integer of the common case needs more than a word
        return dsn_diff(number, base)
    return unwrap32((number - base) & SEQ32_MASK, near)
