"""The torus of NSDI 2011 on this kernel: a ring of links, each of which carries two flows."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.linux.testbed import run
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario.load import load

TORUS = """
duration = "2s"
[generate]
kind = "torus"
size = 3
link = { rate = "5Mb/s", rtt = "20ms", queue = "1 BDP" }
access = { rate = "1Gb/s" }
"""


@pytest.mark.kernel
@pytest.mark.slow
def test_each_flow_of_a_torus_has_a_subflow_over_both_its_links(tmp_path: Path) -> None:
    """Addresses that no router leads between are tried as well, and refused by a router."""
    file = tmp_path / "torus.toml"
    file.write_text(TORUS)
    done = Run(run(load(file), tmp_path / "run", Silent()))
    carried: dict[str, set[str]] = {}
    for row in done.rows("subflows"):
        if row["bytes_acked"] and row["host"].startswith("a"):
            carried.setdefault(row["flow"], set()).add(row["link"])
    assert carried == {"f1": {"l1", "l2"}, "f2": {"l2", "l3"}, "f3": {"l3", "l1"}}
    closed = [row["detail"] for row in done.rows("events") if row["event"] == "subflow-closed"]
    assert sum("ENETUNREACH" in detail for detail in closed) == 6
