"""What is encoded decodes to the same, and nothing that is decoded raises another error."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcplab.wire.checksum import add_sums, checksum, ones_sum
from mptcplab.wire.error import WireError
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
    UnknownMptcp,
)
from mptcplab.wire.mptcp_decode import decode_mptcp
from mptcplab.wire.packet import decode_packet, encode_packet, split_train
from mptcplab.wire.segment import MAX_OPTION_BYTES, RawOption, Segment, format_segment

U8 = st.integers(0, 2**8 - 1)
U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
ADDRESS = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


@st.composite
def dss_options(draw: st.DrawFn) -> Dss:
    data_ack_8, dsn_8 = draw(st.booleans()), draw(st.booleans())
    data_ack = draw(st.none() | (U64 if data_ack_8 else U32))
    dsn = draw(st.none() | (U64 if dsn_8 else U32))
    if dsn is None:
        return Dss(data_ack, data_ack_8)
    return Dss(
        data_ack,
        data_ack_8,
        dsn,
        dsn_8,
        draw(U32),
        draw(U16),
        draw(st.none() | U16),
        draw(st.booleans()),
    )


@st.composite
def capable_options(draw: st.DrawFn) -> MpCapable:
    version = draw(st.sampled_from((0, 1)))
    keys = draw(st.integers(1 - version, 2))
    length = draw(st.none() | U16) if version == 1 and keys == 2 else None
    return MpCapable(
        version,
        draw(U8),
        draw(U64) if keys else None,
        draw(U64) if keys == 2 else None,
        length,
        None if length is None else draw(st.none() | U16),
    )


@st.composite
def add_addr_options(draw: st.DrawFn) -> AddAddr:
    version = draw(st.sampled_from((0, 1)))
    echo = version == 1 and draw(st.booleans())
    hmac = None if version == 0 or echo else draw(st.binary(min_size=8, max_size=8))
    return AddAddr(draw(U8), draw(ADDRESS), draw(st.none() | U16), echo, hmac, version)


MPTCP_OPTIONS: st.SearchStrategy[MptcpOption] = st.one_of(
    dss_options(),
    capable_options(),
    add_addr_options(),
    st.builds(MpJoinSyn, st.booleans(), U8, U32, U32),
    st.builds(MpJoinSynAck, st.booleans(), U8, st.binary(min_size=8, max_size=8), U32),
    st.builds(MpJoinAck, st.binary(min_size=20, max_size=20)),
    st.builds(RemoveAddr, st.lists(U8, min_size=1, max_size=8).map(tuple)),
    st.builds(MpPrio, st.booleans(), st.none() | U8),
    st.builds(MpFail, U64),
    st.builds(MpFastclose, U64),
    st.builds(MpTcpRst, U8, st.integers(0, 15)),
    st.binary(max_size=30).map(lambda body: UnknownMptcp(bytes((30, 3 + len(body), 0xF0)) + body)),
)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    address_bytes = draw(st.sampled_from((4, 16)))
    addresses = st.binary(min_size=address_bytes, max_size=address_bytes)
    payload = draw(st.binary(max_size=64))
    segment = Segment(
        draw(addresses),
        draw(U16),
        draw(addresses),
        draw(U16),
        seq=draw(U32),
        ack=draw(U32),
        flags=draw(st.integers(0, 0xFFF)),
        window=draw(U16),
        payload_bytes=len(payload),
        payload=payload or None,
        segment_size_bytes=draw(st.sampled_from((0, 7, 64))),
        mss=draw(st.none() | U16),
        wscale=draw(st.none() | U8),
        sack_permitted=draw(st.booleans()),
        sack=draw(st.lists(st.tuples(U32, U32), max_size=2).map(tuple)),
        ecn=draw(st.integers(0, 3)),
    )
    if draw(st.booleans()):
        segment.ts_val, segment.ts_ecr = draw(U32), draw(U32)
    segment.mptcp = draw(st.lists(MPTCP_OPTIONS, max_size=2).map(tuple))
    if draw(st.booleans()):
        segment.raw_options = (RawOption(253, b"\xfd\x04\x12\x34"),)
    return segment


# Compiled classes have no slots, but a list of what would be in them.
FIELDS: tuple[str, ...] = getattr(Segment, "__mypyc_attrs__", None) or Segment.__slots__


def values(segment: Segment) -> dict[str, object]:
    """Everything that the wire carries, for comparison."""
    out: dict[str, object] = {
        name: getattr(segment, name)
        for name in FIELDS
        if name not in ("payload", "segment_size_bytes", "malformed", "ts_ecr")
    }
    out["ts_ecr"] = segment.ts_ecr if segment.ts_val is not None else 0
    out["payload"] = bytes(segment.payload or b"")
    return out


@pytest.mark.slow
@given(MPTCP_OPTIONS)
def test_every_option_of_both_versions_round_trips(option: MptcpOption) -> None:
    encoded = option.encode()
    assert len(encoded) == option.length_bytes == encoded[1]
    decoded = decode_mptcp(encoded)
    assert decoded == option
    assert isinstance(decoded, MptcpOption)
    assert hash(decoded) == hash(option)


@pytest.mark.slow
@given(segments())
def test_segments_round_trip(segment: Segment) -> None:
    if segment.option_bytes > MAX_OPTION_BYTES:
        with pytest.raises(WireError, match="at most 40"):
            encode_packet(segment)
        return
    encoded = encode_packet(segment)
    assert len(encoded) == segment.header_bytes + segment.payload_bytes
    decoded = decode_packet(encoded, verify_checksum=True)
    assert values(decoded) == values(segment)
    assert not decoded.malformed
    assert "\n" not in format_segment(decoded)


@pytest.mark.slow
@given(segments())
def test_a_train_splits_into_what_it_stands_for(segment: Segment) -> None:
    packets = split_train(segment)
    assert len(packets) == segment.packets
    assert b"".join(bytes(packet.payload or b"") for packet in packets) == bytes(
        segment.payload or b""
    )
    assert sum(packet.wire_bytes for packet in packets) == segment.wire_bytes
    assert all(packet.mptcp == segment.mptcp for packet in packets)
    assert packets[-1].flags & 0x9 == segment.flags & 0x9
    assert not any(packet.flags & 0x9 for packet in packets[:-1])


@pytest.mark.slow
@given(segments(), st.data())
def test_a_flipped_bit_fails_the_checksum(segment: Segment, data: st.DataObject) -> None:
    if segment.option_bytes > MAX_OPTION_BYTES:
        return
    packet = bytearray(encode_packet(segment))
    start = 20 if len(segment.src) == 4 else 40
    position = data.draw(st.integers(start, len(packet) - 1))
    packet[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(WireError):
        decode_packet(bytes(packet), verify_checksum=True)


@pytest.mark.slow
@given(st.binary(max_size=120), st.booleans())
def test_arbitrary_bytes_raise_nothing_else(data: bytes, truncated: bool) -> None:
    try:
        segment = decode_packet(data, truncated=truncated)
    except WireError:
        return
    format_segment(segment)


@given(st.binary(max_size=40))
def test_arbitrary_options_are_decoded_or_called_malformed(options: bytes) -> None:
    options += bytes(-len(options) % 4)
    header = encode_packet(Segment(b"\x0a\0\0\1", 1, b"\x0a\0\0\2", 2))
    packet = bytearray(header + options)
    packet[2:4] = len(packet).to_bytes(2, "big")
    packet[32] = (20 + len(options)) // 4 << 4
    segment = decode_packet(bytes(packet))
    format_segment(segment)
    assert all(bad.reason and bad.raw in options for bad in segment.malformed)
    assert all(raw.raw in options for raw in segment.raw_options)


@pytest.mark.slow
def test_mutated_packets_raise_nothing_else() -> None:
    generator = random.Random(6824)
    seeds = [
        encode_packet(
            Segment(
                bytes(size),
                1,
                bytes(size),
                2,
                ts_val=1,
                mptcp=(Dss(1, True, 2, True, 3, 4, 5),),
                payload=b"data",
                payload_bytes=4,
            )
        )
        for size in (4, 16)
    ]
    decoded = 0
    for _ in range(20_000):
        packet = bytearray(generator.choice(seeds))
        for _ in range(generator.randrange(1, 6)):
            packet[generator.randrange(len(packet))] = generator.randrange(256)
        cut = bytes(packet[: generator.randrange(len(packet) + 1)])
        try:
            format_segment(decode_packet(cut, truncated=generator.random() < 0.5))
            decoded += 1
        except WireError:
            pass
    assert decoded > 1000


@pytest.mark.slow
@given(st.binary(max_size=5000), st.integers(0, 5000))
def test_sums_of_pieces_combine(data: bytes, cut: int) -> None:
    cut = min(cut, len(data))
    whole = ones_sum(data)
    pieces = add_sums(ones_sum(data[:cut]), ones_sum(data[cut:]), odd=cut % 2 == 1)
    assert pieces == whole
    padded = data + bytes(len(data) % 2)
    assert ones_sum(padded + checksum(data).to_bytes(2, "big")) == 0xFFFF


@pytest.mark.slow
@given(st.binary(min_size=1000, max_size=4000))
def test_the_sum_agrees_with_the_rfc(data: bytes) -> None:
    total = 0
    for offset in range(0, len(data), 2):
        total += int.from_bytes(data[offset : offset + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    assert ones_sum(data) == total
