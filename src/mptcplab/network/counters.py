"""What one direction of a link has done so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.network.piece import Piece

if TYPE_CHECKING:
    from mypy_extensions import i64

COUNTER_NAMES: Final = (
    "offered_packets",
    "offered_bytes",
    "sent_packets",
    "sent_bytes",
    "delivered_packets",
    "delivered_bytes",
    "queue_drop_packets",
    "queue_drop_bytes",
    "mark_packets",
    "loss_packets",
    "loss_bytes",
    "down_packets",
    "down_bytes",
    "duplicate_packets",
    "duplicate_bytes",
    "corrupt_packets",
    "queued_packets",
    "queued_bytes",
    "queue_peak_packets",
    "queue_peak_bytes",
    "busy_ns",
)
"""The counters in the order in which `ChannelCounters.values` gives them."""


class ChannelCounters:
    """Counters of a channel. Packets are those on the wire, however they were offered; bytes are
    bytes of frames, without `overhead_bytes`.

    offered: what came in at the near end
    sent: what the transmitter has put on the wire, lost packets included
    delivered: what came out at the far end
    queue_drop: turned away by the queue, or taken out of it
    mark: sent with a mark of congestion (ECN) in the place of being dropped
    loss: lost on the wire, by the loss model
    down: lost because the link was or went down
    duplicate: delivered a second time; corrupt: delivered damaged; both are among those delivered
    queued: waiting or being sent at this moment; queue_peak: the most of it since the last reset
    busy_ns: how long the transmitter has been sending

    Every packet offered is delivered, or counted under queue_drop, loss or down, or still inside;
    those delivered twice count twice, once of these under duplicate.
    """

    __slots__ = COUNTER_NAMES

    def __init__(self) -> None:
        self.offered_packets: i64 = 0
        self.offered_bytes: i64 = 0
        self.sent_packets: i64 = 0
        self.sent_bytes: i64 = 0
        self.delivered_packets: i64 = 0
        self.delivered_bytes: i64 = 0
        self.queue_drop_packets: i64 = 0
        self.queue_drop_bytes: i64 = 0
        self.mark_packets: i64 = 0
        self.loss_packets: i64 = 0
        self.loss_bytes: i64 = 0
        self.down_packets: i64 = 0
        self.down_bytes: i64 = 0
        self.duplicate_packets: i64 = 0
        self.duplicate_bytes: i64 = 0
        self.corrupt_packets: i64 = 0
        self.queued_packets: i64 = 0
        self.queued_bytes: i64 = 0
        self.queue_peak_packets: i64 = 0
        self.queue_peak_bytes: i64 = 0
        self.busy_ns: i64 = 0

    def note_delivered(self, piece: Piece) -> None:
        """Count a piece that has come out at the far end."""
        self.delivered_packets += piece.packets
        self.delivered_bytes += piece.frame_bytes
        if piece.corrupt:
            self.corrupt_packets += piece.packets
        if piece.is_copy:
            self.duplicate_packets += piece.packets
            self.duplicate_bytes += piece.frame_bytes

    def values(self) -> tuple[int, ...]:
        """All counters, in the order of `COUNTER_NAMES`."""
        return (
            self.offered_packets,
            self.offered_bytes,
            self.sent_packets,
            self.sent_bytes,
            self.delivered_packets,
            self.delivered_bytes,
            self.queue_drop_packets,
            self.queue_drop_bytes,
            self.mark_packets,
            self.loss_packets,
            self.loss_bytes,
            self.down_packets,
            self.down_bytes,
            self.duplicate_packets,
            self.duplicate_bytes,
            self.corrupt_packets,
            self.queued_packets,
            self.queued_bytes,
            self.queue_peak_packets,
            self.queue_peak_bytes,
            self.busy_ns,
        )

    def copy(self) -> ChannelCounters:
        """The same values, which no longer change."""
        counters = ChannelCounters()
        for name in COUNTER_NAMES:
            setattr(counters, name, getattr(self, name))
        return counters
