"""Sorted columns merged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mptcplab.trace.columns.fields import Ints


def merged_once(columns: Sequence[Ints]) -> Ints:
    """Return every value of sorted columns once, sorted.

    A stable sort merges what is sorted already, which takes a fraction of the time of ``unique``.
    """
    values = np.concatenate(columns)
    values.sort(kind="stable")
    different = np.ones(values.size, dtype=bool)
    np.not_equal(values[1:], values[:-1], out=different[1:])
    return np.asarray(values[different])
