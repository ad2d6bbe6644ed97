"""Sockets of our own stack in an asyncio loop: no thread, the same life of a connection.

>>> async with AsyncHost(stack) as host:                                 # doctest: +SKIP
...     host.add_link(TunDevice("tun0"), "10.1.0.2")
...     connection = await host.connect("10.1.0.1", 5001)
...     await connection.send(b"hello")
...     print(await connection.recv(100))
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic_ns
from types import TracebackType
from typing import Final, Self

from mptcplab.linux.sockets.driver import Driver, Link
from mptcplab.linux.sockets.stream import LINGER_S, StreamState
from mptcplab.linux.sockets.tun_device import SegmentPort
from mptcplab.loop.timerfd import TimerFd
from mptcplab.stack.config import StackConfig
from mptcplab.stack.events import ConnectionAccepted, Event
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.stack import Listener, Stack
from mptcplab.wire.ip import parse_address

_SEND_BYTES: Final = 1 << 20
"""Most that is copied into the send buffer at a time."""


class AsyncHost:
    """A host whose TCP is our stack, served by the running asyncio loop."""

    def __init__(self, stack: Stack) -> None:
        self.driver = Driver(stack, self._handle_event)
        self._loop = asyncio.get_running_loop()
        self._timer = TimerFd()
        self._loop.add_reader(self._timer.fd, self._handle_timeout)
        self._sockets: dict[Connection, AsyncConnection] = {}
        self._accepting: dict[int, AsyncListener] = {}
        self._waiting: set[tuple[Callable[[], bool], asyncio.Future[None]]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self.wait(
                    lambda: not any(one.state.ending for one in self._sockets.values()), None
                )
        self.close()

    def add_link(self, port: SegmentPort, *addresses: str, mtu_bytes: int = 1500) -> Link:
        """Give the host an interface with these addresses; closing the port is the caller's."""
        link = self.driver.add_link(port, *addresses, mtu_bytes=mtu_bytes)
        self._loop.add_reader(port.fileno(), self._handle_readable, link)
        return link

    def set_link_up(self, link: Link, up: bool) -> None:
        """Take a link down, or up again, for the stack."""
        self.driver.set_link_up(link, up)
        self.flush()

    async def connect(
        self,
        address: str,
        port: int,
        *,
        source: str | None = None,
        config: StackConfig | None = None,
        data: bytes = b"",
    ) -> AsyncConnection:
        """Open a connection and wait until data may flow; raises ``OSError`` if that fails.

        ``data`` is sent first, with ``fast_open`` in the SYN where the peer has given a cookie.
        """
        remote = parse_address(address)
        stack = self.driver.stack
        local = stack.source_for(remote) if source is None else parse_address(source)
        if not local:
            raise OSError(f"no address of ours is of the family of {address}")
        connection = stack.connect(local, remote, port, monotonic_ns(), config=config)
        taken = connection.write(data) if data else 0
        made = AsyncConnection(self, connection)
        self._sockets[connection] = made
        self.flush()
        try:
            await self.wait(lambda: made.state.established, made.state)
        except asyncio.CancelledError:
            made.abort()
            raise
        await made.send(data[taken:])
        return made

    def listen(
        self, port: int, address: str = "", *, config: StackConfig | None = None
    ) -> AsyncListener:
        """Accept connections to a port, on one address or on all."""
        packed = parse_address(address) if address else b""
        made = AsyncListener(self, self.driver.stack.listen(port, packed, config))
        self._accepting[port] = made
        return made

    def close(self) -> None:
        """Stop serving; connections that are open just fall silent, waiters are cancelled."""
        for link in self.driver.links:
            self._loop.remove_reader(link.port.fileno())
        self._loop.remove_reader(self._timer.fd)
        self._timer.close()
        for _, future in self._waiting:
            future.cancel()

    def flush(self) -> None:
        """Send what is due, set the timer anew, and wake who waits for what now holds."""
        self.driver.flush()
        deadline_ns = self.driver.deadline_ns
        if deadline_ns is None:
            self._timer.clear()
        else:
            self._timer.arm(deadline_ns)
        for waiter in [waiter for waiter in self._waiting if waiter[0]()]:
            self._waiting.discard(waiter)
            if not waiter[1].done():
                waiter[1].set_result(None)

    async def wait(self, holds: Callable[[], bool], state: StreamState | None) -> None:
        """Wait until something holds; raises the connection's error when that breaks meanwhile."""
        while not holds():
            error = state.error() if state is not None else None
            if error is not None:
                raise error
            future: asyncio.Future[None] = self._loop.create_future()

            def woken() -> bool:
                return holds() or (state is not None and state.closed_for is not None)

            waiter = (woken, future)
            self._waiting.add(waiter)
            try:
                await future
            finally:
                self._waiting.discard(waiter)

    def stop_listening(self, listener: Listener) -> None:
        """Accept no more connections to a port."""
        if self._accepting.pop(listener.port, None) is not None:
            self.driver.stack.stop_listening(listener)

    def forget(self, connection: Connection) -> None:
        """Drop the socket of a connection that is over."""
        self._sockets.pop(connection, None)

    def _handle_readable(self, link: Link) -> None:
        self.driver.handle_readable(link)
        self.flush()

    def _handle_timeout(self) -> None:
        self._timer.clear()
        self.driver.handle_timeout()
        self.flush()

    def _handle_event(self, connection: Connection, event: Event) -> None:
        stream = self._sockets.get(connection)
        if stream is None and isinstance(event, ConnectionAccepted):
            stream = self._sockets[connection] = AsyncConnection(self, connection)
            subflows = connection.subflows
            listener = self._accepting.get(subflows[0].tcp.local_port) if subflows else None
            if listener is not None:
                listener.waiting.append(stream)
        if stream is not None:
            stream.state.handle_event(event)


class AsyncListener:
    """Hands out the connections to one port."""

    def __init__(self, host: AsyncHost, listener: Listener) -> None:
        self._host = host
        self._listener = listener
        self.waiting: deque[AsyncConnection] = deque()

    async def accept(self) -> AsyncConnection:
        """Return the next connection, when data may flow on it."""
        while True:
            await self._host.wait(lambda: any(c.state.established for c in self.waiting), None)
            for index, candidate in enumerate(self.waiting):
                if candidate.state.established:
                    del self.waiting[index]
                    return candidate

    def close(self) -> None:
        """Accept no more."""
        self._host.stop_listening(self._listener)


class AsyncConnection:
    """One connection; use ``asyncio.timeout`` around what must not wait for ever."""

    def __init__(self, host: AsyncHost, connection: Connection) -> None:
        self._host = host
        self.connection = connection
        self.state = StreamState(connection)

    async def send(self, data: bytes | memoryview) -> None:
        """Give all of ``data`` to the stack, waiting for room in the send buffer.

        Raises ``OSError`` when the connection broke.
        """
        rest = memoryview(data)
        while rest:
            self._raise_if_broken()
            taken = self.connection.write(bytes(rest[:_SEND_BYTES]))
            rest = rest[taken:]
            self._host.flush()
            if rest and not taken:
                await self._host.wait(self._has_room, self.state)

    async def recv(self, limit: int = 1 << 20) -> bytes:
        """Return at least one byte and at most ``limit``; none at the end of the stream."""
        buffer = self.connection.receive_buffer
        await self._host.wait(lambda: buffer.readable_bytes() > 0 or self.state.at_end, None)
        data = self.connection.read(limit)
        if data:
            self._host.flush()
        else:
            self._raise_if_broken()
        return data

    def finish(self) -> None:
        """Send no more (half-close); receiving goes on."""
        self.connection.close()
        self._host.flush()

    async def wait_for(self, holds: Callable[[StreamState], bool]) -> None:
        """Wait until something holds of the state."""
        await self._host.wait(lambda: holds(self.state), None)

    def close(self) -> None:
        """Send no more; the stack ends the connection in order."""
        self.finish()

    def abort(self) -> None:
        """End at once (MP_FASTCLOSE, RST)."""
        self.connection.abort(monotonic_ns())
        self._host.flush()
        self._host.forget(self.connection)

    def _has_room(self) -> bool:
        return self.connection.send.room_bytes() > 0

    def _raise_if_broken(self) -> None:
        error = self.state.error()
        if error is not None:
            raise error
