"""The testbed's side of a host that runs our stack: its process, its jobs, its samples."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any, Final

from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.measure.event_log import EventLog
from mptcplab.linux.measure.identity import Identities
from mptcplab.linux.measure.sampler import Rows
from mptcplab.linux.own_stack.process import MESSAGE_BYTES
from mptcplab.linux.traffic.flow import Connection, StackJob
from mptcplab.linux.traffic.plan import client_and_server
from mptcplab.linux.traffic.worker import Progress
from mptcplab.scenario.model import Action, Scenario

_ARGV: Final = (sys.executable, "-P", "-m", "mptcplab.linux.own_stack.process")


class StackLimits:
    """What the connections of such a host wait for: the stack itself counts it."""

    def __init__(self) -> None:
        self.arrived: Rows = []

    def begin(self, connection: Connection, time_ns: int) -> None:
        """Do nothing."""

    def probe(self, time_ns: int) -> None:
        """Do nothing."""

    def rows(self, _time_ns: int) -> Rows:
        """Return the rows of ``limits`` that have come with samples, each once."""
        rows, self.arrived = self.arrived, []
        return rows


class StackHost:
    """One host's stack in a process of its own; start, then give it jobs."""

    def __init__(
        self, name: str, scenario: Scenario, lab: Lab, identities: Identities, log: EventLog
    ) -> None:
        self.host = name
        self.process: subprocess.Popen[bytes] | None = None
        self._scenario = scenario
        self._lab = lab
        self._identities = identities
        self._log = log
        self._control, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._jobs: list[StackJob] = []
        self._connections: dict[int, Connection] = {}
        self._problem = ""
        self._asked_ns = self._answered_ns = -1
        self._arrived: tuple[Rows, Rows] = ([], [])
        self._latest: Rows = []
        self.limits = StackLimits()

    def start(self) -> None:
        """Start the process on its host."""
        scenario = os.memfd_create("scenario", os.MFD_CLOEXEC)
        with os.fdopen(scenario, "wb") as file:
            pickle.dump(self._scenario, file)
            file.flush()
            os.lseek(scenario, 0, os.SEEK_SET)
            message = json.dumps({"host": self.host}).encode()
            socket.send_fds(self._control, [message], [scenario])
        self.process = self._lab.spawn(
            self.host, _ARGV, stdin=self._theirs, stdout=subprocess.DEVNULL
        )
        self._theirs.close()

    def fileno(self) -> int:
        """The descriptor that is readable when the process has sent a message."""
        return self._control.fileno()

    def start_job(
        self, role: str, connection: Connection, order: dict[str, Any], progress: Progress
    ) -> StackJob:
        """Let the host be one end of a connection, as the processes on a kernel's sockets are."""
        ours, theirs = socket.socketpair()
        self._connections[connection.port] = connection
        message = {"role": role, "flow": connection.flow.name, "order": order}
        with theirs, suppress(OSError):  # of one that has ended, the job's end says so
            self._control.setblocking(True)
            socket.send_fds(self._control, [json.dumps(message).encode()], [theirs.fileno()])
        self._control.setblocking(False)
        job = StackJob(ours, progress, self._why_it_ended)
        self._jobs.append(job)
        return job

    def perform(self, action: Action) -> None:
        """Have the stack do what an action of the timeline says to its endpoints."""
        index = self._scenario.timeline.index(action)
        with suppress(OSError):  # of one that has ended, the job's end says so
            self._control.send(json.dumps({"action": index}).encode())

    def read(self) -> bool:
        """Take in what the process has said; False when it has ended."""
        while True:
            try:
                data = self._control.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            message = json.loads(data)
            if "failed" in message:
                self._problem = message["failed"]
            elif "sampled" in message:
                self._answered_ns = message["sampled"]
            elif "event" in message:
                self._note_event(message)
            else:
                self._note_sample(message)

    def _why_it_ended(self) -> str:
        self.read()
        return self._problem

    # -- samples

    @property
    def waiting(self) -> bool:
        """Whether a sample was asked for that has not come."""
        return self._answered_ns != self._asked_ns and not self._problem

    def sample(self, time_ns: int) -> tuple[Rows, Rows, dict[int, int]]:
        """Ask for a sample, and return the rows that have come since: of the one before.

        The process answers when it has time; the testbed, which samples many things at an
        interval, does not wait.
        """
        with suppress(OSError):
            self._control.send(json.dumps({"sample": time_ns}).encode())
            self._asked_ns = time_ns
        return *self.arrived(), {}

    def arrived(self) -> tuple[Rows, Rows]:
        """Return the rows that have come, of subflows and of connections, each once."""
        self.read()
        rows, self._arrived = self._arrived, ([], [])
        return rows

    def present_subflows(self) -> Rows:
        """Return the subflows of the last sample."""
        self.read()
        return self._latest

    def outstanding(self, connection: Connection, since_ns: int) -> set[str | None] | None:
        """Return the links of the subflows that held something unacknowledged at the last sample.

        None where the last that has come is from before ``since_ns``.
        """
        self.read()
        if self._problem:
            return set()
        if self._answered_ns < since_ns:
            return None
        name = (connection.flow.name, connection.index)
        return {
            row["link"]
            for row in self._latest
            if (row["flow"], row["connection"]) == name
            and row["time_ns"] >= since_ns
            and row["in_flight_bytes"]
        }

    def _note_sample(self, message: dict[str, Any]) -> None:
        connection = self._connections[message["port"]]
        time_ns = message["time_ns"]
        shared = {
            "time_ns": time_ns,
            "host": self.host,
            "flow": connection.flow.name,
            "connection": connection.index,
        }
        subflows, connections = self._arrived
        if self._latest and self._latest[0]["time_ns"] != time_ns:
            self._latest = []
        for names, columns in message["subflows"]:
            subflow = self._subflow(connection, names)
            row = shared | {"subflow": subflow.index, "link": subflow.link} | columns
            subflows.append(row)
            self._latest.append(row)
        connections.append(shared | {"protocol": message["protocol"]} | message["connection"])
        if connection.flow.source == self.host:
            self.limits.arrived += [shared | row for row in message["limits"]]

    def _subflow(self, connection: Connection, names: list[list[Any]]) -> Any:
        is_client = client_and_server(connection.flow)[0] == self.host
        (local, local_port), (remote, remote_port) = names
        return self._identities.subflow(
            connection, is_client, (local, local_port), (remote, remote_port)
        )

    # -- events

    def _note_event(self, message: dict[str, Any]) -> None:
        connection = self._connections[message["port"]]
        names = message["subflow"]
        subflow = None if names is None else self._subflow(connection, names)
        self._log.stack_event(
            self.host,
            connection,
            subflow,
            message["event"],
            message["monotonic_ns"],
            message["detail"],
        )

    def close(self) -> None:
        """Kill the process and give everything back."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._control.close()
        self._theirs.close()
