"""What ICMP (RFC 792) and ICMPv6 (RFC 4443) errors say of TCP segments."""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final

from mptcplab.wire.error import WireError
from mptcplab.wire.ip import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, PROTOCOL_TCP

PROTOCOL_ICMP: Final = 1
PROTOCOL_ICMPV6: Final = 58
ICMP_HEADER_BYTES: Final = 8

UNREACHABLE: Final = 3
"""Types of ICMP: destination unreachable, time exceeded, parameter problem."""
TIME_EXCEEDED: Final = 11
PARAMETER_PROBLEM: Final = 12

V6_UNREACHABLE: Final = 1
"""The same of ICMPv6, and packet too big, which is a code of the first in ICMP."""
V6_TOO_BIG: Final = 2
V6_TIME_EXCEEDED: Final = 3
V6_PARAMETER_PROBLEM: Final = 4

FRAGMENTATION_NEEDED: Final = 4

QUOTED_IPV4_BYTES: Final = 576
"""The longest error that Linux sends, IP header and all: RFC 1812 section 4.3.2.3."""
QUOTED_IPV6_BYTES: Final = 1280
"""RFC 4443 section 2.4 (c): the minimum MTU of IPv6."""

_QUOTED_TCP_BYTES: Final = 8  # ports and sequence number
_TCP_START: Final = struct.Struct(">HHI")
_FRAGMENT_OFFSET: Final = 0x1FFF


class Problem(Enum):
    """What became of a segment."""

    TOO_BIG = "packet too big"
    NO_ROUTE = "no route to the network"
    HOST = "host unreachable"
    PROTOCOL = "protocol unreachable"
    PORT = "port unreachable"
    PROHIBITED = "administratively prohibited"
    TIME_EXCEEDED = "time exceeded"
    PARAMETER = "parameter problem"


_CODES: Final = {
    0: Problem.NO_ROUTE,
    1: Problem.HOST,
    2: Problem.PROTOCOL,
    3: Problem.PORT,
    FRAGMENTATION_NEEDED: Problem.TOO_BIG,
    5: Problem.NO_ROUTE,  # source route failed
    6: Problem.NO_ROUTE,
    7: Problem.HOST,
    8: Problem.HOST,
    9: Problem.PROHIBITED,
    10: Problem.PROHIBITED,
    11: Problem.NO_ROUTE,
    12: Problem.HOST,
    13: Problem.PROHIBITED,
    14: Problem.PROHIBITED,
    15: Problem.PROHIBITED,
}
"""Codes of ICMP's destination unreachable (RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1)."""

_V6_CODES: Final = {
    0: Problem.NO_ROUTE,
    1: Problem.PROHIBITED,
    2: Problem.NO_ROUTE,  # beyond the scope of the source
    3: Problem.HOST,
    4: Problem.PORT,
    5: Problem.PROHIBITED,
    6: Problem.NO_ROUTE,  # reject route
}
"""Codes of ICMPv6's destination unreachable (RFC 4443 section 3.1)."""


class IcmpError:
    """An error about a TCP segment from ``src`` to ``dst``, as its sender wrote these.

    ``seq`` is the sequence number that is quoted, ``mtu_bytes`` the MTU of the next hop where the
    packet was too big (0 from routers that are older than RFC 1191).
    """

    __slots__ = ("dst", "dst_port", "mtu_bytes", "problem", "seq", "src", "src_port")

    def __init__(
        self,
        problem: Problem,
        ends: tuple[bytes, int, bytes, int],
        seq: int,
        mtu_bytes: int = 0,
    ) -> None:
        """Take source address and port and destination address and port as ``ends``."""
        self.problem = problem
        self.src, self.src_port, self.dst, self.dst_port = ends
        self.seq = seq
        self.mtu_bytes = mtu_bytes


def decode_icmp_error(message: bytes, version: int) -> IcmpError | None:
    """Read an ICMP message (``version`` 4) or ICMPv6 message (6), without its IP header.

    None for what is no error about a TCP segment. Raises ``WireError`` where it is cut short.
    """
    if len(message) < ICMP_HEADER_BYTES:
        raise WireError(f"{len(message)} bytes of ICMP, expected a header of 8 bytes")
    kind, code = message[0], message[1]
    if version == 4:
        problem = _problem(kind, code)
        mtu_bytes = int.from_bytes(message[6:8], "big")
    else:
        problem = _v6_problem(kind, code)
        mtu_bytes = int.from_bytes(message[4:8], "big")
    if problem is None:
        return None
    quoted = _quoted_segment(message[ICMP_HEADER_BYTES:], version)
    if quoted is None:
        return None
    ends, seq = quoted
    return IcmpError(problem, ends, seq, mtu_bytes if problem is Problem.TOO_BIG else 0)


def _problem(kind: int, code: int) -> Problem | None:
    if kind == UNREACHABLE:
        return _CODES.get(code)
    return {TIME_EXCEEDED: Problem.TIME_EXCEEDED, PARAMETER_PROBLEM: Problem.PARAMETER}.get(kind)


def _v6_problem(kind: int, code: int) -> Problem | None:
    if kind == V6_UNREACHABLE:
        return _V6_CODES.get(code)
    return {
        V6_TOO_BIG: Problem.TOO_BIG,
        V6_TIME_EXCEEDED: Problem.TIME_EXCEEDED,
        V6_PARAMETER_PROBLEM: Problem.PARAMETER,
    }.get(kind)


def _quoted_segment(
    packet: bytes, version: int
) -> tuple[tuple[bytes, int, bytes, int], int] | None:
    """Return the ends and the sequence number of the segment whose beginning is quoted."""
    least = IPV4_HEADER_BYTES if version == 4 else IPV6_HEADER_BYTES
    if len(packet) < least or packet[0] >> 4 != version:
        raise WireError(f"an ICMP error that quotes {len(packet)} bytes, expected an IP header")
    if version == 4:
        start = (packet[0] & 0xF) << 2
        protocol, src, dst = packet[9], packet[12:16], packet[16:20]
        if int.from_bytes(packet[6:8], "big") & _FRAGMENT_OFFSET:
            return None
    else:
        start = IPV6_HEADER_BYTES
        protocol, src, dst = packet[6], packet[8:24], packet[24:40]
    if protocol != PROTOCOL_TCP:
        return None
    if start < least or len(packet) < start + _QUOTED_TCP_BYTES:
        raise WireError("an ICMP error that quotes less than 8 bytes of TCP")
    src_port, dst_port, seq = _TCP_START.unpack_from(packet, start)
    return (src, src_port, dst, dst_port), seq
