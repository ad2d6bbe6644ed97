"""``mptcplab page``: one self-contained HTML file of runs, comparisons and captures."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mptcplab.report.page.document import Part
    from mptcplab.trace.trace import Trace
    from mptcplab.trace.two_captures import Ends

_DESCRIPTION = """\
Write one HTML file that shows finished runs, comparisons (the folders that `compare` leaves),
sweeps and captures: what was asked and whether it is valid, the network with rates that follow a
time cursor, throughput, round trips, windows, queues and data over time, what held connections
back, events, requests, and everything that is needed to repeat it. The file loads nothing from
anywhere: mail it, put it beside a paper, open it in twenty years."""

_EXIT_STATUS = (
    "Exit status: 0 written, 2 what was named is none of these, or damaged, 3 the page cannot be "
    "written."
)
_LONGEST_TITLE: Final = 120
_MOST_ENDS: Final = 16
"""Of more captures than these it is not asked at which end each was taken: they are a row."""


class PageError(ValueError):
    """What was named cannot be shown, or the page not be written; the text says why."""

    exit_status = 2  # bad input


class NotWrittenError(RuntimeError):
    """The page's file cannot be written."""

    exit_status = 3  # this machine cannot


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "page",
        help="write one HTML file that shows runs, comparisons and captures",
        description=_DESCRIPTION,
        epilog=_EXIT_STATUS,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="SOURCE",
        help="the folder of a run, comparison or sweep, or a capture: a file (pcap or pcapng), a "
        "folder of captures, a quoted pattern, or - for standard input",
    )
    parser.add_argument(
        "-o",
        dest="output",
        type=Path,
        metavar="FILE",
        help="the file to write (default: the name of the first source with .html, here)",
    )
    parser.add_argument(
        "--connection", type=int, metavar="N", help="of captures, show this connection alone"
    )
    parser.add_argument("--title", metavar="TEXT", help="the heading of the page")
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page; 0. Raises PageError, RunError or CaptureError for what cannot be shown."""
    from mptcplab.report.page.document import page

    output = args.output or Path(f"{_stem(args.sources[0])}.html")
    if output.is_dir():
        raise PageError(f"-o {output}: is a folder; expected the name of a file, such as page.html")
    parts = _parts(args.sources, args.connection)
    text = page(parts, args.title or _title(parts))
    _write(output, text)
    print(f"Page    {output} ({len(text.encode()) / 1e6:.1f} MB)")
    if args.open and not webbrowser.open(output.absolute().as_uri()):
        print(f"--open: there is no browser here; open {output} in one", file=sys.stderr)
    return 0


def _stem(path: Path) -> str:
    """Return the name of a source without the endings of captures."""
    name = path.absolute().name if path.name in ("", ".", "..") else path.name
    stem = name if path.is_dir() else name.split(".")[0]
    return "capture" if stem in ("-", "") else stem


def _title(parts: list[Part]) -> str:
    title = ", ".join(part.title for part in parts)
    return title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 1]}…"


def _parts(sources: Sequence[Path], connection: int | None) -> list[Part]:
    """Return what the page shows of each source, in their order; captures that belong together
    are one.
    """
    parts: dict[int, Part] = {}
    captures: dict[int, Path] = {}
    for place, path in enumerate(sources):
        part = _part_of_folder(path)
        if part is None:
            captures[place] = path
        else:
            parts[place] = part
    parts |= _captures(captures, connection)
    return [parts[place] for place in sorted(parts)]


def _part_of_folder(path: Path) -> Part | None:
    """Return what a page shows of a source, by what is in its folder; None of a capture."""
    if path.is_dir():
        from mptcplab.report.page.comparison import FILE, comparison_part

        if (path / "run.json").exists():
            from mptcplab.report.page.run import run_part
            from mptcplab.results.run import Run

            return run_part(Run(path))
        if (path / FILE).exists():
            return comparison_part(path)
        if (path / "sweep.json").exists():
            from mptcplab.cli.sweep_page import sweep_part

            return sweep_part(path)
        inside = sorted(child.parent.name for child in path.glob("*/run.json"))
        if inside:
            names = ", ".join(inside[:5]) + (" ..." if len(inside) > 5 else "")
            raise PageError(
                f"{path}: is neither a run nor a comparison nor a sweep, and holds the runs "
                f"{names}; name those to be shown"
            )
    elif not path.exists() and str(path) != "-" and not set("*?[") & set(path.name):
        raise PageError(
            f"{path}: there is no such file or folder; expected the folder of a run, "
            "comparison or sweep, or a capture"
        )
    return None


def _captures(sources: Mapping[int, Path], connection: int | None) -> dict[int, Part]:
    """Return the parts of captures, by the place of the first of those that are shown together.

    Together are those of the same time, and two captures of one connection, whatever their clocks
    say.
    """
    from mptcplab.trace.columns.memory import keep_freed_memory
    from mptcplab.trace.files.opening import kept
    from mptcplab.trace.trace import open_trace

    keep_freed_memory()
    with ExitStack() as stack:
        several = len(sources) > 1
        files = {
            place: stack.enter_context(kept([path], again=several))
            for place, path in sources.items()
        }
        traces = {place: open_trace(paths) for place, paths in files.items()}
        parts = {}
        for group in _groups(files, traces):
            if len(group) == 1:
                parts[group[0]] = _capture(traces[group[0]], connection)
            else:
                parts[group[0]] = _together([files[place] for place in group], connection)
    return parts


def _groups(files: Mapping[int, list[Path]], traces: Mapping[int, Trace]) -> list[list[int]]:
    from mptcplab.trace.two_captures import ends_of

    def belong(one: int, other: int) -> bool:
        a, b = traces[one], traces[other]
        if a.packets and b.packets and a.first_ns <= b.last_ns and b.first_ns <= a.last_ns:
            return True
        return len(files) <= _MOST_ENDS and ends_of([files[one], files[other]]) is not None

    groups: list[list[int]] = []
    for place in files:
        joined = [group for group in groups if any(belong(place, other) for other in group)]
        groups = [group for group in groups if group not in joined]
        groups.append([*(each for group in joined for each in group), place])
    return [sorted(group) for group in groups]


def _together(captures: Sequence[list[Path]], connection: int | None) -> Part:
    """Return the part of several captures, as `inspect` reads them."""
    from mptcplab.trace.trace import open_trace
    from mptcplab.trace.two_captures import ends_of, open_ends

    found = ends_of(captures) if len(captures) <= _MOST_ENDS else None
    if found is None:
        return _capture(open_trace([path for paths in captures for path in paths]), connection)
    ends = open_ends(found.near, found.far, None, found.between)
    return _capture(ends.near, connection, ends)


def _capture(trace: Trace, number: int | None, ends: Ends | None = None) -> Part:
    from mptcplab.cli.capture_page import capture_part
    from mptcplab.cli.inspect_output import check_readable
    from mptcplab.trace.files.batch import CaptureError

    check_readable(trace)
    connections = trace.connections
    if number is not None:
        if not 0 <= number < len(connections):
            raise CaptureError(
                f"--connection {number}: MPTCP connections are numbered from 0, and the capture "
                f"has {len(connections)}"
            )
        connections = [connections[number]]
    return capture_part(trace, connections, ends)


def _write(output: Path, text: str) -> None:
    """Write the page whole or not at all; NotWrittenError where that is not possible."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{output.name[:100]}.", dir=output.parent)
        partial = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o666 & ~umask)
            partial.replace(output)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NotWrittenError(f"{output}: cannot be written: {error.strerror or error}") from error
