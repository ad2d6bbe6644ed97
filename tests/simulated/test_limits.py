"""What simulated runs say of connections that one cause holds back by construction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.limit_cases import ONE_PATH, SIMULATED, TWO_PATHS, Case, finished, leading

from mptcplab.cli.main import main
from mptcplab.limits.causes import Cause
from mptcplab.limits.runs import mean_limits, run_limits
from mptcplab.report.limits import headline, limits_text
from mptcplab.results.run import Run


@pytest.mark.slow
@pytest.mark.parametrize("case", SIMULATED, ids=lambda case: case.name)
def test_what_was_built_is_what_is_said(case: Case, tmp_path: Path) -> None:
    run = finished(case, "simulated", tmp_path)
    said = leading(run)
    assert said.cause is case.cause
    assert case.detail in said.detail
    assert said.share > 0.6
    (diagnosis,) = run_limits(run)
    assert sum(limit.share for limit in diagnosis.limits) == pytest.approx(1)
    assert len({limit.cause for limit in diagnosis.limits}) == len(diagnosis.limits)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["receive_buffer", "send_buffer"])
@pytest.mark.parametrize("scenario", [ONE_PATH, TWO_PATHS], ids=["one path", "two paths"])
def test_what_would_do_does(key: str, scenario: str, tmp_path: Path) -> None:
    cause = {"receive_buffer": Cause.RECEIVE_WINDOW, "send_buffer": Cause.SEND_BUFFER}[key]
    small = Case("small", scenario, (f"flows.main.{key}=64KiB",), cause)
    (before,) = run_limits(finished(small, "simulated", tmp_path / "before"))
    assert before.limits[0].cause is cause
    assert before.remedy.overrides
    changed = Case("changed", scenario, (*small.overrides, *before.remedy.overrides), Cause.LINK)
    assert leading(finished(changed, "simulated", tmp_path / "after")).cause is Cause.LINK


@pytest.mark.slow
def test_an_idle_backward_direction_is_named_by_who_opened_the_connection(tmp_path: Path) -> None:
    case = Case("reverse", ONE_PATH, ("flows.main.client=bob",), Cause.LINK)
    assert leading(finished(case, "simulated", tmp_path)).direction == "server-to-client"


@pytest.mark.slow
def test_parallel_connections_are_told_apart(tmp_path: Path) -> None:
    case = Case("two", ONE_PATH, ("flows.main.connections=2",), Cause.LINK)
    run = finished(case, "simulated", tmp_path)
    assert [each.connection for each in run_limits(run)] == ["main/1", "main/2"]
    text = limits_text(mean_limits([run_limits(run)] * 2))
    assert "main/1: " in text
    assert "main/2: " in text


@pytest.mark.slow
def test_a_run_of_an_earlier_version_says_that_it_does_not_know(tmp_path: Path) -> None:
    case = Case("full", ONE_PATH, ("duration=1s",), Cause.LINK)
    folder = tmp_path / "earlier"
    shutil.copytree(finished(case, "simulated", tmp_path / "now").folder, folder)
    (folder / "limits.parquet").unlink()
    said = leading(Run(folder))
    assert said.cause is Cause.UNKNOWN
    assert said.share == 1
    assert "earlier version" in headline([said])


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["none", "2012"])
@pytest.mark.parametrize("key", ["write_rate", "read_rate"])
def test_applications_keep_to_their_rates(key: str, cpu: str, tmp_path: Path) -> None:
    overrides = (f"flows.main.{key}=8Mb/s", "hosts.alice.cpu=" + cpu, "hosts.bob.cpu=" + cpu)
    run = finished(Case("rate", ONE_PATH, overrides, Cause.APPLICATION), "simulated", tmp_path)
    (flow,) = run.metadata["flows"]
    assert flow["intact"]
    assert flow["bytes"] * 8 / 4 == pytest.approx(8e6, rel=0.05)


@pytest.mark.slow
def test_run_compare_and_repetitions_have_limits_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small.toml"
    file.write_text(ONE_PATH + 'receive_buffer = "64KiB"\n')
    keys = {"connection", "direction", "cause", "seconds", "share", "detail", "advice"}
    brief = ["--duration", "1s", "--interval", "100ms", "--json", "--out"]

    def printed(*arguments: str) -> dict[str, Any]:
        assert main([*arguments]) == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        for limit in result["limits"]:
            assert set(limit) == keys
        return result

    run = printed("run", str(file), *brief, str(tmp_path / "run"), "--what-if")
    assert run["limits"][0]["cause"] == "receive-window"
    assert len(run["what_if"]["set"]) == 1
    assert run["what_if"]["run"]["flows"][0]["bytes"] > 2 * run["flows"][0]["bytes"]
    assert printed("show", "--json", str(tmp_path / "run"))["limits"] == run["limits"]
    several = printed("run", str(file), *brief, str(tmp_path / "several"), "--repetitions", "2")
    assert several["limits"][0]["cause"] == "receive-window"
    variant = ["--variant", "flows.main.receive_buffer=1MB", "--repetitions", "1"]
    compared = printed("compare", str(file), *brief, str(tmp_path / "compared"), *variant)
    assert [each["limits"][0]["cause"] for each in compared["variants"]] == [
        "receive-window",
        "link",
    ]
