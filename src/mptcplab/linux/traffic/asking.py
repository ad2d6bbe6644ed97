"""The process that asks: ``python -m mptcplab.linux.traffic.asking '{...}'``.

It drives a flow's client (:mod:`mptcplab.applications.client`) on the kernel's sockets, checks what
the responses hold, and tells the testbed of each request.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import select
import socket
import sys
from dataclasses import astuple
from functools import partial
from pathlib import Path
from time import monotonic_ns
from typing import Any

from mptcplab.applications.client import Finish, Open, Send
from mptcplab.applications.clients import client_of
from mptcplab.applications.exchange import Exchange, request_stream, response_stream
from mptcplab.linux.traffic.conversing import (
    READ_BYTES,
    Checker,
    Content,
    OrderReader,
    Rows,
    Stream,
    Waiting,
)
from mptcplab.linux.traffic.sockets import (
    SocketError,
    SocketPlan,
    in_family,
    name_of,
    open_socket,
    protocol_in_use,
)
from mptcplab.linux.traffic.worker import Progress, answer, fail


class Asking:
    """A flow's client at work."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._plans = [SocketPlan.from_json(plan) for plan in order["sockets"]]
        self._progress = Progress(Path(order["progress"]))
        workload = pickle.loads(bytes.fromhex(order["workload"]))  # noqa: S301 - the testbed's
        self._client = client_of(workload, len(self._plans), order["seed"], order["flow"])
        self._keeps = order["keeps"]
        self._checker = Checker(verify=order["verify"])
        self._waiting = Waiting()
        self._streams: dict[int, Stream] = {}
        self._current: dict[int, Exchange] = {}
        self._kept: list[socket.socket] = []
        self._begun_slots: set[int] = set()
        self._told_slots: set[int] = set()
        self._rows = Rows("exchanges")
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._is_done = False
        OrderReader(self._waiting, self._obey)

    def run(self) -> None:
        """Serve until the order to close."""
        open_socket(self._plans[0]).close()  # what a socket would refuse is told beforehand
        answer("ready")
        self._waiting.run(lambda: self._client.next_wake_ns, self._wake)

    def _obey(self, order: str) -> None:
        if order == "go":
            self._client.start(monotonic_ns())
        elif order == "stop":
            self._client.stop()
        elif order == "close":
            self._waiting.is_over = True
            return
        self._act()

    def _wake(self) -> None:
        self._client.wake(monotonic_ns())
        self._act()

    def _act(self) -> None:
        """Do what the client wants, and tell what has ended."""
        while (command := self._client.poll()) is not None:
            if isinstance(command, Open):
                self._open(command.channel, command.slot)
            elif command.channel in self._streams:  # else it has failed, and the client knows
                self._command(command)
        for exchange in self._client.take_done():
            self._rows.add(astuple(exchange))
        if self._client.is_finished and not self._is_done:
            self._finish()

    def _command(self, command: Send | Finish) -> None:
        stream = self._streams[command.channel]
        try:
            if isinstance(command, Send):
                exchange = command.exchange
                self._current[command.channel] = exchange
                number = request_stream(exchange.number)
                stream.write(Content(number, exchange.request_bytes, exchange.header))
            else:
                stream.finish()
        except OSError as error:
            self._lose(command.channel, error)

    def _finish(self) -> None:
        self._is_done = True
        for exchange in self._client.under_way():
            self._rows.add(astuple(exchange))
        self._rows.tell()
        for text in self._client.failures[:1]:
            answer("failed", text=text)
            return
        answer("done", wrong=self._checker.wrong)

    # Connections.

    def _open(self, channel: int, slot: int) -> None:
        plan = self._plans[slot]
        sock = open_socket(plan)
        sock.setblocking(False)
        self._streams[channel] = Stream(self._waiting, sock, slot, self._progress)
        self._waiting.add(sock.fileno(), partial(self._serve, channel), writing=True)
        if slot not in self._begun_slots:
            self._begun_slots.add(slot)
            answer("opening", slot=slot)
        status = sock.connect_ex((in_family(plan.remote, plan.family), plan.port))
        if status not in (0, errno.EINPROGRESS):
            self._lose(channel, OSError(status, os.strerror(status)))

    def _serve(self, channel: int, events: int) -> None:
        stream = self._streams[channel]
        try:
            if not stream.is_established:
                self._establish(stream)
            if events & select.EPOLLOUT:
                stream.flush()
            if events & ~select.EPOLLOUT:
                self._read(channel, stream)
        except OSError as error:
            self._lose(channel, error)
        self._act()

    def _establish(self, stream: Stream) -> None:
        status = stream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, os.strerror(status))
        stream.is_established = True
        self._waiting.change(stream.sock.fileno(), writing=False)
        stream.flush()
        self._tell_connected(stream)

    def _tell_connected(self, stream: Stream) -> None:
        """Tell of a slot's first connection, once it has a peer: its SYN may have left just now."""
        if stream.slot in self._told_slots:
            return
        try:
            stream.sock.getpeername()
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            return
        self._told_slots.add(stream.slot)
        tell_connected(stream, self._plans[stream.slot].protocol)

    def _read(self, channel: int, stream: Stream) -> None:
        try:
            count = stream.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        if not count:
            self._end(channel, "")
            return
        self._tell_connected(stream)
        exchange = self._current.get(channel)
        if exchange is not None:
            number = response_stream(exchange.number)
            self._checker.check(number, exchange.received_bytes, self._buffer[:count])
        stream.note_read(count)
        self._client.received(channel, count, monotonic_ns())

    def _end(self, channel: int, why: str) -> None:
        stream = self._streams.pop(channel)
        self._waiting.remove(stream.sock.fileno())
        if self._keeps:
            self._kept.append(stream.sock)  # the kernel is asked what it did
        else:
            stream.sock.close()
        self._client.closed(channel, why)

    def _lose(self, channel: int, error: OSError) -> None:
        plan = self._plans[self._streams[channel].slot]
        where = f"{plan.local} and {plan.remote} port {plan.port}"
        self._end(channel, f"{where}: {error.strerror or error}")


def tell_connected(stream: Stream, protocol: str) -> None:
    """Tell the testbed of a connection that is there."""
    sock = stream.sock
    answer(
        "connected",
        slot=stream.slot,
        local=name_of(sock.getsockname()),
        remote=name_of(sock.getpeername()),
        protocol=protocol_in_use(sock, protocol),
        send_buffer_bytes=sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        receive_buffer_bytes=sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
    )


def main() -> None:
    """Run with the order given as JSON in the first argument; report any failure as an answer."""
    try:
        Asking(json.loads(sys.argv[1])).run()
    except (SocketError, OSError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
