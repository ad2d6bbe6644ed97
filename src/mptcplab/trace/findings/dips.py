"""Dips in the throughput, and what coincides with each (figure 30 of the report)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.connections.model import Connection, Subflow
from mptcplab.trace.findings.series import Series
from mptcplab.trace.findings.stalls import Stall
from mptcplab.trace.findings.throughput import AROUND, bin_ns, busiest, throughput, usual
from mptcplab.units import format_size

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


def find_dips(connection: Connection, series: Series, stalls: list[Stall]) -> list[Dip]:
    """Return the dips of one direction of a connection, in order of time."""
    first, last = _busy(connection, series.side)
    width = bin_ns(last - first)
    count = (last - first) // width
    if count < 2 * AROUND:
        return []
    carriers = busiest(connection, series.side)
    each = throughput(carriers, series.side, first, width, count + 1)
    each = [bps[:count] for bps in each]
    total = np.sum(each, axis=0)
    normal = usual(total)
    # Where a bin holds only a few segments, their spacing is random.
    low = (total < _DEEP * normal) & (normal * width > _LEAST_SEGMENTS * 1460 * 8e9)
    out = []
    for start, end in _runs(low):
        start_ns, end_ns = first + start * width, first + end * width
        out.append(
            Dip(
                start_ns,
                end_ns - start_ns,
                float(total[start:end].mean()),
                float(normal[start:end].mean()),
                _cause(carriers, series, stalls, each, start, end, start_ns, end_ns),
            )
        )
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
    carriers: list[Subflow],
    series: Series,
    stalls: list[Stall],
    each: list[NDArray[np.float64]],
    start: int,
    end: int,
    start_ns: int,
    end_ns: int,
) -> str:
    """Return what coincides with a dip, the clearest sign first."""
    parts = []
    during = [stall for stall in stalls if stall.start_ns < end_ns and start_ns < stall.end_ns]
    if during:
        longest = max(during, key=lambda stall: stall.duration_ns)
        parts.append(f"{longest.kind}: {longest.cause}")
    window = _window(series, start_ns, end_ns)
    if window is not None and not during:
        here, around = (format_size(size, 3) for size in window)
        parts.append(f"the receive window fell to {here} from {around}")
    again = _retransmissions(carriers, series.side, start_ns - (end_ns - start_ns), end_ns)
    if again:
        parts.append(
            "retransmissions on " + ", ".join(f"subflow {k} ({n})" for k, n in again.items())
        )
    quiet = [
        str(subflow.number)
        for subflow, bps in zip(carriers, each, strict=True)
        if bps[start:end].max() == 0 and usual(bps)[start:end].mean() > 0
    ]
    if quiet:
        parts.append(f"nothing new on subflow {' and '.join(quiet)}")
    if not parts:
        low = np.searchsorted(series.time_ns, (start_ns, end_ns))
        waiting = series.outstanding_bytes[low[0] : low[1]]
        if waiting.size == 0 or int(waiting.min()) == 0:
            parts.append("all data was acknowledged: the sender had nothing to send")
        else:
            parts.append("no sign in the capture: the sending host or application paused")
    return "; ".join(parts)


def _window(series: Series, start_ns: int, end_ns: int) -> tuple[int, int] | None:
    """Return (window, usual window) where it fell along with the throughput."""
    low, high = np.searchsorted(series.time_ns, (start_ns, end_ns))
    span = (high - low) * AROUND or 1
    around: Ints = series.window_bytes[max(0, low - span) : high + span]
    here: Ints = series.window_bytes[low:high]
    if here.size == 0 or around.size == 0:
        return None
    least, normal = int(here.min()), int(np.median(around))
    return (least, normal) if least < _DEEP * normal else None


def _retransmissions(
    carriers: list[Subflow], side: int, start_ns: int, end_ns: int
) -> dict[int, int]:
    again = {
        subflow.number: subflow.half(side).total("retransmissions", start_ns, end_ns)
        for subflow in carriers
    }
    return {number: count for number, count in again.items() if count}
