"""The command as a whole."""

from __future__ import annotations

import argparse
import ast
import importlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mptcplab.cli.main import COMMANDS, build_parser, main


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_of_a_command_what_its_module_says(command: str) -> None:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    importlib.import_module(f"mptcplab.cli.{command}").add_parser(subparsers)
    (choice,) = subparsers._choices_actions
    assert (choice.dest, choice.help) == (command, COMMANDS[command])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_no_doubled_percent_sign(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "%%" not in capsys.readouterr().out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n    {command} " in text for command in COMMANDS)
    assert max(len(line) for line in text.splitlines()) <= 100


def test_help_is_the_same_whichever_way_it_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["--help"])
    first = capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["--help", "run"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == first


def test_help_imports_nothing_that_it_can_do_without() -> None:
    code = (
        "import sys; before = set(sys.modules); from mptcplab.cli.main import main; "
        "main(['--help']); print(sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in ast.literal_eval(told.stderr) if not name.startswith("mptcplab")}
    assert loaded <= {"__future__", "errno"}


def test_an_unknown_command_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runn"])
    assert ended.value.code == 2
    assert 'no command "runn"' in capsys.readouterr().err


def test_an_unknown_experiment_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "Z9"]) == 2
    error = capsys.readouterr().err
    assert "Z9" in error
    assert "Traceback" not in error


def test_a_folder_that_exists_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").touch()
    assert main(["run", "A", "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_only_the_command_asked_for_has_arguments() -> None:
    assert build_parser("run").parse_args(["run", "A", "--seed", "7"]).seed == 7


SIGNALLED = """
import builtins, os, signal, sys
real = builtins.__import__

def interrupted(name, *args, **options):
    if name == {module!r}:
        builtins.__import__ = real
        {act}
    return real(name, *args, **options)

builtins.__import__ = interrupted
sys.argv = ["mptcplab", "check", "A"]
from mptcplab.cli.main import entry
entry()
"""
KILL = "os.kill(os.getpid(), signal.{})"
# as importlib's locks have callbacks, in which nothing can be raised
IN_CALLBACK = """import weakref
        class Lock: pass
        lock = Lock()
        def kill(_): os.kill(os.getpid(), signal.SIGINT)
        reference = weakref.ref(lock, kill)
        del lock"""
# as extension modules do that are interrupted while they are imported
CONVERT = """try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as stop:
            raise ImportError("failed to import") from stop"""


@pytest.mark.parametrize(
    ("module", "act", "name"),
    [
        ("argparse", KILL.format("SIGINT"), "SIGINT"),
        ("mptcplab.cli.terminal", IN_CALLBACK, "SIGINT"),
        ("mptcplab.scenario", IN_CALLBACK, "SIGINT"),
        ("mptcplab.scenario", KILL.format("SIGTERM"), "SIGTERM"),
        ("tomllib", KILL.format("SIGHUP"), "SIGHUP"),
        ("mptcplab.scenario", CONVERT, "SIGTERM"),
    ],
)
def test_a_signal_while_modules_are_imported_is_one_line(module: str, act: str, name: str) -> None:
    code = SIGNALLED.format(module=module, act=act)
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert told.stderr == f"mptcplab: stopped by {name}\n"
    assert told.returncode == 128 + signal.Signals[name]
