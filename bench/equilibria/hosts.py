"""Two hosts with our stack and the link model between them, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from mptcplab.loop.timers import NEVER, CallbackTimer
from mptcplab.loop.virtual import VirtualLoop
from mptcplab.network.drop_tail import DropTailChannel
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece
from mptcplab.network.wire import CallbackWire
from mptcplab.simulated.parcel import part_of
from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.stack import Stack
from mptcplab.wire.segment import Segment

ETHERNET_BYTES = 14
PORT = 5001
ENDLESS_BYTES = 1 << 50
"""What a bulk sender has to send: lengths only, so it costs nothing."""


class Host:
    """A stack, its timer, and its wires: by source address, else by destination.

    ``on_event`` is the application; at first it reads what arrives.
    """

    __slots__ = ("loop", "on_event", "sources", "stack", "timer", "wires")

    def __init__(self, loop: VirtualLoop, config: StackConfig, random: Random) -> None:
        self.loop = loop
        self.timer = CallbackTimer(loop, self.expire)
        self.stack = Stack(config, random)
        self.on_event: Callable[[Connection, events.Event], None] = read_all
        self.sources: dict[bytes, CallbackWire] = {}
        self.wires: dict[bytes, CallbackWire] = {}

    def expire(self) -> None:
        """Let the stack do what is due."""
        self.stack.handle_timeout(self.loop.now_ns)
        self.pump()

    def receive(self, segment: Segment) -> None:
        """Take in what arrived."""
        self.stack.receive(segment, self.loop.now_ns)
        self.pump()

    def pump(self) -> None:
        """Serve the applications, send what is to be sent and set the timer."""
        stack = self.stack
        now_ns = self.loop.now_ns
        while True:
            while (told := stack.poll_event()) is not None:
                self.on_event(*told)
            segment = stack.poll_transmit(now_ns)
            if segment is None and not stack.has_events():
                break
            if segment is not None:
                self._send(segment)
        deadline_ns = stack.poll_timeout()
        self.timer.set(NEVER if deadline_ns is None else deadline_ns)

    def _send(self, segment: Segment) -> None:
        wire = self.sources.get(segment.src) or self.wires[segment.dst]
        header_bytes = ETHERNET_BYTES + segment.header_bytes
        packets = segment.packets
        if segment.payload_bytes == 0:
            spread_ns = segment.spread_ns
            wire.offer(segment, packets, header_bytes, header_bytes, 0, spread_ns, packets)
            return
        size_bytes = segment.segment_size_bytes if packets > 1 else segment.payload_bytes
        last_bytes = segment.payload_bytes - (packets - 1) * size_bytes
        wire.offer(
            segment,
            packets,
            size_bytes + header_bytes,
            last_bytes + header_bytes,
            segment.late_ns,
            segment.spread_ns,
            segment.piece_packets,
            segment.burst_packets,
        )


def read_all(connection: Connection, event: events.Event) -> None:
    """Read what arrived, at once."""
    if isinstance(event, events.DataReadable):
        connection.read_length()


class Laboratory:
    """A loop, hosts and wires; everything follows from one seed."""

    def __init__(self, seed: int) -> None:
        self.loop = VirtualLoop()
        self.random = Random(seed)
        self.hosts: list[Host] = []

    def host(self, config: StackConfig) -> Host:
        """Add a host."""
        host = Host(self.loop, config, Random(self.random.getrandbits(64)))
        self.hosts.append(host)
        return host

    def wire(self, parameters: ChannelParameters) -> CallbackWire:
        """Add one direction of a link; what arrives goes to the host that has the address."""
        random = Random(self.random.getrandbits(64))
        channel = DropTailChannel(parameters, random, piece_ns=0)
        return CallbackWire(self.loop, channel, self._deliver)

    def _deliver(self, piece: Piece) -> None:
        train = piece.item
        assert isinstance(train, Segment)
        segment = (
            train if piece.packets == train.packets else part_of(train, piece.first, piece.packets)
        )
        segment.spread_ns = piece.spread_ns
        for host in self.hosts:
            for local in host.stack.local_addresses:
                if local.address == segment.dst:
                    host.receive(segment)
                    return

    def connect(self, client: Host, server: Host, config: StackConfig) -> Connection:
        """Open a connection between the first addresses."""
        local = client.stack.local_addresses[0].address
        remote = server.stack.local_addresses[0].address
        now_ns = self.loop.now_ns
        return client.stack.connect(local, remote, PORT, now_ns, config=replace(config))

    def transfer(self, client: Host, server: Host, config: StackConfig) -> Connection:
        """Open a connection with endless data to send."""
        connection = self.connect(client, server, config)
        connection.write_length(ENDLESS_BYTES)
        client.pump()
        return connection
