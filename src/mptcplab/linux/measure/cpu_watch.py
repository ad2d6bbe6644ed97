"""Which links the CPU may have limited, interval by interval.

A busy machine proves nothing: other programs may keep it busy while a connection waits for its
peer.  Here it counts that a connection moved, and that the processes which carry it (its two
workers, the emulators of its links, a stack of ours) were running or waiting for a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from mptcplab.linux.measure.apparatus import Apparatus
from mptcplab.linux.measure.verify import BUSY
from mptcplab.linux.probes import cpu
from mptcplab.scenario.model import Flow

_SATURATED: Final = 0.9
"""Of an interval: a process that runs or waits to run for longer has no time left."""
_EMULATOR_SATURATED: Final = 0.95


class CpuWatch:
    """Samples the CPU time of the processes that carry flows."""

    def __init__(self, apparatus: Apparatus) -> None:
        self._apparatus = apparatus
        self._emulators = {
            name: emulator.pid for name, emulator in apparatus.links.emulators().items()
        }
        self._before: dict[int, int] = {}
        self.starved: dict[int, frozenset[str]] = {}
        """By the end of an interval (ns), the links that carry a flow short of CPU time."""
        self.full_emulators: dict[int, frozenset[str]] = {}
        """By the end of an interval (ns), the links whose emulator had no time left."""

    def sample(
        self, end_ns: int, interval_ns: int, machine: float, flows_bps: Mapping[str, float]
    ) -> None:
        """Take in an interval, in which the machine was as busy and the flows as fast as given."""
        shares = self._shares(interval_ns)
        emulators = {link: shares.get(pid, 0.0) for link, pid in self._emulators.items()}
        starved: set[str] = set()
        for flow in self._apparatus.scenario.flows:
            if flows_bps.get(flow.name, 0.0) <= 0:
                continue
            own = [shares.get(pid, 0.0) for pid in self._processes(flow)]
            for path in self._apparatus.scenario.paths(flow):
                serving = [*own, *(emulators.get(link, 0.0) for link in path.links)]
                full = max(serving, default=0.0) >= _SATURATED
                if full or (machine >= BUSY and sum(serving) >= _SATURATED):
                    starved.add(self._apparatus.identities.link_of(path))
        self.starved[end_ns] = frozenset(starved)
        self.full_emulators[end_ns] = frozenset(
            link for link, share in emulators.items() if share >= _EMULATOR_SATURATED
        )

    def _processes(self, flow: Flow) -> Iterable[int]:
        for _, pid in self._apparatus.flows.of(flow.name).processes():
            yield pid
        for host in (flow.source, flow.destination):
            stack = self._apparatus.stacks.get(host)
            if stack is not None and stack.process is not None:
                yield stack.process.pid

    def _shares(self, interval_ns: int) -> dict[int, float]:
        """Return the share of the interval that each process ran or waited to run."""
        pids = {pid for flow in self._apparatus.scenario.flows for pid in self._processes(flow)}
        now: dict[int, int] = {}
        for pid in pids | set(self._emulators.values()):
            wanted_ns = cpu.wanted_time_ns(pid)
            if wanted_ns is not None:
                now[pid] = wanted_ns
        shares = {
            pid: (wanted_ns - self._before[pid]) / interval_ns
            for pid, wanted_ns in now.items()
            if pid in self._before and interval_ns > 0
        }
        self._before = now
        return shares
