"""When the middleboxes of a scenario are switched on, and what they may do to its flows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.network.topology import Path
from mptcplab.scenario.model import Scenario

_STATEFUL: Final = ("nat", "firewall", "randomise-sequence")


class BoxStates:
    """The boxes of one kind over the time of the run, timeline included."""

    def __init__(self, scenario: Scenario, kind: str) -> None:
        self._boxes: dict[str, list[MiddleboxPlan]] = {}
        for link in scenario.topology.links:
            for box in link.boxes:
                if box.kind == kind:
                    self._boxes.setdefault(link.name, []).append(box)
        self._actions = [each for each in scenario.timeline if each.target_kind == "middlebox"]

    def any_enabled(self, path: Path, at_ns: int) -> bool:
        """Say whether one on a path is switched on after the actions at ``at_ns``."""
        return any(
            self._is_enabled(box, at_ns)
            for link in path.passed
            for box in self._boxes.get(link, ())
        )

    def _is_enabled(self, box: MiddleboxPlan, at_ns: int) -> bool:
        enabled = box.enabled
        for action in self._actions:
            if action.at_ns <= at_ns and action.target == box.target:
                enabled = action.verb == "enable"
        return enabled


def interfering(scenario: Scenario, paths: Iterable[Path]) -> tuple[str, ...]:
    """Return the boxes on paths that may keep MPTCP, subflows or bytes from passing unharmed.

    Paths are those of the client.  NATs that its connections come to from outside are among them,
    and stateful boxes that the timeline switches while they remember connections.
    """
    switched = {each.target for each in scenario.timeline if each.target_kind == "middlebox"}
    found: dict[str, None] = {}
    for path in paths:
        refusing = {box.target for box in closed_to(scenario, path)}
        for link in path.possible:
            for box in scenario.topology.link(link).boxes:
                forgets = box.kind in _STATEFUL and box.target in switched
                if box.interferes or forgets or box.target in refusing:
                    found[box.target] = None
    return tuple(found)


def closed_to(scenario: Scenario, path: Path) -> Iterator[MiddleboxPlan]:
    """Yield the NATs and firewalls that a path comes to from outside: they let nobody in."""
    for name, direction in scenario.topology.directions(path):
        link = scenario.topology.link(name)
        for box in link.far_boxes if direction == "forward" else link.near_boxes:
            if box.kind in ("nat", "firewall"):
                yield box


def report_boxes(
    scenario: Scenario, tallies: Mapping[tuple[str, str, int], Mapping[str, object]]
) -> list[dict[str, object]]:
    """Return what ``run.json`` says of each box.

    ``tallies`` holds what each did under the link's name, its end ("near" or "far")
    and its place there.
    """
    rows: list[dict[str, object]] = []
    for link in scenario.topology.links:
        for end, boxes in (("near", link.near_boxes), ("far", link.far_boxes)):
            for place, box in enumerate(boxes):
                row: dict[str, object] = {
                    "name": box.target,
                    "kind": box.kind,
                    "link": link.name,
                    "end": str(link.a if end == "near" else link.b),
                }
                rows.append(row | dict(tallies.get((link.name, end, place), {})))
    return rows


def idle_boxes(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Return a note for each box of :func:`report_boxes` that did nothing to any packet."""
    return [
        f"{row['name']}: the middlebox ({row['kind']} on {row['link']}) changed and dropped "
        "nothing in this run"
        for row in rows
        if row["kind"] != "firewall" and not _acted(row)
    ]


def _acted(row: Mapping[str, object]) -> bool:
    for way in ("forward", "backward"):
        counts = row.get(way)
        if isinstance(counts, Mapping) and (counts["changed"] or counts["dropped"]):
            return True
    return False
