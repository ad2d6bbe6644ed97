"""A run as part of a page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Final

import numpy as np

from mptcplab.limits.causes import Limit
from mptcplab.limits.runs import cause_intervals, run_limits
from mptcplab.report.latency import LatencyCheck, latency_checks
from mptcplab.report.limits import every_limit, headline
from mptcplab.report.page.columns import Key, Rows, rate_bps, summed
from mptcplab.report.page.document import ConnectionView, Event, Mark, Part
from mptcplab.report.page.markup import (
    Markup,
    element,
    pairs,
    paragraphs,
    preformatted,
    section,
    table,
)
from mptcplab.report.page.network import Drawing, of_topology
from mptcplab.report.page.plots import (
    MOST_POINTS,
    AnyPlot,
    Distribution,
    Plot,
    Series,
    Shares,
    with_data,
)
from mptcplab.report.verdict import Check, checks, comparisons
from mptcplab.results.application_times import PERCENTILES, ApplicationTimes
from mptcplab.results.run import Run
from mptcplab.results.summary import settle_ns, summarise
from mptcplab.units import NANOSECONDS, format_duration, format_rate, format_size

_LINKS: Final = "links"
_WAYS: Final = {"forward": "→", "backward": "←"}
_SHOWN: Final = 12
"""Series of a plot that are drawn from the start; more are drawn when the reader asks."""
_MOST_EVENTS: Final = 2000
_ALL_POINTS: Final = 250_000
"""Of the plots of all links and flows."""
_LONGEST_SCENARIO: Final = 200_000


def run_part(run: Run) -> Part:
    """Return what a page shows of a run. Raises RunError for one that is damaged."""
    run.check()
    summary = summarise(run)
    limits = every_limit(run_limits(run))
    links = Rows(run.table("links"), ("link", "direction"))
    end_s = max(run.metadata["measured_ns"], 1) / NANOSECONDS
    drawing = _drawing(run, links)
    plots = with_data(
        [_goodput(run), _links(run, links), _queues(run, links), _drops(run, links), *_times(run)]
    )
    _refer(drawing, plots)
    scenario = run.scenario
    many = sum(len(plot.series) for plot in plots if isinstance(plot, Plot))
    events, left_out = _events(run)
    connections = _Connections(run, limits)
    return Part(
        title=f"{scenario['name']}: {scenario['title']}" if scenario["title"] else scenario["name"],
        kind="run",
        before=[*_first(run, summary), _held_back(limits), *_tables(run, summary)],
        after=[*_applications(summary), *_whole(run, left_out)],
        span_s=(0.0, end_s),
        plots=plots,
        marks=_marks(run),
        events=events,
        drawing=drawing,
        connections=connections.views(),
        connection_count=len(connections.ends),
        most_points=max(100, min(MOST_POINTS, _ALL_POINTS // max(many, 1))),
    )


def validity(valid: bool, reasons: Sequence[str], subject: str = "the run") -> Markup:
    """Return the line that says whether a run is what was asked for, and why not."""
    if valid:
        return element(
            "p",
            element("strong", "Valid"),
            f": {subject} is what the scenario asked for.",
            class_="verdict valid",
        )
    return element(
        "div",
        element(
            "p", element("strong", "Not valid"), f": {subject} is not what the scenario asked for."
        ),
        element("ul", (element("li", reason) for reason in reasons)),
        class_="verdict invalid",
    )


def _first(run: Run, summary: Mapping[str, Any]) -> Iterator[Markup]:
    """Yield what was asked, and whether the run is valid."""
    scenario = run.scenario
    if isinstance(question := scenario.get("question"), str) and question:
        yield element("p", question, class_="question")
    yield validity(summary["valid"], summary["invalid_reasons"])
    facts = [
        f"{summary['duration_s']:.4g} s on {summary['testbed']}",
        f"seed {scenario['seed']}",
        f"{summary['wall_s']:.1f} s of wall-clock time",
    ]
    if scenario["time_scale"] != 1:
        facts.append(f"times scaled by {scenario['time_scale']:.4g}")
    if settle_ns(run):
        facts.append(f"goodput leaves out the first {format_duration(settle_ns(run))}")
    if run.is_cut:
        facts.append("stopped before the scenario's time was over")
    yield element("p", "; ".join(facts), class_="facts")


def _held_back(limits: Sequence[Limit]) -> Markup:
    by_connection: dict[tuple[str, str], list[Limit]] = defaultdict(list)
    for limit in limits:
        by_connection[limit.connection, limit.direction].append(limit)
    told = [headline(several) for several in by_connection.values()]
    if not told:
        return Markup("")
    rest = len(told) - _SHOWN
    texts = told[:_SHOWN] + ([f"and {rest} more connections"] if rest > 0 else [])
    return section("What held the connections back", paragraphs(texts))


def _rate(bps: float | None) -> str:
    return "too short" if bps is None else format_rate(bps)


def _tables(run: Run, summary: Mapping[str, Any]) -> Iterator[Markup]:
    intact = {True: "every byte", False: "NO", None: "not checked"}
    parts = [
        table(
            "Flows",
            ["flow", "protocol", "goodput", "bytes", "intact"],
            (
                [
                    flow["name"],
                    flow["protocol"],
                    _rate(flow["goodput_bps"]),
                    format_size(flow["bytes"]),
                    intact[flow["intact"]],
                ]
                for flow in summary["flows"]
            ),
            left=2,
        ),
        table(
            "Links",
            ["link", "driver", "configured", "mean", "utilisation"],
            (_link_row(link) for link in summary["links"]),
            left=2,
        ),
    ]
    if len(summary["stages"]) > 1:
        parts.append(_stages(summary))
    yield section("Results", parts)
    verdicts: list[Check | LatencyCheck] = [*checks(run), *latency_checks([run])]
    compared = comparisons(run)
    if verdicts:
        lines = [
            element("li", check.text, class_=f"outcome {_word(check.outcome)}")
            for check in verdicts
        ]
        yield section("Expected of it", element("ul", lines))
    if compared:
        yield section(
            "Beside the 2012 report",
            table(
                "",
                ["", "this run", "2012", "where"],
                (
                    [
                        row.what,
                        _rate(row.measured_bps),
                        format_rate(row.report_bps)
                        + (" (what links could carry)" if row.kind == "capacity" else ""),
                        f"{row.source}; {row.note}" if row.note else row.source,
                    ]
                    for row in compared
                ),
            ),
        )


def _word(outcome: str) -> str:
    return outcome if outcome in ("met", "missed") else "open"


def _link_row(link: Mapping[str, Any]) -> list[str]:
    configured = link["configured_bps"]
    return [
        link["name"],
        link["driver"] or "not built",
        "unlimited" if configured is None else format_rate(configured),
        format_rate(link["mean_bps"]),
        "" if link["utilisation"] is None else f"{link['utilisation']:.1%}",
    ]


def _stages(summary: Mapping[str, Any]) -> Markup:
    names = [link["name"] for link in summary["links"]]
    return table(
        "Stages, between the actions of the timeline",
        ["stage", "from", "to", "goodput", *names],
        (
            [
                str(stage["stage"]),
                f"{stage['start_s']:g} s",
                f"{stage['end_s']:g} s",
                _rate(stage["goodput_bps"]),
                *(
                    "" if stage["goodput_bps"] is None else _rate(stage["links"].get(name, 0.0))
                    for name in names
                ),
            ]
            for stage in summary["stages"]
        ),
    )


def _applications(summary: Mapping[str, Any]) -> Iterator[Markup]:
    """Yield percentiles of what applications asked for."""
    names = [f"p{percent}" for percent in PERCENTILES]
    tables = []
    for title, key, counts in (
        ("Requests", "requests", ("count", "unended")),
        ("Web pages", "pages", ("count", "unended")),
        ("Messages", "messages", ("sent", "lost")),
    ):
        rows = [
            [
                flow["name"],
                *(str(flow[key].get(count, "")) for count in counts),
                *(_time(flow[key].get(f"{name}_s")) for name in names),
            ]
            for flow in summary["flows"]
            if flow[key] is not None
        ]
        if rows:
            heads = ["answered", "not"] if counts[0] == "count" else list(counts)
            tables.append(table(title, ["flow", *heads, *names], rows))
    rows = [
        [
            flow["name"],
            str(flow["video"]["chunks"]),
            _time(flow["video"]["startup_s"]),
            str(flow["video"]["stalls"]),
            _time(flow["video"]["stalled_s"]),
            _rate(flow["video"]["mean_bitrate_bps"]),
            str(flow["video"]["switches"]),
        ]
        for flow in summary["flows"]
        if flow["video"] is not None
    ]
    if rows:
        heads = ["flow", "chunks", "start-up", "stalls", "stalled", "bitrate", "changes"]
        tables.append(table("Video", heads, rows))
    if tables:
        yield section("Applications", tables)


def _time(value_s: float | None) -> str:
    return "none" if value_s is None else format_duration(value_s * NANOSECONDS)


# -- what is plotted of the whole


def _goodput(run: Run) -> Plot:
    rows = Rows(run.table("flows"), ("flow",))
    series = []
    for (name,) in rows.keys():  # noqa: SIM118  (of Rows, which is no mapping)
        times, total = summed(rows.time_s((name,)), rows.column((name,), "goodput_bps"))
        interval_s = float(rows.column((name,), "interval_ns")[0]) / NANOSECONDS
        series.append(Series(str(name), times, total, interval_s=interval_s))
    _show_largest(series)
    if len(series) > 1:
        series.append(_sum(series))
    return Plot("goodput", "Goodput of the flows", "bit/s", "rate", series)


def _sum(several: Sequence[Series]) -> Series:
    at, total = summed(
        np.concatenate([one.time_s for one in several]),
        np.concatenate([one.value for one in several]),
    )
    interval_s = several[0].interval_s
    return Series("all flows", at, total, len(several), is_dashed=True, interval_s=interval_s)


def _show_largest(series: Sequence[Series]) -> None:
    """Number the colours, and hide all but the largest series."""
    for number, one in enumerate(series):
        one.colour = number
    ordered = sorted(series, key=lambda one: -float(np.nansum(one.value)))
    for one in ordered[_SHOWN:]:
        one.is_hidden = True


def _by_link(run: Run, links: Rows, column: str) -> Iterator[tuple[int, str, str, Key]]:
    """Yield (number, name, direction, key) of both directions of each link, the busier first."""
    for number, link in enumerate(run.scenario["topology"]["links"]):
        ways = [way for way in _WAYS if links.has((link["name"], way))]
        totals = {way: float(np.nansum(links.column((link["name"], way), column))) for way in ways}
        for way in sorted(ways, key=lambda way: -totals[way]):
            yield number, link["name"], way, (link["name"], way)


def _link_series(run: Run, links: Rows, column: str) -> list[Series]:
    series: list[Series] = []
    quiet: list[Series] = []
    seen: set[str] = set()
    for number, name, way, key in _by_link(run, links, "tx_bytes"):
        value = links.column(key, column)
        interval_s = float(links.column(key, "interval_ns")[0]) / NANOSECONDS
        one = Series(
            f"{name} {_WAYS[way]}", links.time_s(key), value, number, interval_s=interval_s
        )
        if name in seen:
            one.is_hidden, one.is_dashed = True, True
            quiet.append(one)
        else:
            series.append(one)
        seen.add(name)
    ordered = sorted(series, key=lambda one: -float(np.nansum(one.value)))
    for one in ordered[_SHOWN:]:
        one.is_hidden = True
    return series + quiet


def _links(run: Run, links: Rows) -> Plot:
    return Plot(
        _LINKS,
        "Throughput of the links",
        "bit/s",
        "rate",
        _link_series(run, links, "bps"),
        note="With headers. → is from the link's first end to its second, ← the other way.",
    )


def _queues(run: Run, links: Rows) -> Plot:
    series = [
        one
        for one in _link_series(run, links, "queue_bytes")
        if np.nanmax(one.value, initial=0.0) > 0
    ]
    return Plot("queues", "Queues of the links", "B", "line", series)


def _drops(run: Run, links: Rows) -> Plot:
    series = []
    columns = {"drops_queue": "queue full", "drops_loss": "lost", "drops_down": "link down"}
    for number, name, way, key in _by_link(run, links, "tx_bytes"):
        for place, (column, what) in enumerate(columns.items()):
            value = links.column(key, column)
            if np.nansum(value) > 0:
                series.append(
                    Series(
                        f"{name} {_WAYS[way]} {what}",
                        links.time_s(key),
                        value,
                        number,
                        is_dashed=bool(place),
                        interval_s=float(links.column(key, "interval_ns")[0]) / NANOSECONDS,
                    )
                )
    for one in sorted(series, key=lambda one: -float(np.nansum(one.value)))[_SHOWN:]:
        one.is_hidden = True
    return Plot("drops", "Packets lost at the links, by interval", "", "rate", series)


def _times(run: Run) -> list[AnyPlot]:
    """Return how long requests and messages took, over time and as distributions."""
    times = ApplicationTimes(run)
    over_time = Plot(
        "times", "Time of each request or message, by its start", "s", "points", [],
        is_logarithmic=True,
    )  # fmt: skip
    curves = Distribution("distribution", "How many took at most how long")
    for flow in run.scenario["flows"]:
        name = flow["name"]
        if times.kind(name) is None:
            continue
        starts, ends = times.columns(name, ("start_ns", "end_ns"))
        begin_s = np.array(starts, dtype=np.float64) / NANOSECONDS
        end_s = np.array([np.nan if end is None else end for end in ends], dtype=np.float64)
        took_s = end_s / NANOSECONDS - begin_s
        colour = len(over_time.series)
        order = np.argsort(begin_s, kind="stable")
        over_time.series.append(Series(name, begin_s[order], took_s[order], colour))
        values = times.times(name).values_s
        ended = np.array([value for value in values if isfinite(value)])
        curves.curves.append((f"{name} ({times.kind(name)})", ended, len(values)))
    return [over_time, curves]


# -- the network


def _drawing(run: Run, links: Rows) -> Drawing | None:
    scenario = run.scenario
    drawing = of_topology(scenario["topology"], _left(scenario["flows"]), "The network")
    if drawing is None:
        return None
    for number, (edge, link) in enumerate(
        zip(drawing.edges, scenario["topology"]["links"], strict=False)
    ):
        rates = [link[way]["rate_bps"] for way in _WAYS]
        edge.capacity_bps = max((rate for rate in rates if rate), default=None)
        edge.text = "" if edge.capacity_bps is None else format_rate(edge.capacity_bps)
        delays = [link[way].get("delay_ns") for way in _WAYS]
        if any(delays) and all(isinstance(delay, int) for delay in delays):
            edge.text += f", {format_duration(sum(delays))} round trip"
        edge.colour = number
        edge.ups = _ups(links, (link["name"], "forward"))
    return drawing


def _left(flows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the hosts that send, but for those that an earlier flow has as receivers."""
    left: dict[str, None] = {}
    right: set[str] = set()
    for flow in flows:
        if flow["source"] not in right:
            left[flow["source"]] = None
        if flow["destination"] not in left:
            right.add(flow["destination"])
    return list(left)


def _ups(links: Rows, key: Key) -> list[tuple[float, bool]]:
    """Return when a link went down and up: (s, whether it is up from then on)."""
    time_s, up = links.time_s(key), links.column(key, "up")
    interval_s = links.column(key, "interval_ns") / NANOSECONDS
    changes: list[tuple[float, bool]] = []
    for at, length, value in zip(time_s.tolist(), interval_s.tolist(), up.tolist(), strict=True):
        if isfinite(value) and (not changes or changes[-1][1] != bool(value)):
            changes.append((round(at - length, 6), bool(value)))
    return changes


def _refer(drawing: Drawing | None, plots: Sequence[AnyPlot]) -> None:
    """Say of each link which series have what it carries."""
    if drawing is None:
        return
    for plot in plots:
        if isinstance(plot, Plot) and plot.key == _LINKS:
            place = {one.name: number for number, one in enumerate(plot.series)}
            for edge in drawing.edges:
                for way, sign in _WAYS.items():
                    if (number := place.get(f"{edge.name} {sign}")) is not None:
                        edge.rates[way] = (_LINKS, number)


# -- connections


class _Connections:
    """The connections of a run, each as its sender saw it, those with the most data first."""

    def __init__(self, run: Run, limits: Sequence[Limit]) -> None:
        self._limits = limits
        self._subflows = Rows(run.table("subflows"), ("flow", "connection", "host", "subflow"))
        self._connections = Rows(run.table("connections"), ("flow", "connection", "host"))
        self._intervals = cause_intervals(run)
        self._names = _texts(run)
        halves: dict[Key, dict[str, list[Key]]] = defaultdict(lambda: defaultdict(list))
        for key in self._subflows.keys():  # noqa: SIM118  (of Rows, which is no mapping)
            halves[key[:2]][str(key[2])].append(key)
        carried = {
            (*connection, host): sum(
                _last(self._subflows.column(key, "bytes_acked")) for key in keys
            )
            for connection, by_host in halves.items()
            for host, keys in by_host.items()
        }
        senders = [
            (*connection, max(by_host, key=lambda host: carried[*connection, host]))
            for connection, by_host in halves.items()
        ]
        self.ends = sorted(senders, key=lambda end: -carried[end])
        self._halves = halves
        self._several = {flow["name"] for flow in run.scenario["flows"] if flow["connections"] > 1}
        numbers: dict[str | int | None, set[str | int | None]] = defaultdict(set)
        for flow, number, _ in self.ends:
            numbers[flow].add(number)
        self._several |= {str(flow) for flow, those in numbers.items() if len(those) > 1}

    def views(self) -> Iterator[ConnectionView]:
        """Yield what the page shows of each."""
        for end in self.ends:
            flow, number = str(end[0]), int(end[1] or 0)
            name = f"{flow}/{number + 1}" if flow in self._several else flow
            keys = sorted(self._halves[end[:2]][str(end[2])], key=lambda key: int(key[3] or 0))
            plots = _of_connection(self._subflows, self._connections, end, keys, self._names)
            strip = Shares(
                "limits",
                "What held it back",
                [_share(*interval) for interval in self._intervals.get(name, ())],
            )
            told = [limit for limit in self._limits if limit.connection == name]
            text = headline(told) if told else ""
            yield ConnectionView(name, with_data([strip, *plots]), text=text)


def _share(
    start_ns: int, end_ns: int, by_cause: Mapping[Any, int]
) -> tuple[float, float, dict[str, float]]:
    length = max(sum(by_cause.values()), 1)
    return (
        start_ns / NANOSECONDS,
        end_ns / NANOSECONDS,
        {str(cause.value): time / length for cause, time in by_cause.items()},
    )


def _last(value: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    known = value[np.isfinite(value)]
    return float(known[-1]) if known.size else 0.0


def _texts(run: Run) -> dict[Key, str]:
    """Return what is said of each subflow: its link, or else its ends."""
    texts: dict[Key, str] = {}
    for row in run.table("subflows").select(
        ["flow", "connection", "host", "subflow", "link", "local", "remote"]
    ).group_by(
        ["flow", "connection", "host", "subflow", "link", "local", "remote"], use_threads=False
    ).aggregate(
        []
    ).to_pylist():  # fmt: skip
        key = (row["flow"], row["connection"], row["host"], row["subflow"])
        ends = f"{row['local']} to {row['remote']}" if row["local"] else ""
        texts[key] = f"subflow {row['subflow']}" + (
            f": {row['link']}" if row["link"] else f": {ends}" if ends else ""
        )
    return texts


def _of_connection(
    subflows: Rows, ends: Rows, end: Key, keys: Sequence[Key], names: Mapping[Key, str]
) -> list[AnyPlot]:
    """Return the plots of one connection, as its sender saw it."""

    def each(column: str, scale: float = 1.0, dashed: bool = False) -> list[Series]:
        return [
            Series(
                names.get(key, f"subflow {key[3]}"),
                subflows.time_s(key),
                subflows.column(key, column) * scale,
                int(key[3] or 0),
                is_dashed=dashed,
            )
            for key in keys
        ]

    throughput = [
        Series(one.name, one.time_s, rate_bps(one.time_s, one.value), one.colour)
        for one in each("bytes_acked")
    ]
    for one in throughput:
        if one.time_s.size > 1:
            one.interval_s = float(one.time_s[1] - one.time_s[0])
    in_flight = each("in_flight_bytes", dashed=True)
    for one in in_flight:
        one.name += ", in flight"
        one.is_hidden = True
    time_s = ends.time_s(end)
    whole = [
        Series(name, time_s, ends.column(end, column), colour)
        for colour, (column, name) in enumerate(
            {
                "send_buffer_bytes": "send buffer",
                "unacked_bytes": "not yet acknowledged",
                "receive_window_bytes": "receive window of this end",
                "out_of_order_bytes": "out of order at this end",
            }.items()
        )
    ]
    peers = [key for key in ends.keys() if key[:2] == end[:2] and key != end]  # noqa: SIM118
    for peer in peers:
        for column, name, colour in (
            ("receive_buffer_bytes", "receive buffer of the receiver", 4),
            ("receive_window_bytes", "receive window of the receiver", 5),
            ("out_of_order_bytes", "out of order at the receiver", 6),
        ):
            whole.append(Series(name, ends.time_s(peer), ends.column(peer, column), colour))
    for one in whole[2:4]:
        one.is_hidden = bool(peers)
    acked = each("bytes_acked")
    acked.append(Series("the connection, by DATA_ACK", time_s, ends.column(end, "bytes_acked"), 7))
    return [
        Plot("throughput", "Throughput by subflow, as acknowledged", "bit/s", "rate", throughput),
        Plot("rtt", "Round trip by subflow, smoothed", "s", "line", each("srtt_ns", 1e-9)),
        Plot(
            "windows", "Congestion window by subflow", "B", "line", each("cwnd_bytes") + in_flight
        ),
        Plot("buffers", "Buffers and windows of the connection", "B", "line", whole),
        Plot("data", "Data acknowledged, by subflow", "B", "line", acked),
    ]


# -- events, scenario, machine


def _marks(run: Run) -> list[Mark]:
    by_time: dict[int, list[str]] = defaultdict(list)
    for action in run.scenario["timeline"]:
        changes = ", ".join(f"{key} {value}" for key, value in action["changes"])
        words = (action["target"], action["verb"], changes)
        by_time[action["at_ns"]].append(action["label"] or " ".join(filter(None, words)))
    return [Mark(at_ns / NANOSECONDS, ", ".join(texts)) for at_ns, texts in sorted(by_time.items())]


def _events(run: Run) -> tuple[list[Event], int]:
    """Return the first events, and how many are left out."""
    rows = sorted(run.rows("events"), key=lambda row: int(row["time_ns"]))
    events = []
    for row in rows[:_MOST_EVENTS]:
        about = [row["host"], row["flow"]]
        if row["subflow"] is not None:
            about.append(f"subflow {row['subflow']}")
        about.append(row["link"])
        events.append(
            Event(
                row["time_ns"] / NANOSECONDS,
                ", ".join(text for text in about if text),
                f"{row['source']}: {row['event']}",
                row["detail"] or "",
            )
        )
    return events, len(rows) - len(events)


def _whole(run: Run, events_left_out: int) -> Iterator[Markup]:
    """Yield notes, machine and scenario."""
    metadata = run.metadata
    notes = list(metadata.get("notes", ()))
    if events_left_out:
        notes.append(f"{events_left_out} later events are not in this page; events.parquet has all")
    if notes:
        yield section("Notes", element("ul", (element("li", note) for note in notes)))
    told = {
        "started": "Started",
        "command": "Command",
        "versions": "Versions",
        "build": "Build",
        "machine": "Machine",
        "drivers": "Link drivers",
        "path_manager": "Path manager",
    }
    rows = [("Folder", run.folder.absolute().name), ("Testbed", metadata["testbed"])]
    rows.append(("Seed", str(run.scenario["seed"])))
    rows += [(name, _said(metadata[key])) for key, name in told.items() if metadata.get(key)]
    yield section("Machine and versions", pairs(rows))
    text = json.dumps(run.scenario, indent=1, ensure_ascii=False)
    if len(text) > _LONGEST_SCENARIO:
        text = f"{text[:_LONGEST_SCENARIO]}\n... run.json has the rest"
    yield element(
        "details",
        element("summary", "The scenario as it was resolved, with every default"),
        preformatted(text),
        class_="scenario",
    )


def _said(value: object) -> str:
    """Return a value of run.json in a line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_said(each)}" for key, each in value.items())
    if isinstance(value, list):
        return " ".join(map(_said, value))
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
