"""What applications noted, as tables of a run: requests, pages, video and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mptcplab.report.comparison import Quantity, with_margin
from mptcplab.results.application_times import PERCENTILES
from mptcplab.results.statistics import Estimate
from mptcplab.text_table import columns
from mptcplab.units import NANOSECONDS, format_duration, format_rate

_NAMES = [f"p{percent}" for percent in PERCENTILES]


def applications_text(flows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table for each kind of application that the flows of a summary have."""
    parts = []
    for title, table in (("Requests", "requests"), ("Pages", "pages")):
        rows = [
            [
                flow["name"],
                str(flow[table]["count"]),
                str(flow[table]["unended"]),
                *_percentiles(flow[table]),
            ]
            for flow in flows
            if flow[table] is not None
        ]
        if rows:
            parts.append(_table(title, ["flow", "answered", "not", *_NAMES], rows))
    rows = [_video(flow["name"], flow["video"]) for flow in flows if flow["video"] is not None]
    if rows:
        heading = ["flow", "chunks", "start-up", "stalls", "stalled", "bitrate", "changes"]
        parts.append(_table("Video", heading, rows))
    rows = [
        [
            flow["name"],
            str(flow["messages"]["sent"]),
            _loss(flow["messages"]),
            *_percentiles(flow["messages"]),
        ]
        for flow in flows
        if flow["messages"] is not None
    ]
    if rows:
        parts.append(_table("Messages", ["flow", "sent", "lost", *_NAMES], rows))
    return parts


def mean_applications_text(means: Mapping[Quantity, Estimate | None]) -> list[str]:
    """Return a table of what applications noted in several runs; none where they noted nothing."""
    rows = [
        [quantity.name, "none" if value is None else with_margin(quantity.text, value)]
        for quantity, value in means.items()
        if not quantity.name.startswith(("goodput ", "time of "))
    ]
    return [_table("Applications", ["", "mean"], rows)] if rows else []


def _table(title: str, heading: list[str], rows: list[list[str]]) -> str:
    return f"{title}\n{columns([heading, *rows], left=1)}"


def _percentiles(values: Mapping[str, Any]) -> list[str]:
    return [_time(values[f"{name}_s"]) for name in _NAMES]


def _time(value_s: float | None) -> str:
    return "none" if value_s is None else format_duration(value_s * NANOSECONDS)


def _loss(values: Mapping[str, Any]) -> str:
    return "none" if values["loss"] is None else f"{values['loss']:.2%}"


def _video(name: str, values: Mapping[str, Any]) -> list[str]:
    bitrate_bps = values["mean_bitrate_bps"]
    return [
        name,
        str(values["chunks"]),
        _time(values["startup_s"]),
        str(values["stalls"]),
        _time(values["stalled_s"]),
        "none" if bitrate_bps is None else format_rate(bitrate_bps),
        str(values["switches"]),
    ]
