"""The samples that agents send, turned into rows of the run's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mptcplab.linux.drivers.driver import DIRECTIONS, LinkReading
from mptcplab.linux.measure.identity import Identities
from mptcplab.linux.measure.sampler import (
    FlowSampler,
    LinkSampler,
    Rows,
    SocketSampler,
    receiving_host,
)
from mptcplab.linux.measure.verify import BusyInterval
from mptcplab.linux.measure.watches import Watches
from mptcplab.linux.probes.diag import DiagSocket, SocketSample
from mptcplab.linux.traffic.flow import Traffic
from mptcplab.linux.traffic.flows import Flows
from mptcplab.network.topology import InterfaceEnd, Link
from mptcplab.remote.clocks import Clock
from mptcplab.remote.remote_worker import RemoteWorkers
from mptcplab.remote.set_up import HostSetUp
from mptcplab.scenario.model import Scenario

Sample = Mapping[str, Any]


class SampledSockets(DiagSocket):
    """A host's sockets as they were in the last sample that has come."""

    def __init__(self) -> None:
        self._tcp: list[SocketSample] = []
        self._mptcp: list[SocketSample] = []

    def take(self, sample: Sample) -> None:
        """Take in a sample."""
        self._tcp, self._mptcp = sample["tcp"], sample["mptcp"]

    def tcp(self) -> list[SocketSample]:
        """Return the TCP sockets."""
        return self._tcp

    def mptcp(self) -> list[SocketSample]:
        """Return the MPTCP connections."""
        return self._mptcp

    def look(self, samples: Sequence[SocketSample]) -> list[SocketSample]:
        """Return what has become of sockets by the last sample, but of those that are gone."""
        wanted = {_name(each) for each in samples}
        return [each for each in (*self._tcp, *self._mptcp) if _name(each) in wanted]

    def close(self) -> None:
        """Do nothing."""


def _name(sample: SocketSample) -> tuple[object, ...]:
    local = sample.local_address, sample.local_port
    return *local, sample.remote_address, sample.remote_port, sample.mptcp is None


@dataclass
class Host:
    """One host as samples see it."""

    set_up: HostSetUp
    clock: Clock
    workers: RemoteWorkers
    sockets: SampledSockets = field(default_factory=SampledSockets)


@dataclass
class Reading:
    """What was heard of all links at one instant."""

    links_bps: dict[str, tuple[float, float]] = field(default_factory=dict)
    rtt_ns: dict[str, int | None] = field(default_factory=dict)
    flows_bps: dict[str, float] = field(default_factory=dict)


class HostSamples:
    """Makes rows of samples; times of the rows count from ``origin_ns`` on our monotonic clock."""

    def __init__(
        self,
        scenario: Scenario,
        hosts: Mapping[str, Host],
        flows: Flows,
        identities: Identities,
    ) -> None:
        self._scenario = scenario
        self._hosts = hosts
        self._flows = flows
        self.origin_ns = self.end_ns = 0
        self.rows: dict[str, Rows] = {
            "flows": [],
            "links": [],
            "subflows": [],
            "connections": [],
            "limits": [],
        }
        self.watches = Watches(scenario, flows)
        self.samplers = {
            name: SocketSampler(name, host.sockets, identities) for name, host in hosts.items()
        }
        self.busy: list[BusyInterval] = []
        self._flow_sampler, self._link_sampler = FlowSampler(), LinkSampler()
        self._begun_ns = 0
        self._received: dict[tuple[str, int], int] = {}
        """What kernels have received, by host and port."""
        self._ticks: dict[str, list[int]] = {}

    def take_sockets(self, samples: Mapping[str, Sample]) -> int:
        """Take in samples of sockets alone, one of each host; return their time."""
        time_ns = 0
        subflows: Rows = []
        connections: Rows = []
        for name, sample in samples.items():
            host = self._hosts[name]
            host.sockets.take(sample)
            for number, worker in host.workers.by_number.items():
                worker.take_counts(sample["bytes"].get(str(number), ()))
            at_ns = host.clock.here(sample["at_ns"]) - self.origin_ns
            time_ns = max(time_ns, at_ns)
            rows = self.samplers[name].sample(at_ns)
            self._received |= {(name, port): done for port, done in rows[2].items()}
            subflows += rows[0]
            connections += rows[1]
            self.rows["limits"] += self.samplers[name].limits.rows(at_ns)
        self.rows["subflows"] += subflows
        self.rows["connections"] += connections
        self.watches.look(time_ns, subflows, connections)
        return time_ns

    def begin(self, traffic: Traffic) -> None:
        """A flow begins: its connections wait for something from now on."""
        for sampler in self.samplers.values():
            for connection in traffic.connections:
                if connection.is_sampled:
                    sampler.limits.begin(connection, traffic.flow.start_ns)
                self._begun_ns = traffic.flow.start_ns

    def take_look(self, name: str, sample: Sample) -> None:
        """Take in the sockets of a host that sends: what its connections wait for now."""
        host = self._hosts[name]
        host.sockets.take(sample)
        at_ns = host.clock.here(sample["at_ns"]) - self.origin_ns
        if at_ns > self._begun_ns:
            self.samplers[name].limits.probe(at_ns)

    def take(self, samples: Mapping[str, Sample], *, first: bool) -> Reading:
        """Take in whole samples, one of each host; the first only sets counters."""
        time_ns = self.take_sockets(samples)
        reading = Reading()
        since_ns, self.end_ns = self.end_ns, self.origin_ns + time_ns
        self._take_cpu(samples, since_ns - self.origin_ns, time_ns, first)
        for link in self._scenario.topology.links:
            self._take_link(link, samples, reading)
        for traffic in self._flows.traffic:
            name = traffic.flow.name
            receiver = receiving_host(traffic.connections[0])
            at_ns = self._time_of(samples, receiver)
            reading.flows_bps[name] = self._take_flow(traffic, at_ns)
        return reading

    def present_subflows(self, link: str) -> set[tuple[str, str, int]]:
        """Return (host, flow, connection) of each end of a subflow established on a link."""
        return {
            (row["host"], row["flow"], row["connection"])
            for sampler in self.samplers.values()
            for row in sampler.present_subflows()
            if row["link"] == link and row["state"] == "ESTABLISHED"
        }

    def _time_of(self, samples: Mapping[str, Sample], host: str) -> int:
        return self._hosts[host].clock.here(samples[host]["at_ns"]) - self.origin_ns

    def _take_flow(self, traffic: Traffic, time_ns: int) -> float:
        """Take in what a flow's receivers had done by the time of a sample."""
        if time_ns <= traffic.flow.start_ns:
            return 0.0
        delivered = traffic.delivered_bytes()
        if delivered is None:
            delivered = [
                self._received.get((receiving_host(connection), connection.port), 0)
                for connection in traffic.connections
            ]
        for connection, count in zip(traffic.connections, delivered, strict=True):
            connection.bytes_sampled = max(connection.bytes_sampled, count)
        delivered = [connection.bytes_sampled for connection in traffic.connections]
        rows, goodput_bps = self._flow_sampler.sample(
            time_ns, traffic, delivered, traffic.flow.start_ns
        )
        self.rows["flows"] += rows
        return goodput_bps

    def _take_link(self, link: Link, samples: Mapping[str, Sample], reading: Reading) -> None:
        """Take in what the interfaces at a link's ends have counted."""
        both = []
        for direction, ends in zip(DIRECTIONS, ((link.a, link.b), (link.b, link.a)), strict=True):
            counted = self._counted(ends[0], "tx", samples) or self._counted(ends[1], "rx", samples)
            if counted is None:
                continue
            time_ns, up, counters = counted
            rtt_ns = self._rtt_of(link.name, samples) if direction == "forward" else None
            row = self._link_sampler.sample(time_ns, link.name, direction, counters, up, None)
            both.append(0.0 if row is None else row["bps"])
            if row is not None:
                self.rows["links"].append(row | {"rtt_ns": rtt_ns})
                if direction == "forward":
                    reading.rtt_ns[link.name] = rtt_ns
        if len(both) == len(DIRECTIONS):
            reading.links_bps[link.name] = (both[0], both[1])

    def _counted(
        self, end: object, what: str, samples: Mapping[str, Sample]
    ) -> tuple[int, bool, LinkReading] | None:
        """Return time, state and counters of the interface at an end; None where it has no agent.

        ``what`` is "tx" or "rx".
        """
        if not isinstance(end, InterfaceEnd) or end.host not in self._hosts:
            return None
        host = self._hosts[end.host]
        device = samples[end.host]["interfaces"].get(host.set_up.interfaces.get(end.interface))
        if device is None:
            return None
        at_ns = host.clock.here(device["at_ns"])
        counters = LinkReading(at_ns, device[f"{what}_bytes"], device[f"{what}_packets"])
        return self._time_of(samples, end.host), device["up"], counters

    def _rtt_of(self, link: str, samples: Mapping[str, Sample]) -> int | None:
        known = [sample["rtt"][link] for sample in samples.values() if link in sample["rtt"]]
        return known[0] if known else None

    def _take_cpu(
        self, samples: Mapping[str, Sample], since_ns: int, time_ns: int, first: bool
    ) -> None:
        """Take in how busy the busiest host was."""
        shares = []
        for name, sample in samples.items():
            before = self._ticks.get(name)
            ticks = self._ticks[name] = sample["cpu"]
            if before is not None and len(before) == len(ticks) == 2 and ticks[1] > before[1]:
                shares.append((ticks[0] - before[0]) / (ticks[1] - before[1]))
        if shares and not first:
            self.busy.append(BusyInterval(since_ns, time_ns, max(shares)))


def interfaces_of(set_up: HostSetUp) -> list[str]:
    """Return the real interfaces of a host, each once."""
    return list(dict.fromkeys(set_up.interfaces.values()))


def probes_of(scenario: Scenario, host: str, set_up: HostSetUp) -> list[dict[str, str]]:
    """Return what a host sends echoes to: over each link by which its flows' paths are named."""
    probes: dict[str, dict[str, str]] = {}
    for flow in scenario.flows:
        for path in scenario.paths(flow):
            link = scenario.topology.bottleneck(path)
            if path.local.host == host and link not in probes:
                probes[link] = {
                    "key": link,
                    "interface": set_up.interfaces[path.local.interface],
                    "local": str(path.local_address.ip),
                    "remote": str(path.remote_address.ip),
                }
    return list(probes.values())
