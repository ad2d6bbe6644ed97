"""When frames really reached a TAP device.

The emulator reads a frame some time after the kernel queued it: after 10 us when the CPU is awake,
after 100 us and more when it has to be woken, after milliseconds when a hypervisor gave it to
someone else. Were that the time of arrival, it would add to the link's delay. So a packet socket
watches each device: the kernel notes the time of every frame that the device is given in a ring
that we share (packet(7), TPACKET_V2), and the frames that we read are matched with these notes.
A link whose delay is longer than the wake-up then hides the wake-up entirely.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import socket
import struct
from time import monotonic_ns, time_ns
from typing import Final

from mptcplab.network.topology import VLAN_TAG_BYTES

# include/uapi/linux/if_tun.h, if_packet.h, filter.h, asm-generic/socket.h
_TUNGETIFF: Final = 0x800454D2
_TUNGETDEVNETNS: Final = 0x54E3
_SOL_PACKET: Final = 263
_PACKET_RX_RING: Final = 5
_PACKET_VERSION: Final = 10
_TPACKET_V2: Final = 1
_ETH_P_ALL: Final = 3
_SO_ATTACH_FILTER: Final = 26
_CLONE_NEWNET: Final = 0x4000_0000

_SLOT_BYTES: Final = 128  # a note without any of the frame needs 68
_BLOCK_BYTES: Final = 65_536
_BLOCKS: Final = 16
_SLOTS: Final = _BLOCKS * _BLOCK_BYTES // _SLOT_BYTES
_NOTE: Final = struct.Struct("=IIIHHII")  # status, length, captured, mac, net, s, ns
_STATUS: Final = struct.Struct("=I")
_READY: Final = 1  # TP_STATUS_USER

# One byte of what the device sends, nothing of what it receives: load the packet's type
# (SKF_AD_OFF + SKF_AD_PKTTYPE), and compare it with PACKET_OUTGOING.
_FILTER: Final = struct.pack(
    "=HBBIHBBIHBBIHBBI",
    *(0x28, 0, 0, 0xFFFF_F004),
    *(0x15, 0, 1, 4),
    *(0x06, 0, 0, 1),
    *(0x06, 0, 0, 0),
)


class ArrivalClock:
    """The times at which frames reached one TAP device, oldest first."""

    __slots__ = ("_offset_ns", "_ring", "_slot", "_socket")

    def __init__(self, tap: int) -> None:
        """Watch the device behind a descriptor of `open_tap`.

        Moves the calling thread into the device's network namespace, so it is for a process that
        is in none in particular. Raises `OSError` where the kernel or its privileges do not allow
        it; the emulator then does without.
        """
        request = fcntl.ioctl(tap, _TUNGETIFF, bytes(40))
        name = request[:16].rstrip(b"\0").decode()
        namespace = fcntl.ioctl(tap, _TUNGETDEVNETNS)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            if libc.setns(namespace, _CLONE_NEWNET):
                error = ctypes.get_errno()
                raise OSError(error, f"namespace of {name}: {os.strerror(error)}")
        finally:
            os.close(namespace)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        program = ctypes.create_string_buffer(_FILTER, len(_FILTER))
        self._socket.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("@HP", len(_FILTER) // 8, ctypes.addressof(program)),
        )
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        sizes = struct.pack("=IIII", _BLOCK_BYTES, _BLOCKS, _SLOT_BYTES, _SLOTS)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, sizes)
        self._ring = mmap.mmap(self._socket.fileno(), _BLOCK_BYTES * _BLOCKS)
        self._socket.bind((name, _ETH_P_ALL))
        self._slot = 0
        self._offset_ns = 0
        self.begin()

    def begin(self) -> None:
        """Compare the clocks; the notes are in real time, which somebody may set."""
        self._offset_ns = time_ns() - monotonic_ns()

    def arrival_ns(self, frame_bytes: int, now_ns: int) -> int:
        """When the frame of this length that was read just now had arrived (monotonic clock).

        Notes of other lengths are of frames that were lost before they could be read. Without a
        note, it arrived now.
        """
        ring = self._ring
        while True:
            at = self._slot * _SLOT_BYTES
            status, length, _, _, _, seconds, nanoseconds = _NOTE.unpack_from(ring, at)
            if not status & _READY:
                return now_ns
            _STATUS.pack_into(ring, at, 0)
            self._slot = (self._slot + 1) % _SLOTS
            # the kernel keeps a VLAN tag outside the frame until it is read
            if length in (frame_bytes, frame_bytes - VLAN_TAG_BYTES):
                noted_ns: int = seconds * 1_000_000_000 + nanoseconds - self._offset_ns
                return min(noted_ns, now_ns)

    def forget(self, before_ns: int) -> None:
        """Pass over the notes made before a time when no frame was left to read."""
        ring = self._ring
        while True:
            at = self._slot * _SLOT_BYTES
            status, _, _, _, _, seconds, nanoseconds = _NOTE.unpack_from(ring, at)
            if not status & _READY:
                return
            if seconds * 1_000_000_000 + nanoseconds - self._offset_ns >= before_ns:
                return
            _STATUS.pack_into(ring, at, 0)
            self._slot = (self._slot + 1) % _SLOTS


def arrival_clock(tap: int) -> ArrivalClock | None:
    """The clock of a device, or None where there can be none."""
    try:
        return ArrivalClock(tap)
    except OSError:
        return None
