"""What files hold reaches the terminal as text, whatever it is made of."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest

from mptcplab.cli.main import main
from mptcplab.cli.terminal import PlainStream

ESCAPES = "\u001b]0;PWNED\u0007\u001b[2J\u009b31m\u202e $x^{$ </text><script>\nvalid: the run is"
SCENARIO = f"""
title = {json.dumps(ESCAPES)}
question = {json.dumps(ESCAPES)}
duration = "1s"
hosts = ["alice", "bob"]
timeline = [{{ at = "0.5s", change = "fast", rate = "20Mb/s", label = {json.dumps(ESCAPES)} }}]
report.findings = [{{ text = {json.dumps(ESCAPES)}, source = {json.dumps(ESCAPES)} }}]
sweep = {{ axis = "x", points = [{{ label = {json.dumps(ESCAPES)}, set = ["duration=1s"] }}] }}
[links.fast]
between = ["alice", "bob"]
rate = "5Mb/s"
rtt = "10ms"
[flows.main]
from = "alice"
to = "bob"
"""
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


def is_harmless(capsys: pytest.CaptureFixture[str]) -> bool:
    """Tell whether what was printed holds nothing that a terminal acts on."""
    out, err = capsys.readouterr()
    assert "PWNED" in out + err
    assert not re.search("^valid: the run is$", out, re.MULTILINE)  # no line of the file's own
    return not HARMFUL.search(out + err)


def test_of_a_scenario_and_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "escapes.toml"
    path.write_text(SCENARIO)
    assert main(["check", str(path)]) == 0
    assert is_harmless(capsys)
    assert main(["check", str(path), "--json"]) == 0
    assert is_harmless(capsys)
    assert main(["run", str(path), "--out", str(tmp_path / "run")]) == 0
    assert is_harmless(capsys)
    svg = (tmp_path / "run" / "throughput.svg").read_text()
    assert "<script>" not in svg
    assert not HARMFUL.search(svg)
    arguments = ["reproduce", str(path), "--out", str(tmp_path / "sweep")]
    assert main(arguments) == 0
    assert is_harmless(capsys)


def test_of_a_run_that_others_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sound.toml"
    path.write_text(SCENARIO.replace(json.dumps(ESCAPES), '"sound"'))
    assert main(["run", str(path), "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    metadata = json.loads((tmp_path / "run" / "run.json").read_text())
    metadata["scenario"]["title"] = metadata["scenario"]["name"] = ESCAPES
    metadata["scenario"]["topology"]["links"][0]["name"] = ESCAPES
    metadata["scenario"]["timeline"][0]["label"] = ESCAPES
    metadata["valid"], metadata["invalid_reasons"] = False, [ESCAPES]
    metadata["notes"] = [ESCAPES]
    (tmp_path / "run" / "run.json").write_text(json.dumps(metadata))
    assert main(["show", str(tmp_path / "run")]) == 1
    assert is_harmless(capsys)
    assert not HARMFUL.search((tmp_path / "run" / "throughput.svg").read_text())


@pytest.mark.parametrize("command", ["check", "show", "inspect"])
def test_of_names_of_files(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "\x1b]0;PWNED\x07\u202e"
    folder.mkdir()
    assert main([command, str(folder)]) == 2
    assert is_harmless(capsys)
    shutil.copy(Path(__file__), folder / "file")
    assert main([command, str(folder / "file")]) == 2
    assert is_harmless(capsys)


def test_of_a_name_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "PWNED\udcff.toml")]) == 2
    assert is_harmless(capsys)


class Terminal(io.StringIO):
    """Takes what is written as a terminal does."""

    def isatty(self) -> bool:
        return True


LINES = (
    "valid: the run is what the scenario asked for",
    "NOT VALID:",
    "  goodput: 1.8 Gb/s, expected at least 1.85 Gb/s: met",
    "  goodput: 1.8 Gb/s, expected at least 1.85 Gb/s: missed",
    "small buffers  1 Mb/s  -40.2 %  worse  paired",
    "large buffers  9 Mb/s  +40.2 %  better",
    "not a valid word, nothing better  to colour",
)


def test_verdicts_have_colours_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    print(*LINES, sep="\n", file=PlainStream(terminal))
    green, red, plain = "\x1b[32m", "\x1b[31m", "\x1b[0m"
    assert terminal.getvalue().splitlines() == [
        f"{green}valid{plain}: the run is what the scenario asked for",
        f"{red}NOT VALID{plain}:",
        f"  goodput: 1.8 Gb/s, expected at least 1.85 Gb/s: {green}met{plain}",
        f"  goodput: 1.8 Gb/s, expected at least 1.85 Gb/s: {red}missed{plain}",
        f"small buffers  1 Mb/s  -40.2 %  {red}worse{plain}  paired",
        f"large buffers  9 Mb/s  +40.2 %  {green}better{plain}",
        LINES[-1],
    ]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colours_gets_none(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    terminal = Terminal()
    print(*LINES, sep="\n", file=PlainStream(terminal))
    assert terminal.getvalue().splitlines() == list(LINES)


def test_a_file_gets_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = io.StringIO()
    print(*LINES, sep="\n", file=PlainStream(file))
    assert file.getvalue().splitlines() == list(LINES)
