"""The packets that a train stands for, each with the time at which it came, and what they are."""

from __future__ import annotations

from mptcplab.seq import seq_add
from mptcplab.wire.mptcp import Dss, MptcpOption
from mptcplab.wire.packet import split_train
from mptcplab.wire.segment import ACK, FIN, RST, SYN, Segment

FlowKey = tuple[bool, bytes, int, bytes, int]
"""Whether TCP, source address and port, destination address and port."""


def is_tcp(segment: Segment) -> bool:
    """Say whether it is TCP: a segment without any flag stands for a UDP datagram."""
    return segment.flags != 0


def flow_of(segment: Segment) -> FlowKey:
    """Return the flow of a segment, in its direction."""
    return (is_tcp(segment), segment.src, segment.src_port, segment.dst, segment.dst_port)


def reverse_flow(segment: Segment) -> FlowKey:
    """Return the flow of the segments that answer one."""
    return (is_tcp(segment), segment.dst, segment.dst_port, segment.src, segment.src_port)


def classes_of(segment: Segment) -> frozenset[str]:
    """Return what a packet is, of :data:`mptcplab.network.middlebox.SEGMENTS`."""
    flags = segment.flags
    if flags & SYN:
        return _SYN_ACK if flags & ACK else _SYN
    classes = set()
    if flags & RST:
        classes.add("RST")
    if flags & FIN:
        classes.add("FIN")
    if segment.payload_bytes:
        classes.add("data")
    return frozenset(classes) or (_ACK if flags else frozenset())


_SYN = frozenset(["SYN"])
_SYN_ACK = frozenset(["SYN/ACK"])
_ACK = frozenset(["ACK"])


def packets_of(segment: Segment) -> list[Segment]:
    """Return the packets of a train, as many segments, each late by the time since it came."""
    count = segment.packets
    if count == 1:
        return [segment]
    packets = split_train(segment) if segment.payload_bytes else _acks(segment)
    for index, packet in enumerate(packets):
        since_first = segment.spread_ns * index // (count - 1)
        packet.late_ns = segment.late_ns + segment.spread_ns - since_first
    return packets


def _acks(train: Segment) -> list[Segment]:
    """Return the ACKs of a train of them."""
    acks = []
    for index in range(train.ack_count):
        less = (train.ack_count - 1 - index) * train.ack_step_bytes
        ack = Segment(
            train.src,
            train.src_port,
            train.dst,
            train.dst_port,
            seq=train.seq,
            ack=seq_add(train.ack, -less),
            flags=train.flags,
            window=train.window,
            sack=train.sack,
            ts_val=train.ts_val,
            ts_ecr=train.ts_ecr,
            mptcp=tuple(_earlier(option, less) for option in train.mptcp),
            ecn=train.ecn,
            dscp=train.dscp,
        )
        ack.raw_options = train.raw_options
        acks.append(ack)
    return acks


def _earlier(option: MptcpOption, less: int) -> MptcpOption:
    """Return an option whose DATA_ACK is so much earlier."""
    if less and isinstance(option, Dss) and option.data_ack is not None:
        return option.with_data_ack(option.data_ack - less)
    return option
