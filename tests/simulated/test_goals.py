"""The goals of RFC 6356, judged by runs on small links and by rates made up for the purpose."""

from __future__ import annotations

import json

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
    main(["goals", "--congestion", "olia", "--duration", "16s", "--repetitions", "3", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["repetitions"] == 3
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
    assert "one MPTCP flow over two links" in capsys.readouterr().err
