"""``mptcplab inspect``: explain captures."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mptcplab.cli.inspect_output import check_readable, chosen, of_connection, print_all, told
from mptcplab.cli.terminal import unfiltered
from mptcplab.cli.verbosity import NORMAL, add_verbosity_arguments, is_told, say

if TYPE_CHECKING:
    from mptcplab.trace.connections.model import Connection
    from mptcplab.trace.files.capture import Progress
    from mptcplab.trace.packet_filter import Test
    from mptcplab.trace.trace import Trace
    from mptcplab.trace.two_captures import Ends

_DESCRIPTION = """\
Explain the MPTCP connections in captures (pcap or pcapng, also with gzip, zstd, xz or bzip2): what
happened, what each subflow carried and what held the data up.  Several files are merged by time, as
are the files of a folder; two captures of the same connections, one at each end, are recognised and
compared.  Of a run, the captures are shown together with the timeline and the events that its hosts
recorded.  A capture may come through a pipe, grow while it is read, or be made on the spot."""

_EXIT_STATUS = (
    "Exit status: 0 done, 2 a file or the filter cannot be read, 3 no right to capture here."
)

_FILTER = """\
list only these packets, for example: subtype == join and subflow == 2; dsn in 1..5000;
ip.addr == 10.0.0.0/8 and tcp.flags.syn == 1; retransmission and not syn"""

_SORT_KEYS: Final = (
    "connection", "start", "duration", "subflows", "uploaded", "downloaded", "bytes", "rate",
    "reinjected", "retransmitted", "handshake", "rtt",
)  # fmt: skip
_FIGURES_OF: Final = 10
_MOST_ENDS: Final = 16
"""Of more files than these it is not asked at which end each was taken: they are a row."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "inspect",
        help="explain captures, or a run's captures",
        description=_DESCRIPTION,
        epilog=_EXIT_STATUS,
    )
    parser.add_argument(
        "captures",
        nargs="*",
        type=Path,
        metavar="CAPTURE",
        help="a file, a folder of captures, the folder of a run, a quoted pattern such as "
        "'ring_*.pcapng', or - for standard input",
    )
    parser.add_argument(
        "-i", dest="interface", metavar="IFACE", help="capture on this interface, or on any, now"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="read on while the file grows, print events as they happen, and explain at the end "
        "(Ctrl-C)",
    )
    parser.add_argument(
        "-c", dest="count", type=int, metavar="N", help="with -i or --follow, stop after N packets"
    )
    parser.add_argument(
        "--duration", metavar="T", help="with -i or --follow, stop after this time, such as 30s"
    )
    parser.add_argument("--filter", metavar="EXPR", help=_FILTER)
    parser.add_argument(
        "-w",
        dest="write",
        type=Path,
        metavar="FILE",
        help="write the packets (those that pass the filter) to this file: pcapng where its name "
        "ends in .pcapng, else pcap; - for standard output",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--packets", action="store_true", help="list the TCP packets, one per line")
    what.add_argument("--events", action="store_true", help="list the events, one per line")
    what.add_argument("--json", action="store_true", help="print one JSON object")
    add_verbosity_arguments(parser)
    what.add_argument(
        "--connections",
        action="store_true",
        help="list the connections, one per line (what captures of more than ten get anyway)",
    )
    parser.add_argument(
        "--sort",
        choices=_SORT_KEYS,
        default="connection",
        metavar="COLUMN",
        help=f"sort that list by {', '.join(_SORT_KEYS[:-1])} or {_SORT_KEYS[-1]} "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="list so many connections (default: 50)"
    )
    parser.add_argument(
        "--tables", type=Path, metavar="DIR", help="write tables (Parquet) to this folder"
    )
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="write figures (PNG and SVG) to this folder"
    )
    parser.add_argument(
        "--figures-of",
        type=int,
        metavar="N",
        default=_FIGURES_OF,
        help="draw figures of the N connections with the most data (default: %(default)s)",
    )
    parser.add_argument(
        "--connection",
        type=int,
        metavar="N",
        help="only this connection (figures, events, packets, text)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Carry the command out; returns 0.

    Raises ``CaptureError`` for files that cannot be read and ``FilterError`` for a bad filter.
    """
    # Importing makes no garbage, of the modules nothing becomes any, and the analysis leaves no
    # cycles behind: the collector would look in vain, also at the exit.
    gc.disable()
    try:
        return _run(args)
    finally:
        gc.freeze()
        gc.enable()


def _run(args: argparse.Namespace) -> int:
    # Of numpy's linear algebra nothing is used, whose threads take a tenth of the start-up; what
    # is imported next imports numpy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _check(args)
    test = None
    if args.filter:
        from mptcplab.trace.packet_filter import parse_filter

        test = parse_filter(args.filter)
    if args.interface is not None or args.follow:
        from mptcplab.cli.inspect_live import inspect_live

        gc.enable()  # it may run for days
        return inspect_live(args, test)
    from mptcplab.trace.columns.memory import keep_freed_memory

    keep_freed_memory()
    return _inspect(args, test)


def _check(args: argparse.Namespace) -> None:
    """Raise ``CaptureError`` for arguments that do not go together."""
    from mptcplab.trace.files.batch import CaptureError

    live = args.interface is not None or args.follow
    if not args.captures and args.interface is None:
        raise CaptureError(
            "inspect: names no capture; expected a file, a folder, - for standard input, or -i"
        )
    if args.interface is not None and args.captures:
        raise CaptureError(f"-i {args.interface}: captures now; it goes with no capture file")
    if args.follow and len(args.captures) > 1:
        raise CaptureError("--follow: reads one growing capture; several were given")
    for name, value in (("-c", args.count), ("--limit", args.limit)):
        if value is not None and value < 1:
            raise CaptureError(f"{name} {value}: expected 1 or more")
    if args.figures_of < 1:
        raise CaptureError(f"--figures-of {args.figures_of}: expected 1 or more")
    for name, value in (("-c", args.count), ("--duration", args.duration)):
        if value is not None and not live:
            raise CaptureError(f"{name}: bounds a capture that grows; it goes with -i or --follow")


def _inspect(args: argparse.Namespace, test: Test | None) -> int:
    from mptcplab.trace.files.opening import kept

    paths: list[Path] = args.captures
    folder = None
    if len(paths) == 1 and paths[0].is_dir():
        from mptcplab.trace.testbed_run import is_run

        folder = paths[0] if is_run(paths[0]) else None
    lists_packets = args.packets or test is not None or args.write is not None
    # These read the packets a second time.
    again = lists_packets or args.tables is not None or len(paths) > 1
    with kept([] if folder else paths, again) as files:
        trace = _opened(args, test, files, folder)
        if args.write is not None:
            _write(args, trace, test)
    return 0


def _opened(
    args: argparse.Namespace, test: Test | None, paths: list[Path], folder: Path | None
) -> Trace:
    """Read the captures and print what was asked for; returns what they hold."""
    from mptcplab.trace.trace import open_trace

    if folder is None and not 2 <= len(paths) <= _MOST_ENDS:
        trace = open_trace(paths, _progress())
        _tell(args, trace, test)
        return trace
    from mptcplab.results.debug_log import FILE as DEBUG_LOG
    from mptcplab.trace import testbed_run, two_captures
    from mptcplab.trace.output.explain import explain_ends, joined_lines

    hosts = list(testbed_run.run_captures(folder).values()) if folder is not None else []
    ends: Ends | None = None
    sides = hosts or [[path] for path in paths]
    sorted_ends = two_captures.ends_of(sides) if len(sides) > 1 else None
    if sorted_ends is not None:
        files = sorted_ends
        ends = two_captures.open_ends(files.near, files.far, _progress(), files.between)
        trace = ends.near
    else:
        # Of a run with several hosts, use the captures of one: together they hold packets twice.
        trace = open_trace(hosts[0] if hosts else paths, _progress())
    _tell(args, trace, test, ends)
    if _explains(args, test):
        if ends is not None:
            print_all(["", "Between the two captures", *explain_ends(ends)])
        if folder is not None:
            joined = joined_lines(trace, testbed_run.run_events(folder, trace))
            log = folder / DEBUG_LOG
            also = [f"(in the kernel's debug words of 2012: {log})"] if log.exists() else []
            print_all(["", "The capture and the run's own record", *also, *joined])
    return trace


def _explains(args: argparse.Namespace, test: Test | None) -> bool:
    """Tell whether the explanation is printed: nothing else was asked for."""
    others = (args.json, args.packets, args.events, args.connections, test, args.write)
    return not any(other is not None and other is not False for other in others)


def _tell(
    args: argparse.Namespace, trace: Trace, test: Test | None, ends: Ends | None = None
) -> None:
    check_readable(trace)
    connections = chosen(args, trace)
    if args.tables is not None:
        _write_tables(trace, args.tables)
    if args.figures is not None:
        _draw(trace, connections, args.figures, args.figures_of)
    if args.packets or (test is not None and args.write is None):
        from mptcplab.trace.packets import packet_blocks

        for block in packet_blocks(trace, of_connection(args, test)):
            sys.stdout.write(block)
        sys.stdout.flush()
        return
    only_writes = args.write is not None and not (args.json or args.events or args.connections)
    if not only_writes:
        print_all(told(args, trace, connections, ends))


def _write(args: argparse.Namespace, trace: Trace, test: Test | None) -> None:
    from mptcplab.trace.files.writing import CaptureWriter
    from mptcplab.trace.packets import write_packets

    writer = CaptureWriter(args.write, trace.paths)
    write_packets(trace, of_connection(args, test), writer)
    say(writer.description)


def _write_tables(trace: Trace, folder: Path) -> None:
    from mptcplab.trace.files.batch import CaptureError
    from mptcplab.trace.output.tables import write_tables

    try:
        written = write_tables(trace, folder)
    except OSError as error:
        raise CaptureError(f"--tables {folder}: {error.strerror or error}") from None
    say(f"wrote {len(written)} tables to {folder}")


def _draw(trace: Trace, connections: list[Connection], folder: Path, most: int) -> None:
    from mptcplab.trace.files.batch import CaptureError
    from mptcplab.trace.output.figures import draw_busiest

    gc.enable()  # figures are full of cycles
    try:
        written, drawn = draw_busiest(trace, connections, folder, most)
    except OSError as error:
        raise CaptureError(f"--figures {folder}: {error.strerror or error}") from None
    rest = len(connections) - drawn
    left_out = (
        f", of the {drawn} connections with the most data; --figures-of {len(connections)} draws "
        "all" if rest > 0 else ""
    )  # fmt: skip
    say(f"wrote {len(written)} figures to {folder}{left_out}")


def _progress() -> Progress | None:
    """Return what shows the progress of reading, in a terminal and for large files."""
    if not sys.stderr.isatty() or not is_told(NORMAL):
        return None

    terminal = unfiltered(sys.stderr)

    def show(done: int, size: int) -> None:
        if size > 50_000_000:
            end = "\r" if done < size else "\r\033[K"
            print(f"reading: {100 * done // max(size, 1):3d} %", end=end, file=terminal)

    return show
