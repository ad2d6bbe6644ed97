"""One line of text per segment, in tcpdump's manner."""

from __future__ import annotations

import pytest

from mptcplab.wire.error import WireError
from mptcplab.wire.ip import format_address, parse_address
from mptcplab.wire.mptcp import Dss, MpCapable
from mptcplab.wire.packet import decode_packet, encode_packet
from mptcplab.wire.segment import ACK, PSH, SYN, Segment, format_segment


def test_a_syn() -> None:
    segment = Segment(
        parse_address("10.0.0.1"),
        1234,
        parse_address("10.0.0.2"),
        80,
        seq=1,
        flags=SYN,
        window=65535,
        mss=1460,
        sack_permitted=True,
        ts_val=5,
        wscale=7,
        mptcp=(MpCapable(1, 0x81),),
    )
    assert format_segment(segment) == (
        "10.0.0.1.1234 > 10.0.0.2.80: Flags [S], seq 1, win 65535, options "
        "[mss 1460,sackOK,TS val 5 ecr 0,wscale 7,mp capable v1 flags 0x81], length 0"
    )


def test_a_train() -> None:
    segment = Segment(
        parse_address("fd00::1"),
        1234,
        parse_address("fd00::2"),
        80,
        seq=0xFFFF_FFFF,
        ack=9,
        flags=ACK | PSH,
        window=1,
        payload_bytes=2000,
        segment_size_bytes=1400,
        sack=((1, 2), (3, 4)),
        mptcp=(Dss(5, True, 6, True, 7, 2001, data_fin=True),),
    )
    assert format_segment(segment) == (
        "fd00::1.1234 > fd00::2.80: Flags [P.], seq 4294967295:1999, ack 9, win 1, options "
        "[sack 2 {1:2}{3:4},mp dss fin ack 5 seq 6:2007 subseq 7 len 2001], length 2000, "
        "in 2 packets"
    )
    assert format_segment(segment) in repr(segment)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("1e0300", "MP_CAPABLE of version 0 has 3 bytes, expected 12 or 20"),
        ("1e02", "an MPTCP option of 2 bytes has no subtype"),
        ("1e0d10016d90c0fd58817b1200", "MP_JOIN has 13 bytes, expected 12, 16 or 24"),
        ("1e0a2003105a2ad7d0ab", "a DSS with flags 0x03 has 10 bytes, expected 12"),
        ("1e063001 0a00", "ADD_ADDR has 6 bytes, which is no address"),
        ("1e083201 0a000001", "ADD_ADDR of 8 bytes has no HMAC and is neither an echo"),
        ("1e10310a0000010102030405060708aa", "ADD_ADDR of 16 bytes is an echo with an HMAC"),
        ("1e0340", "REMOVE_ADDR has no address ID"),
        ("1e0550000000", "MP_PRIO has 5 bytes, expected 3 or 4"),
        ("1e2420", "length byte 36 with"),
        ("1e00", "length byte 0 with"),
        ("0101011e", "the header ends before the length byte"),
        ("02030500", "length 3, expected 4"),
        ("0509000000000000000000", "length 9, expected 10, 18, 26 or 34"),
    ],
)
def test_malformed_options_are_told_with_their_reason(options: str, reason: str) -> None:
    raw = bytes.fromhex(options)
    raw += bytes(-len(raw) % 4)
    packet = bytearray(encode_packet(Segment(bytes(4), 1, bytes(4), 2)) + raw)
    packet[2:4] = len(packet).to_bytes(2, "big")
    packet[32] = len(packet) - 20 >> 2 << 4
    segment = decode_packet(bytes(packet))
    assert not segment.mptcp
    assert [bad.reason[: len(reason)] for bad in segment.malformed] == [reason]
    assert f"malformed ({reason}" in format_segment(segment)


def test_addresses_as_text() -> None:
    for text in ("10.0.0.1", "fd00::1"):
        assert format_address(parse_address(text)) == text
    for text in ("10.0.0", "fd00:::1", "host", "10.0.0.1\0"):
        with pytest.raises(WireError):
            parse_address(text)
