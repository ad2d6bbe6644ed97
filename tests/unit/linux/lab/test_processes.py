"""A child that a signal stopped is known, though it runs again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from mptcplab.linux.lab.processes import was_stopped


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process.pid
        process.kill()


def eventually_stopped(child: int) -> bool:
    deadline_s = time.monotonic() + 10
    while not was_stopped(child) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return was_stopped(child)


def test_one_that_runs_was_not_stopped(child: int) -> None:
    assert not was_stopped(child)


def test_one_that_is_stopped_was(child: int) -> None:
    os.kill(child, signal.SIGSTOP)
    assert eventually_stopped(child)


def test_one_that_runs_again_was_stopped_however_often_one_asks(child: int) -> None:
    os.kill(child, signal.SIGSTOP)
    assert eventually_stopped(child)
    os.kill(child, signal.SIGCONT)
    time.sleep(0.05)
    assert eventually_stopped(child)
    assert was_stopped(child)


def test_one_that_has_ended_is_another_matter(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not was_stopped(child)
