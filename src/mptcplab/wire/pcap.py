"""Writing capture files: classic pcap and pcapng, raw IP packets with nanosecond timestamps.

Formats: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html and
draft-ietf-opsawg-pcapng-02. Files open in Wireshark, tcpdump and tshark.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

from mptcplab.wire.packet import encode_headers, split_train
from mptcplab.wire.segment import Segment

PCAP_MAGIC_NS: Final = 0xA1B23C4D
"""pcap section 4: nanosecond resolution."""
PCAP_MAGIC_US: Final = 0xA1B2C3D4
PCAPNG_BYTE_ORDER: Final = 0x1A2B3C4D
"""pcapng section 4.1: tells the byte order of a section."""

BLOCK_SECTION: Final = 0x0A0D0D0A
"""pcapng block types (section 11.1)."""
BLOCK_INTERFACE: Final = 1
BLOCK_SIMPLE_PACKET: Final = 3
BLOCK_ENHANCED_PACKET: Final = 6

OPTION_INTERFACE_NAME: Final = 2
"""pcapng interface options (section 4.2)."""
OPTION_TIMESTAMP_RESOLUTION: Final = 9
OPTION_TIMESTAMP_OFFSET: Final = 14

LINK_RAW_IP: Final = 101
"""LINKTYPE_RAW: packets begin with an IPv4 or IPv6 header."""

NS_PER_SECOND: Final = 1_000_000_000
_DEFAULT_SNAP_BYTES: Final = 262_144  # tcpdump's default (MAXIMUM_SNAPLEN)


class SegmentWriter:
    """Base of both writers: what of a segment goes into the file.

    ``snap_bytes`` cuts packets. A segment without payload bytes is written as its headers, with
    the original length that its payload gives it. ``split_trains`` writes the packets a train
    stands for instead of one large packet; they then share a timestamp.
    """

    def __init__(self, stream: BinaryIO, snap_bytes: int, split_trains: bool) -> None:
        self._stream = stream
        self._snap_bytes = snap_bytes
        self._split_trains = split_trains

    def write_segment(self, time_ns: int, segment: Segment, interface: int = 0) -> None:
        """Write a segment seen at ``time_ns`` on an interface."""
        for packet in split_train(segment) if self._split_trains else (segment,):
            headers = encode_headers(packet)
            original_bytes = len(headers) + packet.payload_bytes
            data = headers if packet.payload is None else headers + packet.payload
            self.write_packet(time_ns, data, original_bytes, interface)

    def write_packet(
        self, time_ns: int, data: bytes, original_bytes: int | None = None, interface: int = 0
    ) -> None:
        """Write an IP packet that had ``original_bytes`` on the wire (default: as given)."""
        raise NotImplementedError


class PcapWriter(SegmentWriter):
    """A classic pcap file; it knows no interfaces, so all packets share one."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        snap_bytes: int = _DEFAULT_SNAP_BYTES,
        split_trains: bool = False,
    ) -> None:
        super().__init__(stream, snap_bytes, split_trains)
        stream.write(struct.pack("<IHHiIII", PCAP_MAGIC_NS, 2, 4, 0, 0, snap_bytes, LINK_RAW_IP))

    def write_packet(
        self,
        time_ns: int,
        data: bytes,
        original_bytes: int | None = None,
        interface: int = 0,  # noqa: ARG002  the format has no interfaces
    ) -> None:
        seconds, nanoseconds = divmod(time_ns, NS_PER_SECOND)
        original = len(data) if original_bytes is None else original_bytes
        data = data[: self._snap_bytes]
        self._stream.write(struct.pack("<IIII", seconds, nanoseconds, len(data), original) + data)


class PcapngWriter(SegmentWriter):
    """A pcapng file with named interfaces; packets name theirs by its position in the list."""

    def __init__(
        self,
        stream: BinaryIO,
        interface_names: list[str],
        *,
        snap_bytes: int = _DEFAULT_SNAP_BYTES,
        split_trains: bool = False,
    ) -> None:
        super().__init__(stream, snap_bytes, split_trains)
        # Version 1.0, length of the section unknown (-1).
        stream.write(_block(BLOCK_SECTION, struct.pack("<IHHq", PCAPNG_BYTE_ORDER, 1, 0, -1)))
        for name in interface_names:
            options = _option(OPTION_INTERFACE_NAME, name.encode())
            options += _option(OPTION_TIMESTAMP_RESOLUTION, b"\x09") + bytes(4)
            body = struct.pack("<HHI", LINK_RAW_IP, 0, snap_bytes) + options
            stream.write(_block(BLOCK_INTERFACE, body))

    def write_packet(
        self, time_ns: int, data: bytes, original_bytes: int | None = None, interface: int = 0
    ) -> None:
        original = len(data) if original_bytes is None else original_bytes
        data = data[: self._snap_bytes]
        head = struct.pack(
            "<IIIII", interface, time_ns >> 32, time_ns & 0xFFFF_FFFF, len(data), original
        )
        self._stream.write(_block(BLOCK_ENHANCED_PACKET, head + data))


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) & 3)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) & 3)
