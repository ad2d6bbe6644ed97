"""Stretches in which what had arrived could not be delivered: DATA_ACK stands still.

*Head-of-line blocked*: later data arrives on other subflows and waits for a byte of one of them.
Where this leaves the sender without window, it is a limit too (``limits``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mptcplab.trace.columns.sorting import median
from mptcplab.trace.connections.model import Connection, Subflow
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
    carriers: list[_Carrier] = []
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
        carriers = carriers or [_Carrier(each, series.side) for each in connection.subflows]
        gap = _gap(carriers, int(ack[first]), start_ns, end_ns)
        if gap is not None:
            number, cause, arrived_ns = gap
            most = int(waiting.max())
            end_ns = min(end_ns, arrived_ns)
            out.append(Stall(HEAD_OF_LINE, series.side, start_ns, end_ns, most, number, cause))
    return out


class _Carrier:
    """What one subflow carried of one side's data; made once, then asked for many bytes."""

    def __init__(self, subflow: Subflow, side: int) -> None:
        half, answer = subflow.half(side), subflow.half(side ^ 1).samples
        order = np.argsort(half.data_rel, kind="stable")
        self.number = subflow.number
        self.half = half
        self._first = half.data_rel[order]
        self._end = self._first + half.extents["bytes"][order]
        self._reach = np.maximum.accumulate(self._end)
        self._sent_ns, self._seq = half.extents["first_ns"][order], half.extents["seq"][order]
        self._acked, self._acked_ns = np.maximum.accumulate(answer["ack"]), answer["time_ns"].copy()
        rtt_ns = half.rtt_ns
        self.round_trip_ns = int(median(rtt_ns)) if rtt_ns.size else subflow.handshake_ns

    def sent(self, byte: int) -> list[tuple[int, int, int]]:
        """Return (time, subflow, its sequence number) of each time that it carried a byte."""
        low = int(np.searchsorted(self._reach, byte, side="right"))
        high = int(np.searchsorted(self._first, byte, side="right"))
        return [
            (int(self._sent_ns[k]), self.number, int(self._seq[k]) + byte - int(self._first[k]))
            for k in (low + np.flatnonzero(self._end[low:high] > byte)).tolist()
        ]

    def acknowledged_ns(self, seq: int) -> int:
        """Return when a byte was acknowledged; the greatest time where it never was."""
        place = int(np.searchsorted(self._acked, seq + 1))
        never = int(np.iinfo(np.int64).max)
        return int(self._acked_ns[place]) if place < self._acked.size else never


def _gap(
    carriers: list[_Carrier], missing: int, start_ns: int, end_ns: int
) -> tuple[int | None, str, int] | None:
    """Return the subflow that carried the missing byte, what happened to it, and when it was there.

    None where its subflow soon acknowledged it: the receiver has it, and does not take it, or its
    DATA_ACK is late.
    """
    sent = sorted(each for carrier in carriers for each in carrier.sent(missing))
    if not sent:
        text = f"byte {missing} was not seen in the capture before it was acknowledged"
        return None, text, end_ns
    sent_ns, number, seq = sent[0]
    carrier = carriers[number]
    arrived_ns = carrier.acknowledged_ns(seq)
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
    again = carrier.half.total("retransmissions", sent_ns + 1, end_ns + 1)
    later = [other for when, other, _ in sent[1:] if other != number and when <= end_ns]
    if again:
        segments = f"{again} segment{'s' if again > 1 else ''}"
        text += (
            f", where {segments} were lost and sent again"
            if again > 1
            else (f", where {segments} was lost and sent again")
        )
    elif later:
        pass
    elif _is_slower(carrier, carriers):
        text += ", whose round trip is longer"
    if later:
        text += f"; it was reinjected on subflow {later[0]}"
    return number, text, arrived_ns


def _is_slower(mine: _Carrier, carriers: list[_Carrier]) -> bool:
    """Whether the round trips of a subflow are longer than those of another with data."""
    known = [
        other.round_trip_ns
        for other in carriers
        if other is not mine and other.half.bytes and other.round_trip_ns
    ]
    round_trip_ns = mine.round_trip_ns
    return bool(round_trip_ns and known and round_trip_ns > _SLOWER * min(known) + _SLOWER_NS)
