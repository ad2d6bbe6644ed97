"""What runs on this kernel say of connections that one cause holds back by construction."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.limit_cases import LINUX, NO_DELAY, ONE_PATH, Case, finished, leading

from mptcplab.limits.causes import Cause
from mptcplab.results.run import Run

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.mark.parametrize("case", LINUX, ids=lambda case: case.name)
def test_what_was_built_is_what_is_said(case: Case, tmp_path: Path) -> None:
    said = leading(finished(case, "linux", tmp_path))
    assert said.cause is case.cause
    assert case.detail in said.detail


def ours(run: Run) -> dict[str, float]:
    """What the sender waited for by the table ``limits``, as shares, handshake left out."""
    rows = run.rows("limits")
    last_ns = max(row["time_ns"] for row in rows if row["time_ns"] <= run.metadata["measured_ns"])
    waited = {row["limited_by"]: row["duration_ns"] for row in rows if row["time_ns"] == last_ns}
    waited.pop("handshake", None)
    total = sum(waited.values())
    congestion = ("slow-start", "recovery", "timeout", "avoidance")
    return {
        "receive window": waited.get("receive-window", 0) / total,
        "send buffer": waited.get("send-buffer", 0) / total,
        "congestion": sum(waited.get(reason, 0) for reason in congestion) / total,
        "application": waited.get("application", 0) / total,
    }


def kernels(run: Run) -> dict[str, float]:
    """The same by what the kernel itself counts (struct tcp_info), which has one subflow."""
    rows = [
        row
        for row in run.rows("subflows")
        if row["host"] == "alice" and row["time_ns"] <= run.metadata["measured_ns"]
    ]
    first, last = rows[0], rows[-1]
    total = last["time_ns"] - first["time_ns"]
    window, buffer, busy = (
        (last[column] - first[column]) / total
        for column in ("receive_window_limited_ns", "send_buffer_limited_ns", "busy_ns")
    )
    return {
        "receive window": window,
        "send buffer": buffer,
        "congestion": busy - window - buffer,
        "application": 1 - busy,
    }


@pytest.mark.parametrize("protocol", ["tcp", "mptcp"])
@pytest.mark.parametrize(
    ("scenario", "overrides"),
    [
        (NO_DELAY, ()),
        (NO_DELAY, ("flows.main.write_rate=5Mb/s", "flows.main.write_size=8KiB")),
        (ONE_PATH, ("flows.main.receive_buffer=64KiB", "links.one.rtt=40ms")),
    ],
    ids=["full link", "application", "receive window"],
)
def test_the_kernels_own_counters_agree(
    protocol: str, scenario: str, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    case = Case("truth", scenario, (*overrides, f"flows.main.protocol={protocol}"), Cause.LINK)
    run = finished(case, "linux", tmp_path)
    said, counted = ours(run), kernels(run)
    if protocol == "mptcp":  # a subflow counts the data level's window as its send buffer
        for shares in (said, counted):
            shares["receive window"] += shares.pop("send buffer")
    assert said == pytest.approx(counted, abs=0.1)
