"""Throughput in bins of time: how wide they are, which subflows count, what each carried."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.columns.sorting import median
from mptcplab.trace.connections.model import Connection, Subflow

_BINS: Final = 400
_MOST_BINS: Final = 20_000
_LEAST_BIN_NS: Final = 20_000_000
_MOST_BIN_NS: Final = 1_000_000_000
"""Longer bins hide what a person looks for; only more than ``_MOST_BINS`` of them are longer."""
AROUND: Final = 10
"""Bins to each side that say what is usual."""
MOST_SUBFLOWS: Final = 64
"""Subflows of one connection that are set side by side."""


def bin_ns(duration_ns: int) -> int:
    """Return the width of throughput bins for a capture of this length: 1, 2 or 5 times 10^n."""
    wanted = min(max(duration_ns // _BINS, _LEAST_BIN_NS), _MOST_BIN_NS)
    wanted = max(wanted, duration_ns // _MOST_BINS)
    power = 10 ** (len(str(wanted)) - 1)
    return int(next(step * power for step in (1, 2, 5, 10) if step * power >= wanted))


def busiest(connection: Connection, side: int, most: int = MOST_SUBFLOWS) -> list[Subflow]:
    """Return the subflows that carry data of ``side``; of more than ``most``, the busiest ones.

    They are in the order of their numbers.
    """
    carriers = [subflow for subflow in connection.subflows if subflow.half(side).bytes]
    if len(carriers) > most:
        carriers.sort(key=lambda subflow: -subflow.half(side).bytes)
        carriers = sorted(carriers[:most], key=lambda subflow: subflow.number)
    return carriers


def throughput(
    subflows: list[Subflow], side: int, start_ns: int, width_ns: int, count: int
) -> list[NDArray[np.float64]]:
    """Return each subflow's throughput in bits per second, new payload only."""
    out = []
    for subflow in subflows:
        rows = subflow.half(side).samples
        amount = bins(rows["time_ns"], rows["new_bytes"], start_ns, width_ns, count)
        out.append(amount * 8e9 / width_ns)
    return out


def usual(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running median around each value."""
    padded = np.pad(values, AROUND, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1)
    return np.asarray(median(windows))


def bins(
    time_ns: Ints, amount: Ints, start_ns: int, width_ns: int, count: int
) -> NDArray[np.int64]:
    """Sum ``amount`` in ``count`` bins of ``width_ns``."""
    place = np.clip((time_ns - start_ns) // width_ns, 0, count - 1)
    return np.bincount(place, weights=amount, minlength=count).astype(np.int64)
