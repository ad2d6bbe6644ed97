"""Whoever reads the progress may go: the run goes on."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mptcplab.cli.progress import LiveProgress, PlainProgress
from mptcplab.results.run import Run


class Closed(io.StringIO):
    """A terminal that has been closed."""

    def isatty(self) -> bool:
        return True

    def write(self, _text: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("make", [PlainProgress, partial(LiveProgress, "title")])
def test_progress_on_a_terminal_that_is_closed(
    make: Callable[[int], PlainProgress | LiveProgress], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Closed())
    progress = make(1_000_000_000)
    progress.phase("measuring")
    progress.tick(1, {"main": 1e6}, {"l": (1e6, 0.0)}, {"l": 1000})
    progress.event(1, "something")
    progress.close()


@pytest.mark.slow
def test_a_run_whose_reader_goes_is_finished(tmp_path: Path) -> None:
    argv = ["run", "A", "--duration", "1s", "--interval", "100ms", "--out", str(tmp_path / "run")]
    with subprocess.Popen(
        [sys.executable, "-m", "mptcplab", *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        assert process.wait(timeout=120) == 0
    assert Run(tmp_path / "run").metadata["valid"]
