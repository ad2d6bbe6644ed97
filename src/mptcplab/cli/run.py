"""``mptcplab run``: a scenario on a testbed, then its table, verdict and figure."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mptcplab.cli.repeated_runs import add_jobs_argument
from mptcplab.cli.scenario_arguments import add_scenario_arguments, load_scenario
from mptcplab.cli.testbeds import AUTO
from mptcplab.cli.verbosity import add_verbosity_arguments, say
from mptcplab.testbeds import DEFAULT, TESTBEDS

if TYPE_CHECKING:
    from mptcplab.results.run import Run
    from mptcplab.scenario import Scenario

_BAD_INPUT: Final = 2
_MACHINE_CANNOT: Final = 3


class FolderInUseError(ValueError):
    """The folder of --out holds something already."""

    exit_status = _BAD_INPUT


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "run",
        help="run a scenario and show what came out",
        description="Run a scenario and print its table, its verdict against the 2012 report where "
        "there is one, and the path of its figure. With --repetitions, print means with 95 % "
        "confidence intervals.",
        epilog="Exit status: 0 the run is valid, 1 it is not, 2 bad input, 3 this machine cannot.",
    )
    add_scenario_arguments(parser)
    parser.add_argument(
        "--on",
        choices=[AUTO, *sorted(TESTBEDS)],
        default=DEFAULT,
        help=f"the testbed, or {AUTO}: linux where this machine's kernel can run the scenario, "
        "else simulated, and say why (default: %(default)s)",
    )
    parser.add_argument(
        "--trial",
        action="store_true",
        help="try out an installation: say whether it works, and end with 0 also where the run is "
        "invalid only because the machine was busy",
    )
    parser.add_argument(
        "--raise-host-limits",
        action="store_true",
        help="on Linux: while it runs, let programs such as iperf3 have the buffers of their flows "
        "by this machine's net.core.rmem_max and wmem_max (root)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="with --on hosts: show what would be changed on each host, and change nothing",
    )
    add_jobs_argument(parser)
    parser.add_argument(
        "--repetitions",
        type=int,
        metavar="N",
        help="run it N times, each with the next seed, and show means and intervals (default: 1); "
        "runs that --out already holds are not made again",
    )
    parser.add_argument(
        "--what-if",
        action="store_true",
        help="run it once more with what would change the leading cause that held each connection "
        "back, in a folder named ...-what-if beside the first, and show both",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder, new or empty")
    add_verbosity_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it; see the parser's description for the exit status."""
    from mptcplab.cli.repeated_runs import repetitions_of
    from mptcplab.report.limits import summary_with_limits

    scenario = load_scenario(args)
    if args.dry_run:
        return _show_changes(scenario, args)
    repetitions = repetitions_of(args, 1)
    if args.raise_host_limits:
        _raise_limits(scenario, args)
    if repetitions > 1:
        return _repeat(scenario, args)
    finished = _run_auto(scenario, args) if args.on == AUTO else _run_on(args.on, scenario, args)
    if args.json:
        _draw(finished)
        summary = summary_with_limits(finished)
    else:
        _show(finished)
    if args.what_if:
        changes, changed = _run_changed(finished, args)
        if args.json:
            other = None if changed is None else summary_with_limits(changed)
            summary["what_if"] = {"set": changes, "run": other}
        elif changed is None:
            print("\nWhat if: nothing to change follows from what held the connections back")
        else:
            print(f"\nWhat if: the same with {', '.join(f'--set {text}' for text in changes)}\n")
            _show(changed)
    if args.json:
        print(json.dumps(summary))
    if args.trial:
        from mptcplab.cli.trial import judge

        works, text = judge(finished.metadata)
        print(f"\n{text}", file=sys.stderr if args.json else sys.stdout)
        return 0 if works else 1
    return 0 if finished.metadata["valid"] else 1


def _show_changes(scenario: Scenario, args: argparse.Namespace) -> int:
    """Print what a run would change on real hosts; 3 where something stands in the way."""
    from mptcplab.cli.hosts import look_at, print_hosts
    from mptcplab.scenario import ScenarioError

    if args.on != "hosts":
        raise ScenarioError("--dry-run", "", f"does not go with --on {args.on}", "--on hosts")
    reports = look_at(scenario)
    print_hosts(reports, as_json=args.json)
    return _MACHINE_CANNOT if any(report.problems for report in reports) else 0


def _show(finished: Run) -> None:
    """Draw the figure of a run and print the text about it."""
    from mptcplab.cli.render import describe, print_debug_log

    figures = _draw(finished)
    print(describe(finished))
    print(f"\nRun     {finished.folder}")
    for figure in figures[::2]:  # the SVG beside each is not told
        print(f"Figure  {figure}")
    print_debug_log(finished)


def _draw(finished: Run) -> list[Path]:
    """Draw the figures of a run, each as PNG and SVG; who interrupts it learns where the run is."""
    from mptcplab.report.figure import draw_throughput
    from mptcplab.report.latency import draw_latency

    try:
        throughput = draw_throughput(finished, finished.folder / "throughput")
        return [*throughput, *draw_latency(finished, finished.folder / "latency")]
    except KeyboardInterrupt as stop:
        stop.add_note(f"the run is whole in {finished.folder}")
        raise


def _run_changed(finished: Run, args: argparse.Namespace) -> tuple[list[str], Run | None]:
    """Run once more with what would change the leading causes; return the changes and the run.

    None where there is nothing to change.
    """
    from mptcplab.limits.runs import run_limits

    changes = list(
        dict.fromkeys(text for each in run_limits(finished) for text in each.remedy.overrides)
    )
    if not changes:
        return [], None
    args.overrides = [*args.overrides, *changes]
    args.out = finished.folder.with_name(f"{finished.folder.name}-what-if")
    return changes, _run_on(finished.metadata["testbed"], load_scenario(args), args)


def _raise_limits(scenario: Scenario, args: argparse.Namespace) -> None:
    """Raise the machine's limits of socket buffers until this process has ended."""
    from mptcplab.linux.lab.host_limits import asked_bytes, raise_limits
    from mptcplab.linux.standing_lab import LabError, registry

    if args.on == "simulated":
        raise LabError("--raise-host-limits: expected --on linux, or --on auto")
    raise_limits(asked_bytes(scenario), registry())


def _repeat(scenario: Scenario, args: argparse.Namespace) -> int:
    """Run it several times, in folders named by their seeds, and sum them up."""
    from mptcplab.cli.repeated_runs import (
        PlannedRun,
        finished,
        made,
        seeds_of,
        with_seed,
        workers_for,
    )
    from mptcplab.cli.testbeds import choose
    from mptcplab.report.figure import draw_throughput
    from mptcplab.report.repetitions import summarise_runs, valid_ones
    from mptcplab.results.run import Run
    from mptcplab.results.writer import make_folder
    from mptcplab.scenario import ScenarioError

    for option, is_given in (("--trial", args.trial), ("--what-if", args.what_if)):
        if is_given:
            raise ScenarioError(option, "", "is for one run", f"{option}, or --repetitions")
    testbed = args.on
    if testbed == AUTO:
        testbed, why = choose(scenario)
        _say(testbed, why)
    out = args.out or _fresh_folder(scenario.name, testbed)
    make_folder(out)
    if (out / "run.json").exists():
        raise FolderInUseError(f"--out {out}: holds a single run; name another folder")
    seeds = seeds_of(testbed, scenario, args.repetitions)
    planned = [
        PlannedRun(
            testbed,
            with_seed(scenario, seed),
            out / str(seed),
            f"{scenario.name} on {testbed}, seed {seed}, run {number} of {len(seeds)}",
        )
        for number, seed in enumerate(seeds, 1)
    ]
    left = [each for each in planned if finished(each) is None]
    for each, run in made(left, workers_for(testbed, args.jobs, len(left))):
        draw_throughput(run, run.folder / "throughput")
        say(f"mptcplab: done: {each.title}")
    runs = [Run(each.folder) for each in planned]
    figures = draw_throughput(valid_ones(runs) or runs, out / "throughput")
    summary = summarise_runs(runs)
    (out / "repetitions.json").write_text(json.dumps(summary, indent=2) + "\n")
    if args.json:
        print(json.dumps(summary))
    else:
        from mptcplab.cli.render import describe_runs

        print(describe_runs(runs))
        print(f"\nRuns    {out}\nFigure  {figures[0]}")
    return 0 if summary["valid"] else 1


def _run_auto(scenario: Scenario, args: argparse.Namespace) -> Run:
    """Run on the testbed that this machine has for the scenario, and say why it is that one."""
    from mptcplab.cli.testbeds import choose

    testbed, why = choose(scenario)
    _say(testbed, why)
    try:
        return _run_on(testbed, scenario, args)
    except Exception as error:  # what only the scenario's own network needs comes out here
        if testbed != "linux" or getattr(error, "exit_status", None) != _MACHINE_CANNOT:
            raise
        _say("simulated", str(error))
    return _run_on("simulated", scenario, args)


def _say(testbed: str, why: str) -> None:
    say(f"mptcplab: running on the {testbed} testbed: {why}")


def _run_on(testbed: str, scenario: Scenario, args: argparse.Namespace) -> Run:
    from mptcplab.cli.progress import progress_for
    from mptcplab.results.run import Run
    from mptcplab.results.writer import is_free
    from mptcplab.testbeds import run_on

    folder = args.out or _fresh_folder(scenario.name, testbed)
    if not is_free(folder):
        raise FolderInUseError(f"--out {folder}: exists already; name a new folder or an empty one")
    progress = progress_for(f"{scenario.name} on {testbed}", scenario.duration_ns)
    try:
        return Run(run_on(testbed, scenario, folder, progress))
    finally:
        progress.close()


def _fresh_folder(scenario: str, testbed: str) -> Path:
    import secrets

    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{stamp}-{scenario}-{testbed}-{secrets.token_hex(2)}"
