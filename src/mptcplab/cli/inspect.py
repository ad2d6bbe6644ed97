"""``mptcplab inspect``: explain captures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mptcplab.trace.files import Progress
    from mptcplab.trace.filters import Test
    from mptcplab.trace.trace import Trace

_DESCRIPTION = """\
Explain the MPTCP connections in captures (pcap or pcapng, gzip or zstd): what happened when, what
each subflow carried, what held the data up.  Several files are merged by time; two that were taken
at the two ends of the same connections are recognised and compared.  A run's folder is inspected
with its captures, timeline and kernel events together."""

_FILTER = """\
only these packets or events, for example: subtype == join and subflow == 2; dsn in 1..5000;
retransmission and not syn"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "inspect", help="explain captures, or a run's captures", description=_DESCRIPTION
    )
    parser.add_argument("captures", nargs="+", type=Path, metavar="CAPTURE", help="file, or a run")
    parser.add_argument("--filter", metavar="EXPR", help=_FILTER)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--packets", action="store_true", help="list packets, as tcpdump does")
    what.add_argument("--events", action="store_true", help="list what happened, one per line")
    what.add_argument("--json", action="store_true", help="print the reconstruction as JSON")
    parser.add_argument("--tables", type=Path, metavar="DIR", help="write tables (Parquet) here")
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="write PNG and SVG figures here"
    )
    parser.add_argument(
        "--connection", type=int, metavar="N", help="only this connection (figures, events, text)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Carry the command out; returns 0.

    Raises ``CaptureError`` for files that cannot be read and ``FilterError`` for a bad filter.
    """
    from mptcplab.trace.filters import parse_filter

    return _inspect(args, parse_filter(args.filter) if args.filter else None)


def _inspect(args: argparse.Namespace, test: Test | None) -> int:
    from mptcplab.trace import trace as traces

    trace = traces.open_trace(args.captures, _progress())
    _print_all(_lines(args, trace, test))
    return 0


def _lines(args: argparse.Namespace, trace: Trace, test: Test | None) -> Iterable[str]:
    from mptcplab.trace.explain import explanation
    from mptcplab.trace.export import to_json
    from mptcplab.trace.packets import packet_lines

    if args.json:
        return [json.dumps(to_json(trace), indent=2)]
    if args.packets or test is not None:
        return packet_lines(trace, test)
    return explanation(trace)


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)
    sys.stdout.flush()


def _progress() -> Progress | None:
    """Show how far reading has come, where someone watches and it takes time."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, size: int) -> None:
        if size > 50_000_000:
            end = "\r" if done < size else "\r\033[K"
            print(f"reading: {100 * done // max(size, 1):3d} %", end=end, file=sys.stderr)

    return show
