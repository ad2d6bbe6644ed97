"""One end of a connection at work on a real host, as the traffic of a flow sees it."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final

from mptcplab.applications.exchange import Exchange
from mptcplab.linux.traffic.flow import Connection, Worker
from mptcplab.linux.traffic.worker import Progress
from mptcplab.remote.answers import AnswerError, said
from mptcplab.remote.clocks import Clock
from mptcplab.remote.ssh import AgentLine

_NUMBERS: Final = count(1)
_OF_ONE_CONNECTION: Final = ("sender", "receiver")
_PLANNED_ROLES: Final = (*_OF_ONE_CONNECTION, "asking", "datagrams-sender")
"""Those that begin and end by the clock; others follow what comes to them."""
_COUNT_MOST: Final = (1 << 63) - 1
_EXCHANGE: Final = tuple(Exchange.__dataclass_fields__)
_TIMES: Final[Mapping[str, tuple[int, ...]]] = {
    "exchanges": tuple(_EXCHANGE.index(name) for name in ("start_ns", "first_ns", "end_ns")),
    "messages": (1,),
    "arrivals": (1,),
}
"""The places of times in rows of answers, which are by the host's clock."""


class RemoteWorker(Worker):
    """An end of a connection that an agent runs; its answers come over the agent's line.

    Orders that are :meth:`planned` are given by the agent's clock.
    """

    def __init__(
        self, line: AgentLine, clock: Clock, role: str, connections: int, progress: Progress
    ) -> None:
        """``connections`` are those of a flow that it is an end of; 0 where it is of one alone."""
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        super().__init__(self._event, progress)
        self._line, self._clock = line, clock
        self._role, self._connections = role, connections
        self._planned: set[str] = set()
        self._said: deque[dict[str, Any] | None] = deque()
        self.number = next(_NUMBERS)

    def start(self, order: dict[str, Any]) -> None:
        """Have the agent start it."""
        self._line.tell("start", worker=self.number, role=self._role, order=order)

    def plan(self, text: str, at_ns: int) -> None:
        """Have the agent give an order at a time of our monotonic clock, where it begins and ends
        by the clock.
        """
        if self._role in _PLANNED_ROLES:
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
        answer = None
        if value is not None:
            answer = said(value, "worker", self._connections)
            answer["monotonic_ns"] = self._clock.here(answer["monotonic_ns"])
            for place in _TIMES.get(answer["event"], ()):
                for row in answer["rows"]:
                    row[place] = None if row[place] is None else self._clock.here(row[place])
        self._said.append(answer)
        os.eventfd_write(self._event, 1)

    def answers(self) -> Iterator[dict[str, Any]]:
        """Yield the answers that have come; a death without one reads as a failure."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        while self._said:
            answer = self._said.popleft()
            if answer is not None:
                yield self._noted(answer)
                continue
            self.ended = True
            if not self.over:
                self.over = True
                now_ns = time.monotonic_ns()
                yield {"event": "failed", "text": self.problem, "monotonic_ns": now_ns}

    def take_counts(self, counts: Sequence[int]) -> None:
        """Take in its counters, as they were when a sample was taken."""
        slots = self.progress.slots
        for slot, value in zip(range(len(slots)), counts, strict=False):
            slots[slot] = min(max(value, 0), _COUNT_MOST)

    def close(self) -> None:
        """Give everything back; the agent ends the process when it ends."""
        os.close(self._event)
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
        """Start one end of a connection, or of all of a flow, on the host."""
        connections = 0 if role in _OF_ONE_CONNECTION else connection.flow.connections
        worker = RemoteWorker(self._line, self._clock, role, connections, progress)
        self.by_number[worker.number] = worker
        self.by_flow.setdefault(connection.flow.name, []).append(worker)
        worker.start({name: value for name, value in order.items() if name != "progress"})
        return worker

    def take(self, number: Any, value: Any) -> None:
        """Pass on what the agent says of one of them; AnswerError where there is none such."""
        worker = self.by_number.get(number) if isinstance(number, int) else None
        if worker is None:
            raise AnswerError(f"worker: {number!r}; expected one that was started")
        worker.take(value)
