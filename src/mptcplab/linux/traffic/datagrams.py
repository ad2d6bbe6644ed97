"""Both ends of UDP traffic: ``python -m mptcplab.linux.traffic.datagrams ROLE '{...}'``.

The sender tells the testbed of each datagram when it was due, the receiver when it came; both read
the one clock of the machine.  The receiver is done when all has come that was sent, or some time
after it was told how much that is.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import socket
import sys
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final

from mptcplab.applications.exchange import HEADER_BYTES, Header, request_stream
from mptcplab.applications.messages import MessageSource
from mptcplab.linux.traffic.conversing import Checker, Content, OrderReader, Rows, Waiting
from mptcplab.linux.traffic.sockets import SocketError, SocketPlan, name_of, open_datagram_socket
from mptcplab.linux.traffic.worker import Progress, answer, fail

_LAST_ARRIVALS_NS: Final = 2_000_000_000
_LONGEST_BYTES: Final = 1 << 16


class Sender:
    """Sends each datagram when it is due; those that the socket does not take are lost."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._sock = open_datagram_socket(SocketPlan.from_json(order["sockets"][0]))
        self._sock.setblocking(False)
        self._progress = Progress(Path(order["progress"]))
        self._workload = pickle.loads(bytes.fromhex(order["workload"]))  # noqa: S301 - the testbed's
        self._source: MessageSource | None = None
        self._number = 0
        self._is_over = False
        self._rows = Rows("messages")
        self._waiting = Waiting()
        OrderReader(self._waiting, self._obey)

    def run(self) -> None:
        """Serve until the order to close."""
        answer("ready")
        self._waiting.run(self._next_wake_ns, self._send)

    def _next_wake_ns(self) -> int | None:
        return None if self._source is None or self._is_over else self._source.due_ns

    def _obey(self, order: str) -> None:
        if order == "go":
            tell_connected(self._sock, self._order["sockets"][0]["remote"])
            flow, seed = self._order["flow"], self._order["seed"]
            self._source = MessageSource(self._workload, seed, flow, 0, monotonic_ns())
        elif order == "stop":
            self._finish()
        elif order == "close":
            self._waiting.is_over = True

    def _send(self) -> None:
        assert self._source is not None
        datagram = self._source.next(self._number, 0)
        self._number += 1
        content = Content(request_stream(datagram.number), datagram.request_bytes, datagram.header)
        pieces, position = [], 0
        while position < datagram.request_bytes:
            more = content.pieces(position)
            position += sum(len(piece) for piece in more)
            pieces += more
        with contextlib.suppress(OSError):  # a full queue or no way there: the datagram is lost
            self._sock.sendmsg(pieces)
        self._progress.slots[0] += datagram.request_bytes
        self._rows.add((datagram.number, datagram.start_ns, datagram.request_bytes))
        if self._number == self._workload.count:
            self._finish()

    def _finish(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._rows.tell()
            answer("done", sent=self._number, wrong=None)


class Receiver:
    """Notes and checks what comes."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._sock = open_datagram_socket(SocketPlan.from_json(order["sockets"][0]))
        self._sock.setblocking(False)
        self._remote = order["sockets"][0]["remote"]
        self._progress = Progress(Path(order["progress"]))
        self._checker = Checker(verify=order["verify"])
        self._buffer = memoryview(bytearray(_LONGEST_BYTES))
        self._seen: set[int] = set()
        self._sent: int | None = None
        self._until_ns: int | None = None
        self._is_done = False
        self._rows = Rows("arrivals")
        self._waiting = Waiting()
        self._waiting.add(self._sock.fileno(), self._read, writing=False)
        OrderReader(self._waiting, self._obey)

    def run(self) -> None:
        """Serve until the order to close."""
        answer("ready")
        self._waiting.run(lambda: None if self._is_done else self._until_ns, self._finish)

    def _obey(self, order: str) -> None:
        if order.startswith("stop"):
            self._sent = int(order.partition(" ")[2])
            self._until_ns = monotonic_ns() + _LAST_ARRIVALS_NS
            self._finish_if_all()
        elif order == "close":
            self._waiting.is_over = True

    def _read(self, _events: int) -> None:
        while True:
            try:
                count, _, _, _ = self._sock.recvmsg_into([self._buffer])
            except (BlockingIOError, ConnectionRefusedError):
                break
            now_ns = monotonic_ns()
            if count < HEADER_BYTES:
                continue
            header = Header.from_bytes(bytes(self._buffer[:HEADER_BYTES]))
            if not self._seen:
                tell_connected(self._sock, self._remote)
            stream = request_stream(header.number)
            self._checker.check(stream, HEADER_BYTES, self._buffer[HEADER_BYTES:count])
            if header.number not in self._seen:
                self._seen.add(header.number)
                self._rows.add((header.number, now_ns))
                self._progress.slots[1] += count
        self._finish_if_all()

    def _finish_if_all(self) -> None:
        if self._sent is not None and len(self._seen) >= self._sent:
            self._finish()

    def _finish(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._rows.tell()
            answer("done", wrong=self._checker.wrong)


def tell_connected(sock: socket.socket, remote: str) -> None:
    """Tell the testbed that datagrams flow."""
    answer(
        "connected",
        slot=0,
        local=name_of(sock.getsockname()),
        remote=remote,
        protocol="udp",
        send_buffer_bytes=sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        receive_buffer_bytes=sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
    )


def main() -> None:
    """Run with role and order as arguments; report any failure as an answer."""
    role, order = sys.argv[1:]
    try:
        (Sender if role == "sender" else Receiver)(json.loads(order)).run()
    except (SocketError, OSError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
