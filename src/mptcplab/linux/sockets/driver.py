"""Puts the sans-IO stack on devices: segments in, segments out, time, events.

The driver neither waits nor locks; ``blocking`` runs it in a thread and ``asynchronous`` in an
asyncio loop. Whoever runs it calls ``handle_readable`` when a link's descriptor is readable,
``handle_timeout`` at ``deadline_ns``, and ``flush`` after using the stack in any way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic_ns

from mptcplab.linux.sockets.tun_device import SegmentPort
from mptcplab.stack.events import Event
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.stack import Stack
from mptcplab.wire.icmp import IcmpError
from mptcplab.wire.ip import parse_address


class Link:
    """One interface of the host: a port, and the addresses that are reached through it."""

    __slots__ = ("addresses", "port")

    def __init__(self, port: SegmentPort, addresses: tuple[bytes, ...]) -> None:
        self.port = port
        self.addresses = addresses


class Driver:
    """One stack and its links. Segments leave by the link of their source address."""

    def __init__(self, stack: Stack, on_event: Callable[[Connection, Event], None]) -> None:
        self.stack = stack
        self.links: list[Link] = []
        self.unroutable = 0
        """Segments dropped because no link has their address."""
        self._on_event = on_event
        self._port_of: dict[bytes, SegmentPort] = {}

    def add_link(
        self,
        port: SegmentPort,
        *addresses: str,
        mtu_bytes: int = 1500,
        name: str = "",
        multipath: bool = True,
    ) -> Link:
        """Give the host an interface with these addresses (no prefix lengths).

        Several may have one port, which is then read through any of them. Address IDs are counted
        up from 1. Addresses that are not ``multipath`` carry what is opened on them and no more.
        Raises ``WireError`` for what is no address.
        """
        packed = tuple(parse_address(address) for address in addresses)
        link = Link(port, packed)
        self.links.append(link)
        for address in packed:
            address_id = len(self._port_of) + 1
            self._port_of[address] = port
            if multipath:
                interface = name or f"link{len(self.links)}"
                self.stack.add_address(address, address_id, interface, mtu_bytes)
        return link

    @property
    def deadline_ns(self) -> int | None:
        """When ``handle_timeout`` is due, on the monotonic clock; ``None`` for never."""
        return self.stack.poll_timeout()

    def set_link_up(self, link: Link, up: bool) -> None:
        """Tell the stack that a link works or not, as a carrier change would."""
        now_ns = monotonic_ns()
        for address in link.addresses:
            if up:
                self.stack.address_up(address, now_ns)
            else:
                self.stack.address_down(address, now_ns)
        self.flush()

    def handle_readable(self, link: Link) -> None:
        """Take in what waits on a link, then send what that calls for."""
        segments = link.port.read_segments()
        now_ns = monotonic_ns()
        receive = self.stack.receive
        for segment in segments:
            if segment.dst in self._port_of:
                receive(segment, now_ns)
            else:
                self.unroutable += 1
        self.handle_errors(link.port.take_errors())

    def handle_errors(self, errors: Iterable[IcmpError]) -> None:
        """Take in ICMP errors, then send what that calls for."""
        now_ns = monotonic_ns()
        for error in errors:
            self.stack.receive_error(error, now_ns)
        self.flush()

    def handle_timeout(self) -> None:
        """Let the stack do what is due by now."""
        self.stack.handle_timeout(monotonic_ns())
        self.flush()

    def flush(self) -> None:
        """Send what the stack has to send and tell its events, until there is no more of either."""
        stack = self.stack
        while True:
            now_ns = monotonic_ns()
            while (segment := stack.poll_transmit(now_ns)) is not None:
                port = self._port_of.get(segment.src)
                if port is None:
                    self.unroutable += 1
                else:
                    port.write_segment(segment)
            if not stack.has_events():
                return
            while (told := stack.poll_event()) is not None:
                connection, event = told
                self._on_event(connection, event)
