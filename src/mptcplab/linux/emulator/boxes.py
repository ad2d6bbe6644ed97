"""Middleboxes at one end of an emulated link: frames in, frames out.

TCP and UDP over IPv4 and IPv6 become segments (:mod:`mptcplab.wire.segment`), a frame with
segmentation offload a train of them, pass the boxes, and become frames again.  What no box has
changed goes on as it came.  Of the old headers all is kept that no box has to do with: Ethernet
addresses and tags, hop limit, identification, flow label.  Frames that are written anew leave the
transport checksum to be completed by the device (virtio 1.2 section 5.1.6.2), as those of the
kernel's own TCP do.

Other packets (ICMP, fragments, headers with IP options) meet black holes alone, and what is not IP
(ARP) none; but ICMP errors meet boxes that drop these, and what they say of a TCP segment or UDP
datagram is translated by NATs, so that path MTU discovery works through them.
"""

from __future__ import annotations

import struct
from typing import Final

from mptcplab.linux.emulator.frames import (
    GSO_NONE,
    GSO_TCP_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    UDP_HEADER_BYTES,
    VNET,
    VNET_HEADER_BYTES,
    FrameError,
    network_header,
)
from mptcplab.middleboxes import Chain
from mptcplab.middleboxes.nat import Nat
from mptcplab.middleboxes.packets import FlowKey, flow_of
from mptcplab.wire.checksum import ones_sum
from mptcplab.wire.error import WireError
from mptcplab.wire.icmp import (
    ICMP_HEADER_BYTES,
    PARAMETER_PROBLEM,
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    TIME_EXCEEDED,
    UNREACHABLE,
    V6_PARAMETER_PROBLEM,
    V6_TIME_EXCEEDED,
    V6_TOO_BIG,
    V6_UNREACHABLE,
)
from mptcplab.wire.ip import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, PROTOCOL_TCP
from mptcplab.wire.packet import split_train
from mptcplab.wire.segment import CWR, Segment
from mptcplab.wire.tcp import CHECKSUM_OFFSET, decode_tcp, encode_tcp_header

_PROTOCOL_UDP: Final = 17
_UDP_CHECKSUM_OFFSET: Final = 6
_UDP: Final = struct.Struct("!HHHH")  # ports, length, checksum
_PLAIN_IPV4: Final = 0x45  # a header without options
_FRAGMENT_MASK: Final = 0x3FFF
_ICMP_ERRORS: Final = (UNREACHABLE, TIME_EXCEEDED, PARAMETER_PROBLEM)
_ICMPV6_ERRORS: Final = (V6_UNREACHABLE, V6_TOO_BIG, V6_TIME_EXCEEDED, V6_PARAMETER_PROBLEM)
_UINT16: Final = struct.Struct("!H")


class _Headers:
    """The Ethernet and IP headers of a packet, as a template for others of its flow."""

    __slots__ = ("ethernet", "ip", "protocol")

    def __init__(self, ethernet: bytes, ip: bytes, protocol: int) -> None:
        self.ethernet = ethernet
        self.ip = ip
        self.protocol = protocol

    def frame(self, segment: Segment) -> bytes:
        """Return the frame of a segment, its transport checksum to be completed."""
        tcp = self.protocol == PROTOCOL_TCP
        header = encode_tcp_header(segment) if tcp else b""
        transport_bytes = (len(header) if tcp else UDP_HEADER_BYTES) + segment.payload_bytes
        addresses = segment.src + segment.dst
        partial = ones_sum(addresses + struct.pack("!II", transport_bytes, self.protocol))
        if tcp:
            header = header[:CHECKSUM_OFFSET] + _UINT16.pack(partial) + header[18:]
        else:
            header = _UDP.pack(segment.src_port, segment.dst_port, transport_bytes, partial)
        start = len(self.ethernet) + len(self.ip)
        gso_type, gso_size = self._offload(segment)
        offload = VNET.pack(
            NEEDS_CSUM,
            gso_type,
            start + len(header),
            gso_size,
            start,
            CHECKSUM_OFFSET if tcp else _UDP_CHECKSUM_OFFSET,
        )
        payload = b"" if segment.payload is None else segment.payload
        ip = self._network(addresses, transport_bytes)
        return b"".join((offload, self.ethernet, ip, header, payload))

    def _offload(self, segment: Segment) -> tuple[int, int]:
        if segment.packets == 1:
            return GSO_NONE, 0
        if self.protocol == _PROTOCOL_UDP:
            return GSO_UDP_L4, segment.segment_size_bytes
        kind = GSO_TCPV4 if len(segment.src) == 4 else GSO_TCPV6
        if segment.flags & CWR:
            kind |= GSO_TCP_ECN
        return kind, segment.segment_size_bytes

    def _network(self, addresses: bytes, transport_bytes: int) -> bytes:
        if len(self.ip) == IPV6_HEADER_BYTES:
            return self.ip[:4] + _UINT16.pack(transport_bytes) + self.ip[6:8] + addresses
        ip = bytearray(self.ip)
        _UINT16.pack_into(ip, 2, IPV4_HEADER_BYTES + transport_bytes)
        ip[10:12] = bytes(2)
        ip[12:20] = addresses
        _UINT16.pack_into(ip, 10, 0xFFFF ^ ones_sum(bytes(ip)))
        return bytes(ip)


class BoxedEnd:
    """The middleboxes at one end of a link, for both directions."""

    __slots__ = ("_headers", "chain")

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._headers: dict[FlowKey, _Headers] = {}
        """Of the flows that left last, for packets that a box has held."""

    def forward(
        self, frame: bytes, outbound: bool, now_ns: int, *, in_trains: bool = True
    ) -> list[bytes]:
        """Return the frames that leave for one that comes in; without ``in_trains``, packets."""
        at = _ip_header(frame)
        if at is None:
            return [frame]
        parsed = _parse(frame, at)
        if parsed is None:
            if not self.chain.passes_other(outbound, is_error=_is_icmp_error(frame, at)):
                return []
            return [self._with_translated_error(frame, at, outbound)]
        segment, headers = parsed
        before = _state(segment)
        out = self.chain.forward(segment, outbound, now_ns)
        if len(out) == 1 and out[0] is segment and _state(segment) == before:
            self._headers[flow_of(segment)] = headers
            if in_trains or segment.packets == 1:
                return [frame]
        return [each for one in out for each in self._frames(one, headers, in_trains=in_trains)]

    def expire(self, now_ns: int, *, in_trains: tuple[bool, bool]) -> list[tuple[bytes, bool]]:
        """Return the frames of what boxes have held for long enough, and whether outbound.

        ``in_trains`` says of the ends, that of outbound frames first, whether they take trains.
        """
        return [
            (frame, outbound)
            for segment, outbound in self.chain.expire(now_ns)
            if (headers := self._headers.get(flow_of(segment))) is not None
            for frame in self._frames(segment, headers, in_trains=in_trains[not outbound])
        ]

    def _frames(self, segment: Segment, headers: _Headers, *, in_trains: bool) -> list[bytes]:
        self._headers[flow_of(segment)] = headers
        if in_trains or segment.packets == 1:
            return [headers.frame(segment)]
        return [headers.frame(packet) for packet in split_train(segment)]

    def _with_translated_error(self, frame: bytes, at: int, outbound: bool) -> bytes:
        """Return an ICMP error with the addresses that its side of each NAT knows.

        It holds the beginning of a packet that went the other way (RFC 5508 section 4.2).
        """
        error = _IcmpError.of(frame, at)
        if error is None:
            return frame
        boxes = self.chain.boxes if outbound else self.chain.boxes[::-1]
        for box in boxes:
            if isinstance(box, Nat) and box.enabled:
                error.translate(box, outbound)
        return error.frame()


class _IcmpError:
    """An ICMP error of IPv4 about a TCP segment or a UDP datagram."""

    __slots__ = ("_at", "_bytes", "_inner", "_tcp")

    def __init__(self, frame: bytes, at: int, inner: int, tcp: bool) -> None:
        self._bytes = bytearray(frame)
        self._at = at
        self._inner = inner
        self._tcp = tcp

    @classmethod
    def of(cls, frame: bytes, at: int) -> _IcmpError | None:
        """Read a frame; None where it holds no such error."""
        icmp = at + IPV4_HEADER_BYTES
        inner = icmp + ICMP_HEADER_BYTES
        whole = inner + IPV4_HEADER_BYTES + 8
        if frame[at] != _PLAIN_IPV4 or len(frame) < whole or frame[at + 9] != PROTOCOL_ICMP:
            return None
        protocol = frame[inner + 9]
        if (
            frame[icmp] not in _ICMP_ERRORS
            or frame[inner] != _PLAIN_IPV4
            or protocol not in (PROTOCOL_TCP, _PROTOCOL_UDP)
        ):
            return None
        return cls(frame, at, inner, protocol == PROTOCOL_TCP)

    def translate(self, nat: Nat, outbound: bool) -> None:
        """Put in what is known on the other side of a NAT."""
        content, inner = self._bytes, self._inner
        ports = inner + IPV4_HEADER_BYTES
        if outbound:  # about a packet that came in, whose destination the NAT had translated
            address, port = inner + 16, ports + 2
            found = nat.shown(self._tcp, bytes(content[address : address + 4]), self._port(port))
        else:
            address, port = inner + 12, ports
            found = nat.hidden(self._tcp, self._port(port))
            if content[address : address + 4] != nat.outside:
                return
        if found is None:
            return
        content[address : address + 4] = found[0]
        _UINT16.pack_into(content, port, found[1])
        if not outbound and content[self._at + 16 : self._at + 20] == nat.outside:
            content[self._at + 16 : self._at + 20] = found[0]

    def frame(self) -> bytes:
        """Return the frame with its checksums made right, but that of the segment inside."""
        content = self._bytes
        end = self._at + _UINT16.unpack_from(content, self._at + 2)[0]
        icmp = self._at + IPV4_HEADER_BYTES
        for start, stop, field in (
            (self._inner, self._inner + IPV4_HEADER_BYTES, self._inner + 10),
            (icmp, end, icmp + 2),
            (self._at, icmp, self._at + 10),
        ):
            content[field : field + 2] = bytes(2)
            _UINT16.pack_into(content, field, 0xFFFF ^ ones_sum(bytes(content[start:stop])))
        return bytes(content)

    def _port(self, at: int) -> int:
        return int(_UINT16.unpack_from(self._bytes, at)[0])


def _is_icmp_error(frame: bytes, at: int) -> bool:
    """Say whether a packet is an ICMP or ICMPv6 error."""
    if frame[at] >> 4 == 4:
        kind = at + ((frame[at] & 0xF) << 2)
        is_icmp = frame[at + 9] == PROTOCOL_ICMP
        return is_icmp and kind < len(frame) and frame[kind] in _ICMP_ERRORS
    kind = at + IPV6_HEADER_BYTES
    is_icmp = frame[at + 6] == PROTOCOL_ICMPV6
    return is_icmp and kind < len(frame) and frame[kind] in _ICMPV6_ERRORS


def _ip_header(frame: bytes) -> int | None:
    try:
        return network_header(frame)
    except FrameError:
        return None


def _parse(frame: bytes, at: int) -> tuple[Segment, _Headers] | None:
    """Return a TCP segment or UDP datagram, and its headers; None for other packets."""
    view = memoryview(frame)
    ipv4 = frame[at] >> 4 == 4
    if ipv4:
        protocol, start = frame[at + 9], at + IPV4_HEADER_BYTES
        end = at + _UINT16.unpack_from(frame, at + 2)[0]
        fragment = _UINT16.unpack_from(frame, at + 6)[0] & _FRAGMENT_MASK
        if frame[at] != _PLAIN_IPV4 or fragment:
            return None
        src, dst, ecn = frame[at + 12 : at + 16], frame[at + 16 : at + 20], frame[at + 1] & 3
    else:
        protocol, start = frame[at + 6], at + IPV6_HEADER_BYTES
        end = start + _UINT16.unpack_from(frame, at + 4)[0]
        src, dst, ecn = frame[at + 8 : at + 24], frame[at + 24 : at + 40], frame[at + 1] >> 4 & 3
    if end > len(frame) or protocol not in (PROTOCOL_TCP, _PROTOCOL_UDP):
        return None
    segment = Segment(src, 0, dst, 0, ecn=ecn)
    if protocol == PROTOCOL_TCP:
        try:
            decode_tcp(segment, view, start, end, end)
        except WireError:
            return None
        if not segment.flags:
            return None
    else:
        payload = start + UDP_HEADER_BYTES
        if payload > end:
            return None
        segment.src_port, segment.dst_port = struct.unpack_from("!HH", frame, start)
        segment.payload_bytes = end - payload
        segment.payload = view[payload:end]
    if frame[1] != GSO_NONE:
        segment.segment_size_bytes = VNET.unpack_from(frame)[3]
    return segment, _Headers(frame[VNET_HEADER_BYTES:at], frame[at:start], protocol)


def _state(segment: Segment) -> tuple[object, ...]:
    """Return all of a segment that a box may change."""
    return (
        segment.src,
        segment.src_port,
        segment.dst,
        segment.dst_port,
        segment.seq,
        segment.ack,
        segment.sack,
        segment.mptcp,
        segment.mss,
        segment.wscale,
        segment.sack_permitted,
        segment.ts_val,
        segment.raw_options,
        segment.payload_bytes,
        id(segment.payload),
        segment.segment_size_bytes,
    )
