"""What shells complete, and the man page: both follow from the parser."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mptcplab.cli.completion import FILES
from mptcplab.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[3]
ASK = """
eval "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
_shtab_mptcplab mptcplab "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf "%s\\n" "${COMPREPLY[@]}"
"""


@pytest.fixture(name="script")
def bash_script(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", "bash"]) == 0
    return capsys.readouterr().out


@pytest.mark.program("bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["sw"], {"sweep"}),
        (["run", "A", "--rep"], {"--repetitions"}),
        (["run", "A", "--on", ""], {"auto", "hosts", "linux", "simulated"}),
        (["run", "examples/wifi-and-l"], {"examples/wifi-and-lte"}),
        (["run", "ow"], {"own.toml"}),
        (["lab", "u"], {"up"}),
        (["completion", ""], set(FILES)),
    ],
)
def test_bash_completes(script: str, words: list[str], completed: set[str], tmp_path: Path) -> None:
    (tmp_path / "own.toml").touch()
    ask = ["bash", "-c", ASK, "bash", script, "mptcplab", *words]
    told = subprocess.run(ask, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert set(told.stdout.split()) == completed


@pytest.mark.parametrize("shell", FILES)
def test_a_script_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert command in text


@pytest.fixture(name="shell_files")
def script_that_writes_them() -> ModuleType:
    pytest.importorskip("shtab")
    pytest.importorskip("argparse_manpage")
    spec = importlib.util.spec_from_file_location("shell_files", ROOT / "docs" / "shell.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="usages differ between Pythons")
def test_scripts_and_man_page_are_current(shell_files: ModuleType) -> None:
    files = {**shell_files.scripts(), shell_files.MAN_PAGE: shell_files.man_page()}
    assert [path.name for path, text in files.items() if path.read_text() != text] == []


def test_the_man_page_has_every_command(shell_files: ModuleType) -> None:
    text = shell_files.MAN_PAGE.read_text()
    for command in COMMANDS:
        assert f"mptcplab {command}" in text
