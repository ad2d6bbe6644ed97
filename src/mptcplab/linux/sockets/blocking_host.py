"""Sockets of our own stack, the blocking way: a thread serves the devices.

>>> with Host(stack) as host:                                            # doctest: +SKIP
...     host.add_link(TunDevice("tun0"), "10.1.0.2")
...     connection = host.connect("10.1.0.1", 5001)
...     connection.send(b"hello")
...     print(connection.recv(100), connection.state.mptcp)
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import Final, Self

from mptcplab.linux.sockets.driver import Driver, Link
from mptcplab.linux.sockets.stream import LINGER_S, StreamState
from mptcplab.linux.sockets.tun_device import SegmentPort
from mptcplab.loop import CallbackTimer, RealTimeLoop
from mptcplab.stack.config import StackConfig
from mptcplab.stack.events import ConnectionAccepted, Event
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.stack import Listener, Stack
from mptcplab.wire.ip import format_address, parse_address

_SEND_BYTES: Final = 1 << 20
"""Most that is copied into the send buffer at a time."""


class Host:
    """A host whose TCP is our stack. Methods may be called from any thread."""

    def __init__(self, stack: Stack) -> None:
        self.driver = Driver(stack, self._handle_event)
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._loop = RealTimeLoop()
        self._timer = CallbackTimer(self._loop, self._handle_timeout)
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop.add_reader(self._wake_fd, self._handle_wake)
        self._sockets: dict[Connection, ConnectionSocket] = {}
        self._accepting: dict[int, ListenerSocket] = {}
        self._stopping = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mptcp-stack", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add_link(self, port: SegmentPort, *addresses: str, mtu_bytes: int = 1500) -> Link:
        """Give the host an interface with these addresses; closing the port is the caller's."""
        with self.lock:
            link = self.driver.add_link(port, *addresses, mtu_bytes=mtu_bytes)

            def handle_readable() -> None:
                with self.lock:
                    self.driver.handle_readable(link)
                    self._set_timer()

            self._loop.add_reader(port.fileno(), handle_readable)
            return link

    def set_link_up(self, link: Link, up: bool) -> None:
        """Take a link down, or up again, for the stack."""
        with self.lock:
            self.driver.set_link_up(link, up)
            self.flush()

    def connect(
        self,
        address: str,
        port: int,
        *,
        source: str | None = None,
        config: StackConfig | None = None,
        data: bytes = b"",
        timeout: float | None = 30.0,
    ) -> ConnectionSocket:
        """Open a connection and wait until data may flow; ``timeout`` in seconds.

        ``data`` is sent first, with ``fast_open`` in the SYN where the peer has given a cookie.
        Raises ``OSError`` (``ConnectionRefusedError``, ``TimeoutError``, ...) when it does not.
        """
        remote = parse_address(address)
        stack = self.driver.stack
        with self.lock:
            local = stack.source_for(remote) if source is None else parse_address(source)
            if not local:
                raise OSError(f"no address of ours is of the family of {address}")
            connection = stack.connect(local, remote, port, monotonic_ns(), config=config)
            taken = connection.write(data) if data else 0
            made = ConnectionSocket(self, connection)
            self._sockets[connection] = made
            self.flush()
            try:
                self.wait(lambda: made.state.established, made.state, timeout)
            except TimeoutError:
                made.abort()
                raise
        made.send(data[taken:])
        return made

    def listen(
        self, port: int, address: str = "", *, config: StackConfig | None = None
    ) -> ListenerSocket:
        """Accept connections to a port, on one address or on all."""
        with self.lock:
            packed = parse_address(address) if address else b""
            listener = self.driver.stack.listen(port, packed, config)
            made = ListenerSocket(self, listener)
            self._accepting[port] = made
            return made

    def close(self) -> None:
        """Stop serving, once what both ends finished is over; other connections fall silent."""
        if self._stopping:
            return
        with self.lock, suppress(TimeoutError, OSError):
            self.wait(
                lambda: not any(s.state.ending for s in self._sockets.values()), None, LINGER_S
            )
        self._stopping = True
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join()
        self._loop.close()
        os.close(self._wake_fd)
        if self._failure is not None:
            raise self._failure

    def flush(self) -> None:
        """Send what is due and set the timer anew; the lock is held."""
        self.driver.flush()
        self._set_timer()
        os.eventfd_write(self._wake_fd, 1)

    def wait(
        self, holds: Callable[[], bool], state: StreamState | None, timeout: float | None
    ) -> None:
        """Wait, with the lock held, until something holds.

        Raises ``TimeoutError``, or the error of the connection when that breaks meanwhile.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while not holds():
            if self._failure is not None:
                raise OSError(f"the stack failed: {self._failure!r}") from self._failure
            error = state.error() if state is not None else None
            if error is not None:
                raise error
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("timed out")
            self.changed.wait(left)

    def forget(self, connection: Connection) -> None:
        """Drop the socket of a connection that is over."""
        self._sockets.pop(connection, None)

    def stop_listening(self, listener: Listener) -> None:
        """Accept no more connections to a port."""
        with self.lock:
            if self._accepting.pop(listener.port, None) is not None:
                self.driver.stack.stop_listening(listener)

    def _run(self) -> None:
        try:
            self._loop.run()
        except BaseException as error:
            with self.lock:
                self._failure = error
                self.changed.notify_all()

    def _handle_wake(self) -> None:
        os.eventfd_read(self._wake_fd)
        if self._stopping:
            self._loop.stop()
            return
        with self.lock:
            self._set_timer()

    def _handle_timeout(self) -> None:
        with self.lock:
            self.driver.handle_timeout()
            self._set_timer()

    def _set_timer(self) -> None:
        if threading.current_thread() is not self._thread:
            return
        deadline_ns = self.driver.deadline_ns
        if deadline_ns is None:
            self._timer.cancel()
        else:
            self._timer.set(deadline_ns)

    def _handle_event(self, connection: Connection, event: Event) -> None:
        stream = self._sockets.get(connection)
        if stream is None and isinstance(event, ConnectionAccepted):
            stream = self._sockets[connection] = ConnectionSocket(self, connection)
            subflows = connection.subflows
            listener = self._accepting.get(subflows[0].tcp.local_port) if subflows else None
            if listener is not None:
                listener.waiting.append(stream)
        if stream is not None:
            stream.state.handle_event(event)
        self.changed.notify_all()


class ListenerSocket:
    """Hands out the connections to one port."""

    def __init__(self, host: Host, listener: Listener) -> None:
        self._host = host
        self._listener = listener
        self.waiting: deque[ConnectionSocket] = deque()

    def accept(self, timeout: float | None = 30.0) -> ConnectionSocket:
        """Return the next connection, when data may flow on it; ``TimeoutError`` if none comes."""
        with self._host.lock:
            self._host.wait(self._ready, None, timeout)
            for index, candidate in enumerate(self.waiting):
                if candidate.state.established:
                    del self.waiting[index]
                    return candidate
        raise AssertionError("an established connection vanished")

    def _ready(self) -> bool:
        return any(candidate.state.established for candidate in self.waiting)

    def close(self) -> None:
        """Accept no more."""
        self._host.stop_listening(self._listener)


class ConnectionSocket:
    """One connection. Timeouts are in seconds, ``None`` waits for ever."""

    def __init__(self, host: Host, connection: Connection) -> None:
        self._host = host
        self.connection = connection
        self.state = StreamState(connection)
        self.timeout: float | None = 30.0

    def send(self, data: bytes | memoryview) -> None:
        """Give all of ``data`` to the stack, waiting for room in the send buffer.

        Raises ``OSError`` when the connection broke or ``timeout`` passes without room.
        """
        rest = memoryview(data)
        with self._host.lock:
            while rest:
                self._raise_if_broken()
                taken = self.connection.write(bytes(rest[:_SEND_BYTES]))
                rest = rest[taken:]
                self._host.flush()
                if rest and not taken:
                    self._host.wait(self._has_room, self.state, self.timeout)

    def recv(self, limit: int = 1 << 20) -> bytes:
        """Return at least one byte and at most ``limit``; none at the end of the stream.

        Raises ``OSError`` when the connection broke or ``timeout`` passes.
        """
        with self._host.lock:
            buffer = self.connection.receive_buffer
            self._host.wait(
                lambda: buffer.readable_bytes() > 0 or self.state.at_end, None, self.timeout
            )
            data = self.connection.read(limit)
            if data:
                self._host.flush()
            else:
                self._raise_if_broken()
            return data

    def finish(self) -> None:
        """Send no more (half-close); receiving goes on."""
        with self._host.lock:
            self.connection.close()
            self._host.flush()

    def wait_delivered(self) -> None:
        """Wait until the peer acknowledged everything, after ``finish``."""
        with self._host.lock:
            self._host.wait(lambda: self.state.delivered, self.state, self.timeout)

    def wait_for(self, holds: Callable[[StreamState], bool], timeout: float | None = 10.0) -> None:
        """Wait until something holds of the state; ``TimeoutError`` if it does not."""
        with self._host.lock:
            self._host.wait(lambda: holds(self.state), None, timeout)

    def set_backup(self, subflow_id: int, backup: bool) -> None:
        """Make a subflow backup, or regular again (MP_PRIO)."""
        with self._host.lock:
            self.connection.set_backup(subflow_id, backup)
            self._host.flush()

    def close_subflow(self, subflow_id: int) -> None:
        """Close one subflow, in order."""
        with self._host.lock:
            self.connection.close_subflow(subflow_id)
            self._host.flush()

    def close(self) -> None:
        """Send no more and forget the connection; the stack ends it in order."""
        self.finish()

    def abort(self) -> None:
        """End at once (MP_FASTCLOSE, RST)."""
        with self._host.lock:
            self.connection.abort(monotonic_ns())
            self._host.flush()
            self._host.forget(self.connection)

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the peer of the initial subflow."""
        remote = self.connection.initial_remote
        return format_address(remote.address), remote.port

    def _has_room(self) -> bool:
        return self.connection.send.room_bytes() > 0

    def _raise_if_broken(self) -> None:
        error = self.state.error()
        if error is not None:
            raise error
