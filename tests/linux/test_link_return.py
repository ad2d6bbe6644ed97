"""When a link returns that the path manager does not watch: the kernel's neighbours resolve."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.linux.testbed import run
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario.load import load

OUTAGE = """
duration = "5s"
interval = "100ms"
hosts = { a = {}, b = {} }
tunables = { path_manager = "kernel" }
[links]
one = { between = ["a:eth0", "b:eth0"], rate = "5Mb/s", rtt = "20ms" }
two = { between = ["a:eth1", "b:eth1"], rate = "5Mb/s", rtt = "20ms" }
[flows]
main = { from = "a", to = "b" }
[[timeline]]
at = "1s"
down = "one"
[[timeline]]
at = "3s"
up = "one"
"""


@pytest.mark.kernel
@pytest.mark.slow
def test_what_waited_for_the_link_leaves_when_it_returns(tmp_path: Path) -> None:
    """The timer has backed off to 2 s by then: the next one is due between 4 and 5 s."""
    file = tmp_path / "outage.toml"
    file.write_text(OUTAGE)
    done = Run(run(load(file), tmp_path / "run", Silent()))
    returned = max(
        row["time_ns"]
        for row in done.rows("events")
        if (row["source"], row["event"]) == ("timeline", "up")
    )
    rows = [
        (row["time_ns"], row["bytes_acked"])
        for row in done.rows("subflows")
        if row["host"] == "a" and row["link"] == "one"
    ]
    before = max(acked for time_ns, acked in rows if time_ns <= returned)
    again = min(time_ns for time_ns, acked in rows if acked > before)
    assert again - returned < 600_000_000
