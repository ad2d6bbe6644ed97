"""``mptcplab run``: a scenario on a testbed, then its table, verdict and figure."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from mptcplab.cli.scenario_arguments import add_scenario_arguments, load_scenario
from mptcplab.cli.testbeds import DEFAULT, TESTBEDS


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "run",
        help="run a scenario and show what came out",
        description="Run a scenario and print its table, its verdict against the 2012 report where "
        "there is one, and the path of its figure.",
        epilog="Exit status: 0 the run is valid, 1 it is not, 2 bad input, 3 this machine cannot.",
    )
    add_scenario_arguments(parser)
    parser.add_argument(
        "--on", choices=sorted(TESTBEDS), default=DEFAULT, help="the testbed (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder, new or empty")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it; see the parser's description for the exit status."""
    from mptcplab.cli.progress import progress_for
    from mptcplab.cli.testbeds import run_on
    from mptcplab.report.figure import draw_throughput
    from mptcplab.results.run import Run
    from mptcplab.results.summary import summarise
    from mptcplab.results.writer import is_free

    scenario = load_scenario(args)
    folder = args.out or _fresh_folder(scenario.name, args.on)
    if not is_free(folder):
        print(
            f"mptcplab: --out {folder}: exists already; name a new folder or an empty one",
            file=sys.stderr,
        )
        return 2
    progress = progress_for(f"{scenario.name} on {args.on}", scenario.duration_ns)
    try:
        finished = Run(run_on(args.on, scenario, folder, progress))
    finally:
        progress.close()
    figures = draw_throughput(finished, finished.folder / "throughput")
    if args.json:
        print(json.dumps(summarise(finished)))
    else:
        from mptcplab.cli.render import describe

        print(describe(finished))
        print(f"\nRun     {finished.folder}")
        print(f"Figure  {figures[0]}")
    return 0 if finished.metadata["valid"] else 1


def _fresh_folder(scenario: str, testbed: str) -> Path:
    import secrets

    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{stamp}-{scenario}-{testbed}-{secrets.token_hex(2)}"
