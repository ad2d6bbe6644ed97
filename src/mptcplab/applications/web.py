"""Web pages: a document, and then all its objects, over several connections."""

from __future__ import annotations

from mptcplab.applications.client import Client
from mptcplab.applications.distributions import random_of
from mptcplab.applications.exchange import HEADER_BYTES, Exchange
from mptcplab.applications.workloads import Web


class WebClient(Client):
    """A reader of pages, one after the other.

    Connections are opened as objects need them, as browsers do: an idle one is taken first.
    """

    def __init__(self, workload: Web, slots: int, seed: int, flow: str) -> None:
        super().__init__(slots, persistent=workload.persistent)
        self._workload = workload
        self._random = random_of(seed, flow)
        self._page = -1
        self._missing = 0  # objects of the page, the document included

    def _begin(self, now_ns: int) -> None:
        self._due(0, now_ns)

    def _due(self, _key: int, due_ns: int) -> None:
        self._page += 1
        self._missing = 1 + self._workload.objects
        self._ask(self._part(due_ns, self._workload.response.draw(self._random, 1)))

    def _part(self, now_ns: int, size_bytes: int) -> Exchange:
        request_bytes = self._workload.request.draw(self._random, HEADER_BYTES)
        return Exchange(self._number(), now_ns, request_bytes, size_bytes, page=self._page)

    def _completed(self, _exchange: Exchange, now_ns: int) -> None:
        workload = self._workload
        is_document = self._missing == 1 + workload.objects
        self._missing -= 1
        if self._stopped:
            return
        if is_document:
            for _ in range(workload.objects):
                self._ask(self._part(now_ns, workload.object_size.draw(self._random, 1)))
        if self._missing == 0 and self._page + 1 != workload.count:
            self._at(now_ns + workload.think.draw(self._random), 0)
