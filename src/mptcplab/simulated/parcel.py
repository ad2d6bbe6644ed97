"""What travels through the simulated network: a segment, and who takes it from each link."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final
from zlib import crc32

from mptcplab.compiling import mypyc_attr
from mptcplab.seq import SEQ32_MASK, seq_add
from mptcplab.simulated.cpu import Core, Work
from mptcplab.wire.icmp import IcmpError
from mptcplab.wire.mptcp import MAX_MAPPING_BYTES, Dss, MptcpOption
from mptcplab.wire.segment import ECT_0, ECT_1, FIN, PSH, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

_LAST_ONLY: Final = FIN | PSH  # flags that belong to the last packet of a train


class Destination(ABC):
    """Who takes what travels: the host at the end, or the route that leads to it."""

    __slots__ = ()

    @abstractmethod
    def arrive(self, parcel: Parcel) -> None:
        """Take a parcel that a link has delivered."""

    @abstractmethod
    def receive(self, segment: Segment) -> None:
        """Take a segment whose packets a core of the host has handled."""

    def take_error(self, error: IcmpError) -> None:  # noqa: B027 - hosts alone care
        """Take an ICMP error about a segment that was sent from here."""


@mypyc_attr(free_list_len=1)
class Parcel(Work):
    """A segment on its way, and, when it has arrived, work for the core that serves it.

    ``header_bytes`` is what each of its packets carries besides payload, Ethernet included; ``hop``
    counts the links that it has passed. Its first packet left the last of them ``spread_ns`` before
    its last one, and the next one is told of it ``late_ns`` late; on the first link its packets
    come ``burst_packets`` at a time. Packets within ``coalesce_ns`` of
    one another arrive together.
    """

    __slots__ = (
        "burst_packets",
        "coalesce_ns",
        "core",
        "corrupt",
        "destination",
        "header_bytes",
        "hop",
        "late_ns",
        "packets",
        "segment",
        "spread_ns",
    )

    def __init__(
        self, segment: Segment, destination: Destination, header_bytes: i64, coalesce_ns: i64
    ) -> None:
        super().__init__(0, 0)
        self.core: Core | None = None
        """In whose ring it waits."""
        self.segment = segment
        self.destination = destination
        self.header_bytes: i64 = header_bytes
        self.packets: i64 = segment.packets
        self.corrupt: bool = False
        """Whether a wire has damaged it: its checksum is wrong."""
        self.coalesce_ns: i64 = coalesce_ns
        self.hop: i64 = 0
        self.spread_ns: i64 = segment.spread_ns
        self.late_ns: i64 = segment.late_ns
        self.burst_packets: i64 = segment.burst_packets

    def finish(self) -> None:
        """The core has handled its packets: hand them to the stack."""
        core = self.core
        if core is not None:
            core.waiting_packets -= self.packets
        # One after another as they came, or as the core could handle them.
        last_ns = self.cost_ns // self.packets
        if self.spread_ns < self.cost_ns - last_ns:
            self.spread_ns = self.cost_ns - last_ns
        self.segment.spread_ns = self.spread_ns
        self.destination.receive(self.segment)

    def cut(self, first: i64, packets: i64) -> Parcel:
        """Return the parcel that holds only ``packets`` of this one's, from the ``first`` on."""
        part = Parcel(
            part_of(self.segment, first, packets),
            self.destination,
            self.header_bytes,
            self.coalesce_ns,
        )
        part.hop = self.hop
        part.corrupt = self.corrupt
        return part


def classify(item: object) -> int:
    """Return a hash of a parcel's addresses and ports, times two, plus 1 if it is ECN-capable."""
    assert isinstance(item, Parcel)
    segment = item.segment
    ports = int(segment.src_port << 16 | segment.dst_port).to_bytes(4, "big")
    flow = crc32(segment.src + segment.dst + ports)
    return flow << 1 | (segment.ecn in (ECT_0, ECT_1))


def part_of(train: Segment, first: int, packets: int) -> Segment:
    """Return the segment that stands for ``packets`` packets of a train, from the ``first`` on.

    What belongs to the last packet of the train (FIN, PSH) stays with it; a mapping longer than its
    field is cut with the train. Of a train of ACKs, the part's last one says what it acknowledges.
    """
    if train.payload_bytes == 0:
        return _part_of_acks(train, first, packets)
    size = train.segment_size_bytes
    start = first * size
    end = min(start + packets * size, train.payload_bytes)
    is_last = end == train.payload_bytes
    payload = train.payload
    part = Segment(
        train.src,
        train.src_port,
        train.dst,
        train.dst_port,
        seq=seq_add(train.seq, start),
        ack=train.ack,
        flags=train.flags if is_last else train.flags & ~_LAST_ONLY,
        window=train.window,
        payload_bytes=end - start,
        payload=None if payload is None else memoryview(payload)[start:end],
        segment_size_bytes=size,
        sack=train.sack,
        ts_val=train.ts_val,
        ts_ecr=train.ts_ecr,
        mptcp=_cut_mappings(train.mptcp, start, end),
        ecn=train.ecn,
        dscp=train.dscp,
    )
    part.raw_options = train.raw_options
    part.piece_packets = train.piece_packets
    return part


def _part_of_acks(train: Segment, first: int, packets: int) -> Segment:
    less = (train.ack_count - first - packets) * train.ack_step_bytes
    part = Segment(
        train.src,
        train.src_port,
        train.dst,
        train.dst_port,
        seq=train.seq,
        ack=(train.ack - less) & SEQ32_MASK,
        flags=train.flags,
        window=train.window,
        sack=train.sack,
        ts_val=train.ts_val,
        ts_ecr=train.ts_ecr,
        mptcp=_earlier_data_ack(train.mptcp, less) if less else train.mptcp,
        ecn=train.ecn,
        dscp=train.dscp,
    )
    part.raw_options = train.raw_options
    part.ack_count = packets
    part.ack_step_bytes = train.ack_step_bytes
    return part


def _earlier_data_ack(options: tuple[MptcpOption, ...], less: int) -> tuple[MptcpOption, ...]:
    """Return options whose DATA_ACK is ``less`` bytes earlier."""
    return tuple(
        option.with_data_ack(option.data_ack - less)
        if isinstance(option, Dss) and option.data_ack is not None
        else option
        for option in options
    )


def _cut_mappings(
    options: tuple[MptcpOption, ...], start: int, end: int
) -> tuple[MptcpOption, ...]:
    for option in options:
        if isinstance(option, Dss) and option.data_length > MAX_MAPPING_BYTES:
            # Payload is a length in simulation, and reads as zeros.
            return tuple(
                part.of_part(start, end - start, 0) if isinstance(part, Dss) else part
                for part in options
            )
    return options
