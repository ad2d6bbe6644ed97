"""Plays the scripts of a folder and prints a table; see the package's description."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from bench.packetdrill.play import Outcome, Player
from bench.packetdrill.script import ScriptError, parse


def outcome_of(path: Path) -> Outcome:
    """Play one file."""
    try:
        return Player(parse(path.read_text(encoding="utf-8"))).play()
    except ScriptError as error:
        return Outcome(str(error))


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m bench.packetdrill")
    parser.add_argument("folder", type=Path, help="with scripts (.pkt), in folders of its own too")
    parser.add_argument("--only", default="", metavar="TEXT", help="scripts whose path has this")
    chosen = parser.parse_args()
    paths = [path for path in sorted(chosen.folder.rglob("*.pkt")) if chosen.only in str(path)]
    if not paths:
        parser.error(f"no .pkt script in {chosen.folder}")
    names = [str(path.relative_to(chosen.folder)) for path in paths]
    width = max(len(name) for name in names)
    counts: Counter[str] = Counter()
    for name, path in zip(names, paths, strict=True):
        outcome = outcome_of(path)
        counts[outcome.verdict] += 1
        said = [outcome.failure] if outcome.failure else []
        said += [reason.value for reason in outcome.reasons]
        print(f"{name:{width}}  {outcome.verdict:4}  {'; '.join(said)}".rstrip())
    total = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("pass", "RFC", "fail"))
    print(f"{len(paths)} scripts: {total}")


if __name__ == "__main__":
    main()
