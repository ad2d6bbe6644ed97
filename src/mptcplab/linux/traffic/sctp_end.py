"""One end of an SCTP association: ``python -m mptcplab.linux.traffic.sctp_end ROLE '{...}'``.

ROLE is "sender" or "receiver".  The pattern travels as messages of one ordered stream.  SCTP has no
half-closed state (RFC 9260 section 9): the sender ends with a message that says how much it was,
and the receiver answers with how much came.  What the library says of paths is passed on.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mptcplab.linux.traffic.pattern import BLOCK_BYTES, Pattern
from mptcplab.linux.traffic.usrsctp import Association, Library, Message, SctpError
from mptcplab.linux.traffic.worker import BYTES_SLOT, Orders, Pace, Progress, answer, fail

_DATA: Final = 0  # payload protocol identifiers (RFC 9260 section 3.3.1); 0: none in particular
_END: Final = 1
_COUNT: Final = struct.Struct("!Q")
_READ_BYTES: Final = 4 * BLOCK_BYTES


def main() -> None:
    """Run with role and order as arguments; report any failure as an answer."""
    role, text = sys.argv[1:]
    order = json.loads(text)
    try:
        (_send if role == "sender" else _receive)(order)
    except (SctpError, OSError) as error:
        fail(str(error))


def _establish(order: dict[str, Any], orders: Orders) -> tuple[Association, Association]:
    """Return the association when it is up, and the socket that it came from."""
    library = Library()
    library.start(order["udp_port"], order["settings"])
    opened = Association(library)
    opened.prepare(order["locals"], order["port"], order["udp_port"], order["mtu"])
    remotes, port = order["remotes"], order["port"]
    answer("ready")
    if order["role"] == "listen":
        association = opened.listen()
    else:
        orders.go.wait()
        opened.connect(remotes, port)
        association = opened
    answer(
        "connected",
        local=f"{order['locals'][0]}:{port}",
        remote=f"{remotes[0]}:{port}",
        protocol="sctp",
        send_buffer_bytes=order["settings"]["sctp_sendspace"],
        receive_buffer_bytes=order["settings"]["sctp_recvspace"],
    )
    return association, opened


def _messages(
    association: Association, buffer: ctypes.Array[ctypes.c_char], links: dict[str, str]
) -> Iterator[Message]:
    """Yield what comes with bytes in it, and pass on what is said of paths.

    ``links`` has the link of each of the peer's addresses.  SctpError where the association is
    lost.
    """
    while True:
        message = association.receive(buffer)
        if message.path:
            link = links[message.path]
            answer("path", remote=message.path, link=link, state=message.state)
        elif message.lost:
            raise SctpError(message.lost)
        elif message.size_bytes:
            yield message
        elif message.protocol >= 0:  # the end, not a notification that says nothing
            return


def _send(order: dict[str, Any]) -> None:
    """Carry out one sender's whole life."""
    pattern, progress = Pattern(order["stream"]), Progress(Path(order["progress"]))
    size_bytes, write_bytes = order["size_bytes"], order["write_bytes"]
    orders = Orders()
    association, _ = _establish(order, orders)
    confirmed: list[int] = []
    listening = threading.Thread(
        target=_await_count, args=(association, order, confirmed), daemon=True
    )
    listening.start()
    pace = Pace(order["rate_bps"], orders.stop)
    position = 0
    while not orders.stop.is_set():
        count = write_bytes if size_bytes is None else min(write_bytes, size_bytes - position)
        if count == 0:
            break
        association.send(b"".join(pattern.pieces(position, count)), _DATA)
        position += count
        progress.slots[BYTES_SLOT] = position
        pace.wait(count)
    answer("sent", bytes=position)
    association.send(_COUNT.pack(position), _END)
    listening.join()
    answer("done", bytes=position, confirmed_bytes=confirmed[0], protocol="sctp")
    orders.close.wait()
    association.close()


def _await_count(association: Association, order: dict[str, Any], confirmed: list[int]) -> None:
    """Read, on a thread of its own, what the receiver has counted; ends the process on failure."""
    buffer = ctypes.create_string_buffer(_READ_BYTES)
    try:
        for message in _messages(association, buffer, order["links"]):
            confirmed += _COUNT.unpack(buffer.raw[: message.size_bytes])
            return
    except SctpError as error:
        fail(str(error))
    fail("the receiver ended the association before it confirmed what had come")


def _receive(order: dict[str, Any]) -> None:
    """Carry out one receiver's whole life."""
    pattern = Pattern(order["stream"]) if order["verify"] else None
    progress = Progress(Path(order["progress"]))
    orders = Orders()
    association, opened = _establish(order, orders)
    buffer = ctypes.create_string_buffer(_READ_BYTES)
    view = memoryview(buffer).cast("B")
    pace = Pace(order["rate_bps"], orders.stop)
    position, wrong = 0, None
    for message in _messages(association, buffer, order["links"]):
        count = message.size_bytes
        if message.protocol == _END:
            break
        if pattern is not None and wrong is None:
            wrong = pattern.wrong(position, view[:count])
            if wrong is not None:
                answer("corrupt", text=wrong)
        position += count
        progress.slots[BYTES_SLOT] = position
        pace.wait(count)
    else:
        fail("the sender ended the association before it said that all was sent")
    association.send(_COUNT.pack(position), _END)
    answer("done", bytes=position, wrong=wrong, protocol="sctp")
    orders.close.wait()
    association.close()
    opened.close()


if __name__ == "__main__":
    main()
