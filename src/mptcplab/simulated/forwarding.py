"""What simulated routers refuse, and the ICMP errors by which they say so.

A router refuses a packet that is larger than the MTU of its interface to the next hop, since no
packet may be fragmented (RFC 1191, RFC 8201), and one to where it has no route. The error travels
back as any packet: links delay, queue and lose it, NATs translate it, and boxes may drop it. Of a
train, all packets are refused and one error is sent, as of a frame with segmentation offload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mptcplab.network.topology import ETHERNET_HEADER_BYTES
from mptcplab.simulated.fabric import Conduit, Route
from mptcplab.simulated.parcel import Destination, Parcel
from mptcplab.wire.icmp import (
    ICMP_HEADER_BYTES,
    QUOTED_IPV4_BYTES,
    QUOTED_IPV6_BYTES,
    IcmpError,
    Problem,
)
from mptcplab.wire.ip import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

WayBack = Callable[[str], tuple[tuple[Conduit, ...], Destination] | None]
"""Returns the links from a router to the sender, and what is at their end; None where no way leads
back."""

UNLIMITED_BYTES: Final = 1 << 30
"""In the place of an MTU, where nothing that comes can be too big."""


class ErrorRoute(Destination):
    """The way of one ICMP error to the sender of the segment that it is about."""

    __slots__ = ("conduits", "end", "error", "hops")

    def __init__(self, conduits: tuple[Conduit, ...], end: Destination, error: IcmpError) -> None:
        self.conduits = conduits
        self.hops: i64 = len(conduits)
        self.end = end
        self.error = error

    def arrive(self, parcel: Parcel) -> None:
        """Hand it on to the next link, or to the host behind the last one."""
        if parcel.hop < self.hops:
            self.conduits[parcel.hop].send(parcel)
        elif not parcel.corrupt:
            self.end.take_error(self.error)

    def receive(self, segment: Segment) -> None:
        """Never called: no core of the host handles it."""


class Refusals:
    """Sends the errors of the routers on the way of a route."""

    __slots__ = ("_way_back",)

    def __init__(self, way_back: WayBack) -> None:
        self._way_back = way_back

    def refuse(self, parcel: Parcel, router: str, problem: Problem, mtu_bytes: int) -> None:
        """Drop a parcel at a router, and tell its sender why."""
        segment = parcel.segment
        if parcel.corrupt or not segment.flags:  # damaged, or no segment: nobody to be told
            return
        way = self._way_back(router)
        if way is None:
            return
        conduits, end = way
        ends = (segment.src, segment.src_port, segment.dst, segment.dst_port)
        route = ErrorRoute(conduits, end, IcmpError(problem, ends, segment.seq, mtu_bytes))
        ipv4 = len(segment.src) == 4
        ip_bytes = IPV4_HEADER_BYTES if ipv4 else IPV6_HEADER_BYTES
        most_bytes = QUOTED_IPV4_BYTES if ipv4 else QUOTED_IPV6_BYTES
        quoted_bytes = min(packet_bytes(segment), most_bytes - ip_bytes - ICMP_HEADER_BYTES)
        message = Segment(
            segment.dst, 0, segment.src, 0, payload_bytes=ICMP_HEADER_BYTES + quoted_bytes
        )
        route.arrive(Parcel(message, route, ETHERNET_HEADER_BYTES + ip_bytes, 0))


class ForwardedRoute(Route):
    """A route with routers on it whose next links may be too narrow for what comes."""

    __slots__ = ("_limits", "_refusals", "_routers")

    def forward_by(
        self, routers: tuple[str, ...], limits: tuple[int, ...], refusals: Refusals
    ) -> None:
        """Say for each link which router hands packets to it, and the most that they may hold.

        Limits are in bytes, ``UNLIMITED_BYTES`` and no router where a host or switch does.
        """
        self._routers = routers
        self._limits = limits
        self._refusals = refusals

    def arrive(self, parcel: Parcel) -> None:
        """Hand a parcel on to the next link unless it is too big, or to the host."""
        hop = parcel.hop
        if hop >= self.hops:
            self.host.arrive(parcel)
        elif packet_bytes(parcel.segment) > self._limits[hop]:
            router, mtu_bytes = self._routers[hop], self._limits[hop]
            self._refusals.refuse(parcel, router, Problem.TOO_BIG, mtu_bytes)
        else:
            self.conduits[hop].send(parcel)


class DeadEnd(Destination):
    """A router that has no route on."""

    __slots__ = ("_problem", "_refusals", "_router")

    def __init__(self, router: str, problem: Problem, refusals: Refusals) -> None:
        self._router = router
        self._problem = problem
        self._refusals = refusals

    def arrive(self, parcel: Parcel) -> None:
        """Refuse a parcel."""
        self._refusals.refuse(parcel, self._router, self._problem, 0)

    def receive(self, segment: Segment) -> None:
        """Never called: no core of a router handles it."""


def packet_bytes(segment: Segment) -> i64:
    """Return how large the first packet of a train is, IP header and all."""
    size: i64 = segment.payload_bytes
    if 0 < segment.segment_size_bytes < size:
        size = segment.segment_size_bytes
    return segment.header_bytes + size
