"""The subflows of an own MPTCP socket, which the kernel tells whoever holds it (Linux 5.16)."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from mptcplab.linux.probes.diag import STATES, address_text

# include/uapi/linux/mptcp.h
_SOL_MPTCP: Final = 284
_MPTCP_TCPINFO: Final = 2
_MPTCP_SUBFLOW_ADDRS: Final = 3
_HEADER: Final = struct.Struct("=IIII")  # struct mptcp_subflow_data
_ADDRESS_BYTES: Final = 128  # struct __kernel_sockaddr_storage
_STATE_BYTES: Final = 8  # of struct tcp_info, whose first byte is the state
_MOST: Final = 64
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class OwnSubflow:
    """A subflow; ``state`` is by the names of RFC 9293 section 3.3.2."""

    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    state: str


def own_subflows(connection: socket.socket) -> list[OwnSubflow]:
    """Return the subflows of an MPTCP socket; OSError where it has fallen back, or is none."""
    for _ in range(_ATTEMPTS):
        before = _ask(connection, _MPTCP_SUBFLOW_ADDRS, 2 * _ADDRESS_BYTES)
        states = _ask(connection, _MPTCP_TCPINFO, _STATE_BYTES)
        if before == _ask(connection, _MPTCP_SUBFLOW_ADDRS, 2 * _ADDRESS_BYTES):
            break  # none came or went between the two
    return [
        OwnSubflow(
            *_socket_name(addresses),
            *_socket_name(addresses[_ADDRESS_BYTES:]),
            STATES.get(state[0], str(state[0])),
        )
        for addresses, state in zip(before, states, strict=False)
    ]


def _ask(connection: socket.socket, option: int, size: int) -> list[bytes]:
    """Return what the kernel says of each subflow: getsockopt with a header that it reads."""
    buffer = ctypes.create_string_buffer(_HEADER.size + _MOST * size)
    _HEADER.pack_into(buffer, 0, _HEADER.size, 0, 0, size)
    length = ctypes.c_uint32(len(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    where = connection.fileno(), _SOL_MPTCP, option, buffer, ctypes.byref(length)
    if libc.getsockopt(*where) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"read the subflows of a connection: {os.strerror(code)}")
    _, count, _, _ = _HEADER.unpack_from(buffer)
    start = _HEADER.size
    return [buffer.raw[start + n * size : start + (n + 1) * size] for n in range(min(count, _MOST))]


def _socket_name(data: bytes) -> tuple[str, int]:
    """Return address and port in a struct sockaddr_in or sockaddr_in6."""
    (family,) = struct.unpack_from("=H", data)
    (port,) = struct.unpack_from("!H", data, 2)
    start = 8 if family == socket.AF_INET6 else 4
    return address_text(family, data[start : start + 16]), port
