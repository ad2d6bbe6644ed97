"""What a simulated second costs: experiments on the simulated testbed.

For each experiment: processor seconds per simulated second, trains a second, peak memory, and how
flat the cost is over the run (the second half's cost over the first half's).

    python bench/simulation_speed.py [A:60s C:6s ...]
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
from mptcplab.scenario import load
from mptcplab.simulated import testbed
from mptcplab.stack import stack
from mptcplab.units import NANOSECONDS, parse_duration

DEFAULT = ("A:60s", "C:6s")
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


def measure(name: str, duration: str) -> None:
    scenario = load(name, duration_ns=parse_duration(duration))
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
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
