"""The goals of RFC 6356, judged by runs on small links and by rates made up for the purpose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mptcplab.cli.main import main
from mptcplab.report.goals import balance_congestion, do_no_harm, improve_throughput
from mptcplab.results.statistics import Estimate

SHARED = """
title = "two links of 4 Mb/s, one of them shared with a TCP"
question = "?"
duration = "24s"
hosts = ["alice", "bob"]

[links.one]
between = ["alice", "bob"]
rate = "4Mb/s"
rtt = "20ms"
queue = "20 packets"

[links.two]
between = ["alice", "bob"]
rate = "4Mb/s"
rtt = "20ms"
queue = "20 packets"

[flows.multi]
from = "alice"
to = "bob"
congestion = "olia"

[flows.single]
from = "alice"
to = "bob"
protocol = "tcp"
congestion = "reno"
links = ["one"]
"""


def sure(mean: float) -> Estimate:
    return Estimate(mean, 0.0, 3)


def test_goal_1_wants_the_best_path_within_its_slack() -> None:
    alone = {"one": sure(5e6), "two": sure(10e6)}
    assert improve_throughput(sure(9.6e6), alone).outcome == "met"
    assert improve_throughput(sure(9.4e6), alone).outcome == "missed"
    assert improve_throughput(Estimate(9.5e6, 1e6, 3), alone).outcome == "undecided"


def test_goal_2_holds_on_every_link_or_not_at_all() -> None:
    alone = {"one": sure(5e6), "two": sure(10e6)}
    assert do_no_harm({"one": sure(5.2e6), "two": sure(10e6)}, alone).outcome == "met"
    assert do_no_harm({"one": sure(5.3e6), "two": sure(10e6)}, alone).outcome == "missed"


def test_goal_3_wants_less_than_uncoupled_subflows_leave() -> None:
    assert balance_congestion("one", sure(8e6), sure(10e6)).outcome == "met"
    assert balance_congestion("one", sure(9.5e6), sure(10e6)).outcome == "missed"


def test_olia_moves_off_the_shared_link_and_reno_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shared.toml"
    file.write_text(SHARED)
    main(["goals", str(file), "--json"])
    found = json.loads(capsys.readouterr().out)
    first, second, third = (verdict["outcome"] for verdict in found["verdicts"])
    assert (first, second, third) == ("met", "met", "met")
    together = found["runs"]["together"]
    assert together["links"]["one"]["mean"] < together["flows"]["single"]["mean"]
    assert 0.5 < together["jain"]["mean"] <= 1.0


def test_a_scenario_without_a_tcp_to_share_with_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["goals", "A"]) == 2
    assert "one MPTCP flow over two links" in capsys.readouterr().err
