"""Frames that pass middleboxes: what leaves is right to the last checksum."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address
from typing import Any

import pytest

from mptcplab.linux.emulator.boxes import BoxedEnd
from mptcplab.linux.emulator.frames import VNET, VNET_HEADER_BYTES, OffloadedFrame
from mptcplab.middleboxes import make_chain
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.wire.checksum import ones_sum
from mptcplab.wire.mptcp import Dss
from mptcplab.wire.packet import decode_packet, encode_packet
from mptcplab.wire.segment import ACK, CWR, PSH, SYN, Segment

INSIDE = {4: "10.0.1.1", 6: "fd00::1"}
PEER = {4: "10.0.9.9", 6: "fd00::9"}
MACS = bytes(range(12))
TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
TAG = b"\x81\x00\x00\x07"
OUTSIDE = socket.inet_aton("10.0.1.254")
MS = 1_000_000


def packed(version: int, text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET if version == 4 else socket.AF_INET6, text)


def segment(version: int = 4, payload: bytes = b"", **fields: Any) -> Segment:
    return Segment(
        packed(version, INSIDE[version]),
        1000,
        packed(version, PEER[version]),
        80,
        flags=fields.pop("flags", ACK),
        payload=payload or None,
        payload_bytes=len(payload),
        **fields,
    )


def frame(made: Segment, *, tag: bytes = b"", ttl: int = 33) -> bytes:
    """Return a frame as a device hands it over: partial checksum, and GSO for a train."""
    version = 4 if len(made.src) == 4 else 6
    packet = bytearray(encode_packet(made))
    start = 20 if version == 4 else 40
    if version == 4:
        packet[8] = ttl
        packet[4:6] = b"\x12\x34"
        packet[10:12] = bytes(2)
        packet[10:12] = (0xFFFF ^ ones_sum(bytes(packet[:20]))).to_bytes(2)
    else:
        packet[7] = ttl
        packet[1:4] = b"\x0a\xbc\xde"
    header = (packet[start + 12] >> 4) * 4
    ethernet = MACS + tag + TYPES[version]
    gso = made.packets > 1
    kind = {4: 1, 6: 4}[version] if gso else 0
    start += len(ethernet)
    offload = VNET.pack(1, kind, start + header, made.segment_size_bytes if gso else 0, start, 16)
    return offload + ethernet + packet


def through(plans: list[MiddleboxPlan], data: bytes, *, outbound: bool = True) -> list[bytes]:
    return BoxedEnd(make_chain(plans, 1)).forward(data, outbound, 0)


def completed(data: bytes) -> bytes:
    """Return the IP packet of a frame, its checksum completed as a device does it."""
    flags, _, _, _, start, offset = VNET.unpack_from(data)
    content = bytearray(data[VNET_HEADER_BYTES:])
    if flags & 1:
        total = 0xFFFF ^ ones_sum(bytes(content[start:]))
        content[start + offset : start + offset + 2] = total.to_bytes(2)
    at = 14
    while content[at - 2 : at] == b"\x81\x00":
        at += 4
    return bytes(content[at:])


def read(data: bytes) -> Segment:
    """Return the segment of a frame, all checksums verified."""
    packet = completed(data)
    if packet[0] >> 4 == 4:
        assert ones_sum(packet[:20]) == 0xFFFF
    return decode_packet(packet, verify_checksum=True)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tag", [b"", TAG], ids=["untagged", "tagged"])
def test_what_no_box_changes_goes_on_as_it_came(version: int, tag: bytes) -> None:
    data = frame(segment(version, bytes(3000), segment_size_bytes=1000), tag=tag)
    assert through([MiddleboxPlan("strip", options=("MP_JOIN",))], data) == [data]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tag", [b"", TAG], ids=["untagged", "tagged"])
def test_a_stripped_option_leaves_the_rest_of_the_packet(version: int, tag: bytes) -> None:
    came = segment(version, bytes(range(200)), ts_val=7, ts_ecr=8, mptcp=(Dss(data_ack=5),), seq=9)
    (out,) = through([MiddleboxPlan("strip", options=("DSS",))], frame(came, tag=tag))
    left = read(out)
    assert (left.mptcp, left.ts_val, left.seq) == ((), 7, 9)
    assert bytes(left.payload or b"") == bytes(range(200))
    packet = completed(out)
    assert packet[8 if version == 4 else 7] == 33, "the hop limit stays"
    assert packet[4:6] == b"\x12\x34" if version == 4 else packet[1:4] == b"\x0a\xbc\xde"
    assert out[VNET_HEADER_BYTES:].startswith(MACS + tag)


@pytest.mark.parametrize("version", [4, 6])
def test_a_train_stays_a_train_that_the_link_can_cut(version: int) -> None:
    came = segment(
        version, bytes(range(250)) * 10, segment_size_bytes=500, flags=ACK | PSH | CWR, seq=1
    )
    (out,) = through([MiddleboxPlan("randomise-sequence")], frame(segment(version, flags=SYN)))
    boxed = BoxedEnd(make_chain([MiddleboxPlan("randomise-sequence")], 1))
    boxed.forward(frame(segment(version, flags=SYN)), True, 0)
    (out,) = boxed.forward(frame(came), True, 0)
    train = OffloadedFrame(out)
    assert (train.packets, VNET.unpack_from(out)[1] & 0x80) == (5, 0x80)
    first = read(out).seq
    assert first != 1
    parts = [b"".join(map(bytes, train.cut(number, 1))) for number in range(5)]
    assert [(read(part).seq - first) & 0xFFFF_FFFF for part in parts] == [0, 500, 1000, 1500, 2000]
    assert b"".join(bytes(read(part).payload or b"") for part in parts) == bytes(range(250)) * 10


@pytest.mark.parametrize("version", [4, 6])
def test_split_frames_are_packets_of_their_own(version: int) -> None:
    came = segment(version, bytes(range(250)) * 4, segment_size_bytes=500, mptcp=(Dss(data_ack=5),))
    out = through([MiddleboxPlan("split", size_bytes=300)], frame(came))
    assert [read(each).payload_bytes for each in out] == [300, 200, 300, 200]
    assert {read(each).mptcp for each in out} == {(Dss(data_ack=5),)}


def test_a_sink_without_offload_gets_packets() -> None:
    data = frame(segment(4, bytes(2500), segment_size_bytes=1000))
    boxed = BoxedEnd(make_chain([MiddleboxPlan("firewall", enabled=False)]))
    out = boxed.forward(data, False, 0, in_trains=False)
    assert [read(each).payload_bytes for each in out] == [1000, 1000, 500]
    assert {VNET.unpack_from(each)[1] for each in out} == {0}


def test_a_merged_packet_has_the_headers_of_its_flow() -> None:
    boxed = BoxedEnd(make_chain([MiddleboxPlan("merge", size_bytes=100, hold_ns=MS)]))
    boxed.forward(frame(segment(4, flags=SYN)), True, 0)
    assert boxed.forward(frame(segment(4, b"one", seq=0)), True, 0) == []
    assert boxed.forward(frame(segment(4, b"two", seq=3)), True, 0) == []
    ((out, outbound),) = boxed.expire(MS, in_trains=(True, True))
    assert outbound
    assert bytes(read(out).payload or b"") == b"onetwo"
    assert out[VNET_HEADER_BYTES:].startswith(MACS)


NAT = MiddleboxPlan("nat", outside=IPv4Address("10.0.1.254"))


def datagram(source: bytes, target: bytes, ports: tuple[int, int], content: bytes) -> bytes:
    udp = struct.pack("!HHHH", *ports, 8 + len(content), 0) + content
    ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0x4000, 64, 17, 0))
    ip += source + target
    ip[10:12] = (0xFFFF ^ ones_sum(bytes(ip))).to_bytes(2)
    pseudo = source + target + struct.pack("!BBH", 0, 17, len(udp))
    total = 0xFFFF ^ ones_sum(pseudo + udp)
    return (
        VNET.pack(0, 0, 0, 0, 0, 0) + MACS + TYPES[4] + ip + udp[:6] + total.to_bytes(2) + content
    )


def test_nat_translates_datagrams_both_ways() -> None:
    inside, peer = packed(4, INSIDE[4]), packed(4, PEER[4])
    boxed = BoxedEnd(make_chain([NAT]))
    (out,) = boxed.forward(datagram(inside, peer, (53, 5353), b"question"), True, 0)
    packet = completed(out)
    assert packet[12:16] == OUTSIDE
    pseudo = packet[12:20] + struct.pack("!BBH", 0, 17, len(packet) - 20)
    assert ones_sum(pseudo + packet[20:]) == 0xFFFF
    (back,) = boxed.forward(datagram(peer, OUTSIDE, (5353, 53), b"answer"), False, 0)
    assert completed(back)[16:20] == inside
    assert completed(back).endswith(b"answer")


def icmp_error(source: bytes, target: bytes, about: bytes) -> bytes:
    """Return "fragmentation needed" about a packet."""
    icmp = bytearray(struct.pack("!BBHHH", 3, 4, 0, 0, 1200) + about[:28])
    icmp[2:4] = (0xFFFF ^ ones_sum(bytes(icmp))).to_bytes(2)
    ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0))
    ip += source + target
    ip[10:12] = (0xFFFF ^ ones_sum(bytes(ip))).to_bytes(2)
    return VNET.pack(0, 0, 0, 0, 0, 0) + MACS + TYPES[4] + ip + icmp


def test_nat_translates_what_icmp_errors_are_about() -> None:
    """RFC 5508 section 4.2: else path MTU discovery fails behind a NAT."""
    inside, peer, router = packed(4, INSIDE[4]), packed(4, PEER[4]), packed(4, "10.0.1.3")
    boxed = BoxedEnd(make_chain([NAT]))
    (out,) = boxed.forward(frame(segment(4, flags=SYN)), True, 0)
    (error,) = boxed.forward(icmp_error(router, OUTSIDE, completed(out)), False, 0)
    packet = completed(error)
    assert packet[16:20] == inside, "it goes to the host inside"
    assert packet[28 + 12 : 28 + 16] == inside, "about what that had sent"
    assert ones_sum(packet[:20]) == ones_sum(packet[20:]) == ones_sum(packet[28:48]) == 0xFFFF
    answer = Segment(peer, 80, OUTSIDE, 1000, flags=SYN | ACK)
    (came,) = boxed.forward(frame(answer), False, 0)
    (error,) = boxed.forward(icmp_error(router, peer, completed(came)), True, 0)
    packet = completed(error)
    assert packet[28 + 16 : 28 + 20] == OUTSIDE, "about what the peer had sent, as it knows it"
    assert ones_sum(packet[20:]) == 0xFFFF


def test_a_black_hole_drops_other_ip_packets_and_leaves_arp() -> None:
    hole = [MiddleboxPlan("blackhole", direction="forward")]
    ping = icmp_error(packed(4, INSIDE[4]), packed(4, PEER[4]), bytes(28))
    arp = VNET.pack(0, 0, 0, 0, 0, 0) + MACS + b"\x08\x06" + bytes(28)
    assert through(hole, ping) == []
    assert through(hole, ping, outbound=False) == [ping]
    assert through(hole, arp) == [arp]


def test_fragments_and_broken_headers_pass_as_they_are() -> None:
    drop = [MiddleboxPlan("drop", segments=("data",))]
    fragment = bytearray(frame(segment(4, b"x" * 50)))
    fragment[VNET_HEADER_BYTES + 14 + 6] |= 0x20
    assert through(drop, bytes(fragment)) == [bytes(fragment)]
    short = frame(segment(4, b"x"))[: VNET_HEADER_BYTES + 14 + 25]
    assert through(drop, short) == [short]


def icmpv6_error(kind: int, about: bytes) -> bytes:
    """Return an ICMPv6 message from outside about a packet that went there."""
    message = struct.pack("!BBHI", kind, 0, 0, 1280) + about[:48]
    ip = (
        struct.pack("!IHBB", 6 << 28, len(message), 58, 64)
        + packed(6, PEER[6])
        + packed(6, INSIDE[6])
    )
    return VNET.pack(0, 0, 0, 0, 0, 0) + MACS + TYPES[6] + ip + message


def test_a_box_that_drops_icmp_drops_errors_alone() -> None:
    boxed = BoxedEnd(make_chain([MiddleboxPlan("drop", segments=("ICMP",), direction="backward")]))
    about = encode_packet(segment())
    too_big = icmp_error(packed(4, PEER[4]), packed(4, INSIDE[4]), about)
    assert boxed.forward(too_big, False, 0) == []
    assert boxed.forward(too_big, True, 0) == [too_big]
    echo = bytearray(too_big)
    echo[VNET_HEADER_BYTES + 14 + 20] = 0
    assert boxed.forward(bytes(echo), False, 0) == [bytes(echo)]
    about = encode_packet(segment(6))
    assert boxed.forward(icmpv6_error(2, about), False, 0) == []
    solicitation = icmpv6_error(135, about)
    assert boxed.forward(solicitation, False, 0) == [solicitation]
    data = frame(segment(payload=b"data"))
    assert boxed.forward(data, False, 0) == [data]
    assert boxed.chain.boxes[0].tallies[False].dropped == 2
