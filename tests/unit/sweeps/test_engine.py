"""Tasks in processes: results as they come, processes that die, an end in the middle."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from mptcplab.sweeps.engine import LocalProcesses, ThisProcess, make_all


def squared(number: int) -> int:
    return number * number


def frozen_now(number: int) -> int:
    return gc.get_freeze_count()


def fatal(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fatal_once(task: tuple[int, str]) -> int:
    number, mark = task
    if number == 3 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def failing(number: int) -> int:
    raise ValueError(f"no {number}")


def slow(number: int) -> int:
    time.sleep(60)
    return number


def test_one_process_makes_one_task_after_the_other() -> None:
    made = make_all(squared, [1, 2, 3], ThisProcess(), died=squared)
    assert list(made) == [(1, 1), (2, 4), (3, 9)]


def test_what_the_first_task_loaded_is_left_alone_until_all_are_made() -> None:
    before = gc.get_freeze_count()
    first, second = (frozen for _, frozen in make_all(frozen_now, [1, 2], ThisProcess(), died=int))
    assert first == before
    assert second > before + 1000
    assert gc.get_freeze_count() == before


@pytest.mark.slow
def test_processes_make_all_tasks() -> None:
    made = dict(make_all(squared, range(20), LocalProcesses(2), died=squared))
    assert made == {number: number * number for number in range(20)}


@pytest.mark.slow
def test_a_task_that_kills_its_process_is_told_and_takes_no_other_with_it() -> None:
    made = dict(make_all(fatal, range(8), LocalProcesses(2), died=lambda number: -number))
    assert made == {number: -3 if number == 3 else number for number in range(8)}


@pytest.mark.slow
def test_a_process_that_dies_once_is_made_up_for(tmp_path: Path) -> None:
    tasks = [(number, str(tmp_path / "mark")) for number in range(6)]
    made = make_all(fatal_once, tasks, LocalProcesses(2), died=lambda task: -1)
    assert sorted(result for _, result in made) == list(range(6))


@pytest.mark.parametrize("workers", [ThisProcess(), LocalProcesses(1)])
def test_what_a_task_raises_is_raised(workers: ThisProcess | LocalProcesses) -> None:
    with pytest.raises(ValueError, match="no 5"):
        list(make_all(failing, [5], workers, died=squared))


@pytest.mark.slow
def test_leaving_ends_what_is_being_made() -> None:
    began_s = time.monotonic()
    with pytest.raises(RuntimeError, match="enough"):
        _leave()
    assert time.monotonic() - began_s < 50
    assert multiprocessing.active_children() == []


def _leave() -> None:
    workers = LocalProcesses(2)
    with workers.executor() as executor:
        executor.submit(slow, 1)
        time.sleep(1)
        raise RuntimeError("enough")
