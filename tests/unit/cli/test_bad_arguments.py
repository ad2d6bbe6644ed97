"""Whatever stands on the command line, what is wrong is said in one line, with status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "A", "--duration", "1e300h"], "--duration: makes the run too long"),
        (["check", "A", "--duration", "1e9h"], "1000 hours at most"),
        (["check", "A", "--time-scale", "1e12"], "--time-scale: makes the run too long"),
        (["check", "A", "--seed", "9" * 30], "is out of range"),
        (["buffers", "1e300b/s@1s"], "is out of range"),
        (["buffers", "1Gb/s@nan"], "'nan' is not a duration"),
        (["goals", "--repetitions", "0"], "0 is not a number of runs"),
        (["monitor", "lo", "--count", "0"], "expected 1 or more"),
        (["run", "A", "--duration", "1s", "--out", "FILE/x"], "cannot be made: "),
        (["reproduce", "A", "--duration", "1s", "--out", "FILE"], "cannot be made: "),
        (["show", "LIST"], "expected a JSON object"),
    ],
)
def test_one_line_and_status_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "run.json").write_text("[]")
    places = {"FILE": str(tmp_path / "file"), "LIST": str(tmp_path / "list")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mptcplab: ")
    assert said in error
