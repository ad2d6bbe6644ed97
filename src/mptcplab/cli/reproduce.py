"""``mptcplab reproduce``: run the report's experiments with their sweeps and sum them up."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mptcplab.cli.testbeds import DEFAULT, TESTBEDS

if TYPE_CHECKING:
    from mptcplab.report.sweep import Variant
    from mptcplab.results.run import Run
    from mptcplab.scenario import Scenario, ScenarioError
    from mptcplab.scenario.model import SweepPoint

AS_REPORTED = "as reported"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "reproduce",
        help="run experiments with their sweeps and sum them up",
        description="Run the report's experiments (or scenario files with a sweep) and write a "
        "summary that compares them with what the report measured.",
        epilog="Runs that --out already holds are not made again, so that an interrupted command "
        "continues where it stopped. Exit status: 0 every run is valid, 1 one is not, 2 bad input, "
        "3 this machine cannot.",
    )
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help="scenario files, or built-in names (default: A to I)",
    )
    parser.add_argument(
        "--on",
        action="append",
        choices=sorted(TESTBEDS),
        help=f"the testbed (repeatable; default: {DEFAULT})",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a key of every scenario, as in hosts.*.cpu=none (repeatable)",
    )
    parser.add_argument(
        "--duration", metavar="T", help="duration of every run; timeline and flows scale with it"
    )
    parser.add_argument(
        "--time-scale",
        type=float,
        metavar="X",
        help="multiply all times of timeline and flows by X",
    )
    parser.add_argument(
        "--point",
        dest="points",
        metavar="LABEL",
        action="append",
        help="run only the point of the sweep with this label (repeatable; default: all)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for all runs and the summary"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run them; 0 where every run is valid, 1 where one is not."""
    from mptcplab.scenario import experiments, load

    names = args.scenarios or [each.name for each in experiments() if each.figures]
    given = tuple(args.overrides)
    scenarios = {name: load(name, overrides=given, **_times(args)) for name in names}
    out = args.out or Path("runs") / time.strftime("reproduce-%Y%m%d-%H%M%S")
    planned = {name: _planned(args, name, scenario) for name, scenario in scenarios.items()}
    total = sum(
        len(variant.testbeds or _testbeds(args))
        for versions in planned.values()
        for variant, _ in versions
    )
    results: dict[str, list[Variant]] = {}
    done = 0
    for name, versions in planned.items():
        for variant, version in versions:
            for testbed in variant.testbeds or _testbeds(args):
                done += 1
                place = f"{version.name} {variant.label} on {testbed}, run {done} of {total}"
                folder = out / testbed / version.name / _slug(variant.label)
                variant.runs[testbed] = _finished(testbed, version, folder, place)
            results.setdefault(name, []).append(variant)
        _draw(out, scenarios[name], results[name])
        _write(out, scenarios, results)  # so that there is a summary even if a later run fails
    summary, text = _write(out, scenarios, results)
    print(json.dumps(summary) if args.json else f"{text}\n\nSummary  {out / 'summary.txt'}")
    runs = [run for each in results.values() for variant in each for run in variant.runs.values()]
    return 0 if all(run.metadata["valid"] for run in runs) else 1


def _testbeds(args: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys(args.on or [DEFAULT]))


def _times(args: argparse.Namespace) -> dict[str, Any]:
    from mptcplab.units import parse_duration

    duration_ns = None if args.duration is None else parse_duration(args.duration)
    return {"duration_ns": duration_ns, "time_scale": args.time_scale}


def _planned(
    args: argparse.Namespace, name: str, scenario: Scenario
) -> list[tuple[Variant, Scenario]]:
    """Return the points of an experiment's sweep, and the scenario as it stands if none is it."""
    from mptcplab.report.sweep import Variant
    from mptcplab.scenario import load
    from mptcplab.scenario.to_json import as_plain

    wanted = set(args.points) if args.points else None
    _check_points(wanted, scenario)
    staged = [value for value in scenario.report.measured if value.stage is not None]
    planned = []
    for point in scenario.sweep.points:
        unable = point.testbed and point.testbed not in _testbeds(args)
        if point.label in wanted if wanted else not unable:
            if unable:
                raise _only_on(point, scenario)
            changes = (*args.overrides, *point.overrides)
            version = load(name, overrides=changes, **_times(args))
            measured = [*point.measured, *staged]
            testbeds = (point.testbed,) if point.testbed else ()
            variant = Variant(
                point.label, as_plain(measured), point.figures, testbeds, point.inspected
            )
            planned.append((variant, version))
    alike = replace(scenario, overrides=())
    if not planned or (
        wanted is None and all(replace(version, overrides=()) != alike for _, version in planned)
    ):
        report = scenario.report
        variant = Variant(AS_REPORTED, as_plain(report.measured), report.figures[:1])
        planned.insert(0, (variant, scenario))
    return planned


def _only_on(point: SweepPoint, scenario: Scenario) -> ScenarioError:
    from mptcplab.scenario import ScenarioError

    problem = f'"{point.label}" runs on the {point.testbed} testbed alone'
    return ScenarioError(scenario.source, "--point", problem, f"--on {point.testbed}")


def _check_points(wanted: set[str] | None, scenario: Scenario) -> None:
    """Raise ScenarioError for a point that is not in the sweep."""
    from mptcplab.scenario import ScenarioError

    labels = [point.label for point in scenario.sweep.points]
    for name in sorted(wanted or ()):
        if name not in labels:
            expected = "; ".join(labels) or "no --point: the scenario has no sweep"
            raise ScenarioError(scenario.source, "--point", f'there is no "{name}"', expected)


def _finished(testbed: str, scenario: Scenario, folder: Path, place: str) -> Run:
    """Return the finished run in a folder, which is run first where it is missing.

    KeyboardInterrupt where it was stopped; its results are kept until it is run again.
    """
    from mptcplab.cli.progress import progress_for
    from mptcplab.cli.testbeds import run_on
    from mptcplab.report.figure import draw_throughput
    from mptcplab.results.run import Run, RunError
    from mptcplab.scenario.to_json import as_plain

    if folder.exists():
        finished = Run(folder)
        if finished.scenario != json.loads(json.dumps(as_plain(scenario))):
            raise RunError(f"{folder}: holds a run with other settings; choose another --out")
        if not finished.is_cut:
            return finished
        shutil.rmtree(folder)
    print(place, file=sys.stderr)
    progress = progress_for(place, scenario.duration_ns)
    try:
        run_on(testbed, scenario, folder, progress)
    finally:
        progress.close()
    finished = Run(folder)
    draw_throughput(finished, folder / "throughput")
    if finished.is_cut:
        raise KeyboardInterrupt
    return finished


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-").lower()


def _draw(out: Path, scenario: Scenario, variants: list[Variant]) -> None:
    """Draw an experiment's figures, named after the report's."""
    from mptcplab.report.figure import draw_side_by_side
    from mptcplab.report.sweep import draw_sweep

    title = f"{scenario.name}: {scenario.title}"
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for variant in variants:
        stem = _figure_name(variant.figures) or f"{scenario.name}-{_slug(variant.label)}"
        label = "" if variant.label == AS_REPORTED else f", {variant.label}"
        draw_side_by_side(f"{title}{label}", variant.runs, variant.measured, folder / stem)
        _draw_captures(variant, folder)
    if len(variants) > 1:
        stem = _figure_name(scenario.sweep.figures) or f"{scenario.name}-sweep"
        draw_sweep(title, scenario.sweep.axis, variants, folder / stem)


def _draw_captures(variant: Variant, folder: Path) -> None:
    """Draw what the report read from captures, a figure for each testbed."""
    if not variant.inspected:
        return
    from tempfile import TemporaryDirectory

    from mptcplab.trace.output.figures import draw
    from mptcplab.trace.testbed_run import run_captures
    from mptcplab.trace.trace import open_trace

    for testbed, finished in variant.runs.items():
        captures, *_ = run_captures(finished.folder).values()
        trace = open_trace(captures, None)
        with TemporaryDirectory() as scratch:
            drawn = draw(trace, trace.connections[0], Path(scratch)) if trace.connections else []
            for name, number in variant.inspected:
                for path in drawn:
                    if path.stem.endswith(f"-{name}"):
                        shutil.copy(path, folder / f"figure-{number}-{testbed}{path.suffix}")


def _figure_name(numbers: Sequence[int]) -> str:
    return "-".join(["figure", *map(str, numbers)]) if numbers else ""


def _write(
    out: Path, scenarios: dict[str, Scenario], results: dict[str, list[Variant]]
) -> tuple[list[dict[str, Any]], str]:
    summary = [_entry(scenarios[name], variants) for name, variants in results.items()]
    text = _table(summary)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (out / "summary.txt").write_text(text + "\n")
    return summary, text


def _entry(scenario: Scenario, variants: list[Variant]) -> dict[str, Any]:
    from mptcplab.report.sweep import rows_of

    return {
        "experiment": scenario.name,
        "title": scenario.title,
        "section": scenario.report.section,
        "findings": [
            f"{each.text} ({each.source})"
            for each in scenario.report.findings
            if each.stage is None
        ],
        "runs": [
            {
                "label": variant.label,
                "figures": list(variant.figures),
                "rows": [
                    {
                        "what": row.what,
                        "measured_bps": dict(row.measured_bps),
                        "report_bps": list(row.report_bps),
                        "capacity_bps": row.capacity_bps,
                        "findings": list(row.findings),
                    }
                    for row in rows_of(variant)
                ],
                "testbeds": {
                    name: {"valid": run.metadata["valid"], "run": str(run.folder)}
                    for name, run in variant.runs.items()
                },
            }
            for variant in variants
        ],
    }


def _table(summary: list[dict[str, Any]]) -> str:
    from mptcplab.cli.columns import columns
    from mptcplab.units import format_rate

    points = [point for entry in summary for point in entry["runs"]]
    testbeds = list(dict.fromkeys(name for point in points for name in point["testbeds"]))
    rows = [["", "", "", *testbeds, "2012", "could carry"]]
    for entry in summary:
        rows.append([entry["experiment"], entry["title"], "", *[""] * (len(testbeds) + 2)])
        for point in entry["runs"]:
            for index, row in enumerate(point["rows"]):
                cells = []
                for name in testbeds:
                    if name not in row["measured_bps"]:
                        cells.append("")
                        continue
                    rate = row["measured_bps"][name]
                    valid = point["testbeds"][name]["valid"]
                    shown = "too short" if rate is None else format_rate(rate)
                    cells.append(shown if valid else f"{shown} (not valid)")
                report = " or ".join(format_rate(value) for value in row["report_bps"])
                if row["findings"] and not report:
                    report = "no value; below"
                carry = "" if row["capacity_bps"] is None else format_rate(row["capacity_bps"])
                label = point["label"] if not index else ""
                rows.append(["", label, row["what"], *cells, report, carry])
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    text = columns(rows, left=3, indent="")
    for entry in summary:
        found = entry["findings"] + [
            f"{row['what'].removeprefix('goodput, ')}: {finding}"
            for row in entry["runs"][0]["rows"]
            for finding in row["findings"]
        ]
        text += "".join(f"\n{entry['experiment']} in 2012: {each}" for each in found)
    return text
