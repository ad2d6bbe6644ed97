"""What a run has used and moved: CPU time, hosts' counters, the lateness of emulators."""

from __future__ import annotations

import time
from typing import Any

from mptcplab.linux.emulator import Lateness, LinkReading
from mptcplab.linux.measure.apparatus import Apparatus
from mptcplab.linux.measure.verify import LATENESS_QUANTILE
from mptcplab.linux.probes import cpu, mib


class Usage:
    """Differences between the start of a run and its end."""

    def __init__(self, apparatus: Apparatus) -> None:
        self._apparatus = apparatus
        self._counters_before: dict[str, dict[str, int]] = {}
        self._emulators_before: dict[str, LinkReading] = {}
        self.cpu_ns: dict[str, int] = {}
        """CPU time that each kind of process of ours has used, by "FLOW ROLE", "HOST stack", "LINK
        emulator" and "testbed"."""
        self.counters: dict[str, dict[str, tuple[int, int]]] = {}
        """By host, the MIB counters that moved: before and after."""
        self.lateness: dict[str, Lateness] = {}
        """By link, how late its emulator was, in its worse direction."""

    def start(self) -> None:
        """Read everything that is compared at the end."""
        self._counters_before = {host: self._read_counters(host) for host in self._apparatus.hosts}
        self._emulators_before = self._read_emulators()

    def note_cpu(self) -> None:
        """Take the CPU time used so far, while the processes are still there."""
        used = {"testbed": time.process_time_ns()}
        for traffic in self._apparatus.flows.traffic:
            for role, pid in traffic.processes():
                name = f"{traffic.flow.name} {role}"
                used[name] = used.get(name, 0) + (cpu.process_time_ns(pid) or 0)
        for name, stack in self._apparatus.stacks.items():
            if stack.process is not None:
                used[f"{name} stack"] = cpu.process_time_ns(stack.process.pid) or 0
        for name, reading in self._read_emulators().items():
            used[f"{name} emulator"] = reading.cpu_ns - self._emulators_before[name].cpu_ns
        self.cpu_ns = used

    def finish(self) -> None:
        """Compare counters and emulators with what they were."""
        for host, before in self._counters_before.items():
            self.counters[host] = mib.moved(before, self._read_counters(host))
        self.lateness = {
            name: _lateness_since(reading, self._emulators_before[name])
            for name, reading in self._read_emulators().items()
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

    def _read_emulators(self) -> dict[str, LinkReading]:
        emulators = self._apparatus.links.emulators()
        return {name: emulator.read() for name, emulator in emulators.items()}


def _lateness_since(now: LinkReading, before: LinkReading) -> Lateness:
    """Return how late an emulator was since an earlier reading, in its worse direction."""
    both = [
        now.forward.lateness.since(before.forward.lateness),
        now.backward.lateness.since(before.backward.lateness),
    ]
    return max(both, key=lambda lateness: lateness.quantile_ns(LATENESS_QUANTILE))
