"""Stretches in which what had arrived could not be delivered: DATA_ACK stands still.

*Head-of-line blocked*: later data arrives on other subflows and waits for a byte of one of them.
Where this leaves the sender without window, it is a limit too (``limits``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mptcplab.trace.columns.sorting import median
from mptcplab.trace.connections.model import Connection, Half, Subflow
from mptcplab.trace.findings.series import Series
from mptcplab.units import format_duration

HEAD_OF_LINE: Final = "head-of-line blocked"

_LEAST_NS: Final = 20_000_000
"""Shorter stretches are not reported: a fifth of what a person notices."""
_HELD_SEGMENTS: Final = 2
_SLOWER: Final = 1.2
_SLOWER_NS: Final = 1_000_000


@dataclass(slots=True)
class Stall:
    """A stretch in which what ``side`` had sent could not be delivered."""

    kind: str
    side: int
    start_ns: int
    end_ns: int
    bytes: int
    """The most held back."""
    subflow: int | None
    """The subflow that was waited for."""
    cause: str

    @property
    def duration_ns(self) -> int:
        """How long it lasted."""
        return self.end_ns - self.start_ns


def find_stalls(connection: Connection, series: Series) -> list[Stall]:
    """Return the stalls of one direction in order of time.

    Data can only wait for other data where two subflows carry it.
    """
    carriers = sum(subflow.half(series.side).bytes > 0 for subflow in connection.subflows)
    return _blocked(connection, series, _mss(connection, series.side)) if carriers > 1 else []


def _mss(connection: Connection, side: int) -> int:
    """Return the largest MSS that the receiver announced, 1460 where its SYNs are missing."""
    announced = [subflow.half(side ^ 1).mss_bytes for subflow in connection.subflows]
    return max([size for size in announced if size] or [1460])


def _blocked(connection: Connection, series: Series, mss: int) -> list[Stall]:
    """Stretches in which DATA_ACK stood still while other data arrived."""
    time, ack = series.time_ns, series.data_ack
    held = series.held_bytes
    edges = np.append(0, np.flatnonzero(ack[1:] != ack[:-1]) + 1)
    lasts = np.append(edges[1:], time.size) - 1
    until = time[np.minimum(lasts + 1, time.size - 1)]
    long = np.flatnonzero(until - time[edges] >= _LEAST_NS)
    out = []
    for k in long.tolist():
        first, last, end_ns = int(edges[k]), int(lasts[k]), int(until[k])
        waiting = held[first : last + 1]
        enough = np.flatnonzero(waiting >= _HELD_SEGMENTS * mss)
        if enough.size == 0:
            continue
        start_ns = int(time[first + int(enough[0])])
        if end_ns - start_ns < _LEAST_NS:
            continue
        gap = _gap(connection, series, int(ack[first]), start_ns, end_ns)
        if gap is not None:
            number, cause, arrived_ns = gap
            most = int(waiting.max())
            end_ns = min(end_ns, arrived_ns)
            out.append(Stall(HEAD_OF_LINE, series.side, start_ns, end_ns, most, number, cause))
    return out


def _gap(
    connection: Connection, series: Series, missing: int, start_ns: int, end_ns: int
) -> tuple[int | None, str, int] | None:
    """Return the subflow that carried the missing byte, what happened to it, and when it was there.

    None where its subflow soon acknowledged it: the receiver has it, and does not take it, or its
    DATA_ACK is late.
    """
    carriers = []
    for subflow in connection.subflows:
        half = subflow.half(series.side)
        inside = (half.data_rel <= missing) & (missing < half.data_rel + half.extents["bytes"])
        for k in np.flatnonzero(inside).tolist():
            extent = half.extents[k]
            seq = int(extent["seq"]) + missing - int(half.data_rel[k])
            carriers.append((int(extent["first_ns"]), subflow.number, seq))
    if not carriers:
        text = f"byte {missing} was not seen in the capture before it was acknowledged"
        return None, text, end_ns
    carriers.sort()
    sent_ns, number, seq = carriers[0]
    subflow = connection.subflows[number]
    arrived_ns = _acknowledged_ns(subflow.half(series.side ^ 1), seq)
    if arrived_ns < start_ns + _LEAST_NS:
        return None
    if sent_ns > start_ns + _LEAST_NS // 10:
        text = (
            f"byte {missing} was only seen {format_duration(sent_ns - start_ns, 3)} later, "
            f"on subflow {number}"
        )
        return number, text, arrived_ns
    text = f"byte {missing} was seen on subflow {number} "
    text += f"{format_duration(max(0, start_ns - sent_ns), 3)} before"
    again = subflow.half(series.side).total("retransmissions", sent_ns + 1, end_ns + 1)
    later = [other for when, other, _ in carriers[1:] if other != number and when <= end_ns]
    if again:
        segments = f"{again} segment{'s' if again > 1 else ''}"
        text += (
            f", where {segments} were lost and sent again"
            if again > 1
            else (f", where {segments} was lost and sent again")
        )
    elif later:
        pass
    elif _is_slower(connection, subflow, series.side):
        text += ", whose round trip is longer"
    if later:
        text += f"; it was reinjected on subflow {later[0]}"
    return number, text, arrived_ns


def _acknowledged_ns(answer: Half, seq: int) -> int:
    """Return when a byte was acknowledged on its subflow; the greatest time where it never was."""
    rows = answer.samples
    reach = np.maximum.accumulate(rows["ack"]) if rows.size else rows["ack"]
    place = int(np.searchsorted(reach, seq + 1))
    return int(rows["time_ns"][place]) if place < rows.size else np.iinfo(np.int64).max


def _is_slower(connection: Connection, subflow: Subflow, side: int) -> bool:
    """Whether the round trips of a subflow are longer than those of another with data."""
    mine = _round_trip_ns(subflow, side)
    others = [
        _round_trip_ns(other, side)
        for other in connection.subflows
        if other is not subflow and other.half(side).bytes
    ]
    known = [other for other in others if other]
    return bool(mine and known and mine > _SLOWER * min(known) + _SLOWER_NS)


def _round_trip_ns(subflow: Subflow, side: int) -> int:
    samples = subflow.half(side).rtt_ns
    return int(median(samples)) if samples.size else subflow.handshake_ns
