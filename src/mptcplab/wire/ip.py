"""IPv4 (RFC 791) and IPv6 (RFC 8200) headers, and addresses as text."""

from __future__ import annotations

import socket
import struct
from typing import Final

from mptcplab.wire.checksum import ones_sum
from mptcplab.wire.error import WireError

ETHERTYPE_IPV4: Final = 0x0800  # RFC 894
ETHERTYPE_IPV6: Final = 0x86DD  # RFC 2464 section 3

IPV4_HEADER_BYTES: Final = 20  # RFC 791 section 3.1, without options
IPV6_HEADER_BYTES: Final = 40  # RFC 8200 section 3

IPV4_FIXED_BYTES: Final = 40
"""With the TCP header, both without options: what the MSS is less than the MTU (RFC 9293 section
3.7.1)."""
IPV6_FIXED_BYTES: Final = 60

PROTOCOL_TCP: Final = 6  # IANA's protocol number
EXTENSION_HEADERS: Final = (0, 43, 60, 135, 139, 140)
"""IPv6 extension headers whose length byte counts units of 8 after the first (RFC 8200 section 4):
hop-by-hop options, routing, destination options, mobility (RFC 6275), host identity (RFC 7401),
shim6 (RFC 5533)."""
FRAGMENT_HEADER: Final = 44
AUTHENTICATION_HEADER: Final = 51
"""Its length byte counts units of 4, less 2 (RFC 4302 section 2.2)."""

_HOP_LIMIT: Final = 64
"""TTL and hop limit of what we send: Linux's default (include/net/ip.h, IPDEFTTL)."""

_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"
"""RFC 4291 section 2.5.5.2: not for the wire."""
_IPV6_LOOPBACK: Final = bytes(15) + b"\x01"

_IPV4: Final = struct.Struct(">BBHHHBBH4s4s")
_IPV6: Final = struct.Struct(">IHBB16s16s")
_DONT_FRAGMENT: Final = 0x4000
_FRAGMENT_MASK: Final = 0x3FFF  # more fragments, and the offset


def parse_address(text: str) -> bytes:
    """Return the packed form (4 or 16 bytes) of an IPv4 or IPv6 address.

    Raises ``WireError`` when ``text`` is neither.
    """
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_pton(family, text)
    except (OSError, ValueError):
        raise WireError(f"{text!r} is not an IPv4 or IPv6 address") from None


def format_address(address: bytes) -> str:
    """Return the text of a packed IPv4 or IPv6 address."""
    if len(address) == 4:
        return socket.inet_ntop(socket.AF_INET, address)
    if len(address) == 16:
        return socket.inet_ntop(socket.AF_INET6, address)
    raise WireError(f"an address has {len(address)} bytes, expected 4 or 16")


def is_unicast(address: bytes) -> bool:
    """Say whether a packed address can be that of one host: RFC 9293 section 3.9.2.3.

    No multicast, limited broadcast, unspecified ("this network") or IPv4-mapped address. Loopback
    addresses are unicast, within one host.
    """
    if len(address) == 4:
        return 0 < address[0] < 224 or (address[0] >= 240 and address != b"\xff\xff\xff\xff")
    return address[0] != 0xFF and address != bytes(16) and address[:12] != _IPV4_MAPPED


def is_loopback(address: bytes) -> bool:
    """Say whether a packed address is of the host itself (RFC 1122 3.2.1.3, RFC 4291 2.5.3)."""
    return address[0] == 127 if len(address) == 4 else address == _IPV6_LOOPBACK


def encode_ip_header(src: bytes, dst: bytes, traffic_class: int, body_bytes: int) -> bytes:
    """Return the header of a TCP packet with ``body_bytes`` after it; never to be fragmented.

    ``traffic_class`` is the byte of DSCP and ECN (RFC 2474, RFC 3168), IPv4's type of service.
    Raises ``WireError`` when the two addresses are of different families or the packet is too long.
    """
    if len(src) == 4 and len(dst) == 4:
        total = IPV4_HEADER_BYTES + body_bytes
        if total > 0xFFFF:
            raise WireError(f"an IPv4 packet of {total} bytes, expected at most 65535")
        plain = _IPV4.pack(
            0x45, traffic_class, total, 0, _DONT_FRAGMENT, _HOP_LIMIT, PROTOCOL_TCP, 0, src, dst
        )
        return plain[:10] + (0xFFFF ^ ones_sum(plain)).to_bytes(2, "big") + plain[12:]
    if len(src) == 16 and len(dst) == 16:
        if body_bytes > 0xFFFF:
            raise WireError(f"an IPv6 payload of {body_bytes} bytes, expected at most 65535")
        first = 0x6000_0000 | traffic_class << 20
        return _IPV6.pack(first, body_bytes, PROTOCOL_TCP, _HOP_LIMIT, src, dst)
    raise WireError(
        f"addresses of {len(src)} and {len(dst)} bytes, expected both of 4 or both of 16"
    )


def pseudo_header_sum(src: bytes, dst: bytes, tcp_bytes: int) -> int:
    """Return the ones' complement sum of the TCP pseudo header (RFC 9293 section 3.1).

    In 1 .. 0xFFFF; good for both families (RFC 8200 section 8.1).
    """
    return ones_sum(src + dst + (tcp_bytes << 16 | PROTOCOL_TCP).to_bytes(6, "big"))


class IpHeader:
    """What is needed of an IP header: addresses, DSCP, ECN, and where TCP starts and ends."""

    __slots__ = ("body_end", "body_start", "dscp", "dst", "ecn", "src")

    def __init__(
        self, src: bytes, dst: bytes, traffic_class: int, body_start: int, body_end: int
    ) -> None:
        self.src = src
        self.dst = dst
        self.dscp = traffic_class >> 2
        self.ecn = traffic_class & 3
        self.body_start = body_start
        self.body_end = body_end


def decode_ip_header(data: bytes | memoryview) -> IpHeader:
    """Decode the IP header at the start of ``data`` and skip what precedes TCP.

    ``body_end`` is what the header claims and may lie beyond the data at hand. A length of zero
    stands for all of the data, as offloading senders write it (BIG TCP, captures before TSO).
    Raises ``WireError`` when this is no TCP packet, or a fragment of one.
    """
    version = data[0] >> 4 if len(data) else 0
    if version == 4:
        return _decode_ipv4(data)
    if version == 6:
        return _decode_ipv6(data)
    raise WireError(f"IP version {version} in a packet of {len(data)} bytes, expected 4 or 6")


def _decode_ipv4(data: bytes | memoryview) -> IpHeader:
    size = len(data)
    if size < IPV4_HEADER_BYTES:
        raise WireError(f"an IPv4 header of {size} bytes, expected at least {IPV4_HEADER_BYTES}")
    first, tos, total, _id, fragment, _ttl, protocol, _sum, src, dst = _IPV4.unpack_from(data)
    header_bytes = (first & 0xF) << 2
    end = total or size
    if header_bytes < IPV4_HEADER_BYTES or header_bytes > end:
        raise WireError(f"an IPv4 header of {header_bytes} bytes in a packet of {end}")
    if protocol != PROTOCOL_TCP:
        raise WireError(f"IP protocol {protocol}, expected TCP ({PROTOCOL_TCP})")
    if fragment & _FRAGMENT_MASK:
        raise WireError("a fragment of an IPv4 packet")
    return IpHeader(src, dst, tos, header_bytes, end)


def _decode_ipv6(data: bytes | memoryview) -> IpHeader:
    size = len(data)
    if size < IPV6_HEADER_BYTES:
        raise WireError(f"an IPv6 header of {size} bytes, expected {IPV6_HEADER_BYTES}")
    first, body_bytes, next_header, _hops, src, dst = _IPV6.unpack_from(data)
    offset = IPV6_HEADER_BYTES
    end = IPV6_HEADER_BYTES + body_bytes if body_bytes else size
    while next_header != PROTOCOL_TCP:
        if offset + 8 > size:
            raise WireError(f"the IPv6 packet ends in its extension header {next_header}")
        if next_header in EXTENSION_HEADERS:
            length = (data[offset + 1] + 1) << 3
        elif next_header == AUTHENTICATION_HEADER:
            length = (data[offset + 1] + 2) << 2
        elif next_header == FRAGMENT_HEADER:
            if data[offset + 2] or data[offset + 3] & 0xF9:
                raise WireError("a fragment of an IPv6 packet")
            length = 8
        else:
            raise WireError(f"IP protocol {next_header}, expected TCP ({PROTOCOL_TCP})")
        next_header = data[offset]
        offset += length
    if offset > end:
        raise WireError(
            f"IPv6 extension headers of {offset - IPV6_HEADER_BYTES} bytes in a body of "
            f"{body_bytes}"
        )
    return IpHeader(src, dst, first >> 20 & 0xFF, offset, end)
