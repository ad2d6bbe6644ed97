"""The samples of a run: when each is taken, and the rows that they make."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from mptcplab.linux.drivers.driver import DIRECTIONS
from mptcplab.linux.measure.apparatus import Apparatus
from mptcplab.linux.measure.cpu_watch import CpuWatch
from mptcplab.linux.measure.last_samples import LastSamples
from mptcplab.linux.measure.limit_probe import probe_interval_ns
from mptcplab.linux.measure.own_stack_host import StackHost
from mptcplab.linux.measure.sampler import (
    FlowSampler,
    LinkSampler,
    Rows,
    RttSampler,
    SocketSampler,
    receiving_host,
)
from mptcplab.linux.measure.serving import Serving
from mptcplab.linux.measure.verify import BusyInterval
from mptcplab.linux.measure.watches import Watches
from mptcplab.linux.probes import cpu
from mptcplab.linux.probes.diag import DiagSocket
from mptcplab.linux.probes.rtt import RttProber
from mptcplab.linux.traffic.flow import Traffic
from mptcplab.loop import Timer
from mptcplab.results.observer import Observer

_LAST_SAMPLE_NS: Final = 1_000_000_000  # our own stacks answer within some milliseconds


class Samples:
    """Samples flows, links, subflows and connections at each interval, and the machine's CPU use.

    Times of the rows count from ``origin_ns``, scenario time 0 on the monotonic clock, which is 0
    until :meth:`start`; ``end_ns`` is when the last sample at an interval was taken.
    """

    def __init__(
        self, apparatus: Apparatus, observer: Observer, is_over: Callable[[], bool]
    ) -> None:
        """Open a socket for each host's kernel and each link's echoes; see :meth:`close`.

        ``is_over`` says whether nothing is left to happen: the loop then stops after a sample.
        """
        self._apparatus = apparatus
        self._observer = observer
        self._is_over = is_over
        self.origin_ns = self.end_ns = 0
        self.busy: list[BusyInterval] = []
        self.rows: dict[str, Rows] = {
            "flows": [],
            "links": [],
            "subflows": [],
            "connections": [],
            "limits": [],
        }
        self.late_max_ns = 0
        """By how much the latest sample of an interval missed its time."""
        self._due_ns = 0
        self._ticks = 0
        self._begun_ns = 0
        self._probe_timer: Timer | None = None
        self._stat: dict[str, cpu.CpuTimes] = {}
        self._flow_sampler, self._link_sampler = FlowSampler(), LinkSampler()
        self.cpu = CpuWatch(apparatus)
        self._serving = Serving(apparatus)
        self.watches = Watches(apparatus.scenario, apparatus.flows)
        with ExitStack() as opened:
            self._sockets = _host_samplers(apparatus, opened)
            probers = _link_probers(apparatus, opened)
            self._opened = opened.pop_all()
        self._rtt = RttSampler(probers, apparatus.links.is_up)
        self._last = LastSamples(
            apparatus.loop,
            apparatus.flows,
            self._sockets,
            self.sample_sockets_now,
            apparatus.links.is_up,
        )

    def start(self, origin_ns: int) -> None:
        """Take the first sample, which only sets the counters, at scenario time 0."""
        self.origin_ns = origin_ns
        self._apparatus.loop.call_at(origin_ns, self._first_tick)
        for traffic in self._apparatus.flows.traffic:
            begin = partial(self._begin, traffic)
            self._apparatus.loop.call_at(origin_ns + traffic.flow.start_ns, begin)

    def _begin(self, traffic: Traffic) -> None:
        """A flow begins: look from now on what its connections wait for."""
        for connection in traffic.connections:
            for sampler in self._sockets if connection.is_sampled else ():
                sampler.limits.begin(connection, traffic.flow.start_ns)
        self._begun_ns = self.origin_ns + traffic.flow.start_ns
        if self._probe_timer is None:
            self._probe()

    def _probe(self) -> None:
        """Look what connections wait for, and set the time of the next look."""
        loop = self._apparatus.loop
        now_ns = time.monotonic_ns()
        for sampler in self._sockets:
            sampler.limits.probe(now_ns - self.origin_ns)
        self._probe_timer = None
        if not all(traffic.finished for traffic in self._apparatus.flows.traffic):
            next_ns = now_ns + probe_interval_ns(now_ns - self._begun_ns)
            self._probe_timer = loop.call_at(next_ns, self._probe)

    @property
    def started(self) -> bool:
        """Whether the first sample was taken."""
        return self.end_ns > 0

    def release_finished(self) -> None:
        """Sample the connections that are done once more and let them close their sockets."""
        self._last.look()

    def finish(self) -> None:
        """Take the sample of the last interval, where the run ended before its time."""
        scenario = self._apparatus.scenario
        if self.end_ns < self.origin_ns + scenario.duration_ns:
            self._tick()

    def finish_sockets(self) -> None:
        """Sample once more what did not end, and our own stacks, which forget nothing.

        Waits for the answers of the latter, which they give when they have time.
        """
        self.sample_sockets_now()
        stacks = self._apparatus.stacks.values()
        deadline_ns = time.monotonic_ns() + _LAST_SAMPLE_NS
        while any(stack.waiting for stack in stacks):
            if time.monotonic_ns() > deadline_ns:
                break
            self._apparatus.loop.run(time.monotonic_ns() + _LAST_SAMPLE_NS // 100)
        for stack in stacks:
            subflows, connections = stack.arrived()
            self.rows["subflows"] += subflows
            self.rows["connections"] += connections
            self.rows["limits"] += stack.limits.rows(0)

    def sample_sockets_now(self) -> int:
        """Sample subflows and connections between the samples of a run; return the time."""
        time_ns = time.monotonic_ns() - self.origin_ns
        if self.origin_ns:
            self._sample_sockets(time_ns)
        return time_ns

    def sample_between(self) -> None:
        """Sample flows, links and sockets between two intervals, of which the row then has two."""
        time_ns = time.monotonic_ns() - self.origin_ns
        delivered = self._delivered()
        self._sample_links(time_ns, {})
        self._sample_flows(time_ns, delivered, self._sample_sockets(time_ns))

    def subflows_on(self, link: str) -> set[tuple[str, str, int]]:
        """Return (host, flow, connection) of each end of a subflow established on a link."""
        return {
            (row["host"], row["flow"], row["connection"])
            for sampler in self._sockets
            for row in sampler.present_subflows()
            if row["link"] == link and row["state"] == "ESTABLISHED"
        }

    def close(self) -> None:
        """Close every socket."""
        self._opened.close()

    # -- at each interval

    def _first_tick(self) -> None:
        self._stat = cpu.read_stat()
        self.cpu.sample(0, 0, {}, {})
        self.end_ns = time.monotonic_ns()
        self._sample_links(0, {})
        self._rtt.sample()
        self._next_tick()

    def _next_tick(self) -> None:
        scenario = self._apparatus.scenario
        self._ticks += 1
        self._due_ns = self.origin_ns + self._ticks * scenario.interval_ns
        if self._due_ns <= self.origin_ns + scenario.duration_ns:
            self._apparatus.loop.call_at(self._due_ns, self._tick)

    def _tick(self) -> None:
        """Take every sample of one interval; what must be simultaneous comes first."""
        now_ns = time.monotonic_ns()
        self.late_max_ns = max(self.late_max_ns, now_ns - self._due_ns)
        time_ns, since_ns = now_ns - self.origin_ns, self.end_ns - self.origin_ns
        delivered = self._delivered()
        rtts = self._rtt.sample()
        link_rates = self._sample_links(time_ns, rtts)
        flow_rates = self._sample_flows(time_ns, delivered, self._sample_sockets(time_ns))
        stat = cpu.read_stat()
        busy = cpu.busy_between(self._stat, stat)
        self.busy.append(BusyInterval(since_ns, time_ns, busy["cpu"]))
        self.cpu.sample(time_ns, time_ns - since_ns, cpu.by_number(busy), flow_rates)
        self._stat, self.end_ns = stat, now_ns
        self._observer.tick(time_ns, flow_rates, link_rates, rtts)
        if self._is_over():
            self._apparatus.loop.stop()
        else:
            self._next_tick()

    def _sample_sockets(self, time_ns: int) -> dict[tuple[str, int], int]:
        """Sample subflows and connections; return the bytes received by host and port."""
        received: dict[tuple[str, int], int] = {}
        sampled: tuple[Rows, Rows] = ([], [])
        for sampler in self._sockets:
            subflows, connections, counts = sampler.sample(time_ns)
            sampled[0].extend(subflows)
            sampled[1].extend(connections)
            received |= {(sampler.host, port): count for port, count in counts.items()}
            self.rows["limits"] += sampler.limits.rows(time_ns)
        self._serving.complete(sampled[1])
        self.rows["subflows"] += sampled[0]
        self.rows["connections"] += sampled[1]
        self.watches.look(time_ns, *sampled)
        return received

    def _delivered(self) -> dict[str, list[int] | None]:
        return {
            traffic.flow.name: traffic.delivered_bytes()
            for traffic in self._apparatus.flows.traffic
        }

    def _sample_flows(
        self,
        time_ns: int,
        delivered: dict[str, list[int] | None],
        received: dict[tuple[str, int], int],
    ) -> dict[str, float]:
        return {
            traffic.flow.name: self._sample_flow(
                time_ns, traffic, delivered[traffic.flow.name], received
            )
            for traffic in self._apparatus.flows.traffic
        }

    def _sample_flow(
        self,
        time_ns: int,
        traffic: Traffic,
        delivered: list[int] | None,
        received: dict[tuple[str, int], int],
    ) -> float:
        if time_ns <= traffic.flow.start_ns:
            return 0.0
        if delivered is None:
            delivered = [
                received.get((receiving_host(connection), connection.port), 0)
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

    def _sample_links(
        self, time_ns: int, rtts: dict[str, int | None]
    ) -> dict[str, tuple[float, float]]:
        links = self._apparatus.links
        rates: dict[str, tuple[float, float]] = {}
        for link in self._apparatus.scenario.topology.links:
            readings = links.readings(link.name)
            both = []
            for direction in DIRECTIONS:
                row = self._link_sampler.sample(
                    time_ns,
                    link.name,
                    direction,
                    readings[direction],
                    links.is_up(link.name),
                    links.channels[link.name, direction].rate_bps,
                )
                both.append(0.0 if row is None else row["bps"])
                if row is not None:
                    row["rtt_ns"] = rtts.get(link.name) if direction == "forward" else None
                    since_ns = time_ns - row["interval_ns"]
                    row["rate_bps"] = links.mean_rate_bps(link.name, direction, since_ns, time_ns)
                    self.rows["links"].append(row)
            rates[link.name] = (both[0], both[1])
        return rates


def _host_samplers(apparatus: Apparatus, opened: ExitStack) -> list[SocketSampler | StackHost]:
    """Return what samples each host's sockets; what is opened for it is closed with ``opened``."""
    samplers: list[SocketSampler | StackHost] = []
    for host in apparatus.hosts:
        if host in apparatus.stacks:
            samplers.append(apparatus.stacks[host])
            continue
        with apparatus.lab.enter(host):
            diag = DiagSocket()
        opened.callback(diag.close)
        samplers.append(SocketSampler(host, diag, apparatus.identities))
    return samplers


def _link_probers(apparatus: Apparatus, opened: ExitStack) -> dict[str, RttProber]:
    """Return what sends echoes over each link that a flow's path is named by."""
    probers: dict[str, RttProber] = {}
    for flow in apparatus.scenario.flows:
        for path in apparatus.scenario.paths(flow):
            link = apparatus.identities.link_of(path)
            if link in probers:
                continue
            with apparatus.lab.enter(path.local.host):
                probers[link] = RttProber(
                    path.local.interface,
                    str(path.local_address.ip),
                    str(path.remote_address.ip),
                )
            opened.callback(probers[link].close)
    return probers
