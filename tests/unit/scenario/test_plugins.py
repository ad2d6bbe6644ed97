"""A scenario file is data: it runs no code unless the user says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mptcplab.cli.main import main
from mptcplab.scenario import ScenarioError, load
from mptcplab.tuning.policies import check_policies

SCENARIO = """
duration = "1s"
hosts = ["alice", "bob"]
links.one = { between = ["alice", "bob"], rate = "1Mb/s", rtt = "10ms" }
flows.main = { from = "alice", to = "bob"%s }
%s
"""
REFERENCES = {
    "congestion": SCENARIO % (', congestion = "plugin_evil:X"', ""),
    "scheduler": SCENARIO % ("", 'tunables.scheduler = "plugin_evil:X"'),
    "path manager": SCENARIO % ("", 'tunables.path_manager = "plugin_evil:X"'),
    "a sweep's": SCENARIO
    % ("", 'sweep.points = [{ label = "x", set = ["tunables.scheduler=plugin_evil:X"] }]'),
}


@pytest.fixture(name="folder")
def folder_with_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "plugin_evil", raising=False)
    monkeypatch.delenv("MPTCPLAB_PLUGINS", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugin_evil.py").write_text(
        "from pathlib import Path\n"
        "from mptcplab.stack.schedulers.base import Scheduler\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class X(Scheduler):\n"
        "    def select(self, usable, view):\n"
        "        return usable[0]\n"
    )
    return tmp_path


@pytest.mark.parametrize("text", REFERENCES.values(), ids=REFERENCES.keys())
@pytest.mark.parametrize(
    "command",
    ["check", "run", "compare --tcp", "reproduce", "goals", "buffers", "lab up"],
)
def test_no_command_runs_it_unasked(
    command: str, text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "own.toml").write_text(text)
    assert main([*command.split(), "own.toml"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "plugin_evil:X" in said
    assert "--plugins" in said
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("command", ["check", "run", "buffers", "goals"])
def test_nor_does_what_the_command_line_sets(command: str, folder: Path) -> None:
    (folder / "own.toml").write_text(SCENARIO % ("", ""))
    assert main([command, "own.toml", "--set", "tunables.scheduler=plugin_evil:X"]) == 2
    assert not (folder / "ran").exists()


def test_the_user_says_so_in_a_command_or_a_call(folder: Path) -> None:
    (folder / "own.toml").write_text(REFERENCES["scheduler"])
    assert main(["check", "own.toml", "--plugins"]) == 0
    assert (folder / "ran").exists()
    with pytest.raises(ScenarioError, match="plugins=True"):
        load("own.toml")
    assert load("own.toml", plugins=True).tunables["alice"].scheduler == "plugin_evil:X"


def test_of_one_host(folder: Path) -> None:
    text = REFERENCES["scheduler"].replace(
        'hosts = ["alice", "bob"]', "hosts.alice={}\nhosts.bob={}"
    )
    text = text.replace("tunables.scheduler", "hosts.alice.tunables.scheduler")
    (folder / "own.toml").write_text(text)
    assert main(["check", "own.toml"]) == 2
    assert not (folder / "ran").exists()


def test_a_folder_of_the_users_is_trusted_and_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment names a folder; the module of the same name beside the scenario stays out."""
    (folder / "own.toml").write_text(REFERENCES["scheduler"])
    mine = folder / "mine"
    mine.mkdir()
    monkeypatch.setenv("MPTCPLAB_PLUGINS", str(mine))
    assert main(["check", "own.toml"]) == 2
    text = (folder / "plugin_evil.py").read_text()
    (mine / "plugin_evil.py").write_text(text.replace("ran", "mine_ran"))
    check_policies(load("own.toml"))
    assert (folder / "mine_ran").exists()
    assert not (folder / "ran").exists()
    monkeypatch.setenv("MPTCPLAB_PLUGINS", ".")  # a stranger's folder may be the current one
    assert main(["check", "own.toml"]) == 2
