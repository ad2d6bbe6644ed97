"""Link layers: from the first byte of a frame to IP (tcpdump.org/linktypes.html)."""

from __future__ import annotations

from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Ints, be16, be32, be64, le16, le32, u8
from mptcplab.trace.decode.layers import ETHERNET, IPV4, IPV6, LINK, LLC, NOT_TCP, PPP, Layers, Step

_NFLOG_PAYLOAD: Final = 9  # linux/netfilter/nfnetlink_log.h: NFULA_PAYLOAD
_MAX_ATTRIBUTES: Final = 32
_WIFI: Final = LINK + 105


def _ethernet(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 14, "Ethernet")
    _by_ether_type(layers, chosen, 12, 14)


def _by_ether_type(layers: Layers, chosen: Ints, place: int, size: int) -> None:
    """Step over ``size`` bytes, of which those at ``place`` are an EtherType, or a length."""
    ether_type = be16(layers.data, layers.at[chosen] + place).astype(np.int32)
    if (ether_type < 0x600).any():
        ether_type = np.where(ether_type < 0x600, LLC, ether_type)
    layers.advance(chosen, size, ether_type)


def _tagged(size: int) -> Step:
    """A tag of ``size`` bytes, an EtherType being the last two."""

    def step(layers: Layers, chosen: Ints) -> None:
        chosen = layers.having(chosen, size, "VLAN")
        _by_ether_type(layers, chosen, size - 2, size)

    return step


def _typed(place: int, size: int) -> Step:
    """A pseudo-header of ``size`` bytes with an EtherType at ``place``."""

    def step(layers: Layers, chosen: Ints) -> None:
        chosen = layers.having(chosen, size, "link")
        ether_type = be16(layers.data, layers.at[chosen] + place).astype(np.int32)
        layers.advance(chosen, size, np.where(ether_type == 4, LLC, ether_type))

    return step


def _before(size: int, kind: int) -> Step:
    """A header of ``size`` bytes that is skipped, before one of ``kind``."""

    def step(layers: Layers, chosen: Ints) -> None:
        layers.advance(layers.fitting(chosen, size), size, kind)

    return step


def _llc(layers: Layers, chosen: Ints) -> None:
    """IEEE 802.2: SNAP with an EtherType (RFC 1042), or the SAP of IP."""
    chosen = layers.fitting(chosen, 8)
    head = be64(layers.data, layers.at[chosen])
    snap = (head >> np.uint64(40) == 0xAAAA03) & ((head >> np.uint64(16)) & 0xFFFFFF == 0)
    sap = head >> np.uint64(40) == 0x060603
    kind = np.where(snap, (head & np.uint64(0xFFFF)).astype(np.int32), NOT_TCP)
    layers.advance(chosen, np.where(sap, 3, 8), np.where(sap, IPV4, kind))


def _loopback(layers: Layers, chosen: Ints) -> None:
    """BSD NULL and LOOP: an address family in either byte order, 2 being IPv4."""
    layers.by_ip_version(layers.having(chosen, 4, "loopback"), 4)


def _raw_ip(layers: Layers, chosen: Ints) -> None:
    layers.by_ip_version(chosen, 0)


def _ip_after(size: int) -> Step:
    """A header of ``size`` bytes before IP of the version it states."""

    def step(layers: Layers, chosen: Ints) -> None:
        layers.by_ip_version(layers.fitting(chosen, size + 1), size)

    return step


def _ppp(layers: Layers, chosen: Ints) -> None:
    """PPP, with or without HDLC framing (RFC 1661, RFC 1662) and protocol-field compression."""
    chosen = layers.having(chosen, 4, "PPP")
    framed = be16(layers.data, layers.at[chosen]) == 0xFF03
    layers.at[chosen[framed]] += 2
    chosen = layers.having(chosen, 2, "PPP")
    protocol = be16(layers.data, layers.at[chosen])
    short = (protocol >> 8) & 1 == 1
    protocol = np.where(short, protocol >> 8, protocol)
    kind = np.where(protocol == 0x21, IPV4, np.where(protocol == 0x57, IPV6, NOT_TCP))
    layers.advance(chosen, np.where(short, 1, 2), kind)


def _hdlc(layers: Layers, chosen: Ints) -> None:
    """PPP in HDLC-like framing, or Cisco's HDLC, told by its first byte."""
    chosen = layers.having(chosen, 4, "HDLC")
    cisco = u8(layers.data, layers.at[chosen]) & 0x7F == 0x0F
    _cisco_hdlc(layers, chosen[cisco])
    layers.kind[chosen[~cisco]] = PPP


def _cisco_hdlc(layers: Layers, chosen: Ints) -> None:
    _typed(2, 4)(layers, chosen)


def _pppoe(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, 6, "PPPoE")
    layers.advance(chosen, 6, PPP)


def _frame_relay(layers: Layers, chosen: Ints) -> None:
    """Q.922 address, control, and a network layer protocol identifier (RFC 2427)."""
    chosen = layers.fitting(chosen, 10)
    at = layers.at[chosen]
    address = np.where(u8(layers.data, at + 1) & 1 == 1, 2, 4)
    control = be16(layers.data, at + address)
    padded = control == 0x0300
    size = address + np.where(padded, 3, 2)
    protocol = u8(layers.data, at + size - 1)
    snap = (protocol == 0x80) & (be16(layers.data, at + size) == 0)
    ether_type = be16(layers.data, at + size + 3).astype(np.int32)
    kind = np.where(protocol == 0xCC, IPV4, np.where(protocol == 0x8E, IPV6, NOT_TCP))
    layers.advance(chosen, np.where(snap, size + 5, size), np.where(snap, ether_type, kind))


def _token_ring(layers: Layers, chosen: Ints) -> None:
    """IEEE 802.5; the first bit of the source address marks a routing field."""
    chosen = layers.fitting(chosen, 16)
    at = layers.at[chosen]
    routed = u8(layers.data, at + 8) & 0x80 != 0
    route = np.where(routed, u8(layers.data, at + 14) & 0x1F, 0)
    layers.advance(chosen, 14 + route.astype(np.int64), LLC)


def _wifi(layers: Layers, chosen: Ints) -> None:
    """IEEE 802.11 data frames that are not encrypted."""
    chosen = layers.fitting(chosen, 24)
    control = be16(layers.data, layers.at[chosen])
    # Type data, subtype with a payload, not protected.
    data = (control & 0x0C00 == 0x0800) & (control & 0x4000 == 0) & (control & 0x0040 == 0)
    layers.kind[chosen[~data]] = NOT_TCP
    chosen, control = chosen[data], control[data]
    quality = control & 0x8000 != 0
    size = 24 + np.where(control & 0x03 == 3, 6, 0) + np.where(quality, 2, 0)
    size += np.where(quality & (control & 0x80 != 0), 4, 0)
    layers.advance(chosen, size, LLC)


def _radiotap(layers: Layers, chosen: Ints) -> None:
    chosen = layers.fitting(chosen, 8)
    layers.advance(chosen, le16(layers.data, layers.at[chosen] + 2).astype(np.int64), _WIFI)


def _prism(layers: Layers, chosen: Ints) -> None:
    """Prism's header has 144 bytes, AVS's states its length."""
    chosen = layers.fitting(chosen, 8)
    at = layers.at[chosen]
    avs = be32(layers.data, at) & 0xFFFFF000 == 0x80211000
    size = np.where(avs, be32(layers.data, at + 4), 144).astype(np.int64)
    layers.advance(chosen, size, _WIFI)


def _ppi(layers: Layers, chosen: Ints) -> None:
    """Per-packet information, which names the link type that follows."""
    chosen = layers.fitting(chosen, 8)
    at = layers.at[chosen]
    kind = le32(layers.data, at + 4).astype(np.int64)
    size = le16(layers.data, at + 2).astype(np.int64)
    layers.advance(chosen, np.maximum(size, 8), np.where(kind < 0x1_0000, kind + LINK, NOT_TCP))


def _apple(layers: Layers, chosen: Ints) -> None:
    """PKTAP, which names the link type that follows."""
    chosen = layers.fitting(chosen, 12)
    at = layers.at[chosen]
    kind = le32(layers.data, at + 8).astype(np.int64)
    size = le32(layers.data, at).astype(np.int64)
    layers.advance(chosen, np.maximum(size, 12), np.where(kind < 0x1_0000, kind + LINK, NOT_TCP))


def _nflog(layers: Layers, chosen: Ints) -> None:
    """Linux netfilter log: attributes, of which one is the packet from its IP header on."""
    chosen = layers.fitting(chosen, 8)
    layers.at[chosen] += 4
    for _ in range(_MAX_ATTRIBUTES):
        chosen = layers.fitting(chosen, 5)
        if chosen.size == 0:
            return
        at = layers.at[chosen]
        size = le16(layers.data, at).astype(np.int64)
        payload = le16(layers.data, at + 2) & 0x7FFF == _NFLOG_PAYLOAD
        layers.by_ip_version(chosen[payload], 4)
        chosen, size = chosen[~payload], np.maximum(size[~payload], 4)
        layers.at[chosen] += (size + 3) & ~3
    layers.kind[chosen] = NOT_TCP


def _packet_filter(layers: Layers, chosen: Ints) -> None:
    """BSD pflog, which starts with its own length, padded to four bytes."""
    chosen = layers.fitting(chosen, 4)
    size = (u8(layers.data, layers.at[chosen]).astype(np.int64) + 3) & ~3
    layers.advance(chosen, np.maximum(size, 4), _RAW_IP)


def _endace(layers: Layers, chosen: Ints) -> None:
    """ERF records of Ethernet and IP, with extension headers."""
    chosen = layers.fitting(chosen, 16)
    kind = u8(layers.data, layers.at[chosen] + 8).astype(np.int64)
    layers.at[chosen] += 16
    more = kind & 0x80 != 0
    while more.any():
        extended = layers.fitting(chosen[more], 8)
        kept = ~more | np.isin(chosen, extended)
        chosen, kind, more = chosen[kept], kind[kept], more[kept]
        more[more] = u8(layers.data, layers.at[extended]) & 0x80 != 0
        layers.at[extended] += 8
    kind &= 0x7F
    ethernet = np.isin(kind, (2, 11, 16))
    ip = np.where((kind == 22) | (kind == 23), _RAW_IP, NOT_TCP)
    layers.advance(chosen, np.where(ethernet, 2, 0), np.where(ethernet, ETHERNET, ip))


_RAW_IP: Final = LINK + 101

STEPS: Final[dict[int, Step]] = {
    LLC: _llc,
    0x8100: _tagged(4),
    0x88A8: _tagged(4),
    0x9100: _tagged(4),
    0x8926: _tagged(6),  # VN-Tag
    0x893F: _tagged(8),  # E-Tag, IEEE 802.1BR
    0x892F: _tagged(6),  # HSR, IEC 62439-3
    0x88E7: _before(4, ETHERNET),  # provider backbone bridge, IEEE 802.1ah
    0x8864: _pppoe,
    LINK + 0: _loopback,  # NULL
    LINK + 1: _ethernet,
    LINK + 6: _token_ring,
    LINK + 8: _ip_after(16),  # SLIP
    LINK + 9: _ppp,
    LINK + 10: _before(13, LLC),  # FDDI
    LINK + 12: _raw_ip,  # what some systems wrote for RAW
    LINK + 14: _raw_ip,
    LINK + 50: _hdlc,
    LINK + 51: _pppoe,
    LINK + 100: _llc,  # ATM with LLC, RFC 2684
    LINK + 101: _raw_ip,
    LINK + 104: _cisco_hdlc,
    LINK + 105: _wifi,
    LINK + 107: _frame_relay,
    LINK + 108: _loopback,  # LOOP
    LINK + 109: _ip_after(12),  # ENC, OpenBSD's IPsec
    LINK + 113: _typed(14, 16),  # Linux cooked
    LINK + 117: _packet_filter,
    LINK + 119: _prism,
    LINK + 122: _before(16, LLC),  # IP over Fibre Channel
    LINK + 127: _radiotap,
    LINK + 138: _typed(16, 18),  # IP over IEEE 1394
    LINK + 163: _prism,  # AVS
    LINK + 166: _before(1, PPP),  # pppd, with the direction
    LINK + 192: _ppi,
    LINK + 197: _endace,
    LINK + 204: _before(1, PPP),  # PPP with direction
    LINK + 228: _raw_ip,  # IPV4
    LINK + 229: _raw_ip,  # IPV6
    LINK + 239: _nflog,
    LINK + 240: _before(4, ETHERNET),  # netANALYZER
    LINK + 242: _typed(40, 44),  # IP over InfiniBand
    LINK + 258: _apple,
    LINK + 276: _typed(0, 20),  # Linux cooked, version 2
}
