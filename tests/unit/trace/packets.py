"""Hand-written packets for the tests here: bytes put together by the formats' own rules."""

from __future__ import annotations

import struct
from ipaddress import ip_address

SYN, ACK, FIN, RST, PSH = 0x02, 0x10, 0x01, 0x04, 0x08


def tcp(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    options: bytes = b"",
    payload: bytes = b"",
    window: int = 65535,
    header_words: int | None = None,
) -> bytes:
    """A TCP segment; options are padded with NOPs."""
    options += b"\x01" * (-len(options) % 4)
    words = (20 + len(options)) // 4 if header_words is None else header_words
    return (
        struct.pack(">HHIIBBHHH", sport, dport, seq, ack, words << 4, flags, window, 0, 0)
        + options
        + payload
    )


def ipv4(
    source: str,
    destination: str,
    payload: bytes,
    protocol: int = 6,
    fragment: int = 0,
    ident: int = 1,
) -> bytes:
    """An IPv4 packet; ``fragment`` is the flags-and-offset field."""
    return (
        struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), ident, fragment, 64, protocol, 0)
        + ip_address(source).packed
        + ip_address(destination).packed
        + payload
    )


def ipv6(source: str, destination: str, payload: bytes, protocol: int = 6) -> bytes:
    """An IPv6 packet."""
    return (
        struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
        + ip_address(source).packed
        + ip_address(destination).packed
        + payload
    )


def ethernet(payload: bytes, ether_type: int = 0x0800, tags: tuple[int, ...] = ()) -> bytes:
    """An Ethernet frame with VLAN tags, outermost first, given by their EtherTypes."""
    kinds = (*tags, ether_type)
    out = b"\x02" + bytes(10) + b"\x01" + struct.pack(">H", kinds[0])
    for kind in kinds[1:]:
        out += struct.pack(">HH", 7, kind)
    return out + payload


def pcap(
    packets: list[bytes],
    link_type: int = 1,
    order: str = "<",
    nanoseconds: bool = False,
    snap: int = 262144,
    step_ns: int = 1_000_000,
) -> bytes:
    """A pcap file with packets a millisecond apart."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link_type)]
    for k, data in enumerate(packets):
        seconds, fraction = divmod(1_700_000_000 * 10**9 + k * step_ns, 10**9)
        kept = data[:snap]
        unit = 1 if nanoseconds else 1000
        out.append(struct.pack(order + "IIII", seconds, fraction // unit, len(kept), len(data)))
        out.append(kept)
    return b"".join(out)


def _block(kind: int, body: bytes, order: str) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def pcapng_section(
    packets: list[bytes], link_type: int = 1, order: str = "<", tsresol: int = 6
) -> bytes:
    """One section of a pcapng file with one interface."""
    out = _block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    options = struct.pack(order + "HHB3xHH", 9, 1, tsresol, 0, 0)
    out += _block(1, struct.pack(order + "HHI", link_type, 0, 0) + options, order)
    for k, data in enumerate(packets):
        units = 1_700_000_000 * 10**tsresol + k * 10 ** (tsresol - 3)
        head = struct.pack(
            order + "IIIII", 0, units >> 32, units & 0xFFFFFFFF, len(data), len(data)
        )
        out += _block(6, head + data, order)
    return out


def dss(
    ack: int | None, dsn: int | None = None, ssn: int = 0, size: int = 0, fin: bool = False
) -> bytes:
    """A DSS with 64-bit numbers."""
    flags = (0x03 if ack is not None else 0) | (0x0C if dsn is not None else 0) | 0x10 * fin
    body = b"" if ack is None else struct.pack(">Q", ack & (1 << 64) - 1)
    if dsn is not None:
        body += struct.pack(">QIH", dsn & (1 << 64) - 1, ssn, size)
    return bytes((30, 4 + len(body), 0x20, flags)) + body


def capable(*keys: int, version: int = 1) -> bytes:
    """An MP_CAPABLE with the given keys."""
    return bytes((30, 4 + 8 * len(keys), version, 0x01)) + b"".join(
        struct.pack(">Q", key) for key in keys
    )
