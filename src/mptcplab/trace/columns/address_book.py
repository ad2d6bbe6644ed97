"""IP addresses as numbers in columns, and back as text."""

from __future__ import annotations

from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.columns.interning import Interner, Words
from mptcplab.wire.ip import format_address

FIRST_IPV6: Final = 1 << 32
"""An IPv4 address is its own code; the n-th IPv6 address of a capture has this plus n."""
_WORD: Final = (1 << 64) - 1


class AddressBook:
    """The IPv6 addresses of a capture, numbered so that addresses fit in a column of 64 bits."""

    def __init__(self) -> None:
        self._ipv6 = Interner(2)
        self._texts: dict[int, str] = {}

    def codes(self, high: Words, low: Words) -> Ints:
        """Return the codes of IPv6 addresses given as halves."""
        return self._ipv6.find([high, low]) + FIRST_IPV6

    def numbered_from(self, first: int) -> tuple[Words, ...]:
        """Return the halves of all IPv6 addresses from the one numbered ``first`` on, in order."""
        if first >= self._ipv6.count:
            return ()
        return tuple(words[first : self._ipv6.count].copy() for words in self._ipv6.keys)

    def packed(self, code: int) -> bytes:
        """Return the 4 or 16 bytes of an address."""
        if code < FIRST_IPV6:
            return code.to_bytes(4, "big")
        high, low = (int(words[code - FIRST_IPV6]) for words in self._ipv6.keys)
        return (high << 64 | low).to_bytes(16, "big")

    def code(self, packed: bytes) -> int:
        """Return the code of an address of 4 or 16 bytes."""
        if len(packed) == 4:
            return int.from_bytes(packed, "big")
        halves = np.frombuffer(packed, dtype=">u8").astype(np.uint64)
        return int(self.codes(halves[:1], halves[1:])[0])

    def within(self, codes: Ints, packed: bytes, bits: int) -> Mask:
        """Tell which addresses share their first ``bits`` with an address of 4 or 16 bytes."""
        if len(packed) == 4:
            shift = 32 - bits
            same = codes >> shift == int.from_bytes(packed, "big") >> shift
            return np.asarray((codes < FIRST_IPV6) & same)
        wanted = int.from_bytes(packed, "big")
        mask = (1 << 128) - (1 << 128 - bits)
        inside = np.ones(self._ipv6.count + 1, dtype=bool)
        for half, words in zip((64, 0), self._ipv6.keys, strict=True):
            part = np.uint64(mask >> half & _WORD)
            inside[:-1] &= (
                words[: self._ipv6.count] & part == np.uint64(wanted >> half & _WORD) & part
            )
        inside[-1] = False  # stands for all of IPv4
        return np.asarray(inside[np.where(codes < FIRST_IPV6, -1, codes - FIRST_IPV6)])

    def text(self, code: int) -> str:
        """Return an address as people write it."""
        text = self._texts.get(code)
        if text is None:
            text = self._texts[code] = format_address(self.packed(code))
        return text
