"""A policy named as ``module:Class``: found, or refused with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mptcplab.cli.main import main
from mptcplab.scenario import load
from mptcplab.stack.plugin import PluginError
from mptcplab.tuning.policies import check_policies, scheduler_for

SCENARIO = """
duration = "1s"
hosts = ["alice", "bob"]
links.one = { between = ["alice", "bob"], rate = "1Mb/s" }
flows.main = { from = "alice", to = "bob" }
"""
MODULE = """
from mptcplab.stack.schedulers.base import Scheduler

class Last(Scheduler):
    def select(self, usable, view):
        return usable[-1]

class Half(Scheduler):
    pass

class Particular(Last):
    def __init__(self, size):
        pass

number = 5
"""


@pytest.fixture(name="scenario_file")
def scenario_with_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "plugin_sound.py").write_text(MODULE)
    (tmp_path / "plugin_torn.py").write_text("class Torn(:\n")
    (tmp_path / "plugin_needy.py").write_text("import no_such_module_anywhere\n")
    (tmp_path / "plugin_rude.py").write_text("raise RuntimeError('not today')\n")
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO)
    return path


def test_the_class_is_found_beside_the_scenario(scenario_file: Path) -> None:
    scenario = load(
        scenario_file, overrides=("tunables.scheduler=plugin_sound:Last",), plugins=True
    )
    check_policies(scenario)
    made = type(scheduler_for(scenario, "alice")())
    assert (made.__module__, made.__name__) == ("plugin_sound", "Last")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tunables.scheduler=plugin_none:Last", 'there is no module "plugin_none"; expected'),
        ("tunables.scheduler=plugin_none.deep:Last", "expected plugin_none/deep.py beside"),
        ("tunables.scheduler=plugin_torn:Torn", "SyntaxError"),
        ("tunables.scheduler=plugin_needy:X", "needs no_such_module_anywhere"),
        ("tunables.scheduler=plugin_rude:X", "RuntimeError: not today"),
        ("tunables.scheduler=plugin_sound:Lost", 'did you mean "Last"?'),
        ("tunables.scheduler=plugin_sound:number", "is not a subclass of"),
        ("tunables.scheduler=plugin_sound:Half", "lacks select"),
        ("tunables.scheduler=plugin_sound:Particular", "is made without arguments"),
        ("hosts.bob.tunables.path_manager=plugin_sound:Last", "is not a subclass of"),
        ("flows.main.congestion=plugin_sound:Last", "is not a subclass of"),
    ],
)
def test_what_cannot_be_used_is_bad_input(
    override: str, said: str, scenario_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PluginError, match=r"\.toml: ") as caught:
        check_policies(load(scenario_file, overrides=(override,), plugins=True))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    out = scenario_file.parent / "out"
    assert main(["run", str(scenario_file), "--set", override, "--plugins", "--out", str(out)]) == 2
    assert main(["check", str(scenario_file), "--set", override, "--plugins"]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()
