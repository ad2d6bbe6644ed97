"""``mptcplab sweep``: run a scenario over many settings and seeds, and sum the runs up."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mptcplab.cli.repeated_runs import DEFAULT_REPETITIONS, repetitions_of
from mptcplab.cli.scenario_arguments import add_scenario_arguments, load_scenario
from mptcplab.cli.verbosity import VERBOSE, add_verbosity_arguments, say
from mptcplab.testbeds import DEFAULT, TESTBEDS

if TYPE_CHECKING:
    from mptcplab.scenario import Scenario
    from mptcplab.sweeps.design import Design, Point
    from mptcplab.sweeps.distributions import Distribution
    from mptcplab.sweeps.engine import Workers
    from mptcplab.sweeps.summary import Cell
    from mptcplab.sweeps.sweep import Sweep
    from mptcplab.sweeps.tasks import Row

_SHOWN_POINTS: Final = 40
"""Rows of a table in the terminal; the files have all of them."""
_SHOWN_METRICS: Final = 2
_SHOWN_REASONS: Final = 5


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "sweep",
        help="run a scenario over many settings and seeds, and sum the runs up",
        description="Run a scenario with every combination of the values that --over lists (and "
        "--zip lists side by side, and of draws from ranges), each with several seeds, on all "
        "cores. The folder holds a table with a row for each run and metric, a summary with means, "
        "95 % intervals and tests against the first point, and figures. The same command goes on "
        "where an earlier one stopped.",
        epilog="Examples: mptcplab sweep my.toml --over 'flows.*.buffer=256KB,1MB,4MB' --over "
        "'hosts.*.scheduler=default,round-robin' --repetitions 10; mptcplab sweep my.toml --over "
        "'links.lte.delay=5..200ms:log' --draws 40. Exit status: 0 every run is valid, 1 one is "
        "not, 2 bad input, 3 this machine cannot.",
    )
    add_scenario_arguments(parser)
    parser.add_argument(
        "--over",
        metavar="KEY=A,B,C",
        action="append",
        default=[],
        help="values of a key, as in --set, or a range to draw from: KEY=LOW..HIGH, with :log for "
        "even draws of the logarithm (repeatable: all combinations)",
    )
    parser.add_argument(
        "--zip",
        dest="zipped",
        metavar="KEY=A,B,C",
        action="append",
        default=[],
        help="values of a key that go with those of the other --zip, the first with the first",
    )
    parser.add_argument(
        "--draws", type=int, metavar="N", help="points to draw from the ranges of --over together"
    )
    parser.add_argument(
        "--sampling",
        choices=("latin", "random"),
        default="latin",
        help="draws: a Latin hypercube, or each by itself (default: %(default)s)",
    )
    parser.add_argument(
        "--repetitions",
        type=int,
        metavar="N",
        help="runs of each point, each with the next seed (default: the scenario's, or "
        f"{DEFAULT_REPETITIONS})",
    )
    parser.add_argument(
        "--precision",
        metavar="P",
        help="go on until the 95 %% interval of each mean is within this part of it, as in 5%%",
    )
    parser.add_argument(
        "--metric",
        dest="metrics",
        metavar="NAME",
        action="append",
        default=[],
        help='what is summed up and drawn, as in "goodput of bulk" (repeatable; default: all)',
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at a time (default: a core each; Linux: 1)"
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="the Dask scheduler whose workers make the runs, or local:N for N workers here",
    )
    parser.add_argument(
        "--on", choices=sorted(TESTBEDS), default=DEFAULT, help="the testbed (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for everything")
    parser.add_argument("--keep-runs", action="store_true", help="keep the folder of every run")
    parser.add_argument(
        "--series",
        action="store_true",
        help="keep flows, links, subflows, requests over time of all",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the points and run nothing")
    add_verbosity_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the sweep; 0 where every run is valid, 1 where one is not."""
    sweep = planned(args)
    if args.dry_run:
        _list_points(sweep, args.json)
        return 0
    workers = _workers(args)
    with sweep.store.opened(sweep.settings()):
        try:
            _make(sweep, workers)
        except KeyboardInterrupt as stop:
            done = len(sweep.rows)
            stop.add_note(f"{done} runs are done in {sweep.store.folder}: the same command goes on")
            raise
        finally:
            sweep.write_tables()
        figures = _draw(sweep)
    if args.json:
        print(json.dumps(as_json(sweep)))
    else:
        print(sweep_text(sweep))
        print(f"\nTables   {sweep.store.folder}/runs.parquet, summary.parquet")
        for figure in figures:
            print(f"Figure   {figure}")
    return 0 if all(row.valid for row in sweep.rows) else 1


def planned(args: argparse.Namespace) -> Sweep:
    """Return the sweep that the arguments and the scenario's file ask for, all points checked."""
    from mptcplab.scenario import ScenarioError
    from mptcplab.sweeps.sweep import Asked, Sweep
    from mptcplab.units import UnitError, parse_fraction

    base = load_scenario(args)
    design = _design(args, base)
    common = list(args.overrides)

    def load(point: Point) -> Scenario:
        # What is asked for here counts more than what the points of a file set, and what is varied
        # more than either: "--set links.*.rate=..." may stand beside "--over links.a.rate=...".
        both = (point.overrides, common) if design.labelled else (common, point.overrides)
        args.overrides = [override for overrides in both for override in overrides]
        scenario = load_scenario(args, check_points=False)
        settle_ns = base.sweep.settle_ns
        return scenario if settle_ns is None else replace(scenario, settle_ns=settle_ns)

    precision = base.sweep.precision
    if args.precision is not None:
        try:
            precision = parse_fraction(args.precision)
        except UnitError as error:
            raise ScenarioError("--precision", "", str(error), "5% or 0.05") from error
    if precision is not None and not 0 < precision < 1:
        raise ScenarioError("--precision", "", "is out of range", "above 0 and below 100%")
    stated = base.repetitions if base.repetitions > 1 else DEFAULT_REPETITIONS
    stated = base.sweep.repetitions or stated
    if precision is not None and args.repetitions is None and not base.sweep.repetitions:
        from mptcplab.sweeps.summary import LEAST_FOR_PRECISION

        stated = LEAST_FOR_PRECISION
    asked = Asked(
        args.on,
        repetitions_of(args, stated),
        precision,
        tuple(args.metrics) or base.sweep.metrics,
        args.keep_runs,
        args.series,
    )
    stamp = time.strftime("%Y%m%d-%H%M%S")
    out = args.out or Path("runs") / f"{stamp}-sweep-{base.name}-{args.on}"
    return Sweep(design, load, asked, out)


def _design(args: argparse.Namespace, base: Scenario) -> Design:
    """Return what is varied: by the command line, or else by the scenario's file."""
    from mptcplab.scenario import ScenarioError
    from mptcplab.sweeps.design import Design, Labelled, Range, Values, parse_varied

    over = [parse_varied("--over", text) for text in args.over]
    zipped = [parse_varied("--zip", text) for text in args.zipped]
    labelled: list[Labelled] = []
    if not over and not zipped:
        file = base.sweep
        over = [Values(key, values) for key, values in file.over]
        zipped = [Values(key, values) for key, values in file.zipped]
        usable = [point for point in file.points if point.testbed in ("", args.on)]
        labelled = [Labelled(point.label, point.overrides, point.x) for point in usable]
        if not (over or zipped or labelled):
            raise ScenarioError(
                args.scenario, "", "there is nothing to sweep over", "--over, --zip, or [sweep]"
            )
    keys = [each.key for each in (*over, *zipped)]
    for key in keys:
        if keys.count(key) > 1:
            raise ScenarioError(f"--over {key}", "", "is given twice", "all values in one list")
        if any(override.partition("=")[0].strip() == key for override in args.overrides):
            problem = "is what the sweep varies"
            raise ScenarioError(f"--set {key}", "", problem, f"--over {key}=..., or another key")
    ranges = [each for each in over if isinstance(each, Range)]
    if any(isinstance(each, Range) for each in zipped):
        raise ScenarioError("--zip", "", "has a range", "lists, or --over for ranges")
    if ranges and not args.draws:
        raise ScenarioError(f"--over {ranges[0].key}", "", "has a range", "--draws N with it")
    if args.draws is not None and (args.draws < 1 or not ranges):
        raise ScenarioError("--draws", "", "has nothing to draw", "1 or more, and a range")
    lists = [each for each in zipped if isinstance(each, Values)]
    if len({len(each.values) for each in lists}) > 1:
        counts = ", ".join(f"{each.key} {len(each.values)}" for each in lists)
        raise ScenarioError("--zip", "", f"has lists of different length ({counts})", "one length")
    return Design(
        tuple(each for each in over if isinstance(each, Values)),
        tuple(lists),
        tuple(labelled),
        tuple(ranges),
        args.draws or 0,
        args.sampling,
        base.seed,
        base.sweep.axis,
    )


def _workers(args: argparse.Namespace) -> Callable[[int], Workers]:
    """Return what returns who makes so many runs."""
    from mptcplab.cli.repeated_runs import check_jobs, workers_for
    from mptcplab.scenario import ScenarioError
    from mptcplab.sweeps.engine import ClusterWorkers

    if args.cluster is None:
        check_jobs(args.on, args.jobs)
        return lambda runs: workers_for(args.on, args.jobs, runs)
    if args.on != "simulated":
        problem = "is for simulations: a worker's kernel is not this one"
        raise ScenarioError("--cluster", "", problem, "--on simulated")
    cluster = ClusterWorkers(args.cluster)
    return lambda _: cluster


def _make(sweep: Sweep, workers: Callable[[int], Workers]) -> None:
    """Make what is left, with a line for each run that says how many are done, and the rest."""
    from mptcplab.loop.stop_signals import Stopped, stop_received
    from mptcplab.units import NANOSECONDS, format_duration

    began_s = time.monotonic()
    for made, (row, left) in enumerate(sweep.make(workers), 1):
        taken_s = time.monotonic() - began_s
        rest = format_duration(taken_s / made * left * NANOSECONDS, 2) if left else "0 s"
        shown = _headline(sweep, row)
        say(f"[{len(sweep.rows)}/{len(sweep.rows) + left}, {rest} left] {shown}")
        for metric, value in row.metrics.items():
            say(f"    {metric.rpartition(' [')[0]} {value_text(metric, value)}", VERBOSE)
        say(f"    took {row.wall_s:.2f} s", VERBOSE)
    number = stop_received()
    if number is not None:
        raise Stopped(number)


def _headline(sweep: Sweep, row: Row) -> str:
    point = sweep.points[row.point]
    text = f"{point.label}, seed {row.seed}"
    shown = [
        f"{metric.rpartition(' [')[0]} {value_text(metric, value)}"
        for metric, value in list(row.metrics.items())[:_SHOWN_METRICS]
    ]
    if shown:
        text += f": {', '.join(shown)}"
    return text if row.valid else f"{text}: NOT VALID ({'; '.join(row.reasons)})"


def value_text(metric: str, value: float | None) -> str:
    """Return a metric's value with its unit."""
    from mptcplab.sweeps.tasks import unit_of
    from mptcplab.units import NANOSECONDS, format_duration, format_rate

    if value is None:
        return "-"
    unit = unit_of(metric)[1]
    if unit == "bit/s":
        return format_rate(value)
    return format_duration(value * NANOSECONDS) if unit == "s" else f"{value:.4g}"


def _list_points(sweep: Sweep, as_object: bool) -> None:
    runs = sum(
        sweep.asked.repetitions if sweep.is_random(point.number) else 1 for point in sweep.points
    )
    if as_object:
        listed = [{"values": dict(p.values), "set": list(p.overrides)} for p in sweep.points]
        print(json.dumps({"points": listed, "runs": runs, "repetitions": sweep.asked.repetitions}))
        return
    for point in sweep.points:
        print(f"{point.number:5}  {point.label}")
    least = "at least " if sweep.asked.precision is not None else ""
    print(f"{len(sweep.points)} points, {least}{runs} runs")


def _draw(sweep: Sweep) -> list[Path]:
    from mptcplab.sweeps.distributions import draw_distribution
    from mptcplab.sweeps.figure import draw_metric

    shown = sweep.cells()
    if not sweep.asked.metrics:
        shown = shown[:_SHOWN_METRICS]
    title = f"{sweep.scenarios[0].name} on {sweep.asked.testbed}"
    where = (sweep.points, sweep.columns)
    folder = sweep.store.folder
    return [
        *(draw_metric(title, *where, cells, folder)[0] for cells in shown),
        *(draw_distribution(title, *where, each, folder)[0] for each in sweep.distributions()),
    ]


def as_json(sweep: Sweep) -> dict[str, Any]:
    """Return the object that ``--json`` prints; see ``docs/reference/results.md``."""
    made = [[row for row in sweep.rows if row.point == point.number] for point in sweep.points]
    cells = sweep.cells()
    times = sweep.distributions()
    return {
        "folder": str(sweep.store.folder),
        "scenario": sweep.scenarios[0].name,
        "testbed": sweep.asked.testbed,
        "points": [
            {
                "values": dict(point.values),
                "set": list(point.overrides),
                "runs": len(rows),
                "valid_runs": sum(row.valid for row in rows),
                "invalid_reasons": [
                    f"seed {row.seed}: {reason}" for row in rows for reason in row.reasons
                ],
                "metrics": [_cell_json(of_metric[point.number]) for of_metric in cells],
                "distributions": [_times_json(of_flow[point.number]) for of_flow in times],
            }
            for point, rows in zip(sweep.points, made, strict=True)
        ],
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    from mptcplab.sweeps.tasks import unit_of

    name, unit = unit_of(cell.metric)
    return {
        "name": name,
        "unit": unit,
        "values": list(cell.values.values()),
        "value": cell.value and asdict(cell.value),
        "difference": cell.difference and asdict(cell.difference),
        "corrected_p_value": cell.p_value,
        "outcome": cell.outcome,
    }


def _times_json(times: Distribution) -> dict[str, Any]:
    return {
        "flow": times.flow,
        "runs": times.runs,
        "mean_s": [each and each.mean for each in times.percentiles],
        "margin_s": [each and each.margin for each in times.percentiles],
    }


def sweep_text(sweep: Sweep) -> str:
    """Return what the command prints of a sweep whose runs are made."""
    from mptcplab.report.differences import percent_text
    from mptcplab.text_table import columns

    first = sweep.scenarios[0]
    cells = sweep.cells()
    shown = cells if sweep.asked.metrics else cells[:_SHOWN_METRICS]
    parts = [f"{first.name}: {first.title}" if first.title else first.name, _how_many(sweep)]
    for of_metric in shown:
        heading = ["", of_metric[0].metric.rpartition(" [")[0], "against the first", ""]
        rows = [heading]
        for point, cell in zip(sweep.points, of_metric, strict=True):
            outcome = "" if cell.outcome == "not judged" else str(cell.outcome)
            rows.append(
                [
                    point.label,
                    mean_text(cell),
                    percent_text(cell.difference, of_metric[0].value),
                    outcome,
                ]
            )
        hidden = len(rows) - 1 - _SHOWN_POINTS
        parts += ["", columns(rows[: _SHOWN_POINTS + 1], indent="", left=1)]
        if hidden > 0:
            parts.append(f"... and {hidden} points more, in summary.parquet")
    if len(cells) > len(shown):
        rest = ", ".join(
            of_metric[0].metric.rpartition(" [")[0] for of_metric in cells[len(shown) :]
        )
        parts += ["", f"Also in the tables: {rest} (--metric NAME shows them here)."]
    reasons = Counter(reason for row in sweep.rows if not row.valid for reason in row.reasons)
    if reasons:
        parts.append("")
    for reason, count in reasons.most_common(_SHOWN_REASONS):
        parts.append(f"NOT VALID  {count} of {len(sweep.rows)} runs: {reason}")
    if len(reasons) > _SHOWN_REASONS:
        parts.append(f"... and {len(reasons) - _SHOWN_REASONS} other reasons, in runs.parquet")
    return "\n".join(parts)


def _how_many(sweep: Sweep) -> str:
    count = len(sweep.rows)
    fixed = sum(not sweep.is_random(point.number) for point in sweep.points)
    text = (
        f"{len(sweep.points)} points, {count} runs on {sweep.asked.testbed}; mean ± 95 % "
        "confidence; better and worse are corrected for their number (Holm)"
    )
    if fixed:
        text += f"; at {fixed} points nothing is random, and one run is all there is to see"
    return text


def mean_text(cell: Cell) -> str:
    """Return the mean of a cell with its interval, or why there is none."""
    from mptcplab.report.comparison import with_margin

    if cell.value is None:
        return "not done in time" if cell.missing else "no valid run"
    return with_margin(lambda value: value_text(cell.metric, value), cell.value)
