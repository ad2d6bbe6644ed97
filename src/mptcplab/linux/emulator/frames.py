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
from zlib import crc32

from mptcplab.network.topology import ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES
from mptcplab.seq import seq_add
from mptcplab.wire.ip import ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER_BYTES
from mptcplab.wire.segment import CE, CWR, ECT_0, ECT_1, FIN, PSH, TCP_HEADER_BYTES

VNET_HEADER_BYTES: Final = 10
READ_BYTES: Final = VNET_HEADER_BYTES + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES + 65_536
"""Enough for any frame: Ethernet with a VLAN tag, and the largest IP packet."""

VNET: Final = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, _offset
NEEDS_CSUM: Final = 1
GSO_NONE: Final = 0
GSO_TCPV4: Final = 1
GSO_TCPV6: Final = 4
GSO_TCP_ECN: Final = 0x80
GSO_UDP_L4: Final = 5

_TAG_TYPES: Final = (0x8100, 0x88A8)  # IEEE 802.1Q, 802.1ad

UDP_HEADER_BYTES: Final = 8
_ECN_MASK: Final = 3
_WITH_PORTS: Final = (6, 17)
"""Protocols whose header begins with two ports: TCP and UDP."""
_CHECKSUM_AT: Final = {6: 16, 17: 6, 58: 2}
"""Where TCP, UDP and ICMPv6 have their checksum."""
_UINT16: Final = struct.Struct("!H")
_IPV4_MIDDLE: Final = struct.Struct("!HHHHH")  # length, id, fragment, TTL and protocol, checksum
_TCP_MIDDLE: Final = struct.Struct("!IIBBHH")  # seq, ack, offset, flags, window, checksum
_UDP_TAIL: Final = struct.Struct("!HH")  # length, checksum


class FrameError(ValueError):
    """A frame with offload that is not what its header says."""


class OffloadedFrame:
    """A frame that stands for a train of packets.

    `packets` packets, each `packet_bytes` long with its headers, the last one `last_bytes`.
    """

    __slots__ = (
        "_cutter",
        "_payload",
        "_segment_bytes",
        "frame",
        "last_bytes",
        "packet_bytes",
        "packets",
    )

    def __init__(self, frame: bytes) -> None:
        flags, gso_type, _, segment_bytes, csum_start, _ = VNET.unpack_from(frame)
        if not flags & NEEDS_CSUM or not segment_bytes:
            raise FrameError("segmentation offload without checksum offload")
        transport = VNET_HEADER_BYTES + csum_start
        if len(frame) < transport + TCP_HEADER_BYTES:
            raise FrameError("frame ends within its headers")
        if gso_type == GSO_UDP_L4:
            payload = transport + UDP_HEADER_BYTES
        else:
            payload = transport + (frame[transport + 12] >> 4) * 4
        header_bytes = payload - VNET_HEADER_BYTES
        payload_bytes = len(frame) - payload
        self.frame = frame
        self.packets = max(1, -(-payload_bytes // segment_bytes))
        self.packet_bytes = header_bytes + segment_bytes
        self.last_bytes = header_bytes + payload_bytes - (self.packets - 1) * segment_bytes
        self._payload = payload
        self._segment_bytes = segment_bytes
        self._cutter: _Cutter | None = None

    def cut(self, first: int, packets: int) -> tuple[bytearray, memoryview]:
        """The frame that holds `packets` of the packets from number `first` on: its virtio and
        protocol headers, and its payload; write one after the other.

        Raises `FrameError` when it is neither IPv4 nor IPv6.
        """
        cutter = self._cutter
        if cutter is None:
            cutter = self._cutter = _Cutter(self.frame, self._payload)
        start = self._payload + first * self._segment_bytes
        payload = memoryview(self.frame)[start : start + packets * self._segment_bytes]
        last = first + packets == self.packets
        return cutter.headers(first, packets, len(payload), last=last), payload


class _Cutter:
    """Makes the headers of the parts of one frame.

    What all parts have in common is worked out once: the headers as a template, and the checksums
    without the fields that differ.
    """

    __slots__ = (
        "_identification",
        "_ip_fields",
        "_ip_sum",
        "_is_ipv4",
        "_is_udp",
        "_network",
        "_partial",
        "_segment_bytes",
        "_sequence",
        "_tcp_fields",
        "_template",
        "_transport",
    )

    def __init__(self, frame: bytes, payload: int) -> None:
        flags, gso_type, _, segment_bytes, csum_start, csum_offset = VNET.unpack_from(frame)
        template = bytearray(frame[:payload])
        header_bytes = payload - VNET_HEADER_BYTES
        VNET.pack_into(
            template, 0, flags, gso_type, header_bytes, segment_bytes, csum_start, csum_offset
        )
        self._template = template
        self._segment_bytes = segment_bytes
        self._is_udp = gso_type == GSO_UDP_L4
        self._transport = VNET_HEADER_BYTES + csum_start
        self._network = network_header(frame)
        self._is_ipv4 = template[self._network] >> 4 == 4
        self._read_network()
        self._read_transport(len(frame))

    def headers(self, first: int, packets: int, payload_bytes: int, *, last: bool) -> bytearray:
        """Virtio and protocol headers of a part; `last` when it holds the train's last packet."""
        headers = self._template[:]
        transport_bytes = len(headers) - self._transport + payload_bytes
        if packets == 1:
            headers[1] = GSO_NONE
            headers[4] = headers[5] = 0  # gso_size
        ip_bytes = self._transport - self._network + transport_bytes
        if self._is_ipv4:
            identification = (self._identification + first) & 0xFFFF
            checksum = ~_fold(self._ip_sum + ip_bytes + identification) & 0xFFFF
            fragment, ttl_protocol = self._ip_fields
            _IPV4_MIDDLE.pack_into(
                headers,
                self._network + 2,
                ip_bytes,
                identification,
                fragment,
                ttl_protocol,
                checksum,
            )
        else:
            _UINT16.pack_into(headers, self._network + 4, ip_bytes - IPV6_HEADER_BYTES)
        partial = _fold(self._partial + transport_bytes)
        if self._is_udp:
            _UDP_TAIL.pack_into(headers, self._transport + 4, transport_bytes, partial)
        else:
            acknowledgement, offset, flags, window = self._tcp_fields
            if not last:
                flags &= ~(FIN | PSH)
            if first:
                flags &= ~CWR
            sequence = seq_add(self._sequence, first * self._segment_bytes)
            _TCP_MIDDLE.pack_into(
                headers,
                self._transport + 4,
                sequence,
                acknowledgement,
                offset,
                flags,
                window,
                partial,
            )
        return headers

    def _read_network(self) -> None:
        """The fields of an IPv4 header, and its checksum without length and identification
        (RFC 1624, equation 3)."""
        self._ip_fields = (0, 0)
        self._ip_sum = self._identification = 0
        if self._is_ipv4:
            total, self._identification, fragment, ttl_protocol, checksum = (
                _IPV4_MIDDLE.unpack_from(self._template, self._network + 2)
            )
            self._ip_fields = (fragment, ttl_protocol)
            self._ip_sum = (~checksum & 0xFFFF) + (~total & 0xFFFF)
            self._ip_sum += ~self._identification & 0xFFFF

    def _read_transport(self, frame_bytes: int) -> None:
        """The fields of the transport header, and its partial checksum without the length."""
        self._tcp_fields = (0, 0, 0, 0)
        self._sequence = 0
        at = self._transport + 4
        if self._is_udp:
            _, partial = _UDP_TAIL.unpack_from(self._template, at)
        else:
            self._sequence, acknowledgement, offset, flags, window, partial = (
                _TCP_MIDDLE.unpack_from(self._template, at)
            )
            self._tcp_fields = (acknowledgement, offset, flags, window)
        self._partial = partial + (~(frame_bytes - self._transport) & 0xFFFF)


def classify(item: object) -> int:
    """Return a hash of a frame's addresses and ports, times two, plus 1 if it is ECN-capable.

    Frames that are neither IPv4 nor IPv6 are one flow.
    """
    frame = item.frame if isinstance(item, OffloadedFrame) else item
    assert isinstance(frame, bytes)
    try:
        at = network_header(frame)
    except FrameError:
        return 0
    if frame[at] >> 4 == 4:
        addresses = frame[at + 12 : at + 20]
        ports = at + (frame[at] & 0x0F) * 4
        protocol, ecn = frame[at + 9], frame[at + 1] & _ECN_MASK
    else:
        addresses = frame[at + 8 : at + 40]
        ports = at + IPV6_HEADER_BYTES
        protocol, ecn = frame[at + 6], frame[at + 1] >> 4 & _ECN_MASK
    flow = addresses + frame[ports : ports + 4] if protocol in _WITH_PORTS else addresses
    return crc32(flow) << 1 | (ecn in (ECT_0, ECT_1))


def marked(frame: bytes | bytearray) -> bytearray:
    """Return a frame whose IP header says that congestion was experienced (RFC 3168 section 5).

    Raises `FrameError` when it is neither IPv4 nor IPv6.
    """
    changed = bytearray(frame)
    at = network_header(frame)
    if frame[at] >> 4 == 4:
        before = int.from_bytes(frame[at : at + 2])
        after = before | CE
        checksum = ~int.from_bytes(frame[at + 10 : at + 12]) & 0xFFFF
        changed[at : at + 2] = after.to_bytes(2)
        # RFC 1624, equation 3
        total = _fold(checksum + (~before & 0xFFFF) + after)
        changed[at + 10 : at + 12] = (~total & 0xFFFF).to_bytes(2)
    else:
        changed[at + 1] |= CE << 4
    return changed


def corrupted(frame: bytes | bytearray) -> bytearray | None:
    """Return a frame with a wrong checksum, which is complete: the receiver has to look at it.

    Of TCP, UDP and ICMPv6 it is theirs, of other IPv4 packets the header's; None where there is
    none.
    """
    changed = bytearray(frame)
    changed[:VNET_HEADER_BYTES] = bytes(VNET_HEADER_BYTES)
    try:
        at = network_header(frame)
    except FrameError:
        return None
    if frame[at] >> 4 == 4:
        protocol, transport = frame[at + 9], at + (frame[at] & 0x0F) * 4
        fallback = at + 10
    else:
        protocol, transport = frame[at + 6], at + IPV6_HEADER_BYTES
        fallback = 0
    place = transport + _CHECKSUM_AT[protocol] if protocol in _CHECKSUM_AT else fallback
    if not place or place + 2 > len(frame):
        return None
    if frame[0] & NEEDS_CSUM and protocol in _CHECKSUM_AT:
        # What stands there is the sum of the pseudo-header.
        covered = frame[transport:] + bytes(len(frame) - transport & 1)
        total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
        _UINT16.pack_into(changed, place, ~_fold(total) & 0xFFFF)
    changed[place] ^= 1
    if changed[place : place + 2] == bytes(2):  # UDP's for none
        changed[place] ^= 2
    return changed


def network_header(frame: bytes | bytearray) -> int:
    """Where the IP header is: behind the Ethernet header and any tags; `FrameError` for none."""
    at = VNET_HEADER_BYTES + 12  # behind the two addresses
    while int.from_bytes(frame[at : at + 2]) in _TAG_TYPES:
        at += VLAN_TAG_BYTES
    kind = int.from_bytes(frame[at : at + 2])
    if kind not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        raise FrameError(f"segmentation offload of Ethernet type {kind:#06x}")
    return at + 2


def _fold(total: int) -> int:
    """The one's complement sum in 16 bits."""
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)
