"""A capture as part of a page: its connections, and of each what its packets show over time."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from mptcplab.limits.causes import Cause
from mptcplab.limits.partition import Span
from mptcplab.limits.runs import WAITING
from mptcplab.report.page.document import ConnectionView, Event, Part
from mptcplab.report.page.markup import Markup, element, pairs, section
from mptcplab.report.page.network import Drawing, Edge, Node
from mptcplab.report.page.plots import AnyPlot, Plot, Series, Shares, with_data
from mptcplab.trace.connections.model import Connection, Half, Held, Subflow
from mptcplab.trace.files.sources import source_name
from mptcplab.trace.findings.series import direction
from mptcplab.trace.findings.throughput import bin_ns, busiest, throughput
from mptcplab.trace.output.connection_table import capture_lines, summary_line
from mptcplab.trace.output.explain import explain_connection, explain_ends
from mptcplab.trace.trace import Trace
from mptcplab.trace.two_captures import Ends
from mptcplab.units import format_duration, format_rate, format_size

_WAYS: Final = ("client to server", "server to client")
_LEAST_SHARE: Final = 0.02
"""Of a connection's data: a direction with less has no plots."""
_MOST_EVENTS: Final = 1000
"""Of one connection."""
_ALL_SERIES: Final = 40_000
"""Points of all connections together, divided among them; each has some at least."""
_LEAST_POINTS: Final = 60
_MOST_DRAWN: Final = 16
"""Subflows of a connection in the drawing and the plots."""


def capture_part(trace: Trace, connections: Sequence[Connection], ends: Ends | None = None) -> Part:
    """Return what a page shows of a capture, and of these of its connections.

    ``ends`` is given where there is a capture from the other end as well; ``trace`` is the near
    one.
    """
    paths = [*trace.paths, *(ends.far.paths if ends is not None else ())]
    names = [source_name(path).rpartition("/")[2] or "-" for path in paths]
    title = " and ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"
    ordered = sorted(connections, key=lambda connection: -connection.bytes)
    lines = list(capture_lines(trace))
    taken = datetime.datetime.fromtimestamp(trace.first_ns / 1e9, datetime.UTC)
    length_s = max(trace.last_ns - trace.first_ns, 1) / 1e9
    return Part(
        title=title,
        kind="capture",
        before=[
            element("p", "What happened to the connections of this capture?", class_="question"),
            *(element("p", line, class_="facts") for line in lines),
            element("p", summary_line(trace), class_="facts"),
            *_none(ordered),
        ],
        after=[
            *_between(ends),
            section(
                "The capture",
                pairs(
                    [
                        ("Files", ", ".join(names)),
                        ("First packet", f"{taken:%Y-%m-%d %H:%M:%S.%f} UTC"),
                        ("Duration", format_duration(trace.last_ns - trace.first_ns)),
                        ("Packets", f"{trace.packets:,}"),
                        ("TCP segments", f"{trace.reading.tcp_segments:,}"),
                    ]
                ),
            ),
        ],
        span_s=(0.0, length_s) if ordered else None,
        connections=(_view(trace, connection) for connection in ordered),
        connection_count=len(ordered),
        listing=_listing(trace, ordered) if len(ordered) > 1 else None,
        most_points=max(_LEAST_POINTS, min(1500, _ALL_SERIES * 2 // max(len(ordered), 1))),
    )


def _between(ends: Ends | None) -> Iterator[Markup]:
    if ends is not None:
        lines = (element("li", line.strip()) for line in explain_ends(ends))
        yield section("Between the two captures", element("ul", lines))


def _none(connections: Sequence[Connection]) -> Iterator[Markup]:
    if not connections:
        yield element("p", "There is no MPTCP connection in it.", class_="verdict invalid")


# -- the list


def _listing(trace: Trace, connections: Sequence[Connection]) -> dict[str, Any]:
    head = [
        "connection", "client", "server", "state", "start", "duration", "subflows", "uploaded",
        "downloaded", "rate", "sent again",
    ]  # fmt: skip
    return {
        "title": "Connections",
        "head": head,
        "numeric": [4, 5, 6, 7, 8, 9, 10],
        "rows": [_row(trace, connection) for connection in connections],
    }


def _row(trace: Trace, connection: Connection) -> list[list[str | float]]:
    client, server = (connection.subflows[0].end(side) for side in (0, 1))
    duration_ns = connection.end_ns - connection.start_ns
    up, down = connection.side_bytes(0), connection.side_bytes(1)
    again = sum(half.retransmitted_bytes for sub in connection.subflows for half in sub.halves)
    bps = connection.bytes * 8e9 / max(duration_ns, 1)
    start_s = trace.seconds(connection.start_ns)
    return [
        [str(connection.number), connection.number],
        [client],
        [server],
        [_state(connection)],
        [f"{start_s:.3f} s", round(start_s, 6)],
        [format_duration(duration_ns, 3), duration_ns],
        [str(len(connection.subflows)), len(connection.subflows)],
        [format_size(up, 3), up],
        [format_size(down, 3), down],
        [format_rate(bps, 3), round(bps)],
        [format_size(again, 3) if again else "–", again],
    ]


def _state(connection: Connection) -> str:
    if connection.fallback:
        return "fell back to TCP"
    if connection.complete_handshake:
        return "complete"
    return "incomplete handshake" if connection.saw_syn else "start not captured"


# -- one connection


def _view(trace: Trace, connection: Connection) -> ConnectionView:
    sides = _sides(connection)
    plots: list[AnyPlot] = []
    for side in sides:
        plots += _of_direction(
            trace, connection, side, f", {_WAYS[side]}" if len(sides) > 1 else ""
        )
    start_s, end_s = trace.seconds(connection.start_ns), trace.seconds(connection.end_ns)
    return ConnectionView(
        f"{connection.number}: {connection.subflows[0].end(0)} to {connection.subflows[0].end(1)}",
        with_data(plots),
        _events(trace, connection),
        _drawing(trace, connection, sides),
        " ".join(_headline(held) for held in connection.held if held.limits),
        (start_s, max(end_s, start_s + 1e-3)),
        "\n".join(explain_connection(trace, connection)),
    )


def _sides(connection: Connection) -> list[int]:
    """Return the sides that sent enough to be plotted, the busier one first."""
    first = connection.busier_side
    other = connection.side_bytes(first ^ 1)
    return [first, first ^ 1] if other > _LEAST_SHARE * connection.bytes else [first]


def _headline(held: Held) -> str:
    """Return what held a direction back longest, and of that, how it did longest."""
    shares: dict[Cause, float] = {}
    for limit in held.limits:
        shares[limit.cause] = shares.get(limit.cause, 0.0) + limit.share
    cause = max(shares, key=lambda cause: shares[cause])
    kinds = [limit for limit in held.limits if limit.cause is cause]
    detail = kinds[0].detail
    if detail and len(kinds) > 1:
        detail = f"{kinds[0].share:.0%}: {detail}"
    text = f"{_WAYS[held.side].capitalize()}: {shares[cause]:.0%} of the time {WAITING[cause]}"
    text += f" ({detail})" if detail else ""
    return f"{text}; {kinds[0].advice}." if kinds[0].advice else f"{text}."


def _label(subflow: Subflow) -> str:
    return f"subflow {subflow.number}: {subflow.source} to {subflow.destination}"


def _seconds(trace: Trace, time_ns: Any) -> Any:
    return (np.asarray(time_ns, dtype=np.int64) - trace.first_ns) / 1e9


def _of_direction(trace: Trace, connection: Connection, side: int, suffix: str) -> list[AnyPlot]:
    """Return the plots of what one side sent."""
    subflows = busiest(connection, side, _MOST_DRAWN)
    if not subflows:
        return []
    halves = [(subflow, subflow.half(side), subflow.half(side ^ 1)) for subflow in subflows]
    spans = next((held.spans for held in connection.held if held.side == side), [])
    return [
        Shares(
            f"limits-{side}",
            f"What held it back{suffix}",
            [_share(trace, span) for span in spans],
        ),
        Plot(
            f"throughput-{side}",
            f"Throughput by subflow{suffix}",
            "bit/s",
            "rate",
            _throughput(trace, connection, side, subflows),
            "New payload; retransmissions are left out.",
        ),
        Plot(
            f"rtt-{side}",
            f"Round trip by subflow, from the capture on{suffix}",
            "s",
            "points",
            [_round_trips(trace, subflow, answer) for subflow, _, answer in halves],
            is_logarithmic=True,
        ),
        Plot(
            f"windows-{side}",
            f"In flight by subflow, and what the receiver offers{suffix}",
            "B",
            "held",
            _windows(trace, connection, side, halves),
        ),
        Plot(
            f"dsn-{side}",
            f"Data sequence numbers by subflow{suffix}",
            "B",
            "points",
            [one for subflow, half, _ in halves for one in _mappings(trace, subflow, half)],
            "Relative: the first byte is 1. Each point is the start of data that were sent.",
        ),
    ]


def _share(trace: Trace, span: Span) -> tuple[float, float, dict[str, float]]:
    return (
        trace.seconds(span.start_ns),
        trace.seconds(span.end_ns),
        {span.cause.value: 1.0},
    )


def _throughput(
    trace: Trace, connection: Connection, side: int, subflows: list[Subflow]
) -> list[Series]:
    start, end = connection.start_ns, connection.end_ns
    width = bin_ns(end - start)
    count = max(1, -(-(end - start) // width))
    each = throughput(subflows, side, start, width, count)
    time_s = _seconds(trace, start + np.arange(1, count + 1) * width)
    series = [
        Series(_label(subflow), time_s, bps, subflow.number, interval_s=width / 1e9)
        for subflow, bps in zip(subflows, each, strict=True)
    ]
    if len(series) > 1:
        total = np.sum(each, axis=0)
        series.append(
            Series("all subflows", time_s, total, 7, is_dashed=True, interval_s=width / 1e9)
        )
    return series


def _round_trips(trace: Trace, subflow: Subflow, answer: Half) -> Series:
    rows = answer.samples[answer.samples["rtts"] > 0]
    time_s = _seconds(trace, rows["time_ns"])
    return Series(_label(subflow), time_s, rows["rtt_ns"] / rows["rtts"] / 1e9, subflow.number)


def _windows(
    trace: Trace, connection: Connection, side: int, halves: list[tuple[Subflow, Half, Half]]
) -> list[Series]:
    series = [
        _in_flight(trace, subflow, half, answer)
        for subflow, half, answer in halves
        if half.samples.size
    ]
    whole = direction(connection, side)
    if whole is None:
        return series
    time_s = _seconds(trace, whole.time_ns)
    columns = [("not yet acknowledged by DATA_ACK", whole.outstanding_bytes, 6)]
    if whole.window_seen:
        columns.append(("receive window", whole.window_bytes, 7))
    columns.append(("out of order at the receiver", whole.held_bytes, 5))
    return series + [
        Series(name, time_s, value.astype(np.float64), colour, is_dashed=True)
        for name, value, colour in columns
    ]


def _in_flight(trace: Trace, subflow: Subflow, half: Half, answer: Half) -> Series:
    """Return what was sent on a subflow and not yet acknowledged, whenever either changes."""
    sent, acks = half.samples, answer.samples
    time_ns = np.unique(np.concatenate([sent["time_ns"], acks["time_ns"]]))
    total = np.append(0, np.cumsum(sent["new_bytes"]))
    acked = np.append(0, np.maximum(np.maximum.accumulate(acks["ack"]) - 1, 0))
    value = (
        total[np.searchsorted(sent["time_ns"], time_ns, side="right")]
        - acked[np.searchsorted(acks["time_ns"], time_ns, side="right")]
    )
    return Series(
        f"in flight, subflow {subflow.number}",
        _seconds(trace, time_ns),
        np.maximum(value, 0).astype(np.float64),
        subflow.number,
    )


def _mappings(trace: Trace, subflow: Subflow, half: Half) -> list[Series]:
    extents = half.extents
    if not extents.size:
        return []
    time_s = _seconds(trace, extents["first_ns"])
    order = np.argsort(time_s, kind="stable")
    value = half.data_rel.astype(np.float64)
    again = np.isin(extents["seq"], half.again_seq)
    series = [Series(_label(subflow), time_s[order], value[order], subflow.number)]
    if again.any():
        chosen = order[again[order]]
        name = f"reinjected on subflow {subflow.number}"
        series.append(Series(name, time_s[chosen], value[chosen], subflow.number + 3))
    return series


def _events(trace: Trace, connection: Connection) -> list[Event]:
    events = [
        Event(
            trace.seconds(event.time_ns),
            "" if event.subflow is None else f"subflow {event.subflow}",
            event.kind,
            event.text + (f" (packet {event.number})" if event.number else ""),
        )
        for event in connection.events[:_MOST_EVENTS]
    ]
    rest = len(connection.events) - len(events)
    if rest:
        last = events[-1].time_s
        events.append(Event(last, "", "more", f"{rest} more; mptcplab inspect --events has all"))
    return events


def _drawing(trace: Trace, connection: Connection, sides: Sequence[int]) -> Drawing:
    """Return client and server with a line for each subflow."""
    client, server = Node("client", "host"), Node("server", "host")
    edges = []
    shown = connection.subflows
    if len(shown) > _MOST_DRAWN:
        shown = sorted(shown, key=lambda subflow: -subflow.bytes)[:_MOST_DRAWN]
        shown.sort(key=lambda subflow: subflow.number)
    series = {
        side: [subflow.number for subflow in busiest(connection, side, _MOST_DRAWN)]
        for side in sides
    }
    for subflow in shown:
        for node, side in ((client, 0), (server, 1)):
            address = subflow.address(side)
            port = subflow.end(side).rpartition(":")[2]
            node.ports.append((address, f"port {port}"))
        edge = Edge(
            f"subflow {subflow.number}", ((0, len(client.ports) - 1), (1, len(server.ports) - 1))
        )
        edge.text = "backup" if any(subflow.backup) else ""
        edge.colour = subflow.number
        edge.ups = [
            (round(trace.seconds(connection.start_ns), 6), False),
            (round(trace.seconds(subflow.start_ns), 6), True),
        ]
        for side, way in ((0, "forward"), (1, "backward")):
            if subflow.number in series.get(side, ()):
                edge.rates[way] = (f"throughput-{side}", series[side].index(subflow.number))
        edges.append(edge)
    drawing = Drawing([client, server], edges, f"Connection {connection.number}")
    drawing.place([0])
    return drawing
