"""Reading capture files packet by packet, simply: for tests and small captures.

Analysis of large captures has its own, vectorised reader.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from mptcplab.wire.error import WireError
from mptcplab.wire.ip import ETHERTYPE_IPV4, ETHERTYPE_IPV6
from mptcplab.wire.pcap import (
    BLOCK_ENHANCED_PACKET,
    BLOCK_INTERFACE,
    BLOCK_SECTION,
    BLOCK_SIMPLE_PACKET,
    NS_PER_SECOND,
    OPTION_INTERFACE_NAME,
    OPTION_TIMESTAMP_OFFSET,
    OPTION_TIMESTAMP_RESOLUTION,
    PCAP_MAGIC_NS,
    PCAP_MAGIC_US,
    PCAPNG_BYTE_ORDER,
)

_ETHERTYPE_VLANS: Final = (0x8100, 0x88A8, 0x9100)

# Link types (https://www.tcpdump.org/linktypes.html).
_LINK_NULL: Final = 0
_LINK_ETHERNET: Final = 1
_LINK_PPP: Final = 9
_LINK_RAW: Final = (12, 14, 101)
_LINK_LOOP: Final = 108
_LINK_COOKED: Final = 113
_LINK_IPV4: Final = 228
_LINK_IPV6: Final = 229
_LINK_COOKED_2: Final = 276


class CapturedPacket:
    """One packet of a capture: when, on which interface, and its bytes from the link layer on."""

    __slots__ = ("data", "interface", "link_type", "original_bytes", "time_ns")

    def __init__(
        self, time_ns: int, link_type: int, data: bytes, original_bytes: int, interface: str
    ) -> None:
        self.time_ns = time_ns
        self.link_type = link_type
        self.data = data
        self.original_bytes = original_bytes
        """Length on the wire; more than ``len(data)`` when the capture cut the packet."""
        self.interface = interface
        """The interface's name where the file gives one."""

    def ip_packet(self) -> memoryview | None:
        """Return the packet from its IP header on, or ``None`` when it is not IP."""
        offset = _ip_offset(self.link_type, self.data)
        return None if offset is None else memoryview(self.data)[offset:]


def read_capture(contents: bytes) -> Iterator[CapturedPacket]:
    """Yield the packets of a pcap or pcapng file; a record cut at the end of the file is dropped.

    Raises ``WireError`` when the bytes are neither format, or contradict themselves.
    """
    if len(contents) >= 12 and contents[:4] == b"\x0a\x0d\x0d\x0a":
        return _read_pcapng(contents)
    return _read_pcap(contents)


def _read_pcap(contents: bytes) -> Iterator[CapturedPacket]:
    if len(contents) < 24:
        raise WireError(f"a capture of {len(contents)} bytes, expected a pcap header of 24")
    for order in ("<", ">"):
        magic = struct.unpack_from(f"{order}I", contents)[0]
        if magic in (PCAP_MAGIC_NS, PCAP_MAGIC_US):
            break
    else:
        raise WireError(f"magic number {contents[:4].hex()} is neither pcap nor pcapng")
    tick_ns = 1 if magic == PCAP_MAGIC_NS else 1000
    link_type = struct.unpack_from(f"{order}I", contents, 20)[0] & 0xFFFF
    record = struct.Struct(f"{order}IIII")
    offset = 24
    while offset + 16 <= len(contents):
        seconds, ticks, captured, original = record.unpack_from(contents, offset)
        offset += 16
        if offset + captured > len(contents):
            return
        time_ns = seconds * NS_PER_SECOND + ticks * tick_ns
        yield CapturedPacket(time_ns, link_type, contents[offset : offset + captured], original, "")
        offset += captured


class _Interface:
    __slots__ = ("link_type", "name", "offset_seconds", "snap_bytes", "ticks_per_second")

    def __init__(self, body: bytes, order: str) -> None:
        self.link_type, _reserved, self.snap_bytes = struct.unpack_from(f"{order}HHI", body)
        self.name = ""
        self.ticks_per_second = 1_000_000  # pcapng section 4.2: if_tsresol is 6 unless given
        self.offset_seconds = 0
        offset = 8
        while offset + 4 <= len(body):
            code, length = struct.unpack_from(f"{order}HH", body, offset)
            value = body[offset + 4 : offset + 4 + length]
            offset += 4 + length + (-length & 3)
            if code == OPTION_INTERFACE_NAME:
                self.name = value.decode(errors="replace")
            elif code == OPTION_TIMESTAMP_RESOLUTION and value:
                exponent = value[0] & 0x7F
                self.ticks_per_second = 2**exponent if value[0] & 0x80 else 10**exponent
            elif code == OPTION_TIMESTAMP_OFFSET and length == 8:
                self.offset_seconds = struct.unpack(f"{order}q", value)[0]

    def time_ns(self, ticks: int) -> int:
        return self.offset_seconds * NS_PER_SECOND + ticks * NS_PER_SECOND // self.ticks_per_second


def _read_pcapng(contents: bytes) -> Iterator[CapturedPacket]:
    order = "<"
    interfaces: list[_Interface] = []
    offset = 0
    while offset + 12 <= len(contents):
        if contents[offset : offset + 4] == b"\x0a\x0d\x0d\x0a":
            order = _section_byte_order(contents, offset)
        kind, length = struct.unpack_from(f"{order}II", contents, offset)
        if length < 12 or length % 4:
            raise WireError(f"a pcapng block of {length} bytes at offset {offset}")
        if offset + length > len(contents):
            return
        body = contents[offset + 8 : offset + length - 4]
        offset += length
        if kind == BLOCK_SECTION:
            interfaces = []
        elif kind == BLOCK_INTERFACE and len(body) >= 8:
            interfaces.append(_Interface(body, order))
        elif kind in (BLOCK_ENHANCED_PACKET, BLOCK_SIMPLE_PACKET):
            yield _packet_block(kind, body, order, interfaces)


def _section_byte_order(contents: bytes, offset: int) -> str:
    for order in ("<", ">"):
        if struct.unpack_from(f"{order}I", contents, offset + 8)[0] == PCAPNG_BYTE_ORDER:
            return order
    raise WireError(f"the pcapng section at offset {offset} has no byte-order magic")


def _packet_block(
    kind: int, body: bytes, order: str, interfaces: list[_Interface]
) -> CapturedPacket:
    index = high = low = 0
    start = 4
    try:
        if kind == BLOCK_ENHANCED_PACKET:
            index, high, low, captured, original = struct.unpack_from(f"{order}IIIII", body)
            start = 20
        else:
            original = struct.unpack_from(f"{order}I", body)[0]
            captured = min(original, interfaces[0].snap_bytes or original)
        interface = interfaces[index]
    except (struct.error, IndexError):
        raise WireError("a pcapng packet block is cut, or names an unknown interface") from None
    return CapturedPacket(
        interface.time_ns(high << 32 | low),
        interface.link_type,
        body[start : start + captured],
        original,
        interface.name,
    )


def _ip_offset(link_type: int, data: bytes) -> int | None:
    if link_type == _LINK_ETHERNET:
        return _after_ethertype(data, 12)
    if link_type == _LINK_COOKED:
        return _after_ethertype(data, 14)
    if link_type == _LINK_COOKED_2:
        return 20 if data[:2] in (b"\x08\x00", b"\x86\xdd") else None
    if link_type in _LINK_RAW or link_type in (_LINK_IPV4, _LINK_IPV6):
        return 0
    if link_type in (_LINK_NULL, _LINK_LOOP):
        return 4
    if link_type == _LINK_PPP:
        # RFC 1662 section 3.1: address and control may be absent; protocols: RFC 1332, RFC 5072.
        start = 2 if data[:2] == b"\xff\x03" else 0
        return start + 2 if data[start : start + 2] in (b"\x00\x21", b"\x00\x57") else None
    return None


def _after_ethertype(data: bytes, offset: int) -> int | None:
    while offset + 2 <= len(data):
        ethertype = data[offset] << 8 | data[offset + 1]
        if ethertype in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
            return offset + 2
        if ethertype not in _ETHERTYPE_VLANS:
            return None
        offset += 4
    return None
