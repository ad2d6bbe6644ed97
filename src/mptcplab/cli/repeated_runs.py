"""Runs of a scenario with one seed after the other, in folders of their own, made once.

What a command that makes many runs has in common with the others: which seeds, which folders, what
is there already, and that an interrupt ends it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

    from mptcplab.results.run import Run
    from mptcplab.scenario import Scenario

DEFAULT_REPETITIONS: Final = 5
"""Runs of each variant that a comparison makes where nothing says how many."""

_LONGEST_NAME: Final = 60
"""Characters of a label that a folder's name keeps; a file's name may have 255 bytes."""
_HASH_DIGITS: Final = 16


def repetitions_of(args: argparse.Namespace, stated: int) -> int:
    """Return how many runs are asked for: ``--repetitions``, else what is stated elsewhere."""
    from mptcplab.scenario import ScenarioError

    wanted: int | None = args.repetitions
    if wanted is None:
        return stated
    if wanted < 1:
        raise ScenarioError("--repetitions", "", f"{wanted} is not a number of runs", "1 or more")
    return wanted


def seeds_of(testbed: str, scenario: Scenario, repetitions: int) -> list[int]:
    """Return the seeds of the repetitions; one where every seed would give the same run.

    On the Linux testbed kernel and machine make every run another one, whatever its seed.
    """
    from mptcplab.scenario.repetition import random_sources

    if testbed == "simulated" and repetitions > 1 and not random_sources(scenario):
        print(
            f"mptcplab: {scenario.name}: nothing in it is random (processing_jitter and "
            "start_jitter are 0, and links lose nothing): every seed gives the same run, which is "
            "one observation; it is made once",
            file=sys.stderr,
            flush=True,
        )
        repetitions = 1
    return [scenario.seed + number for number in range(repetitions)]


def run_once(testbed: str, scenario: Scenario, folder: Path, title: str) -> Run:
    """Run a scenario in a folder with the progress shown, and return the run."""
    from mptcplab.cli.progress import progress_for
    from mptcplab.cli.testbeds import run_on
    from mptcplab.results.run import Run

    progress = progress_for(title, scenario.duration_ns)
    try:
        done = Run(run_on(testbed, scenario, folder, progress))
    finally:
        progress.close()
    return done


def end_if_stopped(run: Run) -> None:
    """Raise Stopped where a stop signal came while a run was made, after which there is no next."""
    from mptcplab.loop.stop_signals import Stopped, stop_received

    number = stop_received()
    if number is not None:
        raise Stopped(number)
    if run.is_cut:  # by a signal to its supervisor alone
        raise KeyboardInterrupt


def finished(testbed: str, scenario: Scenario, folder: Path, title: str) -> tuple[Run, bool]:
    """Return the finished run in a folder, and whether it was made for that just now.

    What an interrupt cut short is made again.  RunError where the folder holds another run.
    """
    from mptcplab.results.run import Run, RunError
    from mptcplab.scenario.repetition import with_drawn_starts
    from mptcplab.scenario.to_json import as_plain

    if folder.exists():
        done = Run(folder)
        done.check()
        if done.scenario != json.loads(json.dumps(as_plain(with_drawn_starts(scenario)))):
            raise RunError(f"{folder}: holds a run with other settings; choose another --out")
        if not done.is_cut:
            return done, False
        shutil.rmtree(folder)
    return run_once(testbed, scenario, folder, title), True


def with_seed(scenario: Scenario, seed: int) -> Scenario:
    """Return the scenario with another seed."""
    return replace(scenario, seed=seed)


def folder_names(labels: Iterable[str], reserved: Sequence[str] = ()) -> dict[str, str]:
    """Return a name for a file or folder of each label, all of them different.

    It is the label's letters, digits and dots, and a hash of the whole label where those are too
    few, too many, or another label's or a reserved name as well.
    """
    slugs = {label: _slug(label) for label in labels}
    taken = [slug.casefold() for slug in (*slugs.values(), *reserved)]
    names = {
        label: slug if slug and len(slug) <= _LONGEST_NAME and taken.count(slug.casefold()) == 1
        else f"{slug[:_LONGEST_NAME]}-{_hash(label)}".lstrip("-")
        for label, slug in slugs.items()
    }  # fmt: skip
    for label, name in names.items():  # a label that looks like another one's name with its hash
        if list(names.values()).count(name) > 1:
            names[label] = f"{slugs[label][:_LONGEST_NAME]}-{_hash(label)}".lstrip("-")
    return names


def _slug(label: str) -> str:
    text = unicodedata.normalize("NFC", label)
    return re.sub(r"[^\w.]+", "-", text).strip("-.").lower()


def _hash(label: str) -> str:
    return hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
