"""The simulated network: channels chained into routes between interfaces.

A :class:`Conduit` is one direction of a link with the timer that hands on what arrives.  A
:class:`Route` is the conduits from one interface to another, through any switches on the way;
switches forward at once, since what queues is the link behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from mptcplab.loop.timers import Loop, Timer
from mptcplab.network.link import Channel
from mptcplab.network.parameters import ChannelParameters
from mptcplab.simulated.parcel import Parcel

PIECE_NS: Final = 1_000_000
"""How much wire time a train may keep together (ns).  A train of 64 KiB at 1 Gb/s takes 524 us and
stays whole, as segmentation offload on both hosts would show it; on slower links it is taken apart so
that no packet is late by more than this."""


class Conduit(Timer):
    """One direction of a link, in virtual time."""

    __slots__ = ("channel", "direction", "link", "tap")

    def __init__(
        self,
        loop: Loop,
        link: str,
        direction: str,
        parameters: ChannelParameters,
        random: Random,
    ) -> None:
        super().__init__(loop)
        self.link = link
        self.direction = direction
        self.channel = Channel(parameters, random, loop.now_ns, PIECE_NS)
        self.tap: Callable[[Parcel, int], None] | None = None

    def send(self, parcel: Parcel, now_ns: int) -> None:
        """Put a parcel into the queue; what does not fit is dropped and counted."""
        segment = parcel.segment
        header_bytes = parcel.header_bytes
        size = segment.segment_size_bytes
        payload_bytes = segment.payload_bytes
        channel = self.channel
        if size <= 0 or payload_bytes <= size:
            frame_bytes = payload_bytes + header_bytes
            channel.offer(parcel, 1, frame_bytes, frame_bytes, now_ns)
        else:
            packets = (payload_bytes + size - 1) // size
            last_bytes = payload_bytes - (packets - 1) * size + header_bytes
            channel.offer(parcel, packets, size + header_bytes, last_bytes, now_ns)
        self.set(channel.next_deadline_ns())

    def expire(self, now_ns: int) -> None:
        """Hand on every piece that has arrived."""
        channel = self.channel
        piece = channel.take(now_ns)
        while piece is not None:
            parcel = piece.item
            assert isinstance(parcel, Parcel)
            if piece.packets != parcel.segment.packets:
                parcel = parcel.cut(piece.first, piece.packets)
            self._hand_on(parcel, now_ns)
            piece = channel.take(now_ns)
        self.set(channel.next_deadline_ns())

    def configure(self, parameters: ChannelParameters) -> None:
        """Change the link while it runs."""
        now_ns = self.loop.now_ns
        self.channel.configure(parameters, now_ns)
        self.set(self.channel.next_deadline_ns())

    def _hand_on(self, parcel: Parcel, now_ns: int) -> None:
        route = parcel.route
        assert isinstance(route, Route)
        parcel.hop += 1
        if parcel.hop < len(route.conduits):
            route.conduits[parcel.hop].send(parcel, now_ns)
        else:
            route.arrive(parcel, now_ns)


class Route:
    """The conduits between two interfaces, and what happens at the end of the last one."""

    __slots__ = ("arrive", "conduits", "frame_header_bytes")

    def __init__(
        self,
        conduits: tuple[Conduit, ...],
        frame_header_bytes: int,
        arrive: Callable[[Parcel, int], None],
    ) -> None:
        self.conduits = conduits
        self.frame_header_bytes = frame_header_bytes
        self.arrive = arrive
