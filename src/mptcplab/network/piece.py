"""A piece of a train on its way through a link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.compiling import mypyc_attr

if TYPE_CHECKING:
    from mypy_extensions import i64

NANOBITS_PER_BYTE: Final = 8_000_000_000
"""A nanobit is what a link of 1 bit/s sends in a nanosecond."""


@mypyc_attr(free_list_len=1)
class Piece:
    """Consecutive packets of a train that travel together.

    `item` is what was offered; the piece holds its packets `first` to `first + packets - 1`, in
    sum `frame_bytes` (all but the train's last one are `packet_bytes` long). `end_ns` is when its
    last bit is sent, `spread_ns` after that of its first packet, and `arrival_ns` when it arrives.
    `leaves_next` and `arrives_next` link it to the pieces behind it in the channel.
    """

    __slots__ = (
        "arrival_ns",
        "arrives_next",
        "corrupt",
        "duplicate",
        "early",
        "end_ns",
        "first",
        "frame_bytes",
        "is_copy",
        "item",
        "jitter_ns",
        "leaves_next",
        "lost",
        "marked",
        "overhead_bytes",
        "packet_bytes",
        "packets",
        "rest",
        "spread_ns",
    )

    def __init__(
        self,
        item: object,
        first: i64,
        packets: i64,
        packet_bytes: i64,
        frame_bytes: i64,
        overhead_bytes: i64,
    ) -> None:
        self.item = item
        self.first: i64 = first
        self.packets: i64 = packets
        self.packet_bytes: i64 = packet_bytes
        self.frame_bytes: i64 = frame_bytes
        self.overhead_bytes: i64 = overhead_bytes  # of each packet on the wire
        self.lost: bool = False
        self.marked: bool = False  # congestion was experienced (CE, RFC 3168 section 5)
        self.corrupt: bool = False  # damaged on the wire
        self.duplicate: bool = False  # to arrive twice
        self.is_copy: bool = False  # the first to arrive of two
        self.early: bool = False  # arrives without the delay
        self.jitter_ns: i64 = 0
        self.end_ns: i64 = 0
        self.arrival_ns: i64 = 0
        self.spread_ns: i64 = 0
        # Nanobits by which end_ns is rounded up; while the rate is 0, those still to be sent
        self.rest: int = 0
        self.leaves_next: Piece | None = None
        self.arrives_next: Piece | None = None

    def unsent_packets(self, backlog: int) -> i64:
        """How many packets have not been sent whole while ``backlog`` nanobits are to be sent."""
        full = (self.packet_bytes + self.overhead_bytes) * NANOBITS_PER_BYTE
        longer = self.packets * self.packet_bytes - self.frame_bytes
        last = full - longer * NANOBITS_PER_BYTE
        if backlog <= last or full <= 0:
            return 1
        return min(self.packets, 1 + (backlog - last + full - 1) // full)


def copy_of(piece: Piece) -> Piece:
    """Return a copy of a piece that arrives twice."""
    copy = Piece(
        piece.item,
        piece.first,
        piece.packets,
        piece.packet_bytes,
        piece.frame_bytes,
        piece.overhead_bytes,
    )
    copy.is_copy = True
    copy.marked = piece.marked
    copy.corrupt = piece.corrupt
    copy.end_ns = piece.end_ns
    copy.arrival_ns = piece.arrival_ns
    copy.spread_ns = piece.spread_ns
    return copy


def leaving(first: Piece | None) -> list[Piece]:
    """Return a piece and those that leave the transmitter behind it."""
    pieces: list[Piece] = []
    while first is not None:
        pieces.append(first)
        first = first.leaves_next
    return pieces


def arriving(first: Piece | None) -> list[Piece]:
    """Return a piece and those that arrive behind it."""
    pieces: list[Piece] = []
    while first is not None:
        pieces.append(first)
        first = first.arrives_next
    return pieces


def arrival_order(piece: Piece) -> tuple[int, int]:
    """Return what sorts pieces by arrival."""
    return piece.arrival_ns, piece.end_ns
