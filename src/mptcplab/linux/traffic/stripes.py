"""One file over several connections, as GridFTP stripes it: whoever is free takes the next stripe.

The senders, one process for each connection, share a counter in a file.  On its connection each
stripe is preceded by its number and length, so that the receiver knows what belongs there.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
from pathlib import Path
from typing import Final

from mptcplab.linux.traffic.pattern import Pattern
from mptcplab.linux.traffic.worker import BYTES_SLOT, Orders, Progress, answer

_STRIPE_BYTES: Final = 1 << 20
_HEADER: Final = struct.Struct("!QQ")
_COUNTER: Final = struct.Struct("=q")


class Dispenser:
    """Hands out the numbers of stripes, each once, to whichever process asks."""

    def __init__(self, path: Path, size_bytes: int | None) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._map = mmap.mmap(self._descriptor, _COUNTER.size)
        self._size_bytes = size_bytes

    @staticmethod
    def create(path: Path) -> None:
        """Make the counter's file."""
        path.write_bytes(bytes(_COUNTER.size))

    def next(self) -> tuple[int, int] | None:
        """Return (position, length) of the next stripe, None when all are taken."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        try:
            (number,) = _COUNTER.unpack_from(self._map)
            position = number * _STRIPE_BYTES
            length = _STRIPE_BYTES
            if self._size_bytes is not None:
                length = min(length, self._size_bytes - position)
                if length <= 0:
                    return None
            _COUNTER.pack_into(self._map, 0, number + 1)
            return position, length
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def send_stripes(
    sock: socket.socket,
    pattern: Pattern,
    orders: Orders,
    progress: Progress,
    write_bytes: int,
    dispenser: Dispenser,
) -> int:
    """Send stripes until stopped or none is left; return the bytes of the file that were sent."""
    sent = 0
    stopped = orders.stop.is_set
    while not stopped():
        stripe = dispenser.next()
        if stripe is None:
            break
        position, length = stripe
        try:
            sock.sendall(_HEADER.pack(position, length))
            end = position + length
            while position < end and not stopped():
                count = sock.sendmsg(pattern.pieces(position, min(write_bytes, end - position)))
                position += count
                sent += count
                progress.slots[BYTES_SLOT] = sent
        except BrokenPipeError:
            if not stopped():
                raise
    return sent


def receive_stripes(
    sock: socket.socket, pattern: Pattern | None, progress: Progress
) -> tuple[int, str | None]:
    """Receive to the end; return (bytes of the file received, what was wrong or None)."""
    buffer = memoryview(bytearray(_STRIPE_BYTES))
    received = 0
    wrong: str | None = None
    while len(header := sock.recv(_HEADER.size, socket.MSG_WAITALL)) == _HEADER.size:
        position, length = _HEADER.unpack(header)
        while length > 0 and (count := sock.recv_into(buffer, min(length, len(buffer)))):
            if pattern is not None and wrong is None:
                wrong = pattern.wrong(position, buffer[:count])
                if wrong is not None:
                    answer("corrupt", text=wrong)
            position += count
            length -= count
            received += count
            progress.slots[BYTES_SLOT] = received
    return received, wrong
