"""TAP devices with offload: frames of up to 64 KiB behind a virtio network header."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import Final

from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.netlink import NetlinkSocket

# include/uapi/linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_TUNSETOFFLOAD: Final = 0x400454D0
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_TUN_F_CSUM: Final = 0x01
_TUN_F_TSO4: Final = 0x02
_TUN_F_TSO6: Final = 0x04
_TUN_F_TSO_ECN: Final = 0x08
_TUN_F_USO4: Final = 0x20
_TUN_F_USO6: Final = 0x40

_TCP_OFFLOADS: Final = _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6 | _TUN_F_TSO_ECN
_UDP_OFFLOADS: Final = _TUN_F_USO4 | _TUN_F_USO6

_NAME_BYTES: Final = 16  # IFNAMSIZ

_QUEUE_FRAMES: Final = 10_000
"""What the device holds for the emulator to read. It is to hold all that comes while the emulator
does not run, for the queue that drops is the model's: 100 ms of single packets at 1 Gb/s."""


def open_tap(name: str, *, offload: bool = True) -> int:
    """Create the TAP device `name` in the calling thread's network namespace.

    Returns its file descriptor. The device goes with its namespace, not with the descriptor: the
    kernel then removes all devices of a lab together, where each on its own would take some 20 ms.
    UDP segmentation offload is used where the kernel has it (6.2 and later). Without `offload`
    every frame that is read is one packet; what is written may still be more.

    Raises `OSError` (with the device's name): no permission, no /dev/net/tun, or name in use.
    """
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        request = struct.pack(f"{_NAME_BYTES}sH22x", name.encode(), flags)
        fcntl.ioctl(fd, _TUNSETIFF, request)
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
        if offload:
            _offload_segmentation(fd)
        else:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, _TUN_F_CSUM)
        _lengthen_queue(name)
    except OSError as error:
        os.close(fd)
        raise OSError(error.errno, f"TAP device {name}: {error.strerror}") from error
    return fd


def _offload_segmentation(fd: int) -> None:
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _TCP_OFFLOADS | _UDP_OFFLOADS)
    except OSError:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _TCP_OFFLOADS)


def _lengthen_queue(name: str) -> None:
    """Set its txqueuelen; by netlink, because the ioctl is for the machine's own root alone."""
    with NetlinkSocket() as routing:
        routing.request(rtnl.set_link(socket.if_nametoindex(name), queue_frames=_QUEUE_FRAMES))
