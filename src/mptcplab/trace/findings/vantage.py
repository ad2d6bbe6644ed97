"""Where a capture was taken, as its packets show.

From one point of a path, a round trip has two parts: to one end and back, and to the other.  The
answers to SYN and SYN/ACK show both, as do acknowledgements of data and the echoes of timestamps.
What a sender knew when it sent follows: acknowledgements reach it later than the capture point, by
the part on its side.  Timestamps show how long each packet has waited before the capture point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.connections.model import Connection, Half, Subflow

CLIENT: Final = "near the client"
SERVER: Final = "near the server"
BETWEEN: Final = "between the ends"
CLOSE: Final = "where both ends are close"

_NEAR_SHARE: Final = 0.2
"""A capture point is near an end where at most this share of the round trip lies on its side."""
_CLOSE_NS: Final = 1_000_000
"""Of shorter round trips, what hosts take to answer is a large part."""
_TICKS_PER_S: Final = (1_000_000, 1000, 250, 100)
"""Timestamp clocks that are in use (RFC 7323 section 5.4 asks for 1 to 1000 ticks a second)."""
_TICK_TOLERANCE: Final = 0.05
_SPACE: Final = 1 << 32
_STAMPED: Final = 0.95
_SLOPE: Final = 100e-6
"""Most by which two clocks drift apart."""


@dataclass(frozen=True, slots=True)
class Vantage:
    """Where a capture of a connection was taken."""

    place: str | None
    """One of the constants above; None where the packets do not show it."""
    loops_ns: tuple[int | None, int | None]
    """Least round trip from the capture point to the side that opened the connection and back, and
    to the other side: of its busiest subflow that shows both."""

    def to_json(self) -> dict[str, object]:
        """Return it as part of a JSON object, with times in seconds."""
        client, server = (None if loop is None else loop / 1e9 for loop in self.loops_ns)
        return {"place": self.place, "to_client_s": client, "to_server_s": server}


def vantage(connection: Connection) -> Vantage:
    """Return where a capture of a connection was taken, as most of its data shows."""
    for subflow in sorted(connection.subflows[:256], key=lambda subflow: -subflow.bytes):
        client, server = loops_ns(subflow)
        if client is None or server is None:
            continue
        total = client + server
        place = BETWEEN
        if total < _CLOSE_NS:
            place = CLOSE
        elif client <= _NEAR_SHARE * total:
            place = CLIENT
        elif server <= _NEAR_SHARE * total:
            place = SERVER
        return Vantage(place, (client, server))
    return Vantage(None, (None, None))


def loops_ns(subflow: Subflow) -> tuple[int | None, int | None]:
    """Return the least round trips from the capture point to side 0 and to side 1 and back."""
    first, second = subflow.halves
    asked, answered = first.seen, second.seen
    to_responder = [first.least_rtt_ns] if first.least_rtt_ns else []
    to_initiator = [second.least_rtt_ns] if second.least_rtt_ns else []
    if asked.last_syn_ns and answered.syn_ns >= asked.last_syn_ns:
        to_responder.append(answered.syn_ns - asked.last_syn_ns)
    if answered.last_syn_ns and asked.established_ns >= answered.last_syn_ns:
        to_initiator.append(asked.established_ns - answered.last_syn_ns)
    loops = [
        min(samples) if samples else _echoed(mine, other)
        for samples, mine, other in ((to_initiator, first, second), (to_responder, second, first))
    ]
    return (loops[1], loops[0]) if subflow.opened_by else (loops[0], loops[1])


def _echoed(half: Half, other: Half) -> int | None:
    """Return the least time from a timestamp of ``other`` to its echo by ``half``'s data.

    Data that leaves long after the timestamp came shows nothing, but the least of many does.
    """
    rows = half.samples[(half.samples["echo"] >= 0) & (half.samples["new_bytes"] > 0)]
    said = other.samples[other.samples["timestamp"] >= 0]
    if rows.size == 0 or said.size == 0:
        return None
    base = int(said["timestamp"][0])
    stated = (said["timestamp"] - base) % _SPACE
    echo = (rows["echo"] - base) % _SPACE
    place = np.searchsorted(np.maximum.accumulate(stated), echo, side="right") - 1
    good = (place >= 0) & (stated[np.maximum(place, 0)] == echo)
    gaps = rows["time_ns"][good] - said["time_ns"][place[good]]
    gaps = gaps[gaps >= 0]
    return int(gaps.min()) if gaps.size else None


def waited_ns(rows: NDArray[Any]) -> tuple[Ints, Ints] | None:
    """Return how much later than the fastest each slot's first and last packets passed by.

    ``rows`` are samples of one half.  The time is since its sender stamped it, to within a tick;
    None where there are no timestamps, or their clock is not known.
    """
    if rows.size < 2:
        return None
    stamps = np.concatenate((rows["first_timestamp"], rows["timestamp"]))
    time = np.concatenate((rows["first_ns"], rows["time_ns"]))
    known = stamps >= 0
    if not known.all():  # the last packet may be a reset, the first slot hold the SYN
        if known.mean() < _STAMPED:
            return None
        place = np.where(known, np.arange(stamps.size), int(np.argmax(known)))
        place = np.maximum.accumulate(place)
        stamps, time = stamps[place], time[place]
    stamps = (stamps - int(stamps[0]) + _SPACE // 2) % _SPACE - _SPACE // 2
    time = time - int(time[0])
    ticks, span = int(stamps[-1]), int(time[-1])
    if ticks <= 0 or span <= 0:
        return None
    pace = ticks * 1e9 / span
    rate = min(_TICKS_PER_S, key=lambda each: abs(np.log(each / pace)))
    slack = _TICK_TOLERANCE + 2e9 / (rate * span) + 0.2e9 / span
    if not abs(pace / rate - 1) <= slack:
        return None
    late = time - stamps * (1_000_000_000 // rate)
    size = rows.size
    quarter = max(1, size // 4)
    slope = (int(late[-quarter:].min()) - int(late[size : size + quarter].min())) / span
    if abs(slope) <= _SLOPE:
        late = late - (slope * time).astype(np.int64)
    late -= late.min()
    return late[:size], late[size:]
