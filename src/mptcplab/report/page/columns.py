"""Columns of a run's tables as arrays, by what their rows are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mptcplab.plain_text import printable
from mptcplab.report.page.plots import Floats
from mptcplab.units import NANOSECONDS

if TYPE_CHECKING:
    import pyarrow as pa

Key = tuple[str | int | None, ...]


class Rows:
    """The rows of a table, by the values of some of its columns; each group in order of time."""

    def __init__(self, table: pa.Table, keys: Sequence[str]) -> None:
        """Group a table that has ``time_ns``."""
        self._columns: dict[str, Floats] = {}
        self._table = table
        self._places: dict[Key, NDArray[np.int64]] = {}
        code = np.zeros(table.num_rows, dtype=np.int64)
        values: list[list[str | int | None]] = []
        for name in keys:
            encoded = table.column(name).combine_chunks().dictionary_encode("encode")
            known = [
                printable(value) if isinstance(value, str) else value
                for value in encoded.dictionary.to_pylist()
            ]
            values.append(known)
            code = code * max(len(known), 1) + encoded.indices.to_numpy(zero_copy_only=False)
        if not table.num_rows:
            return
        time_ns = table.column("time_ns").to_numpy(zero_copy_only=False)
        order = np.lexsort((time_ns, code))
        codes, starts = np.unique(code[order], return_index=True)
        ends = np.append(starts[1:], order.size)
        for number, start, end in zip(codes.tolist(), starts.tolist(), ends.tolist(), strict=True):
            key: list[str | int | None] = []
            for known in reversed(values):
                number, place = divmod(number, max(len(known), 1))
                key.append(known[place])
            self._places[tuple(reversed(key))] = order[start:end]

    def keys(self) -> list[Key]:
        """Return the groups, in the order of their values' first rows."""
        return sorted(self._places, key=lambda key: int(self._places[key].min()))

    def has(self, key: Key) -> bool:
        """Say whether there are rows of a group."""
        return key in self._places

    def column(self, key: Key, name: str) -> Floats:
        """Return a column of a group, NaN for what is null; empty where the group has no rows."""
        if name not in self._columns:
            column = self._table.column(name).to_numpy(zero_copy_only=False)
            self._columns[name] = np.asarray(column, dtype=np.float64)
        return self._columns[name][self._places.get(key, np.zeros(0, dtype=np.int64))]

    def time_s(self, key: Key) -> Floats:
        """Return the times of a group."""
        return self.column(key, "time_ns") / NANOSECONDS


def rate_bps(time_s: Floats, size_bytes: Floats) -> Floats:
    """Return the rate at which a counter grew up to each time; the first from 0 on."""
    if time_s.size == 0:
        return time_s
    length = np.diff(time_s, prepend=0.0)
    growth = np.diff(size_bytes, prepend=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(length > 0, np.maximum(growth, 0.0) * 8 / length, np.nan)
    return np.asarray(rate)


def summed(time_s: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Return each time once, with the sum of its values."""
    times, place = np.unique(time_s, return_inverse=True)
    total = np.bincount(place, weights=value, minlength=times.size)
    return times, np.asarray(total, dtype=np.float64)
