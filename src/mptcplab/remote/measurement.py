"""One run on real hosts: traffic, timeline and samples, followed from this machine.

Agents take samples by their own clocks, and give the orders to start and stop that are known
beforehand; what is in between (the timeline, endpoints) is asked of them when its time comes.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from mptcplab.linux.measure.event_log import EventLog
from mptcplab.linux.measure.identity import Identities
from mptcplab.linux.measure.last_samples import LastSamples
from mptcplab.linux.measure.outcome import Outcome
from mptcplab.linux.measure.path_watch import lacks_subflow
from mptcplab.linux.measure.timeline import Timeline
from mptcplab.linux.path_management.link_aware import Change
from mptcplab.linux.probes import mib
from mptcplab.linux.traffic.flow import Connection
from mptcplab.linux.traffic.flows import Flows
from mptcplab.loop import RealTimeLoop
from mptcplab.loop.stop_signals import Stopped
from mptcplab.plain_text import printable
from mptcplab.remote.answers import COUNTERS, SAMPLE, SOCKETS, AnswerError, number
from mptcplab.remote.clocks import Clock
from mptcplab.remote.errors import HostsError
from mptcplab.remote.fleet import Fleet, checked
from mptcplab.remote.host_samples import Host, HostSamples, Sample, interfaces_of, probes_of
from mptcplab.remote.remote_captures import RemoteCaptures
from mptcplab.remote.remote_paths import RemotePaths
from mptcplab.remote.remote_programs import RemotePrograms
from mptcplab.remote.remote_worker import RemoteWorkers
from mptcplab.remote.ssh import AgentLine
from mptcplab.results.observer import Observer
from mptcplab.results.writer import RunWriter
from mptcplab.scenario.model import Action
from mptcplab.units import format_size

_ECHOES: Final = 5
_ECHO_EVERY_S: Final = 0.1
_HEAD_START_NS: Final = 300_000_000
_ROUND_TRIPS: Final = 20  # of the slowest line, between giving orders and scenario time 0
_LOOK_EVERY_NS: Final = 10_000_000
_DRAIN_LOOK_NS: Final = 250_000_000
_COUNTDOWN_NS: Final = 5_000_000_000
_OVERDUE_NS: Final = 2_000_000_000


class RemoteMeasurement:
    """Runs a scenario's flows and timeline on a fleet and fills the tables; close it after use."""

    def __init__(
        self, fleet: Fleet, clocks: Mapping[str, Clock], writer: RunWriter, observer: Observer
    ) -> None:
        scenario = self._scenario = fleet.scenario
        self._fleet, self._writer, self._observer = fleet, writer, observer
        self.stop_reason = ""
        self._is_done = False
        self.origin_ns = self.origin_unix_ns = 0
        self.late_max_ns = 0
        self.rtt_ns: dict[str, int] = {}
        """The shortest round trip over each link before the run."""
        self.lost: list[str] = []
        """What became of hosts that are out of reach."""
        self._counters: dict[str, dict[str, int]] = {}
        self._waiting: dict[int, dict[str, Sample]] = {}
        self._next_tick = 0
        self._programs = RemotePrograms(fleet)
        with ExitStack() as opened:
            self.loop = RealTimeLoop()
            opened.callback(self.loop.close)
            self.identities = Identities(scenario.topology)
            self.log = EventLog(observer, self.identities)
            self._hosts = {
                name: Host(set_up, clocks[name], RemoteWorkers(fleet.lines[name], clocks[name]))
                for name, set_up in fleet.set_ups.items()
            }
            self.flows = Flows(
                scenario,
                self.loop,
                _no_spawn,
                writer.workspace,
                self._answered,
                {name: host.workers.start_job for name, host in self._hosts.items()},
                {},
                self._programs,
            )
            opened.callback(self.flows.close)
            self.identities.add(self.flows.connections())
            self.samples = HostSamples(scenario, self._hosts, self.flows, self.identities)
            self._captures = RemoteCaptures(fleet, writer.workspace)
            self.paths = RemotePaths(
                fleet, self.loop, self._lacks_subflow, self._endpoint_changed, self._sample_sockets
            )
            self.timeline = Timeline(scenario.timeline, self.loop, self._perform, self.log.action)
            self._last = LastSamples(
                self.loop,
                self.flows,
                list(self.samples.samplers.values()),
                self._sample_sockets,
                lambda link: self.paths.states.is_up(scenario.topology.link(link)),
            )
            for name, line in fleet.lines.items():
                self.loop.add_reader(line.fileno(), partial(self._read, name, line))
                opened.callback(self.loop.remove_reader, line.fileno())
            self._opened = opened.pop_all()

    def prepare(self) -> None:
        """Start every process, and have the agents ready to sample."""
        ports = [connection.port for connection in self.flows.connections()]
        for name, host in self._hosts.items():
            self._fleet.lines[name].ask(
                "watch",
                interfaces=interfaces_of(host.set_up),
                probes=probes_of(self._scenario, name, host.set_up),
                ports=ports,
            )
        self._captures.start()
        self._measure_round_trips()
        self.flows.prepare()
        self.paths.update()
        self._counters = self._read_counters()

    def _measure_round_trips(self) -> None:
        """Send a few echoes over each link before anything else does."""
        for _ in range(_ECHOES + 1):
            for name, answer in self._fleet.ask_all("sample", whole=True).items():
                sample = checked(self._fleet.lines[name], SAMPLE, answer.get("sample"), "sample")
                for link, rtt_ns in sample["rtt"].items():
                    self.rtt_ns[link] = min(rtt_ns, self.rtt_ns.get(link, rtt_ns))
            time.sleep(_ECHO_EVERY_S)

    def run(self) -> None:
        """Measure from scenario time 0 to the end, or to a request to stop; then let it drain.

        Raises Stopped where that request came before time 0, when there is nothing to keep.
        """
        slowest_ns = max(host.clock.error_ns for host in self._hosts.values())
        head_start_ns = _HEAD_START_NS + _ROUND_TRIPS * 2 * slowest_ns
        self.origin_ns = time.monotonic_ns() + head_start_ns
        self.origin_unix_ns = time.time_ns() + head_start_ns
        self.log.origin_ns = self.samples.origin_ns = self.samples.end_ns = self.origin_ns
        self._give_orders()
        self.timeline.start(self.origin_ns)
        end_ns = self.origin_ns + self._scenario.duration_ns
        if not self.stop_reason:
            self.loop.run(end_ns)
            self._wait_for_last_sample()
        if self.samples.end_ns == self.origin_ns:
            if self.lost:
                raise HostsError("; ".join(self.lost))
            raise Stopped(signal.Signals[self.stop_reason])
        try:
            self._finish()
        except HostsError as error:
            self._note_lost(str(error))
        self._is_done = True
        self._write()

    def _give_orders(self) -> None:
        interval_ns = self._scenario.interval_ns
        for name, host in self._hosts.items():
            first_ns = host.clock.there(self.origin_ns)
            sends = any(flow.source == name for flow in self._scenario.flows)
            self._fleet.lines[name].tell(
                "every", interval_ns=interval_ns, first_ns=first_ns, looks=sends
            )
            for traffic in self.flows.traffic:
                flow = traffic.flow
                for worker in host.workers.by_flow.get(flow.name, ()):
                    worker.plan("go", self.origin_ns + flow.start_ns)
                    if flow.stop_ns is not None and flow.stop_ns < self._scenario.duration_ns:
                        worker.plan("stop", self.origin_ns + flow.stop_ns)
        self.flows.schedule(self.origin_ns)
        for traffic in self.flows.traffic:
            begin = partial(self.samples.begin, traffic)
            self.loop.call_at(self.origin_ns + traffic.flow.start_ns, begin)

    def _wait_for_last_sample(self) -> None:
        """Wait for the samples of the last interval, which are on their way."""
        last = self._scenario.duration_ns // self._scenario.interval_ns
        deadline_ns = time.monotonic_ns() + _OVERDUE_NS
        while self._next_tick <= last and not self.stop_reason and not self.lost:
            now_ns = time.monotonic_ns()
            if now_ns > deadline_ns:
                return
            self.loop.run(now_ns + _LOOK_EVERY_NS)

    def _finish(self) -> None:
        """End what is measured, and let it drain."""
        for line in self._fleet.lines.values():
            line.tell("every", interval_ns=0, first_ns=0, looks=False)
        self._drain()
        self._sample_sockets()
        self._captures.fetch()
        self._programs.fetch()
        after = self._read_counters()
        self._writer.append(
            "counters",
            (
                {"host": host, "counter": name, "before": before, "after": value}
                for host, counters in after.items()
                for name, (before, value) in mib.moved(self._counters[host], counters).items()
            ),
        )

    def _drain(self) -> None:
        """Stop every sender and let what is on its way arrive, as long as it may still come."""
        flows, watches = self.flows, self.samples.watches
        self._observer.phase("draining")
        for host in self._hosts.values():
            for worker in host.workers.by_number.values():
                worker.drop_plan("stop")
        flows.stop()
        self._sample_sockets()
        now_ns = time.monotonic_ns()
        deadline_ns = now_ns + flows.drain_ns(watches.waiting_bytes(), watches.patience_ns())
        look_ns, say_ns = now_ns + _DRAIN_LOOK_NS, now_ns + _COUNTDOWN_NS
        while not flows.finished and now_ns < deadline_ns and not self.lost:
            if now_ns >= look_ns:
                look_ns = now_ns + _DRAIN_LOOK_NS
                self._sample_sockets()
                if watches.is_hopeless():
                    return
            if now_ns >= say_ns:
                say_ns = now_ns + _COUNTDOWN_NS
                waiting = format_size(sum(watches.waiting_bytes().values()))
                self._observer.phase(f"draining: {waiting} to come")
            self.loop.run(now_ns + _LOOK_EVERY_NS)
            now_ns = time.monotonic_ns()

    def _write(self) -> None:
        for table, rows in self.samples.rows.items():
            self._writer.append(table, rows)
        for traffic in self.flows.traffic:
            requests, messages = traffic.rows(self.origin_ns)
            self._writer.append("requests", requests)
            self._writer.append("messages", messages)
        self._writer.append("events", self.log.rows())

    def stop(self, reason: str) -> None:
        """End the measurement early, in order; safe to call from a signal handler."""
        if not self._is_done:
            self.stop_reason = self.stop_reason or reason
            self.loop.stop()

    @property
    def measured_ns(self) -> int:
        """How long was measured."""
        return max(0, self.samples.end_ns - self.origin_ns)

    @property
    def outcome(self) -> Outcome:
        """What has come of its connections."""
        return Outcome(
            self._scenario,
            self.flows,
            self.samples.watches,
            self.samples.rows["subflows"],
            self.origin_ns,
            self.measured_ns,
        )

    def lost_captures(self) -> list[str]:
        """Return the interfaces whose captures had ended before the run did."""
        return self._captures.lost

    def close(self) -> None:
        """Give everything back."""
        self._opened.close()

    # -- what agents say

    def _read(self, name: str, line: AgentLine) -> None:
        for message in line.arrived():
            try:
                if "sample" in message:
                    self._take_sample(name, message)
                elif "look" in message:
                    self.samples.take_look(name, SOCKETS(message["look"], "look"))
                elif "worker" in message:
                    self._hosts[name].workers.take(message["worker"], message.get("said"))
                elif "program" in message:
                    self._programs.take(name, message)
                elif "problem" in message:
                    self._note_lost(f"{name}: {printable(str(message['problem']))}")
            except AnswerError as error:
                self._note_lost(f"{name}: its agent answers nonsense: {error}")

    def _note_lost(self, text: str) -> None:
        if text not in self.lost:
            self.lost.append(text)
            if not self.origin_ns:  # who waits for the traffic to be ready is to hear of it
                for connection in self.flows.connections():
                    connection.errors.append(text)
            else:
                self.log.add(
                    time.monotonic_ns(), "testbed", "host-lost", detail=text, announce=text
                )
        self.loop.stop()

    def _take_sample(self, name: str, message: Mapping[str, Any]) -> None:
        """Keep a sample until those of all hosts are there, which then make rows."""
        sample: Sample = SAMPLE(message["sample"], "sample")
        late_ns = number(message.get("late_ns"), "late_ns")
        self.late_max_ns = max(self.late_max_ns, late_ns)
        at_ns = self._hosts[name].clock.here(sample["at_ns"]) - self.origin_ns
        interval_ns = self._scenario.interval_ns
        tick = (at_ns - late_ns + interval_ns // 2) // interval_ns
        if not self._next_tick <= tick <= self._scenario.duration_ns // interval_ns:
            return
        self._waiting.setdefault(tick, {})[name] = sample
        for due in sorted(self._waiting):
            if len(self._waiting[due]) < len(self._hosts):
                continue
            samples = self._waiting.pop(due)
            self._waiting = {key: value for key, value in self._waiting.items() if key > due}
            reading = self.samples.take(samples, first=due == 0)
            self._next_tick = due + 1
            if due:
                self._observer.tick(
                    self.samples.end_ns - self.origin_ns,
                    reading.flows_bps,
                    reading.links_bps,
                    reading.rtt_ns,
                )
            if self.timeline.over and all(flow.finished for flow in self.flows.traffic):
                self.loop.stop()

    def _sample_sockets(self) -> int:
        """Sample the sockets of all hosts now; return the time.  HostsError where one is lost."""
        answers = self._fleet.ask_all("sample")
        lines = self._fleet.lines
        samples = {
            name: checked(lines[name], SOCKETS, answer.get("sample"), "sample")
            for name, answer in answers.items()
        }
        if self.origin_ns == 0:  # not begun: nothing to write down
            return 0
        return self.samples.take_sockets(samples)

    def _read_counters(self) -> dict[str, dict[str, int]]:
        lines = self._fleet.lines
        return {
            name: checked(lines[name], COUNTERS, answer, "counters")["counters"]
            for name, answer in self._fleet.ask_all("counters").items()
        }

    # -- what happens

    def _perform(self, action: Action) -> None:
        if action.target_kind != "flow":  # a flow's own times already say so
            self.paths.perform(action)

    def _lacks_subflow(self, link: str) -> bool:
        if not self.paths.states.is_up(self._scenario.topology.link(link)):
            return False
        self._sample_sockets()
        present = self.samples.present_subflows(link)
        return lacks_subflow(self._scenario, self.flows.connections(), link, present)

    def _endpoint_changed(self, change: Change) -> None:
        self.log.endpoint(time.monotonic_ns(), change)

    def _answered(self, connection: Connection, role: str, answer: Mapping[str, Any]) -> None:
        self.log.answer(connection, role, answer)
        if self.origin_ns:
            self._last.look()


def _no_spawn(host: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
    raise HostsError(f"{host}: {argv[0]} cannot be run on a real host")
