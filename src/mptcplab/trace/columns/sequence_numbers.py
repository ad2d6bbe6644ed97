"""Columns of sequence numbers, unwrapped: from 32 bits to 64, by the numbers around each."""

from __future__ import annotations

from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.columns.interning import Words

_SPACE: Final = 1 << 32
_HALF_SPACE: Final = 1 << 31
_LOW: Final = np.uint64(0xFFFF_FFFF)


def unwrapped(number: Ints, base: Ints | int, reference: Ints) -> Ints:
    """Return ``number - base``, a 32-bit difference, as the value nearest to ``reference``."""
    low = reference - _HALF_SPACE
    return low + ((number - (base + low)) & (_SPACE - 1))


def relative_dsns(number: Words, is_wide: Mask, from_idsn: Mask, idsn: int) -> Ints:
    """Return data sequence numbers, in order of time, relative to ``idsn``.

    64-bit numbers are exact.  32-bit numbers are taken to be within 2^31 of the one before them
    (RFC 8684 section 3.3.1 lets a sender use them only where that holds).
    """
    low = ((number - np.uint64(idsn & (1 << 64) - 1)) & _LOW).astype(np.int64)
    low[from_idsn] = (number[from_idsn] & _LOW).astype(np.int64)
    step = np.diff(low, prepend=0)
    step = ((step + _HALF_SPACE) & (_SPACE - 1)) - _HALF_SPACE
    out: Ints = np.cumsum(step)
    exact = is_wide & ~from_idsn
    if exact.any():
        wide = (number - np.uint64(idsn & (1 << 64) - 1)).view(np.int64)
        if exact.all():
            return wide
        # 32-bit numbers count from the latest exact one before them.
        place = np.maximum.accumulate(np.where(exact, np.arange(exact.size), -1))
        anchor = np.where(place >= 0, wide[place] - out[place], 0)
        out = np.where(exact, wide, out + anchor)
    return out
