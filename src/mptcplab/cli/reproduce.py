"""``mptcplab reproduce``: the report's experiments with their sweeps, and one summary of all."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mptcplab.cli.testbeds import DEFAULT, TESTBEDS

if TYPE_CHECKING:
    from mptcplab.report.sweep import Variant
    from mptcplab.results.run import Run
    from mptcplab.scenario import Scenario


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "reproduce",
        help="run experiments with their sweeps and sum them up",
        description="Run one, several or all of the report's experiments (or scenario files of "
        "your own that have a sweep) and write a summary beside what the report measured.",
        epilog="A run that is finished in --out already is not run again, so that what was "
        "interrupted goes on where it stopped.",
    )
    parser.add_argument(
        "scenarios", nargs="*", metavar="NAME", help="A to I, or files; default all"
    )
    parser.add_argument(
        "--on",
        action="append",
        choices=sorted(TESTBEDS),
        help=f"the testbed; may be repeated (default: {DEFAULT})",
    )
    parser.add_argument("--duration", metavar="T", help="shrink or stretch every run to T")
    parser.add_argument("--time-scale", type=float, metavar="X", help="multiply every time by X")
    parser.add_argument(
        "--points", metavar="LABEL,...", help="of a sweep, only these points (default: all)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of all runs and the summary"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run them; 0 where every run is valid, 1 where one is not."""
    from mptcplab.scenario import experiments, load

    names = args.scenarios or [summary.name for summary in experiments()]
    scenarios = {name: load(name, **_times(args)) for name in names}
    out = args.out or Path("runs") / time.strftime("reproduce-%Y%m%d-%H%M%S")
    results = {}
    for name, scenario in scenarios.items():
        results[name] = _experiment(args, out, name, scenario)
    summary = [_entry(scenarios[name], variants) for name, variants in results.items()]
    text = _table(summary)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (out / "summary.txt").write_text(text + "\n")
    print(json.dumps(summary) if args.json else f"{text}\n\nSummary  {out / 'summary.txt'}")
    valid = all(
        outcome.valid
        for variants in results.values()
        for variant in variants
        for outcome in variant.outcomes.values()
    )
    return 0 if valid else 1


def _times(args: argparse.Namespace) -> dict[str, Any]:
    from mptcplab.units import parse_duration

    duration_ns = None if args.duration is None else parse_duration(args.duration)
    return {"duration_ns": duration_ns, "time_scale": args.time_scale}


def _experiment(
    args: argparse.Namespace, out: Path, name: str, scenario: Scenario
) -> list[Variant]:
    """Run one experiment as it stands, then each point of its sweep, on every testbed."""
    from mptcplab.report.sweep import Variant, draw_sweep, outcome_of, report_value
    from mptcplab.scenario import load

    totals = [
        item.value_bps
        for item in scenario.report.measured
        if item.of == "total" and item.stage is None
    ]
    variants = [Variant("as reported", -1.0, totals[0] if totals else None)]
    loaded = [scenario]
    wanted = set(args.points.split(",")) if args.points else None
    for point in scenario.sweep.points:
        if wanted is None or point.label in wanted:
            variants.append(Variant(point.label, point.x, report_value(point)))
            loaded.append(load(name, overrides=point.overrides, **_times(args)))
    for variant, version in zip(variants, loaded, strict=True):
        for testbed in args.on or [DEFAULT]:
            folder = out / testbed / scenario.name / _slug(variant.label)
            variant.outcomes[testbed] = outcome_of(_finished(testbed, version, folder, variant))
    if len(variants) > 1:
        title = f"{scenario.name}: {scenario.title}"
        draw_sweep(title, scenario.sweep.axis, variants[1:], out / f"{scenario.name}-sweep")
    return variants


def _finished(testbed: str, scenario: Scenario, folder: Path, variant: Variant) -> Run:
    """Return the finished run in a folder, after running it where it is not there yet."""
    from mptcplab.cli.progress import progress_for
    from mptcplab.cli.testbeds import run_on
    from mptcplab.report.figure import draw_throughput
    from mptcplab.results.run import Run, RunError
    from mptcplab.scenario.plain import as_plain

    if not folder.exists():
        print(f"{scenario.name}, {variant.label}, on {testbed}", file=sys.stderr)
        progress = progress_for(f"{scenario.name} {variant.label}", scenario.duration_ns)
        try:
            run_on(testbed, scenario, folder, progress)
        finally:
            progress.close()
        draw_throughput(Run(folder), folder / "throughput")
    found = Run(folder)
    if found.scenario != json.loads(json.dumps(as_plain(scenario))):
        raise RunError(f"{folder}: holds a run of other settings; choose another --out")
    return found


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-").lower()


def _entry(scenario: Scenario, variants: list[Variant]) -> dict[str, Any]:
    return {
        "experiment": scenario.name,
        "title": scenario.title,
        "section": scenario.report.section,
        "runs": [
            {
                "label": variant.label,
                "report_bps": variant.report_bps,
                "testbeds": {
                    name: {
                        "goodput_bps": outcome.goodput_bps,
                        "links": dict(outcome.links_bps),
                        "valid": outcome.valid,
                        "run": str(outcome.folder),
                    }
                    for name, outcome in variant.outcomes.items()
                },
            }
            for variant in variants
        ],
    }


def _table(summary: list[dict[str, Any]]) -> str:
    from mptcplab.cli.render import columns
    from mptcplab.units import format_rate

    testbeds = list(summary[0]["runs"][0]["testbeds"]) if summary else []
    rows = [["experiment", "", *testbeds, "2012"]]
    for entry in summary:
        for index, item in enumerate(entry["runs"]):
            cells = [
                format_rate(item["testbeds"][name]["goodput_bps"])
                + ("" if item["testbeds"][name]["valid"] else " (not valid)")
                for name in testbeds
            ]
            report = "" if item["report_bps"] is None else format_rate(item["report_bps"])
            title = f"{entry['experiment']}  {entry['title']}" if index == 0 else ""
            rows.append([title, item["label"], *cells, report])
    return columns(rows, left=2, indent="")
