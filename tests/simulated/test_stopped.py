"""A stop signal in any phase of a simulated run: the run so far, or one line."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mptcplab.cli.main import main
from mptcplab.loop.stop_signals import STOP_SIGNALS
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import load
from mptcplab.simulated.testbed import run


class Killer(Silent):
    """Sends a signal to this process when a phase begins."""

    def __init__(self, phase: str, number: signal.Signals) -> None:
        self._phase, self._number = phase, number

    def phase(self, name: str) -> None:
        if name == self._phase:
            os.kill(os.getpid(), self._number)


@pytest.fixture(autouse=True)
def interruptible() -> object:
    """Let each stop signal raise, as SIGINT does; the handlers return after the test."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize("phase", ["measuring", "draining"])
def test_what_was_measured_is_kept(tmp_path: Path, phase: str, number: signal.Signals) -> None:
    scenario = load("A", duration_ns=200_000_000, interval_ns=100_000_000)
    done = Run(run(scenario, tmp_path / "run", Killer(phase, number)))
    [reason, *_] = done.metadata["invalid_reasons"]
    assert reason.startswith(f"stopped by {number.name} at ")
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_before_that_nothing_is(tmp_path: Path) -> None:
    scenario = load("A", duration_ns=200_000_000, interval_ns=100_000_000)
    with pytest.raises(KeyboardInterrupt):
        run(scenario, tmp_path / "run", Killer("building", signal.SIGINT))
    assert list(tmp_path.iterdir()) == []


def test_while_the_figure_is_drawn_the_run_is_there_and_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("mptcplab.report.figure.draw_throughput", draw)
    out = tmp_path / "run"
    assert main(["run", "A", "--duration", "200ms", "--out", str(out)]) == 130
    assert capsys.readouterr().err.endswith(f"the run is whole in {out}\n")
    assert Run(out).metadata["valid"]


def test_a_stop_ends_repetitions_after_the_run_that_it_met(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Killer("draining", signal.SIGHUP)
    killer.close = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setattr("mptcplab.cli.progress.progress_for", lambda *_: killer)
    argv = ["run", "A", "--duration", "200ms", "--repetitions", "3", "--jobs", "1"]
    assert main([*argv, "--out", str(tmp_path)]) == 129
    assert capsys.readouterr().err.endswith("mptcplab: stopped by SIGHUP\n")
    assert len(list(tmp_path.glob("*/run.json"))) == 1
