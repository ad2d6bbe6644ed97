"""Trains are how finely a run looks, not what it finds: a few cases of bench/bundling.py's grid."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from statistics import mean

import pytest
from bench.bundling import Case, judge, relative
from tests.times import SECOND

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.summary import Rates
from mptcplab.scenario import load
from mptcplab.simulated import testbed

# Each packet of hundreds of windows: minutes uncompiled.
pytestmark = [pytest.mark.slow, pytest.mark.compiled]

PACKETS = 25_000
SEEDS = 12

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
    goodput: dict[str, list[float]] = {"true": [], "false": []}
    for rtt in ("19.8ms", "20ms", "20.1ms", "20.3ms", "21ms", "22ms"):
        for trains, goodputs in goodput.items():
            overrides = (
                "tunables.scheduler=lowest-rtt-plain",
                "duration=40s",
                f"links.wifi.rtt={rtt}",
                f"trains={trains}",
            )
            folder = tmp_path / f"{rtt}-{trains}"
            testbed.run(load(str(example), overrides=overrides), folder, Silent())
            goodput_bps = Rates(Run(folder)).of("total", 10 * SECOND, 40 * SECOND)
            assert goodput_bps is not None
            goodputs.append(goodput_bps)
    found = relative(goodput["true"], goodput["false"], mean(goodput["false"]))
    assert found.passes, (found, goodput)


def test_the_round_trip_follows_a_queue_that_grows_as_it_does_for_packets(tmp_path: Path) -> None:
    """Slow start into a deep queue: an ACK that stands for several is as many samples."""
    path = tmp_path / "deep.toml"
    path.write_text(
        'duration = "600ms"\ninterval = "100ms"\n'
        '[links.l]\nbetween = ["a", "b"]\nrate = "10Mb/s"\nrtt = "10ms"\nqueue = "32BDP"\n'
        '[flows.f]\nfrom = "a"\nto = "b"\nprotocol = "tcp"\ncongestion = "reno"\nbuffer = "4MB"\n'
        "[hosts.a]\noffload = false\n[hosts.b]\noffload = false\n"
    )
    round_trips = {}
    for trains in ("true", "false"):
        scenario = load(path, overrides=(f"trains={trains}",))
        run = Run(testbed.run(scenario, tmp_path / trains, Silent()))
        round_trips[trains] = [
            row["srtt_ns"]
            for row in run.rows("subflows")
            if row["host"] == "a" and row["time_ns"] > 0
        ]
    assert round_trips["false"][-1] > 5 * round_trips["false"][0] > 0
    assert round_trips["true"] == pytest.approx(round_trips["false"], rel=0.05)
