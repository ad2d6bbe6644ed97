"""A simulated run of experiment B, explained from its captures and held against its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mptcplab import trace
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario.load import load
from mptcplab.simulated.testbed import run
from mptcplab.trace.findings.events import LOST, NEW_ADDRESS, RETURNED, stage_events
from mptcplab.trace.findings.series import direction
from mptcplab.trace.testbed_run import run_captures

SCALE = 0.005
JOINS_S, FAILS_S, RETURNS_S = (at * SCALE for at in (120, 420, 540))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, on slower links than the report's so that it is short."""
    ends = "bliksem:eth8.520", "bliksem:eth2.522", "donder:eth3.521", "donder:eth1.523"
    captures = ", ".join(f'"{end}"' for end in ends)
    overrides = (f"captures=[{captures}]", "links.*.rate=20Mb/s", "flows.*.buffer=200KiB")
    scenario = load("B", time_scale=SCALE, overrides=overrides)
    return run(scenario, tmp_path_factory.mktemp("inspected") / "run", Silent())


def _last_rows(folder: Path, host: str) -> dict[int, dict[str, Any]]:
    return {row["subflow"]: row for row in Run(folder).rows("subflows") if row["host"] == host}


@pytest.mark.slow
def test_bytes_sent_equal_the_tables(folder: Path) -> None:
    (connection,) = trace.open(run_captures(folder)["bliksem"]).connections
    last = _last_rows(folder, "bliksem")
    assert len(connection.subflows) == len(last) == 3
    for subflow in connection.subflows:
        row, half = last[subflow.number], subflow.half(0)
        assert subflow.ends == (row["local"], row["remote"])
        assert half.payload_bytes == row["bytes_sent"]
        assert half.bytes == row["bytes_sent"] - row["bytes_retransmitted"]
        assert half.retransmitted_bytes == row["bytes_retransmitted"]
        assert half.retransmissions == row["retransmissions"]
    whole = [row for row in Run(folder).rows("connections") if row["host"] == "bliksem"][-1]
    assert connection.side_bytes(0) == whole["bytes_sent"]
    reinjected = sum(subflow.half(0).reinjected_bytes for subflow in connection.subflows)
    assert reinjected == whole["bytes_reinjected"] > 0
    series = direction(connection, 0)
    assert series is not None
    assert int(series.data_ack[-1]) - 1 == whole["bytes_acked"]


def test_bytes_received_equal_the_tables(folder: Path) -> None:
    (connection,) = trace.open(run_captures(folder)["donder"]).connections
    last = _last_rows(folder, "donder")
    received = [subflow.half(0).bytes for subflow in connection.subflows]
    assert received == [last[number]["bytes_received"] for number in range(3)]


def test_the_explanation_names_what_the_timeline_did(folder: Path) -> None:
    capture = trace.open(run_captures(folder)["bliksem"])
    (connection,) = capture.connections
    found = {event.kind: event for event in stage_events(connection)}
    assert capture.seconds(found[NEW_ADDRESS].time_ns) == pytest.approx(JOINS_S, abs=0.01)
    assert found[NEW_ADDRESS].subflow == 1
    assert found[LOST].subflow == 0
    assert capture.seconds(found[LOST].time_ns) == pytest.approx(FAILS_S, abs=0.05)
    assert capture.seconds(found[RETURNED].time_ns) == pytest.approx(RETURNS_S, abs=0.01)
    assert "192.168.22.1 returns, 60" in found[RETURNED].text  # milliseconds: the gap was 600
    assert "of the data from then on" in found[RETURNED].text
