"""What a simulated second costs.

For each run: processor seconds per simulated second, trains a second, peak memory, and how flat
the cost is over the run (the second half's cost over the first half's). A run is an experiment,
"lossy" (one connection over two paths of 10 ms that lose packets), or "dumbbell-N" (N hosts on
each side, so many connections through one link); "A/packets" follows each packet.

    python bench/simulation_speed.py [A:60s C:6s A/packets:60s lossy:220s dumbbell-100:10s ...]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import Scenario, load
from mptcplab.simulated import testbed
from mptcplab.stack import stack
from mptcplab.units import NANOSECONDS, parse_duration

DEFAULT = ("A:60s", "C:6s", "lossy:220s", "dumbbell-10:10s", "dumbbell-30:10s", "dumbbell-100:10s")

LOSSY = """
hosts = ["a", "b"]
links.one = { between = ["a", "b"], rate = "20Mb/s", rtt = "10ms", queue = "1BDP", loss = "0.1%" }
links.two = { between = ["a", "b"], rate = "20Mb/s", rtt = "10ms", queue = "1BDP", loss = "1%" }
flows.f = { from = "a", to = "b" }
"""

DUMBBELL = """
[generate]
kind = "dumbbell"
hosts = {hosts}
link = {{ rate = "1Gb/s", rtt = "20ms", queue = "1BDP" }}
access = {{ rate = "1Gb/s" }}
flow = {{ protocol = "tcp" }}
"""
"""So many hosts on each side; the sum of what they send is the same whatever their number."""
TRAIN_BYTES = 65_535


class Clock(Silent):
    """Notes the processor time at each interval."""

    def __init__(self) -> None:
        self.ticks: list[tuple[int, float]] = []

    def tick(
        self,
        time_ns: int,
        flows_bps: Mapping[str, float],  # noqa: ARG002
        links_bps: Mapping[str, tuple[float, float]],  # noqa: ARG002
        rtt_ns: Mapping[str, int | None],  # noqa: ARG002
    ) -> None:
        """Note it."""
        self.ticks.append((time_ns, time.process_time()))


def scenario_of(name: str, duration: str, folder: Path) -> Scenario:
    """Return what to run; a scenario of our own is written into the folder."""
    name, _, packets = name.partition("/")
    text = ""
    if name == "lossy":
        text = LOSSY
    elif name.startswith("dumbbell-"):
        text = DUMBBELL.format(hosts=int(name.removeprefix("dumbbell-")))
    if text:
        (folder / "scenario.toml").write_text(f'duration = "{duration}"\n{text}')
    return load(
        folder / "scenario.toml" if text else name,
        duration_ns=parse_duration(duration),
        overrides=("trains=false",) if packets else (),
    )


def measure(name: str, duration: str) -> None:
    """Run it, and print what it cost."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        scenario = scenario_of(name, duration, Path(scratch))
        started = time.process_time()
        run = Run(testbed.run(scenario, Path(scratch) / "run", clock))
        spent_s = time.process_time() - started
        moved_bytes = sum(flow["bytes"] for flow in run.metadata["flows"])
    simulated_s = scenario.duration_ns / NANOSECONDS
    ticks = clock.ticks
    middle = len(ticks) // 2
    first = (ticks[middle][1] - ticks[0][1]) / (ticks[middle][0] - ticks[0][0])
    second = (ticks[-1][1] - ticks[middle][1]) / (ticks[-1][0] - ticks[middle][0])
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name}, {simulated_s:g} s: {spent_s:.1f} s of processor, "
        f"{spent_s / simulated_s * 600:.0f} s for 600 s, "
        f"{moved_bytes / TRAIN_BYTES / spent_s:,.0f} full trains a second, "
        f"peak {peak_mib:.0f} MiB, second half / first half {second / first:.2f}"
    )


def main() -> None:
    print("compiled" if not stack.__file__.endswith(".py") else "interpreted")
    for argument in sys.argv[1:] or DEFAULT:
        name, _, duration = argument.partition(":")
        measure(name, duration)


if __name__ == "__main__":
    main()
