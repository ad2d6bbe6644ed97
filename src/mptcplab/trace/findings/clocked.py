"""What bounds a sender that sends whenever acknowledgements arrive, over bins of time.

A *link* is full where round trips have risen above the least by the time that packets wait in its
queue, at the rate that the link lets through.  Where they have not, more flight would give more
rate: it is bounded by the *congestion window*, which grows every round trip, or, where it stays the
same over many without a loss, by the *send buffer*.  Data that does not leave right after
acknowledgements is written by the *application* little by little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.limits.causes import Cause
from mptcplab.limits.partition import Claim
from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.columns.sorting import median, quantile
from mptcplab.trace.findings.sender_view import Carrier, SenderView, within
from mptcplab.trace.follow.tcp import PROMPT_NS

SLOW_START: Final = "before the first loss"
RECOVERING: Final = "repairing losses"
AFTER_LOSSES: Final = "after losses"
FAR: Final = "far from the sender, without timestamps"
FLAT: Final = "the flight stays the same"

_BIN_NS: Final = 50_000_000
_ROUND_TRIPS: Final = 4
_MOST_BINS: Final = 4000
_LONGEST_NS: Final = 1 << 61
"""Bins that are longer than any capture; twice of it fits in 64 bits."""
_RISEN: Final = 0.25
"""A round trip this much above the least has a queue in it."""
_RISEN_NS: Final = 500_000
"""What hosts add to a round trip; and what a tick of a timestamp may."""
_STAMPED_NS: Final = 2_000_000
_LINK_SHARE: Final = 0.7
"""A full link lets at least this share of its usual rate through."""
_FLAT_ROUND_TRIPS: Final = 20
_GROWTH_MSS: Final = 0.1
"""Segments a round trip by which a congestion window grows at least (RFC 5681: 1; with delayed
acknowledgements and coupled, less)."""
_USUAL_GROWTH_MSS: Final = 0.5
_EVEN: Final = 0.25
"""Large segments leave and arrive at once: flight varies by them."""
_PLATEAU_NS: Final = 10_000_000_000
"""After a loss, CUBIC stays near its last window for less (RFC 9438 section 4.1)."""
_ANSWERING: Final = 0.65
_NOT_ANSWERING: Final = 0.5
_PARTIAL: Final = 0.7
_SMALL: Final = 0.5
"""Of the announced MSS: what waits for a congestion window leaves in larger segments."""
_BY_CHANCE: Final = 0.2
"""More than this above what chance gives are answers."""


@dataclass(slots=True, eq=False, repr=False)
class Bins:
    """One direction of a connection over bins of time; one element of each column a bin."""

    start_ns: int
    width_ns: int
    count: int
    loaded_ns: int
    """A usual round trip, queues included."""
    risen: list[Mask]
    """Of each carrier, whether its packets waited in a queue."""
    rate_bps: list[NDArray[np.float64]]
    """Of each carrier, what was acknowledged."""
    queue_ns: list[NDArray[np.float64]]
    """Of each carrier, the mean by which round trips had risen."""
    carried: list[NDArray[np.int64]]
    """Of each carrier, bytes sent."""
    flight: Ints
    """The most in flight on all."""
    segment_bytes: NDArray[np.float64]
    """The mean payload of a data packet; without end where there was none."""
    repairing: Mask
    lost_before: Mask
    """Whether anything had been lost by the bin's end."""

    def at(self, time_ns: Ints) -> Ints:
        """Return the bin of each time."""
        return np.clip((time_ns - self.start_ns) // self.width_ns, 0, self.count - 1)

    def edges(self, chosen: Ints) -> tuple[Ints, Ints]:
        """Return start and end of bins."""
        start = self.start_ns + chosen * self.width_ns
        return start, start + self.width_ns


def bins_of(view: SenderView) -> Bins:
    """Return a direction over bins of a few round trips."""
    loaded = view.loaded_ns
    width = max(_BIN_NS, _ROUND_TRIPS * loaded, 8 * view.resolution_ns)
    span = max(view.end_ns - view.start_ns, 1)
    width = min(max(width, span // _MOST_BINS), _LONGEST_NS)
    count = int(span // width) + 1
    starts = view.start_ns + np.arange(count) * width

    def place(time_ns: Ints) -> Ints:
        return np.clip((time_ns - view.start_ns) // width, 0, count - 1)

    risen, rates, queues, carried = [], [], [], []
    packets = np.zeros(count)
    for carrier in view.carriers:
        queue = _queue_ns(carrier, place, count)
        threshold = max(_RISEN * carrier.round_trip_ns, _RISEN_NS)
        passed = carrier.acked.at(starts + width) - carrier.acked.at(starts)
        rate = passed * 8e9 / width
        queues.append(queue)
        high = queue > threshold
        usual = quantile(rate[high], 0.9) if high.any() else 0.0
        risen.append(high & (rate >= _LINK_SHARE * usual))
        rates.append(rate)
        amount = np.bincount(
            place(carrier.sent_ns), weights=carrier.rows["payload_bytes"], minlength=count
        )
        carried.append(amount.astype(np.int64))
        number = np.bincount(
            place(carrier.sent_ns), weights=carrier.rows["packets"], minlength=count
        )
        packets += number
    flight = np.zeros(count, dtype=np.int64)
    np.maximum.at(flight, place(view.sends_ns), view.flight_bytes)
    first_loss = view.recoveries[0][0] if view.recoveries else view.end_ns + width
    middle = starts + width // 2
    return Bins(
        start_ns=view.start_ns,
        width_ns=width,
        count=count,
        loaded_ns=loaded,
        risen=risen,
        rate_bps=rates,
        queue_ns=queues,
        carried=carried,
        flight=flight,
        segment_bytes=np.divide(
            np.sum(carried, axis=0), packets, out=np.full(count, np.inf), where=packets > 0
        ),
        repairing=within(view.recoveries, middle),
        lost_before=starts + width > first_loss,
    )


def _queue_ns(carrier: Carrier, place, count: int) -> NDArray[np.float64]:  # type: ignore[no-untyped-def]
    """Return by how much a carrier's round trips had risen in each bin; of bins without a sample,
    as before them."""
    rows = carrier.rtts
    queue = np.full(count, np.nan)
    if rows.size:
        index = place(rows["time_ns"] + carrier.shift_ns)
        number = np.bincount(index, weights=rows["rtts"], minlength=count)
        total = np.bincount(index, weights=rows["rtt_ns"], minlength=count)
        seen = number > 0
        queue[seen] = total[seen] / number[seen] - carrier.half.least_rtt_ns
    if carrier.waited_ns is not None and carrier.waited_ns.size:
        index = place(carrier.sent_ns)
        number = np.bincount(index, minlength=count)
        total = np.bincount(index, weights=carrier.waited_ns, minlength=count)
        seen = number > 0
        waited = np.where(seen, total / np.maximum(number, 1), np.nan)
        waited = np.where(waited > _STAMPED_NS, waited, 0.0)
        queue[seen] = np.where(np.isnan(queue[seen]), waited[seen], queue[seen] + waited[seen])
    known = np.maximum.accumulate(np.where(np.isnan(queue), -1, np.arange(count)))
    return np.where(known >= 0, queue[np.maximum(known, 0)], 0.0)


def claims_of_bins(view: SenderView, bins: Bins) -> list[Claim]:
    """Return what bounds each bin; they count where nothing surer is known."""
    cause = np.full(bins.count, Cause.CONGESTION_WINDOW.value, dtype=object)
    kind = np.full(bins.count, SLOW_START, dtype=object)
    kind[bins.lost_before] = AFTER_LOSSES
    little = bins.flight < view.mss
    cause[little], kind[little] = Cause.APPLICATION.value, ""
    small = (bins.segment_bytes < _SMALL * view.mss) & ~bins.repairing
    cause[small], kind[small] = Cause.APPLICATION.value, ""
    little |= small
    near = view.near
    if not near and not view.stamped:
        cause[~small], kind[~small] = Cause.UNKNOWN.value, FAR
        return _claims(bins, cause, kind)
    full = _full(bins)
    for first, last in _flat(view, bins, ~full & ~little):
        start, end = (
            int(bins.edges(np.array([first]))[0][0]),
            int(bins.edges(np.array([last]))[1][0]),
        )
        what = _answers(view, start, end) if near else None
        cause[first : last + 1] = (what or Cause.UNKNOWN).value
        kind[first : last + 1] = "" if what else FLAT
    cause[full] = Cause.LINK.value
    for chosen in np.flatnonzero(full).tolist():
        names = [
            str(carrier.subflow.number)
            for carrier, risen, carried in zip(view.carriers, bins.risen, bins.carried, strict=True)
            if risen[chosen] and carried[chosen]
        ]
        kind[chosen] = f"subflow {' and '.join(names)}"
    idle = _left_idle(view, bins)
    for chosen, number in idle.items():
        cause[chosen], kind[chosen] = Cause.SCHEDULER.value, f"subflow {number}"
    repairs = [
        Claim(
            Cause.CONGESTION_WINDOW,
            np.array([span[0] for span in view.recoveries], dtype=np.int64),
            np.array([span[1] for span in view.recoveries], dtype=np.int64),
            RECOVERING,
        )
    ]
    claims = _claims(bins, cause, kind)
    links = [claim for claim in claims if claim.cause is Cause.LINK]
    return [*links, *repairs, *(claim for claim in claims if claim.cause is not Cause.LINK)]


def _claims(bins: Bins, cause: NDArray[np.object_], kind: NDArray[np.object_]) -> list[Claim]:
    out = []
    for pair in dict.fromkeys(zip(cause.tolist(), kind.tolist(), strict=True)):
        chosen = np.flatnonzero((cause == pair[0]) & (kind == pair[1]))
        out.append(Claim(Cause(pair[0]), *bins.edges(chosen), pair[1]))
    return out


def _full(bins: Bins) -> Mask:
    """Return the bins in which most data went over links with a queue."""
    total = np.sum(bins.carried, axis=0)
    queued = np.sum(
        [
            np.where(risen, carried, 0)
            for risen, carried in zip(bins.risen, bins.carried, strict=True)
        ],
        axis=0,
    )
    return np.asarray((2 * queued > total) & (total > 0))


def _flat(view: SenderView, bins: Bins, usable: Mask) -> list[tuple[int, int]]:
    """Return runs of bins over which the flight has not grown as a congestion window would."""
    usable = usable & ~bins.repairing & (bins.flight > 0)
    per_bin = bins.width_ns / max(bins.loaded_ns, bins.width_ns / 1000)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], usable.astype(np.int8), [0]))))
    out: list[tuple[int, int]] = []
    for first, past in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        out += _flat_parts(view, bins, first, past, per_bin)
    return out


def _flat_parts(
    view: SenderView, bins: Bins, first: int, past: int, per_bin: float
) -> list[tuple[int, int]]:
    """Divide a run of bins into parts with about the same flight; return those that are flat."""
    flight = bins.flight.tolist()
    out = []
    while first < past:
        low = high = flight[first]
        last = first
        while last + 1 < past:
            low, high = min(low, flight[last + 1]), max(high, flight[last + 1])
            if high - low > max(2 * view.mss, _EVEN * high):
                break
            last += 1
        values = bins.flight[first : last + 1]
        third = max(1, values.size // 3)
        grown = float(median(values[-third:]) - median(values[:third]))
        trips = per_bin * values.size
        expected = _GROWTH_MSS * view.mss * trips * 2 / 3
        lasting = values.size * bins.width_ns >= _PLATEAU_NS or not bins.lost_before[last]
        if (
            trips >= _FLAT_ROUND_TRIPS
            and grown <= expected
            and lasting
            and (_USUAL_GROWTH_MSS * view.mss * trips >= np.ptp(values))
        ):
            out.append((first, last))
        first = last + 1
    return out


def _answers(view: SenderView, start: int, end: int) -> Cause | None:
    """Return whether data leaves right after acknowledgements, as where the send buffer is full, or
    when the application writes; None where chance could give either."""
    prompt = sum(carrier.half.total("prompt_bytes", start, end) for carrier in view.carriers)
    new = sum(carrier.half.total("new_bytes", start, end) for carrier in view.carriers)
    arrived = sum(carrier.answer.total("packets", start, end) for carrier in view.carriers)
    sizes = [_segment_bytes(carrier, start, end) for carrier in view.carriers]
    share = prompt / max(new, 1)
    chance = min(1.0, arrived * PROMPT_NS / (end - start))
    if share > max(_ANSWERING, chance + _BY_CHANCE):
        return Cause.SEND_BUFFER
    if share < min(_NOT_ANSWERING, chance + _BY_CHANCE) and max(sizes) < _PARTIAL * view.mss:
        return Cause.APPLICATION  # full segments may be paced
    return None


def _segment_bytes(carrier: Carrier, start: int, end: int) -> float:
    """Return the mean payload of a carrier's data packets."""
    low, high = np.searchsorted(carrier.rows["time_ns"], (start, end))
    rows = carrier.rows[low:high]
    return float(rows["payload_bytes"].sum() / max(int(rows["packets"].sum()), 1))


def _left_idle(view: SenderView, bins: Bins) -> dict[int, int]:
    """Return bins in which a subflow that works carried nothing while others were full."""
    out: dict[int, int] = {}
    if len(view.carriers) < 2:
        return out
    starts, ends = bins.edges(np.arange(bins.count))
    total = np.sum(bins.carried, axis=0)
    for carrier, carried in zip(view.carriers, bins.carried, strict=True):
        used = np.flatnonzero(carried > 0)
        if any(carrier.subflow.backup) or used.size == 0:
            continue
        empty = carrier.sent.at(starts) <= carrier.acked.at(starts)
        between = (starts > bins.start_ns + used[0] * bins.width_ns) & (
            ends <= bins.start_ns + used[-1] * bins.width_ns
        )
        for chosen in np.flatnonzero(empty & between & (carried == 0) & (total > 0)).tolist():
            out.setdefault(chosen, carrier.subflow.number)
    return out
