"""The interface of queueing disciplines, as a channel sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from mptcplab.network.counters import ChannelCounters
from mptcplab.network.disciplines.packet import Packet, PacketList

if TYPE_CHECKING:
    from mypy_extensions import i64

NO_LIMIT: Final = 1 << 60


class Discipline(ABC):
    """A queue that is looked at when packets come and when they may leave.

    `packets` and `frame_bytes` are what waits, `packet_ns` is how long the channel takes to send a
    full frame. It counts in `counters` what it drops and marks.
    """

    __slots__ = (
        "counters",
        "ecn",
        "frame_bytes",
        "limit_bytes",
        "limit_packets",
        "packet_ns",
        "packets",
    )

    def __init__(self, counters: ChannelCounters, *, ecn: bool) -> None:
        self.counters = counters
        self.ecn = ecn
        self.packets: i64 = 0
        self.frame_bytes: i64 = 0
        self.limit_packets: i64 = NO_LIMIT
        self.limit_bytes: i64 = NO_LIMIT
        self.packet_ns: float = 0.0

    @abstractmethod
    def enqueue(self, packet: Packet, now_ns: i64) -> bool:
        """Take a packet that has come; False where it is turned away, and counted as dropped."""

    @abstractmethod
    def dequeue(self, now_ns: i64) -> Packet | None:
        """Return the packet to send now; None where none is left, as those left were dropped."""

    def is_full_for(self, packet: Packet) -> bool:
        """Say whether a packet finds the limit reached."""
        return (
            self.packets >= self.limit_packets
            or self.frame_bytes + packet.frame_bytes > self.limit_bytes
        )

    def note_in(self, packet: Packet) -> None:
        """A packet waits from now on."""
        self.packets += 1
        self.frame_bytes += packet.frame_bytes

    def note_out(self, packet: Packet) -> None:
        """A packet waits no more."""
        self.packets -= 1
        self.frame_bytes -= packet.frame_bytes

    def marks(self, packet: Packet) -> bool:
        """Mark a packet in the place of dropping it, where both ends of it and we know ECN."""
        if not self.ecn or not packet.ect:
            return False
        if not packet.marked:
            packet.marked = True
            self.counters.mark_packets += 1
        return True

    def drop(self, packet: Packet) -> None:
        """Count a packet that is not sent."""
        self.counters.queue_drop_packets += 1
        self.counters.queue_drop_bytes += packet.frame_bytes


class Waiting(PacketList):
    """A first-in-first-out queue of a discipline, which knows what leaves it."""

    __slots__ = ("_discipline",)

    def __init__(self, discipline: Discipline) -> None:
        super().__init__()
        self._discipline = discipline

    def take(self) -> Packet | None:
        """Take the oldest packet out; None where there is none."""
        packet = self.pop()
        if packet is not None:
            self._discipline.note_out(packet)
        return packet

    def put(self, packet: Packet) -> None:
        """Let a packet wait behind all others."""
        self.append(packet)
        self._discipline.note_in(packet)
