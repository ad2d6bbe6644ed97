"""When a link returns that the path manager does not watch: as Linux, whose neighbours resolve."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import load
from mptcplab.simulated.testbed import run

OUTAGE = """
duration = "10s"
interval = "100ms"
hosts = { a = {}, b = {} }
tunables = { path_manager = "kernel" }
[links]
one = { between = ["a:eth0", "b:eth0"], rate = "20Mb/s", rtt = "20ms" }
two = { between = ["a:eth1", "b:eth1"], rate = "20Mb/s", rtt = "20ms" }
[flows]
main = { from = "a", to = "b" }
[[timeline]]
at = "3s"
down = "one"
[[timeline]]
at = "6s"
up = "one"
"""


def carries_again_s(tmp_path: Path, text: str) -> float:
    """Return how long after its return at 6 s the link's subflow has something acknowledged."""
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    done = Run(run(load(str(file)), tmp_path / "run", Silent()))
    rows = [
        (row["time_ns"], row["bytes_acked"])
        for row in done.rows("subflows")
        if row["host"] == "a" and row["link"] == "one"
    ]
    before = max(acked for time_ns, acked in rows if time_ns <= 6_000_000_000)
    again = min(time_ns for time_ns, acked in rows if acked > before)
    return float(again) / 1e9 - 6


def test_what_waited_for_the_link_leaves_when_it_returns(tmp_path: Path) -> None:
    """The timer has backed off to 2 s by then; the kernel needed 0.07 to 0.16 s."""
    assert carries_again_s(tmp_path, OUTAGE) == pytest.approx(0.1)


def test_where_the_nic_was_down_the_timer_has_to_expire(tmp_path: Path) -> None:
    """Linux's routes go with it, so that nothing waits in the interface."""
    text = OUTAGE.replace('down = "one"', 'down = "a:eth0"').replace('up = "one"', 'up = "a:eth0"')
    assert carries_again_s(tmp_path, text) > 0.5
