"""One run on a lab that is built: traffic, timeline and samples on one loop, in real time."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.measure.apparatus import Apparatus
from mptcplab.linux.measure.captures import Captures
from mptcplab.linux.measure.event_log import EventLog
from mptcplab.linux.measure.identity import Identities
from mptcplab.linux.measure.link_control import Links
from mptcplab.linux.measure.outcome import Outcome
from mptcplab.linux.measure.own_stack_host import StackHost
from mptcplab.linux.measure.path_watch import PathWatch
from mptcplab.linux.measure.readback import Readback
from mptcplab.linux.measure.samples import Samples
from mptcplab.linux.measure.timeline import Timeline
from mptcplab.linux.measure.usage import Usage
from mptcplab.linux.traffic.flow import Connection
from mptcplab.linux.traffic.flows import Flows
from mptcplab.loop import RealTimeLoop
from mptcplab.loop.stop_signals import Stopped
from mptcplab.results.observer import Observer
from mptcplab.results.writer import RunWriter
from mptcplab.scenario.model import Action, Scenario
from mptcplab.units import NANOSECONDS, format_size

_HEAD_START_NS: Final = 50_000_000  # between setting the timers and scenario time 0
_LOOK_EVERY_NS: Final = 10_000_000
_DRAIN_LOOK_NS: Final = 250_000_000
_COUNTDOWN_NS: Final = 5_000_000_000


class Measurement:
    """Runs a scenario's flows and timeline and fills the tables; use once, then close."""

    def __init__(self, scenario: Scenario, lab: Lab, writer: RunWriter, observer: Observer) -> None:
        """Open every probe; see :meth:`close`."""
        self._writer, self._observer = writer, observer
        self.stop_reason = ""
        self._is_done = False
        self.origin_ns = self.origin_unix_ns = 0
        identities = Identities(scenario.topology)
        with ExitStack() as opened:  # closed in reverse: captures outlast what they capture
            loop = RealTimeLoop()
            opened.callback(loop.close)
            self._captures = Captures(scenario, lab, writer.workspace)
            opened.callback(self._captures.stop)
            log = EventLog(observer, identities)
            stacks = {
                host.name: StackHost(host.name, scenario, lab, identities, log)
                for host in scenario.topology.hosts
                if host.stack == "ours"
            }
            for stack in stacks.values():
                opened.callback(stack.close)
            flows = Flows(
                scenario,
                loop,
                self._spawn,
                writer.workspace,
                self._answered,
                {name: stack.start_job for name, stack in stacks.items()},
                lab.congestion,
            )
            opened.callback(flows.close)
            identities.add(flows.connections())
            links = Links(lab, scenario.topology)
            self.apparatus = Apparatus(scenario, lab, loop, identities, log, links, stacks, flows)
            self.usage = Usage(self.apparatus)
            self.readback = Readback(scenario, lab)
            opened.callback(self.readback.close)
            self.timeline = Timeline(scenario.timeline, loop, self._perform, log.action)
            self.samples = Samples(self.apparatus, observer, self._is_over)
            opened.callback(self.samples.close)
            self._paths = PathWatch(self.apparatus, self.samples)
            opened.callback(self._paths.close)
            self._opened = opened.pop_all()

    def prepare(self) -> None:
        """Start every process, and put each link in its first state."""
        self._captures.start()
        for stack in self.apparatus.stacks.values():
            stack.start()
            self.apparatus.loop.add_reader(stack.fileno(), partial(self._read_stack, stack))
        self.apparatus.flows.prepare()
        for link in self.apparatus.scenario.topology.links:
            if not link.up:
                self.apparatus.links.set_up(link.name, up=False)
        self._paths.update()

    def run(self) -> None:
        """Measure from scenario time 0 to the end, or to a request to stop; then let it drain.

        Raises Stopped where that request came before time 0, when there is nothing to keep.
        """
        loop, flows, log = self.apparatus.loop, self.apparatus.flows, self.apparatus.log
        self.usage.start()
        self.readback.start()
        self.origin_ns = time.monotonic_ns() + _HEAD_START_NS
        self.origin_unix_ns = time.time_ns() + _HEAD_START_NS
        log.origin_ns = self.origin_ns
        flows.schedule(self.origin_ns)
        loop.call_at(self.origin_ns, self.apparatus.links.start_traces)
        self.apparatus.links.start_boxes()
        self.timeline.start(self.origin_ns)
        self.samples.start(self.origin_ns)
        if not self.stop_reason:
            loop.run(self.origin_ns + self.apparatus.scenario.duration_ns)
        if not self.samples.started:
            raise Stopped(signal.Signals[self.stop_reason])
        self.samples.finish()
        self._paths.note_idle_links(self.samples.end_ns)
        self.usage.note_cpu()
        links = self.apparatus.links
        self.readback.finish(self.measured_ns, links.channels, links.dead)
        self._drain()
        self._is_done = True
        self.samples.finish_sockets()
        self.usage.finish()
        for table, rows in self.samples.rows.items():
            self._writer.append(table, rows)
        for traffic in flows.traffic:
            requests, messages = traffic.rows(self.origin_ns)
            self._writer.append("requests", requests)
            self._writer.append("messages", messages)
        self._writer.append("counters", self.usage.counter_rows())
        self._writer.append("events", log.rows())

    def _drain(self) -> None:
        """Stop every sender and let what is on its way arrive, as long as it may still come."""
        flows, watches = self.apparatus.flows, self.samples.watches
        self._observer.phase("draining")
        flows.stop()
        self.samples.sample_sockets_now()
        interval_ns = max(self.apparatus.scenario.interval_ns, _DRAIN_LOOK_NS)
        now_ns = time.monotonic_ns()
        deadline_ns = now_ns + flows.drain_ns(watches.waiting_bytes(), watches.patience_ns())
        look_ns, say_ns = now_ns + interval_ns, now_ns + _COUNTDOWN_NS
        while not flows.finished and now_ns < deadline_ns and not self.stop_reason:
            if now_ns >= look_ns:
                look_ns = now_ns + interval_ns
                self.samples.sample_sockets_now()
                if watches.is_hopeless():
                    return
            if now_ns >= say_ns:
                say_ns = now_ns + _COUNTDOWN_NS
                waiting = format_size(sum(watches.waiting_bytes().values()))
                left_s = (deadline_ns - now_ns) // NANOSECONDS
                self._observer.phase(f"draining: {waiting} to come, {left_s} s at most")
            self.apparatus.loop.run(now_ns + _LOOK_EVERY_NS)
            now_ns = time.monotonic_ns()

    def stop(self, reason: str) -> None:
        """End the measurement early, in order; safe to call from a signal handler."""
        if self._is_done:
            return  # nothing of it is missing
        self.stop_reason = self.stop_reason or reason
        self.apparatus.loop.stop()

    @property
    def measured_ns(self) -> int:
        """How long was measured."""
        return max(0, self.samples.end_ns - self.origin_ns)

    @property
    def outcome(self) -> Outcome:
        """What has come of its connections."""
        return Outcome(
            self.apparatus.scenario,
            self.apparatus.flows,
            self.samples.watches,
            self.samples.rows["subflows"],
            self.origin_ns,
            self.measured_ns,
        )

    @property
    def switches(self) -> list[dict[str, Any]]:
        """When backups began to carry data, after which action of the timeline."""
        return self._paths.switches

    def lost_captures(self) -> list[str]:
        """Return the interfaces on which nothing is captured any more, though it should be."""
        return self._captures.lost()

    def close(self) -> None:
        """End every process and close every probe."""
        self._opened.close()

    def _spawn(self, host: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        return self.apparatus.lab.spawn(
            host, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def _is_over(self) -> bool:
        traffic = self.apparatus.flows.traffic
        return self.timeline.over and all(flow.finished for flow in traffic)

    def _perform(self, action: Action) -> None:
        self.samples.sample_between()  # so that no row straddles an action
        if action.target_kind == "flow":
            return  # the flow's own times already say so
        self.apparatus.links.perform(action)
        self._paths.follow(action)

    def _answered(self, connection: Connection, role: str, answer: Mapping[str, Any]) -> None:
        self.apparatus.log.answer(connection, role, answer)
        self.samples.release_finished()

    def _read_stack(self, stack: StackHost) -> None:
        if not stack.read():
            self.apparatus.loop.remove_reader(stack.fileno())
