"""What docs/reference/inspect.md shows is what the program prints, and its example runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mptcplab.cli.main import main

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "reference" / "inspect.md").read_text()
BLOCKS = [
    [line[4:] for line in block.splitlines()]
    for block in re.findall(r"^    \$ .*\n(?:    .*\n|\n(?=    ))*", TEXT, re.MULTILINE)
]
SHOWN = [(block[0].removeprefix("$ "), block[1:]) for block in BLOCKS]


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_the_output_shown(
    command: str,
    output: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(command)
    assert program == "mptcplab"
    assert main(arguments) == 0
    printed = iter(capsys.readouterr().out.splitlines())
    shown = [line for line in output if line.strip() not in ("...", "")]
    assert len(shown) >= 1
    for line in shown:  # in this order, others between them where the documentation says "..."
        assert line in printed, line


def test_the_python_example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(code, "docs/reference/inspect.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "10.0.1.1:60766" in printed
    assert "subflow lost" in printed
