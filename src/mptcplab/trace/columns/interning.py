"""Numbers for distinct keys (addresses, address pairs with ports), a whole batch at once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints, Mask

_FIRST_SLOTS: Final = 1 << 12
_MULTIPLIERS: Final = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)

Words = NDArray[np.uint64]


class Interner:
    """An open-addressing hash table that looks up and inserts many keys at once.

    A key is a row of ``width`` 64-bit words; keys are numbered in the order of their appearance.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.count = 0
        self.keys: list[Words] = [np.zeros(1024, dtype=np.uint64) for _ in range(width)]
        self._slots: NDArray[np.int32] = np.full(_FIRST_SLOTS, -1, dtype=np.int32)

    def find(self, words: list[Words], insert: Mask | None = None) -> Ints:
        """Return each key's number, -1 for one that is unknown.

        Unknown keys of the rows that ``insert`` marks get a number (all where it is None).
        """
        size = words[0].size
        while 2 * (self.count + size) > self._slots.size:
            self._grow()
        home = self._home(words)
        numbers = self._first_look(words, home)
        pending = np.flatnonzero(numbers < 0)
        if pending.size == 0:
            return numbers
        before = self.count
        self._probe(words, home, pending, numbers, insert)
        if insert is not None and self.count > before:
            # Keys without a mark may have been looked for before a marked row brought them.
            self._probe(words, home, np.flatnonzero(numbers < 0), numbers, np.zeros_like(insert))
        return numbers

    def _first_look(self, words: list[Words], home: Words) -> Ints:
        """Find the keys that are in their first slot: nearly all of those that are known."""
        slot = (home & np.uint64(self._slots.size - 1)).view(np.int64)
        number = self._slots[slot].astype(np.int64)
        same = number >= 0
        for key, word in zip(self.keys, words, strict=True):
            same &= key[number] == word
        return number if same.all() else np.where(same, number, -1)

    def _probe(
        self, words: list[Words], home: Words, pending: Ints, numbers: Ints, insert: Mask | None
    ) -> None:
        """Look keys up slot by slot; ``numbers`` is filled in."""
        last = np.uint64(self._slots.size - 1)
        probe = 0
        while pending.size:
            slot = ((home[pending] + np.uint64(probe)) & last).astype(np.int64)
            number = self._slots[slot].astype(np.int64)
            new = number < 0
            if insert is not None:
                new &= insert[pending]
            if new.any():
                self._insert(words, pending[new], slot[new], numbers)
                number = self._slots[slot].astype(np.int64)
            taken = number >= 0
            same = taken & (numbers[pending] < 0)
            for key, word in zip(self.keys, words, strict=True):
                same &= key[number] == word[pending]
            numbers[pending[same]] = number[same]
            # At an empty slot the key is unknown; after a taken one it may be further on.
            pending = pending[taken & (numbers[pending] < 0)]
            probe += 1

    def _home(self, words: list[Words]) -> Words:
        value = words[0] * np.uint64(_MULTIPLIERS[0])
        for word, multiplier in zip(words[1:], _MULTIPLIERS[1:], strict=False):
            value ^= value >> np.uint64(29)
            value += word
            value *= np.uint64(multiplier)
        return value >> np.uint64(20)

    def _insert(self, words: list[Words], chosen: Ints, slot: Ints, numbers: Ints) -> None:
        """Give each empty slot to the first of the rows that hash to it."""
        self._slots[slot[::-1]] = chosen[::-1]  # of equal slots, the last assignment stays
        won = self._slots[slot] == chosen
        winners = chosen[won]
        number = self.count + np.arange(winners.size, dtype=np.int64)
        self.count += winners.size
        while self.count > self.keys[0].size:
            self.keys = [np.concatenate((key, np.zeros_like(key))) for key in self.keys]
        for key, word in zip(self.keys, words, strict=True):
            key[number] = word[winners]
        self._slots[slot[won]] = number
        numbers[winners] = number

    def _grow(self) -> None:
        self._slots = np.full(self._slots.size * 4, -1, dtype=np.int32)
        pending: Ints = np.arange(self.count, dtype=np.int64)
        home = self._home([key[: self.count] for key in self.keys])
        probe = 0
        while pending.size:
            slot = (home[pending] + np.uint64(probe)) & np.uint64(self._slots.size - 1)
            slot_i = slot.astype(np.int64)
            free = self._slots[slot_i] < 0
            self._slots[slot_i[free]] = pending[free]
            pending = pending[self._slots[slot_i] != pending]
            probe += 1
