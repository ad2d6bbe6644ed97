"""What a run has used and moved: CPU time, hosts' counters, the lateness of emulators."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from mptcplab.linux.emulator import Lateness, LinkReading
from mptcplab.linux.lab.processes import was_stopped
from mptcplab.linux.measure.apparatus import Apparatus
from mptcplab.linux.measure.verify import LATENESS_QUANTILE
from mptcplab.linux.probes import cpu, mib


class Usage:
    """Differences between the start of a run and its end."""

    def __init__(self, apparatus: Apparatus) -> None:
        self._apparatus = apparatus
        self._counters_before: dict[str, dict[str, int]] = {}
        self._emulators_before: dict[str, LinkReading] = {}
        self._fabric_before_ns = 0
        self.cpu_ns: dict[str, int] = {}
        """CPU time that each kind of process of ours has used, by "FLOW ROLE", "HOST stack", "LINK
        emulator", "fabric" and "testbed"."""
        self.counters: dict[str, dict[str, tuple[int, int]]] = {}
        """By host, the MIB counters that moved: before and after."""
        self.lateness: dict[str, Lateness] = {}
        """By link, how late its emulator was, in its worse direction."""
        self.stopped: list[str] = []
        """The processes that a signal stopped for a while (SIGSTOP), or that are still stopped."""

    def start(self) -> None:
        """Read everything that is compared at the end."""
        self._counters_before = {host: self._read_counters(host) for host in self._apparatus.hosts}
        self._emulators_before = self._apparatus.links.emulator_readings(reset_peak=True)
        fabric = self._apparatus.lab.fabric
        if fabric is not None:
            self._fabric_before_ns = cpu.process_time_ns(fabric.pid) or 0

    def note_cpu(self) -> None:
        """Take the CPU time used so far, while the processes are still there, and which of them
        were stopped meanwhile.
        """
        self.stopped = [name for name, pid in self._processes() if was_stopped(pid)]
        used = {"testbed": time.process_time_ns()}
        for traffic in self._apparatus.flows.traffic:
            for role, pid in traffic.processes():
                name = f"{traffic.flow.name} {role}"
                used[name] = used.get(name, 0) + (cpu.process_time_ns(pid) or 0)
        for name, stack in self._apparatus.stacks.items():
            if stack.process is not None:
                used[f"{name} stack"] = cpu.process_time_ns(stack.process.pid) or 0
        fabric = self._apparatus.lab.fabric
        if fabric is not None:
            used["fabric"] = (cpu.process_time_ns(fabric.pid) or 0) - self._fabric_before_ns
        for name, reading in self._apparatus.links.emulator_readings().items():
            used[f"{name} emulator"] = reading.cpu_ns - self._emulators_before[name].cpu_ns
        self.cpu_ns = used

    def _processes(self) -> Iterator[tuple[str, int]]:
        """Yield the name and number of each process that carries traffic."""
        for traffic in self._apparatus.flows.traffic:
            for role, pid in traffic.processes():
                yield f"the {role} of flow {traffic.flow.name}", pid
        for name, stack in self._apparatus.stacks.items():
            if stack.process is not None:
                yield f"the stack of {name}", stack.process.pid
        for name, emulator in self._apparatus.links.emulators().items():
            yield f"the emulator of {name}", emulator.pid
        if self._apparatus.lab.fabric is not None:
            yield "the lab's Open vSwitch", self._apparatus.lab.fabric.pid

    def finish(self) -> None:
        """Compare counters and emulators with what they were."""
        for host, before in self._counters_before.items():
            self.counters[host] = mib.moved(before, self._read_counters(host))
        self.lateness = {
            name: _lateness_since(reading, self._emulators_before[name])
            for name, reading in self._apparatus.links.emulator_readings().items()
        }

    def counter_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the ``counters`` table."""
        return [
            {"host": host, "counter": name, "before": before, "after": after}
            for host, moved in self.counters.items()
            for name, (before, after) in moved.items()
        ]

    def _read_counters(self, host: str) -> dict[str, int]:
        with self._apparatus.lab.enter(host):
            return mib.read_counters()


def _lateness_since(now: LinkReading, before: LinkReading) -> Lateness:
    """Return how late an emulator was since an earlier reading, in its worse direction.

    Each figure is that of the direction in which it is worse.
    """
    both = [
        now.forward.lateness.since(before.forward.lateness),
        now.backward.lateness.since(before.backward.lateness),
    ]
    worse = max(both, key=lambda lateness: lateness.quantile_ns(LATENESS_QUANTILE))
    worse.max_ns = max(lateness.max_ns for lateness in both)
    return worse
