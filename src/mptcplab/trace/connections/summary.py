"""Totals of each half of a subflow, and what was sent twice at the data level."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.sequence_numbers import relative_dsns
from mptcplab.trace.connections.model import Checks, Connection, Half, Seen, Subflow
from mptcplab.trace.connections.reinjection import Sent
from mptcplab.trace.follow.announced_mappings import DSN_64, FROM_IDSN
from mptcplab.trace.follow.read_pass import Reading
from mptcplab.trace.follow.tcp import HALF

_SUMS: Final = (
    "packets", "payload_bytes", "retransmitted_bytes", "retransmissions", "out_of_order",
)  # fmt: skip
_SEEN: Final = (
    "last_syn_ns", "established_ns", "fin_ns", "fin_number", "rst_ns", "rst_number", "last_ns",
    "last_number", "last_data_ns", "last_data_number",
)  # fmt: skip
_STATE: Final = HALF.names or ()
_MOST_WRONG: Final = 16
"""Wrong checksums listed of each half."""


def summarise(connections: list[Connection], reading: Reading) -> None:
    """Fill in bytes, times, round trips and reinjections of connections."""
    rows = _ByHalf(reading)
    for connection in connections:
        for subflow in connection.subflows:
            subflow.halves = [_half(2 * subflow.flow + side, reading, rows) for side in (0, 1)]
            _times(subflow, reading)
        for side in (0, 1):
            _data_level(connection, side)
        connection.ended = {
            side ^ subflow.opened_by
            for subflow in connection.subflows
            for side in (0, 1)
            if 2 * subflow.flow + side in reading.mappings.data_fins
        }
    _checksums(connections, reading)


class _ByHalf:
    """Samples and extents by half, and the samples' sums, computed once for all halves."""

    def __init__(self, reading: Reading) -> None:
        count = 2 * reading.placer.table.count
        every = np.arange(count + 1)
        self._samples, self._extents = reading.samples.table(), reading.mappings.extents()
        half = self._samples["half"].astype(np.int64)
        self._sample_at = np.searchsorted(half, every).tolist()
        self._extent_at = np.searchsorted(self._extents["half"].astype(np.int64), every).tolist()
        self._sums = {
            name: np.bincount(half, weights=self._samples[name], minlength=count).tolist()
            for name in _SUMS
        }

    def samples(self, half: int) -> NDArray[Any] | None:
        """Return a half's samples, None where it has none."""
        first, end = self._sample_at[half], self._sample_at[half + 1]
        return self._samples[first:end] if first < end else None

    def extents(self, half: int) -> NDArray[Any] | None:
        """Return a half's extents, None where it has none."""
        first, end = self._extent_at[half], self._extent_at[half + 1]
        return self._extents[first:end] if first < end else None

    def total(self, half: int, name: str) -> int:
        """Return the sum of one of ``_SUMS``."""
        return int(self._sums[name][half])


def _half(number: int, reading: Reading, by_half: _ByHalf) -> Half:
    state = dict(zip(_STATE, reading.follower.halves[number].item(), strict=True))
    holes = reading.follower.holes.get(number)
    virtual = 1 if state["fin_seq"] else 0
    # Data starts at 1; skipped data that was acknowledged was sent all the same.
    sent = max(0, state["next"] - 1 - virtual) if state["based"] else 0
    sent -= holes.missing() if holes else 0
    scale = state["scale"]
    sums: dict[str, Any] = {name: by_half.total(number, name) for name in _SUMS}
    half = Half(
        number=number,
        bytes=max(0, sent),
        acked_bytes=max(0, min(state["acked"] - 1, sent)),
        missing_bytes=state["missing_bytes"],
        unmapped_bytes=reading.mappings.unmapped_bytes.get(number, 0),
        unplaced_bytes=reading.mappings.unplaced_bytes.get(number, 0),
        duplicate_acks=state["dup_acks"],
        mss_bytes=state["mss"],
        window_shift=None if scale == 0 else max(0, scale - 2),
        seen=Seen(
            syn_ns=state["syn_ns"] or state["syn_ack_ns"], **{name: state[name] for name in _SEEN}
        ),
        **sums,
    )
    rows, extents, peer = (
        by_half.samples(number), by_half.extents(number), by_half.samples(number ^ 1),
    )  # fmt: skip
    if rows is not None:
        half.samples = rows
    if extents is not None:
        half.extents = extents
    if peer is not None and peer["rtts"].any():
        peer = peer[peer["rtts"] > 0]
        half.rtt_ns = peer["rtt_ns"] // peer["rtts"]
        half.least_rtt_ns = int(peer["least_rtt_ns"].min())
    return half


def _checksums(connections: list[Connection], reading: Reading) -> None:
    """Give each half the result of its checksums."""
    halves = {
        half.number: (half, connection.idsns[side ^ subflow.opened_by])
        for connection in connections
        for subflow in connection.subflows
        for side, half in enumerate(subflow.halves)
    }
    checksums = reading.checksums
    checksums.settle({number: idsn for number, (_, idsn) in halves.items() if idsn is not None})
    table = checksums.counts
    used = np.flatnonzero(table["verified"] + table["wrong"] + table["unverifiable"])
    for number in used.tolist():
        halves[number][0].checksums = Checks(*table[number].item())
    for failure in checksums.wrong:
        checks = halves[failure.half][0].checksums
        if checks is not None and len(checks.wrong_at) < _MOST_WRONG:
            checks.wrong_at.append((failure.time_ns, failure.number))


def _times(subflow: Subflow, reading: Reading) -> None:
    first, second = subflow.halves
    subflow.end_ns = max(first.seen.last_ns, second.seen.last_ns, subflow.start_ns)
    began = int(reading.follower.halves["syn_ns"][2 * subflow.flow])
    if began and first.seen.established_ns:
        subflow.handshake_ns = first.seen.established_ns - began


def _data_level(connection: Connection, side: int) -> None:
    """Number what ``side`` sent on all subflows in one space, and find what was sent twice."""
    halves = [subflow.half(side) for subflow in connection.subflows]
    if not any(half.extents.size for half in halves):
        connection.data_bases[side] = connection.idsns[side]
        return
    table = np.concatenate([half.extents for half in halves])
    order = np.argsort(table["first_number"], kind="stable")
    table = table[order]
    wide = table["kind"] == DSN_64
    from_idsn = table["kind"] == FROM_IDSN
    base = connection.idsns[side]
    if base is None:
        seen = table[~from_idsn]
        base = (int(seen["dsn"][0]) if seen.size else 1) - 1
    connection.data_bases[side] = base
    start = relative_dsns(table["dsn"], wide, from_idsn, base)
    before, origin = Sent(table, start).reinjections()
    vain = _in_vain(table, before, origin, halves)
    by_half = np.argsort(table["half"], kind="stable")
    numbers = table["half"][by_half]
    for half in halves:
        low, high = np.searchsorted(numbers, (half.number, half.number + 1))
        if low == high:
            continue
        mine = by_half[low:high]
        half.data_rel = start[mine]
        half.reinjected_bytes = int(before[mine].sum())
        half.duplicate_bytes = int(vain[mine].sum())
        again = mine[before[mine] > 0]
        again = again[np.argsort(table["seq"][again], kind="stable")]
        half.again_seq, half.again_bytes = table["seq"][again], before[again]


def _in_vain(
    table: NDArray[Any],
    before: NDArray[np.int64],
    origin: NDArray[np.int64],
    halves: list[Half],
) -> NDArray[np.int64]:
    """Return the bytes reinjected although the first copy was acknowledged on its subflow."""
    vain = np.zeros(before.size, dtype=np.int64)
    again = np.flatnonzero(before > 0)
    if again.size:
        first = table[origin[again]]
        numbers = np.array([half.number for half in halves])
        order = np.argsort(numbers)
        acked = np.array([half.acked_bytes for half in halves])[order]
        arrived = first["seq"] <= acked[np.searchsorted(numbers[order], first["half"])]
        vain[again[arrived]] = before[again[arrived]]
    return vain
