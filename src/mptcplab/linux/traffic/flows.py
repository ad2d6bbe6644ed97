"""All the flows of a run: prepared, started and stopped at their times, and summed up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from mptcplab.applications.workloads import Command, GridFtp
from mptcplab.linux.traffic.command import CommandTraffic
from mptcplab.linux.traffic.conversation import ConversationTraffic
from mptcplab.linux.traffic.flow import Answer, BulkTraffic, Connection, Spawn, StartJob, Traffic
from mptcplab.linux.traffic.gridftp import GridFtpTraffic
from mptcplab.linux.traffic.iperf3 import Iperf3Traffic
from mptcplab.linux.traffic.plan import FIRST_PORT, FlowError
from mptcplab.linux.traffic.programs import LocalPrograms, Programs
from mptcplab.linux.traffic.sctp import SctpTraffic
from mptcplab.loop import RealTimeLoop
from mptcplab.scenario.model import Flow, Scenario

_SHARED: Final = "shared"
_READY_WITHIN_NS: Final = 20_000_000_000
_LOOK_EVERY_NS: Final = 10_000_000
_DRAIN_LEAST_NS: Final = 5_000_000_000
_DRAIN_MOST_NS: Final = 600_000_000_000


class Flows:
    """Every flow's traffic; each connection listens on a port of its own, on whatever host."""

    def __init__(
        self,
        scenario: Scenario,
        loop: RealTimeLoop,
        spawn: Spawn,
        workspace: Path,
        on_answer: Answer,
        own_stacks: Mapping[str, StartJob],
        congestion: Mapping[str, str],
        programs: Programs | None = None,
    ) -> None:
        """Make the traffic of every flow; FlowError where this machine lacks the application.

        ``own_stacks`` are the hosts whose ends ``spawn`` does not start. ``congestion`` has the
        kernel's names of what the lab has registered, by the scenario's. ``programs`` are those of
        real hosts; without them, this machine's.
        """
        programs = programs or LocalPrograms(spawn)
        self._scenario = scenario
        self._loop = loop
        self._watched: set[int] = set()
        self._shared = workspace / _SHARED
        self._shared.mkdir()
        self.traffic: list[Traffic] = []
        port = FIRST_PORT
        for flow in scenario.flows:
            if flow.source not in own_stacks:
                name = congestion.get(flow.congestion, flow.congestion)
                flow = replace(flow, congestion=name)
            traffic = _make(scenario, flow, port, spawn, workspace, on_answer, own_stacks, programs)
            self.traffic.append(traffic)
            port += traffic.ports
        self._by_flow = {traffic.flow.name: traffic for traffic in self.traffic}

    def connections(self) -> Iterator[Connection]:
        """Yield every connection of every flow."""
        for traffic in self.traffic:
            yield from traffic.connections

    def of(self, flow: str) -> Traffic:
        """Return a flow's traffic."""
        return self._by_flow[flow]

    def prepare(self) -> None:
        """Start every process and wait until all are ready; FlowError for one that is not.

        The files that they share are mapped by then and need no names any more.
        """
        for traffic in self.traffic:
            traffic.prepare()
            self._watch(traffic)
        deadline_ns = time.monotonic_ns() + _READY_WITHIN_NS
        while not all(traffic.ready for traffic in self.traffic):
            self._raise_failures()
            if time.monotonic_ns() > deadline_ns:
                waiting = [unready.flow.name for unready in self.traffic if not unready.ready]
                raise FlowError(
                    f"flow {', '.join(waiting)}: its processes were not ready within 20 s; "
                    "the machine is too busy"
                )
            self._loop.run(time.monotonic_ns() + _LOOK_EVERY_NS)
        shutil.rmtree(self._shared)

    def schedule(self, origin_ns: int) -> None:
        """Set timers for each flow's start and stop; scenario time 0 is ``origin_ns``."""
        for traffic in self.traffic:
            flow = traffic.flow
            self._loop.call_at(origin_ns + flow.start_ns, partial(self._start, traffic))
            if flow.stop_ns is not None and flow.stop_ns < self._scenario.duration_ns:
                self._loop.call_at(origin_ns + flow.stop_ns, traffic.stop)

    def stop(self) -> None:
        """Stop every sender; what had arrived at the last sample counts as the run's."""
        for traffic in self.traffic:
            for connection in traffic.connections:
                connection.bytes_measured = connection.bytes_sampled
            traffic.stop()

    @property
    def finished(self) -> bool:
        """Whether nothing more will come of any flow."""
        return all(traffic.finished for traffic in self.traffic)

    def drain_ns(self, waiting_bytes: Mapping[str, int], patience_ns: int) -> int:
        """Return how long what waits, by flow, may take over the slowest link of its flow, after
        as long a silence as a live connection may keep.
        """
        longest = 0.0
        for flow in self._scenario.flows:
            rates = [
                channel.rate_bps
                for name in flow.links
                for link in (self._scenario.topology.link(name),)
                for channel in (link.forward, link.backward)
                if channel.rate_bps
            ]
            waiting = waiting_bytes.get(flow.name, 0)
            longest = max(longest, waiting * 8e9 / min(rates, default=10**9))
        return min(_DRAIN_LEAST_NS + patience_ns + round(2 * longest), _DRAIN_MOST_NS)

    def summary(self, origin_ns: int, stalled_ns: Mapping[int, int]) -> list[dict[str, Any]]:
        """Return what ``run.json`` says of each connection; times count from ``origin_ns``.

        ``stalled_ns`` has by port from when on nothing moved.
        """
        summaries = []
        for traffic in self.traffic:
            delivered = traffic.delivered_bytes()
            for position, connection in enumerate(traffic.connections):
                received = connection.bytes_received
                ended_ns = connection.end_monotonic_ns
                if received is None:
                    received = connection.bytes_sampled
                    if delivered is not None:
                        received = delivered[position]
                measured = connection.bytes_measured
                measured = received if measured is None else min(measured, received)
                summaries.append(
                    {
                        "flow": connection.flow.name,
                        "connection": connection.index,
                        "protocol": connection.protocol or connection.flow.protocol,
                        "bytes": measured,
                        "drained_bytes": received - measured,
                        "intact": connection.intact,
                        "end_ns": ended_ns and ended_ns - origin_ns,
                        "stalled_since_ns": stalled_ns.get(connection.port),
                        "errors": connection.errors,
                    }
                )
        return summaries

    def close(self) -> None:
        """End every process."""
        for descriptor in self._watched:
            self._loop.remove_reader(descriptor)
        self._watched.clear()
        for traffic in self.traffic:
            traffic.close()

    def _start(self, traffic: Traffic) -> None:
        traffic.start()
        self._watch(traffic)

    def _watch(self, traffic: Traffic) -> None:
        for descriptor, read in traffic.descriptors().items():
            if descriptor not in self._watched:
                self._watched.add(descriptor)
                self._loop.add_reader(descriptor, partial(self._read, descriptor, read))

    def _read(self, descriptor: int, read: Callable[[], bool]) -> None:
        if not read():
            self._loop.remove_reader(descriptor)
            self._watched.discard(descriptor)

    def _raise_failures(self) -> None:
        for connection in self.connections():
            if connection.errors:
                raise FlowError(f"flow {connection.flow.name}: {connection.errors[0]}")


def _make(
    scenario: Scenario,
    flow: Flow,
    port: int,
    spawn: Spawn,
    workspace: Path,
    on_answer: Answer,
    own_stacks: Mapping[str, StartJob],
    programs: Programs,
) -> Traffic:
    paths = scenario.paths(flow)
    if not paths:
        raise FlowError(f"flow {flow.name}: no path between its hosts over the links it may use")
    if flow.application == "iperf3":
        return Iperf3Traffic(flow, paths[0], port, programs, on_answer)
    if isinstance(flow.workload, Command):
        return CommandTraffic(flow, paths[0], port, programs, workspace, on_answer)
    if isinstance(flow.workload, GridFtp):
        return GridFtpTraffic(flow, paths, port, spawn, workspace, on_answer)
    workspace = workspace / _SHARED
    if flow.protocol == "sctp":
        return SctpTraffic(scenario, flow, port, spawn, workspace, on_answer, own_stacks)
    if flow.workload is not None:
        return ConversationTraffic(scenario, flow, port, spawn, workspace, on_answer, own_stacks)
    return BulkTraffic(scenario, flow, port, spawn, workspace, on_answer, own_stacks)
