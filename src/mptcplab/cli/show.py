"""``mptcplab show``: show a finished run again, as text and figure or as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "show",
        help="show a finished run again",
        description="Print the table and the verdict of a finished run, and draw its figure again.",
        epilog="Exit status: 0 the run is valid, 1 it is not, 2 the folder holds no run.",
    )
    parser.add_argument(
        "folder", type=Path, metavar="RUN", help="the folder of the run, which `run` printed"
    )
    parser.add_argument("--json", action="store_true", help="print the JSON object of `run --json`")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it; 0 where the run is valid, 1 where it is not, 2 where the folder is no run."""
    from mptcplab.report.figure import draw_throughput
    from mptcplab.report.latency import draw_latency
    from mptcplab.report.limits import summary_with_limits
    from mptcplab.results.run import Run
    from mptcplab.results.writer import remove_abandoned

    remove_abandoned(args.folder.absolute().parent)
    finished = Run(args.folder)
    finished.check()
    if args.json:
        print(json.dumps(summary_with_limits(finished)))
    else:
        from mptcplab.cli.render import describe, print_debug_log

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
    return 0 if finished.metadata["valid"] else 1
