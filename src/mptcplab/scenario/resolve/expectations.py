"""The values of the 2012 report, the expectations of the verdict, and the points of a sweep."""

from __future__ import annotations

from typing import Any

from mptcplab.applications.workloads import Command, GridFtp
from mptcplab.scenario.errors import Path, Problems, nearest
from mptcplab.scenario.model import (
    Expectation,
    Finding,
    LatencyExpectation,
    Measured,
    Report,
    Scenario,
    Sweep,
    SweepPoint,
)

Values = dict[str, Any]


def _check_stage(row: Values, path: Path, scenario: Scenario, problems: Problems) -> None:
    stages = len(scenario.stages())
    if row["stage"] is not None and row["stage"] >= stages:
        problems.add(
            (*path, "stage"),
            f"{row['stage']} is not a stage: the timeline makes {stages}",
            f"0 to {stages - 1}",
        )


def _check_reference(row: Values, path: Path, scenario: Scenario, problems: Problems) -> None:
    _check_stage(row, path, scenario, problems)
    known = [
        "total",
        *(flow.name for flow in scenario.flows),
        *(link.name for link in scenario.topology.links),
    ]
    if row["of"] not in known:
        problems.add(
            (*path, "of"),
            f'there is no flow or link "{row["of"]}"',
            f"one of {', '.join(known)}",
            nearest(row["of"], known),
        )


def _measured(
    rows: list[Values], path: Path, scenario: Scenario, problems: Problems
) -> tuple[Measured, ...]:
    for index, row in enumerate(rows):
        _check_reference(row, (*path, str(index)), scenario, problems)
    return tuple(
        Measured(row["value"], row["source"], row["stage"], row["of"], row["note"], row["kind"])
        for row in rows
    )


def build_report(values: Values | None, scenario: Scenario, problems: Problems) -> Report:
    if values is None:
        return Report()
    measured = _measured(values["measured"], ("report", "measured"), scenario, problems)
    for index, row in enumerate(values["findings"]):
        _check_stage(row, ("report", "findings", str(index)), scenario, problems)
    findings = tuple(
        Finding(row["text"], row["source"], row["stage"]) for row in values["findings"]
    )
    return Report(values["section"], values["figures"], measured, values["summary"], findings)


def build_expectations(
    rows: list[Values], scenario: Scenario, problems: Problems
) -> tuple[Expectation, ...]:
    expectations = []
    for index, row in enumerate(rows):
        path = ("expect", str(index))
        if row["latency"] is not None:
            continue
        _check_reference(row, path, scenario, problems)
        if row["percentile"] is not None:
            problems.add(
                (*path, "percentile"), "is given without latency", "a latency, or none of the two"
            )
        at_least = row["at_least"] is not None
        expectations.append(
            Expectation(
                row["at_least"] if at_least else row["goodput"] or 0,
                row["tolerance"],
                row["stage"],
                row["of"],
                at_least,
                (scenario.settle_ns or 0) if row["settle"] is None else row["settle"],
                row["source"],
            )
        )
    return tuple(expectations)


def build_latency_expectations(
    rows: list[Values], scenario: Scenario, problems: Problems
) -> tuple[LatencyExpectation, ...]:
    """Return what is expected of the times that requests and messages take."""
    timed = [
        flow.name
        for flow in scenario.flows
        if flow.workload is not None and not isinstance(flow.workload, Command | GridFtp)
    ]
    expectations = []
    for index, row in enumerate(rows):
        path = ("expect", str(index))
        if row["latency"] is None:
            continue
        _check_stage(row, path, scenario, problems)
        if row["of"] not in timed:
            problems.add(
                (*path, "of"),
                f'"{row["of"]}" is no flow with requests or messages',
                f"one of {', '.join(timed)}" if timed else 'a flow such as application = "paced"',
                nearest(row["of"], timed),
            )
        if row["settle"] is not None:
            problems.add(
                (*path, "settle"), "is not for latency", "a stage, or no settle beside latency"
            )
        expectations.append(
            LatencyExpectation(
                row["latency"],
                row["of"],
                95.0 if row["percentile"] is None else row["percentile"],
                row["stage"],
                row["source"],
            )
        )
    return tuple(expectations)


def build_sweep(values: Values | None, scenario: Scenario, problems: Problems) -> Sweep:
    if values is None:
        return Sweep()
    points = []
    for index, row in enumerate(values["points"] or []):
        path = ("sweep", "points", str(index), "measured")
        points.append(
            SweepPoint(
                row["label"],
                row["set"],
                float(index) if row["x"] is None else row["x"],
                _measured(row["measured"], path, scenario, problems),
                row["figures"],
                row["on"],
                tuple(row["inspect"].items()),
            )
        )
    labels: set[str] = set()
    for index, label in enumerate(point.label for point in points):
        if label in labels:
            problems.add(
                ("sweep", "points", str(index), "label"),
                f'"{label}" is listed twice',
                "a different label for each point",
            )
        labels.add(label)
    over, zipped = (dict(values[key] or {}) for key in ("over", "zip"))
    for key in over.keys() & zipped.keys():
        problems.add(("sweep", "zip", key), "is in over too", "each key in one of them")
    if len({len(texts) for texts in zipped.values()}) > 1:
        problems.add(("sweep", "zip"), "its lists differ in length", "lists of one length")
    if not (points or over or zipped):
        problems.add(("sweep",), "varies nothing", "points, over or zip")
    return Sweep(
        values["axis"],
        tuple(points),
        values["figures"],
        tuple(over.items()),
        tuple(zipped.items()),
        values["repetitions"],
        values["precision"],
        values["settle"],
        values["metrics"],
    )
