"""Trains are how finely a run looks, not what it finds: a few cases of bench/bundling.py's grid."""

from __future__ import annotations

import pytest
from bench.bundling import Case, judge

# Each packet of a thousand windows: minutes uncompiled.
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
