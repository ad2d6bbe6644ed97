"""Messages at a rate: when each is due, and the client that sends them over TCP or MPTCP."""

from __future__ import annotations

from typing import Final

from mptcplab.applications.client import Client, Send
from mptcplab.applications.distributions import random_of
from mptcplab.applications.exchange import HEADER_BYTES, Exchange
from mptcplab.applications.workloads import Messages

_BITS_NS: Final = 8_000_000_000


class MessageSource:
    """The messages of one sender, by the clock: one takes as long as its size does at the rate.

    With on and off times, it sends at the rate while it is on, and each on time begins with a
    message.
    """

    def __init__(self, workload: Messages, seed: int, flow: str, slot: int, start_ns: int) -> None:
        self._workload = workload
        self._random = random_of(seed, flow, slot)
        self.due_ns: int = start_ns
        """When the next message is due."""
        self._on_until_ns: int | None = None
        if workload.on is not None:
            self._on_until_ns = start_ns + workload.on.draw(self._random, 1)

    def next(self, number: int, slot: int) -> Exchange:
        """Return the message that is due, and go on to the next."""
        workload, start_ns = self._workload, self.due_ns
        size_bytes = workload.message.draw(self._random, HEADER_BYTES)
        self.due_ns += max(1, size_bytes * _BITS_NS // workload.rate_bps)
        if self._on_until_ns is not None and self.due_ns >= self._on_until_ns:
            assert workload.on is not None
            assert workload.off is not None
            self.due_ns = self._on_until_ns + workload.off.draw(self._random, 1)
            self._on_until_ns = self.due_ns + workload.on.draw(self._random, 1)
        return Exchange(number, start_ns, size_bytes, 0, slot=slot)


class MessageClient(Client):
    """A sender on each slot's connection; nobody answers."""

    def __init__(self, workload: Messages, slots: int, seed: int, flow: str) -> None:
        super().__init__(slots, persistent=True)
        self._workload = workload
        self._seed, self._flow = seed, flow
        self._sources: list[MessageSource] = []

    def _begin(self, now_ns: int) -> None:
        for slot in range(self._slots):
            source = MessageSource(self._workload, self._seed, self._flow, slot, now_ns)
            self._sources.append(source)
            self._open(slot)
            self._due(slot, now_ns)

    def _due(self, key: int, _due_ns: int) -> None:
        if self._issued == self._workload.count:
            return
        message = self._sources[key].next(self._number(), key)
        self._done.append(message)
        if key in self._channels:  # the numbers of channels are those of their slots
            self._commands.append(Send(key, message))
        if self._issued != self._workload.count:
            self._at(self._sources[key].due_ns, key)

    def _completed(self, exchange: Exchange, now_ns: int) -> None:
        """Do nothing: no response comes."""
