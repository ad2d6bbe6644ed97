"""The file itself: head with its content security policy, parts, data, style and scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

from mptcplab import __version__
from mptcplab.plain_text import printable
from mptcplab.report.page.markup import Markup, element, joined, preformatted
from mptcplab.report.page.network import Drawing
from mptcplab.report.page.plots import MOST_POINTS, AnyPlot

PLOT_BYTES: Final = 6_000_000
"""Of plots of connections in a page; the rest are told in numbers alone."""


@dataclass(slots=True)
class Event:
    """Something that happened, for the list of events."""

    time_s: float
    who: str
    what: str
    text: str


@dataclass(slots=True)
class Mark:
    """An instant that is marked in all plots over time."""

    time_s: float
    text: str


@dataclass(slots=True)
class ConnectionView:
    """One connection: chosen by the reader among those of a part."""

    name: str
    plots: list[AnyPlot]
    events: list[Event] = field(default_factory=list)
    drawing: Drawing | None = None
    text: str = ""
    """What is to be said of it in a sentence or two."""
    span_s: tuple[float, float] | None = None
    """Its own time, where that is what to show; None for that of its part."""
    words: str = ""
    """Its whole explanation, line by line."""


@dataclass(slots=True)
class Part:
    """What a page shows of one run, comparison or capture."""

    title: str
    kind: str
    """A word for it: "run", "comparison", "capture"."""
    before: Sequence[Markup]
    """What stands above the drawings: question, validity, numbers."""
    after: Sequence[Markup]
    """What stands below them: requests, scenario, machine."""
    span_s: tuple[float, float] | None = None
    """The time that plots show; None for a part that has none."""
    plots: list[AnyPlot] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    drawing: Drawing | None = None
    connections: Iterable[ConnectionView] = ()
    """Those with the most data first; taken one by one until the page is full."""
    connection_count: int = 0
    listing: dict[str, Any] | None = None
    """A table to filter and sort, of a capture's connections or a sweep's points: ``title``,
    ``head``, ``numeric`` columns, ``rows``."""
    most_points: int = MOST_POINTS
    """Of each series."""


def page(parts: Sequence[Part], title: str) -> str:
    """Return the page of some parts as HTML."""
    style, library, script = (
        _asset("uPlot.min.css") + _asset("page.css"),
        _asset("uPlot.iife.min.js"),
        _asset("page.js"),
    )
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(library)} {_hash(script)}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    share = PLOT_BYTES // max(len(parts), 1)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="generator", content=f"mptcplab {__version__}"),
        element("title", title),
        _raw("style", style),
    )
    several = len(parts) > 1
    body = element(
        "body",
        element("a", "Skip to the results", class_="skip", href="#part-0"),
        element(
            "header",
            element("h1", "" if several else _kind(parts[0]), title),
            _contents(parts) if several else "",
            element(
                "div",
                element("button", "Theme: automatic", type="button", id="theme"),
                class_="controls",
            ),
        ),
        element("noscript", _noscript()),
        element(
            "main",
            (
                _part(part, number, share, _heading(part) if several else Markup(""))
                for number, part in enumerate(parts)
            ),
        ),
        _footer(),
        _raw("script", library),
        _raw("script", script),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _noscript() -> Markup:
    return element("p", "Drawings and plots need JavaScript, which is off here; tables do not.")


def _contents(parts: Sequence[Part]) -> Markup:
    return element(
        "nav",
        element(
            "ul",
            (
                element("li", element("a", f"{part.kind}: {part.title}", href=f"#part-{number}"))
                for number, part in enumerate(parts)
            ),
        ),
        aria_label="Contents",
    )


def _footer() -> Markup:
    licence = _asset("uPlot.LICENSE")
    return element(
        "footer",
        element("p", f"Made by mptcplab {__version__}. This file loads nothing from anywhere."),
        element(
            "details",
            element("summary", "Plots by uPlot; its licence"),
            preformatted(licence),
        ),
    )


def _kind(part: Part) -> Markup:
    return joined(element("span", part.kind, class_="kind"), " ")


def _heading(part: Part) -> Markup:
    return element("h2", _kind(part), part.title)


def _part(part: Part, number: int, most_bytes: int, heading: Markup) -> Markup:
    name = f"part-{number}"
    data, views = _data(part, name, most_bytes)
    drawn = bool(part.span_s) and bool(part.plots or views or part.drawing)
    return element(
        "article",
        heading,
        part.before,
        element("div", class_="drawn") if drawn or part.listing else "",
        part.after,
        _json_block(data, f"{name}-data") if drawn or part.listing else "",
        views,
        id=name,
        class_="part",
    )


def _data(part: Part, name: str, most_bytes: int) -> tuple[dict[str, Any], list[Markup]]:
    """Return a part's data, and a block of data for each connection that has room in the page."""
    views: list[Markup] = []
    names: list[str] = []
    size = 0
    for view in part.connections:
        block = _json_block(_view_json(view, part.most_points), f"{name}-{len(views)}")
        size += len(block)
        names.append(printable(view.name))
        views.append(block)
        if size > most_bytes:
            break
    return {
        "span": part.span_s,
        "plots": [plot.to_json(part.most_points) for plot in part.plots],
        "marks": [[mark.time_s, printable(mark.text)] for mark in part.marks],
        "events": _events_json(part.events),
        "drawing": None if part.drawing is None else part.drawing.to_json(),
        "connections": names,
        "left_out": max(part.connection_count - len(names), 0),
        "listing": part.listing,
    }, views


def _view_json(view: ConnectionView, most_points: int) -> dict[str, Any]:
    return {
        "name": printable(view.name),
        "text": printable(view.text),
        "span": view.span_s,
        "words": printable(view.words, keep="\n"),
        "plots": [plot.to_json(most_points) for plot in view.plots],
        "events": _events_json(view.events),
        "drawing": None if view.drawing is None else view.drawing.to_json(),
    }


def _events_json(events: Iterable[Event]) -> list[list[Any]]:
    return [
        [round(one.time_s, 6), printable(one.who), printable(one.what), printable(one.text)]
        for one in events
    ]


def _json_block(value: Any, name: str) -> Markup:
    """Return a block of data; nothing in it ends the block or is taken for markup."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(f'<script type="application/json" id="{name}">{text}</script>')


def _raw(name: str, text: str) -> Markup:
    """Return an element whose text is a file of this package."""
    return Markup(f"<{name}>{text}</{name}>")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _asset(name: str) -> str:
    return (files("mptcplab.report.page") / "assets" / name).read_text(encoding="utf-8")
