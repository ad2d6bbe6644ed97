"""The testbed's side of a flow: its processes, what they answer, what has arrived."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mptcplab.linux.traffic.plan import client_and_server, socket_plans
from mptcplab.linux.traffic.stripes import Dispenser
from mptcplab.linux.traffic.worker import BYTES_SLOT, Progress
from mptcplab.scenario.model import Flow, Scenario

Spawn = Callable[[str, Sequence[str]], "subprocess.Popen[bytes]"]
"""Starts a program on a host, with pipes for its standard input and output."""

Answer = Callable[["Connection", str, Mapping[str, Any]], None]
"""Told of a connection, the role that answered ("sender", "receiver") and the answer."""


@dataclass
class Connection:
    """One connection of a flow: what is known of it so far."""

    flow: Flow
    index: int
    port: int
    protocol: str | None = None  # None until it is connected
    local: str = ""  # of the client
    remote: str = ""
    bytes_sent: int | None = None  # None until the sender has finished
    bytes_received: int | None = None  # None until the receiver has seen the end of the stream
    bytes_sampled: int = 0  # what had arrived at the last sample
    bytes_measured: int | None = None  # what had arrived when the run was over
    established: set[str] = field(default_factory=set)  # the roles whose socket is connected
    end_monotonic_ns: int | None = None  # when it saw it
    errors: list[str] = field(default_factory=list)
    further_ports: tuple[int, ...] = ()  # on which its sockets are, beside its own
    checked: bool = True  # whether every byte is compared
    is_sampled: bool = True  # whether samples tell of its sockets, which then last
    begun: bool = True  # whether there is to be a connection, once the flow has started
    congestion_seen: set[str] = field(default_factory=set)  # of the sender's subflows

    @property
    def came_up(self) -> bool:
        """Whether both ends were established."""
        if self.flow.application in ("iperf3", "gridftp"):
            return self.protocol is not None
        return self.established == {"sender", "receiver"}

    @property
    def intact(self) -> bool | None:
        """Whether every byte arrived as it was sent; None where that is not known."""
        if self.errors:
            return False
        if not self.checked or self.bytes_sent is None or self.bytes_received is None:
            return None
        return self.bytes_sent == self.bytes_received


class Traffic(ABC):
    """One flow's traffic over one window of time."""

    flow: Flow
    connections: list[Connection]

    @property
    def ports(self) -> int:
        """How many ports it takes, from that of its first connection on."""
        return len(self.connections)

    @abstractmethod
    def prepare(self) -> None:
        """Start the processes; they do nothing yet."""

    @abstractmethod
    def descriptors(self) -> Mapping[int, Callable[[], bool]]:
        """Return what to call when a descriptor is readable; False from it: nothing more comes."""

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether :meth:`start` would act at once."""

    @abstractmethod
    def start(self) -> None:
        """Let the connections open and the data flow."""

    @abstractmethod
    def stop(self) -> None:
        """Let the senders finish: what is in their buffers still arrives."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether nothing more will come, and no sockets are held open."""

    @abstractmethod
    def held(self) -> list[Connection]:
        """Return the connections whose ends are both done, and hold their sockets open."""

    @abstractmethod
    def release(self, connection: Connection) -> None:
        """Let the ends of a held connection close their sockets."""

    @abstractmethod
    def delivered_bytes(self) -> list[int] | None:
        """Return the bytes received so far of each connection; None where only the kernel knows."""

    def written_bytes(self) -> list[int] | None:
        """Return the bytes written so far of each connection; None where only the program knows."""
        return None

    def rows(self, _origin_ns: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return rows of ``requests`` and ``messages``; times count from an origin (ns)."""
        return [], []

    @abstractmethod
    def processes(self) -> list[tuple[str, int]]:
        """Return role and id of each process that carries the traffic."""

    @abstractmethod
    def process_of(self, role: str, index: int) -> int | None:
        """Return the process of its own that is "sender" or "receiver" of a connection."""

    @abstractmethod
    def close(self) -> None:
        """End the processes, whatever they are doing."""


class Worker(ABC):
    """One end of a connection at work: orders in, answers out."""

    pid: int | None = None
    """Its process, where that does nothing else."""

    def __init__(self, descriptor: int, progress: Progress) -> None:
        """Take where its answers come."""
        self.descriptor = descriptor
        self.progress = progress
        self.ready = False
        self.over = False  # it has answered for the last time
        self.ended = False  # its pipe is closed
        self._text = b""
        os.set_blocking(descriptor, False)

    @abstractmethod
    def order(self, text: str) -> None:
        """Send an order; one to a process that has ended is lost."""

    @abstractmethod
    def close(self) -> None:
        """End it, whatever it is doing, and give everything back."""

    @property
    def problem(self) -> str:
        """Why it ended without an answer."""
        return "its process ended unexpectedly"

    def answers(self) -> Iterator[dict[str, Any]]:
        """Yield the answers that have come; a death without one reads as a failure."""
        while True:
            try:
                data = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                self.ended = True
                if not self.over:
                    self.over = True
                    now_ns = time.monotonic_ns()
                    yield {"event": "failed", "text": self.problem, "monotonic_ns": now_ns}
                return
            *lines, self._text = (self._text + data).split(b"\n")
            for line in lines:
                yield self._noted(json.loads(line))

    def _noted(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Note what an answer says of the worker, and return it."""
        self.ready = self.ready or answer["event"] == "ready"
        self.over = self.over or answer["event"] in ("done", "failed")
        return answer


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a program if it runs, and close our ends of its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


class WorkerProcess(Worker):
    """A sender or receiver on the kernel's sockets, in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], progress: Progress) -> None:
        assert process.stdout is not None
        super().__init__(process.stdout.fileno(), progress)
        self.process = process
        self.pid = process.pid

    def order(self, text: str) -> None:
        """Send an order; one to a process that has ended is lost."""
        stdin = self.process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(text.encode() + b"\n")
            stdin.flush()

    def close(self) -> None:
        """Kill the process if it runs, and give everything back."""
        end_process(self.process)
        self.progress.close()


class StackJob(Worker):
    """A sender or receiver on our stack, among others in its host's process."""

    def __init__(
        self, channel: socket.socket, progress: Progress, problem: Callable[[], str]
    ) -> None:
        super().__init__(channel.fileno(), progress)
        self._channel = channel
        self._problem = problem

    @property
    def problem(self) -> str:
        """Why its host's process ended."""
        return self._problem() or super().problem

    def order(self, text: str) -> None:
        """Send an order; one to a process that has ended is lost."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._channel.sendall(text.encode() + b"\n")

    def close(self) -> None:
        """Let go of it; its host's process is ended by whoever started that."""
        self._channel.close()
        self.progress.close()


class StartJob(Protocol):
    """Lets a host with our stack, or a real one, be one end of a connection."""

    def __call__(
        self, role: str, connection: Connection, order: dict[str, Any], progress: Progress, /
    ) -> Worker:
        """Return the job of a role: "sender" or "receiver"; of requests and messages "asking",
        "answering", "datagrams-sender" or "datagrams-receiver", for all connections of the flow.
        """


class BulkTraffic(Traffic):
    """The built-in generator: a sending and a receiving process for each connection.

    With application "striped" the connections take turns over the flow's paths and share one file;
    otherwise each has a stream of its own and begins on the first path.
    """

    def __init__(
        self,
        scenario: Scenario,
        flow: Flow,
        first_port: int,
        spawn: Spawn,
        workspace: Path,
        on_answer: Answer,
        own_stacks: Mapping[str, StartJob],
    ) -> None:
        """Take the hosts with our stack, beside ``spawn`` for those of the kernel's."""
        self.flow = flow
        self._scenario = scenario
        self._own_stacks = own_stacks
        self._spawn, self._workspace, self._on_answer = spawn, workspace, on_answer
        self._stripes: Path | None = None
        if flow.application == "striped":
            self._stripes = workspace / f"stripes-{first_port}"
        self.connections = [
            Connection(
                flow,
                index,
                first_port + index,
                checked=flow.verify,
                is_sampled=flow.protocol != "sctp",
            )
            for index in range(flow.connections)
        ]
        self._senders: list[Worker] = []
        self._receivers: list[Worker] = []
        self._released: set[int] = set()

    def prepare(self) -> None:
        """Start two processes for each connection."""
        if self._stripes is not None:
            Dispenser.create(self._stripes)
        for connection in self.connections:
            sending, receiving = self._orders(connection)
            self._receivers.append(self._start("receiver", connection, receiving))
            self._senders.append(self._start("sender", connection, sending))

    def _orders(self, connection: Connection) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the sender and the receiver of a connection are told."""
        paths = self._scenario.paths(self.flow)
        path = paths[connection.index % len(paths)] if self._stripes else paths[0]
        sending, receiving = socket_plans(self._scenario, self.flow, path, connection.port)
        common: dict[str, Any] = {
            "stream": self.connections[0].port if self._stripes else connection.port,
            "stripes": None if self._stripes is None else str(self._stripes),
        }
        receiver = {
            **common,
            "socket": receiving.to_json(),
            "verify": self.flow.verify,
            "read_bytes": self.flow.write_bytes,
            "rate_bps": self.flow.read_rate_bps,
        }
        sender = {
            **common,
            "socket": sending.to_json(),
            "write_bytes": self.flow.write_bytes,
            "size_bytes": self._size(connection.index),
            "rate_bps": self.flow.write_rate_bps,
        }
        return sender, receiver

    def _program(self, role: str) -> list[str]:
        """Return the module that is "sender" or "receiver", and its arguments but the order."""
        return [f"mptcplab.linux.traffic.{role}"]

    def _start(self, role: str, connection: Connection, order: dict[str, Any]) -> Worker:
        path = self._workspace / f"progress-{connection.port}-{role}"
        progress = Progress.create(path)
        order["progress"] = str(path)
        host = self.flow.source if role == "sender" else self.flow.destination
        if host in self._own_stacks:
            return self._own_stacks[host](role, connection, order, progress)
        argv = [sys.executable, "-P", "-m", *self._program(role), json.dumps(order)]
        return WorkerProcess(self._spawn(host, argv), progress)

    def _size(self, index: int) -> int | None:
        """Return the bytes of a connection's stream, or of the file that all share."""
        if self.flow.size_bytes is None or self._stripes is not None:
            return self.flow.size_bytes
        share, rest = divmod(self.flow.size_bytes, self.flow.connections)
        return share + (index < rest)

    def descriptors(self) -> Mapping[int, Callable[[], bool]]:
        """Return the processes' answer pipes."""
        readers: dict[int, Callable[[], bool]] = {}
        for role, workers in (("sender", self._senders), ("receiver", self._receivers)):
            for connection, worker in zip(self.connections, workers, strict=True):
                readers[worker.descriptor] = self._reader(connection, role, worker)
        return readers

    def _reader(self, connection: Connection, role: str, worker: Worker) -> Callable[[], bool]:
        def read() -> bool:
            for answer in worker.answers():
                self._note(connection, role, answer)
                self._on_answer(connection, role, answer)
            return not worker.ended

        return read

    def _note(self, connection: Connection, role: str, answer: Mapping[str, Any]) -> None:
        event = answer["event"]
        client = client_and_server(self.flow)[0]
        if event == "connected" and (role == "sender") == (client == self.flow.source):
            connection.local, connection.remote = answer["local"], answer["remote"]
        if event == "connected":
            connection.established.add(role)
        if event in ("connected", "done"):
            connection.protocol = answer["protocol"]
        if event == "failed":
            connection.errors.append(f"{role}: {answer['text']}")
        elif event == "corrupt":
            connection.errors.append(answer["text"])
        elif event == "sent":
            connection.bytes_sent = answer["bytes"]
        elif event == "done" and role == "receiver":
            connection.bytes_received = answer["bytes"]
            connection.end_monotonic_ns = answer["monotonic_ns"]

    @property
    def ready(self) -> bool:
        """Whether every process has said that it is ready."""
        return all(worker.ready for worker in (*self._senders, *self._receivers))

    def start(self) -> None:
        """Let the clients connect."""
        for worker in (*self._senders, *self._receivers):
            worker.order("go")

    def stop(self) -> None:
        """Let the senders close their half, and receivers with a rate read what is there."""
        for worker in (*self._senders, *self._receivers):
            worker.order("stop")

    @property
    def finished(self) -> bool:
        """Whether every process has given its last answer and may close its sockets."""
        return len(self._released) == len(self.connections)

    def held(self) -> list[Connection]:
        """Return the connections whose ends have both answered for the last time."""
        return [
            connection
            for connection, *ends in zip(
                self.connections, self._senders, self._receivers, strict=False
            )
            if connection.index not in self._released and all(end.over for end in ends)
        ]

    def release(self, connection: Connection) -> None:
        """Let both ends close their sockets."""
        self._released.add(connection.index)
        for ends in (self._senders, self._receivers):
            ends[connection.index].order("close")

    def delivered_bytes(self) -> list[int]:
        """Return what the receivers have checked so far."""
        return [worker.progress.slots[BYTES_SLOT] for worker in self._receivers]

    def written_bytes(self) -> list[int]:
        """Return what each sender's socket has taken."""
        return [worker.progress.slots[BYTES_SLOT] for worker in self._senders]

    def processes(self) -> list[tuple[str, int]]:
        """Return senders, then receivers."""
        return [
            (role, worker.pid)
            for role, workers in (("sender", self._senders), ("receiver", self._receivers))
            for worker in workers
            if worker.pid is not None
        ]

    def process_of(self, role: str, index: int) -> int | None:
        """Return the process of its own that is "sender" or "receiver" of a connection."""
        workers = self._senders if role == "sender" else self._receivers
        return workers[index].pid if index < len(workers) else None

    def close(self) -> None:
        """Kill what still runs."""
        for worker in (*self._senders, *self._receivers):
            worker.close()
