"""IPv4, IPv6 and what may stand between them and TCP: extension headers, fragments, AH."""

from __future__ import annotations

from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Ints, be16, be32, be64, column, rows, u8
from mptcplab.trace.decode.layers import IPV4, IPV6, PROTOCOL, Layers, Step
from mptcplab.wire.ip import (
    AUTHENTICATION_HEADER,
    EXTENSION_HEADERS,
    FRAGMENT_HEADER,
    IPV4_HEADER_BYTES,
    IPV6_HEADER_BYTES,
)


def _ipv4(layers: Layers, chosen: Ints) -> None:
    chosen = layers.having(chosen, IPV4_HEADER_BYTES, "IPv4")
    at = layers.at[chosen]
    header = rows(layers.data, at, IPV4_HEADER_BYTES)
    first = header[:, 0]
    header_bytes = (first & 15).astype(np.int64) << 2
    good = (first >> 4 == 4) & (header_bytes >= IPV4_HEADER_BYTES)
    if not good.all():
        layers.reject(chosen[~good], "the IPv4 header states a wrong version or length")
        chosen, at, header, header_bytes = (
            chosen[good], at[good], header[good], header_bytes[good],
        )  # fmt: skip
    if (header_bytes > IPV4_HEADER_BYTES).any():
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
    layers.ip_id[chosen] = column(header, 4, ">u2")
    layers.hops[chosen] = header[:, 8]
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
    chosen = layers.having(chosen, IPV6_HEADER_BYTES, "IPv6")
    at = layers.at[chosen]
    good = u8(layers.data, at) >> 4 == 6
    if not good.all():
        layers.reject(chosen[~good], "the IPv6 header states a wrong version")
        chosen, at = chosen[good], at[good]
    payload = be16(layers.data, at + 4).astype(np.int64)
    limit = layers.limit[chosen]
    # A length of zero is a jumbogram (RFC 2675), as BIG TCP makes them.
    layers.limit[chosen] = np.where(
        payload > 0, np.minimum(at + IPV6_HEADER_BYTES + payload, limit), limit
    )
    layers.end[chosen] = np.minimum(layers.end[chosen], layers.limit[chosen])
    words = [be64(layers.data, at + k) for k in (8, 16, 24, 32)]
    layers.source[chosen] = layers.book.codes(words[0], words[1])
    layers.destination[chosen] = layers.book.codes(words[2], words[3])
    layers.ip_id[chosen] = -1
    layers.hops[chosen] = u8(layers.data, at + 7)
    layers.advance(chosen, IPV6_HEADER_BYTES, u8(layers.data, at + 6).astype(np.int32) + PROTOCOL)


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


STEPS: Final[dict[int, Step]] = {
    IPV4: _ipv4,
    IPV6: _ipv6,
    PROTOCOL + 4: _ipv4,
    PROTOCOL + 41: _ipv6,
    PROTOCOL + FRAGMENT_HEADER: _ipv6_fragment,
    PROTOCOL + AUTHENTICATION_HEADER: _authentication,
    **dict.fromkeys((PROTOCOL + number for number in EXTENSION_HEADERS), _extension),
}
