"""What the two ends of a flow's requests and messages share: sockets, orders, content.

Each end is one process for all connections of its flow: it sleeps until a socket, an order or the
clock wants it.  Orders and answers are those of :mod:`mptcplab.linux.traffic.worker`.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Final

from mptcplab.linux.traffic.pattern import Pattern
from mptcplab.linux.traffic.worker import Progress, answer
from mptcplab.loop.timerfd import TimerFd

READ_BYTES: Final = 1 << 18
_WRITE_BYTES: Final = 1 << 16
_READABLE: Final = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_TOLD_ROWS: Final = 200

COUNTERS: Final = 2
"""Of each connection, in a row of the progress: bytes written, bytes read."""


class Waiting:
    """Waits for sockets, orders and the clock, and calls whoever is meant."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._timer = TimerFd()
        self._epoll.register(self._timer.fd, select.EPOLLIN | select.EPOLLET)
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self.is_over = False

    def add(self, descriptor: int, callback: Callable[[int], None], *, writing: bool) -> None:
        """Call with the events of a descriptor: readable, and writable too with ``writing``."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, _READABLE | (select.EPOLLOUT if writing else 0))

    def change(self, descriptor: int, *, reading: bool = True, writing: bool) -> None:
        """Call as well, or no more, when a descriptor is readable or writable."""
        wanted = (_READABLE if reading else 0) | (select.EPOLLOUT if writing else 0)
        self._epoll.modify(descriptor, wanted)

    def remove(self, descriptor: int) -> None:
        """Call no more for a descriptor."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def run(self, next_wake_ns: Callable[[], int | None], wake: Callable[[], None]) -> None:
        """Wait and call, until ``is_over``; ``wake`` when the time of ``next_wake_ns`` comes."""
        armed_ns: int | None = None
        while not self.is_over:
            wake_ns = next_wake_ns()
            if wake_ns is not None and wake_ns <= monotonic_ns():
                wake()
                continue
            if wake_ns != armed_ns:
                armed_ns = wake_ns
                if wake_ns is None:
                    self._timer.clear()
                else:
                    self._timer.arm(wake_ns)
            for descriptor, events in self._epoll.poll():
                callback = self._callbacks.get(descriptor)
                if callback is not None:
                    callback(events)


class OrderReader:
    """Reads the testbed's orders, one a line, from standard input."""

    def __init__(self, waiting: Waiting, obey: Callable[[str], None]) -> None:
        self._text = b""
        self._obey = obey
        os.set_blocking(sys.stdin.fileno(), False)
        waiting.add(sys.stdin.fileno(), self._read, writing=False)

    def _read(self, _events: int) -> None:
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:
            os._exit(2)  # the testbed has gone
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            self._obey(line.decode())


class Rows:
    """What the testbed is told of many things, some at a time."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._rows: list[object] = []

    def add(self, row: object) -> None:
        """Add one, and tell when there are many."""
        self._rows.append(row)
        if len(self._rows) >= _TOLD_ROWS:
            self.tell()

    def tell(self) -> None:
        """Tell what there is."""
        if self._rows:
            answer(self._event, rows=self._rows)
            self._rows = []


class Checker:
    """Compares content with what was sent; tells of the first wrong byte alone."""

    def __init__(self, *, verify: bool) -> None:
        self._verify = verify
        self.wrong: str | None = None

    def check(self, stream: int, position: int, data: memoryview) -> None:
        """Compare a piece of a stream."""
        if not self._verify or self.wrong is not None:
            return
        text = Pattern(stream).wrong(position, data)
        if text is not None:
            what = "response" if stream % 2 else "request"
            self.wrong = f"{what} {stream // 2}: {text}"
            answer("corrupt", text=self.wrong)


class Content:
    """What is to be written: a header, and a piece of a stream behind it."""

    def __init__(self, stream: int, size_bytes: int, header: bytes = b"") -> None:
        self._pattern = Pattern(stream)
        self._header = header
        self.size_bytes = size_bytes

    def pieces(self, position: int) -> list[memoryview | bytes]:
        """Return the next bytes from a position on."""
        count = min(_WRITE_BYTES, self.size_bytes - position)
        head = self._header[position : position + count]
        if not head:
            return self._pattern.pieces(position, count)
        return [head, *self._pattern.pieces(position + len(head), count - len(head))]


class Stream:
    """One connection: what is to be written on it, and its counters."""

    def __init__(
        self, waiting: Waiting, sock: socket.socket, slot: int, progress: Progress
    ) -> None:
        self.sock = sock
        self.slot = slot
        self._waiting = waiting
        self._progress = progress
        self._outgoing: deque[Content] = deque()
        self._position = 0
        self._finishing = self._is_writing = False
        self.is_finished = False
        self.is_established = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, content: Content) -> None:
        """Write behind what is to be written before; it counts as written from now on."""
        self._progress.slots[COUNTERS * self.slot] += content.size_bytes
        self._outgoing.append(content)
        self.flush()

    def finish(self) -> None:
        """Close this half when all is written."""
        self._finishing = True
        self.flush()

    def flush(self) -> None:
        """Write what the socket takes, and wait for room where that is not all; or OSError."""
        if not self.is_established or self.is_finished:
            return
        while self._outgoing:
            content = self._outgoing[0]
            try:
                self._position += self.sock.sendmsg(content.pieces(self._position))
            except BlockingIOError:
                break
            if self._position == content.size_bytes:
                self._outgoing.popleft()
                self._position = 0
        if self._is_writing != bool(self._outgoing):
            self._is_writing = bool(self._outgoing)
            self._waiting.change(self.sock.fileno(), writing=self._is_writing)
        if self._finishing and not self._outgoing:
            self.is_finished = True
            self.sock.shutdown(socket.SHUT_WR)

    def note_read(self, size_bytes: int) -> None:
        """So many bytes were read."""
        self._progress.slots[COUNTERS * self.slot + 1] += size_bytes
