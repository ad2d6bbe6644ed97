"""Stretches of time in which something held a connection up, and its cause.

*Head-of-line blocked*: DATA_ACK stands still while later data arrives on other subflows and waits.
*Window-limited*: the sender has used up the shared receive window.  Where the window is not simply
small but the receive buffer full, it is *buffer-limited*: full of out-of-order data (the cause is a
gap), or of data that the application has not read (the cause is the reader).
*Send-limited*: what is outstanding stays at one level although the window has room: the send buffer
or the congestion windows are full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.connections.model import Connection
from mptcplab.trace.findings.series import Series
from mptcplab.units import format_size

HEAD_OF_LINE: Final = "head-of-line blocked"
WINDOW_LIMITED: Final = "window-limited"
BUFFER_LIMITED: Final = "buffer-limited"
SEND_LIMITED: Final = "send-limited"

_LEAST_NS: Final = 20_000_000
"""Shorter stretches are not reported: a fifth of what a person notices."""
_JOIN_NS: Final = 30_000_000
"""Stretches of the same kind this close together are joined."""
_HELD_SEGMENTS: Final = 2


@dataclass(slots=True)
class Stall:
    """A stretch in which ``side`` could not send (or deliver) what it had."""

    kind: str
    side: int
    start_ns: int
    end_ns: int
    bytes: int
    """The most held back (head of line), the window (window limits) or outstanding data."""
    subflow: int | None
    """The subflow that was waited for."""
    cause: str

    @property
    def duration_ns(self) -> int:
        """How long it lasted."""
        return self.end_ns - self.start_ns


def find_stalls(connection: Connection, series: Series) -> list[Stall]:
    """Return the stalls of one direction in order of time."""
    mss = _mss(connection, series.side)
    blocked = _blocked(connection, series, mss)
    out = blocked + _window_limited(connection, series, mss, blocked)
    out += _send_limited(series, mss, out)
    return sorted(out, key=lambda stall: (stall.start_ns, stall.kind))


def _mss(connection: Connection, side: int) -> int:
    """Return the largest MSS that the receiver announced, 1460 where its SYNs are missing."""
    announced = [subflow.half(side ^ 1).mss_bytes for subflow in connection.subflows]
    return max([size for size in announced if size] or [1460])


def _stretches(time: Ints, mask: Mask, join_ns: int = _JOIN_NS) -> list[tuple[int, int]]:
    """Return (first, last) places of runs in ``mask`` that last long enough."""
    places = np.flatnonzero(mask)
    if places.size == 0:
        return []
    apart = np.flatnonzero(time[places[1:]] - time[places[:-1]] > join_ns)
    # A run continues over places outside the mask only where little time passes.
    firsts = places[np.append(0, apart + 1)]
    lasts = places[np.append(apart, places.size - 1)]
    until = np.minimum(lasts + 1, time.size - 1)
    long = time[until] - time[firsts] >= _LEAST_NS
    return list(zip(firsts[long].tolist(), lasts[long].tolist(), strict=True))


def _blocked(connection: Connection, series: Series, mss: int) -> list[Stall]:
    """Stretches in which DATA_ACK stood still while other data arrived."""
    time, ack = series.time_ns, series.data_ack
    held = series.held_bytes
    edges = np.append(0, np.flatnonzero(ack[1:] != ack[:-1]) + 1)
    lasts = np.append(edges[1:], time.size) - 1
    until = time[np.minimum(lasts + 1, time.size - 1)]
    out = []
    for first, last, end_ns in zip(edges.tolist(), lasts.tolist(), until.tolist(), strict=True):
        start_ns = int(time[first])
        if end_ns - start_ns < _LEAST_NS:
            continue
        waiting = held[first : last + 1]
        enough = np.flatnonzero(waiting >= _HELD_SEGMENTS * mss)
        if enough.size == 0:
            continue
        start_ns = int(time[first + int(enough[0])])
        if end_ns - start_ns < _LEAST_NS:
            continue
        subflow, cause = _gap(connection, series, int(ack[first]), start_ns, end_ns)
        out.append(
            Stall(HEAD_OF_LINE, series.side, start_ns, end_ns, int(waiting.max()), subflow, cause)
        )
    return out


def _gap(
    connection: Connection, series: Series, missing: int, start_ns: int, end_ns: int
) -> tuple[int | None, str]:
    """Return the subflow that carried the missing byte, and a sentence on what happened to it."""
    carriers = []
    for subflow in connection.subflows:
        half = subflow.half(series.side)
        inside = (half.data_rel <= missing) & (missing < half.data_rel + half.extents["bytes"])
        carriers += [
            (int(half.extents["first_ns"][k]), subflow.number)
            for k in np.flatnonzero(inside).tolist()
        ]
    if not carriers:
        return None, f"byte {missing} was not seen in the capture before it was acknowledged"
    carriers.sort()
    sent_ns, number = carriers[0]
    half = connection.subflows[number].half(series.side)
    rows = half.samples
    again = half.total("retransmissions", start_ns - 1_000_000_000, end_ns + 1)
    if sent_ns > start_ns + 1_000_000:
        data = rows["time_ns"][rows["payload_bytes"] > 0]
        quiet = not ((data > start_ns) & (data < sent_ns)).any()
        silent = ", which was silent until then" if quiet else ""
        text = f"byte {missing} was only sent {(sent_ns - start_ns) / 1e6:.0f} ms later, "
        return number, text + f"on subflow {number}{silent}"
    text = f"byte {missing} was sent on subflow {number} {_ago(start_ns, sent_ns)}"
    later = [other for when, other in carriers[1:] if other != number and when <= end_ns]
    if again:
        text += f", which retransmitted {again} segments"
    elif sent_ns < start_ns:
        text += ", which is slower"
    if later:
        text += f"; it was reinjected on subflow {later[0]}"
    return number, text


def _ago(now_ns: int, then_ns: int) -> str:
    milliseconds = (now_ns - then_ns) / 1e6
    return f"{milliseconds:.0f} ms before" if milliseconds >= 1 else "just before"


def _window_limited(
    connection: Connection, series: Series, mss: int, blocked: list[Stall]
) -> list[Stall]:
    """Stretches in which less than a segment of the shared window was left."""
    if not series.window_seen:
        return []
    room = series.edge - series.sent
    tight = (room < mss) & (series.sent > 1) & (series.outstanding_bytes > 0)
    out = []
    usual = float(np.percentile(series.window_bytes, 90))
    for first, last in _stretches(series.time_ns, tight):
        end = min(last + 1, series.time_ns.size - 1)
        start_ns, end_ns = int(series.time_ns[first]), int(series.time_ns[end])
        window = int(series.window_bytes[first : end + 1].min())
        held = int(series.held_bytes[first : end + 1].max())
        guilty = _overlapping(blocked, start_ns, end_ns)
        if held > window or (guilty and held > usual / 2):
            subflow = guilty.subflow if guilty else None
            cause = f"out-of-order data ({format_size(held, 3)}) fills the receive buffer"
            if guilty:
                cause += f": {guilty.cause}"
            out.append(Stall(BUFFER_LIMITED, series.side, start_ns, end_ns, window, subflow, cause))
        elif window < usual / 2 and (losing := _losing(connection, series, start_ns, end_ns)):
            cause = (
                f"the window fell to {format_size(window, 3)}: what followed segments lost on "
                f"subflow {losing[0]} fills the receive buffer"
            )
            out.append(
                Stall(BUFFER_LIMITED, series.side, start_ns, end_ns, window, losing[0], cause)
            )
        elif window < usual / 2:
            cause = (
                f"the window fell to {format_size(window, 3)} with nothing out of order: "
                "the receiving application reads too slowly"
            )
            out.append(Stall(BUFFER_LIMITED, series.side, start_ns, end_ns, window, None, cause))
        else:
            cause = f"the receiver's window of {format_size(window, 3)} is all in flight"
            out.append(Stall(WINDOW_LIMITED, series.side, start_ns, end_ns, window, None, cause))
    return out


def _losing(connection: Connection, series: Series, start_ns: int, end_ns: int) -> list[int]:
    """Return subflows with retransmissions or duplicate ACKs around a stretch, the worst first."""
    losing = []
    for subflow in connection.subflows:
        since_ns = start_ns - 10 * _LEAST_NS
        signs = subflow.half(series.side).total("retransmissions", since_ns, end_ns)
        signs += subflow.half(series.side ^ 1).total("duplicate_acks", since_ns, end_ns)
        if signs:
            losing.append((-signs, subflow.number))
    return [number for _, number in sorted(losing)]


def _overlapping(stalls: list[Stall], start_ns: int, end_ns: int) -> Stall | None:
    overlapping = (
        stall for stall in stalls if stall.start_ns <= end_ns and start_ns <= stall.end_ns
    )
    return next(overlapping, None)


def _send_limited(series: Series, mss: int, others: list[Stall]) -> list[Stall]:
    """Stretches in which what is outstanding stays at its highest level below the window."""
    outstanding = series.outstanding_bytes
    if outstanding.size < 100:
        return []
    level = float(np.percentile(outstanding, 99))
    flat = (outstanding > 0.95 * level) & (series.edge - series.sent > 2 * mss)
    flat &= level > 20 * mss
    if flat.mean() < 0.5:  # a level that is merely a peak is no limit
        return []
    out = []
    for first, last in _stretches(series.time_ns, flat, 5 * _JOIN_NS):
        start_ns, end_ns = int(series.time_ns[first]), int(series.time_ns[last])
        if end_ns - start_ns < 50 * _LEAST_NS or _overlapping(others, start_ns, end_ns):
            continue
        cause = (
            f"outstanding data stays at {format_size(level, 3)} although the window has room: "
            "the send buffer or the congestion windows are full"
        )
        out.append(Stall(SEND_LIMITED, series.side, start_ns, end_ns, int(level), None, cause))
    return out
