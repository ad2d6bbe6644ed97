"""Filling in what each half of a subflow did, and what was sent twice."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.mappings import DSN_64, FROM_IDSN
from mptcplab.trace.model import Connection, Half, Subflow
from mptcplab.trace.reading import Reading
from mptcplab.trace.reinjection import Sent, relative

_SUMS: Final = (
    "packets", "payload_bytes", "retransmitted_bytes", "retransmissions", "out_of_order",
)  # fmt: skip


def summarise(connections: list[Connection], reading: Reading) -> None:
    """Complete connections with their bytes, times, round trips and reinjections."""
    rows = _ByHalf(reading)
    for connection in connections:
        for subflow in connection.subflows:
            subflow.halves = [_half(2 * subflow.flow + side, reading, rows) for side in (0, 1)]
            _times(subflow, reading)
        for side in (0, 1):
            _data_level(connection, side)


class _ByHalf:
    """Samples and extents of each half, and the samples' sums, without a search for each."""

    def __init__(self, reading: Reading) -> None:
        count = 2 * reading.follower.table.count
        every = np.arange(count + 1)
        self._samples, self._extents = reading.samples.table(), reading.mappings.extents()
        half = self._samples["half"].astype(np.int64)
        self._sample_at = np.searchsorted(half, every).tolist()
        self._extent_at = np.searchsorted(self._extents["half"].astype(np.int64), every).tolist()
        self._sums = {
            name: np.bincount(half, weights=self._samples[name], minlength=count).tolist()
            for name in _SUMS
        }

    def samples(self, half: int) -> NDArray[Any]:
        """Return a half's samples."""
        return self._samples[self._sample_at[half] : self._sample_at[half + 1]]

    def extents(self, half: int) -> NDArray[Any]:
        """Return a half's extents."""
        return self._extents[self._extent_at[half] : self._extent_at[half + 1]]

    def total(self, half: int, name: str) -> int:
        """Return the sum of one of ``_SUMS``."""
        return int(self._sums[name][half])


def _half(number: int, reading: Reading, by_half: _ByHalf) -> Half:
    state = reading.follower.halves[number]
    rows, peer = by_half.samples(number), by_half.samples(number ^ 1)
    peer = peer[peer["rtts"] > 0]
    holes = reading.follower.holes.get(number)
    virtual = 1 if state["fin_seq"] else 0
    # Data starts at 1; of what was jumped over, what is acknowledged was there all the same.
    sent = max(0, int(state["next"]) - 1 - virtual) if state["based"] else 0
    sent -= holes.missing() if holes else 0
    scale = int(state["scale"])
    return Half(
        number=number,
        bytes=max(0, sent),
        acked_bytes=max(0, min(int(state["acked"]) - 1, sent)),
        missing_bytes=int(state["missing_bytes"]),
        unmapped_bytes=reading.mappings.unmapped_bytes.get(number, 0),
        packets=by_half.total(number, "packets"),
        payload_bytes=by_half.total(number, "payload_bytes"),
        retransmitted_bytes=by_half.total(number, "retransmitted_bytes"),
        retransmissions=by_half.total(number, "retransmissions"),
        out_of_order=by_half.total(number, "out_of_order"),
        duplicate_acks=int(state["dup_acks"]),
        rtt_ns=peer["rtt_ns"] // peer["rtts"],
        least_rtt_ns=int(peer["least_rtt_ns"].min()) if peer.size else 0,
        mss_bytes=int(state["mss"]),
        window_shift=None if scale == 0 else max(0, scale - 2),
        syn_ns=int(state["syn_ns"] or state["syn_ack_ns"]),
        established_ns=int(state["established_ns"]),
        fin_ns=int(state["fin_ns"]),
        fin_number=int(state["fin_number"]),
        rst_ns=int(state["rst_ns"]),
        rst_number=int(state["rst_number"]),
        last_ns=int(state["last_ns"]),
        last_number=int(state["last_number"]),
        last_data_ns=int(state["last_data_ns"]),
        last_data_number=int(state["last_data_number"]),
        samples=rows,
        extents=by_half.extents(number),
    )


def _times(subflow: Subflow, reading: Reading) -> None:
    first, second = subflow.halves
    subflow.end_ns = max(first.last_ns, second.last_ns, subflow.start_ns)
    state = reading.follower.halves[2 * subflow.flow]
    if state["syn_ns"] and state["established_ns"]:
        subflow.handshake_ns = int(state["established_ns"] - state["syn_ns"])


def _data_level(connection: Connection, side: int) -> None:
    """Number what ``side`` sent on all subflows in one space and find what was sent twice."""
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
    start = relative(table["dsn"], wide, from_idsn, base)
    before, origin = Sent(table, start).reinjections()
    for half in halves:
        mine = np.flatnonzero(table["half"] == half.number)
        half.extents = table[mine]
        half.data_rel = start[mine]
        half.reinjected_bytes = int(before[mine].sum())
        again = mine[before[mine] > 0]
        again = again[np.argsort(table["seq"][again], kind="stable")]
        half.again_seq, half.again_bytes = table["seq"][again], before[again]
        half.duplicate_bytes = _in_vain(table, before, origin, mine, halves)


def _in_vain(
    table: NDArray[Any],
    before: NDArray[np.int64],
    origin: NDArray[np.int64],
    mine: NDArray[np.int64],
    halves: list[Half],
) -> int:
    """Bytes reinjected although the first copy arrived too (it was acknowledged on its subflow)."""
    acked = {half.number: half.acked_bytes for half in halves}
    total = 0
    for k in mine[before[mine] > 0].tolist():
        first = int(origin[k])
        if int(table["seq"][first]) <= acked[int(table["half"][first])]:
            total += int(before[k])
    return total
