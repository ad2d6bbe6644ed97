"""Simulated fabrics: subflows by ports over several links between two switches."""

from __future__ import annotations

from pathlib import Path

from tests.simulated.test_routers import delivered_bps, simulate
from tests.unit.network.test_switching import BY_ADDRESSES, PARALLEL, ROUTED


def test_subflows_take_the_links_that_the_run_says(tmp_path: Path) -> None:
    finished = simulate(tmp_path, PARALLEL, "duration=4s")
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    forward = [each for each in finished.metadata["fabric"] if each["switch"] == "west"]
    assert len(forward) == 4
    used = {each["link"] for each in forward}
    moved = {
        row["link"]
        for row in finished.table("links").to_pylist()
        if row["direction"] == "forward" and row["tx_bytes"] > 100_000
    }
    assert moved - {"left", "right"} == used
    assert delivered_bps(finished, "main") > 8e6 * len(used)


def test_pairs_of_addresses_stay_on_one_link(tmp_path: Path) -> None:
    finished = simulate(tmp_path, BY_ADDRESSES, "duration=4s")
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    assert finished.metadata["fabric"] == []
    assert delivered_bps(finished, "main") < 10e6


def test_a_fabric_before_a_router(tmp_path: Path) -> None:
    finished = simulate(tmp_path, ROUTED, "duration=4s", "tunables.ndiffports=6")
    assert finished.metadata["valid"], finished.metadata["invalid_reasons"]
    assert delivered_bps(finished, "main") > 14e6
