"""Applications that ask and answer, or send messages, on our stack in virtual time.

Payload is a length.  What a request says of itself travels beside it: the client's end hands it to
the server's, which takes it up when so many bytes have arrived in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mptcplab.applications.client import Client, Finish, Open, Send
from mptcplab.applications.exchange import Exchange
from mptcplab.loop import Loop, Timer
from mptcplab.scenario.model import Flow
from mptcplab.simulated.host import Application, Host
from mptcplab.simulated.transfer import Transfer
from mptcplab.stack import events
from mptcplab.stack.mptcp.connection import Connection

Connect = Callable[[Transfer], Connection]
"""Opens a connection of a flow."""


class Slot(Transfer):
    """The connections that one of a flow's has, one after the other or several."""

    __slots__ = ("_conversation", "_sampled", "_written_bytes", "client_end", "server_end")

    def __init__(self, flow: Flow, index: int, conversation: Conversation, sampled: bool) -> None:
        super().__init__(flow, index)
        self._conversation = conversation
        self._sampled = sampled
        self._written_bytes = 0
        self.client_end: End | None = None
        self.server_end: End | None = None

    def attach(self, host: str, connection: Connection) -> None:
        """Take a connection that was accepted; those that were opened are known."""
        if host == self.flow.destination:
            self._conversation.accepted(self, connection)

    def stop(self) -> None:
        """Let the client ask for nothing more."""
        self._conversation.stop()

    def ends(self) -> list[tuple[Host, Connection]]:
        """Return both ends of a connection that lasts."""
        if not self._sampled:
            return []
        both = (self.client_end, self.server_end)
        return [(end.host, end.connection) for end in both if end is not None]

    def note_written(self, size_bytes: int) -> None:
        """One of its ends has written so many bytes."""
        self._written_bytes += size_bytes

    @property
    def sending(self) -> Connection | None:
        """The connection of the client's end, the last where there were several."""
        return None if self.client_end is None else self.client_end.connection

    @property
    def receiving(self) -> Connection | None:
        """The connection of the server's end."""
        return None if self.server_end is None else self.server_end.connection

    @property
    def written_bytes(self) -> int:
        """How much both ends have written."""
        return self._written_bytes

    @property
    def is_sampled(self) -> bool:
        """Whether its connection lasts."""
        return self._sampled


class End(Application):
    """One end of one connection: what is to be written, and who is told of what was read."""

    __slots__ = ("_closing", "_is_established", "_pending_bytes", "connection", "host", "slot")

    def __init__(self, slot: Slot, host: Host, connection: Connection) -> None:
        self.slot = slot
        self.host = host
        self.connection = connection
        self._pending_bytes = 0
        self._closing = False
        self._is_established = connection.config.fast_open  # what is written goes with the SYN
        host.applications[connection] = self
        connection.set_nodelay(True)

    def write(self, size_bytes: int) -> None:
        """Write so many bytes behind what is to be written before; at once as far as there is room.

        What an application has to write counts as written when it wants to.
        """
        self.slot.note_written(size_bytes)
        self._pending_bytes += size_bytes
        self._flush()

    def finish(self) -> None:
        """Close this half when all is written."""
        self._closing = True
        self._flush()

    def _flush(self) -> None:
        connection = self.connection
        if not self._is_established or connection.closed_for is not None:
            return
        if self._pending_bytes:
            self._pending_bytes -= connection.write_length(self._pending_bytes)
        if self._closing and not self._pending_bytes:
            connection.close()

    def handle(self, event: events.Event) -> None:
        """Act on what the stack tells of the connection."""
        if isinstance(event, events.ConnectionEstablished):
            self._is_established = True
            self._flush()
        elif isinstance(event, events.DataWritable):
            self._flush()
        elif isinstance(event, events.DataReadable):
            self._read()
        elif isinstance(event, events.PeerFinished):
            self._read()
            self.peer_finished()
        elif isinstance(event, events.ConnectionClosed):
            self._read()
            self.closed(event.reason)

    def copied(self, size_bytes: int) -> None:
        """Do nothing: such an application's copies cost no time."""

    def _read(self) -> None:
        size_bytes = self.connection.read_length()
        if size_bytes:
            self.slot.delivered_bytes += size_bytes
            self.read(size_bytes)

    def read(self, size_bytes: int) -> None:
        """So many bytes were read."""
        raise NotImplementedError

    def peer_finished(self) -> None:
        """The other end writes no more, and all that it wrote was read."""

    def closed(self, reason: events.CloseReason) -> None:
        """The connection is gone."""


class ClientEnd(End):
    """The end of the one that asks."""

    __slots__ = ("_conversation", "channel", "requests")

    def __init__(
        self, conversation: Conversation, channel: int, slot: Slot, connection: Connection
    ) -> None:
        super().__init__(slot, conversation.client_host, connection)
        self._conversation = conversation
        self.channel = channel
        self.requests: deque[Exchange] = deque()
        """What was asked, and has not wholly arrived at the server."""

    def send(self, exchange: Exchange) -> None:
        """Write a request."""
        self.requests.append(exchange)
        self.write(exchange.request_bytes)

    def read(self, size_bytes: int) -> None:
        """Tell the client."""
        self._conversation.received(self, size_bytes)

    def closed(self, reason: events.CloseReason) -> None:
        """Tell the client, with the reason where it is none of an ordinary end."""
        why = "" if reason is events.CloseReason.FINISHED else f"connection {reason.value}"
        self._conversation.closed(self, why)


class ServerEnd(End):
    """The end of the one that answers."""

    __slots__ = ("_asking", "_conversation", "_read_bytes")

    def __init__(
        self, conversation: Conversation, asking: ClientEnd, slot: Slot, connection: Connection
    ) -> None:
        super().__init__(slot, conversation.server_host, connection)
        self._conversation = conversation
        self._asking = asking
        self._read_bytes = 0

    def read(self, size_bytes: int) -> None:
        """Answer the requests that are whole by now."""
        self._read_bytes += size_bytes
        requests = self._asking.requests
        while requests and self._read_bytes >= requests[0].request_bytes:
            request = requests.popleft()
            self._read_bytes -= request.request_bytes
            if request.response_bytes:
                self.write(request.response_bytes)
            else:
                request.end_ns = self.host.loop.now_ns

    def peer_finished(self) -> None:
        """End the connection when all is answered."""
        self.finish()


class Wake(Timer):
    """Wakes a client at its time."""

    __slots__ = ("_conversation",)

    def __init__(self, loop: Loop, conversation: Conversation) -> None:
        super().__init__(loop)
        self._conversation = conversation

    def expire(self) -> None:
        """Wake it."""
        self._conversation.wake()


class Conversation:
    """One flow's client with all its connections, and its server."""

    __slots__ = (
        "_client",
        "_connect",
        "_ends",
        "_is_acting",
        "_timer",
        "client_host",
        "done",
        "server_host",
        "slots",
    )

    def __init__(
        self, flow: Flow, client: Client, client_host: Host, server_host: Host, sampled: bool
    ) -> None:
        self._client = client
        self._connect: Connect | None = None
        self._ends: dict[int, ClientEnd] = {}
        self._is_acting = False
        self._timer = Wake(client_host.loop, self)
        self.client_host = client_host
        self.server_host = server_host
        self.slots = [Slot(flow, index, self, sampled) for index in range(flow.connections)]
        self.done: list[Exchange] = []
        """What has ended, in that order; messages when they were sent."""

    def start(self, connect: Connect) -> None:
        """Let the client begin; ``connect`` opens a connection."""
        self._connect = connect
        self._client.start(self.client_host.loop.now_ns)
        self._act()
        self.client_host.wake()

    def stop(self) -> None:
        """Let it ask for nothing more."""
        self._client.stop()
        self._act()
        self.client_host.wake()

    def wake(self) -> None:
        """Let it act on what is due."""
        self._client.wake(self.client_host.loop.now_ns)
        self._act()
        self.client_host.wake()

    def under_way(self) -> list[Exchange]:
        """Return the requests that are not answered."""
        return self._client.under_way()

    def accepted(self, slot: Slot, connection: Connection) -> None:
        """The server has a connection: it is the one from its port."""
        port = connection.subflows[0].tcp.remote_port
        for end in self._ends.values():
            subflows = end.connection.subflows
            if end.slot is slot and subflows and subflows[0].tcp.local_port == port:
                slot.server_end = ServerEnd(self, end, slot, connection)
                return

    def received(self, end: ClientEnd, size_bytes: int) -> None:
        """A part of a response was read."""
        self._client.received(end.channel, size_bytes, self.client_host.loop.now_ns)
        self._act()

    def closed(self, end: ClientEnd, why: str) -> None:
        """A connection is gone."""
        self._ends.pop(end.channel)
        self._client.closed(end.channel, why)
        self._act()

    def _act(self) -> None:
        """Do what the client wants, and note what has ended."""
        if self._is_acting:
            return
        self._is_acting = True
        while (command := self._client.poll()) is not None:
            if isinstance(command, Open):
                self._open(command.channel, self.slots[command.slot])
            elif isinstance(command, Send):
                self._ends[command.channel].send(command.exchange)
            elif isinstance(command, Finish):
                self._ends[command.channel].finish()
        self._is_acting = False
        self.done += self._client.take_done()
        wake_ns = self._client.next_wake_ns
        if wake_ns is None:
            self._timer.cancel()
        else:
            self._timer.set(wake_ns)
        if self._client.is_finished:
            self._end()
        elif self._client.failures:
            for slot in self.slots:
                slot.failed = self._client.failures[0]

    def _open(self, channel: int, slot: Slot) -> None:
        assert self._connect is not None
        connection = self._connect(slot)
        if slot.begun_ns is None:
            slot.begun_ns = self.client_host.loop.now_ns
        end = ClientEnd(self, channel, slot, connection)
        self._ends[channel] = end
        slot.client_end = end

    def _end(self) -> None:
        """Note that all is over."""
        for slot in self.slots:
            if slot.end_ns is None:
                slot.end_ns = self.client_host.loop.now_ns
            if self._client.failures:
                slot.failed = self._client.failures[0]
