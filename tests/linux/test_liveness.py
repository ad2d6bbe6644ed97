"""Runs whose connections do not live, and what arrives only after the run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.linux.two_links import scenario

from mptcplab.linux.testbed import run
from mptcplab.results.run import Run

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

ONE_LINK = """
duration = "2s"
interval = "250ms"
hosts = ["a", "b"]
[links.l]
between = ["a", "b"]
rate = "10Mb/s"
rtt = "10ms"
[flows.f]
from = "a"
to = "b"
"""


def finished(folder: Path, *overrides: str) -> Run:
    return Run(run(scenario(folder, ONE_LINK, *overrides), folder / "run"))


@pytest.mark.parametrize("client", ["a", "b"])
def test_a_connection_that_never_came_up_is_said_first(tmp_path: Path, client: str) -> None:
    done = finished(tmp_path, "links.l.loss=100%", f"flows.f.client={client}")
    reason, *_ = done.metadata["invalid_reasons"]
    assert reason.startswith("flow f connection 0: the connection never came up: ")
    said = [*done.metadata["notes"], *done.metadata["invalid_reasons"]]
    assert not any("the CPU was the limit" in text for text in said)
    [flow] = done.metadata["flows"]
    assert (flow["bytes"], flow["drained_bytes"]) == (0, 0)


def test_a_link_that_carries_nothing_in_time_is_not_waited_for(tmp_path: Path) -> None:
    start = time.monotonic()
    done = finished(tmp_path, "links.l.rate=1kb/s", "duration=1s")
    assert time.monotonic() - start < 60
    assert "the connection never came up" in done.metadata["invalid_reasons"][0]


def test_bytes_of_the_run_and_of_draining_are_told_apart(tmp_path: Path) -> None:
    done = finished(
        tmp_path, "links.l.rate=1Mb/s", "flows.f.buffer=1MB", "duration=1s", "flows.f.protocol=tcp"
    )
    [flow] = done.metadata["flows"]
    assert flow["intact"]
    assert flow["bytes"] == sum(row["bytes"] for row in done.rows("flows"))
    assert flow["bytes"] <= 125_000
    assert flow["drained_bytes"] > 100_000
