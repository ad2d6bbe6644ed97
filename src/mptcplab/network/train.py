"""What is offered to a channel: packets one behind the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i64


class Train:
    """The train that a channel was offered last; one object a channel, used again.

    `packets` packets of `packet_bytes` each, the last of `last_bytes`; the first came at
    `start_ns`, the last `spread_ns` later, the others evenly in between; or `burst_packets` at a
    time, each burst when the last of its packets would come.
    `piece_packets` is how many may travel together though they take longer than the channel's
    pieces.
    """

    __slots__ = (
        "burst_packets",
        "item",
        "last_bytes",
        "packet_bytes",
        "packets",
        "piece_packets",
        "spread_ns",
        "start_ns",
    )

    def __init__(self) -> None:
        self.item: object = None
        self.packets: i64 = 0
        self.packet_bytes: i64 = 0
        self.last_bytes: i64 = 0
        self.start_ns: i64 = 0
        self.spread_ns: i64 = 0
        self.piece_packets: i64 = 0
        self.burst_packets: i64 = 1

    def arrival_ns(self, index: i64) -> i64:
        """Return when the packet of this index came."""
        if self.spread_ns == 0:
            return self.start_ns
        burst = self.burst_packets
        if burst <= 1:
            if index <= 0:
                return self.start_ns
            return self.start_ns + self.spread_ns * index // (self.packets - 1)
        last = (index // burst + 1) * burst
        if last >= self.packets:
            return self.start_ns + self.spread_ns
        return self.start_ns + self.spread_ns * last // self.packets

    def came_together(self, index: i64) -> i64:
        """Return how many packets up to the one of this index came with it."""
        burst = self.burst_packets
        if burst <= 1:
            return 1
        return index % burst + 1

    def bytes_of(self, first: i64, packets: i64) -> i64:
        """Return how long so many packets are together, from the one of index `first` on."""
        size = packets * self.packet_bytes
        if first + packets == self.packets:
            size += self.last_bytes - self.packet_bytes
        return size
