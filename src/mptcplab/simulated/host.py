"""A simulated host: its stack, its routes, its cores, and when it wakes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.loop import Loop, Timer
from mptcplab.simulated.cpu import Core, CpuProfile, Shared, Work
from mptcplab.simulated.fabric import Route
from mptcplab.simulated.parcel import Destination, Parcel
from mptcplab.stack.config import StackConfig
from mptcplab.stack.events import DataReadable, DataWritable, Event
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.stack import Stack
from mptcplab.wire.icmp import IcmpError, Problem
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

PASSING: Final = (DataReadable.kind, DataWritable.kind)
"""Events that concern the application alone, and come often."""

TAKEN_SLOTS: Final = 64
"""How many of the routes used last a host remembers; a power of two."""

Watcher = Callable[[int, Segment], None]
"""Sees a segment that an interface sends or receives, and when."""

DatagramSink = Callable[[Segment], None]
"""Takes a datagram, which travels as a segment does."""


class Application(ABC):
    """One end of a connection, which reads or writes."""

    __slots__ = ()

    @abstractmethod
    def copied(self, size_bytes: int) -> None:
        """The host has copied so many bytes between it and the stack."""

    @abstractmethod
    def handle(self, event: Event) -> None:
        """Act on what the stack tells of the connection."""


class Copy(Work):
    """An application's read or write of so many bytes; used again for the next."""

    __slots__ = ("application", "size_bytes")

    def __init__(self, application: Application) -> None:
        super().__init__(0, 0)
        self.application = application
        self.size_bytes: i64 = 0

    def finish(self) -> None:
        """Tell the application."""
        self.application.copied(self.size_bytes)


class Alarm(Timer):
    """Wakes a host when a timer of its stack is due."""

    __slots__ = ("_host",)

    def __init__(self, loop: Loop, host: Host) -> None:
        super().__init__(loop)
        self._host = host

    def expire(self) -> None:
        """Wake the host."""
        self._host.expire()


class Host(Destination):
    """One machine of the scenario."""

    __slots__ = (
        "_alarm",
        "_byte_ns",
        "_cores",
        "_last_core",
        "_last_number",
        "_packet_ns",
        "_ring_packets",
        "_shared",
        "_shared_byte_ns",
        "_taken",
        "applications",
        "copies_cost",
        "datagram_sinks",
        "errors_received",
        "loop",
        "name",
        "on_event",
        "ring_drops",
        "routes",
        "stack",
        "watchers",
    )

    def __init__(
        self,
        loop: Loop,
        name: str,
        config: StackConfig,
        profile: CpuProfile | None,
        random: Random,
    ) -> None:
        self.loop = loop
        self.name = name
        self.stack = Stack(config, random)
        self._alarm = Alarm(loop, self)
        self.routes: dict[bytes, dict[bytes, Route]] = {}
        """By local and by remote address."""
        self._taken: list[Route | None] = [None] * TAKEN_SLOTS
        """The route that a segment took last, by a hash of its ports."""
        self.watchers: dict[bytes, Watcher] = {}
        """By local address: who sees what its interface sends and receives."""
        self.applications: dict[Connection, Application] = {}
        """Who reads or writes a connection, and gets its events first."""
        self.datagram_sinks: dict[int, DatagramSink] = {}
        """By port: who takes what comes for it, which is no segment of TCP."""
        self.on_event: Callable[[Connection, Event], None] | None = None
        """Called with every event but that data can be read or written."""
        self.errors_received: dict[str, int] = {}
        """ICMP errors by the name of their MIB counter (RFC 4293, RFC 4443)."""
        self.ring_drops = 0
        """Packets that found the ring of their core full."""
        self.copies_cost: bool = profile is not None
        """Whether copying takes time on this host."""
        self._packet_ns: float = 0.0 if profile is None else profile.packet_ns
        self._byte_ns: float = 0.0 if profile is None else profile.byte_ns
        self._shared_byte_ns: float = 0.0 if profile is None else profile.shared_byte_ns
        self._ring_packets: i64 = 0 if profile is None else profile.ring_packets
        self._shared = Shared()
        self._cores: dict[int, Core] = {}
        self._last_core: Core | None = None
        self._last_number: i64 = 0

    # In.

    def arrive(self, parcel: Parcel) -> None:
        """A parcel comes off the wire."""
        if parcel.corrupt:
            return  # its checksum is wrong, and a capture could not show that
        segment = parcel.segment
        segment.spread_ns = parcel.spread_ns
        if self.datagram_sinks:
            sink = self.datagram_sinks.get(segment.dst_port)
            if sink is not None:
                sink(segment)
                return
        if self.watchers:
            watcher = self.watchers.get(segment.dst)
            if watcher is not None:
                watcher(self.loop.now_ns, segment)
        if not self.copies_cost:
            self.receive(segment)
            return
        core = self._core(core_number(segment))
        room = self._ring_packets - core.waiting_packets
        if parcel.packets > room:
            self.ring_drops += parcel.packets - max(room, 0)
            if room <= 0:
                return
            parcel = parcel.cut(0, room)
        core.waiting_packets += parcel.packets
        parcel.core = core
        parcel.cost_ns = nearest(float(parcel.packets) * self._packet_ns)
        core.add(parcel)

    def receive(self, segment: Segment) -> None:
        """A segment gets to the stack."""
        self.stack.receive(segment, self.loop.now_ns)
        self.wake()

    def take_error(self, error: IcmpError) -> None:
        """An ICMP error gets to the stack."""
        counter = "IcmpInDestUnreachs"
        if len(error.src) != 4:
            too_big = error.problem is Problem.TOO_BIG
            counter = "Icmp6InPktTooBigs" if too_big else "Icmp6InDestUnreachs"
        self.errors_received[counter] = self.errors_received.get(counter, 0) + 1
        self.stack.receive_error(error, self.loop.now_ns)
        self.wake()

    def expire(self) -> None:
        """A timer of the stack is due."""
        self.stack.handle_timeout(self.loop.now_ns)
        self.wake()

    # Out.

    def wake(self) -> None:
        """Send what the stack has to send, tell the application, and set the next alarm."""
        stack = self.stack
        now_ns: i64 = self.loop.now_ns
        while True:
            while stack.has_events():
                for connection, event in stack.take_events():
                    self._tell(connection, event)
            segment = stack.poll_transmit(now_ns)
            if segment is not None:
                self._send(segment)
            elif not stack.has_events():
                break
        self._alarm.set(stack.next_wake_ns())

    def _tell(self, connection: Connection, event: Event) -> None:
        application = self.applications.get(connection)
        if application is not None:
            application.handle(event)
        if event.kind not in PASSING and self.on_event is not None:
            self.on_event(connection, event)

    def _send(self, segment: Segment) -> None:
        if self.watchers:
            watcher = self.watchers.get(segment.src)
            if watcher is not None:
                watcher(self.loop.now_ns, segment)
        source: i64 = segment.src_port
        slot = (source ^ segment.dst_port) & (TAKEN_SLOTS - 1)
        route = self._taken[slot]
        if (
            route is None
            or route.local is not segment.src
            or route.remote is not segment.dst
            or not route.serves(source, segment.dst_port)
        ):
            routes = self.routes.get(segment.src)
            route = None if routes is None else routes.get(segment.dst)
            if route is None:  # as the kernel's connect: the network is unreachable
                ends = (segment.src, segment.src_port, segment.dst, segment.dst_port)
                error = IcmpError(Problem.NO_ROUTE, ends, segment.seq)
                self.stack.receive_error(error, self.loop.now_ns)
                return
            if route.by_ports is not None:
                route = route.by_ports.route(source, segment.dst_port)
            self._taken[slot] = route
        header_bytes = segment.header_bytes + route.frame_header_bytes
        route.first.send(Parcel(segment, route, header_bytes, route.coalesce_ns))

    # The application's work.

    def copy(self, connection: Connection, size_bytes: i64, copy: Copy) -> None:
        """Charge the copying of so many bytes to a connection's core, which then tells of it."""
        copy.size_bytes = size_bytes
        copy.cost_ns = nearest(float(size_bytes) * self._byte_ns)
        copy.shared_ns = nearest(float(size_bytes) * self._shared_byte_ns)
        self._core(connection_core(connection)).add(copy)

    def busy_ns(self, connection: Connection) -> i64:
        """Return how long the core that serves a connection was busy."""
        core = self._cores.get(connection_core(connection))
        return 0 if core is None else core.busy_ns

    def _core(self, number: i64) -> Core:
        core = self._last_core
        if core is not None and self._last_number == number:
            return core
        core = self._cores.get(number)
        if core is None:
            core = self._cores[number] = Core(self.loop, self._shared)
        self._last_core = core
        self._last_number = number
        return core


def core_number(segment: Segment) -> i64:
    """Return the core that serves a segment's connection: that of its server's port.

    All subflows of a connection share it, as one session of the report used one CPU.
    """
    source, destination = segment.src_port, segment.dst_port
    return source if source < destination else destination


def connection_core(connection: Connection) -> i64:
    """Return the core that serves a connection; see :func:`core_number`."""
    tcp = connection.subflows[0].tcp
    return min(tcp.local_port, tcp.remote_port)


def nearest(cost_ns: float) -> i64:
    """Return a cost in whole nanoseconds."""
    return int(cost_ns + 0.5)
