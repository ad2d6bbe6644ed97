"""What the README shows can be pasted: its commands parse, its scenario runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mptcplab.cli.main import build_parser, main
from mptcplab.scenario import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for line in README.splitlines()
    if line.startswith("    mptcplab ")
]


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_parses(arguments: list[str]) -> None:
    build_parser(arguments[0]).parse_args(arguments)


@pytest.mark.parametrize(
    "arguments",
    [one for one in COMMANDS if one[0] in ("experiments", "check", "buffers", "schema")],
    ids=" ".join,
)
def test_commands_that_change_nothing_run(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0


def test_the_scenario_runs_as_its_commands_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    Path("outage.toml").write_text(text)
    shown = [one for one in COMMANDS if one[:2] == ["run", "outage.toml"]]
    assert len(shown) == 2
    for number, arguments in enumerate(shown):
        out = f"out{number}"
        assert main([*arguments, "--duration", "1s", "--out", out]) == 0
        assert f"Figure  {out}/throughput.png" in capsys.readouterr().out


def test_the_built_in_scenarios_it_names_exist() -> None:
    for arguments in COMMANDS:
        if arguments[0] in ("run", "check", "compare") and len(arguments[1]) == 1:
            load(arguments[1])


def test_the_pages_it_links_exist() -> None:
    for page in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / page).exists(), page
