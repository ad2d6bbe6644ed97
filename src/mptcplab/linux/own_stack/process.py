"""The process that is a host's TCP: ``python -m mptcplab.linux.own_stack.process``.

Its standard input is a SOCK_SEQPACKET socket to the testbed.  The first message names the host and
brings the scenario (pickled, in a memory file); each further one brings a job and the socket on
which it is ordered about and answers, asks for a sample, or names an action upon endpoints.  What
the stack does is told as it happens.  It ends when the testbed is gone.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import SystemRandom
from time import monotonic_ns
from typing import Any, Final

from mptcplab.linux.lab.steering import longest_train_bytes, open_device
from mptcplab.linux.own_stack.jobs import Job, job_of
from mptcplab.linux.probes.link_state import LinkWatch
from mptcplab.linux.sockets.driver import Driver, Link
from mptcplab.linux.sockets.icmp import ErrorSocket
from mptcplab.linux.traffic.plan import KERNEL_CONGESTION
from mptcplab.loop import CallbackTimer, RealTimeLoop
from mptcplab.scenario.model import Flow, Scenario, Tunables
from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion import CONGESTION_CONTROLS
from mptcplab.stack.events import Event
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.plugin import is_reference
from mptcplab.stack.readings import connection_columns, limit_rows, subflow_columns
from mptcplab.stack.stack import Stack
from mptcplab.tuning.config import base_config, flow_config
from mptcplab.tuning.endpoints import EndpointTable
from mptcplab.wire.ip import format_address, parse_address

MESSAGE_BYTES: Final = 1 << 16
_COLLECT_EVERY: Final = 100_000
"""Objects more than before the last collection that start another: packets leave no cycles."""
_DETAILS: Final = (
    "why",
    "reason",
    "backup",
    "by_peer",
    "address_id",
    "stale",
    "mptcp",
    "mtu_bytes",
)

SubflowNames = tuple[list[str | int], list[str | int]]
"""Address and port of our end, and of the peer's."""


class StackProcess:
    """One host's stack, its device and the applications on it."""

    def __init__(self, scenario: Scenario, name: str, control: socket.socket) -> None:
        """Open the device and serve it from :meth:`run` on; OSError where the kernel refuses."""
        self._scenario = scenario
        self._name = name
        self._control = control
        self._flows = {flow.name: flow for flow in scenario.flows}
        self._loop = RealTimeLoop()
        self._driver = Driver(Stack(base_config(scenario, name), SystemRandom()), self._handle)
        self._timer = CallbackTimer(self._loop, self._handle_timeout)
        self._links: dict[str, list[Link]] = {}
        self._jobs: dict[Connection, Job] = {}
        self._listening: dict[int, Job] = {}
        self._subflows: dict[tuple[Connection, int], SubflowNames] = {}
        self._sampled: dict[Connection, list[MptcpSubflow]] = {}
        self._open(scenario)
        stack = self._driver.stack
        self._table = EndpointTable(
            scenario, name, {local.address: local.address_id for local in stack.local_addresses}
        )
        self._loop.add_reader(control.fileno(), self._read_control)

    def _open(self, scenario: Scenario) -> None:
        host = scenario.topology.host(self._name)
        tunables = scenario.tunables.get(self._name, Tunables())
        self._train_bytes = longest_train_bytes(host, tunables.mss)
        device = open_device(host)
        for interface in host.interfaces:
            self._links[interface.name] = [
                self._driver.add_link(
                    device,
                    str(address.ip),
                    mtu_bytes=interface.mtu,
                    name=interface.name,
                    multipath=interface.multipath,
                )
                for address in interface.addresses
            ]
        first = next(link for links in self._links.values() for link in links)
        self._loop.add_reader(device.fileno(), partial(self._read_device, first))
        addresses = [each for interface in host.interfaces for each in interface.addresses]
        for version in sorted({address.version for address in addresses}):
            errors = ErrorSocket(version)
            self._loop.add_reader(errors.fileno(), partial(self._read_errors, errors))
        if tunables.path_manager != "kernel":
            watch = LinkWatch()
            self._loop.add_reader(watch.fileno(), partial(self._read_links, watch))

    def run(self) -> None:
        """Serve until the testbed is gone."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_EVERY)
        self._loop.run()

    # -- on the loop

    def _read_device(self, link: Link) -> None:
        self._driver.handle_readable(link)
        self._set_timer()

    def _read_errors(self, errors: ErrorSocket) -> None:
        self._driver.handle_errors(errors.read_errors())
        self._set_timer()

    def _handle_timeout(self) -> None:
        self._driver.handle_timeout()
        self._set_timer()

    def _call_at(self, time_ns: int, callback: Callable[[], None]) -> None:
        def call() -> None:
            callback()
            self._flush()

        self._loop.call_at(time_ns, call)

    def _flush(self) -> None:
        self._driver.flush()
        self._set_timer()

    def _set_timer(self) -> None:
        deadline_ns = self._driver.deadline_ns
        if deadline_ns is None:
            self._timer.cancel()
        else:
            self._timer.set(deadline_ns)

    def _read_links(self, watch: LinkWatch) -> None:
        for interface, up in watch.changes():
            for link in self._links.get(interface, ()):
                self._driver.set_link_up(link, up)
        self._set_timer()

    def _read_control(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 1)
        if not data:
            os._exit(0)  # the testbed has gone
        message = json.loads(data)
        if "sample" in message:
            self._sample(message["sample"])
        elif "action" in message:
            for change in self._table.act(self._scenario.timeline[message["action"]]):
                self._driver.stack.change_paths(change, monotonic_ns())
            self._flush()
        else:
            self._add_job(message, socket.socket(fileno=descriptors[0]))

    def _add_job(self, message: dict[str, Any], channel: socket.socket) -> None:
        flow = self._flows[message["flow"]]
        if flow.source != self._name and not _is_known(flow.congestion):
            # a kernel's, for the end that sends the data; ours only answers
            flow = replace(flow, congestion=KERNEL_CONGESTION)
        connect = partial(self._connect, flow)
        job = job_of(message["role"], message["order"], channel, connect, self._call_at)
        if not job.is_client:
            config = self._config(flow)
            self._driver.stack.listen(job.plan.port, config=config)
            self._listening[job.plan.port] = job
        self._loop.add_reader(job.fileno(), partial(self._read_orders, job))
        job.answer("ready")

    def _connect(self, flow: Flow, job: Job) -> Connection:
        connection = self._driver.stack.connect(
            parse_address(job.plan.local),
            parse_address(job.plan.remote),
            job.plan.port,
            monotonic_ns(),
            config=self._config(flow),
        )
        self._jobs[connection] = job
        return connection

    def _config(self, flow: Flow) -> StackConfig:
        return flow_config(self._scenario, flow, self._name, self._train_bytes, self._table)

    def _read_orders(self, job: Job) -> None:
        if not job.read_orders():
            self._loop.remove_reader(job.fileno())
        self._flush()

    # -- what the stack tells

    def _handle(self, connection: Connection, event: Event) -> None:
        if isinstance(event, events.ConnectionAccepted):
            job = self._listening[connection.subflows[0].tcp.local_port]
            job.attach(connection)
            self._jobs[connection] = job
        found = self._jobs.get(connection)
        if found is None:
            return
        if not isinstance(event, events.DataReadable | events.DataWritable):
            self._tell(found, connection, event)
        found.handle(event)

    def _tell(self, job: Job, connection: Connection, event: Event) -> None:
        for subflow in connection.subflows:
            self._subflows.setdefault((connection, subflow.subflow_id), _names(subflow))
        subflow_id = getattr(event, "subflow_id", None)
        names = self._subflows.get((connection, -1 if subflow_id is None else subflow_id))
        details = [
            f"{name} {getattr(value, 'value', value)}"
            for name in _DETAILS
            if (value := getattr(event, name, None)) is not None
        ]
        if isinstance(event, events.AddressAnnounced):
            details.append(format_address(event.address))
        message = {
            "event": event.kind,
            "port": job.plan.port,
            "monotonic_ns": monotonic_ns(),
            "subflow": names,
            "detail": ", ".join(details),
        }
        self._control.send(json.dumps(message).encode())

    # -- samples

    def _sample(self, time_ns: int) -> None:
        """Answer with a message for each connection, and one to say that there are no more."""
        for connection, job in self._jobs.items():
            present = list(connection.subflows)
            before = self._sampled.get(connection, ())
            gone = [subflow for subflow in before if subflow not in present]
            self._sampled[connection] = present
            if not present and not gone:
                continue
            message = {
                "time_ns": time_ns,
                "port": job.plan.port,
                "protocol": job.protocol,
                "connection": connection_columns(connection),
                "limits": limit_rows(connection.send.limits, monotonic_ns()),
                "subflows": [
                    [_names(subflow), subflow_columns(connection, subflow)]
                    for subflow in present + gone
                ],
            }
            self._control.send(json.dumps(message).encode())
        self._control.send(json.dumps({"sampled": time_ns}).encode())


def _names(subflow: MptcpSubflow) -> SubflowNames:
    tcp = subflow.tcp
    local: list[str | int] = [format_address(tcp.local), tcp.local_port]
    return local, [format_address(tcp.remote), tcp.remote_port]


def _is_known(congestion: str) -> bool:
    return congestion in CONGESTION_CONTROLS or is_reference(congestion)


def main() -> None:
    """Serve one host; what goes wrong is reported on the control socket."""
    control = socket.socket(fileno=0)
    data, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
    if not data:
        return
    try:
        with os.fdopen(descriptors[0], "rb") as file:
            scenario: Scenario = pickle.load(file)  # noqa: S301 - the testbed wrote it
        StackProcess(scenario, json.loads(data)["host"], control).run()
    except Exception as error:
        problem = str(error) or type(error).__name__
        control.send(json.dumps({"failed": problem}).encode())
        raise


if __name__ == "__main__":
    main()
