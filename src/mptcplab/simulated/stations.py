"""Middleboxes in virtual time: what they do to parcels, and where translated ones go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mptcplab.loop import Loop, Timer
from mptcplab.loop.timers import NEVER
from mptcplab.middleboxes import Chain
from mptcplab.middleboxes.packets import FlowKey, flow_of
from mptcplab.simulated.fabric import Conduit, Route, Station
from mptcplab.simulated.forwarding import ErrorRoute
from mptcplab.simulated.parcel import Destination, Parcel
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

Way = Callable[[Segment], Destination | None]
"""Returns the way of a segment that has been translated, None where there is none of its own."""


class Nowhere(Destination):
    """Where packets end that nobody takes."""

    __slots__ = ()

    def arrive(self, parcel: Parcel) -> None:
        """Drop a parcel."""

    def receive(self, segment: Segment) -> None:
        """Drop a segment."""


class _Course:
    """How a segment goes on: where to, and what its frame has besides."""

    __slots__ = ("coalesce_ns", "destination", "hop", "link_bytes")

    def __init__(
        self, destination: Destination, hop: i64, link_bytes: i64, coalesce_ns: i64
    ) -> None:
        self.destination = destination
        self.hop: i64 = hop
        self.link_bytes: i64 = link_bytes
        self.coalesce_ns: i64 = coalesce_ns


class BoxStation(Station):
    """The middleboxes at one end of a link."""

    __slots__ = ("_clock", "_courses", "_inward", "_leaving", "_loop", "_outward", "chain")

    def __init__(
        self, loop: Loop, chain: Chain, leaving: Conduit, outward: Way, inward: Way
    ) -> None:
        """Take the direction of the link that begins here, and the ways of what a NAT translates.

        ``outward`` begins with that direction, ``inward`` behind the boxes.
        """
        self.chain = chain
        self._loop = loop
        self._leaving = leaving
        self._outward = outward
        self._inward = inward
        self._clock = _Clock(loop, self)
        self._courses: dict[FlowKey, _Course] = {}

    def leave(self, parcel: Parcel, conduit: Conduit) -> None:  # noqa: ARG002
        """Take a parcel that is to leave by the link."""
        self._take(parcel, outbound=True)

    def enter(self, parcel: Parcel) -> None:
        """Take a parcel that the link has delivered."""
        self._take(parcel, outbound=False)

    def release(self) -> None:
        """Let go on what boxes have held for long enough."""
        for segment, outbound in self.chain.expire(self._loop.now_ns):
            self._pass(segment, self._courses[flow_of(segment)], outbound)
        self.settle()

    def settle(self) -> None:
        """Wait for the next time at which a box lets something go."""
        deadline_ns = self.chain.deadline_ns
        self._clock.set(NEVER if deadline_ns is None else deadline_ns)

    def _take(self, parcel: Parcel, *, outbound: bool) -> None:
        if isinstance(parcel.destination, ErrorRoute):
            self._take_error(parcel, parcel.destination, outbound=outbound)
            return
        segment = parcel.segment
        segment.spread_ns, segment.late_ns = parcel.spread_ns, parcel.late_ns
        segment.burst_packets = parcel.burst_packets
        link_bytes = parcel.header_bytes - segment.header_bytes
        source, to = segment.src, segment.dst
        course = _Course(parcel.destination, parcel.hop, link_bytes, parcel.coalesce_ns)
        for out in self.chain.forward(segment, outbound, self._loop.now_ns):
            way: Destination | None = None
            if out.dst != to:
                way = self._inward(out)
                if way is None:
                    continue
            elif out.src != source and outbound:
                way = self._outward(out)
            if way is not None:
                course = _Course(way, 0, link_bytes, parcel.coalesce_ns)
            self._courses[flow_of(out)] = course
            self._pass(out, course, outbound)
        self.settle()

    def _take_error(self, parcel: Parcel, route: ErrorRoute, *, outbound: bool) -> None:
        """Let an ICMP error pass, with the addresses that its side of each NAT knows."""
        if not self.chain.passes_other(outbound, is_error=True):
            return
        error = route.error
        sender = error.src
        self.chain.translate_error(error, outbound)
        if outbound:
            self._leaving.enqueue(parcel)
        elif error.src == sender:
            route.arrive(parcel)
        else:
            way = self._inward(Segment(error.dst, error.dst_port, error.src, error.src_port))
            if way is not None:
                conduits = way.conduits if isinstance(way, Route) else ()
                end = way.host if isinstance(way, Route) else way
                inside = ErrorRoute(conduits, end, error)
                parcel.destination = inside
                parcel.hop = 0
                inside.arrive(parcel)

    def _pass(self, segment: Segment, course: _Course, outbound: bool) -> None:
        header_bytes = segment.header_bytes + course.link_bytes
        parcel = Parcel(segment, course.destination, header_bytes, course.coalesce_ns)
        parcel.hop = course.hop
        if outbound:
            self._leaving.enqueue(parcel)
        else:
            parcel.destination.arrive(parcel)


class _Clock(Timer):
    """Says when a box has held something for long enough."""

    __slots__ = ("_station",)

    def __init__(self, loop: Loop, station: BoxStation) -> None:
        super().__init__(loop)
        self._station = station

    def expire(self) -> None:
        """Release it."""
        self._station.release()
