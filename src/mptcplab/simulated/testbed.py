"""The simulated testbed: a scenario on our own stack, in virtual time, on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mptcplab.applications.workloads import Command, GridFtp
from mptcplab.garbage import rarely_collected
from mptcplab.middleboxes import describe_box
from mptcplab.network.return_watch import ReturnWatch
from mptcplab.results.observer import Observer
from mptcplab.results.recording import Recording
from mptcplab.results.writer import RunWriter
from mptcplab.scenario.backup_watch import BackupWatch, switch_text
from mptcplab.scenario.box_states import idle_boxes, report_boxes
from mptcplab.scenario.flow_limits import flow_limits
from mptcplab.scenario.model import Action, Flow, Scenario
from mptcplab.scenario.to_json import as_plain
from mptcplab.simulated.applications import BulkTransfer
from mptcplab.simulated.build import (
    LONGEST_TRAIN_BYTES,
    build,
    packed_address,
    simulated,
    trains_per_window,
)
from mptcplab.simulated.captures import Captures
from mptcplab.simulated.sampling import Sampler, links_by_address
from mptcplab.simulated.timeline import Timeline
from mptcplab.simulated.transfer import Transfer
from mptcplab.simulated.validity import Watches
from mptcplab.simulated.workloads import Workloads
from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion import CONGESTION_CONTROLS
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.plugin import is_reference
from mptcplab.tuning.config import flow_config, receive_window
from mptcplab.tuning.endpoints import EndpointTable
from mptcplab.tuning.policies import check_policies
from mptcplab.units import NANOSECONDS, format_duration

FIRST_PORT = 5001  # iperf's, as the report used

_DETAILS = ("why", "reason", "backup", "by_peer", "address_id", "stale", "mptcp", "mtu_bytes")
_ANNOUNCED = ("subflow-established", "subflow-closed", "subflow-stale", "fallback")
"""Events shown while a run is under way."""

_LEAST_ROUND_TRIP_NS = 1_000
"""A round trip without any rate takes at least this: in less, a second is millions of them."""
_FIRST_STEP_NS = NANOSECONDS // 10
"""How far a drain goes before one looks whether it is done; each step is an eighth longer."""


class UnsupportedError(ValueError):
    """A scenario asks for what this testbed cannot do; the text says what to change."""

    exit_status = 2  # bad input


def run(scenario: Scenario, folder: Path, observer: Observer) -> Path:
    """Run a scenario and return its folder. Raises UnsupportedError before anything starts.

    A stop signal from the first packet on ends the run early, with what was measured.
    """
    _check(scenario)
    with Recording(folder, "simulated") as recording:
        simulation = Simulation(scenario, recording.writer, observer)
        recording.stop_by(simulation.stop)
        observer.phase("measuring")
        simulation.measure()
        observer.phase("draining")
        simulation.drain()
        reasons = simulation.reasons()
        recording.writer.append("counters", simulation.counter_rows())
        return recording.finish(as_plain(scenario), _metadata(simulation, scenario), reasons)


def _metadata(simulation: Simulation, scenario: Scenario) -> dict[str, Any]:
    """Return what ``run.json`` says of a simulation beside what it says of every run."""
    return {
        "measured_ns": simulation.measured_ns,
        "drivers": {link.name: "model" for link in scenario.topology.links},
        "flows": simulation.flow_ends(),
        "flow_limits": flow_limits(
            scenario, {flow.name: receive_window(scenario, flow) for flow in scenario.flows}
        ),
        "path_manager": {
            host: tunables.path_manager for host, tunables in scenario.tunables.items()
        },
        "endpoints": simulation.endpoints(),
        "switches": simulation.switches,
        "middleboxes": simulation.boxes(),
        "notes": simulation.notes(),
        "offload": {host.name: host.offload for host in scenario.topology.hosts},
        "trains_per_window": trains_per_window(scenario),
    }


def _check(scenario: Scenario) -> None:
    """Refuse what a simulated stack has no counterpart of."""
    for flow in scenario.flows:
        if flow.protocol == "sctp":
            raise UnsupportedError(
                f'flows.{flow.name}.protocol: "sctp" is libusrsctp on Linux hosts; the simulated '
                'testbed has "mptcp" and "tcp"; expected one of these, or --on linux'
            )
        if flow.congestion not in CONGESTION_CONTROLS and not is_reference(flow.congestion):
            raise UnsupportedError(
                f'flows.{flow.name}.congestion: "{flow.congestion}" is for kernels; the simulated '
                f"testbed has {', '.join(CONGESTION_CONTROLS)}"
            )
        if flow.application == "iperf3":
            raise UnsupportedError(
                f"flows.{flow.name}.application: iperf3 is a program; the simulated testbed has "
                'its own traffic: use "bulk", or --on linux'
            )
        if isinstance(flow.workload, Command):
            raise UnsupportedError(
                f'flows.{flow.name}.application: "command" runs programs, which the simulated '
                "testbed has none of; expected another application, or --on linux"
            )
        if isinstance(flow.workload, GridFtp):
            raise UnsupportedError(
                f"flows.{flow.name}.application: GridFTP's servers and client are programs, which "
                'the simulated testbed has none of; expected "striped" or "bulk", or --on linux'
            )
    _check_time_passes(scenario)
    check_policies(scenario)


def _check_time_passes(scenario: Scenario) -> None:
    """Refuse a path on which a segment and its answer take no time: the run would never end."""
    topology = scenario.topology
    timeless = {
        action.target
        for action in scenario.timeline
        if {("delay_ns", 0), ("reorder", 1.0)} & set(action.changes)
    }
    for flow in scenario.flows:
        hosts = [topology.host(name) for name in (flow.source, flow.destination)]
        if any(host.cpu != "none" for host in hosts):
            continue
        for path in scenario.paths(flow):
            nics = [topology.nic_at(end) for end in (path.local, path.remote)]
            links = [topology.link(name) for name in path.passed]
            limited = any(nic.rate_bps for nic in nics) or any(
                link.forward.rate_bps or link.backward.rate_bps for link in links
            )
            round_trip_ns = sum(
                channel.delay_ns
                for link in links
                for channel in (link.forward, link.backward)
                if link.name not in timeless and channel.reorder < 1
            )
            if not limited and round_trip_ns < _LEAST_ROUND_TRIP_NS:
                raise UnsupportedError(
                    f"links.{path.links[0]}: flow {flow.name} has a path of no rate and "
                    f"{format_duration(round_trip_ns)} of round trip ({' + '.join(path.links)}), "
                    "on which simulated time would stand still; expected a rate or an rtt on one "
                    "of its links, or --on linux"
                )


class Simulation:
    """One run: the network, its flows, and what is written of them."""

    def __init__(self, scenario: Scenario, writer: RunWriter, observer: Observer) -> None:
        self._scenario = scenario
        self._writer = writer
        self._observer = observer
        observer.phase("building")
        self._network = build(scenario, scenario.seed)
        self.measured_ns = 0
        self._stopped_by = ""
        self._measuring = True
        self._is_cut = False
        self._transfers: dict[str, list[Transfer]] = {flow.name: [] for flow in scenario.flows}
        self._by_port: dict[int, Transfer] = {}
        self._endpoints = {name: EndpointTable(scenario, name) for name in self._network.hosts}
        self._ports: dict[Transfer, int] = {}
        self._workloads = Workloads(scenario, self._network)
        self._links = links_by_address(scenario)
        self._subflow_links: dict[tuple[Connection, int], str | None] = {}
        self._transfer_of: dict[Connection, Transfer] = {}
        self._half_open: set[Connection] = set()
        for name, host in self._network.hosts.items():
            host.on_event = lambda connection, event, name=name: self._handle(
                name, connection, event
            )
        for flow in scenario.flows:
            self._prepare(flow)
        self._all = [transfer for several in self._transfers.values() for transfer in several]
        self._watches = Watches(scenario, self._network, self._all)
        self._sampler = Sampler(
            self._network, scenario, self._all, writer, observer, self._links, self._watches.look
        )
        self._timeline = Timeline(
            self._network, scenario, self._endpoints, self._sampler.sample, self._note_action
        )
        self._backups = BackupWatch(
            scenario,
            partial(ReturnWatch, self._network.loop, self._sent_bytes),
            self._switched,
        )
        self._captures = Captures(self._network, scenario, writer.workspace)

    # Flows.

    def _prepare(self, flow: Flow) -> None:
        """Let the flow's server listen, a port for each connection, and plan start and stop."""
        hosts = self._network.hosts
        server = flow.destination if flow.client == flow.source else flow.source
        for transfer in self._transfers_of(flow):
            port = FIRST_PORT + len(self._by_port)
            self._by_port[port] = transfer
            self._ports[transfer] = port
            self._transfers[flow.name].append(transfer)
            if flow.protocol == "udp":
                self._workloads.listen(flow.name, port)
                continue
            config = simulated(self._config(flow, server), self._scenario)
            hosts[server].stack.listen(port, config=config)
        loop = self._network.loop
        loop.call_at(flow.start_ns, lambda: self._start(flow.name))
        if flow.stop_ns is not None:
            loop.call_at(flow.stop_ns, lambda: self._stop(flow.name))

    def _config(self, flow: Flow, host: str) -> StackConfig:
        table = self._endpoints[host]
        return flow_config(self._scenario, flow, host, LONGEST_TRAIN_BYTES, table)

    def _transfers_of(self, flow: Flow) -> Sequence[Transfer]:
        """Return what each connection of a flow transfers."""
        sender, receiver = (self._network.hosts[name] for name in (flow.source, flow.destination))
        if flow.workload is None:
            return [
                BulkTransfer(flow, index, sender, receiver) for index in range(flow.connections)
            ]
        traffic = self._workloads.prepare(flow, sender, receiver)
        return traffic.transfers

    def _start(self, name: str) -> None:
        if name in self._workloads.traffic:
            self._workloads.traffic[name].start(self._connect)
            return
        for transfer in self._transfers[name]:
            self._connect(transfer)
            self._network.hosts[transfer.flow.client].wake()

    def _connect(self, transfer: Transfer) -> Connection:
        """Open a connection of a transfer."""
        flow = transfer.flow
        paths = self._scenario.paths(flow)
        path = paths[transfer.index % len(paths) if flow.application == "striped" else 0]
        host = self._network.hosts[flow.client]
        connection = host.stack.connect(
            packed_address(path.local_address),
            packed_address(path.remote_address),
            self._ports[transfer],
            self._network.loop.now_ns,
            config=simulated(
                self._config(flow, flow.client),
                self._scenario,
            ),
        )
        self._transfer_of[connection] = transfer
        transfer.attach(flow.client, connection)
        return connection

    def _stop(self, name: str) -> None:
        for transfer in self._transfers[name]:
            transfer.stop()

    # What happens.

    def _handle(self, host: str, connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.ConnectionAccepted):
            transfer = self._by_port[connection.subflows[0].tcp.local_port]
            self._transfer_of[connection] = transfer
            if transfer.serving is None:
                transfer.attach(host, connection)
            else:
                self._half_open.add(connection)
        transfer = self._transfer_of[connection]
        if connection in self._half_open:
            self._handle_half_open(host, transfer, connection, event)
        else:
            self._watches.handle(host, transfer, connection, event)
        self._write_event(host, transfer, connection, event)

    def _handle_half_open(
        self, host: str, transfer: Transfer, connection: Connection, event: events.Event
    ) -> None:
        """Attach a further connection once it is there: a SYN may be a subflow's, without MP_JOIN,
        whose host takes it back.
        """
        if isinstance(event, events.ConnectionEstablished):
            self._half_open.remove(connection)
            transfer.attach(host, connection)
            self._network.hosts[host].applications[connection].handle(event)
            self._watches.handle(host, transfer, connection, event)

    def _write_event(
        self, host: str, transfer: Transfer, connection: Connection, event: events.Event
    ) -> None:
        subflow = getattr(event, "subflow_id", None)
        details = [
            f"{name} {getattr(value, 'value', value)}"
            for name in _DETAILS
            if (value := getattr(event, name, None)) is not None
        ]
        now_ns = self._network.loop.now_ns
        link = None if subflow is None else self._link_of(host, connection, subflow)
        self._writer.append(
            "events",
            [
                {
                    "time_ns": now_ns,
                    "source": "mptcp" if connection.mptcp else "tcp",
                    "event": event.kind,
                    "host": host,
                    "flow": transfer.flow.name,
                    "connection": transfer.index,
                    "subflow": subflow,
                    "link": link,
                    "detail": ", ".join(details) or None,
                }
            ],
        )
        if event.kind in _ANNOUNCED and host == transfer.flow.source:
            what = event.kind.replace("-", " ")
            where = f" on {link}" if link else ""
            why = f" ({', '.join(details)})" if details else ""
            self._observer.event(now_ns, f"{transfer.flow.name}: {what}{where}{why}")

    def _link_of(self, host: str, connection: Connection, subflow_id: int) -> str | None:
        """Return the first link of a subflow; remembered, since closed ones are gone."""
        for subflow in connection.subflows:
            if subflow.subflow_id == subflow_id:
                flow = self._transfer_of[connection].flow.name
                link = self._links.get((flow, host, subflow.tcp.local, subflow.tcp.remote))
                self._subflow_links[connection, subflow_id] = link
        return self._subflow_links.get((connection, subflow_id))

    def _sent_bytes(self, link: str) -> int:
        now_ns = self._network.loop.now_ns
        return sum(
            self._network.conduits[link, way].channel.read_counters(now_ns).sent_bytes
            for way in ("forward", "backward")
        )

    def _switched(self, switch: dict[str, Any]) -> None:
        text = switch_text(switch)
        row = {
            "time_ns": switch["seen_ns"],
            "source": "testbed",
            "event": "backup-carries",
            "link": switch["link"],
            "detail": text,
        }
        self._writer.append("events", [row])
        text = f"{switch['link']}, a backup, carries data {text}"
        self._observer.event(switch["seen_ns"], text)

    def _note_action(self, action: Action) -> None:
        self._backups.follow(action)
        changes = ", ".join(f"{key}={value}" for key, value in action.changes)
        self._writer.append(
            "events",
            [
                {
                    "time_ns": self._network.loop.now_ns,
                    "source": "timeline",
                    "event": action.verb,
                    "link": action.target if action.target_kind == "link" else None,
                    "flow": action.target if action.target_kind == "flow" else None,
                    "host": action.host,
                    "detail": ", ".join(part for part in (action.label, changes) if part) or None,
                }
            ],
        )
        self._observer.event(action.at_ns, action.label or f"{action.target} {action.verb}")

    # The run.

    def measure(self) -> None:
        """Let the scenario's time pass, or less of it where :meth:`stop` is called."""
        self._timeline.arm()
        with rarely_collected():
            if not self._stopped_by:
                self._network.loop.run(self._scenario.duration_ns)
        self._sampler.sample()
        self._sampler.cancel()
        self._watches.end()
        self.measured_ns = self._network.loop.now_ns

    def stop(self, signal_name: str) -> None:
        """End what is going on: the measurement, or the drain after it."""
        self._stopped_by = self._stopped_by or signal_name
        self._is_cut = not self._measuring
        self._network.loop.stop()

    def drain(self) -> None:
        """Close every flow and let what was written arrive, so that the counts can be compared.

        It ends when everything is there, or nothing more can come: see
        :mod:`mptcplab.results.liveness`.
        """
        self._measuring = False
        self._captures.close()
        delivered = [transfer.delivered_bytes for transfer in self._all]
        for transfer in self._all:
            transfer.stop()
        loop = self._network.loop
        step_ns = _FIRST_STEP_NS
        while not self._is_cut and not self._watches.is_drained():
            loop.run(loop.now_ns + step_ns)
            self._watches.look()
            step_ns += step_ns // 8
        self._workloads.write(self._writer)
        for transfer, before_bytes in zip(self._all, delivered, strict=True):
            transfer.drained_bytes = transfer.delivered_bytes - before_bytes

    # What came out.

    def flow_ends(self) -> list[dict[str, Any]]:
        """Return what ``run.json`` says of each connection."""
        return [
            {
                "flow": transfer.flow.name,
                "connection": transfer.index,
                "protocol": transfer.protocol,
                "bytes": transfer.delivered_bytes - transfer.drained_bytes,
                "drained_bytes": transfer.drained_bytes,
                "intact": transfer.intact,
                "end_ns": transfer.end_ns,
                "stalled_since_ns": self._watches.stalled_since_ns(transfer),
            }
            for transfer in self._all
        ]

    def counter_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the ``counters`` table: the ICMP errors that came to each host."""
        return [
            {"host": name, "counter": counter, "before": 0, "after": count}
            for name, host in self._network.hosts.items()
            for counter, count in sorted(host.errors_received.items())
        ]

    def endpoints(self) -> dict[str, Any]:
        """Return what ``run.json`` says of the hosts' endpoints."""
        return {
            host: {
                "endpoints": [
                    {
                        "address": str(each.address),
                        "flags": list(each.flags),
                        "port": each.port or None,
                    }
                    for each in own.present()
                ],
                "limits": {
                    "subflows": own.subflows,
                    "add_addr_accepted": own.add_addr_accepted,
                },
                "read_back": None,
            }
            for host, own in self._scenario.endpoints.items()
        }

    @property
    def switches(self) -> list[dict[str, Any]]:
        """When backups began to carry data, after which action of the timeline."""
        return self._backups.switches

    def reasons(self) -> list[str]:
        """Return why the run is not what was asked for; nothing where it is."""
        reasons = []
        if self._stopped_by:
            stopped_s = self.measured_ns / NANOSECONDS
            reasons.append(f"stopped by {self._stopped_by} at {stopped_s:g} s of the scenario")
        if self._is_cut:  # what might have become of its connections is not known
            return reasons
        return reasons + self._watches.reasons()

    def boxes(self) -> list[dict[str, Any]]:
        """Return what ``run.json`` says of each middlebox."""
        return report_boxes(
            self._scenario,
            {
                (link, end, place): describe_box(box)
                for (link, end), station in self._network.stations.items()
                for place, box in enumerate(station.chain.boxes)
            },
        )

    def notes(self) -> list[str]:
        """Return what a reader should know besides."""
        notes = [*self._watches.notes(), *idle_boxes(self.boxes())]
        for host in self._network.hosts.values():
            if host.ring_drops:
                notes.append(
                    f"{host.name}: {host.ring_drops} packets found the ring of a core full"
                )
        return notes
