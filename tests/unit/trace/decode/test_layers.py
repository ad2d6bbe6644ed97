"""Every way to a TCP header: link layers, tags, tunnels, extension headers, fragments."""

from __future__ import annotations

import gzip
import struct
from types import ModuleType
from typing import Any

import pytest
import zstandard
from tests.keys import IDSN_A, IDSN_B, KEY_A, KEY_B

SNAP = b"\xaa\xaa\x03\x00\x00\x00\x08\x00"
WIFI = b"\x88\x02" + bytes(22) + bytes(2) + SNAP  # a data frame with quality of service


def _handshake(build: ModuleType, v6: bool = False) -> list[bytes]:
    """SYN, SYN/ACK, ACK with keys and 14 bytes of data; the keys are a 6.18 kernel's."""
    one, two = ("fd00::1", "fd00::2") if v6 else ("10.0.0.1", "10.0.0.2")
    ip = build.ipv6 if v6 else build.ipv4
    data = build.dss(IDSN_B + 1, IDSN_A + 1, 1, 14)
    return [
        ip(one, two, build.tcp(1024, 80, 100, 0, build.SYN, build.capable())),
        ip(two, one, build.tcp(80, 1024, 500, 101, build.SYN | build.ACK, build.capable(KEY_B))),
        ip(one, two, build.tcp(1024, 80, 101, 501, build.ACK, build.capable(KEY_A, KEY_B))),
        ip(one, two, build.tcp(1024, 80, 101, 501, build.ACK | build.PSH, data, b"hello MPTCP v1")),
    ]


def _check(trace: Any, count: int = 4) -> None:
    assert trace.packets == count
    assert trace.malformed == []
    (connection,) = trace.connections
    assert connection.version == 1
    assert connection.tokens == [0x9C091F03, 0x6D90C0FD]
    assert connection.complete_handshake
    assert connection.bytes == 14
    assert connection.subflows[0].halves[0].data_rel.tolist() == [1]


def _gre(packet: bytes, kind: int = 0x0800) -> bytes:
    return struct.pack(">HHI", 0x2000, kind, 7) + packet  # with a key


def _udp(port: int, packet: bytes) -> bytes:
    return struct.pack(">HHHH", 40000, port, 8 + len(packet), 0) + packet


@pytest.mark.parametrize(
    ("link_type", "prefix"),
    [
        (0, struct.pack("<I", 2)),
        (108, struct.pack(">I", 2)),
        (101, b""),
        (12, b""),
        (228, b""),
        (9, b"\xff\x03\x00\x21"),
        (9, b"\x21"),
        (113, bytes(14) + b"\x08\x00"),
        (276, b"\x08\x00" + bytes(18)),
        (8, bytes(16)),
        (10, bytes(13) + SNAP),
        (50, b"\xff\x03\x00\x21"),
        (50, b"\x0f\x00\x08\x00"),
        (51, b"\x11\x00\x00\x01\x00\x00\x00\x21"),
        (6, bytes(8) + b"\x80" + bytes(5) + b"\x04\x00\x00\x00" + SNAP),
        (100, SNAP),
        (104, b"\x0f\x00\x08\x00"),
        (105, WIFI),
        (107, b"\x18\x41\x03\xcc"),
        (107, b"\x18\x41\x03\x00\x80\x00\x00\x00\x08\x00"),
        (109, bytes(12)),
        (117, b"\x3d" + bytes(63)),
        (119, bytes(144) + WIFI),
        (127, b"\x00\x00\x08\x00" + bytes(4) + WIFI),
        (138, bytes(16) + b"\x08\x00"),
        (163, struct.pack(">II", 0x80211001, 64) + bytes(56) + WIFI),
        (192, struct.pack("<BBHI", 0, 0, 8, 101)),
        (197, bytes(8) + b"\x82" + bytes(7) + bytes(8) + bytes(2) + bytes(12) + b"\x08\x00"),
        (204, b"\x00\xff\x03\x00\x21"),
        (239, b"\x02\x00\x00\x00" + struct.pack("<HHI", 8, 10, 0) + struct.pack("<HH", 4, 9)),
        (242, bytes(40) + b"\x08\x00\x00\x00"),
        (258, struct.pack("<III", 108, 1, 101) + bytes(96)),
    ],
)
def test_link_layers(build: ModuleType, read: Any, link_type: int, prefix: bytes) -> None:
    _check(read(build.pcap([prefix + one for one in _handshake(build)], link_type)))


@pytest.mark.parametrize("tags", [(), (0x8100,), (0x88A8, 0x8100), (0x9100, 0x8100)])
def test_vlan_tags(build: ModuleType, read: Any, tags: tuple[int, ...]) -> None:
    _check(read(build.pcap([build.ethernet(one, tags=tags) for one in _handshake(build)])))


@pytest.mark.parametrize("tunnel", ["ipip", "gre", "gre-ethernet", "vxlan", "geneve", "gtp", "mpls",
                                    "pppoe", "snap", "6in4", "erspan", "pptp", "l2tp", "etherip",
                                    "vxlan-gpe", "nsh", "lisp", "teredo", "mpls-ip", "mpls-udp",
                                    "pseudowire", "control word", "backbone"])  # fmt: skip
def test_tunnels(build: ModuleType, read: Any, tunnel: str) -> None:
    def outer(payload: bytes, protocol: int) -> bytes:
        return bytes(build.ethernet(build.ipv4("192.0.2.1", "192.0.2.2", payload, protocol)))

    def wrap(one: bytes) -> bytes:
        match tunnel:
            case "ipip":
                return outer(one, 4)
            case "6in4":
                return outer(one, 41)
            case "gre":
                return outer(_gre(one), 47)
            case "gre-ethernet":
                return outer(_gre(build.ethernet(one), 0x6558), 47)
            case "vxlan":
                return outer(_udp(4789, b"\x08" + bytes(7) + build.ethernet(one)), 17)
            case "geneve":
                header = struct.pack(">BBHI", 1, 0, 0x0800, 7 << 8) + bytes(4)
                return outer(_udp(6081, header + one), 17)
            case "erspan":
                header = struct.pack(">HHI", 0x1000, 0x88BE, 1) + bytes(8)
                return outer(header + build.ethernet(one), 47)
            case "pptp":
                header = struct.pack(">HHHHI", 0x3001, 0x880B, len(one) + 2, 1, 1)
                return outer(header + b"\x00\x21" + one, 47)
            case "l2tp":
                header = struct.pack(">HHHHH", 0x4202, 99, 1, 1, 2) + bytes(2)
                return outer(_udp(1701, header + b"\xff\x03\x00\x21" + one), 17)
            case "etherip":
                return outer(b"\x30\x00" + bytes(build.ethernet(one)), 97)
            case "vxlan-gpe":
                return outer(_udp(4790, b"\x0c\x00\x00\x01" + bytes(4) + one), 17)
            case "nsh":
                header = struct.pack(">HBBI", 0x0002, 2, 1, 7)
                return bytes(build.ethernet(header + one, 0x894F))
            case "lisp":
                return outer(_udp(4341, bytes(8) + one), 17)
            case "teredo":
                return outer(_udp(3544, bytes(8) + one), 17)
            case "mpls-ip" | "mpls-udp":
                label = struct.pack(">I", 17 << 12 | 0x100)
                return outer(_udp(6635, label + one) if tunnel == "mpls-udp" else label + one,
                             17 if tunnel == "mpls-udp" else 137)  # fmt: skip
            case "pseudowire" | "control word":
                label = struct.pack(">I", 17 << 12 | 0x100)
                word = bytes(4) if tunnel == "control word" else b""
                return bytes(build.ethernet(label + word + build.ethernet(one), 0x8847))
            case "backbone":
                return bytes(build.ethernet(bytes(4) + build.ethernet(one), 0x88E7))
            case "gtp":
                return outer(_udp(2152, struct.pack(">BBHI", 0x30, 255, len(one), 9) + one), 17)
            case "mpls":
                labels = struct.pack(">II", 16 << 12, 17 << 12 | 0x100)
                return bytes(build.ethernet(labels + one, 0x8847))
            case "pppoe":
                header = struct.pack(">BBHH", 0x11, 0, 1, len(one) + 2) + b"\x00\x21"
                return bytes(build.ethernet(header + one, 0x8864))
        frame = b"\xaa\xaa\x03\x00\x00\x00\x08\x00" + one
        return bytes(build.ethernet(frame, len(frame)))

    packets = _handshake(build, v6=tunnel in ("6in4", "teredo"))
    _check(read(build.pcap([wrap(one) for one in packets])))


def test_ipv6_extension_headers(build: ModuleType, read: Any) -> None:
    def extended(one: bytes) -> bytes:
        hop = b"\x3c\x00\x01\x04" + bytes(4)  # hop by hop, then destination options
        destination = b"\x06\x00\x01\x04" + bytes(4)
        inner = hop + destination + one[40:]
        return one[:4] + struct.pack(">HB", len(inner), 0) + one[7:40] + inner

    packets = [extended(one) for one in _handshake(build, v6=True)]
    _check(read(build.pcap([build.ethernet(one, 0x86DD) for one in packets])))


def test_fragments_are_put_together(build: ModuleType, read: Any) -> None:
    *start, last = _handshake(build)
    body = last[20:]
    pieces = [
        build.ipv4("10.0.0.1", "10.0.0.2", body[:24], fragment=0x2000, ident=9),
        build.ipv4("10.0.0.1", "10.0.0.2", body[24:], fragment=3, ident=9),
    ]
    for order in (pieces, pieces[::-1]):
        _check(read(build.pcap([build.ethernet(one) for one in [*start, *order]])), 5)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_pcap_variants(build: ModuleType, read: Any, order: str, nanoseconds: bool) -> None:
    packets = [build.ethernet(one) for one in _handshake(build)]
    trace = read(build.pcap(packets, order=order, nanoseconds=nanoseconds))
    _check(trace)
    assert trace.last_ns - trace.first_ns == 3_000_000


@pytest.mark.parametrize("tsresol", [3, 6, 9])
def test_pcapng_sections_of_both_byte_orders(build: ModuleType, read: Any, tsresol: int) -> None:
    packets = [build.ethernet(one) for one in _handshake(build)]
    data = build.pcapng_section(packets[:2], order="<", tsresol=tsresol)
    data += build.pcapng_section(packets[2:], order=">", tsresol=tsresol)
    _check(read(data))


def test_compressed_files(build: ModuleType, read: Any) -> None:
    data = build.pcap([build.ethernet(one) for one in _handshake(build)])
    _check(read(gzip.compress(data)))
    _check(read(zstandard.ZstdCompressor().compress(data)))


def test_snap_length_keeps_what_is_there(build: ModuleType, read: Any) -> None:
    packets = [build.ethernet(one) for one in _handshake(build)]
    _check(read(build.pcap(packets, snap=14 + 20 + 60)))
    # Cut within the options: ports and flags are there, keys are not; nothing is malformed.
    trace = read(build.pcap(packets, snap=14 + 20 + 24))
    assert trace.malformed == []
    assert trace.connections[0].keys == [None, None]


def test_several_files_are_merged_by_time(build: ModuleType, read: Any) -> None:
    packets = [build.ethernet(one) for one in _handshake(build)]
    spread = [build.pcap([one], step_ns=0) for one in packets]
    merged = []
    for k, data in enumerate(spread):
        seconds = struct.unpack_from("<I", data, 24)[0]
        merged.append(data[:24] + struct.pack("<II", seconds, k * 1000) + data[32:])
    _check(read(*merged[::-1]))
