"""A signal, or the death of any process, in any phase of a run: the run so far, or one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.bent_runs import MARK, Processes

from mptcplab.results.run import Run

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

SCENARIO = """
duration = "1s"
interval = "100ms"
hosts = ["a", "b"]
[links.l]
between = ["a", "b"]
rate = "20Mb/s"
rtt = "10ms"
[flows.f]
from = "a"
to = "b"
"""
PATIENCE_S = 60.0


def run_until(folder: Path, phase: str, act: Callable[[int, str], None]) -> tuple[int, str]:
    """Run a scenario, act when a phase begins (with its process and mark); return how it ended."""
    (folder / "scenario.toml").write_text(SCENARIO)
    mark = f"{os.getpid()}-{phase}-{time.monotonic_ns()}"
    argv = ["run", str(folder / "scenario.toml"), "--on", "linux", "--out", str(folder / "run")]
    with subprocess.Popen(
        [sys.executable, "-m", "mptcplab", *argv],
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line == f"[{phase}]\n":
                act(process.pid, mark)
    deadline_s = time.monotonic() + PATIENCE_S
    while Processes(mark).all and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert Processes(mark).all == {}
    return process.returncode, said


def check_ending(folder: Path, status: int, said: str) -> list[str]:
    """Check that nothing is lost, left or raised; return why the run, if there is one, is not
    valid.
    """
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    left = sorted(path.name for path in folder.iterdir())
    if (folder / "run").exists():
        assert left == ["run", "scenario.toml"]
        reasons: list[str] = Run(folder / "run").metadata["invalid_reasons"]
        assert status == bool(reasons)
        return reasons
    assert [name for name in left if not name.startswith(".")] == ["scenario.toml"]
    assert said.splitlines()[-1].startswith("mptcplab: ")
    assert status > 0
    return []


@pytest.mark.parametrize(
    ("phase", "number", "measures"),
    [
        ("building", signal.SIGINT, False),
        ("starting", signal.SIGHUP, False),
        ("measuring", signal.SIGINT, None),
        ("draining", signal.SIGTERM, True),
    ],
)
def test_a_signal_when_a_phase_begins(
    tmp_path: Path, phase: str, number: signal.Signals, measures: bool | None
) -> None:
    status, said = run_until(tmp_path, phase, lambda pid, _: os.kill(pid, number))
    reasons = check_ending(tmp_path, status, said)
    if measures is not None:
        assert (tmp_path / "run").exists() == measures
    if (tmp_path / "run").exists():
        assert any(f"stopped by {number.name} at " in reason for reason in reasons) or not reasons
    else:
        assert said.splitlines()[-1] == f"mptcplab: stopped by {number.name}"
        assert status == 128 + number
        assert list(tmp_path.glob(".*")) == []


def named(mark: str, name: str) -> int:
    """Return a process of a run as soon as it is there."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            return Processes(mark).named(name)
        except (StopIteration, ValueError, IndexError):
            time.sleep(0.01)
    raise TimeoutError(name)


@pytest.mark.parametrize(
    ("phase", "victim"),
    [
        ("verifying", "emulator"),
        ("measuring", "supervisor"),
        ("draining", "emulator"),
    ],
)
def test_the_death_of_a_process_when_a_phase_begins(
    tmp_path: Path, phase: str, victim: str
) -> None:
    def act(_pid: int, mark: str) -> None:
        os.kill(named(mark, victim), signal.SIGKILL)

    status, said = run_until(tmp_path, phase, act)
    reasons = check_ending(tmp_path, status, said)
    assert status in (1, 3), json.dumps(reasons)
