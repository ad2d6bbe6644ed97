"""Trains longer than one mapping, as captures write them."""

from __future__ import annotations

from mptcplab.wire.checksum import dss_checksum
from mptcplab.wire.mptcp import Dss
from mptcplab.wire.packet import encode_packet, split_train
from mptcplab.wire.segment import ACK, Segment


def test_a_mapping_longer_than_its_field_is_cut_at_packet_borders() -> None:
    size, count = 1400, 100
    train = Segment(
        bytes((10, 0, 0, 1)),
        1,
        bytes((10, 0, 0, 2)),
        2,
        flags=ACK,
        payload_bytes=size * count,
        segment_size_bytes=size,
        mptcp=(Dss(7, True, 2**64 - 10, True, 1, size * count, checksum=0),),
    )
    packets = split_train(train)
    assert len(packets) == count
    for index, packet in enumerate(packets):
        (dss,) = packet.mptcp
        assert isinstance(dss, Dss)
        assert dss.dsn is not None
        start = (dss.dsn + 10) % 2**64
        assert dss.ssn == start + 1
        assert start <= index * size < (index + 1) * size <= start + dss.data_length <= size * count
        assert dss.checksum == dss_checksum(dss.dsn, dss.ssn, dss.data_length, 0)
        encode_packet(packet)
