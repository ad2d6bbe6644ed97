"""Columns sorted, merged, and without repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints

Values = TypeVar("Values", bound=np.generic)


def distinct(values: NDArray[Values]) -> NDArray[Values]:
    """Return every value of a column once, sorted.

    As ``np.unique``, which imports all of ``numpy.ma`` for it.
    """
    ordered = np.sort(values)
    different = np.ones(ordered.size, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=different[1:])
    return np.asarray(ordered[different])


def median(values: NDArray[Any]) -> Any:
    """Return the median of a column, or of each row of a table; of an even number, between both.

    As ``np.median``, which imports all of ``numpy.ma`` for it.
    """
    size = values.shape[-1]
    low, high = (size - 1) // 2, size // 2
    ordered = np.partition(values, (low, high), axis=-1)
    return (ordered[..., low].astype(np.float64) + ordered[..., high]) / 2


def quantile(values: NDArray[Any], share: float) -> float:
    """Return what ``share`` of a column lies below, interpolated between the two nearest.

    As ``np.quantile``, which imports all of ``numpy.ma`` for it.
    """
    place = (values.size - 1) * share
    low = int(place)
    high = min(low + 1, values.size - 1)
    ordered = np.partition(values, (low, high))
    below, above, part = float(ordered[low]), float(ordered[high]), place - low
    step = above - below
    return below + step * part if part < 0.5 else above - step * (1 - part)


def merged_once(columns: Sequence[Ints]) -> Ints:
    """Return every value of sorted columns once, sorted.

    A stable sort merges what is sorted already, which takes a fraction of the time of ``unique``.
    """
    values = np.concatenate(columns)
    values.sort(kind="stable")
    different = np.ones(values.size, dtype=bool)
    np.not_equal(values[1:], values[:-1], out=different[1:])
    return np.asarray(values[different])
