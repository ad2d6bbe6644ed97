"""Runs of a scenario with one seed after the other, in folders of their own, made once.

What a command that makes many runs has in common with the others: which seeds, which folders, what
is there already, and that an interrupt ends it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mptcplab.cli.verbosity import VERBOSE, say

if TYPE_CHECKING:
    import argparse

    from mptcplab.results.run import Run
    from mptcplab.scenario import Scenario
    from mptcplab.sweeps.engine import Workers

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
        say(
            f"mptcplab: {scenario.name}: nothing in it is random (processing_jitter and "
            "start_jitter are 0, and links lose nothing): every seed gives the same run, which is "
            "one observation; it is made once"
        )
        repetitions = 1
    return [scenario.seed + number for number in range(repetitions)]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run to make: with this scenario and its seed, in this folder; ``title`` is what to say."""

    testbed: str
    scenario: Scenario
    folder: Path
    title: str


def workers_for(testbed: str, jobs: int | None, runs: int) -> Workers:
    """Return who makes runs: all cores in simulation, else this process, one at a time."""
    from mptcplab.sweeps.engine import ThisProcess, local_workers

    check_jobs(testbed, jobs)
    return local_workers(jobs, runs) if testbed == "simulated" else ThisProcess()


def check_jobs(testbed: str, jobs: int | None) -> None:
    """Raise ScenarioError where so many runs at a time are none, or too many for the testbed."""
    from mptcplab.scenario import ScenarioError

    if jobs is not None and jobs < 1:
        raise ScenarioError("--jobs", "", f"{jobs} is no number of runs", "1 or more")
    if testbed != "simulated" and (jobs or 1) > 1:
        problem = "runs on the same kernels would disturb each other"
        raise ScenarioError("--jobs", "", problem, "1, or --on simulated")


def add_jobs_argument(parser: argparse.ArgumentParser) -> None:
    """Add --jobs."""
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at a time (default: a core each; Linux: 1)"
    )


def made(planned: Sequence[PlannedRun], workers: Workers) -> Iterator[tuple[PlannedRun, Run]]:
    """Make runs and yield each as it is done.

    Their progress is shown where this process makes them. Raises what stops a run from being made,
    and Stopped or KeyboardInterrupt at a stop signal, after which there is no next one.
    """
    from mptcplab.results.run import Run
    from mptcplab.sweeps.engine import ThisProcess, make_all

    make = _make_shown if isinstance(workers, ThisProcess) else _make_silent
    with closing(make_all(make, planned, workers, _raise_death)) as results:
        for each, folder in results:
            run = Run(folder)
            end_if_stopped(run)
            valid = "valid" if run.metadata["valid"] else "NOT VALID"
            say(f"{run.folder}: {valid}, took {run.metadata['wall_s']:.2f} s", VERBOSE)
            yield each, run


def _make_shown(planned: PlannedRun) -> Path:
    from mptcplab.cli.progress import progress_for
    from mptcplab.testbeds import run_on

    progress = progress_for(planned.title, planned.scenario.duration_ns)
    try:
        return run_on(planned.testbed, planned.scenario, planned.folder, progress)
    finally:
        progress.close()


def _make_silent(planned: PlannedRun) -> Path:
    from mptcplab.results.observer import Silent
    from mptcplab.testbeds import run_on

    return run_on(planned.testbed, planned.scenario, planned.folder, Silent())


def _raise_death(planned: PlannedRun) -> Path:
    from mptcplab.results.run import RunError

    raise RunError(f"{planned.title}: its process died each time that it was made")


def end_if_stopped(run: Run) -> None:
    """Raise Stopped where a stop signal came while a run was made, after which there is no next."""
    from mptcplab.loop.stop_signals import Stopped, stop_received

    number = stop_received()
    if number is not None:
        raise Stopped(number)
    if run.is_cut:  # by a signal to its supervisor alone
        raise KeyboardInterrupt


def finished(planned: PlannedRun) -> Run | None:
    """Return the finished run in a planned one's folder, None where it is still to be made.

    What an interrupt cut short is removed, to be made again.  RunError where the folder holds
    another run.
    """
    from mptcplab.results.run import Run, RunError
    from mptcplab.scenario.repetition import with_drawn_starts
    from mptcplab.scenario.to_json import as_plain

    folder = planned.folder
    if not folder.exists():
        return None
    done = Run(folder)
    done.check()
    if done.scenario != json.loads(json.dumps(as_plain(with_drawn_starts(planned.scenario)))):
        raise RunError(f"{folder}: holds a run with other settings; choose another --out")
    if not done.is_cut:
        return done
    shutil.rmtree(folder)
    return None


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
