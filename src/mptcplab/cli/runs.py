"""``mptcplab runs``: list the runs and sweeps of a folder, and remove those that are not wanted."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_DAY_S: Final = 86_400
_DEEP: Final = 3
"""How far below the folder a run may be: ``compare`` keeps them by variant and seed."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A folder that holds a run or a sweep; times are seconds since 1970."""

    folder: str
    kind: str
    scenario: str
    testbed: str
    valid: bool | None
    """None where nothing says so: of a sweep, and of what cannot be read."""
    duration_s: float | None
    size_bytes: int
    changed: float


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "runs",
        help="list the runs of a folder, their sizes, and remove some",
        description="List the runs and sweeps in a folder, the newest last, with what they are and "
        "the room they take; of comparisons and reproductions each run. With --remove, remove "
        "those that the other options choose, after a list of what goes.",
        epilog="Examples: mptcplab runs; mptcplab runs --invalid --remove; mptcplab runs "
        "--older-than 30 --remove. Exit status: 0 done, 2 bad input.",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where the runs are (default: %(default)s)",
    )
    parser.add_argument("--invalid", action="store_true", help="only runs that are not valid")
    parser.add_argument(
        "--older-than", type=float, metavar="DAYS", help="only what is older than so many days"
    )
    parser.add_argument("--scenario", metavar="NAME", help="only runs of the scenario of this name")
    parser.add_argument("--remove", action="store_true", help="remove what is listed")
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List them, and remove what is to be removed."""
    from mptcplab.scenario import ScenarioError

    chosen = args.invalid or args.older_than is not None or args.scenario is not None
    if args.remove and not chosen:
        expected = "what to remove: --invalid, --older-than or --scenario"
        raise ScenarioError("--remove", "", "would remove every run", expected)
    if not args.folder.is_dir():
        raise ScenarioError(str(args.folder), "", "is no folder", "one that holds runs")
    listed = sorted(filter(_test(args), found(args.folder)), key=lambda each: each.changed)
    if args.json:
        print(json.dumps([asdict(each) for each in listed], indent=2))
    else:
        print(_table(listed, args.folder))
    if args.remove:
        for each in listed:
            shutil.rmtree(each.folder)
        print(f"mptcplab: removed {len(listed)}", file=sys.stderr)
    return 0


def found(folder: Path, depth: int = _DEEP) -> Iterator[Listed]:
    """Yield the runs and sweeps in a folder and below it; folders with dots are passed over."""
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.is_symlink() or path.name.startswith("."):
            continue
        if (path / "run.json").is_file():
            yield _run(path)
        elif (path / "sweep.json").is_file():
            yield _sweep(path)
        elif depth > 0:
            yield from found(path, depth - 1)


def _run(path: Path) -> Listed:
    from mptcplab.results.run import Run, RunError

    size, changed = size_bytes(path), (path / "run.json").stat().st_mtime
    try:
        done = Run(path)
        done.check()
    except RunError:
        return Listed(str(path), "unreadable run", "", "", None, None, size, changed)
    return Listed(
        str(path),
        "run",
        done.scenario["name"],
        done.metadata["testbed"],
        done.metadata["valid"],
        done.metadata["measured_ns"] / 1e9,
        size,
        changed,
    )


def _sweep(path: Path) -> Listed:
    from mptcplab.results.run import RunError
    from mptcplab.sweeps.store import SETTINGS, Store

    size, changed = size_bytes(path), (path / SETTINGS).stat().st_mtime
    try:
        settings = Store(path).settings()
    except RunError:
        return Listed(str(path), "unreadable sweep", "", "", None, None, size, changed)
    name, testbed = (str(settings.get(key, "")) for key in ("scenario", "testbed"))
    return Listed(str(path), "sweep", name, testbed, None, None, size, changed)


def size_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder and below it."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _test(args: argparse.Namespace) -> Callable[[Listed], bool]:
    before = time.time() - (args.older_than or 0) * _DAY_S

    def wanted(each: Listed) -> bool:
        return (
            (not args.invalid or each.valid is False)
            and (args.older_than is None or each.changed < before)
            and (args.scenario is None or each.scenario == args.scenario)
        )

    return wanted


def _table(listed: list[Listed], folder: Path) -> str:
    from mptcplab.plain_text import printable
    from mptcplab.text_table import columns
    from mptcplab.units import format_size

    if not listed:
        return f"no runs in {folder}"
    rows = [["", "", "scenario", "testbed", "", "when", "size"]]
    for each in listed:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.changed))
        valid = {True: "valid", False: "NOT VALID", None: ""}[each.valid]
        name = printable(str(Path(each.folder).relative_to(folder)))
        rows.append(
            [
                name,
                each.kind,
                each.scenario,
                each.testbed,
                valid,
                when,
                format_size(each.size_bytes),
            ]
        )
    total = format_size(sum(each.size_bytes for each in listed))
    return f"{columns(rows, left=5, indent='')}\n{len(listed)} in {folder}, {total}"
