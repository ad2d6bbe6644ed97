"""A piece of a train on its way through a link."""

from __future__ import annotations


class Piece:
    """Consecutive packets of a train that travel together.

    `item` is what was offered; the piece holds its packets `first` to `first + packets - 1`, in
    sum `frame_bytes` (all but the train's last one are `packet_bytes` long). `end_ns` is when its
    last bit is sent, `arrival_ns` when that bit arrives.
    """

    __slots__ = (
        "arrival_ns",
        "end_ns",
        "first",
        "frame_bytes",
        "item",
        "jitter_ns",
        "lost",
        "overhead_bytes",
        "packet_bytes",
        "packets",
        "rest",
    )

    def __init__(
        self,
        item: object,
        first: int,
        packets: int,
        packet_bytes: int,
        frame_bytes: int,
        overhead_bytes: int,
    ) -> None:
        self.item = item
        self.first = first
        self.packets = packets
        self.packet_bytes = packet_bytes
        self.frame_bytes = frame_bytes
        self.overhead_bytes = overhead_bytes  # of each packet on the wire
        self.lost = False
        self.jitter_ns = 0
        self.end_ns = 0
        self.arrival_ns = 0
        # Nanobits by which end_ns is rounded up; while the rate is 0, those still to be sent
        self.rest = 0
