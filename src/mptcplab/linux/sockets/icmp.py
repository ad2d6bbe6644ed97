"""ICMP errors about the segments of a host whose TCP is ours, where the kernel has its addresses.

Raw sockets get a copy of what the kernel receives (raw(7), icmp(7)); filters leave errors alone.
They need CAP_NET_RAW in the network namespace of the thread that makes them.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from mptcplab.wire import icmp
from mptcplab.wire.error import WireError
from mptcplab.wire.ip import IPV4_HEADER_BYTES

_SOL_RAW: Final = 255
_ICMP_FILTER: Final = 1
_ICMPV6_FILTER: Final = 1
_ERRORS: Final = (icmp.UNREACHABLE, icmp.TIME_EXCEEDED, icmp.PARAMETER_PROBLEM)
_V6_ERRORS: Final = (
    icmp.V6_UNREACHABLE,
    icmp.V6_TOO_BIG,
    icmp.V6_TIME_EXCEEDED,
    icmp.V6_PARAMETER_PROBLEM,
)
_MESSAGE_BYTES: Final = 2048
"""More than any error: hosts send 1280 bytes of it at most."""


class ErrorSocket:
    """Receives the ICMP errors (``version`` 4) or ICMPv6 errors (6) of a network namespace.

    Raises ``OSError`` where it cannot be made.
    """

    def __init__(self, version: int) -> None:
        self._version = version
        if version == 4:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            blocked = 0xFFFF_FFFF & ~sum(1 << kind for kind in _ERRORS)
            self._socket.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", blocked))
        else:
            self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            blocked = (1 << 256) - 1 - sum(1 << kind for kind in _V6_ERRORS)
            words = [blocked >> (32 * place) & 0xFFFF_FFFF for place in range(8)]
            option = struct.pack("=8I", *words)
            self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, option)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """A descriptor that is readable when an error waits."""
        return self._socket.fileno()

    def close(self) -> None:
        """Receive no more."""
        self._socket.close()

    def read_errors(self) -> list[icmp.IcmpError]:
        """Return the errors about TCP segments that wait; others are left out."""
        errors: list[icmp.IcmpError] = []
        while True:
            try:
                message = self._socket.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return errors
            error = decoded(message, self._version)
            if error is not None:
                errors.append(error)


def decoded(message: bytes, version: int) -> icmp.IcmpError | None:
    """Read what a raw socket received: with the IP header in IPv4, without in IPv6."""
    if version == 4:
        if len(message) < IPV4_HEADER_BYTES:
            return None
        message = message[(message[0] & 0xF) << 2 :]
    try:
        return icmp.decode_icmp_error(message, version)
    except WireError:
        return None
