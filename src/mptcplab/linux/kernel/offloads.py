"""Segmentation and receive offload of interfaces, switched as ``ethtool -K`` does.

Requests and numbers: include/uapi/linux/ethtool.h, sockios.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterable
from typing import Final

_SIOCETHTOOL: Final = 0x8946
_VALUE: Final = struct.Struct("=II")  # struct ethtool_value: command, data
_REQUEST: Final = struct.Struct("@16sP16x")  # struct ifreq: name, ifr_data

_READ: Final = {"TSO": 0x1E, "GSO": 0x23, "GRO": 0x2B}  # ETHTOOL_GTSO, _GGSO, _GGRO
_WRITE: Final = {"TSO": 0x1F, "GSO": 0x24, "GRO": 0x2C}

OFFLOADS: Final = tuple(_READ)
SEGMENTATION: Final = ("TSO", "GSO")
RECEIVE: Final = "GRO"


def switch(interfaces: Iterable[str], offloads: Iterable[str], *, on: bool) -> None:
    """Switch offloads of interfaces of the present network namespace on or off.

    OSError, with interface and offload, where the kernel refuses.
    """
    wanted, word = tuple(offloads), "on" if on else "off"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for interface in interfaces:
            for offload in wanted:
                try:
                    _ask(control, interface, _WRITE[offload], int(on))
                except OSError as error:
                    text = f"switch {offload} of {interface} {word}: {error.strerror}"
                    raise OSError(error.errno, text) from error


def switched_on(interface: str) -> list[str]:
    """Return which of the offloads an interface of the present network namespace has on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return [name for name in OFFLOADS if _ask(control, interface, _READ[name], 0)]


def _ask(control: socket.socket, interface: str, command: int, data: int) -> int:
    value = ctypes.create_string_buffer(_VALUE.pack(command, data), _VALUE.size)
    request = _REQUEST.pack(interface.encode(), ctypes.addressof(value))
    fcntl.ioctl(control, _SIOCETHTOOL, request)
    answer: int = _VALUE.unpack(value.raw)[1]
    return answer
