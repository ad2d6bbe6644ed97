"""Inference: which flows belong together where the start of a connection was not captured.

Data sequence numbers are the strongest sign: at the same time, both directions of two flows are in
the same part of a space of 2^32 or 2^64 numbers.  Where there are none (a handshake without data),
an address and port shared with exactly one connection of that time decides.  A connection whose
tokens are known never takes in a join with another token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.columns.sorting import distinct
from mptcplab.trace.connections.model import INFERRED, Connection, Subflow
from mptcplab.trace.follow.announced_mappings import DSN_64, FROM_IDSN
from mptcplab.trace.follow.read_pass import Reading

_NEAR_BITS: Final = 26
_NEAR: Final = 1 << _NEAR_BITS
"""Numbers this close are of one stream: 64 MiB, more than a window, a small part of 2^32."""
_APART_NS: Final = 60_000_000_000
_MAX_UNPLACED: Final = 8192
"""Most connections without a start to put together; with more, each flow stays alone."""
_MOST_CARRIERS: Final = 16
_MOST_NEIGHBOURS: Final = 64
"""Most subflows considered when one is placed; only a flood has more."""

# How sequence numbers are counted: 64 bits, the lower 32 bits of those, 32 bits alone.
_WIDE: Final = 0
_WIDE_LOW: Final = 1
_NARROW: Final = 2
_COMPARABLE: Final = {_WIDE: (_WIDE,), _WIDE_LOW: (_NARROW,), _NARROW: (_NARROW, _WIDE_LOW)}

_Member: TypeAlias = tuple[Connection, Subflow]


@dataclass(slots=True, eq=False, repr=False)
class _Signs:
    """Numbers of one half's data: the DSNs it sends, and the DATA_ACKs of the other half."""

    time_ns: Ints
    number: NDArray[np.uint64]
    is_wide: NDArray[np.bool_]


class _Numbers:
    """Data sequence numbers of halves, collected on demand."""

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
            nearest = int(min(distance.min(), 2.0**62))
            least = nearest if least is None else min(least, nearest)
    return least


def _same_stream(one: Subflow, other: Subflow, numbers: _Numbers, reversed_: bool) -> bool | None:
    """Whether two flows carry the same connection; None where nothing shows it."""
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
    """Whether their known tokens allow two connections to be the same."""
    if one.saw_syn and other.saw_syn:
        return False
    mine, theirs = ({token for token in c.tokens if token is not None} for c in (one, other))
    full = None not in one.tokens or None not in other.tokens
    return not (mine and theirs and (full or one.tokens[1] is not None)) or bool(mine & theirs)


class _Placed:
    """Connections placed so far, indexed by the numbers and the ends of their subflows."""

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
        """Add a subflow of a connection that is here already."""
        member = (connection, subflow)
        for end in _ends(subflow):
            self._by_end.setdefault(end, []).append(member)
        for side in (0, 1):
            keys = self._keys(2 * subflow.flow + side)
            self._ways[subflow.flow] = self._ways.get(subflow.flow, 0) + bool(keys)
            for key in keys:
                self._by_number.setdefault(key, []).append(member)

    def _keys(self, half: int) -> list[tuple[int, int]]:
        """Return the parts of sequence space that a half went through.

        In the space of 64-bit numbers where they are known, always in that of 32-bit numbers.  The
        first part of a key is the space and, for 32 bits, whether 64 bits are known.
        """
        signs = self._numbers.of(half)
        low = (signs.number & np.uint64(0xFFFF_FFFF)) >> np.uint64(_NEAR_BITS)
        out: list[tuple[int, int]] = []
        for kind, chosen in ((_WIDE_LOW, signs.is_wide), (_NARROW, ~signs.is_wide)):
            out += [(kind, place) for place in distinct(low[chosen]).tolist()]
        high = distinct(signs.number[signs.is_wide] >> np.uint64(_NEAR_BITS))
        return out + [(_WIDE, place) for place in high.tolist()]

    def carriers(self, subflow: Subflow) -> list[_Member]:
        """Return subflows that may be of the same connection: alike in each direction with data."""
        members: dict[int, _Member] = {}
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
                            members[member[1].flow] = member
                            alike.add(member[1].flow)
            for flow in alike:
                ways[flow] = ways.get(flow, 0) + 1
        wanted = [flow for flow in ways if ways[flow] >= min(mine, self._ways[flow])]
        return [members[flow] for flow in sorted(wanted, key=lambda flow: (-ways[flow], flow))]

    def neighbours(self, subflow: Subflow) -> Iterator[_Member]:
        """Yield subflows that share an address and port, where there are no numbers to compare."""
        has_numbers = any(self._keys(2 * subflow.flow + side) for side in (0, 1))
        for end in _ends(subflow):
            for member in self._by_end.get(end, [])[:_MOST_NEIGHBOURS]:
                if not (has_numbers and self._ways[member[1].flow]):
                    yield member


def infer(connections: list[Connection], reading: Reading) -> list[Connection]:
    """Merge connections without a start into those that they belong to."""
    started: list[Connection] = []
    loose: list[Connection] = []
    for connection in connections:
        has_start = connection.saw_syn or None not in connection.tokens
        (started if has_start else loose).append(connection)
    if not loose or len(loose) > _MAX_UNPLACED:
        return connections
    numbers = _Numbers(reading)
    placed = _Placed(numbers)
    for connection in started:
        placed.add(connection)
    # Flows with data first, so that those with only a handshake find their addresses.
    loose.sort(key=lambda each: (-_signs(each, numbers), each.subflows[0].first_number))
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
    home: tuple[Connection, bool] | None = None
    for other, theirs in placed.neighbours(mine):
        if (
            _compatible(connection, other)
            and _same_stream(mine, theirs, numbers, reversed_=False) is None
            and _alive_together(mine, theirs, reading)
        ):
            if home is not None and home[0] is not other:
                return None, False  # ambiguous
            home = other, bool(theirs.opened_by)
    return home if home is not None else (None, False)


def _alive_together(one: Subflow, other: Subflow, reading: Reading) -> bool:
    spans = []
    for subflow in (one, other):
        rows = reading.follower.halves[2 * subflow.flow : 2 * subflow.flow + 2]
        over = rows["rst_ns"].any() or rows["fin_ns"].all()
        last = int(rows["last_ns"].max()) if over else reading.last_ns
        spans.append((subflow.start_ns, last))
    return spans[0][0] <= spans[1][1] and spans[1][0] <= spans[0][1]
