"""Two captures of the same connections, one at each end: clock offset, delays and losses.

The two clocks differ by an unknown offset.  A packet from end A to end B is seen ``delay + offset``
later at B; one from B to A ``delay - offset`` later at A.  With the least of each, and the least
delays taken as equal in both directions, half their difference is the offset (as in NTP, RFC 5905
section 8).  Where the path is not symmetric the estimate is off by half the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.connections.model import Connection, Subflow
from mptcplab.trace.decode.segments import Decoder
from mptcplab.trace.files.capture import Progress
from mptcplab.trace.files.opening import open_batches
from mptcplab.trace.packets import packet_batches
from mptcplab.trace.trace import Trace, open_trace

_LOOK_PACKETS: Final = 200_000
"""Packets of each file that are read to tell whether they are two ends."""
_MAX_POINTS: Final = 1 << 20
"""Most packets of each half that are timed; beyond this, every second, fourth, ... one is."""
_MULTIPLIER: Final = 2_654_435_761  # Knuth's multiplicative hash: spreads sequence numbers

FlowKey = tuple[str, str, int, int]


@dataclass(slots=True)
class Passage:
    """One direction of a subflow between the two ends."""

    subflow: Subflow
    """As the sending end saw it."""
    side: int
    """Of the connection, that sends."""
    delay_ns: Ints
    """One-way delays, clock offset taken out."""
    sent_packets: int
    lost_packets: int
    """Data packets that the sending end saw and the receiving end did not."""
    lost_bytes: int


@dataclass(slots=True)
class Ends:
    """Two reconstructions of the same connections."""

    near: Trace
    """At the side that opened the connections."""
    far: Trace
    offset_ns: int
    """Far clock less near clock."""
    uncertainty_ns: int
    """The least delay: the offset is right to within this."""
    pairs: list[tuple[Connection, Connection]]
    passages: list[Passage]


def are_two_ends(one: Sequence[Path], other: Sequence[Path]) -> bool:
    """Tell whether two captures (each of one file or several) hold the same packets.

    One handshake or data packet in both is enough.
    """
    return bool(_fingerprints(one) & _fingerprints(other))


def _fingerprints(paths: Sequence[Path]) -> set[tuple[int, ...]]:
    """Return what identifies each MPTCP packet with a SYN or data."""
    fingerprints: set[tuple[int, ...]] = set()
    decoder = Decoder()
    count = 0
    for batch in open_batches(list(paths), []):
        segments = decoder.decode(batch)
        rows = np.flatnonzero(
            segments.is_mptcp & ((segments.payload_bytes > 0) | (segments.flags & 2 != 0))
        )
        book = decoder.book
        addresses = {
            code: int.from_bytes(book.packed(code), "big")
            for code in np.unique(segments.source[rows]).tolist()
        }
        columns = (segments.ports, segments.seq, segments.ack, segments.payload_bytes)
        fingerprints.update(
            (addresses[source], *rest)
            for source, *rest in zip(
                segments.source[rows].tolist(),
                *(column[rows].tolist() for column in columns),
                strict=True,
            )
        )
        count += len(batch)
        if count >= _LOOK_PACKETS:
            break
    return fingerprints


def open_ends(
    one_end: Sequence[Path], other_end: Sequence[Path], progress: Progress | None = None
) -> Ends:
    """Reconstruct both captures and compare them; raises ``CaptureError`` as ``open`` does."""
    first, second = open_trace(one_end, progress), open_trace(other_end, progress)
    near, far = (first, second) if _is_near(first, second) else (second, first)
    theirs = {_key(subflow): connection for connection in far.connections
              for subflow in connection.subflows}  # fmt: skip
    pairs = []
    for connection in near.connections:
        matches = [
            theirs[_key(subflow)] for subflow in connection.subflows if _key(subflow) in theirs
        ]
        if matches:
            pairs.append((connection, matches[0]))
    seen = [_seen(trace) for trace in (near, far)]
    forward: list[Ints] = []
    backward: list[Ints] = []
    raw = []
    for mine, their in pairs:
        far_flows = {_key(subflow): subflow for subflow in their.subflows}
        for subflow in mine.subflows:
            twin = far_flows.get(_key(subflow))
            if twin is None:
                continue
            for direction in (0, 1):
                side = direction ^ subflow.opened_by
                times = [
                    seen[k].get(2 * flow.flow + direction) for k, flow in enumerate((subflow, twin))
                ]
                gap = _gaps(times[0], times[1])
                (forward if side == 0 else backward).append(gap)
                raw.append((subflow, twin, direction, side, gap))
    # Forward, far time less near time is delay + offset; backward it is offset - delay.
    low = min((int(gap.min()) for gap in forward if gap.size), default=None)
    high = max((int(gap.max()) for gap in backward if gap.size), default=None)
    if low is None or high is None:
        offset = low if low is not None else (high or 0)
        uncertainty = 0
    else:
        offset, uncertainty = (low + high) // 2, abs(low - high) // 2
    passages = [_passage(*pair, offset) for pair in raw]
    return Ends(near, far, offset, uncertainty, pairs, passages)


def _key(subflow: Subflow) -> FlowKey:
    return (
        subflow.source, subflow.destination, subflow.source_port, subflow.destination_port,
    )  # fmt: skip


def _is_near(one: Trace, other: Trace) -> bool:
    """Whether ``one`` was taken nearer to the side that opened the connections.

    There, the SYN/ACK comes a round trip after the SYN; at the other side, at once.
    """
    theirs = {_key(subflow): subflow for subflow in other.subflows}
    score = 0
    for subflow in one.subflows:
        twin = theirs.get(_key(subflow))
        if twin is not None:
            gaps = [
                flow.halves[1].seen.syn_ns - flow.halves[0].seen.syn_ns for flow in (subflow, twin)
            ]
            score += (gaps[0] > gaps[1]) - (gaps[0] < gaps[1])
    return score >= 0


def _seen(trace: Trace) -> dict[int, tuple[Ints, Ints]]:
    """Return when each half's data was first seen: half -> (raw sequence numbers, times)."""
    pieces: dict[int, list[tuple[Ints, Ints]]] = {}
    taken: dict[int, int] = {}
    for batch in packet_batches(trace):
        segments = batch.segments
        wanted = (segments.payload_bytes > 0) | (segments.flags & 2 != 0)
        rows = np.flatnonzero(wanted & (batch.half >= 0) & ~batch.retransmission)
        halves = batch.half[rows]
        for half in np.unique(halves).tolist():
            mine = rows[halves == half]
            thin = 1 << max(0, (taken.get(half, 0) // _MAX_POINTS))
            if thin > 1:  # the same packets are left out at both ends
                mine = mine[(segments.seq[mine] * _MULTIPLIER >> 16) % thin == 0]
            taken[half] = taken.get(half, 0) + mine.size
            pieces.setdefault(half, []).append((segments.seq[mine], segments.time_ns[mine]))
    out = {}
    for half, parts in pieces.items():
        seq, time = (np.concatenate(column) for column in zip(*parts, strict=True))
        out[half] = (seq, time)
    return out


def _gaps(near: tuple[Ints, Ints] | None, far: tuple[Ints, Ints] | None) -> Ints:
    """Return far time less near time of the packets that both ends saw."""
    if near is None or far is None:
        return np.zeros(0, dtype=np.int64)
    seq, first = np.unique(far[0], return_index=True)
    place = np.minimum(np.searchsorted(seq, near[0]), max(seq.size - 1, 0))
    both = seq[place] == near[0] if seq.size else np.zeros(near[0].size, dtype=bool)
    return np.asarray(far[1][first[place[both]]] - near[1][both])


def _passage(
    subflow: Subflow, twin: Subflow, direction: int, side: int, gap: Ints, offset: int
) -> Passage:
    sender, receiver = (subflow, twin) if side == 0 else (twin, subflow)
    sent, got = sender.halves[direction], receiver.halves[direction]
    delay = gap - offset if side == 0 else offset - gap
    return Passage(
        subflow=sender,
        side=side,
        delay_ns=delay,
        sent_packets=sent.packets,
        lost_packets=max(0, sent.packets - got.packets),
        lost_bytes=max(0, sent.payload_bytes - got.payload_bytes),
    )
