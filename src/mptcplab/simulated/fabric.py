"""The simulated network: wires chained into routes between interfaces.

A :class:`Conduit` is one direction of a link; a :class:`Route` is the conduits from one interface
to another, through any switches and routers on the way.  These forward at once: what queues is the
link behind them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.compiling import mypyc_attr
from mptcplab.loop import Loop
from mptcplab.network.link import channel_model
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece
from mptcplab.network.wire import Wire
from mptcplab.simulated.parcel import Destination, Parcel, classify
from mptcplab.wire.segment import CE, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

_WHOLE: Final = 1 << 30
"""Packets of a piece that is never cut: a train of ACKs stays one."""

_MANY: Final = 4
"""How many hand-overs of an interface may be one piece, at the least: as one of two or three, a
piece would change which of them completes a burst."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Station(ABC):
    """The middleboxes at one end of a link."""

    __slots__ = ()

    @abstractmethod
    def leave(self, parcel: Parcel, conduit: Conduit) -> None:
        """Take a parcel that is to leave by the link; the conduit enqueues what goes on."""

    @abstractmethod
    def enter(self, parcel: Parcel) -> None:
        """Take a parcel that the link has delivered; what goes on arrives at its destination."""


class Conduit(Wire):
    """One direction of a link, in virtual time.

    ``near`` and ``far`` are the middleboxes where it begins and ends.
    """

    __slots__ = ("direction", "far", "link", "near")

    def __init__(
        self,
        loop: Loop,
        link: str,
        direction: str,
        parameters: ChannelParameters,
        random: Random,
        jitter_random: Random | None = None,
    ) -> None:
        channel = channel_model(parameters, random, loop.now_ns, classify, 0, jitter_random)
        super().__init__(loop, channel)
        self.link = link
        self.direction = direction
        self.near: Station | None = None
        self.far: Station | None = None

    def send(self, parcel: Parcel) -> None:
        """Take a parcel that is to pass the link, and first the middleboxes before it."""
        if self.near is None or parcel.corrupt:
            self.enqueue(parcel)
        else:
            self.near.leave(parcel, self)

    def enqueue(self, parcel: Parcel) -> None:
        """Put a parcel into the queue; what does not fit is dropped and counted."""
        segment = parcel.segment
        header_bytes = parcel.header_bytes
        packets = parcel.packets
        spread_ns = parcel.spread_ns
        late_ns = parcel.late_ns
        if packets == 1:
            frame_bytes = segment.payload_bytes + header_bytes
            self.offer(parcel, 1, frame_bytes, frame_bytes, late_ns)
        elif segment.payload_bytes == 0:
            self.offer(parcel, packets, header_bytes, header_bytes, late_ns, spread_ns, _WHOLE)
        else:
            size = segment.segment_size_bytes
            last_bytes = segment.payload_bytes - (packets - 1) * size + header_bytes
            most = segment.piece_packets
            if parcel.coalesce_ns > 0:
                together = self.channel.packets_within(parcel.coalesce_ns, size + header_bytes)
                # What is acknowledged together is seen as such, but where there is much of it.
                most = most - most % together if most >= _MANY * together else together
            self.offer(
                parcel,
                packets,
                size + header_bytes,
                last_bytes,
                late_ns,
                spread_ns,
                most,
                parcel.burst_packets,
            )

    def deliver(self, piece: Piece) -> None:
        """Hand a parcel on to its destination."""
        parcel = piece.item
        assert isinstance(parcel, Parcel)
        if piece.packets != parcel.packets or piece.marked or piece.is_copy:
            parcel = parcel.cut(piece.first, piece.packets)
            if piece.marked:
                parcel.segment.ecn = CE
        if piece.corrupt:
            parcel.corrupt = True
        parcel.hop += 1
        parcel.late_ns = 0
        parcel.burst_packets = 1
        parcel.spread_ns = piece.spread_ns
        if self.far is None or parcel.corrupt:
            parcel.destination.arrive(parcel)
        else:
            self.far.enter(parcel)


class Route(Destination):
    """The conduits between two interfaces, and the host behind the last one.

    A ``shared`` route is for all ports; ``by_ports`` has one for each pair of them.
    """

    __slots__ = (
        "by_ports",
        "coalesce_ns",
        "conduits",
        "destination_port",
        "first",
        "frame_header_bytes",
        "hops",
        "host",
        "local",
        "remote",
        "shared",
        "source_port",
    )

    def __init__(
        self,
        local: bytes,
        remote: bytes,
        conduits: tuple[Conduit, ...],
        frame_header_bytes: int,
        host: Destination,
        coalesce_ns: int,
    ) -> None:
        self.local = local
        """Addresses of the two interfaces, packed."""
        self.remote = remote
        self.conduits = conduits
        self.first = conduits[0]
        self.hops: i64 = len(conduits)
        self.frame_header_bytes = frame_header_bytes
        """Ethernet header, with the VLAN tag where there is one."""
        self.host = host
        self.coalesce_ns: i64 = coalesce_ns
        """How long the host's interface collects packets before it hands them over together."""
        self.by_ports: PortRoutes | None = None
        """Where routers hash ports: what finds the route of each pair of them."""
        self.shared: bool = True
        self.source_port: i64 = 0
        self.destination_port: i64 = 0

    def serves(self, source_port: i64, destination_port: i64) -> bool:
        """Say whether segments with these ports take it."""
        return self.shared or (
            self.source_port == source_port and self.destination_port == destination_port
        )

    def arrive(self, parcel: Parcel) -> None:
        """Hand a parcel on to the next link, or to the host behind the last one."""
        if parcel.hop < self.hops:
            self.conduits[parcel.hop].send(parcel)
        else:
            self.host.arrive(parcel)

    def receive(self, segment: Segment) -> None:
        """Hand a segment to the host."""
        self.host.receive(segment)


class PortRoutes:
    """The routes between two addresses, one for each pair of ports, made when first used."""

    __slots__ = ("_known", "_make")

    def __init__(self, make: Callable[[int, int], Route]) -> None:
        """Take what makes the route of a source and a destination port."""
        self._make = make
        self._known: dict[int, Route] = {}

    @property
    def used(self) -> list[tuple[int, int]]:
        """The source and destination ports of segments that there have been."""
        return [(key >> 16, key & 0xFFFF) for key in self._known]

    def route(self, source_port: int, destination_port: int) -> Route:
        """Return the route of segments with these ports."""
        key = source_port << 16 | destination_port
        route = self._known.get(key)
        if route is None:
            route = self._make(source_port, destination_port)
            route.shared = False
            route.source_port = source_port
            route.destination_port = destination_port
            self._known[key] = route
        return route
