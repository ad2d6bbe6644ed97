"""How long the report's whole testbed takes to stand and to go: three hosts, ten links.

    python bench/lab_setup.py [--runs N]

"up" is open_lab, "down" is Lab.close; "first to last" is all of it: forking the supervisor, making
its namespaces, building, taking down, and the last process gone.  Between runs there is a pause:
the kernel takes namespaces apart in the background and locks interfaces meanwhile (cleanup_net,
RTNL), for which the next lab would wait.  Mininet 2.3.0 takes 106 to 198 ms up and 63 to 144 ms
down for two hosts and two links.  Exit status 1 where a median misses its target.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from mptcplab.linux.lab.lab import open_lab
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.network.topology import Topology
from mptcplab.scenario.load import load_topology

UP_TARGET_MS = 100.0
DOWN_TARGET_MS = 50.0
PAUSE_S = 0.2


def one_run(topology: Topology) -> tuple[float, float, float]:
    """Build and take down once; return the milliseconds of up, down and first to last."""

    def work(_send: Callable[[object], None]) -> tuple[float, float]:
        start = time.perf_counter()
        lab = open_lab(topology)
        standing = time.perf_counter()
        lab.close()
        return standing - start, time.perf_counter() - standing

    time.sleep(PAUSE_S)
    begin = time.perf_counter()
    up, down = run_supervised(work)
    return up * 1e3, down * 1e3, (time.perf_counter() - begin) * 1e3


def main() -> int:
    """Print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    topology = load_topology("report")
    found = [one_run(topology) for _ in range(runs)]
    missed = False
    for name, values, target in zip(
        ("up", "down", "first to last"),
        zip(*found, strict=True),
        (UP_TARGET_MS, DOWN_TARGET_MS, None),
        strict=True,
    ):
        median = statistics.median(values)
        line = f"{name:14} median {median:6.1f} ms   {min(values):6.1f} to {max(values):6.1f}"
        if target is not None:
            missed = missed or median > target
            line += f"   target {target:.0f} ms"
        print(line)
    print(
        f"{len(topology.hosts)} hosts, {len(topology.links)} links, "
        f"{len(topology.switches)} switches, {runs} runs"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
