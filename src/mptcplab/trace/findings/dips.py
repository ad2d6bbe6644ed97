"""Dips in the throughput, and what coincides with each (figure 30 of the report)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.limits.causes import Cause
from mptcplab.limits.partition import durations_ns
from mptcplab.trace.connections.model import Connection, Subflow
from mptcplab.trace.findings.limits import clipped, phrase
from mptcplab.trace.findings.series import Series
from mptcplab.trace.findings.throughput import AROUND, bin_ns, busiest, throughput, usual

_DEEP: Final = 0.7
"""A dip is a bin with less than this share of the usual throughput around it."""
_LEAST_SEGMENTS: Final = 10


@dataclass(slots=True)
class Dip:
    """A stretch of low throughput."""

    start_ns: int
    duration_ns: int
    bps: float
    usual_bps: float
    cause: str


def find_dips(connection: Connection, series: Series) -> list[Dip]:
    """Return the dips of one direction of a connection, in order of time.

    Where the sender had nothing to send, there is none.
    """
    first, last = _busy(connection, series.side)
    width = bin_ns(last - first)
    count = (last - first) // width
    if count < 2 * AROUND:
        return []
    carriers = busiest(connection, series.side)
    if not carriers:  # nothing but repetitions of what the capture does not hold
        return []
    each = throughput(carriers, series.side, first, width, count + 1)
    each = [bps[:count] for bps in each]
    total = np.sum(each, axis=0)
    normal = usual(total)
    # Where a bin holds only a few segments, their spacing is random.
    low = (total < _DEEP * normal) & (normal * width > _LEAST_SEGMENTS * 1460 * 8e9)
    out = []
    for start, end in _runs(low):
        start_ns, end_ns = first + start * width, first + end * width
        cause = _cause(connection, carriers, series.side, each, (start, end), (start_ns, end_ns))
        if cause is None:
            continue
        rate, around = float(total[start:end].mean()), float(normal[start:end].mean())
        out.append(Dip(start_ns, end_ns - start_ns, rate, around, cause))
    return out


def _busy(connection: Connection, side: int) -> tuple[int, int]:
    times = [
        subflow.half(side).samples["time_ns"][subflow.half(side).samples["new_bytes"] > 0]
        for subflow in connection.subflows
    ]
    times = [time for time in times if time.size]
    if not times:
        return 0, 0
    return min(int(time[0]) for time in times), max(int(time[-1]) for time in times)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _cause(
    connection: Connection,
    carriers: list[Subflow],
    side: int,
    each: list[NDArray[np.float64]],
    bins: tuple[int, int],
    times: tuple[int, int],
) -> str | None:
    """Return what held the data back during a dip; None where there was nothing to send."""
    held = next((held for held in connection.held if held.side == side), None)
    inside = durations_ns(clipped(held.spans if held else [], *times))
    parts = []
    if inside:
        (cause, kind), _ = max(inside.items(), key=lambda entry: entry[1])
        if cause is Cause.APPLICATION:
            return None
        if cause is not Cause.UNKNOWN:
            parts.append(phrase(cause, kind))
    again = _retransmissions(carriers, side, *times)
    if again:
        parts.append(
            "retransmissions on " + ", ".join(f"subflow {k} ({n})" for k, n in again.items())
        )
    quiet = [
        str(subflow.number)
        for subflow, bps in zip(carriers, each, strict=True)
        if bps[slice(*bins)].max() == 0 and usual(bps)[slice(*bins)].mean() > 0
    ]
    if quiet and len(carriers) > 1:
        parts.append(f"nothing new on subflow {' and '.join(quiet)}")
    return "; ".join(parts) or "why, the capture does not show"


def _retransmissions(
    carriers: list[Subflow], side: int, start_ns: int, end_ns: int
) -> dict[int, int]:
    again = {
        subflow.number: subflow.half(side).total("retransmissions", start_ns, end_ns)
        for subflow in carriers
    }
    return {number: count for number, count in again.items() if count}
