"""Running values within groups of a sorted batch, without a loop over the groups."""

from __future__ import annotations

from typing import Final

import numpy as np

from mptcplab.trace.gather import Ints, Mask

_SHIFT: Final = 44
"""Bits for a value: groups are kept apart by adding their number above them."""

LOWEST: Final = -(1 << 42)
"""Stands for "no value"; values are between this and its negative (4 TiB of sequence space)."""

_SPACE: Final = 1 << 32
_HALF: Final = 1 << 31


def near(number: Ints, base: Ints, reference: Ints) -> Ints:
    """Return ``number - base``, a 32-bit difference, as the value nearest to ``reference``."""
    return reference + ((number - base - reference + _HALF) & (_SPACE - 1)) - _HALF


class Groups:
    """A batch sorted by an identifier, time order kept within each."""

    def __init__(self, identifier: Ints, bound: int) -> None:
        """Sort by ``identifier``, all of which are in 0 .. ``bound`` - 1."""
        present = np.zeros(bound, dtype=bool)
        present[identifier] = True
        self.ids: Ints = np.flatnonzero(present)
        """The identifiers, ascending; a group's number is its place here."""
        dense = np.zeros(bound, dtype=np.uint16)
        dense[self.ids] = np.arange(self.ids.size)
        group = dense[identifier]
        self.order: Ints = np.argsort(group, kind="stable")
        """Sorts a column of the batch by group."""
        self.group: Ints = group[self.order].astype(np.int64)
        change = np.flatnonzero(self.group[1:] != self.group[:-1]) + 1
        self.starts: Ints = np.concatenate((np.zeros(1, dtype=np.int64), change))
        self.ends: Ints = np.append(change, identifier.size) - 1
        self._above = self.group << _SHIFT

    def running_max(self, values: Ints, initial: Ints) -> tuple[Ints, Ints]:
        """Return the greatest value so far, with and without the element itself.

        ``initial`` is what came before the batch, per group.
        """
        values = np.maximum(values, LOWEST)
        values[self.starts] = np.maximum(values[self.starts], initial)
        values += self._above
        including = np.maximum.accumulate(values)
        including -= self._above
        excluding = np.empty_like(including)
        excluding[1:] = including[:-1]
        excluding[self.starts] = initial
        return including, excluding

    def last_where(self, mask: Mask) -> Ints:
        """Return the place of the latest element (itself included) in ``mask``, -1 for none."""
        place = np.where(mask, np.arange(mask.size, dtype=np.int64), -1)
        latest = np.maximum.accumulate(place)
        latest[latest < self.starts[self.group]] = -1
        return latest
