"""A simulated host: its stack, its routes, its cores, and when it wakes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random

from mptcplab.loop import Loop, Timer
from mptcplab.simulated.cpu import Core, CpuProfile, Shared, Work
from mptcplab.simulated.fabric import Route
from mptcplab.simulated.parcel import Parcel
from mptcplab.stack.config import StackConfig
from mptcplab.stack.events import Event
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.stack import Stack
from mptcplab.wire.segment import Segment

Watcher = Callable[[int, Segment], None]
"""Sees a segment that an interface sends or receives, and when."""


class Arrival(Work):
    """A parcel that waits in the ring for its core."""

    __slots__ = ("host", "parcel")

    def __init__(self, host: Host, parcel: Parcel, cost_ns: int) -> None:
        super().__init__(cost_ns, 0)
        self.host = host
        self.parcel = parcel

    def finish(self) -> None:
        """Hand it to the stack."""
        self.host.take(self.parcel)


class Application(ABC):
    """One end of a connection, which reads or writes."""

    __slots__ = ()

    @abstractmethod
    def copied(self, size_bytes: int) -> None:
        """The host has copied so many bytes between it and the stack."""


class Copy(Work):
    """An application's read or write of so many bytes."""

    __slots__ = ("application", "size_bytes")

    def __init__(
        self, cost_ns: int, shared_ns: int, application: Application, size_bytes: int
    ) -> None:
        super().__init__(cost_ns, shared_ns)
        self.application = application
        self.size_bytes = size_bytes

    def finish(self) -> None:
        """Tell the application."""
        self.application.copied(self.size_bytes)


class Host(Timer):
    """One machine of the scenario."""

    __slots__ = (
        "_cores",
        "_profile",
        "_shared",
        "_waiting_packets",
        "name",
        "on_event",
        "ring_drops",
        "routes",
        "stack",
        "unrouted",
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
        super().__init__(loop)
        self.name = name
        self.stack = Stack(config, random)
        self.routes: dict[tuple[bytes, bytes], Route] = {}
        self.watchers: dict[bytes, Watcher] = {}
        """By local address: who sees what its interface sends and receives."""
        self.on_event: Callable[[Event], None] | None = None
        self.unrouted = 0
        """Segments for an address that no link leads to."""
        self.ring_drops = 0
        """Packets that found the ring of their core full."""
        self._profile = profile
        self._shared = Shared()
        self._cores: dict[int, Core] = {}
        self._waiting_packets: dict[int, int] = {}

    # In.

    def arrive(self, parcel: Parcel) -> None:
        """A parcel comes off the wire."""
        segment = parcel.segment
        watcher = self.watchers.get(segment.dst)
        if watcher is not None:
            watcher(self.loop.now_ns, segment)
        profile = self._profile
        if profile is None:
            self.stack.receive(segment, self.loop.now_ns)
            self.wake()
            return
        number = core_number(segment)
        waiting = self._waiting_packets.get(number, 0)
        room = profile.ring_packets - waiting
        if parcel.packets > room:
            self.ring_drops += parcel.packets - max(room, 0)
            if room <= 0:
                return
            parcel = parcel.cut(0, room)
        self._waiting_packets[number] = waiting + parcel.packets
        self._core(number).add(Arrival(self, parcel, round(parcel.packets * profile.packet_ns)))

    def take(self, parcel: Parcel) -> None:
        """The core has handled a parcel's packets."""
        segment = parcel.segment
        self._waiting_packets[core_number(segment)] -= parcel.packets
        self.stack.receive(segment, self.loop.now_ns)
        self.wake()

    def expire(self) -> None:
        """A timer of the stack is due."""
        self.stack.handle_timeout(self.loop.now_ns)
        self.wake()

    # Out.

    def wake(self) -> None:
        """Send what the stack has to send, tell the application, and set the next alarm."""
        stack = self.stack
        now_ns = self.loop.now_ns
        while True:
            event = stack.poll_event()
            while event is not None:
                if self.on_event is not None:
                    self.on_event(event)
                event = stack.poll_event()
            segment = stack.poll_transmit(now_ns)
            if segment is None:
                if stack.events:
                    continue
                break
            self._send(segment)
        deadline_ns = stack.poll_timeout()
        if deadline_ns is None:
            self.cancel()
        else:
            self.set(deadline_ns)

    def _send(self, segment: Segment) -> None:
        watcher = self.watchers.get(segment.src)
        if watcher is not None:
            watcher(self.loop.now_ns, segment)
        route = self.routes.get((segment.src, segment.dst))
        if route is None:
            self.unrouted += 1
            return
        parcel = Parcel(segment, route, segment.header_bytes + route.frame_header_bytes)
        route.conduits[0].send(parcel)

    # The application's work.

    def copy(self, connection: Connection, size_bytes: int, application: Application) -> None:
        """Charge the copying of so many bytes to a connection's core, then tell the application."""
        profile = self._profile
        if profile is None:
            application.copied(size_bytes)
            return
        number = connection_core(connection)
        cost_ns = round(size_bytes * profile.byte_ns)
        shared_ns = round(size_bytes * profile.shared_byte_ns)
        self._core(number).add(Copy(cost_ns, shared_ns, application, size_bytes))

    @property
    def copies_cost(self) -> bool:
        """Whether copying takes time on this host."""
        return self._profile is not None

    def _core(self, number: int) -> Core:
        core = self._cores.get(number)
        if core is None:
            core = self._cores[number] = Core(self.loop, self._shared)
        return core


def core_number(segment: Segment) -> int:
    """Return the core that serves a segment's connection: that of its server's port.

    All subflows of a connection share it, as one session of the report used one CPU.
    """
    source, destination = segment.src_port, segment.dst_port
    return source if source < destination else destination


def connection_core(connection: Connection) -> int:
    """Return the core that serves a connection; see :func:`core_number`."""
    subflow = connection.subflows[0]
    return min(subflow.local_port, subflow.remote_port)
