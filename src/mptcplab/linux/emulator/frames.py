"""Frames as a TAP device with offload hands them over, and shorter ones cut out of them.

Every frame comes behind a virtio network header (virtio 1.2, section 5.1.6, in the legacy layout
of 10 bytes and host byte order). A header with a GSO type makes the frame a train: the payload is
that of several packets, `gso_size` bytes each, behind one set of headers. When only some of these
packets go on, the headers are made to fit them the way the kernel does when it segments in
software (net/ipv4/tcp_offload.c, udp_offload.c, af_inet.c), so that a train cut in two is what
the two parts would have been.

Checksums stay partial: a frame with offload holds the sum of the pseudo-header in the place of
the transport checksum; only the length in that sum changes.
"""

from __future__ import annotations

import struct
from typing import Final

VNET_HEADER_BYTES: Final = 10
READ_BYTES: Final = VNET_HEADER_BYTES + 18 + 65_536
"""Enough for any frame: Ethernet with a VLAN tag, and the largest IP packet."""

_VNET: Final = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, _offset
_NEEDS_CSUM: Final = 1
_GSO_NONE: Final = 0
_GSO_UDP_L4: Final = 5
_GSO_ECN: Final = 0x80

_TAG_TYPES: Final = (0x8100, 0x88A8)  # IEEE 802.1Q, 802.1ad
_TYPE_IPV4: Final = 0x0800
_TYPE_IPV6: Final = 0x86DD

_UDP_HEADER_BYTES: Final = 8
_FIN_PSH: Final = 0x09
_CWR: Final = 0x80


class FrameError(ValueError):
    """A frame with offload that is not what its header says."""


class OffloadedFrame:
    """A frame that stands for a train of packets.

    `packets` packets, each `packet_bytes` long with its headers, the last one `last_bytes`.
    """

    __slots__ = (
        "_gso_type",
        "_headers",
        "_is_udp",
        "_network",
        "_payload",
        "_segment_bytes",
        "_transport",
        "_vnet",
        "frame",
        "last_bytes",
        "packet_bytes",
        "packets",
    )

    def __init__(self, frame: bytes) -> None:
        flags, gso_type, _, segment_bytes, csum_start, csum_offset = _VNET.unpack_from(frame)
        if not flags & _NEEDS_CSUM or not segment_bytes:
            raise FrameError("segmentation offload without checksum offload")
        self.frame = frame
        self._vnet = (flags, csum_start, csum_offset)
        self._gso_type = gso_type
        self._segment_bytes = segment_bytes
        self._is_udp = gso_type & ~_GSO_ECN == _GSO_UDP_L4
        self._transport = VNET_HEADER_BYTES + csum_start
        if len(frame) < self._transport + 20:
            raise FrameError("frame ends within its headers")
        if self._is_udp:
            transport_bytes = _UDP_HEADER_BYTES
        else:
            transport_bytes = (frame[self._transport + 12] >> 4) * 4
        self._payload = self._transport + transport_bytes
        header_bytes = self._payload - VNET_HEADER_BYTES
        payload_bytes = len(frame) - self._payload
        self.packets = max(1, -(-payload_bytes // segment_bytes))
        self.packet_bytes = header_bytes + segment_bytes
        self.last_bytes = header_bytes + payload_bytes - (self.packets - 1) * segment_bytes
        self._network = 0
        self._headers = b""

    def cut(self, first: int, packets: int) -> tuple[bytearray, memoryview]:
        """The frame that holds `packets` of the packets from number `first` on: its virtio and
        protocol headers, and its payload; write one after the other.
        """
        if not self._headers:
            self._find_network()
        start = self._payload + first * self._segment_bytes
        payload = memoryview(self.frame)[start : start + packets * self._segment_bytes]
        headers = bytearray(self._headers)
        transport_bytes = self._payload - self._transport + len(payload)
        self._fit_vnet(headers, packets)
        self._fit_network(headers, first, transport_bytes)
        if self._is_udp:
            struct.pack_into("!H", headers, self._transport + 4, transport_bytes)
            checksum = self._transport + 6
        else:
            self._fit_tcp(headers, first, first + packets == self.packets)
            checksum = self._transport + 16
        old_bytes = len(self.frame) - self._transport
        (partial,) = struct.unpack_from("!H", headers, checksum)
        partial = _fold(partial + (~old_bytes & 0xFFFF) + transport_bytes)
        struct.pack_into("!H", headers, checksum, partial)
        return headers, payload

    def _find_network(self) -> None:
        """Where the IP header is: behind the Ethernet header and any tags."""
        frame = self.frame
        at = VNET_HEADER_BYTES + 12
        while int.from_bytes(frame[at : at + 2]) in _TAG_TYPES:
            at += 4
        kind = int.from_bytes(frame[at : at + 2])
        if kind not in (_TYPE_IPV4, _TYPE_IPV6):
            raise FrameError(f"segmentation offload of Ethernet type {kind:#06x}")
        self._network = at + 2
        self._headers = frame[: self._payload]

    def _fit_vnet(self, headers: bytearray, packets: int) -> None:
        flags, csum_start, csum_offset = self._vnet
        single = packets == 1
        _VNET.pack_into(
            headers,
            0,
            flags,
            _GSO_NONE if single else self._gso_type,
            self._payload - VNET_HEADER_BYTES,
            0 if single else self._segment_bytes,
            csum_start,
            csum_offset,
        )

    def _fit_network(self, headers: bytearray, first: int, transport_bytes: int) -> None:
        at = self._network
        if headers[at] >> 4 == 6:
            extensions = self._transport - at - 40
            struct.pack_into("!H", headers, at + 4, extensions + transport_bytes)
            return
        total, identification = struct.unpack_from("!HH", headers, at + 2)
        (checksum,) = struct.unpack_from("!H", headers, at + 10)
        new_total = self._transport - at + transport_bytes
        new_identification = (identification + first) & 0xFFFF
        struct.pack_into("!HH", headers, at + 2, new_total, new_identification)
        # RFC 1624, equation 3
        changed = (~checksum & 0xFFFF) + (~total & 0xFFFF) + new_total
        changed += (~identification & 0xFFFF) + new_identification
        struct.pack_into("!H", headers, at + 10, ~_fold(changed) & 0xFFFF)

    def _fit_tcp(self, headers: bytearray, first: int, last: bool) -> None:
        at = self._transport
        (sequence,) = struct.unpack_from("!I", headers, at + 4)
        sequence = (sequence + first * self._segment_bytes) & 0xFFFF_FFFF
        struct.pack_into("!I", headers, at + 4, sequence)
        if not last:
            headers[at + 13] &= ~_FIN_PSH
        if first:
            headers[at + 13] &= ~_CWR


def _fold(total: int) -> int:
    """The one's complement sum in 16 bits."""
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)
