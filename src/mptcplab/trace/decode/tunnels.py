"""Tunnels: from the outer header to the packet within."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Ints, Mask, be16, be32, u8
from mptcplab.trace.decode.layers import (
    ETHERNET,
    IPV4,
    IPV6,
    MPLS,
    NOT_TCP,
    PPP,
    PROTOCOL,
    Layers,
    Step,
)

_NSH: Final = 0x894F
_INNER_ETHER_TYPES: Final = (IPV4, IPV6, 0x8100, 0x88A8, MPLS)


def _kind_of(ether_type: Ints) -> Ints:
    """Return the kind that an EtherType in a tunnel's header stands for."""
    kind = np.where(ether_type == 0x6558, ETHERNET, ether_type)
    return np.asarray(np.where(ether_type == 0x880B, PPP, kind))


def _mpls(layers: Layers, chosen: Ints) -> None:
    """Labels (RFC 3032) down to the bottom: IP, or Ethernet as a pseudowire (RFC 4448)."""
    chosen = layers.having(chosen, 4, "MPLS")
    bottom = u8(layers.data, layers.at[chosen] + 2) & 1 == 1
    layers.advance(chosen, 4, MPLS)
    inner = layers.fitting(chosen[bottom], 1)
    version = u8(layers.data, layers.at[inner]) >> 4
    for size in (0, 4):  # without and with a control word, which starts with four zero bits
        at = layers.at[inner] + size
        framed = np.isin(be16(layers.data, at + 12), _INNER_ETHER_TYPES)
        framed &= (at + 15 <= layers.end[inner]) & ((size == 0) | (version == 0))
        framed &= ~_looks_like_ip(layers, inner, version)
        layers.advance(inner[framed], size, ETHERNET)
        inner, version = inner[~framed], version[~framed]
    layers.by_ip_version(inner, 0)


def _looks_like_ip(layers: Layers, chosen: Ints, version: Ints) -> Mask:
    """Whether a packet of an unstated kind is IP, by a version and a length that agree."""
    at = layers.at[chosen]
    room = layers.limit[chosen] - at
    four = (version == 4) & (be16(layers.data, at + 2) <= room)
    six = (version == 6) & (be16(layers.data, at + 4).astype(np.int64) + 40 <= room)
    return np.asarray(four | six)


def _gre(layers: Layers, chosen: Ints) -> None:
    """GRE (RFC 2784, RFC 2890) and PPTP's version of it (RFC 2637)."""
    chosen = layers.having(chosen, 4, "GRE")
    flags = be16(layers.data, layers.at[chosen])
    ether_type = be16(layers.data, layers.at[chosen] + 2).astype(np.int64)
    words = (flags >> 15 & 1) + (flags >> 13 & 1) + (flags >> 12 & 1)
    pptp = flags & 7 == 1
    words = np.where(pptp, 1 + (flags >> 12 & 1) + (flags >> 7 & 1), words)
    # ERSPAN's own header follows: none in type I (without a sequence number), 8 or 12 bytes.
    span = np.where((ether_type == 0x88BE) & (flags & 0x1000 != 0), 2, 0)
    span = np.where(ether_type == 0x22EB, 3, span)
    kind = np.where(np.isin(ether_type, (0x88BE, 0x22EB)), ETHERNET, _kind_of(ether_type))
    # Source routes, and unknown versions.
    kind = np.where((flags & 0x4006 != 0) & ~pptp, NOT_TCP, kind)
    size = 4 + 4 * (words.astype(np.int64) + span)
    third = layers.fitting(chosen[span == 3], 20)
    if third.size:  # its last bit states that eight more bytes follow
        rows = np.isin(chosen, third)
        last = u8(layers.data, layers.at[third] + size[rows] - 1) & 1
        size[rows] += np.where(last == 1, 8, 0)
    layers.advance(chosen, size, kind)


def _udp(layers: Layers, chosen: Ints) -> None:
    """UDP, of which only tunnels are followed."""
    layers.kind[chosen] = NOT_TCP
    chosen = chosen[layers.at[chosen] + 16 <= layers.end[chosen]]
    ports = be32(layers.data, layers.at[chosen])
    layers.at[chosen] += 8
    destination = ports & 0xFFFF
    for port, tunnel in _UDP_TUNNELS.items():
        inside = destination == port
        if port in _EITHER_PORT:
            inside |= ports >> 16 == port
        if inside.any():
            tunnel(layers, chosen[inside])


def _vxlan(layers: Layers, chosen: Ints) -> None:
    marked = u8(layers.data, layers.at[chosen]) & 0x08 != 0
    layers.advance(chosen[marked], 8, ETHERNET)


def _vxlan_gpe(layers: Layers, chosen: Ints) -> None:
    """VXLAN with a next protocol (draft-ietf-nvo3-vxlan-gpe)."""
    _by_next_protocol(layers, chosen, 3, 8)


def _nsh(layers: Layers, chosen: Ints) -> None:
    """Network service header (RFC 8300), which states its length in units of four bytes."""
    chosen = layers.fitting(chosen, 8)
    size = (be16(layers.data, layers.at[chosen]) & 0x3F).astype(np.int64) * 4
    _by_next_protocol(layers, chosen, 3, np.maximum(size, 8))


def _by_next_protocol(layers: Layers, chosen: Ints, place: int, size: int | Ints) -> None:
    protocol = u8(layers.data, layers.at[chosen] + place)
    kinds = np.array((NOT_TCP, IPV4, IPV6, ETHERNET, _NSH, MPLS))
    layers.advance(chosen, size, kinds[np.where(protocol < kinds.size, protocol, 0)])


def _geneve(layers: Layers, chosen: Ints) -> None:
    at = layers.at[chosen]
    options = (u8(layers.data, at) & 0x3F).astype(np.int64) * 4
    layers.advance(chosen, 8 + options, _kind_of(be16(layers.data, at + 2).astype(np.int64)))


def _gtp(layers: Layers, chosen: Ints) -> None:
    """GTP-U version 1 with a user packet (message type 255), and its chained extensions."""
    head = be16(layers.data, layers.at[chosen])
    user = (head >> 13 == 1) & (head & 0xFF == 255)
    chosen, head = chosen[user], head[user]
    optional = np.where(head & 0x0700 != 0, 4, 0)
    layers.at[chosen] += 8 + optional
    chained = head & 0x0400 != 0
    for row in chosen[chained].tolist():
        at, end = int(layers.at[row]), int(layers.end[row])
        following = int(layers.data[at - 1])
        while following and at < end and layers.data[at]:
            at += 4 * int(layers.data[at])
            following = int(layers.data[at - 1]) if at <= end else 0
        layers.at[row] = min(at, end)
    layers.by_ip_version(chosen, 0)


def _l2tp(layers: Layers, chosen: Ints) -> None:
    """L2TP version 2 data messages (RFC 2661): PPP after a header of optional parts."""
    flags = be16(layers.data, layers.at[chosen])
    data = (flags & 0x800F == 2) & (layers.at[chosen] + 16 <= layers.end[chosen])
    chosen, flags = chosen[data], flags[data].astype(np.int64)
    size = 6 + np.where(flags & 0x4000 != 0, 2, 0) + np.where(flags & 0x0800 != 0, 4, 0)
    offset = be16(layers.data, layers.at[chosen] + size).astype(np.int64)
    layers.advance(chosen, size + np.where(flags & 0x0200 != 0, 2 + offset, 0), PPP)


def _teredo(layers: Layers, chosen: Ints) -> None:
    """IPv6 in UDP (RFC 4380), perhaps after an origin indication."""
    origin = be16(layers.data, layers.at[chosen]) == 0
    layers.at[chosen[origin]] += 8
    inner = layers.at[chosen] + 40 <= layers.end[chosen]
    inner &= u8(layers.data, layers.at[chosen]) >> 4 == 6
    layers.advance(chosen[inner], 0, IPV6)


def _before(size: int, kind: int) -> Step:
    def step(layers: Layers, chosen: Ints) -> None:
        layers.advance(layers.fitting(chosen, size), size, kind)

    return step


def _lisp(layers: Layers, chosen: Ints) -> None:
    layers.by_ip_version(layers.fitting(chosen, 9), 8)


_UDP_TUNNELS: Final[dict[int, Callable[[Layers, Ints], None]]] = {
    4789: _vxlan,  # RFC 7348
    8472: _vxlan,  # what Linux used before
    4790: _vxlan_gpe,
    6081: _geneve,  # RFC 8926
    2152: _gtp,  # 3GPP TS 29.281
    1701: _l2tp,
    3544: _teredo,
    4341: _lisp,  # RFC 9300
    6635: _before(0, MPLS),  # RFC 7510
}
_EITHER_PORT: Final = (1701, 3544)
"""Tunnels whose well-known port may be the source: the other end answers to any port."""

STEPS: Final[dict[int, Step]] = {
    MPLS: _mpls,
    0x8848: _mpls,
    _NSH: _nsh,
    PROTOCOL + 17: _udp,
    PROTOCOL + 47: _gre,
    PROTOCOL + 97: _before(2, ETHERNET),  # EtherIP, RFC 3378
    PROTOCOL + 137: _before(0, MPLS),  # RFC 4023
}
