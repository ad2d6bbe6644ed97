"""The two ends of the built-in generator's connections, as applications of our stack.

They obey the orders and give the answers of the processes that do the same on the kernel's sockets
(:mod:`mptcplab.linux.traffic.sender`, :mod:`mptcplab.linux.traffic.receiver`), so that the testbed
need not know which are at work, and the far end may be either.
"""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final

from mptcplab.linux.traffic.pattern import Pattern
from mptcplab.linux.traffic.sender import CONFIRMATION
from mptcplab.linux.traffic.sockets import SocketPlan
from mptcplab.linux.traffic.worker import BYTES_SLOT, Progress
from mptcplab.stack import events
from mptcplab.stack.events import Event
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.readings import socket_name
from mptcplab.units import BITS_NS

_READ_BYTES: Final = 1 << 19

CallAt = Callable[[int, Callable[[], None]], object]
"""Calls back at a time on the monotonic clock (ns), and then sends what there is to send."""


class Job(ABC):
    """One end of one connection."""

    def __init__(
        self,
        order: dict[str, Any],
        channel: socket.socket,
        connect: Callable[[Job], Connection],
        call_at: CallAt,
    ) -> None:
        """Take the order that a process would get, the way to answer, and what opens a connection.

        The one that listens gets its connection from whoever accepts it, by :meth:`attach`.
        """
        self.rate_bps: int | None = order.get("rate_bps")
        self.pauses = False
        self._call_at = call_at
        self.plan = SocketPlan.from_json(order["socket"])
        self.progress = Progress(Path(order["progress"]))
        self.connection: Connection | None = None
        self.is_client = self.plan.role == "connect"
        self.over = False
        self._channel = channel
        self._connect = connect
        self._orders = b""

    def fileno(self) -> int:
        """The descriptor that is readable when an order has come."""
        return self._channel.fileno()

    def answer(self, event: str, **values: Any) -> None:
        """Send one answer to the testbed."""
        self.over = self.over or event in ("done", "failed")
        line = json.dumps({"event": event, "monotonic_ns": monotonic_ns(), **values}) + "\n"
        with suppress(BrokenPipeError, ConnectionResetError):  # the testbed asks no more
            self._channel.sendall(line.encode())

    def read_orders(self) -> bool:
        """Carry out the orders that have come; False when none can come any more."""
        data = self._channel.recv(4096)
        *lines, self._orders = (self._orders + data).split(b"\n")
        for line in lines:
            if line == b"go":
                self._go()
            elif line == b"stop":
                self._stop()
            elif line == b"close" and self.connection is not None:
                self.connection.close()
        return bool(data)

    def attach(self, connection: Connection) -> None:
        """Take the connection that was accepted."""
        self.connection = connection

    def pause(self, size_bytes: int) -> None:
        """With a rate, write or read no more for as long as so many bytes take at it."""
        if self.rate_bps is not None and size_bytes > 0:
            self.pauses = True
            self._call_at(monotonic_ns() + size_bytes * BITS_NS // self.rate_bps, self._go_on)

    def _go_on(self) -> None:
        self.pauses = False
        if self.connection is not None and self.connection.closed_for is None:
            self._write()
            self._read()

    @property
    def protocol(self) -> str:
        """The protocol in use: "mptcp", "tcp", or "fallback" where MPTCP was asked for."""
        if self.plan.protocol != "mptcp":
            return "tcp"
        return "mptcp" if self.connection is not None and self.connection.mptcp else "fallback"

    def handle(self, event: Event) -> None:
        """Act on what the stack tells of the connection."""
        if isinstance(event, events.ConnectionEstablished):
            self._tell_connected()
            self._begin()
        elif isinstance(event, events.DataReadable):
            self._read()
        elif isinstance(event, events.DataWritable):
            self._write()
        elif isinstance(event, events.PeerFinished):
            self._read()
        elif isinstance(event, events.ConnectionClosed) and not self.over:
            here, there = self.plan.local, f"{self.plan.remote} port {self.plan.port}"
            self.answer("failed", text=f"{here} and {there}: connection {event.reason.value}")

    def _tell_connected(self) -> None:
        connection = self.connection
        assert connection is not None
        tcp = connection.subflows[0].tcp
        self.answer(
            "connected",
            local=socket_name(tcp.local, tcp.local_port),
            remote=socket_name(tcp.remote, tcp.remote_port),
            protocol=self.protocol,
            send_buffer_bytes=connection.send.size_bytes,
            receive_buffer_bytes=connection.receive_buffer.size_bytes,
        )

    def _go(self) -> None:
        if self.is_client and self.connection is None:
            try:
                self.connection = self._connect(self)
            except OSError as error:
                self.answer("failed", text=str(error))

    @abstractmethod
    def _stop(self) -> None:
        """Obey the order to stop."""

    @abstractmethod
    def _begin(self) -> None:
        """Act on that data may flow."""

    @abstractmethod
    def _write(self) -> None:
        """Use the room that there is."""

    @abstractmethod
    def _read(self) -> None:
        """Take what has arrived."""

    def _is_at_end(self) -> bool:
        """Say whether the peer has finished, and everything is read."""
        connection = self.connection
        return (
            connection is not None
            and connection.peer_finished
            and connection.receive_buffer.readable_bytes() == 0
        )


class SendJob(Job):
    """Sends the pattern until told to stop or until its size is reached."""

    def __init__(
        self,
        order: dict[str, Any],
        channel: socket.socket,
        connect: Callable[[Job], Connection],
        call_at: CallAt,
    ) -> None:
        super().__init__(order, channel, connect, call_at)
        self._pattern = Pattern(order["stream"])
        self._write_bytes: int = order["write_bytes"]
        self._size_bytes: int | None = order["size_bytes"]
        self._position = 0
        self._stopped = self._finished = self._established = False
        self._reply = b""

    def _begin(self) -> None:
        self._established = True
        self._write()

    def _stop(self) -> None:
        self._stopped = True
        self._go()
        self._write()

    def _write(self) -> None:
        connection = self.connection
        if connection is None or not self._established or self._finished:
            return
        if connection.closed_for is not None:
            return
        while not self._stopped:
            if self.pauses:
                return
            count = self._write_bytes
            if self._size_bytes is not None:
                count = min(count, self._size_bytes - self._position)
                if count == 0:
                    break
            before = self._position
            for piece in self._pattern.pieces(before, count):
                taken = connection.write(piece)
                self._position += taken
                if taken < len(piece):
                    break
            self.progress.slots[BYTES_SLOT] = self._position
            self.pause(self._position - before)
            if self._position < before + count:
                return
        self._finished = True
        self.answer("sent", bytes=self._position)
        connection.close()

    def _read(self) -> None:
        if self.connection is not None:
            self._reply += self.connection.read()
        if len(self._reply) == CONFIRMATION.size and self._finished and not self.over:
            self._done(CONFIRMATION.unpack(self._reply)[0])
        if self.over or not self._is_at_end():
            return
        if self._finished:
            self._done(None)
        else:
            self.answer("failed", text="the receiver finished before all was sent")

    def _done(self, confirmed_bytes: int | None) -> None:
        self.answer(
            "done",
            bytes=self._position,
            confirmed_bytes=confirmed_bytes,
            protocol=self.protocol,
        )


class ReceiveJob(Job):
    """Checks every byte against the pattern, unless told not to, and sends its count back."""

    def __init__(
        self,
        order: dict[str, Any],
        channel: socket.socket,
        connect: Callable[[Job], Connection],
        call_at: CallAt,
    ) -> None:
        super().__init__(order, channel, connect, call_at)
        self._read_bytes: int = _READ_BYTES if self.rate_bps is None else order["read_bytes"]
        self._pattern = Pattern(order["stream"]) if order["verify"] else None
        self._position = 0
        self._wrong: str | None = None

    def _stop(self) -> None:
        """Go on, at no rate any more: the sender ends the stream."""
        self.rate_bps = None
        if self.pauses:
            self._go_on()

    def _begin(self) -> None:
        """Wait for data."""

    def _write(self) -> None:
        """Write nothing: the count fits into any buffer."""

    def _read(self) -> None:
        assert self.connection is not None
        while not self.pauses and (data := self.connection.read(self._read_bytes)):
            if self._pattern is not None and self._wrong is None:
                self._wrong = self._pattern.wrong(self._position, memoryview(data))
                if self._wrong is not None:
                    self.answer("corrupt", text=self._wrong)
            self._position += len(data)
            self.pause(len(data))
        self.progress.slots[BYTES_SLOT] = self._position
        if self.over or not self._is_at_end():
            return
        self.connection.write(CONFIRMATION.pack(self._position))
        self.answer("done", bytes=self._position, wrong=self._wrong, protocol=self.protocol)


def job_of(
    role: str,
    order: dict[str, Any],
    channel: socket.socket,
    connect: Callable[[Job], Connection],
    call_at: CallAt,
) -> Job:
    """Return the job of a role, "sender" or "receiver"."""
    return (SendJob if role == "sender" else ReceiveJob)(order, channel, connect, call_at)
