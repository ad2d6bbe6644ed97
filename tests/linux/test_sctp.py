"""Flows over SCTP, by libusrsctp in the hosts' namespaces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.linux.two_links import TWO_LINKS, carried, faults, finished, outage

from mptcplab.linux.traffic.sctp import missing_library
from mptcplab.results.run import Run

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        missing_library() is not None and "CI" not in os.environ, reason="needs libusrsctp2"
    ),
]

SLACK_S = 0.1  # of a sample's time
CMT = (
    TWO_LINKS
    + """
protocol = "sctp"
cmt = true
sctp = { rto_min_default = 200, path_pf_threshold = 0 }
"""
)


def carried_bps(done: Run, link: str, start_s: float, end_s: float) -> float:
    """Return what a link carried forward between two times."""
    rows = [
        row
        for row in done.rows("links")
        if (row["link"], row["direction"]) == (link, "forward")
        and start_s - SLACK_S < (row["time_ns"] - row["interval_ns"]) / 1e9
        and row["time_ns"] / 1e9 < end_s + SLACK_S
    ]
    sent_bytes, time_ns = (sum(row[name] for row in rows) for name in ("tx_bytes", "interval_ns"))
    return float(8e9 * sent_bytes / time_ns)


@pytest.mark.slow
def test_concurrent_multipath_transfer_fills_both_links_and_outlives_one(tmp_path: Path) -> None:
    text = CMT + outage("one", "2s", "3.5s")
    done = finished(tmp_path, text, "duration=4s")
    assert faults(done) == []
    (flow,) = done.metadata["flows"]
    assert (flow["protocol"], flow["intact"]) == ("sctp", True)
    assert flow["bytes"] > 0
    for link, rate_bps in (("one", 40e6), ("two", 20e6)):
        before_bps = carried_bps(done, link, 1.0, 2.0)
        assert carried(done, link, before_bps, 0.5 * rate_bps)
        assert before_bps < 1.1 * rate_bps
    assert carried_bps(done, "one", 2.25, 3.5) < 1e6
    assert carried(done, "two", carried_bps(done, "two", 2.5, 3.5), 10e6)
    events = {(row["source"], row["event"], row["link"]) for row in done.rows("events")}
    assert ("sctp", "path-confirmed", "two") in events
