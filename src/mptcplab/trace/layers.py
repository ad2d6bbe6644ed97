"""From the start of a packet to its TCP header, whatever lies between, many packets at once.

Each packet has a *kind*: what the bytes at its current position are.  A step takes all packets of
one kind one layer further; tunnels (IP in IP, GRE, VXLAN, Geneve, GTP-U) are layers like others, so
that the innermost TCP header is what counts, as in Wireshark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.addresses import AddressBook
from mptcplab.trace.gather import PADDING, Bytes, Ints, Mask, be16, be32, be64, column, rows, u8
from mptcplab.trace.records import Batch

# A kind is an EtherType as it is, a LINKTYPE_ plus LINK, or an IP protocol plus PROTOCOL.
LINK: Final = 0x1_0000
PROTOCOL: Final = 0x10_0000
NOT_TCP: Final = -1
TCP: Final = PROTOCOL + 6

_IPV4: Final = 0x0800
_IPV6: Final = 0x86DD
_ETHERNET: Final = LINK + 1
_RAW_IP: Final = LINK + 101
_FRAGMENT_EXTENSION: Final = PROTOCOL + 44
_MAX_LAYERS: Final = 24

_VXLAN_PORTS: Final = (4789, 8472)  # RFC 7348, and the port Linux used before
_GENEVE_PORT: Final = 6081  # RFC 8926
_GTP_PORT: Final = 2152  # 3GPP TS 29.281

_SHORT: Final = "the packet ends within its {} header"

Fragment = Callable[[tuple[int, ...], int, bool, bytes], bytes | None]
"""Given (datagram, offset, more, bytes) of a fragment; returns the datagram it completes."""


class Layers:
    """The walk of one batch from its link layer to TCP."""

    def __init__(self, batch: Batch, book: AddressBook, reassemble: Fragment) -> None:
        self.data: Bytes = batch.data
        self.book = book
        self._reassemble = reassemble
        size = len(batch)
        self.kind = (batch.link_type + LINK).astype(np.int32)
        self.at = batch.offset.copy()
        self.end: Ints = batch.offset + batch.captured
        """Where the captured bytes of the packet (or reassembled datagram) end."""
        self.limit: Ints = batch.offset + batch.original
        """Where the packet's bytes ended on the wire."""
        self.cut = batch.captured < batch.original
        self.source: Ints = np.zeros(size, dtype=np.int64)
        self.destination: Ints = np.zeros(size, dtype=np.int64)
        self.malformed: list[tuple[int, str]] = []

    def run(self) -> Ints:
        """Walk to the TCP headers; returns the rows that have one, ``at`` pointing to it."""
        for _ in range(_MAX_LAYERS):
            pending = np.flatnonzero((self.kind >= 0) & (self.kind != TCP))
            if pending.size == 0:
                break
            kinds = self.kind[pending]
            for kind in np.unique(kinds).tolist() if (kinds != kinds[0]).any() else [kinds[0]]:
                step = _STEPS.get(int(kind))
                chosen = pending[kinds == kind]
                if step is None:
                    self.kind[chosen] = NOT_TCP
                else:
                    step(self, chosen)
        else:
            for row in np.flatnonzero((self.kind >= 0) & (self.kind != TCP)).tolist():
                self.reject(np.array([row]), "more than 24 nested headers")
        return np.flatnonzero(self.kind == TCP)

    def reject(self, chosen: Ints, reason: str) -> None:
        """Report packets as malformed and leave them out."""
        self.kind[chosen] = NOT_TCP
        self.malformed.extend((row, reason) for row in chosen.tolist())

    def having(self, chosen: Ints, size: int | Ints, what: str) -> Ints:
        """Keep the packets with ``size`` more bytes; others are cut short, or malformed."""
        short = self.at[chosen] + size > self.end[chosen]
        if not short.any():
            return chosen
        lost = chosen[short]
        self.kind[lost] = NOT_TCP
        self.reject(lost[~self.cut[lost]], _SHORT.format(what))
        return chosen[~short]

    def advance(self, chosen: Ints, size: int | Ints, kind: int | NDArray[np.integer]) -> None:
        """Step over ``size`` bytes to a header of ``kind``."""
        self.at[chosen] += size
        self.kind[chosen] = kind

    def by_ip_version(self, chosen: Ints, size: int) -> None:
        """Step over ``size`` bytes to an IP header of the version it states."""
        chosen = self.having(chosen, size + 1, "IP")
        version = u8(self.data, self.at[chosen] + size) >> 4
        kind = np.where(version == 4, _IPV4, np.where(version == 6, _IPV6, NOT_TCP))
        self.advance(chosen, size, kind)

    def replace(self, row: int, datagram: bytes, kind: int) -> None:
        """Continue ``row`` in a reassembled datagram of which ``kind`` is the first header."""
        start = self.data.size
        extra = np.zeros(len(datagram) + PADDING, dtype=np.uint8)
        extra[: len(datagram)] = np.frombuffer(datagram, dtype=np.uint8)
        self.data = np.concatenate((self.data, extra))
        self.at[row] = start
        self.end[row] = self.limit[row] = start + len(datagram)
        self.cut[row] = False
        self.kind[row] = kind

    def fragment(self, chosen: Ints, offset: Ints, more: Mask, keys: list[tuple[int, ...]]) -> None:
        """Hand over fragments; ``kind`` and ``at`` already are those of their payload."""
        for row, start, last, key in zip(
            chosen.tolist(), offset.tolist(), (~more).tolist(), keys, strict=True
        ):
            kind = int(self.kind[row])
            at, end = int(self.at[row]), int(min(self.end[row], self.limit[row]))
            if self.limit[row] > self.end[row]:  # cut by the snap length: cannot be put together
                if start:
                    self.kind[row] = NOT_TCP
                continue
            self.kind[row] = NOT_TCP
            payload = self.data[at:end].tobytes()
            datagram = self._reassemble(key, start, not last, payload)
            if datagram is not None:
                self.replace(row, datagram, kind)


def _ethernet(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 14, "Ethernet")
    ether_type = be16(layers.data, layers.at[chosen] + 12).astype(np.int32)
    layers.advance(chosen, 14, ether_type)
    if (ether_type < 0x600).any():
        _llc(layers, chosen[ether_type < 0x600])


def _llc(layers: Layers, chosen: Ints) -> None:
    """IEEE 802.2, of which only SNAP with an EtherType is of interest."""
    layers.kind[chosen] = NOT_TCP
    chosen = chosen[layers.at[chosen] + 8 <= layers.end[chosen]]
    head = be64(layers.data, layers.at[chosen])
    snap = head >> np.uint64(16) == np.uint64(0xAAAA03000000)
    layers.advance(chosen[snap], 8, (head[snap] & np.uint64(0xFFFF)).astype(np.int32))


def _vlan(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 4, "VLAN")
    layers.advance(chosen, 4, be16(layers.data, layers.at[chosen] + 2).astype(np.int32))


def _cooked_1(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 16, "Linux cooked")
    layers.advance(chosen, 16, be16(layers.data, layers.at[chosen] + 14).astype(np.int32))


def _cooked_2(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 20, "Linux cooked")
    layers.advance(chosen, 20, be16(layers.data, layers.at[chosen]).astype(np.int32))


def _loopback(layers: Layers, chosen: Ints) -> None:
    """BSD NULL and LOOP: an address family in either byte order, 2 being IPv4."""
    layers.by_ip_version(layers.having(chosen, 4, "loopback"), 4)


def _raw_ip(layers: Layers, chosen: Ints) -> None:
    layers.by_ip_version(chosen, 0)


def _ppp(layers: Layers, chosen: Ints) -> None:
    """PPP, with or without HDLC framing (RFC 1661, RFC 1662) and protocol-field compression."""
    chosen = layers.having(chosen, 2, "PPP")
    framed = be16(layers.data, layers.at[chosen]) == 0xFF03
    layers.at[chosen[framed]] += 2
    chosen = layers.having(chosen, 2, "PPP")
    protocol = be16(layers.data, layers.at[chosen])
    short = (protocol >> 8) & 1 == 1
    protocol = np.where(short, protocol >> 8, protocol)
    kind = np.where(protocol == 0x21, _IPV4, np.where(protocol == 0x57, _IPV6, NOT_TCP))
    layers.advance(chosen, np.where(short, 1, 2), kind)


def _pppoe(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 6, "PPPoE")
    layers.advance(chosen, 6, LINK + 9)


def _mpls(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 4, "MPLS")
    bottom = u8(layers.data, layers.at[chosen] + 2) & 1 == 1
    layers.advance(chosen[~bottom], 4, 0x8847)
    layers.by_ip_version(chosen[bottom], 4)


def _ipv4(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 20, "IPv4")
    at = layers.at[chosen]
    header = rows(layers.data, at, 20)
    first = header[:, 0]
    header_bytes = (first & 15).astype(np.int64) << 2
    good = (first >> 4 == 4) & (header_bytes >= 20)
    if not good.all():
        layers.reject(chosen[~good], "the IPv4 header states a wrong version or length")
        chosen, at, header, header_bytes = (
            chosen[good], at[good], header[good], header_bytes[good],
        )  # fmt: skip
    if (header_bytes > 20).any():
        kept = layers.having(chosen, header_bytes, "IPv4")
        if kept.size != chosen.size:
            good = np.isin(chosen, kept)
            chosen, at, header, header_bytes = kept, at[good], header[good], header_bytes[good]
    total = column(header, 2, ">u2").astype(np.int64)
    limit = layers.limit[chosen]
    # A length of zero is a segment that the card will split (or did not, on receiving).
    layers.limit[chosen] = np.where(total >= header_bytes, np.minimum(at + total, limit), limit)
    bad = (total < header_bytes) & (total != 0)
    layers.end[chosen] = np.minimum(layers.end[chosen], layers.limit[chosen])
    layers.source[chosen] = column(header, 12, ">u4")
    layers.destination[chosen] = column(header, 16, ">u4")
    layers.advance(chosen, header_bytes, header[:, 9].astype(np.int32) + PROTOCOL)
    if bad.any():
        layers.reject(chosen[bad], "the IPv4 total length is less than its header")
    fragment = column(header, 6, ">u2")
    pieces = np.flatnonzero((fragment & 0x3FFF != 0) & ~bad)
    if pieces.size:
        chosen = chosen[pieces]
        identifier = column(header, 4, ">u2")[pieces].astype(np.int64)
        layers.fragment(
            chosen,
            (fragment[pieces] & 0x1FFF).astype(np.int64) * 8,
            fragment[pieces] & 0x2000 != 0,
            _datagrams(layers, chosen, identifier),
        )


def _datagrams(layers: Layers, chosen: Ints, identifier: Ints) -> list[tuple[int, ...]]:
    columns = (
        layers.source[chosen],
        layers.destination[chosen],
        identifier,
        layers.kind[chosen].astype(np.int64),
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _ipv6(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 40, "IPv6")
    at = layers.at[chosen]
    good = u8(layers.data, at) >> 4 == 6
    if not good.all():
        layers.reject(chosen[~good], "the IPv6 header states a wrong version")
        chosen, at = chosen[good], at[good]
    payload = be16(layers.data, at + 4).astype(np.int64)
    limit = layers.limit[chosen]
    # A length of zero is a jumbogram (RFC 2675), as BIG TCP makes them.
    layers.limit[chosen] = np.where(payload > 0, np.minimum(at + 40 + payload, limit), limit)
    layers.end[chosen] = np.minimum(layers.end[chosen], layers.limit[chosen])
    words = [be64(layers.data, at + k) for k in (8, 16, 24, 32)]
    layers.source[chosen] = layers.book.codes(words[0], words[1])
    layers.destination[chosen] = layers.book.codes(words[2], words[3])
    layers.advance(chosen, 40, u8(layers.data, at + 6).astype(np.int32) + PROTOCOL)


def _extension(layers: Layers, chosen: Ints) -> None:
    """Hop-by-hop, routing and destination options, mobility, HIP, Shim6 (RFC 8200 section 4)."""
    chosen = layers.having(chosen, 8, "IPv6 extension")
    head = be16(layers.data, layers.at[chosen]).astype(np.int64)
    layers.advance(chosen, ((head & 0xFF) + 1) * 8, (head >> 8).astype(np.int32) + PROTOCOL)


def _authentication(layers: Layers, chosen: Ints) -> None:
    """AH (RFC 4302): its length counts units of four bytes, less two."""
    chosen = layers.having(chosen, 12, "authentication")
    head = be16(layers.data, layers.at[chosen]).astype(np.int64)
    layers.advance(chosen, ((head & 0xFF) + 2) * 4, (head >> 8).astype(np.int32) + PROTOCOL)


def _ipv6_fragment(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 8, "IPv6 fragment")
    at = layers.at[chosen]
    field = be16(layers.data, at + 2)
    identifier = be32(layers.data, at + 4).astype(np.int64)
    layers.advance(chosen, 8, u8(layers.data, at).astype(np.int32) + PROTOCOL)
    parts = field & 0xFFF9 != 0  # an atomic fragment (RFC 6946) is a whole datagram
    if parts.any():
        layers.fragment(
            chosen[parts],
            (field[parts] & 0xFFF8).astype(np.int64),
            field[parts] & 1 == 1,
            _datagrams(layers, chosen[parts], identifier[parts]),
        )


def _gre(layers: Layers, chosen: Ints) -> None:
    """GRE (RFC 2784, RFC 2890): optional checksum, key and sequence number."""
    chosen = layers.having(chosen, 4, "GRE")
    flags = be16(layers.data, layers.at[chosen])
    ether_type = be16(layers.data, layers.at[chosen] + 2).astype(np.int32)
    layers.kind[chosen[flags & 0x4007 != 0]] = NOT_TCP  # source routes; version 1 is PPTP's
    plain = flags & 0x4007 == 0
    chosen, flags, ether_type = chosen[plain], flags[plain], ether_type[plain]
    words = (flags >> 15 & 1) + (flags >> 13 & 1) + (flags >> 12 & 1)
    size = 4 + 4 * words.astype(np.int64)
    layers.advance(chosen, size, np.where(ether_type == 0x6558, _ETHERNET, ether_type))


def _udp(layers: Layers, chosen: Ints) -> None:
    """UDP is of interest only as a tunnel's outer layer."""
    layers.kind[chosen] = NOT_TCP
    chosen = chosen[layers.at[chosen] + 16 <= layers.end[chosen]]
    at = layers.at[chosen]
    port = be16(layers.data, at + 2)
    vxlan = np.isin(port, _VXLAN_PORTS) & (u8(layers.data, at + 8) & 0x08 != 0)
    layers.advance(chosen[vxlan], 16, _ETHERNET)
    geneve = chosen[port == _GENEVE_PORT]
    at = layers.at[geneve]
    options = (u8(layers.data, at + 8) & 0x3F).astype(np.int64) * 4
    inner = be16(layers.data, at + 10).astype(np.int32)
    layers.advance(geneve, 16 + options, np.where(inner == 0x6558, _ETHERNET, inner))
    _gtp(layers, chosen[port == _GTP_PORT])


def _gtp(layers: Layers, chosen: Ints) -> None:
    """GTP-U version 1 with a user packet (message type 255) and no chained extensions."""
    head = be16(layers.data, layers.at[chosen] + 8)
    user = (head >> 13 == 1) & (head & 0xFF == 255)
    chosen, head = chosen[user], head[user]
    optional = np.where(head & 0x0700 != 0, 4, 0)
    layers.at[chosen] += 16 + optional
    chained = head & 0x0400 != 0
    for row in chosen[chained].tolist():
        at, end = int(layers.at[row]), int(layers.end[row])
        following = int(layers.data[at - 1])
        while following and at < end and layers.data[at]:
            at += 4 * int(layers.data[at])
            following = int(layers.data[at - 1]) if at <= end else 0
        layers.at[row] = min(at, end)
    layers.by_ip_version(chosen, 0)


_Step = Callable[[Layers, Ints], None]

_STEPS: Final[dict[int, _Step]] = {
    LINK + 0: _loopback,  # NULL
    LINK + 1: _ethernet,
    LINK + 9: _ppp,
    LINK + 12: _raw_ip,  # what some systems wrote for RAW
    LINK + 14: _raw_ip,
    LINK + 50: _ppp,  # PPP_HDLC
    LINK + 101: _raw_ip,
    LINK + 108: _loopback,  # LOOP
    LINK + 113: _cooked_1,
    LINK + 228: _raw_ip,  # IPV4
    LINK + 229: _raw_ip,  # IPV6
    LINK + 276: _cooked_2,
    _IPV4: _ipv4,
    _IPV6: _ipv6,
    0x8100: _vlan,
    0x88A8: _vlan,
    0x9100: _vlan,
    0x8847: _mpls,
    0x8848: _mpls,
    0x8864: _pppoe,
    PROTOCOL + 4: _ipv4,
    PROTOCOL + 41: _ipv6,
    PROTOCOL + 17: _udp,
    PROTOCOL + 47: _gre,
    PROTOCOL + 0: _extension,
    PROTOCOL + 43: _extension,
    PROTOCOL + 60: _extension,
    PROTOCOL + 135: _extension,
    PROTOCOL + 139: _extension,
    PROTOCOL + 140: _extension,
    PROTOCOL + 51: _authentication,
    _FRAGMENT_EXTENSION: _ipv6_fragment,
}
