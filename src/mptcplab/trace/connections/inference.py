"""Bringing together flows whose connection's start is not in the capture.

Data sequence numbers are the strongest sign: at the same time, both directions of two flows count
in the same stretch of a space of 2^32 or 2^64 numbers.  Where there are none (a handshake and no
data), an address and port shared with exactly one connection alive at that time decides.  A
connection whose tokens are known never takes in a join that names another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.connections.model import INFERRED, Connection, Subflow
from mptcplab.trace.follow.announced_mappings import DSN_64, FROM_IDSN
from mptcplab.trace.follow.read_pass import Reading

_NEAR_BITS: Final = 26
_NEAR: Final = 1 << _NEAR_BITS
"""Sequence numbers this close are of one stream: 64 MiB, more than a window, little of 2^32."""
_APART_NS: Final = 60_000_000_000
_MAX_UNPLACED: Final = 8192
"""Connections without a start that are brought together; beyond this, each flow stands alone."""
_MOST_CARRIERS: Final = 16
_MOST_NEIGHBOURS: Final = 64
"""Subflows that are looked at closely to place one: only a flood offers more."""

# How sequence numbers are counted: 64 bits, the lower 32 bits of those, 32 bits alone.
_WIDE: Final = 0
_WIDE_LOW: Final = 1
_NARROW: Final = 2
_COMPARABLE: Final = {_WIDE: (_WIDE,), _WIDE_LOW: (_NARROW,), _NARROW: (_NARROW, _WIDE_LOW)}

_Member: TypeAlias = tuple[Connection, Subflow]


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


class _Placed:
    """Connections found so far, to be asked for by what their subflows carried, or where."""

    def __init__(self, numbers: _Numbers) -> None:
        self.connections: list[Connection] = []
        self._numbers = numbers
        self._by_number: dict[tuple[int, int], list[_Member]] = {}
        self._by_end: dict[tuple[str, int], list[_Member]] = {}
        self._ways: dict[int, int] = {}

    def add(self, connection: Connection) -> None:
        self.connections.append(connection)
        for subflow in connection.subflows:
            self.extend(connection, subflow)

    def extend(self, connection: Connection, subflow: Subflow) -> None:
        """Note a subflow of a connection that is here."""
        member = (connection, subflow)
        for end in _ends(subflow):
            self._by_end.setdefault(end, []).append(member)
        for side in (0, 1):
            keys = self._keys(2 * subflow.flow + side)
            self._ways[subflow.flow] = self._ways.get(subflow.flow, 0) + bool(keys)
            for key in keys:
                self._by_number.setdefault(key, []).append(member)

    def _keys(self, half: int) -> list[tuple[int, int]]:
        """The stretches of sequence space that a half went through.

        In the space of 64-bit numbers where they are known, in that of 32-bit ones always; the
        first of a key tells which, and for the latter, which of both the half has.
        """
        signs = self._numbers.of(half)
        low = (signs.number & np.uint64(0xFFFF_FFFF)) >> np.uint64(_NEAR_BITS)
        out: list[tuple[int, int]] = []
        for kind, chosen in ((_WIDE_LOW, signs.is_wide), (_NARROW, ~signs.is_wide)):
            out += [(kind, place) for place in np.unique(low[chosen]).tolist()]
        high = np.unique(signs.number[signs.is_wide] >> np.uint64(_NEAR_BITS))
        return out + [(_WIDE, place) for place in high.tolist()]

    def carriers(self, subflow: Subflow) -> list[_Member]:
        """Return subflows that may have carried the same stream: alike in all ways that both go."""
        found: dict[int, _Member] = {}
        ways: dict[int, int] = {}
        mine = 0
        for side in (0, 1):
            alike: set[int] = set()
            keys = self._keys(2 * subflow.flow + side)
            mine += bool(keys)
            for kind, place in keys:
                turns = 1 << (64 if kind == _WIDE else 32) - _NEAR_BITS
                for answer in _COMPARABLE[kind]:
                    for near in (place - 1, place, place + 1):
                        for member in self._by_number.get((answer, near % turns), ()):
                            found[member[1].flow] = member
                            alike.add(member[1].flow)
            for flow in alike:
                ways[flow] = ways.get(flow, 0) + 1
        wanted = [flow for flow in ways if ways[flow] >= min(mine, self._ways[flow])]
        return [found[flow] for flow in sorted(wanted, key=lambda flow: (-ways[flow], flow))]

    def neighbours(self, subflow: Subflow) -> Iterator[_Member]:
        """Yield subflows that share an address and port, where numbers do not tell."""
        has_numbers = any(self._keys(2 * subflow.flow + side) for side in (0, 1))
        for end in _ends(subflow):
            for member in self._by_end.get(end, [])[:_MOST_NEIGHBOURS]:
                if not (has_numbers and self._ways[member[1].flow]):
                    yield member


def infer(connections: list[Connection], reading: Reading) -> list[Connection]:
    """Merge connections without a start into those they belong to."""
    started = [one for one in connections if one.saw_syn or None not in one.tokens]
    loose = [one for one in connections if not (one.saw_syn or None not in one.tokens)]
    if not loose or len(loose) > _MAX_UNPLACED:
        return connections
    numbers = _Numbers(reading)
    placed = _Placed(numbers)
    for connection in started:
        placed.add(connection)
    # Flows with data first: those with nothing but a handshake then find their addresses.
    loose.sort(key=lambda one: (-_signs(one, numbers), one.subflows[0].first_number))
    for connection in loose:
        home, reversed_ = _home(connection, placed, numbers, reading)
        if home is None:
            placed.add(connection)
            continue
        for subflow in connection.subflows:
            subflow.joined_by = INFERRED
            subflow.opened_by ^= reversed_
            home.subflows.append(subflow)
            placed.extend(home, subflow)
        for side in (0, 1):
            if home.tokens[side ^ reversed_] is None:
                home.tokens[side ^ reversed_] = connection.tokens[side]
    return placed.connections


def _signs(connection: Connection, numbers: _Numbers) -> int:
    return int(
        any(
            numbers.of(2 * subflow.flow + side).time_ns.size
            for subflow in connection.subflows
            for side in (0, 1)
        )
    )


def _home(
    connection: Connection, placed: _Placed, numbers: _Numbers, reading: Reading
) -> tuple[Connection | None, bool]:
    """Return the connection that this one is part of, and whether its sides are swapped."""
    mine = connection.subflows[0]
    for other, theirs in placed.carriers(mine)[:_MOST_CARRIERS]:
        if not _compatible(connection, other):
            continue
        for reversed_ in (False, True):
            if _same_stream(mine, theirs, numbers, reversed_):
                return other, reversed_ ^ bool(theirs.opened_by)
    found: tuple[Connection, bool] | None = None
    for other, theirs in placed.neighbours(mine):
        if (
            _compatible(connection, other)
            and _same_stream(mine, theirs, numbers, reversed_=False) is None
            and _alive_together(mine, theirs, reading)
        ):
            if found is not None and found[0] is not other:
                return None, False  # no telling which
            found = other, bool(theirs.opened_by)
    return found if found is not None else (None, False)


def _alive_together(one: Subflow, other: Subflow, reading: Reading) -> bool:
    spans = []
    for subflow in (one, other):
        last = reading.follower.halves["last_ns"][2 * subflow.flow : 2 * subflow.flow + 2]
        spans.append((subflow.start_ns, int(last.max())))
    return spans[0][0] <= spans[1][1] and spans[1][0] <= spans[0][1]
