"""The buffers command against the report's own arithmetic."""

from __future__ import annotations

import json

import pytest

from mptcplab.cli.main import main


def test_the_reports_two_wan_links(capsys: pytest.CaptureFixture[str]) -> None:
    # section 3.3.6: 33.3 ms x 1.3 Gb/s x 2 = 10.8 MB
    assert main(["buffers", "1Gb/s@33.3ms", "300Mb/s@33.3ms", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["paths"][0]["tcp_bytes"] == 4_162_500
    assert found["mptcp_bytes"] == 10_822_500


def test_a_scenario_is_told_what_it_is_short_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["buffers", "F", "--set", "flows.main.buffer=1000000", "--json"]) == 0
    (flow,) = json.loads(capsys.readouterr().out)["flows"]
    assert flow["short_bytes"] == flow["needed_bytes"] - 1_000_000 > 0
    assert main(["buffers", "F", "--set", "flows.main.buffer=110MiB"]) == 0
    assert "enough" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["1Gb/s@fast"], "1Gb/s@fast"),
        (["0@10ms"], "0@10ms"),
        (["1Gb/s@10ms", "A"], 'has no "@"'),
        (["A", "B"], "one scenario at a time"),
    ],
)
def test_bad_numbers_are_named(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["buffers", *words]) == 2
    assert said in capsys.readouterr().err
