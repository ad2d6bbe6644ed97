"""Why traffic stayed on the returned link in experiment B: a cause that gives figure 32's picture.

When the first link came back (section 3.6.2 of the report), the capture showed windows of 65,535
bytes on the old subflow, which soon fell silent, and of up to 14,155,776 bytes on the new one,
which from then on carried everything; the kernel's log counted one subflow where there were two
(section 3.5).  RFC 8684 section 3.3.5 says that a window belongs to the connection: the sender may
send up to the largest DATA_ACK + window that it has seen on *any* subflow, on whichever subflow it
likes.  The fault put in here is a sender that asks each subflow for its *own* window instead: new
data may go on the old subflow only up to DATA_ACK + 65,535, and with megabytes under way on the
new one there never is room below that edge.

    python bench/returned_link.py [--duration 60s]

runs experiment B with and without the fault and prints both links' rates after the return.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.summary import Rates, stages
from mptcplab.scenario import Scenario, load
from mptcplab.simulated import testbed
from mptcplab.stack.schedulers import SCHEDULERS
from mptcplab.stack.schedulers.base import ConnectionView, Scheduler, SubflowView, has_room
from mptcplab.units import format_rate, parse_duration

OLD_WINDOW_BYTES = 65_535
NEW_WINDOW_BYTES = 14_155_776
"""As figure 32 shows them."""
FIRST_RETURNED = 2
"""Subflows 0 and 1 are those of the start; what comes later has returned."""


class OwnWindows(Scheduler):
    """Lowest RTT first, each subflow held to its own window once one has returned."""

    def select(self, usable: list[SubflowView], view: ConnectionView) -> SubflowView | None:
        """Return the fastest subflow with room in both windows, or None."""
        newest = max(subflow.subflow_id for subflow in usable)
        allowed = []
        for subflow in usable:
            window_bytes = NEW_WINDOW_BYTES
            if newest >= FIRST_RETURNED and subflow.subflow_id < newest:
                window_bytes = OLD_WINDOW_BYTES
            if view.pending_offset < view.acked_offset + window_bytes and has_room(subflow, view):
                allowed.append(subflow)
        return min(allowed, key=lambda one: one.congestion.srtt_ns, default=None)


def last_stage(scenario: Scenario) -> dict[str, float]:
    """Return the rate of each link after the last action of the timeline, half a stage later."""
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(testbed.run(scenario, Path(scratch) / "run", Silent()))
        start_ns, end_ns = stages(run)[-1]
        return Rates(run).links_bps((start_ns + end_ns) // 2, end_ns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--duration", default="60s")
    duration = parser.parse_args().duration
    SCHEDULERS["own-windows"] = OwnWindows
    for name in ("default", "own-windows"):
        scenario = load("B", duration_ns=parse_duration(duration))
        tunables = {
            host: replace(settings, scheduler=name) for host, settings in scenario.tunables.items()
        }
        rates = last_stage(replace(scenario, tunables=tunables))
        print(name, ", ".join(f"{link} {format_rate(bps)}" for link, bps in rates.items()))


if __name__ == "__main__":
    main()
