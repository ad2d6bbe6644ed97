"""Which links the CPU may have limited, interval by interval.

A busy machine proves nothing: other programs may keep it busy while a connection waits for its
peer.  Here it counts that a connection moved, and that the processes which carry it (its two
workers, the emulators of its links, a stack of ours) had no CPU time left to get.  What a process
can get is decided by the CPUs that its affinity and its cpuset allow, not by those that the machine
has, and by the quotas of its control groups.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from mptcplab.applications.workloads import GridFtp
from mptcplab.linux.measure.apparatus import Apparatus
from mptcplab.linux.measure.verify import BUSY, EMULATOR_SATURATED
from mptcplab.linux.probes import cgroups, cpu
from mptcplab.linux.traffic.flow import Traffic
from mptcplab.network.topology import Path
from mptcplab.scenario.buffers import path_rate_bps
from mptcplab.scenario.flow_limits import most_bps
from mptcplab.scenario.model import Flow

_SATURATED: Final = 0.9
"""Of an interval: a thread that runs or waits to run for longer has no time left."""
_WAITED: Final = 0.1
"""Of an interval: as long a wait for a CPU is as much as a link may lack of its rate."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a process got of an interval, as shares of it.

    ``wanted`` is how long its threads ran or waited to run, all together, ``waited`` the latter
    alone, ``busiest`` how long the one did that did most; ``crowding`` is how busy the CPUs were
    that it may use, of all that ran there; ``throttled`` is for how long quotas held its control
    groups back.
    """

    wanted: float
    waited: float
    busiest: float
    crowding: float
    throttled: float


def is_starved(services: Iterable[Service]) -> bool:
    """Say whether processes that serve one connection together had no CPU time left."""
    served = list(services)
    crowded = [each for each in served if each.crowding >= BUSY]
    return (
        sum(each.wanted for each in crowded) >= _SATURATED
        or sum(each.waited for each in crowded) >= _WAITED
        or any(each.busiest >= _SATURATED or each.throttled >= _WAITED for each in served)
    )


def _is_over(traffic: Traffic) -> bool:
    """Say whether all of a flow's data have arrived."""
    ends = [connection.end_monotonic_ns for connection in traffic.connections]
    return traffic.finished or None not in ends


class CpuWatch:
    """Samples the CPU time of the processes that carry flows."""

    def __init__(self, apparatus: Apparatus) -> None:
        self._apparatus = apparatus
        self._emulators = {
            name: emulator.pid for name, emulator in apparatus.links.emulators().items()
        }
        self.most_bps = most_bps(apparatus.scenario)
        """By link and direction, the most that flows can send over it."""
        self._loaded = {link for link, _ in self.most_bps}
        self._scheduled_ns: dict[int, dict[int, tuple[int, int]]] = {}
        self._throttled_ns: dict[int, int] = {}
        self.starved: dict[int, frozenset[str]] = {}
        """By the end of an interval (ns), the links that carry a flow short of CPU time."""
        self.full_emulators: dict[int, frozenset[str]] = {}
        """By the end of an interval (ns), the links whose emulator had no time left."""

    def sample(
        self,
        end_ns: int,
        interval_ns: int,
        cpus: Mapping[int, float],
        flows_bps: Mapping[str, float],
    ) -> None:
        """Take in an interval, in which each CPU was as busy and the flows as fast as given.

        A flow that began or ended in it explains by itself why a link was not full.
        """
        services = self._services(interval_ns, cpus)
        starved: set[str] = set()
        for traffic in self._apparatus.flows.traffic:
            flow = traffic.flow
            began_before = flow.start_ns < end_ns - interval_ns
            if not began_before or _is_over(traffic) or flows_bps.get(flow.name, 0.0) <= 0:
                continue
            own = [services[pid] for pid in self._processes(flow) if pid in services]
            for path in self._paths(flow):
                if not self._loaded.intersection(path.passed):
                    continue  # a path that the flow leaves alone, or keeps for failures
                pids = [self._emulators[link] for link in path.passed if link in self._emulators]
                if is_starved([*own, *(services[pid] for pid in pids if pid in services)]):
                    starved.add(self._apparatus.identities.link_of(path))
        self.starved[end_ns] = frozenset(starved)
        self.full_emulators[end_ns] = frozenset(
            link
            for link, pid in self._emulators.items()
            if pid in services and services[pid].wanted >= EMULATOR_SATURATED
        )

    def _paths(self, flow: Flow) -> tuple[Path, ...]:
        """Return the paths that a flow is to fill: of plain TCP one, though it might use others.

        GridFTP gives each of its data nodes as much of the file, so that the slowest is busy to the
        end, and the others need not be.
        """
        scenario = self._apparatus.scenario
        if flow.protocol == "tcp" and not flow.is_striped:
            return scenario.expected_subflows(flow)
        paths = scenario.paths(flow)
        if isinstance(flow.workload, GridFtp) and flow.is_striped:
            return (min(paths, key=lambda path: path_rate_bps(scenario, flow, path) or inf),)
        return paths

    def _processes(self, flow: Flow) -> Iterable[int]:
        for _, pid in self._apparatus.flows.of(flow.name).processes():
            yield pid
        for host in (flow.source, flow.destination):
            stack = self._apparatus.stacks.get(host)
            if stack is not None and stack.process is not None:
                yield stack.process.pid

    def _services(self, interval_ns: int, cpus: Mapping[int, float]) -> dict[int, Service]:
        """Return what each process got since the last call; those that began since are left out."""
        pids = {pid for flow in self._apparatus.scenario.flows for pid in self._processes(flow)}
        pids |= set(self._emulators.values())
        before = self._scheduled_ns
        self._scheduled_ns = {pid: cpu.scheduled_ns(pid) for pid in pids}
        held_before = self._throttled_ns
        self._throttled_ns = cgroups.throttled_ns(pids)
        services = {}
        for pid, threads in self._scheduled_ns.items():
            if interval_ns <= 0 or not threads or not before.get(pid):
                continue
            ran, waited = [], []
            for thread, (run_ns, wait_ns) in threads.items():
                run_before_ns, wait_before_ns = before[pid].get(thread, (0, 0))
                ran.append((run_ns - run_before_ns) / interval_ns)
                waited.append((wait_ns - wait_before_ns) / interval_ns)
            allowed = cpu.allowed_cpus(pid) & cpus.keys()
            services[pid] = Service(
                wanted=sum(ran) + sum(waited),
                waited=sum(waited),
                busiest=max(map(operator.add, ran, waited)),
                crowding=sum(cpus[number] for number in allowed) / max(len(allowed), 1),
                throttled=(self._throttled_ns[pid] - held_before[pid]) / interval_ns,
            )
        return services
