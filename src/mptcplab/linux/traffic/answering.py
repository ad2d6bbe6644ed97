"""The process that answers: ``python -m mptcplab.linux.traffic.answering '{...}'``.

It reads requests, which say themselves what response they want, checks what they hold and answers
each in turn; a message that wants none is noted with the time at which it was whole.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from functools import partial
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final

from mptcplab.applications.answering import RequestReader
from mptcplab.applications.exchange import response_stream
from mptcplab.linux.traffic.asking import tell_connected
from mptcplab.linux.traffic.conversing import (
    READ_BYTES,
    Checker,
    Content,
    OrderReader,
    Rows,
    Stream,
    Waiting,
)
from mptcplab.linux.traffic.sockets import SocketError, SocketPlan, is_half_open, open_socket
from mptcplab.linux.traffic.worker import Progress, answer, fail

_LOOK_NS: Final = 500_000


class Answering:
    """A flow's server at work."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._plans = [SocketPlan.from_json(plan) for plan in order["sockets"]]
        self._progress = Progress(Path(order["progress"]))
        self._keeps = order["keeps"]
        self._checker = Checker(verify=order["verify"])
        self._waiting = Waiting()
        self._open: set[Stream] = set()
        self._kept: list[socket.socket] = []
        self._told_slots: set[int] = set()
        self._rows = Rows("arrivals")
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._half_open: list[tuple[Stream, RequestReader]] = []
        """Those of MPTCP that a SYN's cookie has opened before the handshake is done."""
        self._look_ns: int | None = None
        self._stopped = self._is_done = False
        OrderReader(self._waiting, self._obey)

    def run(self) -> None:
        """Serve until the order to close."""
        for slot, plan in enumerate(self._plans):
            listener = open_socket(plan)
            listener.setblocking(False)
            self._kept.append(listener)  # joins to announced addresses find it
            accept = partial(self._accept, slot, plan.protocol, listener)
            self._waiting.add(listener.fileno(), accept, writing=False)
        answer("ready")
        self._waiting.run(lambda: self._look_ns, self._look_at_half_open)

    def _hold(self, stream: Stream, reader: RequestReader) -> None:
        stream.is_established = False
        self._half_open.append((stream, reader))
        self._look_ns = monotonic_ns() + _LOOK_NS

    def _look_at_half_open(self) -> None:
        """Answer on connections whose handshake is done by now.

        What is written to an MPTCP socket before is not pushed when it is (Linux 6.18): a subflow
        in SYN-RECEIVED is given no data (__mptcp_subflow_active), and nobody looks again.
        """
        waiting, self._half_open, self._look_ns = self._half_open, [], None
        for stream, reader in waiting:
            if stream not in self._open:
                continue
            if is_half_open(stream.sock):
                self._hold(stream, reader)
            else:
                stream.is_established = True
                self._serve(stream, reader, select.EPOLLOUT)

    def _obey(self, order: str) -> None:
        if order == "stop":  # the client has ended, and every connection with it
            self._stopped = True
            self._finish_if_over()
        elif order == "close":
            self._waiting.is_over = True

    def _accept(self, slot: int, protocol: str, listener: socket.socket, _events: int) -> None:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        stream = Stream(self._waiting, sock, slot, self._progress)
        stream.is_established = True
        reader = RequestReader(self._checker.check)
        if protocol == "mptcp" and is_half_open(sock):
            self._hold(stream, reader)
        self._open.add(stream)
        self._waiting.add(sock.fileno(), partial(self._serve, stream, reader), writing=False)
        if slot not in self._told_slots:
            self._told_slots.add(slot)
            tell_connected(stream, protocol)

    def _serve(self, stream: Stream, reader: RequestReader, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                stream.flush()
            if events & ~select.EPOLLOUT:
                self._read(stream, reader)
            if stream.is_finished:
                self._close(stream)
        except ValueError as error:
            self._checker.wrong = self._checker.wrong or str(error)
            answer("corrupt", text=f"a request's header is wrong: {error}")
            self._close(stream)
        except OSError as error:
            answer("failed", text=f"{error.strerror or error}")
            self._close(stream)

    def _read(self, stream: Stream, reader: RequestReader) -> None:
        try:
            count = stream.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        if not count:
            stream.finish()
            return
        stream.note_read(count)
        for request in reader.feed(self._buffer[:count]):
            if request.response_bytes:
                number = response_stream(request.number)
                stream.write(Content(number, request.response_bytes))
            else:
                self._rows.add((request.number, monotonic_ns()))

    def _close(self, stream: Stream) -> None:
        self._open.discard(stream)
        self._waiting.remove(stream.sock.fileno())
        if self._keeps:
            self._kept.append(stream.sock)
        else:
            stream.sock.close()
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        if self._stopped and not self._open and not self._is_done:
            self._is_done = True
            self._rows.tell()
            answer("done", wrong=self._checker.wrong)


def main() -> None:
    """Run with the order given as JSON in the first argument; report any failure as an answer."""
    try:
        Answering(json.loads(sys.argv[1])).run()
    except (SocketError, OSError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
