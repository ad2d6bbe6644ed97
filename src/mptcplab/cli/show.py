"""``mptcplab show``: show a finished run again, or several over one another."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mptcplab.results.run import Run

_MOST_FLOWS: Final = 3
"""Flows with a column of their own; of more, the sum is shown."""
_OVERLAY: Final = Path("overlay")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "show",
        help="show a finished run again, or several in one figure",
        description="Print the table and the verdict of a finished run, and draw its figure again. "
        "Of several runs, print a line each, and draw the goodput of each flow over time, and how "
        "the times of requests and messages are distributed, in one figure with a line for each "
        "run.",
        epilog="Exit status: 0 every run is valid, 1 one is not, 2 a folder holds no run.",
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="the folder of a run, which `run` printed",
    )
    parser.add_argument(
        "-o",
        dest="stem",
        type=Path,
        metavar="NAME",
        help=f"of several runs: the figure's file without its ending (default: {_OVERLAY}, here)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the JSON object of `run --json`, of several runs an array",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show them; 0 where all are valid, 1 where one is not, 2 where a folder is no run."""
    from mptcplab.report.limits import summary_with_limits
    from mptcplab.results.run import Run, RunError
    from mptcplab.results.writer import remove_abandoned

    if args.stem is not None and len(args.folders) == 1:
        raise RunError(f"-o {args.stem}: is for several runs; name a second one, or leave it out")
    runs = []
    for folder in args.folders:
        remove_abandoned(folder.absolute().parent)
        finished = Run(folder)
        finished.check()
        runs.append(finished)
    if args.json:
        told = [summary_with_limits(each) for each in runs]
        print(json.dumps(told[0] if len(told) == 1 else told))
    elif len(runs) == 1:
        _show(runs[0])
    else:
        _overlay(dict(zip(labels(args.folders), runs, strict=True)), args.stem or _OVERLAY)
    return 0 if all(each.metadata["valid"] for each in runs) else 1


def _show(finished: Run) -> None:
    from mptcplab.cli.render import describe, print_debug_log
    from mptcplab.report.figure import draw_throughput
    from mptcplab.report.latency import draw_latency

    print(describe(finished))
    try:
        drawn = draw_throughput(finished, finished.folder / "throughput")
        drawn += draw_latency(finished, finished.folder / "latency")
        figures = [str(path) for path in drawn[::2]]
    except OSError as error:
        figures = [f"not drawn again: {error.filename}: {error.strerror}"]
    print()
    for figure in figures:
        print(f"Figure  {figure}")
    print_debug_log(finished)


def labels(folders: Sequence[Path]) -> list[str]:
    """Return a label for each folder: its name, or as much of its path as tells them apart."""
    paths = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, paths)) + 1):
        texts = ["/".join(parts[-count:]) for parts in paths]
        if len(set(texts)) == len(texts):
            return texts
    return [f"{folder} ({number})" for number, folder in enumerate(folders, 1)]


def _overlay(runs: Mapping[str, Run], stem: Path) -> None:
    """Print a line for each run and draw them in one figure."""
    from mptcplab.report.figure import draw_overlay
    from mptcplab.report.latency import draw_latencies
    from mptcplab.text_table import columns

    print(columns(_rows(runs), left=4, indent=""))
    try:
        drawn = draw_overlay(runs, stem)
        drawn += draw_latencies(runs, "", stem.with_name(f"{stem.name}-latency"))
        figures = [str(path) for path in drawn[::2]]
    except OSError as error:
        figures = [f"not drawn: {error.filename}: {error.strerror}"]
    print()
    for figure in figures:
        print(f"Figure  {figure}")


def _rows(runs: Mapping[str, Run]) -> list[list[str]]:
    from mptcplab.results.summary import summarise
    from mptcplab.units import format_rate

    goodputs: dict[str, dict[str, Any]] = {
        label: {flow["name"]: flow["goodput_bps"] for flow in summarise(each)["flows"]}
        for label, each in runs.items()
    }
    names = list(dict.fromkeys(name for flows in goodputs.values() for name in flows))
    if len(names) > _MOST_FLOWS:
        goodputs = {
            label: {"all flows": None if None in flows.values() else sum(flows.values())}
            for label, flows in goodputs.items()
        }
        names = ["all flows"]
    rows = [["run", "scenario", "testbed", "", "seed", *(f"goodput of {name}" for name in names)]]
    for label, each in runs.items():
        flows = goodputs[label]
        rates = [
            "" if name not in flows
            else "too short" if flows[name] is None
            else format_rate(flows[name])
            for name in names
        ]  # fmt: skip
        valid = "valid" if each.metadata["valid"] else "NOT VALID"
        scenario = each.scenario
        testbed = each.metadata["testbed"]
        rows.append([label, scenario["name"], testbed, valid, str(scenario["seed"]), *rates])
    return rows
