"""The simulated network: wires chained into routes between interfaces.

A :class:`Conduit` is one direction of a link; a :class:`Route` is the conduits from one interface
to another, through any switches on the way.  Switches forward at once: what queues is the link
behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from mptcplab.loop import Loop
from mptcplab.network.link import ChannelModel
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece
from mptcplab.network.wire import Wire
from mptcplab.simulated.parcel import Parcel

PIECE_NS: Final = 1_000_000
"""How much wire time a train may keep together (ns).  A train of 64 KiB at 1 Gb/s takes 524 us and
stays whole, as hosts with segmentation offload see it; on slower links it is taken apart, so that
no packet is late by more than this."""


class Conduit(Wire):
    """One direction of a link, in virtual time."""

    __slots__ = ("direction", "link")

    def __init__(
        self,
        loop: Loop,
        link: str,
        direction: str,
        parameters: ChannelParameters,
        random: Random,
    ) -> None:
        super().__init__(
            loop, ChannelModel(parameters, random, loop.now_ns, PIECE_NS), self._hand_on
        )
        self.link = link
        self.direction = direction

    def send(self, parcel: Parcel) -> None:
        """Put a parcel into the queue; what does not fit is dropped and counted."""
        segment = parcel.segment
        header_bytes = parcel.header_bytes
        size = segment.segment_size_bytes
        payload_bytes = segment.payload_bytes
        if size <= 0 or payload_bytes <= size:
            frame_bytes = payload_bytes + header_bytes
            self.offer(parcel, 1, frame_bytes, frame_bytes)
        else:
            packets = (payload_bytes + size - 1) // size
            last_bytes = payload_bytes - (packets - 1) * size + header_bytes
            self.offer(parcel, packets, size + header_bytes, last_bytes)

    def _hand_on(self, piece: Piece) -> None:
        parcel = piece.item
        assert isinstance(parcel, Parcel)
        if piece.packets != parcel.packets:
            parcel = parcel.cut(piece.first, piece.packets)
        parcel.hop += 1
        route = parcel.route
        if parcel.hop < len(route.conduits):
            route.conduits[parcel.hop].send(parcel)
        else:
            route.arrive(parcel)


class Route:
    """The conduits between two interfaces, and what happens at the end of the last one."""

    __slots__ = ("arrive", "conduits", "frame_header_bytes")

    def __init__(
        self,
        conduits: tuple[Conduit, ...],
        frame_header_bytes: int,
        arrive: Callable[[Parcel], None],
    ) -> None:
        self.conduits = conduits
        self.frame_header_bytes = frame_header_bytes
        """Ethernet header, with the VLAN tag where there is one."""
        self.arrive = arrive
