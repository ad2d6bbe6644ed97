"""``mptcplab reproduce``: run the report's experiments with their sweeps and sum them up."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mptcplab.cli.repeated_runs import (
    PlannedRun,
    add_jobs_argument,
    finished,
    folder_names,
    made,
    repetitions_of,
    seeds_of,
    with_seed,
    workers_for,
)
from mptcplab.cli.scenario_arguments import add_plugins_argument
from mptcplab.cli.verbosity import add_verbosity_arguments, say
from mptcplab.testbeds import DEFAULT, TESTBEDS

if TYPE_CHECKING:
    from mptcplab.report.sweep import Row, Variant
    from mptcplab.results.run import Run
    from mptcplab.scenario import Scenario, ScenarioError
    from mptcplab.scenario.model import SweepPoint

AS_REPORTED = "as reported"
AS_IT_IS = "as it is"
_SWEEP = "sweep"
"""Ends the name of the figure of a whole sweep."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "reproduce",
        help="run experiments with their sweeps and sum them up",
        description="Run the report's experiments (or scenario files with a sweep) and write a "
        "summary that compares them with what the report measured. Several repetitions give means "
        "with 95 % confidence intervals.",
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
    add_plugins_argument(parser)
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
        "--repetitions",
        type=int,
        metavar="N",
        help="runs of each point, each with the next seed (default: the scenario's)",
    )
    add_jobs_argument(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for all runs and the summary"
    )
    add_verbosity_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run them; 0 where every run is valid, 1 where one is not."""
    from mptcplab.scenario import experiments

    names = args.scenarios or [each.name for each in experiments() if each.figures]
    scenarios = _loaded(args, names)
    out = args.out or Path("runs") / time.strftime("reproduce-%Y%m%d-%H%M%S")
    planned = {name: _planned(args, name, scenario) for name, scenario in scenarios.items()}
    counts = {
        name: repetitions_of(args, scenario.repetitions) for name, scenario in scenarios.items()
    }
    points = {
        name: folder_names(
            [*(p.label for p in scenario.sweep.points), _base_label(scenario)], (_SWEEP,)
        )
        for name, scenario in scenarios.items()
    }
    results = {name: [variant for variant, _ in each] for name, each in planned.items()}
    left: dict[str, list[PlannedRun]] = {name: [] for name in planned}
    for name, versions in planned.items():
        for variant, version in versions:
            for testbed in variant.testbeds or _testbeds(args):
                folder = out / testbed / version.name / points[name][variant.label]
                several = _planned_runs(testbed, version, counts[name], folder, variant.label)
                variant.planned[testbed] = [each.folder for each in several]
                left[name] += [each for each in several if finished(each) is None]
    _make(args, left, lambda name: _sum_up(out, name, scenarios, results, points))
    summary, text = _write(out, scenarios, results)
    print(json.dumps(summary) if args.json else f"{text}\n\nSummary  {out / 'summary.txt'}")
    runs = [
        run
        for each in results.values()
        for variant in each
        for several in variant.runs.values()
        for run in several
    ]
    return 0 if all(run.metadata["valid"] for run in runs) else 1


def _loaded(args: argparse.Namespace, names: Sequence[str]) -> dict[str, Scenario]:
    """Return the scenarios by what was given for them, each file once, all of different names."""
    from mptcplab.scenario import ScenarioError, load

    scenarios: dict[str, Scenario] = {}
    files: dict[str, Path] = {}
    for name in names:
        scenario = load(name, overrides=tuple(args.overrides), **_loading(args))
        file = Path(scenario.source).resolve()
        other = files.setdefault(scenario.name.casefold(), file)
        if other != file:
            raise ScenarioError(
                name,
                "",
                f"has the name of {other}, and its runs would stand in the same folder",
                "files of different names, or a command for each",
            )
        if file not in (Path(each.source).resolve() for each in scenarios.values()):
            scenarios[name] = scenario
    return scenarios


def _testbeds(args: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys(args.on or [DEFAULT]))


def _loading(args: argparse.Namespace) -> dict[str, Any]:
    from mptcplab.units import parse_duration

    duration_ns = None if args.duration is None else parse_duration(args.duration)
    return {
        "duration_ns": duration_ns,
        "time_scale": args.time_scale,
        "plugins": args.plugins,
    }


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
            changes = (*point.overrides, *args.overrides)  # what is asked for here counts
            version = load(name, overrides=changes, check_points=False, **_loading(args))
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
        variant = Variant(_base_label(scenario), as_plain(report.measured), report.figures[:1])
        planned.insert(0, (variant, scenario))
    return planned


def _only_on(point: SweepPoint, scenario: Scenario) -> ScenarioError:
    from mptcplab.scenario import ScenarioError

    problem = f'"{point.label}" runs on the {point.testbed} testbed alone'
    return ScenarioError(scenario.source, "--point", problem, f"--on {point.testbed}")


def _base_label(scenario: Scenario) -> str:
    """Return the label of the scenario without any point of its sweep; no point has it."""
    label = AS_REPORTED if scenario.report.section or scenario.report.measured else AS_IT_IS
    while any(point.label == label for point in scenario.sweep.points):
        label += ", no point"
    return label


def _check_points(wanted: set[str] | None, scenario: Scenario) -> None:
    """Raise ScenarioError for a point that is not in the sweep."""
    from mptcplab.scenario import ScenarioError

    labels = [point.label for point in scenario.sweep.points]
    for name in sorted(wanted or ()):
        if name not in labels:
            expected = "; ".join(labels) or "no --point: the scenario has no sweep"
            raise ScenarioError(scenario.source, "--point", f'there is no "{name}"', expected)


def _planned_runs(
    testbed: str, scenario: Scenario, repetitions: int, folder: Path, label: str
) -> list[PlannedRun]:
    """Return the runs of a point: in the folder itself, or one for each seed within it."""
    seeds = seeds_of(testbed, scenario, repetitions)
    planned = []
    for number, seed in enumerate(seeds, 1):
        title, place = f"{scenario.name} {label} on {testbed}", folder
        if repetitions > 1:
            title += f", seed {seed}, run {number} of {len(seeds)}"
            place = folder / str(seed)
        planned.append(PlannedRun(testbed, with_seed(scenario, seed), place, title))
    return planned


def _make(
    args: argparse.Namespace,
    left: dict[str, list[PlannedRun]],
    sum_up: Callable[[str], None],
) -> None:
    """Make the runs that are left, by experiment; sum each up once it has all of its own.

    KeyboardInterrupt where one was stopped; its results are kept until it is made again.
    """
    from mptcplab.report.figure import draw_throughput

    names = {each.folder: name for name, several in left.items() for each in several}
    missing = {name: len(several) for name, several in left.items()}
    for name, count in missing.items():
        if not count:
            sum_up(name)
    for testbed in _testbeds(args):
        planned = [each for each in chain(*left.values()) if each.testbed == testbed]
        workers = workers_for(testbed, args.jobs if testbed == "simulated" else None, len(planned))
        for number, (each, run) in enumerate(made(planned, workers), 1):
            draw_throughput(run, each.folder / "throughput")
            say(f"[{number}/{len(planned)}] {each.title}")
            name = names[each.folder]
            missing[name] -= 1
            if not missing[name]:
                sum_up(name)


def _sum_up(
    out: Path,
    name: str,
    scenarios: dict[str, Scenario],
    results: dict[str, list[Variant]],
    points: dict[str, dict[str, str]],
) -> None:
    """Draw an experiment whose runs are all there, and write the summary of all of those."""
    from mptcplab.results.run import Run

    for variant in results[name]:
        for testbed, folders in variant.planned.items():
            variant.runs[testbed] = [Run(folder) for folder in folders]
    _draw(out, scenarios[name], results[name], points[name])
    _write(out, scenarios, results)  # so that there is a summary even if a later run fails


def _draw(out: Path, scenario: Scenario, variants: list[Variant], names: dict[str, str]) -> None:
    """Draw an experiment's figures, named after the report's where it has one of that run alone."""
    from mptcplab.report.figure import draw_side_by_side
    from mptcplab.report.repetitions import valid_ones
    from mptcplab.report.sweep import draw_sweep

    title = f"{scenario.name}: {scenario.title}" if scenario.title else scenario.name
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    stems = [_figure_name(figures) for figures in _figures(scenario, variants)]
    for variant in variants:
        stem = _figure_name(variant.figures)
        if not stem or stems.count(stem) > 1:
            stem = f"{scenario.name}-{names[variant.label]}"
        label = "" if variant.label == _base_label(scenario) else f", {variant.label}"
        shown = {testbed: valid_ones(runs) or runs for testbed, runs in variant.runs.items()}
        draw_side_by_side(f"{title}{label}", shown, variant.measured, folder / stem)
        _draw_captures(shown, variant.inspected, folder)
    if len(variants) > 1:
        stem = _figure_name(scenario.sweep.figures)
        if not stem or stems.count(stem) > 1:
            stem = f"{scenario.name}-{_SWEEP}"
        draw_sweep(title, scenario.sweep.axis, variants, folder / stem)


def _draw_captures(
    runs: dict[str, list[Run]], inspected: Sequence[tuple[str, int]], folder: Path
) -> None:
    """Draw what the report read from captures, a figure for each testbed: of its first run."""
    if not inspected:
        return
    from tempfile import TemporaryDirectory

    from mptcplab.trace.output.figures import draw
    from mptcplab.trace.testbed_run import run_captures
    from mptcplab.trace.trace import open_trace

    for testbed, several in runs.items():
        captures, *_ = run_captures(several[0].folder).values()
        trace = open_trace(captures, None)
        with TemporaryDirectory() as scratch:
            drawn = draw(trace, trace.connections[0], Path(scratch)) if trace.connections else []
            for name, number in inspected:
                for path in drawn:
                    if path.stem.endswith(f"-{name}"):
                        shutil.copy(path, folder / f"figure-{number}-{testbed}{path.suffix}")


def _figures(scenario: Scenario, variants: list[Variant]) -> list[Sequence[int]]:
    """Return the report's figures of every drawing, also of points that are not run this time."""
    points = [point.figures for point in scenario.sweep.points]
    base = [variant.figures for variant in variants if variant.label == _base_label(scenario)]
    return [*points, *base, scenario.sweep.figures]


def _figure_name(numbers: Sequence[int]) -> str:
    return "-".join(["figure", *map(str, numbers)]) if numbers else ""


def _write(
    out: Path, scenarios: dict[str, Scenario], results: dict[str, list[Variant]]
) -> tuple[list[dict[str, Any]], str]:
    summary = [
        _entry(scenarios[name], variants)
        for name, variants in results.items()
        if all(variant.runs for variant in variants)
    ]
    text = _table(summary)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (out / "summary.txt").write_text(text + "\n")
    return summary, text


def _entry(scenario: Scenario, variants: list[Variant]) -> dict[str, Any]:
    from mptcplab.report.repetitions import invalid_reasons, valid_ones
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
                "rows": [_row(row) for row in rows_of(variant)],
                "testbeds": {
                    name: {
                        "valid": len(valid_ones(runs)) == len(runs),
                        "valid_runs": len(valid_ones(runs)),
                        "invalid_reasons": invalid_reasons(runs),
                        "run": str(runs[0].folder),
                        "runs": [str(run.folder) for run in runs],
                    }
                    for name, runs in variant.runs.items()
                },
            }
            for variant in variants
        ],
    }


def _row(row: Row) -> dict[str, Any]:
    """Return a row as JSON: rates under ``measured_bps``, times under ``measured_s``."""
    unit = "s" if row.is_time else "bps"
    values = row.measured.items()
    return {
        "what": row.what,
        f"measured_{unit}": {name: None if each is None else each.mean for name, each in values},
        f"margin_{unit}": {name: None if each is None else each.margin for name, each in values},
        "report_bps": list(row.report_bps),
        "capacity_bps": row.capacity_bps,
        "findings": list(row.findings),
    }


def _table(summary: list[dict[str, Any]]) -> str:
    """Return the summary as text; what the report measured, and what its links could carry, have
    a column each where there is any.
    """
    from mptcplab.text_table import columns
    from mptcplab.units import format_rate

    points = [point for entry in summary for point in entry["runs"]]
    testbeds = list(dict.fromkeys(name for point in points for name in point["testbeds"]))
    in_rows = [row for point in points for row in point["rows"]]
    reported = any(row["report_bps"] or row["findings"] for row in in_rows)
    carrying = any(row["capacity_bps"] is not None for row in in_rows)
    last = [*(["2012"] if reported else []), *(["could carry"] if carrying else [])]
    rows = [["", "", "", *testbeds, *last]]
    for entry in summary:
        blank = [""] * (len(testbeds) + len(last))
        rows.append([entry["experiment"], entry["title"], "", *blank])
        for point in entry["runs"]:
            for index, row in enumerate(point["rows"]):
                cells = [_cell(row, point["testbeds"].get(name), name) for name in testbeds]
                if reported:
                    report = " or ".join(format_rate(value) for value in row["report_bps"])
                    cells.append(report or ("no value; below" if row["findings"] else ""))
                if carrying:
                    carry_bps = row["capacity_bps"]
                    cells.append("" if carry_bps is None else format_rate(carry_bps))
                rows.append(["", point["label"] if not index else "", row["what"], *cells])
    lines = [columns(rows, left=3, indent="", fitted=False)]
    for entry in summary:
        found = entry["findings"] + [
            f"{row['what'].removeprefix('goodput, ')}: {finding}"
            for row in entry["runs"][0]["rows"]
            for finding in row["findings"]
        ]
        lines += [f"{entry['experiment']} in 2012: {each}" for each in found]
    lines += _remarks(points)
    return "\n".join(lines)


def _cell(row: dict[str, Any], runs: dict[str, Any] | None, testbed: str) -> str:
    """Return one mean as text, with what is not valid about it; "" where nothing ran there."""
    from mptcplab.report.comparison import Quantity, with_margin
    from mptcplab.results.statistics import Estimate

    if runs is None:
        return ""
    unit = "s" if "measured_s" in row else "bps"
    mean, margin = (row[f"{kind}_{unit}"][testbed] for kind in ("measured", "margin"))
    count = runs["valid_runs"]
    shown = "not done in time" if unit == "s" else "too short"
    if mean is not None:
        quantity = Quantity(row["what"], unit == "s")
        shown = with_margin(quantity.text, Estimate(mean, margin, count))
    if runs["valid"]:
        return shown
    if not count:
        return "not valid"
    return f"{shown} ({count} of {len(runs['runs'])} valid)"


def _remarks(points: list[dict[str, Any]]) -> list[str]:
    """Return what to know of the table: what the intervals are, and which runs do not count."""
    runs = [testbed for point in points for testbed in point["testbeds"].values()]
    lines = []
    if any(len(each["runs"]) > 1 for each in runs):
        lines.append("Means over the valid runs, ± 95 % confidence (Student's t).")
    for point in points:
        for name, each in point["testbeds"].items():
            label = f"{point['label']} on {name}"
            lines += [f"NOT VALID  {label}, {reason}" for reason in each["invalid_reasons"]]
    return ["", *lines] if lines else []
