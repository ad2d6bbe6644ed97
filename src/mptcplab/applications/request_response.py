"""Requests and responses: in turn with think times, or as they arrive."""

from __future__ import annotations

from mptcplab.applications.client import Client
from mptcplab.applications.distributions import random_of
from mptcplab.applications.exchange import HEADER_BYTES, Exchange
from mptcplab.applications.workloads import RequestResponse


class RequestClient(Client):
    """Each slot asks, reads and thinks, independent of the others."""

    def __init__(self, workload: RequestResponse, slots: int, seed: int, flow: str) -> None:
        super().__init__(slots, persistent=workload.persistent)
        self._workload = workload
        self._random = [random_of(seed, flow, slot) for slot in range(slots)]

    def _begin(self, now_ns: int) -> None:
        for slot in range(self._slots):
            self._due(slot, now_ns)

    def _due(self, key: int, due_ns: int) -> None:
        workload, random = self._workload, self._random[key]
        if self._issued == workload.count:
            return
        self._ask(
            Exchange(
                self._number(),
                due_ns,
                workload.request.draw(random, HEADER_BYTES),
                workload.response.draw(random, 1),
                slot=key,
            )
        )

    def _completed(self, exchange: Exchange, now_ns: int) -> None:
        assert exchange.slot is not None
        if self._stopped:
            return
        think_ns = self._workload.think.draw(self._random[exchange.slot])
        if think_ns:
            self._at(now_ns + think_ns, exchange.slot)
        else:
            self._due(exchange.slot, now_ns)


class ArrivalClient(Client):
    """Requests come by the clock; what cannot be sent at once waits, and its time counts."""

    def __init__(self, workload: RequestResponse, slots: int, seed: int, flow: str) -> None:
        super().__init__(slots, persistent=workload.persistent, one_each=not workload.persistent)
        self._workload = workload
        self._random = random_of(seed, flow, "arrivals")

    def _begin(self, now_ns: int) -> None:
        if self._workload.arrival_times:
            for time_ns in self._workload.arrival_times[: self._workload.count]:
                self._at(now_ns + time_ns, 0)
        else:
            self._next(now_ns)

    def _next(self, after_ns: int) -> None:
        assert self._workload.arrivals is not None
        self._at(after_ns + self._workload.arrivals.draw(self._random, 1), 0)

    def _due(self, _key: int, due_ns: int) -> None:
        workload = self._workload
        self._ask(
            Exchange(
                self._number(),
                due_ns,
                workload.request.draw(self._random, HEADER_BYTES),
                workload.response.draw(self._random, 1),
            )
        )
        if workload.arrivals is not None and self._issued != workload.count:
            self._next(due_ns)

    def _completed(self, exchange: Exchange, now_ns: int) -> None:
        """Do nothing: what comes next comes by the clock."""
