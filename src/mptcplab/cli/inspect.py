"""``mptcplab inspect``: explain captures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mptcplab.trace.connections.model import Connection
    from mptcplab.trace.files.capture import Progress
    from mptcplab.trace.packet_filter import Test
    from mptcplab.trace.trace import Trace

_DESCRIPTION = """\
Explain the MPTCP connections in captures (pcap or pcapng, also with gzip or zstd): what happened,
what each subflow carried and what held the data up.  Several files are merged by time; two captures
of the same connections, one at each end, are recognised and compared.  Of a run, the captures are
shown together with the timeline and the events that its hosts recorded."""

_EXIT_STATUS = "Exit status: 0 done, 2 a file or the filter cannot be read."

_FILTER = """\
list only these packets, for example: subtype == join and subflow == 2; dsn in 1..5000;
retransmission and not syn"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "inspect",
        help="explain captures, or a run's captures",
        description=_DESCRIPTION,
        epilog=_EXIT_STATUS,
    )
    parser.add_argument(
        "captures", nargs="+", type=Path, metavar="CAPTURE", help="a file, or the folder of a run"
    )
    parser.add_argument("--filter", metavar="EXPR", help=_FILTER)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--packets", action="store_true", help="list the TCP packets, one per line")
    what.add_argument("--events", action="store_true", help="list the events, one per line")
    what.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--tables", type=Path, metavar="DIR", help="write tables (Parquet) to this folder"
    )
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="write figures (PNG and SVG) to this folder"
    )
    parser.add_argument(
        "--connection", type=int, metavar="N", help="only this connection (figures, events, text)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Carry the command out; returns 0.

    Raises ``CaptureError`` for files that cannot be read and ``FilterError`` for a bad filter.
    """
    from mptcplab.trace.packet_filter import parse_filter

    return _inspect(args, parse_filter(args.filter) if args.filter else None)


def _inspect(args: argparse.Namespace, test: Test | None) -> int:
    from mptcplab.results.debug_log import FILE as DEBUG_LOG
    from mptcplab.trace import testbed_run, two_captures
    from mptcplab.trace.files.batch import CaptureError
    from mptcplab.trace.output.explain import explain_ends, joined_lines
    from mptcplab.trace.trace import open_trace

    paths: list[Path] = args.captures
    folder = paths[0] if len(paths) == 1 and testbed_run.is_run(paths[0]) else None
    for path in paths:
        if path.is_dir() and folder is None:
            raise CaptureError(
                f"{path}: expected a capture file or the folder of one run, which has a run.json"
            )
    hosts = list(testbed_run.run_captures(folder).values()) if folder is not None else []
    between: list[str] = []
    sides = hosts or [[path] for path in paths]
    sorted_ends = two_captures.ends_of(sides) if len(sides) > 1 else None
    if sorted_ends is not None:
        files = sorted_ends
        ends = two_captures.open_ends(files.near, files.far, _progress(), files.between)
        trace = ends.near
        between = list(explain_ends(ends))
    else:
        # Of a run with several hosts, use the captures of one: together they hold packets twice.
        trace = open_trace(hosts[0] if hosts else paths, _progress())
    connections = _chosen(args, trace)
    if args.tables is not None:
        _write_tables(trace, args.tables)
    if args.figures is not None:
        _draw(trace, connections, args.figures)
    _print_all(_lines(args, trace, connections, test))
    if not (args.json or args.packets or args.events or test):
        if between:
            _print_all(["", "Between the two captures", *between])
        if folder is not None:
            joined = joined_lines(trace, testbed_run.run_events(folder, trace))
            log = folder / DEBUG_LOG
            also = [f"(in the kernel's debug words of 2012: {log})"] if log.exists() else []
            _print_all(["", "The capture and the run's own record", *also, *joined])
    return 0


def _chosen(args: argparse.Namespace, trace: Trace) -> list[Connection]:
    from mptcplab.trace.files.batch import CaptureError

    if args.connection is None:
        return trace.connections
    if not 0 <= args.connection < len(trace.connections):
        raise CaptureError(
            f"--connection {args.connection}: MPTCP connections are numbered from 0, and the "
            f"capture has {len(trace.connections)}"
        )
    return [trace.connections[args.connection]]


def _write_tables(trace: Trace, folder: Path) -> None:
    from mptcplab.trace.files.batch import CaptureError
    from mptcplab.trace.output.tables import write_tables

    try:
        written = write_tables(trace, folder)
    except OSError as error:
        raise CaptureError(f"--tables {folder}: {error.strerror or error}") from None
    print(f"wrote {len(written)} tables to {folder}", file=sys.stderr)


def _draw(trace: Trace, connections: list[Connection], folder: Path) -> None:
    from mptcplab.trace.files.batch import CaptureError
    from mptcplab.trace.output.figures import draw

    try:
        written = [path for one in connections for path in draw(trace, one, folder)]
    except OSError as error:
        raise CaptureError(f"--figures {folder}: {error.strerror or error}") from None
    print(f"wrote {len(written)} figures to {folder}", file=sys.stderr)


def _lines(
    args: argparse.Namespace, trace: Trace, connections: list[Connection], test: Test | None
) -> Iterable[str]:
    from mptcplab.trace.output.explain import event_lines, explain_connection, explanation
    from mptcplab.trace.output.to_json import to_json
    from mptcplab.trace.packets import packet_lines

    if args.json:
        return [json.dumps(to_json(trace), indent=2)]
    if args.events:
        return event_lines(trace, connections)
    if args.packets or test is not None:
        return packet_lines(trace, test)
    if args.connection is not None:
        return explain_connection(trace, connections[0])
    return explanation(trace)


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)
    sys.stdout.flush()


def _progress() -> Progress | None:
    """Return what shows the progress of reading, in a terminal and for large files."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, size: int) -> None:
        if size > 50_000_000:
            end = "\r" if done < size else "\r\033[K"
            print(f"reading: {100 * done // max(size, 1):3d} %", end=end, file=sys.stderr)

    return show
