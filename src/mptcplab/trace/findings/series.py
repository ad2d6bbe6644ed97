"""One direction of a connection over time: what was sent, acknowledged, offered and held back.

All series share one axis, the slots in which anything happened.  Data sequence numbers are
relative: the first byte is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.columns.sequence_numbers import relative_dsns
from mptcplab.trace.columns.sorting import merged_once
from mptcplab.trace.connections.model import Connection, Half


@dataclass(slots=True, eq=False, repr=False)
class Series:
    """What ``side`` of a connection sends, and what the other side answers."""

    side: int
    time_ns: Ints
    sent: Ints
    """The highest data sequence number sent, plus one."""
    data_ack: Ints
    """The highest DATA_ACK of the other side."""
    edge: Ints
    """The right edge of the shared receive window: the highest DATA_ACK plus its window."""
    window_bytes: Ints
    """What the other side offered last, on any subflow."""
    arrived_bytes: Ints
    """Data acknowledged on the subflows, each byte once (reinjections taken off)."""
    window_seen: bool
    """Whether any window was seen at all."""

    @property
    def held_bytes(self) -> Ints:
        """Data that has arrived but waits for an earlier byte: the out-of-order queue."""
        return np.asarray(np.maximum(self.arrived_bytes - np.maximum(self.data_ack - 1, 0), 0))

    @property
    def outstanding_bytes(self) -> Ints:
        """Sent, not yet acknowledged at the data level."""
        return np.asarray(np.maximum(self.sent - self.data_ack, 0))


def _steps(axis: Ints, time: Ints, value: Ints, start: int) -> Ints:
    """Return a step function, given by its changes, on the axis; values only grow."""
    if time.size == 0:
        return np.full(axis.size, start, dtype=np.int64)
    grown = np.maximum.accumulate(np.maximum(value, start))
    place = np.searchsorted(time, axis, side="right") - 1
    return np.asarray(np.where(place >= 0, grown[np.maximum(place, 0)], start))


def _latest(axis: Ints, time: Ints, value: Ints, start: int) -> Ints:
    """Return the latest of the given values at each point of the axis."""
    if time.size == 0:
        return np.full(axis.size, start, dtype=np.int64)
    place = np.searchsorted(time, axis, side="right") - 1
    return np.asarray(np.where(place >= 0, value[np.maximum(place, 0)], start))


def direction(connection: Connection, side: int) -> Series | None:
    """Return the series of what ``side`` sends, None where nothing maps to the data level."""
    halves = [subflow.half(side) for subflow in connection.subflows]
    answers = [subflow.half(side ^ 1) for subflow in connection.subflows]
    base = connection.data_bases[side]
    tables = [half.samples["time_ns"] for half in (*halves, *answers)]
    if base is None or not any(table.size for table in tables):
        return None
    axis = merged_once(tables)
    sent_time, sent = _sent(halves)
    if sent.size == 0:
        return None
    ack_time, ack, window = data_acks(answers, [0] * len(answers), base)
    seen = window.size > 0
    return Series(
        side=side,
        time_ns=axis,
        sent=_steps(axis, sent_time, sent, 1),
        data_ack=_steps(axis, ack_time, ack, 1),
        edge=_steps(axis, ack_time, ack + window, 1 + (int(window[0]) if seen else 0)),
        window_bytes=_latest(axis, ack_time, window, int(window[0]) if seen else 0),
        arrived_bytes=_arrived(axis, halves, answers),
        window_seen=seen,
    )


def _sent(halves: list[Half]) -> tuple[Ints, Ints]:
    time = np.concatenate([half.extents["last_ns"] for half in halves])
    stop = np.concatenate([half.data_rel + half.extents["bytes"] for half in halves])
    order = np.argsort(time, kind="stable")
    return time[order], stop[order]


def data_acks(
    answers: Sequence[Half], shifts_ns: Sequence[int], base: int
) -> tuple[Ints, Ints, Ints]:
    """Return (time, relative DATA_ACK, window) of all subflows, in order of time.

    ``shifts_ns`` is added to the times of each.
    """
    names = ("data_ack", "data_ack_bits", "data_ack_window_bytes")
    chosen = [np.flatnonzero(half.samples["data_ack_bits"] > 0) for half in answers]
    number, bits, window = (
        np.concatenate(
            [half.samples[name][those] for half, those in zip(answers, chosen, strict=True)]
        )
        for name in names
    )
    time = np.concatenate(
        [
            half.samples["time_ns"][those] + shift
            for half, those, shift in zip(answers, chosen, shifts_ns, strict=True)
        ]
    )
    if len(answers) > 1:
        order = np.argsort(time, kind="stable")
        time, number, bits, window = time[order], number[order], bits[order], window[order]
    wide = bits == 64
    return time, relative_dsns(number, wide, np.zeros(wide.size, dtype=bool), base), window


def _arrived(axis: Ints, halves: list[Half], answers: list[Half]) -> Ints:
    """Sum what the subflows acknowledged, without what another subflow had brought before."""
    times, steps = [], []
    for half, answer in zip(halves, answers, strict=True):
        if half.bytes == 0 or answer.samples.size == 0:
            continue
        progress = np.maximum.accumulate(np.maximum(answer.samples["ack"], 1))
        total = np.minimum(progress - 1, half.bytes)
        if half.reinjected_bytes:
            place = np.searchsorted(half.again_seq, progress, side="left")
            total = total - np.append(0, np.cumsum(half.again_bytes))[place]
        times.append(answer.samples["time_ns"])
        steps.append(np.diff(total, prepend=0))
    if not times:
        return np.zeros(axis.size, dtype=np.int64)
    time, step = np.concatenate(times), np.concatenate(steps)
    order = np.argsort(time, kind="stable")
    total = np.append(0, np.cumsum(step[order]))
    return np.asarray(total[np.searchsorted(time[order], axis, side="right")])
