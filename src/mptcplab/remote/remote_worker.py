"""One end of a connection at work on a real host, as the traffic of a flow sees it."""

from __future__ import annotations

import contextlib
import json
import socket
from itertools import count
from typing import Any, Final

from mptcplab.linux.traffic.flow import Connection, Worker
from mptcplab.linux.traffic.worker import Progress
from mptcplab.remote.answers import AnswerError, said
from mptcplab.remote.clocks import Clock
from mptcplab.remote.ssh import AgentLine

_NUMBERS: Final = count(1)


class RemoteWorker(Worker):
    """A sender or receiver that an agent runs; its answers come over the agent's line.

    Orders that are :meth:`planned` are given by the agent's clock.
    """

    def __init__(self, line: AgentLine, clock: Clock, progress: Progress) -> None:
        ours, self._theirs = socket.socketpair()
        super().__init__(ours.fileno(), progress)
        self._ours = ours
        self._line, self._clock = line, clock
        self._planned: set[str] = set()
        self.number = next(_NUMBERS)

    def start(self, role: str, order: dict[str, Any]) -> None:
        """Have the agent start it."""
        self._line.tell("start", worker=self.number, role=role, order=order)

    def planned(self, text: str, at_ns: int) -> None:
        """Have the agent give an order at a time of our monotonic clock."""
        self._planned.add(text)
        self._line.tell("order", worker=self.number, text=text, at_ns=self._clock.there(at_ns))

    def order(self, text: str) -> None:
        """Give an order now, unless the agent gives it; one to a process that has ended is lost."""
        if text not in self._planned:
            self._line.tell("order", worker=self.number, text=text)

    def drop_plan(self, text: str) -> None:
        """Let an order be given when it is asked for, also where one was planned."""
        self._planned.discard(text)

    def take(self, value: Any) -> None:
        """Take in what the agent says of it; None: it has ended.  AnswerError for nonsense."""
        if value is None:
            self._theirs.close()
            return
        answer = said(value, "worker")
        answer["monotonic_ns"] = self._clock.here(answer["monotonic_ns"])
        self._theirs.sendall(json.dumps(answer).encode() + b"\n")

    def close(self) -> None:
        """Give everything back; the agent ends the process when it ends."""
        self._ours.close()
        with contextlib.suppress(OSError):
            self._theirs.close()
        self.progress.close()


class RemoteWorkers:
    """The workers of one host."""

    def __init__(self, line: AgentLine, clock: Clock) -> None:
        self._line, self._clock = line, clock
        self.by_number: dict[int, RemoteWorker] = {}
        self.by_flow: dict[str, list[RemoteWorker]] = {}

    def start_job(
        self, role: str, connection: Connection, order: dict[str, Any], progress: Progress
    ) -> Worker:
        """Start one end of a connection on the host."""
        worker = RemoteWorker(self._line, self._clock, progress)
        self.by_number[worker.number] = worker
        self.by_flow.setdefault(connection.flow.name, []).append(worker)
        worker.start(role, {name: value for name, value in order.items() if name != "progress"})
        return worker

    def take(self, number: Any, value: Any) -> None:
        """Pass on what the agent says of one of them; AnswerError where there is none such."""
        worker = self.by_number.get(number) if isinstance(number, int) else None
        if worker is None:
            raise AnswerError(f"worker: {number!r}; expected one that was started")
        worker.take(value)
