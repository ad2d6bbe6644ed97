"""Trains are how finely a run looks, not what it finds: a few cases of bench/bundling.py's grid."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from bench.bundling import TOLERANCE, Case, judge
from tests.times import SECOND

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.summary import Rates
from mptcplab.scenario import load
from mptcplab.simulated import testbed

# Each packet of hundreds of windows: minutes uncompiled.
pytestmark = [pytest.mark.slow, pytest.mark.compiled]

PACKETS = 25_000
SEEDS = 4

CASES = {
    "lan-1bdp": Case("1Gb/s", 1.0, 1.0, "drop-tail", "0", "1 tcp", "false"),
    "lan-loss": Case("1Gb/s", 0.4, 1.0, "drop-tail", "0.1%", "1 tcp", "false"),
    "coupled": Case("100Mb/s", 10.0, 1.0, "drop-tail", "0.01%", "1 mptcp over 2", "false"),
    "red": Case("100Mb/s", 10.0, 4.0, "red", "0", "1 tcp", "true"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_run_with_trains_finds_what_one_of_packets_does(case: Case) -> None:
    judgment = judge(case, SEEDS, PACKETS)
    assert judgment.passes, str(judgment)


def test_a_window_that_two_paths_share_opens_as_it_does_for_packets(tmp_path: Path) -> None:
    """Where 3G holds the window, WiFi takes all that opens of it, not what a train lets go."""
    example = resources.files("mptcplab.scenario") / "data" / "examples" / "wifi-and-3g.toml"
    goodput = {}
    for trains in ("true", "false"):
        overrides = ("tunables.scheduler=lowest-rtt-plain", "duration=40s", f"trains={trains}")
        folder = testbed.run(load(str(example), overrides=overrides), tmp_path / trains, Silent())
        goodput[trains] = Rates(Run(folder)).of("total", 10 * SECOND, 40 * SECOND)
    assert goodput["true"] == pytest.approx(goodput["false"], rel=TOLERANCE)
