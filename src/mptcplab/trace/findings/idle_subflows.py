"""Pauses of subflows while the connection goes on: lost or left idle, for a time or for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.columns.sorting import distinct
from mptcplab.trace.connections.model import Connection, Half, Subflow
from mptcplab.trace.findings.throughput import busiest

_LEAST_NS: Final = 500_000_000
"""A pause of half a second is more than a scheduler's choice between bursts."""
_LEAST_SHARE: Final = 0.05
"""A subflow that carried a smaller share in the second before does not count."""
_LEAST_BYTES: Final = 30_000
"""A subflow that carries less in all does not count."""
_BEHIND_BYTES: Final = 1 << 16
_ROUND_TRIPS: Final = 20
_BUSY_SHARE: Final = 0.5
"""Share of a pause in which other subflows must have carried data."""
_BUSY_SLOT_NS: Final = 100_000_000
_MOST_SUBFLOWS: Final = 128


@dataclass(slots=True)
class Silence:
    """A pause of a subflow during which other subflows carried the connection's data."""

    subflow: Subflow
    side: int
    start_ns: int
    """When its last new data was seen."""
    end_ns: int
    """When it carried new data again, or else when the others stopped."""
    resumed: bool
    unacked_bytes: int
    """In flight and not acknowledged when it went silent; 0: it was left idle."""
    overtaken: bool
    """Whether what it carried on its return is far behind what the others had sent by then: it had
    been stuck behind a dead link."""
    reset_ns: int
    """When it was reset during the pause, 0 where it was not."""
    retransmissions: int
    """Sent on it in vain during the pause."""
    last_number: int
    stall_ns: int
    """How long the whole connection sent nothing new when it went silent."""

    @property
    def lost(self) -> bool:
        """Whether it was lost, and not left idle."""
        return self.unacked_bytes > 0 or self.overtaken or self.reset_ns > 0


def find_silences(connection: Connection, side: int) -> list[Silence]:
    """Return the silences of what ``side`` sends, in order of time.

    Of a connection with very many subflows, those that carried most are examined.
    """
    carriers = busiest(connection, side, _MOST_SUBFLOWS)
    if len(carriers) < 2:
        return []
    halves = [subflow.half(side) for subflow in carriers]
    times = [half.samples["time_ns"][half.samples["new_bytes"] > 0] for half in halves]
    every = np.concatenate(times)
    order = np.argsort(every, kind="stable")
    owner = np.repeat(np.arange(len(times)), [time.size for time in times])[order]
    every = every[order]
    out = []
    for k, (subflow, half, mine) in enumerate(zip(carriers, halves, times, strict=True)):
        rest = every[owner != k]
        if mine.size and rest.size:
            others = [other for other in halves if other is not half]
            out += _of_subflow(subflow, side, half, others, mine, rest)
    return sorted(out, key=lambda silence: silence.start_ns)


def _of_subflow(
    subflow: Subflow, side: int, half: Half, others: list[Half], mine: Ints, rest: Ints
) -> list[Silence]:
    least = max(_LEAST_NS, _ROUND_TRIPS * (half.least_rtt_ns or subflow.handshake_ns))
    ends = np.append(mine[1:], max(int(rest[-1]), int(mine[-1])))
    resumed = np.append(np.ones(mine.size - 1, dtype=bool), False)
    out = []
    for k in np.flatnonzero(ends - mine > least).tolist():
        start, end = int(mine[k]), int(ends[k])
        low, high = np.searchsorted(rest, (start, end))
        busy = distinct((rest[low:high] - start) // _BUSY_SLOT_NS).size * _BUSY_SLOT_NS
        if busy < _BUSY_SHARE * (end - start):
            continue
        rows = half.samples
        before = int(np.searchsorted(rows["time_ns"], start, side="right"))
        sent = int(rows["next"][:before].max(initial=1))
        answer = subflow.half(side ^ 1).samples
        # What is acknowledged soon afterwards was not lost.
        known = answer["ack"][answer["time_ns"] <= start + least // 2]
        unacked = max(0, sent - int(known.max(initial=1)))
        share = _share_before(half, others, start)
        if not unacked and (share < _LEAST_SHARE or half.bytes < _LEAST_BYTES):
            continue
        after = rest[low:high]
        out.append(
            Silence(
                subflow=subflow,
                side=side,
                start_ns=start,
                end_ns=end,
                resumed=bool(resumed[k]),
                unacked_bytes=unacked,
                reset_ns=_reset(subflow, start, end),
                overtaken=bool(resumed[k]) and _is_old(half, others, end),
                retransmissions=half.total("retransmissions", start + 1, end),
                last_number=int(
                    half.extents["first_number"][
                        max(0, int(np.searchsorted(half.extents["first_ns"], start, "right")) - 1)
                    ]
                )
                if half.extents.size
                else half.seen.last_data_number,
                stall_ns=_stall(after, start),
            )
        )
    return out


def _share_before(half: Half, others: list[Half], start: int) -> float:
    """Return the share of the connection's new data that a half carried in the second before."""
    amounts = [
        each.total("new_bytes", start - 1_000_000_000, start + 1) for each in (half, *others)
    ]
    return amounts[0] / max(sum(amounts), 1)


def _is_old(half: Half, others: list[Half], time_ns: int) -> bool:
    """Whether the first data from ``time_ns`` on is behind what the others had sent by then."""
    place = int(np.searchsorted(half.extents["first_ns"], time_ns))
    if place == half.extents.size:
        return False
    reached = 0
    for other in others:
        before = int(np.searchsorted(other.extents["first_ns"], time_ns))
        stop = other.data_rel[:before] + other.extents["bytes"][:before]
        reached = max(reached, int(stop.max(initial=0)))
    return int(half.data_rel[place]) + _BEHIND_BYTES < reached


def _reset(subflow: Subflow, start: int, end: int) -> int:
    """Return when either side reset the subflow, between ``start`` and ``end``."""
    times = [half.seen.rst_ns for half in subflow.halves if start < half.seen.rst_ns < end]
    return min(times, default=0)


def _stall(after: Ints, start: int) -> int:
    """Return the longest pause of all other subflows in the two seconds after one went silent."""
    near = after[after <= start + 2_000_000_000]
    if near.size == 0:
        return 0
    return int(np.diff(np.append(start, near)).max())
