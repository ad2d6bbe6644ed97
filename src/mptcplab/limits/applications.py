"""What held back flows whose applications ask, answer or send messages: mostly, these themselves.

Tables say when a request was open or a message late (``requests``, ``messages``).  The rest of the
time is the application's, which had nothing to ask for or to send.  Whether a link was full or down
meanwhile, the table ``links`` says; what else they waited for is unknown, since connections that
carry a single request have no samples.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mptcplab.limits.causes import (
    CLIENT_TO_SERVER,
    SERVER_TO_CLIENT,
    Cause,
    DownPaths,
    FullLinks,
    Kind,
)
from mptcplab.limits.evidence import LinkUse, Path
from mptcplab.results.run import Run

_LATE: Final = 2
"""A message is late that took so many times as long as the fastest."""

Parts = dict[tuple[Cause, Kind], int]
"""Nanoseconds by cause and kind."""
Stretch = tuple[int, int]


class Applications:
    """The flows of a run whose applications ask, answer or send messages over connections."""

    def __init__(self, run: Run, links: LinkUse) -> None:
        """Read when each had something under way."""
        self._links = links
        self._measured_ns: int = run.metadata["measured_ns"]
        self._paths = {
            entry["flow"]: [Path.of(path) for path in entry["paths"]]
            for entry in run.metadata.get("flow_limits", ())
        }
        self._rows: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
        kinds = {_table(flow) for flow in run.scenario["flows"]} - {""}
        for kind in kinds:
            grouped: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
            for row in run.rows(kind):
                grouped[row["flow"]].append(row)
            self._rows[kind] = grouped

    def parts(self, flow: Mapping[str, Any]) -> tuple[str, Parts] | None:
        """Return the direction of a flow's data, and how long what held it back.

        None for flows without connections, and for programs, of which nothing is known.
        """
        table = _table(flow)
        if not table:
            return None
        rows = self._rows[table].get(flow["name"], [])
        span = (flow["start_ns"], self._end_ns(flow, rows))
        asks = table == "requests"
        waits = _union(_late(rows) if not asks else rows, span)
        paths = self._paths.get(flow["name"], [])
        paths = list(dict.fromkeys(_reversed(path) for path in paths)) if asks else paths
        parts: Parts = defaultdict(int)
        waited = (Cause.UNKNOWN, "a request was open" if asks else "a message was late")
        known: dict[int, tuple[Cause, Kind] | None] = {}
        for wait in waits:
            for at_ns, waited_ns in self._pieces(wait, paths):
                if at_ns not in known:
                    known[at_ns] = self._links_at(at_ns, paths, span)
                parts[known[at_ns] or waited] += waited_ns
        idle_ns = span[1] - span[0] - sum(end_ns - start_ns for start_ns, end_ns in waits)
        parts[Cause.APPLICATION, "no request was open" if asks else "no message was late"] = idle_ns
        return (SERVER_TO_CLIENT if asks else CLIENT_TO_SERVER), parts

    def _pieces(self, wait: Stretch, paths: Sequence[Path]) -> Iterator[tuple[int, int]]:
        """Divide a time by the intervals of the links' rows: the end of each, and its part."""
        position = wait[0]
        times = self._links.times(paths)
        for at_ns in times[bisect_right(times, position) :]:
            until_ns = min(at_ns, wait[1])
            yield at_ns, until_ns - position
            position = until_ns
            if position == wait[1]:
                return
        yield wait[1], wait[1] - position

    def _links_at(
        self, at_ns: int, paths: Sequence[Path], span: Stretch
    ) -> tuple[Cause, Kind] | None:
        """Return what links explain of the interval that ends at ``at_ns``; None for nothing."""
        up = [path for path in paths if not self._links.is_down(path, at_ns)]
        if paths and not up:
            return Cause.LINK, DownPaths(tuple(path.name for path in paths))
        full = [name for path in up if (name := self._links.full(path, at_ns, span))]
        if full and len(full) == len(up):
            return Cause.LINK, FullLinks(tuple(dict.fromkeys(full)))
        return None

    def _end_ns(self, flow: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> int:
        """Return when a flow was done: with all that it was to do, when it stopped, or never."""
        end_ns: int = min(flow["stop_ns"] or self._measured_ns, self._measured_ns)
        workload = flow["workload"]
        count: int | None = workload.get("count")
        ends: list[int | None] = [row["end_ns"] for row in rows]
        known = [end for end in ends if end is not None]
        if count and len(ends) == len(known) >= count * (1 + workload.get("objects", 0)):
            end_ns = min(end_ns, max(known))
        start_ns: int = flow["start_ns"]
        return max(end_ns, start_ns + 1)


def _table(flow: Mapping[str, Any]) -> str:
    """Return the table that tells of a flow; "" for none, and where there are no connections."""
    if not flow.get("workload") or flow["protocol"] == "udp":
        return ""
    application = flow.get("application")
    if application == "paced":
        return "messages"
    return "requests" if application in ("request-response", "web", "video") else ""


def _late(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the messages that took longer than it takes, those that did not arrive among them."""
    took = [row["end_ns"] - row["start_ns"] for row in rows if row["end_ns"] is not None]
    least = min(took, default=0)
    return [
        row
        for row in rows
        if row["end_ns"] is None or row["end_ns"] - row["start_ns"] > _LATE * least
    ]


def _union(rows: Iterable[Mapping[str, Any]], span: Stretch) -> list[Stretch]:
    """Return the times within ``span`` in which anything was under way, in order."""
    stretches: list[Stretch] = []
    for start_ns, end_ns in sorted(
        (row["start_ns"], span[1] if row["end_ns"] is None else row["end_ns"]) for row in rows
    ):
        start_ns, end_ns = max(start_ns, span[0]), min(end_ns, span[1])
        if stretches and start_ns <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(stretches[-1][1], end_ns))
        elif end_ns > start_ns:
            stretches.append((start_ns, end_ns))
    return stretches


def _reversed(path: Path) -> Path:
    """Return a path in the direction of the responses."""
    other = {"forward": "backward", "backward": "forward"}

    def back(links: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return tuple((link, other[direction]) for link, direction in links)

    return replace(
        path,
        source=path.destination,
        destination=path.source,
        links=back(path.links)[::-1],
        nics=tuple((name, rate_bps, back(links)) for name, rate_bps, links in path.nics),
    )
