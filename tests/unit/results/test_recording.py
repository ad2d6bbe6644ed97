"""What is put down of every run, and what becomes of one that is broken off."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mptcplab.loop.stop_signals import forget_stop_signals
from mptcplab.results.recording import Recording


def test_every_run_says_when_and_by_what_it_was_made(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    with Recording(tmp_path / "run", "linux", "6.18.1") as recording:
        folder = recording.finish({"tunables": {}}, {"measured_ns": 7})
    told = json.loads((folder / "run.json").read_text())
    assert (told["scenario"], told["testbed"]) == ({"tunables": {}}, "linux")
    assert told["measured_ns"] == 7
    assert (told["valid"], told["invalid_reasons"]) == (True, [])
    assert before <= datetime.fromisoformat(told["started"]) <= datetime.now(UTC)
    assert 0 <= told["wall_s"] < 60
    assert told["versions"]["kernel"] == "6.18.1"
    assert told["versions"]["mptcplab"] == told["build"]["version"]


def test_a_run_with_a_reason_is_invalid_whatever_gives_the_reasons(tmp_path: Path) -> None:
    with Recording(tmp_path / "run", "simulated") as recording:
        folder = recording.finish({"tunables": {}}, {}, (text for text in ("stopped",)))
    told = json.loads((folder / "run.json").read_text())
    assert (told["valid"], told["invalid_reasons"]) == (False, ["stopped"])


def test_a_run_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def break_off() -> None:
        with Recording(tmp_path / "run", "linux"):
            assert list(tmp_path.iterdir())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert not list(tmp_path.iterdir())


def test_stop_signals_are_heard_until_all_is_written(tmp_path: Path) -> None:
    heard: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    try:
        with Recording(tmp_path / "run", "linux") as recording:
            assert signal.getsignal(signal.SIGTERM) is before
            recording.stop_by(heard.append)
            os.kill(os.getpid(), signal.SIGTERM)
            recording.finish({"tunables": {}}, {})
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        forget_stop_signals()
    assert heard == ["SIGTERM", "SIGTERM"]
    assert signal.getsignal(signal.SIGTERM) is before
