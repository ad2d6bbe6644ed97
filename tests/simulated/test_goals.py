"""The goals of RFC 6356, judged by runs on small links and by rates made up for the purpose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mptcplab.cli.main import main
from mptcplab.report.goals import balance_congestion, do_no_harm, improve_throughput
from mptcplab.results.statistics import Estimate


def sure(mean: float) -> Estimate:
    return Estimate(mean, 0.0, 3)


def test_goal_1_wants_the_best_path_within_its_slack() -> None:
    alone = {"one": sure(5e6), "two": sure(10e6)}
    assert improve_throughput(sure(9.6e6), alone).outcome == "met"
    assert improve_throughput(sure(9.4e6), alone).outcome == "missed"
    assert improve_throughput(Estimate(9.5e6, 1e6, 3), alone).outcome == "undecided"


def test_a_single_run_decides_nothing() -> None:
    alone = {"one": sure(5e6), "two": sure(10e6)}
    assert improve_throughput(Estimate(20e6, None, 1), alone).outcome == "undecided"


def test_what_a_goal_is_held_against_has_a_margin_too() -> None:
    unsure = {"one": Estimate(5e6, 1e6, 3), "two": sure(10e6)}
    assert do_no_harm({"one": sure(4.9e6), "two": sure(9e6)}, unsure).outcome == "undecided"


def test_goal_2_holds_on_every_link_or_not_at_all() -> None:
    alone = {"one": sure(5e6), "two": sure(10e6)}
    assert do_no_harm({"one": sure(5.2e6), "two": sure(10e6)}, alone).outcome == "met"
    assert do_no_harm({"one": sure(5.3e6), "two": sure(10e6)}, alone).outcome == "missed"


def test_goal_3_wants_less_than_uncoupled_subflows_leave() -> None:
    assert balance_congestion("one", sure(8e6), sure(10e6)).outcome == "met"
    assert balance_congestion("one", sure(9.5e6), sure(10e6)).outcome == "missed"


@pytest.mark.slow
def test_olia_moves_off_the_shared_link_and_reno_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["goals", "--congestion", "olia", "--duration", "16s", "--repetitions", "5", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["repetitions"] == 5
    assert found["verdicts"][0]["outcome"] == "met"
    together = found["runs"]["together"]
    assert together["links"]["shared"]["mean"] < together["flows"]["tcp"]["mean"]
    uncoupled = found["runs"]["uncoupled"]
    assert together["links"]["shared"]["mean"] < uncoupled["links"]["shared"]["mean"]
    assert 0.5 < together["jain"]["mean"] <= 1.0


def test_a_scenario_without_a_tcp_to_share_with_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["goals", "A"]) == 2
    assert "one MPTCP flow over two paths" in capsys.readouterr().err


ACCESS = """
duration = "4s"
hosts = ["m1", "m2", "t1", "t2"]
switches = { l1 = {}, r1 = {}, l2 = {}, r2 = {} }
links.b1 = { between = ["l1", "r1"], rate = "5Mb/s", rtt = "20ms" }
links.b2 = { between = ["l2", "r2"], rate = "5Mb/s", rtt = "20ms" }
links.ma = { between = ["m1", "l1"], rate = "50Mb/s" }
links.mb = { between = ["m1", "l2"], rate = "50Mb/s" }
links.mc = { between = ["m2", "r1"], rate = "50Mb/s" }
links.md = { between = ["m2", "r2"], rate = "50Mb/s" }
links.ta = { between = ["t1", "l1"], rate = "50Mb/s" }
links.tb = { between = ["t2", "r1"], rate = "50Mb/s" }
flows.mptcp = { from = "m1", to = "m2", congestion = "lia" }
flows.tcp = { from = "t1", to = "t2", protocol = "tcp" }
"""


@pytest.mark.slow
@pytest.mark.parametrize("client", ["m1", "m2"])
def test_paths_of_several_links_are_judged_as_whole_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], client: str
) -> None:
    file = tmp_path / "access.toml"
    file.write_text(ACCESS)
    status = main(
        [
            "goals",
            str(file),
            "--repetitions",
            "2",
            "--json",
            "--set",
            f"flows.mptcp.client={client}",
        ]
    )
    assert status in (0, 1)
    found = json.loads(capsys.readouterr().out)
    names = {"m1": {"ma+b1+mc", "mb+b2+md"}, "m2": {"mc+b1+ma", "md+b2+mb"}}[client]
    assert found["runs"].keys() == {"together", "uncoupled", *(f"tcp on {name}" for name in names)}
    assert found["runs"]["together"]["links"].keys() == names


def test_paths_that_begin_on_one_link_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "one-access.toml"
    file.write_text(
        """
duration = "1s"
hosts = ["a", "b"]
switches = { s = {} }
links.a = { between = ["a", "s"], rate = "5Mb/s" }
links.b = { between = ["b", "s"], rate = "5Mb/s" }
links.c = { between = ["b", "s"], rate = "5Mb/s" }
flows.m = { from = "a", to = "b" }
flows.t = { from = "a", to = "b", protocol = "tcp" }
"""
    )
    assert main(["goals", str(file)]) == 2
    assert "several of its subflows begin on a" in capsys.readouterr().err
