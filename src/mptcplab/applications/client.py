"""The requesting end: which connections it opens, what it sends on which, and what it notes.

Whoever drives a client carries out what :meth:`Client.poll` returns until that is None, after each
call of another method, and calls :meth:`Client.wake` at :attr:`Client.next_wake_ns`. A *slot* is
one of the flow's connections; a *channel* is one that was opened there, of which several may follow
one another. What a slot has is at most one channel, except where requests arrive by the clock and
each has its own.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass

from mptcplab.applications.exchange import Exchange


@dataclass(frozen=True, slots=True)
class Open:
    """Open a connection on a slot; what is to be sent on it waits until data may flow."""

    channel: int
    slot: int


@dataclass(frozen=True, slots=True)
class Send:
    """Write an exchange's request, behind what was to be written before."""

    channel: int
    exchange: Exchange


@dataclass(frozen=True, slots=True)
class Finish:
    """Close our half once everything is written; say ``closed`` when the connection is gone."""

    channel: int


Command = Open | Send | Finish


@dataclass(slots=True)
class Channel:
    """A connection that was opened: its slot, what is under way on it, whether it is to close."""

    slot: int
    exchange: Exchange | None = None
    is_finished: bool = False


class Client(ABC):
    """What all clients have in common: queue, channels and clock; subclasses decide on requests."""

    def __init__(self, slots: int, *, persistent: bool, one_each: bool = False) -> None:
        """Take the number of slots, and whether a channel serves for more than one request.

        With ``one_each`` a request waits for no other: it has a channel of its own at once.
        """
        self._slots = slots
        self._persistent = persistent
        self._one_each = one_each
        self._channels: dict[int, Channel] = {}
        self._waiting: deque[Exchange] = deque()
        self._commands: deque[Command] = deque()
        self._timers: list[tuple[int, int]] = []
        self._opened = self._issued = 0
        self._under_way = 0
        self._started = self._stopped = False
        self.failures: list[str] = []
        """Why requests were not answered, each with the request's number."""
        self._done: list[Exchange] = []

    # What the driver asks.

    def poll(self) -> Command | None:
        """Return what to do next, None where that is nothing."""
        return self._commands.popleft() if self._commands else None

    @property
    def next_wake_ns(self) -> int | None:
        """When to call :meth:`wake`."""
        return self._timers[0][0] if self._timers else None

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will come: nothing is to be asked, and every connection is gone."""
        return self._started and self._is_done and not self._channels

    def take_done(self) -> list[Exchange]:
        """Return the exchanges that have ended since the last call, in that order."""
        done, self._done = self._done, []
        return done

    def under_way(self) -> list[Exchange]:
        """Return the requests that were sent and are not answered."""
        return [each.exchange for each in self._channels.values() if each.exchange is not None]

    # What the driver tells.

    def start(self, now_ns: int) -> None:
        """Begin."""
        self._started = True
        self._begin(now_ns)
        self._settle()

    def stop(self) -> None:
        """Begin nothing more; what is under way is finished, what waits is dropped."""
        self._started = self._stopped = True
        self._done += self._waiting  # they were wanted, and stay unanswered
        self._waiting.clear()
        self._timers.clear()
        self._settle()

    def wake(self, now_ns: int) -> None:
        """Act on what is due by now."""
        while self._timers and self._timers[0][0] <= now_ns:
            due_ns, key = heapq.heappop(self._timers)
            self._due(key, due_ns)
        self._settle()

    def received(self, number: int, size_bytes: int, now_ns: int) -> None:
        """So many bytes of the response under way on a channel were read."""
        channel = self._channels[number]
        exchange = channel.exchange
        if exchange is None or size_bytes > exchange.response_bytes - exchange.received_bytes:
            self.failures.append(f"{size_bytes} bytes came that belong to no request")
            return
        if exchange.first_ns is None:
            exchange.first_ns = now_ns
        exchange.received_bytes += size_bytes
        if exchange.received_bytes == exchange.response_bytes:
            exchange.end_ns = now_ns
            channel.exchange = None
            self._under_way -= 1
            if not self._persistent:
                self._finish(number, channel)
            self._completed(exchange, now_ns)
            self._done.append(exchange)
            self._settle()

    def closed(self, number: int, why: str = "") -> None:
        """A channel is gone; ``why`` where it did not end in order."""
        channel = self._channels.pop(number)
        if channel.exchange is not None:
            self._under_way -= 1
            self.failures.append(
                f"request {channel.exchange.number}: {why or 'the connection was closed'}"
            )
            self._done.append(channel.exchange)
        elif why and not channel.is_finished:
            self.failures.append(why)
        self._settle()

    # For subclasses.

    @abstractmethod
    def _begin(self, now_ns: int) -> None:
        """Ask for the first requests."""

    @abstractmethod
    def _due(self, key: int, due_ns: int) -> None:
        """Act on a timer that was set with ``key`` for ``due_ns``."""

    @abstractmethod
    def _completed(self, exchange: Exchange, now_ns: int) -> None:
        """Act on a response that is there."""

    def _at(self, time_ns: int, key: int) -> None:
        """Have :meth:`_due` called at a time."""
        heapq.heappush(self._timers, (time_ns, key))

    def _ask(self, exchange: Exchange) -> None:
        """Queue a request."""
        self._waiting.append(exchange)

    def _number(self) -> int:
        """Return the number of the next request."""
        number = self._issued
        self._issued += 1
        return number

    # Who serves whom.

    @property
    def _is_done(self) -> bool:
        return not (self._waiting or self._timers or self._under_way)

    def _settle(self) -> None:
        """Give waiting requests their channels, and close what is not needed any more."""
        while self._waiting and self._assign(self._waiting[0]):
            self._waiting.popleft()
        if self._is_done:
            for number, channel in self._channels.items():
                self._finish(number, channel)

    def _finish(self, number: int, channel: Channel) -> None:
        if not channel.is_finished:
            channel.is_finished = True
            self._commands.append(Finish(number))

    def _assign(self, exchange: Exchange) -> bool:
        """Give a request a channel that is idle, or a new one; False where it has to wait."""
        if self._one_each:
            self._send(self._open(self._opened % self._slots), exchange)
            return True
        taken = set()
        for number, channel in self._channels.items():
            if channel.is_finished:
                continue
            taken.add(channel.slot)
            if channel.exchange is None and exchange.slot in (None, channel.slot):
                self._send(number, exchange)
                return True
        wanted = range(self._slots) if exchange.slot is None else (exchange.slot,)
        for slot in wanted:
            if slot not in taken:
                self._send(self._open(slot), exchange)
                return True
        return False

    def _open(self, slot: int) -> int:
        """Open a channel on a slot and return its number."""
        number = self._opened
        self._opened += 1
        self._channels[number] = Channel(slot)
        self._commands.append(Open(number, slot))
        return number

    def _send(self, number: int, exchange: Exchange) -> None:
        """Send a request on a channel, and expect its response there."""
        channel = self._channels[number]
        channel.exchange, exchange.slot = exchange, channel.slot
        self._under_way += 1
        self._commands.append(Send(number, exchange))
