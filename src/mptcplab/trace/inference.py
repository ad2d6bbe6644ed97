"""Bringing together flows whose connection's start is not in the capture.

Data sequence numbers are the strongest sign: at the same time, both directions of two flows count
in the same stretch of a space of 2^32 or 2^64 numbers.  Where there are none (a handshake and no
data), an address and port shared with exactly one connection alive at that time decides.  A
connection whose tokens are known never takes in a join that names another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.gather import Ints
from mptcplab.trace.mappings import DSN_64, FROM_IDSN
from mptcplab.trace.model import INFERRED, Connection, Subflow
from mptcplab.trace.reading import Reading

_NEAR: Final = 1 << 26
"""Sequence numbers this close are of one stream: 64 MiB, more than a window, little of 2^32."""
_APART_NS: Final = 60_000_000_000
_MAX_UNPLACED: Final = 2048
"""Connections without a start looked at in pairs; beyond this, each flow stands alone."""


@dataclass(slots=True)
class _Signs:
    """Numbers of one half's data: those it sends, and the DATA_ACKs that the other answers."""

    time_ns: Ints
    number: NDArray[np.uint64]
    is_wide: NDArray[np.bool_]


class _Numbers:
    """Data sequence numbers of halves, fetched when asked for."""

    def __init__(self, reading: Reading) -> None:
        self._extents = reading.mappings.extents()
        self._samples = reading.samples.table()
        self._extent_halves = self._extents["half"].copy()
        self._sample_halves = self._samples["half"].copy()
        self._known: dict[int, _Signs] = {}

    def of(self, half: int) -> _Signs:
        """Return the numbers in the space of what ``half`` sends: its own DSNs, the peer's ACKs."""
        signs = self._known.get(half)
        if signs is None:
            low, high = np.searchsorted(self._extent_halves, (half, half + 1))
            extents = self._extents[low:high]
            extents = extents[extents["kind"] != FROM_IDSN]
            low, high = np.searchsorted(self._sample_halves, (half ^ 1, (half ^ 1) + 1))
            acks = self._samples[low:high]
            acks = acks[acks["data_ack_bits"] > 0]
            signs = _Signs(
                np.concatenate((extents["first_ns"], acks["time_ns"])),
                np.concatenate((extents["dsn"], acks["data_ack"])),
                np.concatenate((extents["kind"] == DSN_64, acks["data_ack_bits"] == 64)),
            )
            order = np.argsort(signs.time_ns, kind="stable")
            signs = _Signs(signs.time_ns[order], signs.number[order], signs.is_wide[order])
            self._known[half] = signs
        return signs


def _distance(one: _Signs, other: _Signs) -> int | None:
    """Least distance between numbers seen at about the same time, None without any."""
    if one.time_ns.size == 0 or other.time_ns.size == 0:
        return None
    step = max(1, one.time_ns.size // 64)
    chosen = np.arange(0, one.time_ns.size, step)
    place = np.searchsorted(other.time_ns, one.time_ns[chosen])
    least: int | None = None
    for shift in (-1, 0):
        near = np.clip(place + shift, 0, other.time_ns.size - 1)
        apart = np.abs(other.time_ns[near] - one.time_ns[chosen])
        wide = one.is_wide[chosen] & other.is_wide[near]
        gap = one.number[chosen] - other.number[near]
        narrow = (gap & np.uint64(0xFFFF_FFFF)).astype(np.int64)
        narrow = np.minimum(narrow, (1 << 32) - narrow)
        signed = np.abs(gap.view(np.int64).astype(np.float64))
        distance = np.where(wide, signed, narrow.astype(np.float64))[apart < _APART_NS]
        if distance.size:
            found = int(min(distance.min(), 2.0**62))
            least = found if least is None else min(least, found)
    return least


def _same_stream(one: Subflow, other: Subflow, numbers: _Numbers, reversed_: bool) -> bool | None:
    """Whether two flows carry the same connection; None where nothing tells."""
    verdicts = []
    for side in (0, 1):
        distance = _distance(
            numbers.of(2 * one.flow + side), numbers.of(2 * other.flow + (side ^ reversed_))
        )
        if distance is not None:
            verdicts.append(distance < _NEAR)
    return all(verdicts) if verdicts else None


def _ends(subflow: Subflow) -> set[tuple[str, int]]:
    return {
        (subflow.source, subflow.source_port),
        (subflow.destination, subflow.destination_port),
    }


def _compatible(one: Connection, other: Connection) -> bool:
    """Whether known tokens allow both to be the same connection."""
    if one.saw_syn and other.saw_syn:
        return False
    mine, theirs = ({token for token in c.tokens if token is not None} for c in (one, other))
    full = None not in one.tokens or None not in other.tokens
    return not (mine and theirs and (full or one.tokens[1] is not None)) or bool(mine & theirs)


def infer(connections: list[Connection], reading: Reading) -> list[Connection]:
    """Merge connections without a start into those they belong to."""
    started = [one for one in connections if one.saw_syn or None not in one.tokens]
    loose = [one for one in connections if not (one.saw_syn or None not in one.tokens)]
    if not loose or len(loose) > _MAX_UNPLACED:
        return connections
    numbers = _Numbers(reading)
    placed = list(started)
    # Flows with data first: those with nothing but a handshake then find their addresses.
    loose.sort(key=lambda one: (-_signs(one, numbers), one.subflows[0].first_number))
    for connection in loose:
        home, reversed_ = _home(connection, placed, numbers, reading)
        if home is None:
            placed.append(connection)
            continue
        for subflow in connection.subflows:
            subflow.joined_by = INFERRED
            subflow.opened_by ^= reversed_
            home.subflows.append(subflow)
        for side in (0, 1):
            if home.tokens[side ^ reversed_] is None:
                home.tokens[side ^ reversed_] = connection.tokens[side]
    return placed


def _signs(connection: Connection, numbers: _Numbers) -> int:
    return int(
        any(
            numbers.of(2 * subflow.flow + side).time_ns.size
            for subflow in connection.subflows
            for side in (0, 1)
        )
    )


def _home(
    connection: Connection, placed: list[Connection], numbers: _Numbers, reading: Reading
) -> tuple[Connection | None, bool]:
    """Return the connection that this one is part of, and whether its sides are swapped."""
    mine = connection.subflows[0]
    by_address = []
    for other in placed:
        if not _compatible(connection, other):
            continue
        for theirs in other.subflows:
            for reversed_ in (False, True):
                swapped = reversed_ ^ bool(theirs.opened_by)
                same = _same_stream(mine, theirs, numbers, reversed_)
                if same:
                    return other, swapped
                shared = same is None and not reversed_ and _ends(mine) & _ends(theirs)
                if shared and _alive_together(mine, theirs, reading):
                    by_address.append((other, swapped))
    homes = {id(other) for other, _ in by_address}
    return by_address[0] if len(homes) == 1 else (None, False)


def _alive_together(one: Subflow, other: Subflow, reading: Reading) -> bool:
    spans = []
    for subflow in (one, other):
        last = reading.follower.halves["last_ns"][2 * subflow.flow : 2 * subflow.flow + 2]
        spans.append((subflow.start_ns, int(last.max())))
    return spans[0][0] <= spans[1][1] and spans[1][0] <= spans[0][1]
