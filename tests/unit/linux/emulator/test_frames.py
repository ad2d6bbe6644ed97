"""Frames with segmentation offload, and what is cut out of them.

The reference is a plain segmenter: it writes each packet of the train by itself, with its full
checksums, from the RFCs' header layouts.
"""

from __future__ import annotations

import socket
import struct

import pytest

from mptcplab.linux.emulator.frames import (
    VNET_HEADER_BYTES,
    FrameError,
    OffloadedFrame,
    corrupted,
)

MSS = 100
GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 1, 3, 4, 5, 0x80
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
SOURCE = {4: socket.inet_aton("10.0.0.1"), 6: socket.inet_pton(socket.AF_INET6, "fd00::1")}
TARGET = {4: socket.inet_aton("10.0.0.2"), 6: socket.inet_pton(socket.AF_INET6, "fd00::2")}
PAYLOAD = bytes(range(256)) * 3
OPTIONS = bytes(range(1, 13))


def internet_sum(data: bytes) -> int:
    """RFC 1071, not complemented."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header(version: int, protocol: int, length: int) -> bytes:
    ends = SOURCE[version] + TARGET[version]
    if version == 4:
        return ends + struct.pack("!BBH", 0, protocol, length)
    return ends + struct.pack("!IHBB", length, 0, 0, protocol)


def ip_header(version: int, protocol: int, length: int, identification: int) -> bytes:
    if version == 6:
        return struct.pack("!IHBB", 0x60012345, length, protocol, 64) + SOURCE[6] + TARGET[6]
    fields = [0x45, 0, 20 + length, identification, 0x4000, 64, protocol, 0]
    ends = SOURCE[4] + TARGET[4]
    fields[-1] = ~internet_sum(struct.pack("!BBHHHBBH", *fields) + ends) & 0xFFFF
    return struct.pack("!BBHHHBBH", *fields) + ends


def tcp_header(sequence: int, flags: int) -> bytes:
    offset = (20 + len(OPTIONS)) // 4 << 4
    return struct.pack("!HHIIBBHHH", 80, 4321, sequence, 7, offset, flags, 500, 0, 9) + OPTIONS


def packet(
    version: int, *, tcp: bool, tag: bytes, index: int, flags: int, payload: bytes, partial: bool
) -> bytes:
    """An Ethernet frame; its checksum whole, or as a sender with offload leaves it."""
    protocol = 6 if tcp else 17
    sequence = (0xFFFF_FF00 + index * MSS) & 0xFFFF_FFFF
    header = tcp_header(sequence, flags) if tcp else struct.pack("!HHHH", 5, 6, 8 + len(payload), 0)
    length = len(header) + len(payload)
    pseudo = pseudo_header(version, protocol, length)
    whole = ~internet_sum(pseudo + header + payload) & 0xFFFF
    checksum = internet_sum(pseudo) if partial else whole
    at = 16 if tcp else 6
    header = header[:at] + struct.pack("!H", checksum) + header[at + 2 :]
    kind = struct.pack("!H", 0x0800 if version == 4 else 0x86DD)
    network = ip_header(version, protocol, length, (0xFFFE + index) & 0xFFFF)
    return b"\2\0\0\0\0\2\2\0\0\0\0\1" + tag + kind + network + header + payload


def offloaded(version: int, *, tcp: bool, tag: bytes, flags: int, payload: bytes) -> bytes:
    frame = packet(version, tcp=tcp, tag=tag, index=0, flags=flags, payload=payload, partial=True)
    kind = (GSO_TCPV4 if version == 4 else GSO_TCPV6) if tcp else GSO_UDP_L4
    start = 14 + len(tag) + (20 if version == 4 else 40)
    # a linear buffer: the header length is only a hint, and as long as the frame
    vnet = struct.pack("=BBHHHH", 1, kind, len(frame), MSS, start, 16 if tcp else 6)
    return vnet + frame


def complete(frame: bytes) -> bytes:
    """What the receiver's offload does: fill in the checksum that the virtio header asks for."""
    flags, _, _, _, start, offset = struct.unpack_from("=BBHHHH", frame)
    assert flags == 1
    data = bytearray(frame[VNET_HEADER_BYTES:])
    checksum = ~internet_sum(bytes(data[start:])) & 0xFFFF
    struct.pack_into("!H", data, start + offset, checksum)
    return bytes(data)


CASES = [
    (version, tcp, tag)
    for version in (4, 6)
    for tcp in (True, False)
    for tag in (b"", b"\x81\0\0\x05")
]


@pytest.mark.parametrize(("version", "tcp", "tag"), CASES)
@pytest.mark.parametrize("length", [730, 700, 100])
def test_packets_cut_out_one_by_one_are_those_of_a_plain_segmenter(
    version: int, tcp: bool, tag: bytes, length: int
) -> None:
    flags = ACK | PSH | FIN | CWR
    payload = PAYLOAD[:length]
    train = OffloadedFrame(offloaded(version, tcp=tcp, tag=tag, flags=flags, payload=payload))
    assert train.packets == -(-length // MSS)
    for index in range(train.packets):
        mine = flags
        if index < train.packets - 1:
            mine &= ~(FIN | PSH)
        if index:
            mine &= ~CWR
        chunk = payload[index * MSS : (index + 1) * MSS]
        expected = packet(
            version, tcp=tcp, tag=tag, index=index, flags=mine, payload=chunk, partial=False
        )
        cut = b"".join(train.cut(index, 1))
        _, kind, header_bytes, segment_bytes, _, _ = struct.unpack_from("=BBHHHH", cut)
        assert (kind, segment_bytes) == (0, 0)
        assert header_bytes == len(expected) - len(chunk)
        assert complete(cut) == expected
        size = train.last_bytes if index == train.packets - 1 else train.packet_bytes
        assert size == len(expected)


@pytest.mark.parametrize(("version", "tcp", "tag"), CASES)
@pytest.mark.parametrize(("first", "packets"), [(0, 3), (2, 4), (3, 5), (0, 8)])
def test_a_shorter_train_is_cut_into_the_same_packets_as_the_whole(
    version: int, tcp: bool, tag: bytes, first: int, packets: int
) -> None:
    flags = ACK | PSH | CWR
    train = OffloadedFrame(offloaded(version, tcp=tcp, tag=tag, flags=flags, payload=PAYLOAD[:730]))
    cut = b"".join(train.cut(first, packets))
    part = OffloadedFrame(cut)
    assert part.packets == packets
    for index in range(packets):
        whole = complete(b"".join(train.cut(first + index, 1)))
        assert complete(b"".join(part.cut(index, 1))) == whole
    assert sum(len(buffer) for buffer in train.cut(first, packets)) == len(cut)


def test_the_congestion_bit_in_the_gso_type_does_not_hide_tcp() -> None:
    frame = bytearray(offloaded(4, tcp=True, tag=b"", flags=ACK, payload=PAYLOAD[:300]))
    frame[1] |= GSO_ECN
    train = OffloadedFrame(bytes(frame))
    assert train.packets == 3
    assert b"".join(train.cut(0, 2))[1] == GSO_TCPV4 | GSO_ECN


def test_frames_that_contradict_themselves_are_refused() -> None:
    good = offloaded(4, tcp=True, tag=b"", flags=ACK, payload=PAYLOAD[:300])
    for bad in (b"\0" + good[1:], good[:40], good[:4] + b"\0\0" + good[6:]):
        with pytest.raises(FrameError):
            OffloadedFrame(bad)
    arp = bytearray(good)
    arp[VNET_HEADER_BYTES + 12 : VNET_HEADER_BYTES + 14] = b"\x08\x06"
    with pytest.raises(FrameError):
        OffloadedFrame(bytes(arp)).cut(0, 1)


@pytest.mark.parametrize(("version", "tcp", "tag"), CASES)
@pytest.mark.parametrize("length", [100, 33])
@pytest.mark.parametrize("partial", [True, False])
def test_a_damaged_packet_differs_by_its_checksum_which_is_wrong(
    version: int, tcp: bool, tag: bytes, length: int, partial: bool
) -> None:
    def frame(*, partial: bool) -> bytes:
        return packet(
            version, tcp=tcp, tag=tag, index=0, flags=ACK, payload=PAYLOAD[:length], partial=partial
        )

    start = 14 + len(tag) + (20 if version == 4 else 40)
    at = 16 if tcp else 6
    vnet = struct.pack("=BBHHHH", 1, 0, 0, 0, start, at) if partial else bytes(VNET_HEADER_BYTES)
    damaged = corrupted(vnet + frame(partial=partial))
    assert damaged is not None
    assert damaged[:VNET_HEADER_BYTES] == bytes(VNET_HEADER_BYTES)  # the receiver has to check it
    sound, found = frame(partial=False), bytes(damaged[VNET_HEADER_BYTES:])
    place = start + at
    assert found[:place] + found[place + 2 :] == sound[:place] + sound[place + 2 :]
    assert internet_sum(found[place : place + 2]) != internet_sum(sound[place : place + 2])
    assert found[place : place + 2] != bytes(2)  # which UDP has where there is none


def test_a_damaged_datagram_does_not_come_to_have_no_checksum() -> None:
    for value in range(65536):
        payload = value.to_bytes(2)
        frame = packet(4, tcp=False, tag=b"", index=0, flags=0, payload=payload, partial=False)
        if frame[40:42] == b"\1\0":
            damaged = corrupted(bytes(VNET_HEADER_BYTES) + frame)
            assert damaged is not None
            assert damaged[VNET_HEADER_BYTES + 40 :][:2] == b"\2\0"
            return
    pytest.fail("no datagram has that checksum")


def test_what_no_checksum_covers_is_dropped_when_it_is_damaged() -> None:
    tag, payload = b"", PAYLOAD[:20]
    ping = bytearray(
        packet(4, tcp=False, tag=tag, index=0, flags=0, payload=payload, partial=False)
    )
    ping[14 + 9] = 1  # ICMP has a checksum of its own; the header's will do
    damaged = corrupted(bytes(VNET_HEADER_BYTES) + ping)
    assert damaged is not None
    assert internet_sum(bytes(damaged[VNET_HEADER_BYTES + 14 :][:20])) != internet_sum(
        bytes(ping[14:34])
    )
    ping[12:14] = b"\x08\x06"  # ARP
    assert corrupted(bytes(VNET_HEADER_BYTES) + ping) is None
