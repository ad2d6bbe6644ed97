"""The receiving process: ``python -m mptcplab.linux.traffic.receiver '{...}'``.

Checks every byte against the pattern as it arrives, unless the order says not to.  At the end of
the stream it sends its count back on the connection, and waits for the order to close its sockets.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any, Final

from mptcplab.linux.traffic.pattern import BLOCK_BYTES, Pattern
from mptcplab.linux.traffic.sender import CONFIRMATION, establish
from mptcplab.linux.traffic.sockets import SocketError, SocketPlan, open_socket, protocol_in_use
from mptcplab.linux.traffic.stripes import receive_stripes
from mptcplab.linux.traffic.worker import BYTES_SLOT, Orders, Pace, Progress, answer, fail

_READ_BYTES: Final = 8 * BLOCK_BYTES


def receive_all(
    sock: socket.socket,
    pattern: Pattern | None,
    progress: Progress,
    pace: Pace,
    read_bytes: int = _READ_BYTES,
) -> tuple[int, str | None]:
    """Receive to the end of the stream; return (bytes received, what was wrong or None).

    Without a pattern nothing is checked.  After the first wrong byte the rest is only counted.
    """
    buffer = memoryview(bytearray(read_bytes))
    slots = progress.slots
    recv_into = sock.recv_into
    position = 0
    wrong: str | None = None
    while count := recv_into(buffer):
        if pattern is not None and wrong is None:
            wrong = pattern.wrong(position, buffer[:count])
            if wrong is not None:
                answer("corrupt", text=wrong)
        position += count
        slots[BYTES_SLOT] = position
        pace.wait(count)
    return position, wrong


def run(order: dict[str, Any]) -> None:
    """Carry out one receiver's whole life."""
    plan = SocketPlan.from_json(order["socket"])
    pattern = Pattern(order["stream"]) if order["verify"] else None
    progress = Progress(Path(order["progress"]))
    orders = Orders()
    opened = open_socket(plan)
    sock = establish(opened, plan, orders)
    if order.get("stripes"):
        received, wrong = receive_stripes(sock, pattern, progress)
    else:
        rate_bps = order.get("rate_bps")
        read_bytes = _READ_BYTES if rate_bps is None else order["read_bytes"]
        pace = Pace(rate_bps, orders.stop)
        received, wrong = receive_all(sock, pattern, progress, pace, read_bytes)
    sock.sendall(CONFIRMATION.pack(received))
    protocol = protocol_in_use(sock, plan.protocol)
    answer("done", bytes=received, wrong=wrong, protocol=protocol)
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
