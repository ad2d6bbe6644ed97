"""What one side of a connection knew while it sent: flight, acknowledgements and window over time.

All times are those of the capture point, corrected so that their order is that at the sender:
acknowledgements count from when they had reached it, data from when it was sent.  Numbers are at
the data level where data is mapped, and those of the subflow where a connection fell back to TCP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.columns.sorting import median
from mptcplab.trace.connections.model import Connection, Half, Subflow
from mptcplab.trace.findings.series import data_acks
from mptcplab.trace.findings.throughput import MOST_SUBFLOWS, busiest
from mptcplab.trace.findings.vantage import loops_ns, waited_ns

_WAITED_NS: Final = 3_000_000
"""Shorter waits are the ticks of the timestamps and the hosts' own times."""
TICK_NS: Final = 1_000_000
"""How well timestamps tell when data was sent."""
_REPAIR_NS: Final = 2_000_000
_NEAR_NS: Final = 300_000
"""Closer to a host, it is the host that takes the time to answer."""
_USUAL_MSS: Final = 1460


@dataclass(slots=True, eq=False, repr=False)
class Steps:
    """A number that only grows, by its changes."""

    time_ns: Ints
    value: Ints
    start: int

    def at(self, time_ns: Ints, side: str = "right") -> Ints:
        """Return the value at each time: with what happens then, or (``left``) before it."""
        if self.value.size == 0:
            return np.full(time_ns.shape, self.start, dtype=np.int64)
        place = np.searchsorted(self.time_ns, time_ns, side=side) - 1  # type: ignore[call-overload]
        return np.asarray(np.where(place >= 0, self.value[np.maximum(place, 0)], self.start))

    def reached(self, value: Ints, never_ns: int) -> Ints:
        """Return when it first was at least each value; ``never_ns`` where it never was."""
        place = np.searchsorted(self.value, value, side="left")
        when = np.append(self.time_ns, never_ns)[place]
        return np.asarray(np.where(value <= self.start, np.minimum(when, 0), when))


@dataclass(slots=True, eq=False, repr=False)
class Offers:
    """The windows that the receiver offered; of those that cross, the ones that are behind are not
    used."""

    time_ns: Ints
    edge: Ints
    """The number that may not be sent yet."""
    bytes: Ints
    largest: Ints
    """So far."""

    def place(self, time_ns: Ints) -> Ints:
        """Return which offer is the last at each time; before any, the first."""
        return np.asarray(np.maximum(np.searchsorted(self.time_ns, time_ns, side="right") - 1, 0))


@dataclass(slots=True, eq=False, repr=False)
class Carrier:
    """One subflow, as the sender saw it."""

    subflow: Subflow
    half: Half
    answer: Half
    loop_ns: int | None
    """From the capture point to the sender and back."""
    rows: NDArray[Any]
    """Of the half, those with data."""
    first_ns: Ints
    sent_ns: Ints
    """When the first and the last data of each of the rows was sent."""
    waited_ns: Ints | None
    """How long it had waited before the capture point; None where timestamps do not say."""
    sent: Steps
    acked: Steps
    arrived: Steps
    """One past the highest data sequence number that arrived on it."""
    rtts: NDArray[Any]
    """Of the answer's samples, those with round trips."""

    @property
    def shift_ns(self) -> int:
        """How much later than the capture point the sender had an acknowledgement."""
        return _shift_ns(self.loop_ns)

    @property
    def round_trip_ns(self) -> int:
        """The least round trip between both ends, as far as it is known."""
        return (self.loop_ns or 0) + self.half.least_rtt_ns or self.subflow.handshake_ns


@dataclass(slots=True, eq=False, repr=False)
class SenderView:
    """One direction of a connection as its sender saw it."""

    side: int
    carriers: list[Carrier]
    start_ns: int
    end_ns: int
    sends_ns: Ints
    """When data left, on any subflow, retransmissions included."""
    sent: Steps
    """One past the highest number sent."""
    acked: Steps
    """The highest acknowledged."""
    offers: Offers
    passed: Steps
    """Bytes acknowledged on all subflows."""
    flight_bytes: Ints
    """In flight on all subflows after each send."""
    firsts_ns: Ints
    """When data left again after a pause."""
    mss: int
    resolution_ns: int
    scale_known: bool
    answers_ns: Ints
    """When anything of the other side arrived."""
    recoveries: list[tuple[int, int, int]] = field(default_factory=list)
    """(start, end, subflow): from a retransmission until all that was sent by then had arrived."""

    @property
    def round_trip_ns(self) -> int:
        """The least round trip of any subflow with data."""
        return min((carrier.round_trip_ns for carrier in self.carriers), default=0)

    @property
    def loaded_ns(self) -> int:
        """What a round trip usually takes, queues included, of the slowest subflow."""
        usual = []
        for carrier in self.carriers:
            taken = carrier.acked.reached(carrier.sent.at(carrier.sent_ns), -1) - carrier.sent_ns
            taken = taken[taken > 0]
            usual.append(int(median(taken)) if taken.size else 0)
        return max(self.round_trip_ns, *usual)

    @property
    def near(self) -> bool:
        """Whether data passed the capture point right after it was sent."""
        waits = [
            int(median(carrier.waited_ns))
            for carrier in self.carriers
            if carrier.waited_ns is not None
        ]
        close = (self.loop_ns or 0) <= _NEAR_NS and (
            self.stamped or (self.loop_ns or 0) <= self.loaded_ns // 20
        )
        return close and max(waits, default=0) <= _WAITED_NS

    @property
    def loop_ns(self) -> int | None:
        """The longest part of a round trip on the sender's side; None where it is not known."""
        loops = [carrier.loop_ns for carrier in self.carriers]
        return None if None in loops else max((loop for loop in loops if loop), default=0)

    @property
    def stamped(self) -> bool:
        """Whether timestamps tell when data was sent, on all subflows."""
        return all(carrier.waited_ns is not None for carrier in self.carriers)

    @property
    def window_seen(self) -> bool:
        """Whether the receiver's window is known at all."""
        return self.offers.bytes.size > 0


def sender_view(connection: Connection, side: int, resolution_ns: int) -> SenderView | None:
    """Return what ``side`` knew while it sent; None where it sent no data."""
    chosen = busiest(connection, side)
    if not chosen:
        return None
    carriers = [_carrier(subflow, side) for subflow in chosen]
    carriers = [carrier for carrier in carriers if carrier.rows.size]
    if not carriers:
        return None
    sends = _sorted([carrier.sent_ns for carrier in carriers])
    mapped = connection.data_bases[side] is not None and any(
        carrier.half.extents.size for carrier in carriers
    )
    if mapped and not connection.fallback:
        sent, acked, offers = _data_level(connection, side, carriers)
    else:
        sent, acked, offers = _subflow_level(carriers[0])
    passed = _sum([carrier.acked for carrier in carriers])
    gone = _sum([carrier.sent for carrier in carriers])
    announced = [carrier.answer.mss_bytes for carrier in carriers]
    view = SenderView(
        side=side,
        carriers=carriers,
        start_ns=connection.start_ns,
        end_ns=max(connection.end_ns, int(sends[-1]) if sends.size else 0),
        sends_ns=sends,
        sent=sent,
        acked=acked,
        offers=offers,
        passed=passed,
        flight_bytes=np.maximum(gone.at(sends) - passed.at(sends), 0),
        firsts_ns=_sorted([carrier.first_ns for carrier in carriers]),
        mss=max([size for size in announced if size] or [_USUAL_MSS]),
        resolution_ns=resolution_ns,
        scale_known=all(_scale_known(carrier.subflow) for carrier in carriers),
        answers_ns=_sorted([
            carrier.answer.samples["time_ns"] + carrier.shift_ns for carrier in carriers
        ]),
    )  # fmt: skip
    for carrier in carriers:
        view.recoveries += _recoveries(carrier, view.end_ns)
    view.recoveries.sort()
    return view


def _shift_ns(loop_ns: int | None) -> int:
    """Return a loop; 0 where it is what the host takes to answer."""
    return 0 if loop_ns is None or loop_ns <= _NEAR_NS else loop_ns


def _scale_known(subflow: Subflow) -> bool:
    """Whether both SYNs, which state the window scale, were captured (RFC 7323 section 2.2)."""
    return all(half.seen.syn_ns for half in subflow.halves)


def _sorted(pieces: list[Ints]) -> Ints:
    whole = np.concatenate(pieces)
    whole.sort()
    return whole


def _carrier(subflow: Subflow, side: int) -> Carrier:
    half, answer = subflow.half(side), subflow.half(side ^ 1)
    loop = loops_ns(subflow)[side]
    rows = half.samples[half.samples["payload_bytes"] > 0]
    waited = waited_ns(rows)
    first_ns, sent_ns = rows["first_ns"], rows["time_ns"]
    if waited is not None and int(waited[1].max()) > _WAITED_NS:
        # A stamp says that its tick had begun: data left up to a tick later.
        late, first_late = (np.maximum(part - TICK_NS, 0) for part in (waited[1], waited[0]))
        sent_ns = np.asarray(np.maximum.accumulate(sent_ns - late))
        first_ns = np.asarray(np.maximum(first_ns - first_late, np.append(0, sent_ns[:-1])))
    ack = answer.samples
    acked = np.maximum.accumulate(np.maximum(ack["ack"], 1)) if ack.size else ack["ack"]
    return Carrier(
        subflow=subflow,
        half=half,
        answer=answer,
        loop_ns=loop,
        rows=rows,
        first_ns=first_ns,
        sent_ns=sent_ns,
        waited_ns=None if waited is None else waited[1],
        sent=Steps(sent_ns, np.maximum.accumulate(np.maximum(rows["next"], 1)), 1),
        # Of a slot's acknowledgements, the first may have been answered at once.
        acked=Steps(ack["first_ns"] + _shift_ns(loop), acked, 1),
        arrived=_arrived(half, ack["time_ns"] + _shift_ns(loop), acked),
        rtts=ack[ack["rtts"] > 0],
    )


def _arrived(half: Half, when: Ints, acked: Ints) -> Steps:
    if half.extents.size == 0 or acked.size == 0:
        return Steps(when[:0], acked[:0], 1)
    order = np.argsort(half.extents["seq"], kind="stable")
    seq, size = half.extents["seq"][order], half.extents["bytes"][order]
    data = half.data_rel[order]
    place = np.searchsorted(seq, acked, side="left") - 1
    highest = np.append(1, np.maximum.accumulate(data + size))
    part = data[np.maximum(place, 0)] + np.minimum(acked - seq[np.maximum(place, 0)], size[place])
    value = np.where(place >= 0, np.maximum(highest[np.maximum(place, 0)], part), 1)
    return _growing(when, value, 1)


def _sum(parts: list[Steps]) -> Steps:
    """Add numbers that only grow."""
    time = np.concatenate([part.time_ns for part in parts])
    growth = np.concatenate([np.diff(part.value, prepend=part.start) for part in parts])
    order = np.argsort(time, kind="stable")
    order = order[growth[order] > 0]
    start = sum(part.start for part in parts)
    return Steps(time[order], start + np.cumsum(growth[order]), start)


def _data_level(
    connection: Connection, side: int, carriers: list[Carrier]
) -> tuple[Steps, Steps, Offers]:
    times, stops = [], []
    for carrier in carriers:
        extents = carrier.half.extents
        when = extents["last_ns"]
        if carrier.rows.size and not np.array_equal(carrier.sent_ns, carrier.rows["time_ns"]):
            place = np.searchsorted(carrier.rows["time_ns"], when)
            place = np.minimum(place, carrier.rows.size - 1)
            when = np.minimum(when, carrier.sent_ns[place])
        times.append(when)
        stops.append(carrier.half.data_rel + extents["bytes"])
    sent = _growing(np.concatenate(times), np.concatenate(stops), 1)
    base = connection.data_bases[side] or 0
    answers = [(carrier.answer, carrier.shift_ns) for carrier in carriers]
    carrying = {carrier.subflow.number for carrier in carriers}
    answers += [
        (subflow.half(side ^ 1), _shift_ns(loops_ns(subflow)[side]))
        for subflow in connection.subflows[:MOST_SUBFLOWS]
        if subflow.number not in carrying
    ]
    halves, shifts = [answer for answer, _ in answers], [shift for _, shift in answers]
    return sent, *_offers(*data_acks(halves, shifts, base))


def _subflow_level(carrier: Carrier) -> tuple[Steps, Steps, Offers]:
    rows = carrier.answer.samples
    rows = rows[rows["ack"] >= 0]
    when = rows["time_ns"] + carrier.shift_ns
    return carrier.sent, *_offers(when, rows["ack"], rows["window_bytes"])


def _offers(when: Ints, number: Ints, window: Ints) -> tuple[Steps, Offers]:
    order = np.argsort(when, kind="stable")
    when, number, window = when[order], number[order], np.asarray(window[order])
    reach = np.maximum.accumulate(np.maximum(number, 1)) if number.size else number
    latest = number >= reach
    edge, offered = (number + window)[latest], window[latest]
    largest = np.maximum.accumulate(offered) if offered.size else offered
    return Steps(when, reach, 1), Offers(when[latest], edge, offered, largest)


def _growing(time: Ints, value: Ints, start: int) -> Steps:
    order = np.argsort(time, kind="stable")
    return Steps(time[order], np.maximum.accumulate(np.maximum(value[order], start)), start)


def _recoveries(carrier: Carrier, end_ns: int) -> list[tuple[int, int, int]]:
    """Return when losses of a subflow were being repaired."""
    again = np.flatnonzero(carrier.rows["retransmissions"] > 0)
    if again.size == 0:
        return []
    start = carrier.sent_ns[again]
    end = carrier.acked.reached(carrier.sent.at(start), end_ns)
    end = np.maximum(end, start + carrier.round_trip_ns + _REPAIR_NS)
    reach = np.maximum.accumulate(end)
    apart = np.append(True, start[1:] > reach[:-1])
    firsts = np.flatnonzero(apart)
    lasts = np.append(firsts[1:], start.size) - 1
    return [
        (int(start[first]), int(reach[last]), carrier.subflow.number)
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
    ]


def within(spans: list[tuple[int, int, int]], time_ns: Ints) -> Mask:
    """Return which times lie in a span; spans are in order of their starts."""
    if not spans:
        return np.zeros(time_ns.shape, dtype=bool)
    starts = np.array([span[0] for span in spans], dtype=np.int64)
    reach = np.maximum.accumulate(np.array([span[1] for span in spans], dtype=np.int64))
    place = np.searchsorted(starts, time_ns, side="right") - 1
    return np.asarray((place >= 0) & (time_ns < reach[np.maximum(place, 0)]))
