"""Captures of the same connections at both ends: clock offset, delays, losses, removed options.

Each end may have several files, as a client with two interfaces has.

The two clocks differ by an unknown offset.  A packet from end A to end B is seen ``delay + offset``
later at B; one from B to A ``delay - offset`` later at A.  With the least of each, and the least
delays taken as equal in both directions, half their difference is the offset (as in NTP, RFC 5905
section 8).  Where the path is not symmetric the estimate is off by half the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.columns.sorting import distinct, median
from mptcplab.trace.connections.model import Connection, Half, Held, Subflow
from mptcplab.trace.decode.segments import ACK, SYN, Decoder, Segments
from mptcplab.trace.files.capture import Progress
from mptcplab.trace.files.opening import open_batches
from mptcplab.trace.findings.vantage import SERVER, vantage
from mptcplab.trace.packets import packet_batches
from mptcplab.trace.trace import Trace, open_trace
from mptcplab.wire.mptcp import MpCapable, MpJoinSyn

_EDGE_NS: Final = 10_000_000
"""By which captures may end before the other, beside what delays vary."""
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
    both_ways: bool
    """Whether both hold packets of both directions; otherwise the offset includes the delay, and
    nothing is known of its uncertainty."""
    pairs: list[tuple[Connection, Connection]]
    passages: list[Passage]
    between: list[Path]
    """Files from between the ends, which are not used."""
    removed: list[str]
    """Options that were on a packet at one end and not at the other, in sentences."""


def are_two_ends(one: Sequence[Path], other: Sequence[Path]) -> bool:
    """Tell whether two captures (each of one file or several) hold the same packets.

    One handshake or data packet in both is enough, unless all have the same times in both.
    """
    looks = _Look(one), _Look(other)
    return _order(*looks, _clients(looks)) != 0


class EndFiles(NamedTuple):
    """Capture files, by where they were taken."""

    near: list[Path]
    """Nearest to the side that opened the connections."""
    far: list[Path]
    """Nearest to the other."""
    between: list[Path]
    """Between others."""


def ends_of(captures: Sequence[Sequence[Path]]) -> EndFiles | None:
    """Sort captures, each of one file or several, by the end that they were taken at.

    Returns None where no two captures hold the same packets at different times, so that they are of
    one end, parts of one capture, or of different connections.  A capture that shares packets with
    none, as of an interface whose packets never arrived, is of the end that its own handshakes
    show.
    """
    looks = [_Look(paths) for paths in captures]
    clients = _clients(looks)
    nearer: list[set[int]] = [set() for _ in looks]
    for one, other in combinations(range(len(looks)), 2):
        order = _order(looks[one], looks[other], clients)
        if order:
            first, last = (one, other) if order > 0 else (other, one)
            nearer[last].add(first)
    far_ones = set().union(*nearer) if nearer else set()
    if not far_ones:
        return None
    out = EndFiles([], [], [])
    has_farther = {one for those in nearer for one in those}
    for k, paths in enumerate(captures):
        if not nearer[k] and k not in has_farther:
            place = vantage_of(paths)
            (out.far if place == SERVER else out.near).extend(paths)
        elif not nearer[k]:
            out.near.extend(paths)
        elif k not in has_farther:
            out.far.extend(paths)
        else:
            out.between.extend(paths)
    return out


def vantage_of(paths: Sequence[Path]) -> str | None:
    """Return where a capture was taken, by its first connection."""
    connections = open_trace(paths).connections
    return vantage(connections[0]).place if connections else None


class _Look:
    """When the packets at the beginning of a capture were seen: those with a SYN or data."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.times: dict[tuple[bytes, bytes, int, int, int, int], int] = {}
        """(source, destination, ports, numbers, bytes) -> time of the first of them."""
        self.marks: dict[tuple[bytes, bytes, int, int, int, int], tuple[int, ...]] = {}
        """The same -> what differs from one capture point to another."""
        self.asked: list[tuple[bytes, bytes, bool]] = []
        """Source and destination of SYNs, and whether it opens a connection (not a subflow)."""
        decoder = Decoder()
        count = 0
        for batch in open_batches(list(paths), []):
            segments = decoder.decode(batch)
            self._take(decoder, segments)
            count += len(batch)
            if count >= _LOOK_PACKETS:
                break

    def _take(self, decoder: Decoder, segments: Segments) -> None:
        rows = np.flatnonzero((segments.payload_bytes > 0) | (segments.flags & SYN != 0))
        packed = {
            code: decoder.book.packed(code)
            for code in distinct(
                np.concatenate((segments.source[rows], segments.destination[rows]))
            ).tolist()
        }
        columns = (segments.ports, segments.seq, segments.ack, segments.payload_bytes)
        marks = (segments.time_ns, segments.hops, segments.ip_id, segments.is_mptcp)
        for source, destination, time_ns, hops, ip_id, is_mptcp, *rest in zip(
            *(
                column[rows].tolist()
                for column in (segments.source, segments.destination, *marks, *columns)
            ),
            strict=True,
        ):
            key = (packed[source], packed[destination], *rest)
            if key not in self.times:
                self.times[key] = time_ns
                self.marks[key] = (time_ns, hops, ip_id, is_mptcp)
        for element, option in segments.options:
            if isinstance(option, MpCapable | MpJoinSyn) and (
                segments.flags[element] & (SYN | ACK) == SYN
            ):
                ends = (segments.source[element], segments.destination[element])
                source, destination = (decoder.book.packed(int(code)) for code in ends)
                self.asked.append((source, destination, isinstance(option, MpCapable)))


def _clients(looks: Sequence[_Look]) -> set[bytes]:
    """Return the addresses of the side that opens connections, as far as SYNs show them."""
    asked = [each for look in looks for each in look.asked]
    clients = {source for source, _, opens in asked if opens}
    servers = {destination for _, destination, opens in asked if opens}
    for source, destination, _ in asked:
        if destination in servers and source not in servers:
            clients.add(source)
        elif destination in clients:  # the server joins the client
            servers.add(source)
    return clients - servers


def _order(one: _Look, other: _Look, clients: set[bytes]) -> int:
    """Return 1 where ``one`` is nearer to the clients than ``other``, -1 farther, 0 unknown.

    From one to the other and back takes time, whatever their clocks say.  Where each packet has
    the same time and header in both, they are parts of one capture that overlap.
    """
    there: list[int] = []
    back: list[int] = []
    shared = one.times.keys() & other.times.keys()
    if all(one.marks[key] == other.marks[key] for key in shared):
        return 0
    for key in shared:
        source, _, ports = key[:3]
        from_client = source in clients if clients else ports >> 16 >= ports & 0xFFFF
        gap = other.times[key] - one.times[key]
        (there if from_client else back).append(gap if from_client else -gap)
    total = min(there, default=0) + min(back, default=0)
    return 1 if total >= 0 or not (there and back) else -1


def open_ends(
    one_end: Sequence[Path],
    other_end: Sequence[Path],
    progress: Progress | None = None,
    between: Sequence[Path] = (),
) -> Ends:
    """Reconstruct both captures and compare them; raises ``CaptureError`` as ``open`` does.

    ``between`` is not read: files that are told as left out.
    """
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
    twins = []
    for mine, their in pairs:
        far_flows = {_key(subflow): subflow for subflow in their.subflows}
        for subflow in mine.subflows:
            twin = far_flows.get(_key(subflow))
            if twin is None:
                continue
            twins.append((subflow, twin))
            for direction in (0, 1):
                side = direction ^ subflow.opened_by
                times = [
                    seen[k].get(2 * flow.flow + direction) for k, flow in enumerate((subflow, twin))
                ]
                when, gap = _gaps(times[0], times[1])
                (forward if side == 0 else backward).append(gap)
                raw.append((subflow, twin, direction, side, when, gap))
    # Forward, far time less near time is delay + offset; backward it is offset - delay.
    low = min((int(gap.min()) for gap in forward if gap.size), default=None)
    high = max((int(gap.max()) for gap in backward if gap.size), default=None)
    if low is None or high is None:
        offset = low if low is not None else (high or 0)
        uncertainty = 0
    else:
        offset, uncertainty = (low + high) // 2, abs(low - high) // 2
    passages = [_passage(*pair, offset, (near, far)) for pair in raw]
    removed = [text for subflow, twin in twins for text in _removed(subflow, twin, (near, far))]
    for mine, their in pairs:
        mine.judge = partial(_from_both_ends, their=their, offset_ns=offset, judge=mine.judge)
    both_ways = low is not None and high is not None
    return Ends(
        near=near,
        far=far,
        offset_ns=offset,
        uncertainty_ns=uncertainty,
        both_ways=both_ways,
        pairs=pairs,
        passages=passages,
        between=list(between),
        removed=removed,
    )


def _from_both_ends(
    mine: Connection,
    their: Connection,
    offset_ns: int,
    judge: Callable[[Connection], list[Held]],
) -> list[Held]:
    """Return what held back each direction, as seen from the capture at its sender."""
    out = [held for held in judge(mine) if held.side == 0]
    for held in their.held:
        if held.side == 1:
            spans = [
                span._replace(start_ns=span.start_ns - offset_ns, end_ns=span.end_ns - offset_ns)
                for span in held.spans
            ]
            limits = [replace(limit, connection=str(mine.number)) for limit in held.limits]
            out.append(Held(1, spans, limits))
    return out


def _removed(subflow: Subflow, twin: Subflow, traces: tuple[Trace, Trace]) -> Iterator[str]:
    """Yield which options of a subflow's SYNs were at the end that sent them, not at the other."""
    names = [" and ".join(path.name for path in trace.paths) for trace in traces]
    ends = (subflow, twin)
    for side, what in ((0, "SYN"), (1, "SYN/ACK")):
        sender, receiver = (0, 1) if side == subflow.opened_by else (1, 0)
        carried = [end.nonces[side] is not None for end in ends]
        seen = [end.halves[side].seen.syn_ns > 0 for end in ends]
        if carried[sender] and seen[receiver] and not carried[receiver]:
            yield (
                f"subflow {subflow.number}: MP_JOIN was on the {what} at {names[sender]} and is "
                f"not at {names[receiver]}: it was removed on the way between them"
            )


def _key(subflow: Subflow) -> FlowKey:
    return (
        subflow.source, subflow.destination, subflow.source_port, subflow.destination_port,
    )  # fmt: skip


def _is_near(one: Trace, other: Trace) -> bool:
    """Whether ``one`` was taken nearer to the side that opened the connections.

    There, the SYN/ACK comes a round trip after the SYN; at the other side, at once.  Where SYNs
    were not captured at both ends, ``one`` is.
    """
    theirs = {_key(subflow): subflow for subflow in other.subflows}
    score = 0
    for subflow in one.subflows:
        twin = theirs.get(_key(subflow))
        if twin is None:
            continue
        syns = [[half.seen.syn_ns for half in flow.halves] for flow in (subflow, twin)]
        if all(map(all, syns)):
            gaps = [answer - syn for syn, answer in syns]
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
        for half in distinct(halves).tolist():
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


def _gaps(near: tuple[Ints, Ints] | None, far: tuple[Ints, Ints] | None) -> tuple[Ints, Ints]:
    """Return when the near end saw the packets that both did, and how much later the far one."""
    if near is None or far is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    seq, first = np.unique(far[0], return_index=True)
    place = np.minimum(np.searchsorted(seq, near[0]), max(seq.size - 1, 0))
    both = seq[place] == near[0] if seq.size else np.zeros(near[0].size, dtype=bool)
    return near[1][both], np.asarray(far[1][first[place[both]]] - near[1][both])


def _passage(
    subflow: Subflow,
    twin: Subflow,
    direction: int,
    side: int,
    when: Ints,
    gap: Ints,
    offset: int,
    traces: tuple[Trace, Trace],
) -> Passage:
    ends = (subflow, twin) if side == 0 else (twin, subflow)
    sent, got = (end.halves[direction] for end in ends)
    delay = gap - offset if side == 0 else offset - gap
    times = (when, when + gap) if side == 0 else (when + gap, when)
    if _covers(traces[1 - side], sent, times) and _covers(traces[side], got, times[::-1]):
        packets = sent.packets
        lost = packets - got.packets, sent.payload_bytes - got.payload_bytes
    else:
        packets, lost = _between_common_packets(sent, got, times)
    return Passage(
        subflow=ends[0],
        side=side,
        delay_ns=delay,
        sent_packets=packets,
        lost_packets=max(0, lost[0]),
        lost_bytes=max(0, lost[1]),
    )


def _covers(trace: Trace, other: Half, times: tuple[Ints, Ints]) -> bool:
    """Whether a capture lasted for all that the other end saw of a half.

    ``times`` are those of the same packets at the other end and in the capture.
    """
    if times[0].size == 0 or other.samples.size == 0:
        return False
    shifts = times[1] - times[0]
    slack = int(np.ptp(shifts)) + _EDGE_NS
    shift = int(median(shifts))
    first, last = int(other.samples["first_ns"][0]), int(other.samples["time_ns"][-1])
    return first + shift + slack >= trace.first_ns and last + shift - slack <= trace.last_ns


def _between_common_packets(
    sent: Half, got: Half, times: tuple[Ints, Ints]
) -> tuple[int, tuple[int, int]]:
    """Count from the first to the last packet that both ends saw: packets sent; (packets, bytes)
    lost.  None where no more is missing than a slot of the samples may hold."""
    if times[0].size == 0:
        return 0, (0, 0)
    counts = []
    unsure = 0
    for half, when in zip((sent, got), times, strict=True):
        first, last = int(when.min()), int(when.max())
        counts.append([half.total(name, first, last) for name in ("packets", "payload_bytes")])
        for bound in (first, last):
            slot = half.samples[np.searchsorted(half.samples["time_ns"], bound) :][:1]
            unsure += int(slot["packets"][slot["first_ns"] < bound].sum())
    packets, size = (a - b for a, b in zip(*counts, strict=True))
    return counts[0][0], (packets, size) if packets > unsure else (0, 0)
