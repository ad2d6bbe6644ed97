"""TUN devices that carry GSO-sized segments: the virtio header, checksum and TSO offload.

Layouts and constants: include/uapi/linux/if_tun.h and virtio_net.h. A device is created in
the network namespace of the calling thread and vanishes with its descriptor; it keeps working from
anywhere. What the kernel routes into it we read, what we write the kernel receives.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from abc import ABC, abstractmethod
from typing import Final

from mptcplab.wire.error import WireError
from mptcplab.wire.icmp import (
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    IcmpError,
    decode_icmp_error,
)
from mptcplab.wire.ip import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, PROTOCOL_TCP
from mptcplab.wire.packet import decode_packet, encode_headers
from mptcplab.wire.segment import CWR, Segment
from mptcplab.wire.tcp import CHECKSUM_OFFSET

_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNSETVNETHDRSZ: Final = 0x400454D8

_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000

_TUN_F_CSUM: Final = 0x01
_TUN_F_TSO4: Final = 0x02
_TUN_F_TSO6: Final = 0x04
_TUN_F_TSO_ECN: Final = 0x08

_IFNAMSIZ: Final = 16

_VNET_HEADER: Final = struct.Struct("=BBHHHH")
"""struct virtio_net_hdr: flags, GSO type, header length, GSO size, checksum start and offset."""
_NEEDS_CSUM: Final = 1
_DATA_VALID: Final = 2
_GSO_TCPV4: Final = 1
_GSO_TCPV6: Final = 4
_GSO_ECN: Final = 0x80

_READ_BYTES: Final = _VNET_HEADER.size + 65_535 + IPV6_HEADER_BYTES

PACKETS_PER_WAKE: Final = 64
"""Packets read before the reader looks at its timers again."""


class SegmentPort(ABC):
    """Where segments come from and go to; a ``TunDevice``, or one behind a box."""

    __slots__ = ()

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor that is readable when segments wait."""

    @abstractmethod
    def read_segments(self, limit: int = PACKETS_PER_WAKE) -> list[Segment]:
        """Return what waits, at most about ``limit`` segments."""

    @abstractmethod
    def write_segment(self, segment: Segment) -> None:
        """Send one."""

    def take_errors(self) -> list[IcmpError]:
        """Return the ICMP errors about TCP segments that came with what was read."""
        return []


class TunDevice(SegmentPort):
    """One TUN device, as a port for ``Segment`` objects.

    Trains go both ways: a segment that is read has ``segment_size_bytes`` from the kernel's GSO
    size; without ``offload`` what is read is single packets. Raises ``OSError`` where the device
    cannot be made (no /dev/net/tun, no CAP_NET_ADMIN).
    """

    __slots__ = ("_errors", "_fd", "name", "not_tcp", "overruns", "undecodable")

    def __init__(self, name: str, *, offload: bool = True) -> None:
        if not 0 < len(name.encode()) < _IFNAMSIZ:
            raise ValueError(f"interface name {name!r}: expected 1 to {_IFNAMSIZ - 1} bytes")
        self.name = name
        self.not_tcp = 0
        """Packets read that are neither TCP nor an ICMP error about it: neighbour discovery."""
        self._errors: list[IcmpError] = []
        self.undecodable = 0
        """TCP packets read that contradict themselves or fail their checksum."""
        self.overruns = 0
        """Segments that the kernel did not take."""
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
            fcntl.ioctl(self._fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            fcntl.ioctl(self._fd, _TUNSETVNETHDRSZ, struct.pack("i", _VNET_HEADER.size))
            segmentation = _TUN_F_TSO4 | _TUN_F_TSO6 | _TUN_F_TSO_ECN if offload else 0
            fcntl.ioctl(self._fd, _TUNSETOFFLOAD, _TUN_F_CSUM | segmentation)
        except OSError as error:
            os.close(self._fd)
            raise OSError(error.errno, f"TUN device {name}: {os.strerror(error.errno or 0)}") from (
                error
            )

    def fileno(self) -> int:
        """The descriptor, readable when the kernel sent something."""
        return self._fd

    def close(self) -> None:
        """Remove the device."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read_segments(self, limit: int = PACKETS_PER_WAKE) -> list[Segment]:
        """Return the segments that wait, at most about ``limit``; anything else is counted.

        Raises ``OSError`` when the device is gone.
        """
        segments: list[Segment] = []
        for _ in range(limit):
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            segment = self._decode(data)
            if segment is not None:
                segments.append(segment)
        return segments

    def take_errors(self) -> list[IcmpError]:
        """Return the ICMP errors about TCP segments that came with what was read."""
        errors, self._errors = self._errors, []
        return errors

    def write_segment(self, segment: Segment) -> None:
        """Hand a segment or train to the kernel as one packet.

        A full queue loses it, as a wire would; ``overruns`` counts. Raises ``WireError`` for what
        does not fit on the wire, ``OSError`` when the device is gone.
        """
        headers = encode_headers(segment, partial_checksum=True)
        ipv4 = len(segment.src) == 4
        gso_type = gso_size = 0
        if segment.packets > 1:
            gso_type = _GSO_TCPV4 if ipv4 else _GSO_TCPV6
            if segment.flags & CWR:
                gso_type |= _GSO_ECN
            gso_size = segment.segment_size_bytes
        vnet = _VNET_HEADER.pack(
            _NEEDS_CSUM,
            gso_type,
            len(headers),
            gso_size,
            IPV4_HEADER_BYTES if ipv4 else IPV6_HEADER_BYTES,
            CHECKSUM_OFFSET,
        )
        payload = segment.payload
        if payload is None:
            payload = bytes(segment.payload_bytes)
        try:
            os.writev(self._fd, (vnet, headers, payload))
        except (BlockingIOError, InterruptedError):
            self.overruns += 1
        except OSError as error:
            # EIO: the interface is down (drivers/net/tun.c, tun_get_user).
            if error.errno != errno.EIO:
                raise
            self.overruns += 1

    def _decode(self, data: bytes) -> Segment | None:
        if len(data) < _VNET_HEADER.size:
            return None
        flags, gso_type, _header_bytes, gso_size, _start, _offset = _VNET_HEADER.unpack_from(data)
        packet = memoryview(data)[_VNET_HEADER.size :]
        if not _carries_tcp(packet):
            error = _icmp_error(packet)
            if error is None:
                self.not_tcp += 1
            else:
                self._errors.append(error)
            return None
        try:
            trusted = flags & (_NEEDS_CSUM | _DATA_VALID) != 0
            segment = decode_packet(packet, verify_checksum=not trusted)
        except WireError:
            self.undecodable += 1
            return None
        if gso_type:
            segment.segment_size_bytes = gso_size
        return segment


def _icmp_error(packet: memoryview) -> IcmpError | None:
    """Return the ICMP error about a TCP segment that a packet is, if it is one."""
    if len(packet) < IPV4_HEADER_BYTES:
        return None
    version = packet[0] >> 4
    if version == 4:
        start, protocol = (packet[0] & 0xF) << 2, packet[9]
    else:
        start, protocol = IPV6_HEADER_BYTES, packet[6]
    if protocol != (PROTOCOL_ICMP if version == 4 else PROTOCOL_ICMPV6):
        return None
    try:
        return decode_icmp_error(bytes(packet[start:]), version)
    except WireError:
        return None


def _carries_tcp(packet: memoryview) -> bool:
    """Whether the protocol field says TCP (IPv6 extension headers are left to the decoder)."""
    if len(packet) < IPV4_HEADER_BYTES:
        return False
    if packet[0] >> 4 == 4:
        return packet[9] == PROTOCOL_TCP
    return packet[6] not in (0, 17, 58)  # neither hop-by-hop (MLD), UDP nor ICMPv6
