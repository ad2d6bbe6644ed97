"""The choice between the testbeds, and the word on long simulations that need not be."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from mptcplab import provenance, testbeds
from mptcplab.cli import doctor
from mptcplab.cli.main import main
from mptcplab.cli.testbeds import choose
from mptcplab.linux.errors import MachineCannotError
from mptcplab.results.observer import Observer, Silent
from mptcplab.scenario import load
from mptcplab.scenario.model import Scenario
from mptcplab.units import NANOSECONDS

KERNEL = "6.18.0"
ABLE = [doctor.Finding("namespaces", True, True), doctor.Finding("netem", False, False)]
WITHOUT_MPTCP = [*ABLE, doctor.Finding("MPTCP", False, True, "nothing runs", "CONFIG_MPTCP=y")]


def machine(monkeypatch: pytest.MonkeyPatch, findings: list[doctor.Finding]) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: (findings, KERNEL))


def test_linux_where_the_machine_has_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ABLE)
    testbed, why = choose(load("A"))
    assert testbed == "linux"
    assert KERNEL in why


def test_simulated_where_it_has_not_and_what_to_do_about_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch, WITHOUT_MPTCP)
    testbed, why = choose(load("A"))
    assert testbed == "simulated"
    assert "MPTCP: CONFIG_MPTCP=y" in why
    assert "netem" not in why


def test_simulated_for_what_no_kernel_has(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ABLE)
    testbed, why = choose(load("A", overrides=("flows.*.congestion=wvegas",)))
    assert testbed == "simulated"
    assert "wvegas" in why
    assert "\n" not in why


def test_a_run_says_on_which_testbed_it_is_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, WITHOUT_MPTCP)
    arguments = ["run", "A", "--duration", "100ms", "--on", "auto", "--json", "--trial"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["testbed"] == "simulated"
    assert told.err.splitlines()[0].startswith("mptcplab: running on the simulated testbed: ")
    assert told.err.endswith("mptcplab is installed and works.\n")


def test_what_only_the_scenario_needs_leads_to_simulated_time_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, ABLE)
    simulate = testbeds.run_on

    def refuse_linux(name: str, scenario: Scenario, folder: Path, observer: Observer) -> Path:
        if name == "linux":
            raise MachineCannotError("link wan: no netem, no TAP")
        return simulate(name, scenario, folder, observer)

    monkeypatch.setattr(testbeds, "run_on", refuse_linux)
    arguments = ["run", "A", "--duration", "100ms", "--on", "auto"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert "simulated testbed: link wan: no netem, no TAP" in capsys.readouterr().err
    assert main(["run", "A", "--on", "linux", "--out", str(tmp_path / "no")]) == 3


def test_a_trial_on_a_busy_machine_ends_well_and_the_run_itself_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate = testbeds.run_on
    reason = "the sampler was late by up to 700 ms, of an interval of 1000 ms"

    def disturbed(name: str, scenario: Scenario, folder: Path, observer: Observer) -> Path:
        written = simulate(name, scenario, folder, observer)
        metadata = json.loads((written / "run.json").read_text())
        metadata |= {"valid": False, "invalid_reasons": [reason]}
        (written / "run.json").write_text(json.dumps(metadata))
        return written

    monkeypatch.setattr(testbeds, "run_on", disturbed)
    arguments = ["run", "A", "--duration", "100ms", "--out"]
    assert main([*arguments, str(tmp_path / "run")]) == 1
    assert "installed" not in capsys.readouterr().out
    assert main([*arguments, str(tmp_path / "trial"), "--trial"]) == 0
    assert reason in capsys.readouterr().out.partition("mptcplab is installed and works")[2]


@pytest.mark.parametrize(
    ("compiled", "simulated_s", "told"),
    [
        (False, 0.1, True),  # a second's work for a tenth of one: 600 s take more than an hour
        (False, 600, False),  # all is done in that second
        (True, 0.1, False),
    ],
)
def test_a_long_interpreted_simulation_says_once_that_it_need_not_be(
    compiled: bool,
    simulated_s: float,
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Simulator:
        """Takes a second of the wall clock for each tick."""

        now_s = 0.0

        def run(self, _scenario: Scenario, folder: Path, observer: Observer) -> Path:
            for number in range(1, 4):
                self.now_s += 1
                time_ns = round(number * simulated_s * NANOSECONDS)
                observer.tick(time_ns, {}, {}, {})
            return folder

    simulator = Simulator()
    testbeds._say_interpreted.cache_clear()
    monkeypatch.setattr(testbeds, "TESTBEDS", {"simulated": "a_simulator"})
    monkeypatch.setitem(sys.modules, "a_simulator", cast(ModuleType, simulator))
    monkeypatch.setattr("mptcplab.testbeds.time.monotonic", lambda: simulator.now_s)
    build = replace(provenance.this_build(), compiled=compiled)
    monkeypatch.setattr(provenance, "this_build", lambda: build)
    for _ in range(2):
        testbeds.run_on("simulated", load("A"), Path("nowhere"), Silent())
    captured = capsys.readouterr()
    assert captured.err.count("interpreted build") == told
    assert ("make compile" in captured.err) == told
    assert captured.out == ""


@pytest.mark.kernel
@pytest.mark.program("unshare")
@pytest.mark.parametrize("may_make_namespaces", [True, False])
def test_a_machine_without_namespaces_is_found_out(
    may_make_namespaces: bool, tmp_path: Path
) -> None:
    """In a user namespace that may hold no network namespace, nothing can be built."""
    limit = "" if may_make_namespaces else "echo 0 >/proc/sys/user/max_net_namespaces; "
    code = (
        "from mptcplab.cli.testbeds import choose; from mptcplab.scenario import load; "
        "print(*choose(load('A')), sep='\\n')"
    )
    shell = ["sh", "-c", f'{limit}exec "$0" -c "$1"', sys.executable, code]
    told = subprocess.run(
        ["unshare", "--user", "--map-root-user", *shell],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    testbed, why = told.stdout.splitlines()
    assert testbed == ("linux" if may_make_namespaces else "simulated")
    assert ("namespaces" in why) != may_make_namespaces
