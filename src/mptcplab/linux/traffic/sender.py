"""The sending process: ``python -m mptcplab.linux.traffic.sender '{...}'``.

Sends the pattern until told to stop or until its size is reached, then closes its half of the
connection, waits for the receiver's count to come back and for the order to close its sockets.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from mptcplab.linux.traffic.pattern import Pattern
from mptcplab.linux.traffic.sockets import (
    SocketError,
    SocketPlan,
    connect,
    name_of,
    open_socket,
    protocol_in_use,
)
from mptcplab.linux.traffic.stripes import Dispenser, send_stripes
from mptcplab.linux.traffic.worker import BYTES_SLOT, Orders, Pace, Progress, answer, fail

CONFIRMATION = struct.Struct("!Q")


def establish(opened: socket.socket, plan: SocketPlan, orders: Orders) -> socket.socket:
    """Report readiness, wait for "go", and return the connected socket.

    A listener must be kept open as long as the connection: joins to announced addresses find it.
    """
    answer("ready")
    sock = opened
    if plan.role == "listen":
        sock, _ = opened.accept()
    else:
        orders.go.wait()
        connect(sock, plan)
    answer(
        "connected",
        local=name_of(sock.getsockname()),
        remote=name_of(sock.getpeername()),
        protocol=protocol_in_use(sock, plan.protocol),
        send_buffer_bytes=sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        receive_buffer_bytes=sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
    )
    return sock


def send_all(
    sock: socket.socket,
    pattern: Pattern,
    orders: Orders,
    progress: Progress,
    write_bytes: int,
    size_bytes: int | None,
    rate_bps: int | None = None,
) -> int:
    """Send until stopped or ``size_bytes`` are sent; return how many bytes the socket took.

    With ``rate_bps`` one write after another, as fast as that.
    """
    position = 0
    pace = Pace(rate_bps, orders.stop)
    slots = progress.slots
    pieces, sendmsg = pattern.pieces, sock.sendmsg
    stopped = orders.stop.is_set
    while not stopped():
        count = write_bytes
        if size_bytes is not None and position + count > size_bytes:
            count = size_bytes - position
            if count == 0:
                break
        try:
            taken = sendmsg(pieces(position, count))
        except BrokenPipeError:
            if stopped():
                break
            raise
        position += taken
        slots[BYTES_SLOT] = position
        pace.wait(taken)
    return position


def run(order: dict[str, Any]) -> None:
    """Carry out one sender's whole life."""
    plan = SocketPlan.from_json(order["socket"])
    pattern, progress = Pattern(order["stream"]), Progress(Path(order["progress"]))
    write_bytes, size_bytes = order["write_bytes"], order["size_bytes"]
    stripes = order.get("stripes")
    dispenser = Dispenser(Path(stripes), size_bytes) if stripes else None
    orders = Orders()
    opened = open_socket(plan)
    sock = establish(opened, plan, orders)

    def finish() -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)  # wakes a send that waits for room

    orders.on_stop(finish)
    if dispenser is not None:
        sent = send_stripes(sock, pattern, orders, progress, write_bytes, dispenser)
    else:
        rate_bps = order.get("rate_bps")
        sent = send_all(sock, pattern, orders, progress, write_bytes, size_bytes, rate_bps)
    answer("sent", bytes=sent)
    finish()
    reply = sock.recv(CONFIRMATION.size, socket.MSG_WAITALL)
    confirmed = CONFIRMATION.unpack(reply)[0] if len(reply) == CONFIRMATION.size else None
    protocol = protocol_in_use(sock, plan.protocol)
    answer("done", bytes=sent, confirmed_bytes=confirmed, protocol=protocol)
    orders.close.wait()
    sock.close()
    opened.close()


def main() -> None:
    """Run with the order given as JSON in the first argument; report any failure as an answer."""
    try:
        run(json.loads(sys.argv[1]))
    except (SocketError, OSError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
