"""Recorded capacities: what a file of either format means, and what is wrong with others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.times import MS, SECOND

from mptcplab.network.impairments import CapacityTrace
from mptcplab.scenario import ScenarioError, load
from mptcplab.scenario.model import Scenario
from mptcplab.scenario.resolve import traces
from mptcplab.scenario.resolve.traces import TraceError, parse_trace
from mptcplab.scenario.to_json import as_plain

SCENARIO = """\
duration = "30s"
hosts = ["alice", "bob"]

[links.cell]
between = ["alice", "bob"]
delay = "20ms"
trace = "cell.trace"

[flows.main]
from = "alice"
to = "bob"
"""

PACKET_BITS = 1514 * 8


def loaded(folder: Path, trace: bytes, *overrides: str, text: str = SCENARIO) -> Scenario:
    (folder / "cell.trace").write_bytes(trace)
    path = folder / "scenario.toml"
    path.write_text(text)
    return load(path, overrides=overrides)


def test_a_line_of_mahimahi_is_a_packet_sent_by_then() -> None:
    steps, period_ns = parse_trace("1\n2\n2\n6\n10\n")
    assert steps == (
        (0, PACKET_BITS * 1000),
        (MS, 2 * PACKET_BITS * 1000),
        (2 * MS, PACKET_BITS * 250),
    )
    assert period_ns == 10 * MS
    assert CapacityTrace(steps, period_ns).mean_bps == 5 * PACKET_BITS * 100


def test_what_leaves_at_0_leaves_when_the_file_starts_over() -> None:
    assert parse_trace("0\n5\n") == (((0, 2 * PACKET_BITS * 200),), 5 * MS)


def test_rows_are_times_and_rates_in_any_unit() -> None:
    steps, period_ns = parse_trace("time,rate\n0,10Mb/s\n1.5s, 2e6\n\n1800ms,0\n")
    assert steps == ((0, 10_000_000), (1500 * MS, 2_000_000), (1800 * MS, 0))
    assert period_ns == 2100 * MS


@pytest.mark.parametrize("end", ["4", "4,", "4s ,  "])
def test_a_last_row_without_a_rate_is_the_end(end: str) -> None:
    steps = ((0, 1000), (SECOND, 2000))
    assert parse_trace(f"0,1000\n1,2000\n{end}\n") == (steps, 4 * SECOND)


WRONG = {
    "nothing": (b"", "is empty", "mahimahi"),
    "blank lines": (b"\n \n", "is empty", "mahimahi"),
    "binary": (b"\x7fELF\x80", "byte 4 is not ASCII text", "mahimahi"),
    "words": (b"root:x:0:0\n", "line 1 is no whole number of ms", "mahimahi"),
    "a fraction of a ms": (b"1\n2.5\n", "line 2 is no whole number of ms", "mahimahi"),
    "a negative time": (b"-1\n", "line 1 is no whole number of ms", "mahimahi"),
    "digits without end": (b"9" * 5000, "line 1 is no whole number of ms", "mahimahi"),
    "times out of order": (b"5\n4\n", "the time in line 2 is before", "times in order"),
    "no time above 0": (b"0\n0\n", "ends at 0 ms", "a time above 0"),
    "a long time": (b"99999999999999\n", "lasts", "1000 hours"),
    "a fast link": (b"1\n" * 20_000_000, "is larger than", "a shorter trace"),
    "a row of three": (b"0,1,2\n", "line 1 is no time and rate", "TIME,RATE"),
    "a rate in bytes": (b"0,1MB/s\n", "line 1 is no time and rate", "TIME,RATE"),
    "a row without a rate": (b"0,\n1,5\n", "line 1 is no time and rate", "TIME,RATE"),
    "a header alone": (b"time,rate\n", "has no row", "mahimahi"),
    "a late beginning": (b"1,5\n", "begins at 1 s", "0 as the first time"),
    "rows out of order": (b"0,5\n2,6\n1,7\n", "the time in line 3 is not after", "in order"),
    "rows too close": (b"0,5\n0.0001,6\n", "the time in line 2 is not after", "1 ms apart"),
    "no rate": (b"0,0\n1,0\n", "has no rate above 0", "a rate above 0"),
    "a rate out of range": (b"0,1e20\n", "has a rate of", "100 Tb/s at most"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_no_trace_gives_one_clear_error(name: str, tmp_path: Path) -> None:
    content, found, expected = WRONG[name]
    with pytest.raises(ScenarioError) as caught:
        loaded(tmp_path, content)
    error = caught.value
    assert len(error.errors) == 1
    assert error.key == "links.cell.trace"
    assert error.file.startswith(f"{tmp_path / 'scenario.toml'}, line ")
    assert found in error.problem
    assert expected in error.expected
    assert len(str(error)) < 500


def test_nothing_of_a_file_that_is_no_trace_is_shown(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        loaded(tmp_path, b"secret-of-yours\n")
    assert "secret" not in str(caught.value)


def test_too_many_changes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MAX_STEPS", 2)
    with pytest.raises(TraceError, match="has 3 changes of the rate"):
        parse_trace("0,1\n1,2\n2,3\n")


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "/dev/zero", r"\u0000", "x" * 5000):
        text = SCENARIO.replace("cell.trace", name)
        with pytest.raises(ScenarioError, match="there is no such file") as caught:
            loaded(tmp_path, b"1\n", text=text)
        assert caught.value.key == "links.cell.trace"


def test_a_trace_is_where_the_file_that_names_it_is(tmp_path: Path) -> None:
    (tmp_path / "networks").mkdir()
    network, scenario = SCENARIO.split("[flows.main]")
    (tmp_path / "networks" / "cell.toml").write_text(network.replace('duration = "30s"\n', ""))
    (tmp_path / "networks" / "cell.trace").write_text("1\n")
    (tmp_path / "mine.toml").write_text(
        'duration = "30s"\ntopology = "networks/cell.toml"\n[flows.main]' + scenario
    )
    (tmp_path / "other.trace").write_text("0,5Mb/s\n")
    link = load(tmp_path / "mine.toml").topology.link("cell")
    assert link.forward.rate_bps == PACKET_BITS * 1000
    assert link.forward.trace is not None
    assert link.forward.trace.file == "cell.trace"
    link = load(tmp_path / "mine.toml", overrides=("links.cell.trace=other.trace",)).topology.link(
        "cell"
    )
    assert link.backward.rate_bps == 5_000_000


def test_each_direction_has_its_own_and_a_rate_replaces_it(tmp_path: Path) -> None:
    text = SCENARIO.replace('trace = "cell.trace"', 'rate = "1Mb/s"\nforward.trace = "cell.trace"')
    link = loaded(tmp_path, b"0,5Mb/s\n1,1Mb/s\n", text=text).topology.link("cell")
    assert link.forward.trace is not None
    assert (link.forward.rate_bps, link.backward.rate_bps) == (3_000_000, 1_000_000)
    assert link.backward.trace is None
    link = loaded(tmp_path, b"1\n", "links.cell.rate=2Mb/s").topology.link("cell")
    assert (link.forward.rate_bps, link.forward.trace) == (2_000_000, None)


def test_run_json_names_the_file_and_does_not_hold_it(tmp_path: Path) -> None:
    timeline = '[[timeline]]\nat = "5s"\nchange = "cell"\ntrace = "cell.trace"\n'
    scenario = loaded(tmp_path, b"0,5Mb/s\n1,1Mb/s\n", text=SCENARIO + timeline)
    plain = as_plain(scenario)
    trace = plain["topology"]["links"][0]["forward"]["trace"]
    assert trace["file"] == "cell.trace"
    assert len(trace["sha256"]) == 64
    assert (trace["steps"], trace["period_ns"]) == (2, 2 * SECOND)
    assert plain["timeline"][0]["changes"] == [["trace", "cell.trace"]]


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    assert loaded(tmp_path, b"0,5Mb/s\n").topology.link("cell").forward.rate_bps == 5_000_000
    assert loaded(tmp_path, b"0,1.5Mb/s\n").topology.link("cell").forward.rate_bps == 1_500_000


def test_the_mean_over_a_time_counts_every_round() -> None:
    trace = CapacityTrace(((0, 8_000), (SECOND, 2_000), (2 * SECOND, 0)), 4 * SECOND)
    assert trace.mean_bps == 2_500
    assert trace.mean_between_bps(0, SECOND) == 8_000
    assert trace.mean_between_bps(500 * MS, 1500 * MS) == 5_000
    assert trace.mean_between_bps(3 * SECOND, 5 * SECOND) == 4_000
    assert trace.mean_between_bps(SECOND, 9 * SECOND) == 2_500
    assert trace.longest_ns(1) == 2 * SECOND + MS
    assert trace.longest_ns(1250) == 4 * SECOND
    assert trace.longest_ns(1251) == 6 * SECOND + MS
