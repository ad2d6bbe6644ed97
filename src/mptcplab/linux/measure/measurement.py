"""One run on a lab that stands: traffic, timeline and samples on one loop, in real time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from mptcplab.linux.drivers.driver import DIRECTIONS
from mptcplab.linux.emulator import Lateness, LinkReading
from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.measure.captures import Captures
from mptcplab.linux.measure.event_log import EventLog
from mptcplab.linux.measure.identity import Identities
from mptcplab.linux.measure.last_samples import LastSamples
from mptcplab.linux.measure.link_control import Links
from mptcplab.linux.measure.own_stack_host import StackHost
from mptcplab.linux.measure.recovery import ReturnWatch
from mptcplab.linux.measure.sampler import (
    FlowSampler,
    LinkSampler,
    RttSampler,
    SocketSampler,
    hosts_of,
    receiving_host,
)
from mptcplab.linux.measure.timeline import Timeline
from mptcplab.linux.measure.verify import LATENESS_QUANTILE, BusyInterval
from mptcplab.linux.path_management.link_aware import Change
from mptcplab.linux.path_management.link_awareness import LinkAwareness
from mptcplab.linux.path_management.rejoin import Rejoining
from mptcplab.linux.probes import cpu, mib
from mptcplab.linux.probes.diag import DiagSocket
from mptcplab.linux.probes.pm_events import PathManagerEvents
from mptcplab.linux.probes.rtt import RttProber
from mptcplab.linux.traffic.flow import Connection, Traffic
from mptcplab.linux.traffic.flows import Flows
from mptcplab.linux.traffic.plan import client_and_server
from mptcplab.loop import RealTimeLoop
from mptcplab.results.observer import Observer
from mptcplab.results.writer import RunWriter
from mptcplab.scenario.model import Action, Flow, Scenario, Tunables

_HEAD_START_NS: Final = 50_000_000  # between setting the timers and scenario time 0
_LAST_SAMPLE_NS: Final = 1_000_000_000  # our own stacks answer within some milliseconds


class Measurement:
    """Runs a scenario's flows and timeline and fills the tables; use once, then close."""

    def __init__(self, scenario: Scenario, lab: Lab, writer: RunWriter, observer: Observer) -> None:
        self._scenario, self._lab = scenario, lab
        self._writer, self._observer = writer, observer
        self.loop = RealTimeLoop()
        self.identities = Identities(scenario.topology)
        self.log = EventLog(observer, self.identities)
        self.links = Links(lab, scenario.topology)
        self._stacks = {
            host.name: StackHost(host.name, scenario, lab, self.identities, self.log)
            for host in scenario.topology.hosts
            if host.stack == "ours"
        }
        self.flows = Flows(
            scenario,
            self.loop,
            self._spawn,
            writer.workspace,
            self._answered,
            {name: each.start_job for name, each in self._stacks.items()},
        )
        self.identities.add(self.flows.connections())
        self.hosts = hosts_of(self.flows.connections())
        self.timeline = Timeline(scenario.timeline, self.loop, self._perform, self._acted)
        self._returns = ReturnWatch(self.loop, self.links.sent_bytes, self._returned)
        self._rejoining = Rejoining(
            self.loop,
            self._lacks_subflow,
            lambda link: self._awareness.withdraw(link),
            lambda: self._awareness.update(),
        )
        self._captures = Captures(scenario, lab, writer.workspace)
        self._closing: list[Any] = []
        self.stop_reason = ""
        self.origin_ns = self.end_ns = self.origin_unix_ns = 0
        self.busy: list[BusyInterval] = []
        self.lateness: dict[str, Lateness] = {}
        self.cpu_ns: dict[str, int] = {}
        self.counters: dict[str, dict[str, tuple[int, int]]] = {}
        """By host, the MIB counters that moved: before and after."""
        self.rows: dict[str, list[dict[str, Any]]] = {
            "flows": [],
            "links": [],
            "subflows": [],
            "connections": [],
        }

    def prepare(self) -> None:
        """Open every probe, start every process, and put each link in its first state."""
        self._open_probes()
        self._captures.start()
        for name, each in self._stacks.items():
            each.start()
            self.loop.add_reader(each.fileno(), partial(self._read_stack, name))
        self.flows.prepare()
        for link in self._scenario.topology.links:
            if not link.up:
                self.links.set_up(link.name, up=False)
        self._awareness.update()

    def run(self) -> None:
        """Measure from scenario time 0 to the end, or to a request to stop; then let it drain."""
        counters = {host: self._counters(host) for host in self.hosts}
        emulators = {name: each.read() for name, each in self.links.emulators().items()}
        self.origin_ns = time.monotonic_ns() + _HEAD_START_NS
        self.origin_unix_ns = time.time_ns() + _HEAD_START_NS
        self.log.origin_ns = self.origin_ns
        self.flows.schedule(self.origin_ns)
        self.timeline.start(self.origin_ns)
        self.loop.call_at(self.origin_ns, self._first_tick)
        self.loop.run(self.origin_ns + self._scenario.duration_ns)
        if self.end_ns < self.origin_ns + self._scenario.duration_ns:
            self._tick()
        self._note_waiting()
        self.cpu_ns = self._cpu_ns(emulators)
        self._observer.phase("draining")
        self.flows.drain(lambda: not self.stop_reason)
        self._sample_again()  # of our own stacks, which forget nothing, and of what did not end
        self._await_samples()
        for host in self.hosts:
            self.counters[host] = mib.moved(counters[host], self._counters(host))
            self._write_counters(host)
        self.lateness = {
            name: _lateness_since(emulator.read(), emulators[name])
            for name, emulator in self.links.emulators().items()
        }
        for table, rows in self.rows.items():
            self._writer.append(table, rows)
        self._writer.append("events", self.log.rows())

    def stop(self, reason: str) -> None:
        """End the measurement early, in order; safe to call from a signal handler."""
        self.stop_reason = self.stop_reason or reason
        self.loop.stop()

    @property
    def measured_ns(self) -> int:
        """How long was measured."""
        return max(0, self.end_ns - self.origin_ns)

    def close(self) -> None:
        """End every process and give every probe back."""
        self.flows.close()
        for each in self._stacks.values():
            each.close()
        self._captures.stop()
        for probe in self._closing:
            probe.close()
        self.loop.close()

    # -- setting up

    def _spawn(self, host: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        return self._lab.spawn(
            host, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def _link_aware(self) -> bool:
        tunables = (self._scenario.tunables.get(host, Tunables()) for host in self.hosts)
        return any(each.enabled and each.path_manager == "link-aware" for each in tunables)

    def _open_probes(self) -> None:
        self._awareness = LinkAwareness(
            self._lab,
            self.links.states,
            self.hosts,
            self._endpoint_changed,
            follow=self._link_aware(),
            before_delete=self._sample_again,
        )
        self._closing.append(self._awareness)
        for descriptor, read in self._awareness.readers().items():
            self.loop.add_reader(descriptor, read)
        self._sockets: list[SocketSampler | StackHost] = []
        for host in self.hosts:
            if host in self._stacks:
                self._sockets.append(self._stacks[host])
                continue
            with self._lab.enter(host):
                diag, events = DiagSocket(), PathManagerEvents()
            self._closing += [diag, events]
            self._sockets.append(SocketSampler(host, diag, self.identities))
            self.loop.add_reader(events.fileno(), partial(self._pm_events, host, events))
        probers: dict[str, RttProber] = {}
        for flow in self._scenario.flows:
            for path in self._scenario.paths(flow):
                link = self.identities.link_of(path)
                if link not in probers:
                    with self._lab.enter(path.local.host):
                        probers[link] = RttProber(
                            path.local.interface,
                            str(path.local_address.ip),
                            str(path.remote_address.ip),
                        )
        self._closing += probers.values()
        self._last = LastSamples(
            self.loop, self.flows, self._sockets, self._sample_again, self.links.is_up
        )
        self._rtt = RttSampler(probers, self.links.is_up)
        self._flow_sampler, self._link_sampler = FlowSampler(), LinkSampler()

    # -- on the loop

    def _first_tick(self) -> None:
        self._stat = cpu.read_stat()
        self.end_ns = time.monotonic_ns()
        self._ticks = 0
        self._sample_links(0, {})
        self._rtt.sample()
        self._next_tick()

    def _next_tick(self) -> None:
        self._ticks += 1
        at_ns = self.origin_ns + self._ticks * self._scenario.interval_ns
        if at_ns <= self.origin_ns + self._scenario.duration_ns:
            self.loop.call_at(at_ns, self._tick)

    def _tick(self) -> None:
        """Take every sample of one interval; what must be simultaneous comes first."""
        now_ns = time.monotonic_ns()
        time_ns, since_ns = now_ns - self.origin_ns, self.end_ns - self.origin_ns
        delivered = {traffic.flow.name: traffic.delivered_bytes() for traffic in self.flows.traffic}
        rtts = self._rtt.sample()
        link_rates = self._sample_links(time_ns, rtts)
        received = self._sample_sockets(time_ns)
        flow_rates = {
            traffic.flow.name: self._sample_flow(
                time_ns, traffic, delivered[traffic.flow.name], received
            )
            for traffic in self.flows.traffic
        }
        stat = cpu.read_stat()
        self.busy.append(BusyInterval(since_ns, time_ns, cpu.use_between(self._stat, stat).machine))
        self._stat, self.end_ns = stat, now_ns
        self._observer.tick(time_ns, flow_rates, link_rates, rtts)
        if all(traffic.finished for traffic in self.flows.traffic) and self.timeline.over:
            self.loop.stop()
        else:
            self._next_tick()

    def _sample_sockets(self, time_ns: int) -> dict[tuple[str, int], int]:
        """Sample subflows and connections; return the bytes received by host and port."""
        received: dict[tuple[str, int], int] = {}
        for sampler in self._sockets:
            subflows, connections, counts = sampler.sample(time_ns)
            self.rows["subflows"] += subflows
            self.rows["connections"] += connections
            received |= {(sampler.host, port): count for port, count in counts.items()}
        return received

    def _sample_again(self) -> int:
        """Sample subflows and connections between ticks of a run; return the time."""
        time_ns = time.monotonic_ns() - self.origin_ns
        if self.origin_ns:
            self._sample_sockets(time_ns)
        return time_ns

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
        rates: dict[str, tuple[float, float]] = {}
        for link in self._scenario.topology.links:
            readings = self.links.readings(link.name)
            both = []
            for direction in DIRECTIONS:
                row = self._link_sampler.sample(
                    time_ns,
                    link.name,
                    direction,
                    readings[direction],
                    self.links.is_up(link.name),
                    self.links.channels[link.name, direction].rate_bps,
                )
                both.append(0.0 if row is None else row["bps"])
                if row is not None:
                    row["rtt_ns"] = rtts.get(link.name) if direction == "forward" else None
                    self.rows["links"].append(row)
            rates[link.name] = (both[0], both[1])
        return rates

    def _perform(self, action: Action) -> None:
        if action.target_kind == "flow":
            return  # the flow's own times already say so
        self.links.perform(action)
        for link in self.links.touched_by(action):
            if action.verb == "down":
                self._returns.went_down(link)
                self._rejoining.went_down(link)
            elif self.links.states.is_ordered_up(link):
                self._returns.came_up(link, self.links.rate_bps(link))
                self._rejoining.came_up(link, self._scenario.topology.link(link).rtt_ns)
        self._awareness.update()

    def _lacks_subflow(self, link: str) -> bool:
        """Return whether a running MPTCP connection has no subflow on a link that is up, at one of
        its ends, where its scenario wants one.
        """
        if not self.links.is_up(link):
            return False
        there = {
            (row["host"], row["flow"], row["connection"])
            for sampler in self._sockets
            for row in sampler.present_subflows()
            if row["link"] == link and row["state"] == "ESTABLISHED"
        }
        return any(
            (host, connection.flow.name, connection.index) not in there
            for connection in self.flows.connections()
            if self._is_running(connection) and self._wants(connection.flow, link)
            for host in client_and_server(connection.flow)
        )

    @staticmethod
    def _is_running(connection: Connection) -> bool:
        return (
            connection.protocol == "mptcp"
            and connection.bytes_sent is None
            and not connection.errors
        )

    def _wants(self, flow: Flow, link: str) -> bool:
        paths = self._scenario.expected_subflows(flow)
        return any(self.identities.link_of(path) == link for path in paths)

    def _acted(self, action: Action, loop_ns: int, problem: str) -> None:
        self.log.action(action, loop_ns, problem)

    def _answered(self, connection: Connection, role: str, answer: Mapping[str, Any]) -> None:
        self.log.answer(connection, role, answer)
        self._last.look()

    def _read_stack(self, host: str) -> None:
        if not self._stacks[host].read():
            self.loop.remove_reader(self._stacks[host].fileno())

    def _pm_events(self, host: str, events: PathManagerEvents) -> None:
        for event in events.read():
            self.log.path_manager_event(host, event)

    def _endpoint_changed(self, change: Change) -> None:
        self.log.endpoint(time.monotonic_ns(), change)

    def _returned(self, link: str, up_ns: int, since_ns: int) -> None:
        waited_s = max(0, since_ns - up_ns) / 1e9
        self.log.add(
            time.monotonic_ns(),
            "testbed",
            "link-carries",
            link=link,
            detail=f"{waited_s:.2f} s after it came up",
            announce=f"{link} carries data {waited_s:.2f} s after it came up",
        )

    # -- at the end

    def _await_samples(self) -> None:
        """Let the last samples of our own stacks come, which answer when they get to it."""
        deadline_ns = time.monotonic_ns() + _LAST_SAMPLE_NS
        while any(each.waiting for each in self._stacks.values()):
            if time.monotonic_ns() > deadline_ns:
                break
            self.loop.run(time.monotonic_ns() + _LAST_SAMPLE_NS // 100)
        for each in self._stacks.values():
            subflows, connections = each.arrived()
            self.rows["subflows"] += subflows
            self.rows["connections"] += connections

    def _note_waiting(self) -> None:
        for link, up_ns in self._returns.waiting.items():
            waited_s = (self.end_ns - up_ns) / 1e9
            self.log.add(
                self.end_ns,
                "testbed",
                "link-idle",
                link=link,
                detail=f"has carried nothing in the {waited_s:.2f} s since it came up",
                announce=f"{link} has carried nothing in the {waited_s:.2f} s since it came up",
            )

    def _cpu_ns(self, before: dict[str, LinkReading]) -> dict[str, int]:
        """Return the CPU time that each kind of process of ours has used."""
        used = {"testbed": time.process_time_ns()}
        for traffic in self.flows.traffic:
            for role, pid in traffic.processes():
                name = f"{traffic.flow.name} {role}"
                used[name] = used.get(name, 0) + (cpu.process_time_ns(pid) or 0)
        for name, each in self._stacks.items():
            if each.process is not None:
                used[f"{name} stack"] = cpu.process_time_ns(each.process.pid) or 0
        for name, emulator in self.links.emulators().items():
            used[f"{name} emulator"] = emulator.read().cpu_ns - before[name].cpu_ns
        return used

    def _counters(self, host: str) -> dict[str, int]:
        with self._lab.enter(host):
            return mib.read_counters()

    def _write_counters(self, host: str) -> None:
        self._writer.append(
            "counters",
            [
                {"host": host, "counter": name, "before": old, "after": new}
                for name, (old, new) in self.counters[host].items()
            ],
        )


def _lateness_since(now: LinkReading, before: LinkReading) -> Lateness:
    """Return how late an emulator was since an earlier reading, in its worse direction."""
    both = [
        now.forward.lateness.since(before.forward.lateness),
        now.backward.lateness.since(before.backward.lateness),
    ]
    return max(both, key=lambda lateness: lateness.quantile_ns(LATENESS_QUANTILE))
