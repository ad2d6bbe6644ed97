"""What held back each direction of a connection, as its capture shows: causes, shares, what would
change them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from mptcplab.limits.causes import CLIENT_TO_SERVER, SERVER_TO_CLIENT, Cause, Limit
from mptcplab.limits.partition import Claim, Span, durations_ns, partition
from mptcplab.trace.columns.sorting import distinct, median, quantile
from mptcplab.trace.connections.model import Connection, Held
from mptcplab.trace.findings.clocked import Bins, bins_of, claims_of_bins
from mptcplab.trace.findings.completeness import Completeness, completeness
from mptcplab.trace.findings.sender_view import SenderView, sender_view
from mptcplab.trace.findings.waits import (
    CLOSED,
    DATA_ACKS,
    ENDED,
    GROWING,
    SLOW_READER,
    SMALL,
    Sends,
    claims_of_waits,
    examine,
)
from mptcplab.units import format_duration, format_rate, format_size

DIRECTIONS: Final = (CLIENT_TO_SERVER, SERVER_TO_CLIENT)
"""By the side that sends."""
NO_SCALE: Final = "the window scale is not known: no SYN was captured"
NO_PLACE: Final = "where the capture was taken is not known"
NOT_CAPTURED: Final = "data went over subflows that were not captured"

_RATE_SPAN_NS: Final = 4_000_000
_MISSING_SHARE: Final = 0.01
"""Of the data: with more of it elsewhere, what is captured does not show what was waited for."""
_WORTH: Final = 1.2
"""A value is proposed where it is this much above the present one."""


def held_back(connection: Connection, resolution_ns: int) -> list[Held]:
    """Return what held back each direction that carried data."""
    out: list[Held] = []
    if not connection.bytes:
        return out
    state = completeness(connection)
    for side in (0, 1):
        view = sender_view(connection, side, resolution_ns)
        if view is None or view.sends_ns.size == 0:
            continue
        out.append(_Judge(connection, view, state).held())
    return out


class _Judge:
    def __init__(self, connection: Connection, view: SenderView, state: Completeness) -> None:
        self.connection = connection
        self.view = view
        self.state = state
        self.sends: Sends = examine(connection, view)
        self.bins: Bins = bins_of(view)

    def held(self) -> Held:
        view = self.view
        waits = claims_of_waits(self.connection, view, self.sends)
        claims = self._doubts(waits)
        claims += claims_of_bins(view, self.bins)
        spans = partition(self.connection.start_ns, self.connection.end_ns, claims)
        return Held(view.side, spans, list(self._limits(spans)))

    def _doubts(self, waits: list[Claim]) -> list[Claim]:
        """Put what is not known before what would be claimed without knowing it."""
        view = self.view
        whole = (np.array([view.start_ns]), np.array([view.end_ns]))
        reason = None
        missing = self.state.uncaptured_bytes[view.side]
        if missing > _MISSING_SHARE * (self.connection.side_bytes(view.side) + missing):
            reason = NOT_CAPTURED
        elif view.loop_ns is None:
            reason = NO_PLACE
        if reason is not None:
            sure = [
                claim for claim in waits if claim.cause is Cause.HANDSHAKE or (claim.kind == CLOSED)
            ]
            return [*sure, Claim(Cause.UNKNOWN, *whole, reason)]
        if not view.scale_known:
            return [
                Claim(Cause.UNKNOWN, claim.starts_ns, claim.ends_ns, NO_SCALE)
                if claim.cause in (Cause.RECEIVE_WINDOW, Cause.HEAD_OF_LINE)
                and claim.kind != CLOSED
                else claim
                for claim in waits
            ]
        return waits

    def _limits(self, spans: list[Span]) -> Iterator[Limit]:
        span_ns = max(self.connection.end_ns - self.connection.start_ns, 1)
        for (cause, kind), duration in durations_ns(spans).items():
            those = [span for span in spans if span.cause is cause and span.kind == kind]
            detail, advice = self._words(cause, kind, those, duration)
            yield Limit(
                connection=str(self.connection.number),
                direction=DIRECTIONS[self.view.side],
                cause=cause,
                seconds=duration / 1e9,
                share=duration / span_ns,
                detail=detail,
                advice=advice,
            )

    def _words(
        self, cause: Cause, kind: str, spans: list[Span], duration_ns: int
    ) -> tuple[str, str]:
        """Return detail and advice."""
        match cause:
            case Cause.RECEIVE_WINDOW:
                return self._window(kind, spans, duration_ns)
            case Cause.HEAD_OF_LINE:
                return self._head_of_line(kind, spans), ""
            case Cause.LINK:
                return self._link(kind, spans), ""
            case Cause.CONGESTION_WINDOW:
                return self._congestion(kind, spans), ""
            case Cause.SEND_BUFFER:
                return (
                    self._missing_data_acks(spans)
                    if kind == DATA_ACKS
                    else (self._send_buffer(spans))
                )
            case Cause.APPLICATION:
                return self._application(kind, spans), ""
            case Cause.SCHEDULER:
                return f"{kind} had room and was not used", ""
            case Cause.STALLED:
                size = self._outstanding(spans[0].start_ns)
                return f"{format_size(size, 3)} wait and nothing moves any more", ""
        return kind, ""

    def _window(self, kind: str, spans: list[Span], duration_ns: int) -> tuple[str, str]:
        offers = self.view.offers
        starts = np.array([span.start_ns for span in spans], dtype=np.int64)
        ends = np.array([span.end_ns for span in spans], dtype=np.int64)
        window = offers.bytes[offers.place(starts)]
        size = format_size(float(median(window)), 3)
        if kind in (CLOSED, SLOW_READER):
            taken = self.view.acked.at(ends) - self.view.acked.at(starts)
            rate = float(taken.sum()) * 8e9 / max(duration_ns, 1)
            what = "the window is closed" if kind == CLOSED else "the window shrinks"
            largest = format_size(int(offers.largest[offers.place(ends[-1:])][0]), 3)
            pace = f", and takes {format_rate(rate, 3)}" if rate > 0 else ""
            detail = (
                f"{what} (at most {largest}): the receiving application does not read fast enough"
            )
            return detail + pace, "read faster at the receiver"
        detail = f"the window of {size} is all in flight"
        if kind == GROWING:
            return f"{detail}, and still grows", self._larger(window)
        return detail, self._larger(window)

    def _larger(self, window: np.ndarray) -> str:
        """Return the window that the fastest rate seen would fill: rate times round trip."""
        view = self.view
        now = float(median(window))
        wanted = self._peak_bps() / 8e9 * view.round_trip_ns
        if wanted < _WORTH * now:
            return ""
        return f"a window of {format_size(wanted, 3)} would do"

    def _peak_bps(self) -> float:
        """Return the rate at which acknowledgements came in the fastest stretches."""
        view = self.view
        passed = view.passed
        if passed.time_ns.size < 2:
            return 0.0
        width = max(_RATE_SPAN_NS, 4 * view.resolution_ns, view.round_trip_ns // 8)
        first, last = int(passed.time_ns[0]), int(passed.time_ns[-1])
        count = max(1, min((last - first) // width, 100_000))
        edges = first + np.arange(count + 1) * width
        amount = np.diff(passed.at(edges))
        amount = amount[amount > 0]
        return quantile(amount, 0.95) * 8e9 / width if amount.size else 0.0

    def _head_of_line(self, kind: str, spans: list[Span]) -> str:
        name, _, fate = kind.partition(": ")
        longest = format_duration(max(span.end_ns - span.start_ns for span in spans), 3)
        what = {
            "lost": f"bytes that were lost on {name}",
            "dead": f"bytes on {name}, on which nothing arrives any more",
            "slow": f"bytes on {name}, whose round trip is longer",
        }.get(fate, f"bytes on {name}")
        return f"the window is full behind {what} (at most {longest} at a time)"

    def _link(self, kind: str, spans: list[Span]) -> str:
        parts = []
        chosen = self.bins.at(np.array([span.start_ns for span in spans], dtype=np.int64))
        chosen = distinct(chosen)
        for carrier, rate, queue, risen in zip(
            self.view.carriers, self.bins.rate_bps, self.bins.queue_ns, self.bins.risen, strict=True
        ):
            mine = chosen[risen[chosen]]
            if mine.size == 0:
                continue
            low = carrier.round_trip_ns
            through = format_rate(float(median(rate[mine])), 3)
            risen_to = format_duration(low + float(median(queue[mine])), 3)
            parts.append(
                f"subflow {carrier.subflow.number} at {through}, its round trip {risen_to} in "
                f"place of {format_duration(low, 3)}"
            )
        return f"packets wait in a queue: {'; '.join(parts)}" if parts else kind

    def _congestion(self, kind: str, spans: list[Span]) -> str:
        losses = sum(carrier.half.retransmissions for carrier in self.view.carriers)
        inside = distinct(self.bins.at(np.array([span.start_ns for span in spans], dtype=np.int64)))
        flight = format_size(float(median(self.bins.flight[inside])), 3)
        text = f"{kind}: about {flight} in flight"
        if losses:
            text += f"; {losses:,} segments were sent again"
        return text

    def _send_buffer(self, spans: list[Span]) -> tuple[str, str]:
        inside = distinct(self.bins.at(np.array([span.start_ns for span in spans], dtype=np.int64)))
        flight = float(median(self.bins.flight[inside]))
        offers = self.view.offers
        starts = np.array([span.start_ns for span in spans], dtype=np.int64)
        room = ""
        if offers.bytes.size:
            window = float(median(offers.bytes[offers.place(starts)]))
            room = f", though the window has {format_size(window, 3)}"
        detail = f"{format_size(flight, 3)} are in flight and never more{room}"
        return detail, "a larger send buffer"

    def _missing_data_acks(self, spans: list[Span]) -> tuple[str, str]:
        starts = np.array([span.start_ns for span in spans], dtype=np.int64)
        unacked = self.view.sent.at(starts) - self.view.acked.at(starts)
        size = format_size(float(median(unacked)), 3)
        return f"DATA_ACKs are missing for {size} that the subflows have acknowledged", ""

    def _application(self, kind: str, spans: list[Span]) -> str:
        if kind == ENDED:
            return "everything had been sent"
        longest = format_duration(max(span.end_ns - span.start_ns for span in spans), 3)
        return f"nothing to send (at most {longest} at a time)"

    def _outstanding(self, time_ns: int) -> int:
        when = np.array([time_ns], dtype=np.int64)
        return int(self.view.sent.at(when)[0] - self.view.acked.at(when)[0])


def longest_kind(held: Held, cause: Cause) -> str:
    """Return the kind of a cause that held a direction back longest."""
    kinds = durations_ns([span for span in held.spans if span.cause is cause])
    return next((kind for _, kind in kinds), "")


def clipped(spans: list[Span], start_ns: int, end_ns: int) -> list[Span]:
    """Return the spans within a time."""
    return [
        span._replace(start_ns=max(span.start_ns, start_ns), end_ns=min(span.end_ns, end_ns))
        for span in spans
        if span.start_ns < end_ns and start_ns < span.end_ns
    ]


def phrase(cause: Cause, kind: str | None) -> str:
    """Return what a cause means, as the end of a sentence about the time it took.

    ``kind`` is None where there were several.
    """
    text = _PHRASES[cause]
    if kind is None:
        return text
    if cause is Cause.RECEIVE_WINDOW:
        return _WINDOW_PHRASES[kind]
    if cause is Cause.HEAD_OF_LINE:
        name, _, fate = kind.partition(": ")
        what = {"lost": "lost", "dead": "stuck", "slow": "late"}.get(fate, "not yet there")
        return f"the window was full behind bytes {what} on {name}"
    return f"{text} ({kind})" if kind and kind != ENDED else text


_PHRASES: Final = {
    Cause.HANDSHAKE: "the connection was not up yet",
    Cause.APPLICATION: "the application had nothing to send",
    Cause.SEND_BUFFER: "the send buffer was full of data on the way",
    Cause.RECEIVE_WINDOW: "the receive window was full",
    Cause.HEAD_OF_LINE: "the window was full behind missing bytes",
    Cause.CONGESTION_WINDOW: "the congestion window was full",
    Cause.LINK: "a link was full",
    Cause.CPU: "a processor was busy",
    Cause.SCHEDULER: "a subflow with room was not used",
    Cause.STALLED: "data waited and nothing moved",
    Cause.UNKNOWN: "the capture does not show why",
}
_WINDOW_PHRASES: Final = {
    CLOSED: "the receive window was closed: the application had not read",
    SLOW_READER: "the receive window was full of data that the application had not read",
    GROWING: "the receive window, which still grows, was full",
    SMALL: "the receive window was full",
}
