"""Round trip times to the far side of a link, by ICMP echo bound to the link's interface.

What is measured is the path as any packet finds it: both directions' delay, serialisation, and the
queue of the link at that moment.  The kernel answers at the far end, and stamps the
arrival here, so a prober that is itself late does not make the time longer.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from ipaddress import ip_address
from typing import Final

_ECHO_REQUEST: Final = {4: 8, 6: 128}  # RFC 792, RFC 4443
_ECHO_REPLY: Final = {4: 0, 6: 129}
_SO_TIMESTAMPNS: Final = 35  # include/uapi/asm-generic/socket.h
_HEADER: Final = struct.Struct("!BBHHH")
_PAYLOAD: Final = struct.Struct("=Qq")  # nonce, time sent
_TIMESPEC: Final = struct.Struct("=qq")
_ANCILLARY_BYTES: Final = 64
ECHO_BYTES: Final = _HEADER.size + _PAYLOAD.size
"""The length of an echo, without its IP header."""


class RttProber:
    """Sends echoes from one interface to one address; create it in the interface's namespace.

    Without a ``local`` address the kernel chooses one.  PermissionError without CAP_NET_RAW.
    """

    def __init__(self, interface: str, local: str, remote: str) -> None:
        self.interface = interface
        self.remote = remote
        version = ip_address(remote).version
        self._version = version
        family, protocol = (
            (socket.AF_INET, socket.IPPROTO_ICMP)
            if version == 4
            else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        )
        self._socket = socket.socket(
            family, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
        )
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0"
        )
        if local:
            self._socket.bind((local, 0))
        self._nonce = 0
        self._sequence = 0
        self.begin()

    def fileno(self) -> int:
        """The socket's descriptor, readable when an answer is there."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def begin(self) -> None:
        """Take no answers to echoes sent so far."""
        self._nonce = int.from_bytes(os.urandom(8), "big")

    def send(self) -> bool:
        """Send one echo; False where the interface is down or has no route."""
        self._sequence = self._sequence + 1 & 0xFFFF
        payload = _PAYLOAD.pack(self._nonce, time.clock_gettime_ns(time.CLOCK_REALTIME))
        header = _HEADER.pack(_ECHO_REQUEST[self._version], 0, 0, 1, self._sequence)
        if self._version == 4:  # for IPv6 the kernel fills the checksum in (RFC 3542 section 3.1)
            checksum = internet_checksum(header + payload)
            header = _HEADER.pack(_ECHO_REQUEST[4], 0, checksum, 1, self._sequence)
        try:
            self._socket.sendto(header + payload, (self.remote, 0))
        except OSError:
            return False
        return True

    def collect(self) -> list[int]:
        """Return the round trips (ns) of the answers that have arrived since the last call."""
        rtts_ns: list[int] = []
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(512, _ANCILLARY_BYTES)
            except OSError:
                return rtts_ns  # nothing more, or the interface went down
            offset = (data[0] & 15) * 4 if self._version == 4 else 0
            if len(data) < offset + _HEADER.size + _PAYLOAD.size:
                continue
            kind = data[offset]
            nonce, sent_ns = _PAYLOAD.unpack_from(data, offset + _HEADER.size)
            if kind == _ECHO_REPLY[self._version] and nonce == self._nonce:
                rtts_ns.append(_arrival_ns(ancillary) - sent_ns)


def internet_checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071 over an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _arrival_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            arrived_ns: int = seconds * 1_000_000_000 + nanoseconds
            return arrived_ns
    return time.clock_gettime_ns(time.CLOCK_REALTIME)
