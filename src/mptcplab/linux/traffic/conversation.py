"""The testbed's side of a flow that asks and answers, or sends messages: its two processes."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mptcplab.applications.exchange import Exchange
from mptcplab.applications.rows import message_row, request_row
from mptcplab.applications.workloads import Messages, RequestResponse, Web
from mptcplab.linux.traffic.conversing import COUNTERS
from mptcplab.linux.traffic.flow import (
    Answer,
    Connection,
    Spawn,
    StartJob,
    Traffic,
    Worker,
    WorkerProcess,
)
from mptcplab.linux.traffic.plan import socket_plans
from mptcplab.linux.traffic.worker import Progress
from mptcplab.scenario.model import Flow, Scenario

_MODULES: Final = {"sender": "asking", "receiver": "answering"}
Rows = list[dict[str, Any]]


class ConversationTraffic(Traffic):
    """A process that asks, on the flow's source, and one that answers, for all connections."""

    def __init__(
        self,
        scenario: Scenario,
        flow: Flow,
        first_port: int,
        spawn: Spawn,
        workspace: Path,
        on_answer: Answer,
        jobs: Mapping[str, StartJob],
    ) -> None:
        """Take the hosts whose ends are started by ``jobs``, beside ``spawn`` for the others."""
        workload = flow.workload
        assert workload is not None
        self.flow = flow
        self._scenario, self._spawn, self._jobs = scenario, spawn, jobs
        self._workspace, self._on_answer = workspace, on_answer
        self._keeps = not isinstance(workload, RequestResponse | Web) or workload.persistent
        self._is_udp = flow.protocol == "udp"
        self.connections = [
            Connection(
                flow,
                index,
                first_port + index,
                checked=flow.verify and not self._is_udp,
                is_sampled=self._keeps and not self._is_udp,
                begun=False,
            )
            for index in range(flow.connections)
        ]
        self._workers: dict[str, Worker] = {}
        self._released: set[int] = set()
        self._exchanges: dict[int, Exchange] = {}
        self._arrivals: dict[int, int] = {}

    def prepare(self) -> None:
        """Start both processes."""
        path = self._scenario.paths(self.flow)[0]
        plans = [
            socket_plans(self._scenario, self.flow, path, connection.port)
            for connection in self.connections
        ]
        for place, role in enumerate(_MODULES):
            file = self._workspace / f"progress-{self.connections[0].port}-{role}"
            progress = Progress.create(file, COUNTERS * len(self.connections))
            order = {
                "sockets": [both[place].to_json() for both in plans],
                "progress": str(file),
                "workload": pickle.dumps(self.flow.workload).hex(),
                "seed": self._scenario.seed,
                "flow": self.flow.name,
                "verify": self.flow.verify,
                "keeps": self._keeps,
            }
            self._workers[role] = self._start(role, order, progress)

    def _start(self, role: str, order: dict[str, Any], progress: Progress) -> Worker:
        module = "datagrams" if self._is_udp else _MODULES[role]
        host = self.flow.source if role == "sender" else self.flow.destination
        if host in self._jobs:
            job = f"{module}-{role}" if self._is_udp else module
            return self._jobs[host](job, self.connections[0], order, progress)
        argv = [sys.executable, "-P", "-m", f"mptcplab.linux.traffic.{module}"]
        argv += [*([role] if self._is_udp else []), json.dumps(order)]
        return WorkerProcess(self._spawn(host, argv), progress)

    def descriptors(self) -> Mapping[int, Callable[[], bool]]:
        """Return the processes' answer pipes."""
        return {
            worker.descriptor: self._reader(role, worker) for role, worker in self._workers.items()
        }

    def _reader(self, role: str, worker: Worker) -> Callable[[], bool]:
        def read() -> bool:
            for answer in worker.answers():
                self._note(role, answer)
                self._on_answer(self.connections[answer.get("slot", 0)], role, answer)
            return not worker.ended

        return read

    def _note(self, role: str, answer: Mapping[str, Any]) -> None:
        event = answer["event"]
        connection = self.connections[answer.get("slot", 0)]
        if event == "opening":
            connection.begun = True
        elif event == "connected":
            connection.established.add(role)
            connection.protocol = answer["protocol"]
            if role == "sender":
                connection.local, connection.remote = answer["local"], answer["remote"]
        elif event == "exchanges":
            for row in answer["rows"]:
                exchange = Exchange(*row)
                self._exchanges[exchange.number] = exchange
        elif event == "messages":
            for number, start_ns, size_bytes in answer["rows"]:
                self._exchanges[number] = Exchange(number, start_ns, size_bytes, 0, slot=0)
        elif event == "arrivals":
            self._arrivals.update(answer["rows"])
        elif event == "failed":
            connection.errors.append(f"{role}: {answer['text']}")
        elif event == "corrupt":
            connection.errors.append(answer["text"])
        if event in ("done", "failed") and role == "sender":
            sent = f" {answer.get('sent', 0)}" if self._is_udp else ""
            self._workers["receiver"].order(f"stop{sent}")
        if all(worker.over for worker in self._workers.values()) and event in ("done", "failed"):
            self._end(answer["monotonic_ns"])

    def _end(self, monotonic_ns: int) -> None:
        """Both ends are done: what each connection has written and read is final."""
        written, read = self.written_bytes(), self.delivered_bytes()
        for connection in self.connections:
            connection.bytes_sent = written[connection.index]
            connection.bytes_received = read[connection.index]
            connection.end_monotonic_ns = monotonic_ns

    @property
    def ready(self) -> bool:
        """Whether both processes have said that they are ready."""
        return all(worker.ready for worker in self._workers.values())

    def start(self) -> None:
        """Let the client begin."""
        self._workers["sender"].order("go")
        if self._is_udp:
            self.connections[0].begun = True
            self.connections[0].established.update(_MODULES)

    def stop(self) -> None:
        """Let it ask for nothing more; the server ends when it has."""
        self._workers["sender"].order("stop")

    @property
    def finished(self) -> bool:
        """Whether both processes have given their last answer and may close their sockets."""
        return len(self._released) == len(self.connections)

    def held(self) -> list[Connection]:
        """Return the connections of a flow both of whose ends are done."""
        if not all(worker.over for worker in self._workers.values()):
            return []
        return [each for each in self.connections if each.index not in self._released]

    def release(self, connection: Connection) -> None:
        """Let both ends close their sockets once every connection may."""
        self._released.add(connection.index)
        if self.finished:
            for worker in self._workers.values():
                worker.order("close")

    def delivered_bytes(self) -> list[int]:
        """Return what both ends have read of each connection."""
        return self._counted(1)

    def written_bytes(self) -> list[int]:
        """Return what both ends have written on each; of datagrams what was read, as none waits."""
        return self._counted(1 if self._is_udp else 0)

    def _counted(self, counter: int) -> list[int]:
        return [
            sum(
                worker.progress.slots[COUNTERS * connection.index + counter]
                for worker in self._workers.values()
            )
            for connection in self.connections
        ]

    def rows(self, origin_ns: int) -> tuple[Rows, Rows]:
        """Return the rows of ``requests`` and of ``messages``; times count from ``origin_ns``."""
        exchanges = [self._exchanges[number] for number in sorted(self._exchanges)]
        name = self.flow.name
        if not isinstance(self.flow.workload, Messages):
            return [request_row(name, each, origin_ns) for each in exchanges], []
        for each in exchanges:
            each.end_ns = self._arrivals.get(each.number)
        return [], [message_row(name, each, origin_ns) for each in exchanges]

    def processes(self) -> list[tuple[str, int]]:
        """Return the one that asks and the one that answers."""
        return [
            (role, worker.pid) for role, worker in self._workers.items() if worker.pid is not None
        ]

    def process_of(self, _role: str, _index: int) -> int | None:
        """Return none: a process serves all connections of its flow."""
        return None

    def close(self) -> None:
        """Kill what still runs."""
        for worker in self._workers.values():
            worker.close()
