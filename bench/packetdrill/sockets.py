"""The system calls of a script, on our stack's interface for applications.

Descriptors are the script's. What would block gives ``None``; the player asks again later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bench.packetdrill.reasons import Mismatch, Reason, Stopped
from bench.packetdrill.script import Call, split
from bench.packetdrill.values import LOCAL, PORT, REMOTE

from mptcplab.stack import Connection, Listener, Stack, StackConfig, events

MILLISECOND_NS = 1_000_000
CORK_NS = 200 * MILLISECOND_NS
"""Linux's tcp(7): what TCP_CORK holds back leaves after 200 ms."""

_ERRORS = {
    events.CloseReason.REFUSED: "ECONNREFUSED",
    events.CloseReason.TIMEOUT: "ETIMEDOUT",
    events.CloseReason.RESET: "ECONNRESET",
}


@dataclass(slots=True)
class Result:
    """What a call returned: a number, and the name of an errno or the value of an option."""

    value: int
    error: str = ""
    said: str = ""


@dataclass(slots=True)
class Socket:
    """One descriptor."""

    protocol: str = "IPPROTO_MPTCP"
    blocking: bool = True
    options: dict[str, int] = field(default_factory=dict)
    send_timeout_ns: int = 0
    listener: Listener | None = None
    connection: Connection | None = None
    established: bool = False
    error: str = ""
    """What SO_ERROR says: asked for once."""
    waiting: list[Connection] = field(default_factory=list)
    """Connections to be accepted."""
    corked: bytes = b""
    cork_deadline_ns: int = 0


class Sockets:
    """All descriptors of a script."""

    def __init__(self, stack: Stack, config: StackConfig) -> None:
        self.stack = stack
        self.config = config
        """What sockets are made with from now on."""
        self.by_number: dict[int, Socket] = {}
        self.client_port = 0

    # Events of the stack.

    def take_events(self) -> None:
        """Note what happened to connections."""
        while (told := self.stack.poll_event()) is not None:
            connection, event = told
            owner = self._owner(connection)
            if isinstance(event, events.ConnectionEstablished):
                if owner is not None:
                    owner.established = True
                else:
                    self._queue(connection)
            elif isinstance(event, events.ConnectionClosed) and owner is not None:
                owner.error = _ERRORS.get(event.reason, "")

    def _owner(self, connection: Connection) -> Socket | None:
        for socket in self.by_number.values():
            if socket.connection is connection:
                return socket
        return None

    def _queue(self, connection: Connection) -> None:
        for socket in self.by_number.values():
            if socket.listener is not None:
                socket.waiting.append(connection)

    def next_deadline_ns(self) -> int | None:
        """Return when something that is held back leaves."""
        held = [one.cork_deadline_ns for one in self.by_number.values() if one.corked]
        return min(held, default=None)

    def handle_timeout(self, now_ns: int) -> None:
        """Let leave what was held back for long enough."""
        for socket in self.by_number.values():
            if socket.corked and socket.cork_deadline_ns <= now_ns:
                _uncork(socket)

    # Calls.

    def call(self, call: Call, now_ns: int, begun_ns: int) -> Result | None:
        """Do what is asked; ``None`` while it would block since ``begun_ns``."""
        if any("FASTOPEN" in word for word in call.arguments):
            raise Stopped(Reason.FAST_OPEN)
        if call.name == "socket":
            self.by_number[call.result] = Socket(call.arguments[2])
            return Result(call.result)
        number = int(call.arguments[0]) if call.arguments[0].isdigit() else -1
        if call.name == "poll":
            return self._poll(call)
        socket = self.by_number.get(number)
        if socket is None:
            return Result(-1, "EBADF")
        known: dict[str, Callable[[], Result | None]] = {
            "bind": lambda: Result(0),
            "listen": lambda: self._listen(socket),
            "accept": lambda: self._accept(socket, call),
            "connect": lambda: self._connect(socket, call, now_ns, begun_ns),
            "write": lambda: self._write(socket, call, now_ns),
            "send": lambda: self._write(socket, call, now_ns),
            "read": lambda: _read(socket, int(call.arguments[2])),
            "recvmsg": lambda: Result(0),
            "close": lambda: self._close(socket),
            "shutdown": lambda: self._close(socket),
            "fcntl": lambda: _fcntl(socket, call),
            "setsockopt": lambda: self._set_option(socket, call),
            "getsockopt": lambda: _get_option(socket, call),
        }
        if call.name not in known:
            raise Mismatch(f"no system call {call.name!r}")
        return known[call.name]()

    def _configured(self, socket: Socket) -> StackConfig:
        config = replace(self.config, mptcp=socket.protocol == "IPPROTO_MPTCP")
        config.dscp = socket.options.get("IP_TOS", 0) >> 2
        return config

    def _listen(self, socket: Socket) -> Result:
        socket.listener = self.stack.listen(PORT, LOCAL, self._configured(socket))
        return Result(0)

    def _accept(self, socket: Socket, call: Call) -> Result | None:
        if not socket.waiting:
            return None if socket.blocking else Result(-1, "EAGAIN")
        options = dict(socket.options)
        accepted = Socket(socket.protocol, options=options, established=True)
        accepted.connection = socket.waiting.pop(0)
        self.by_number[call.result] = accepted
        return Result(call.result)

    def _connect(self, socket: Socket, call: Call, now_ns: int, begun_ns: int) -> Result | None:
        if call.arguments[1] == "AF_UNSPEC":
            if socket.connection is not None:
                socket.connection.abort(now_ns)
            return Result(0)
        if socket.connection is None:
            socket.connection = self.stack.connect(
                LOCAL, REMOTE, PORT, now_ns, config=self._configured(socket)
            )
            if not socket.blocking:
                return Result(-1, "EINPROGRESS")
        if socket.established:
            return Result(0)
        if socket.error:
            return _failed(socket)
        if socket.send_timeout_ns and now_ns - begun_ns >= socket.send_timeout_ns:
            return Result(-1, "EINPROGRESS")
        return None

    def _write(self, socket: Socket, call: Call, now_ns: int) -> Result | None:
        connection = socket.connection
        if connection is None:
            return Result(-1, "EPIPE")
        if socket.error and not socket.established:
            return _failed(socket)
        if connection.closed_for is not None:
            return Result(-1, "EPIPE")
        if not socket.established:
            return None if socket.blocking else Result(-1, "EAGAIN")
        content = bytes(int(call.arguments[2]))
        if socket.options.get("TCP_CORK"):
            if not socket.corked:
                socket.cork_deadline_ns = now_ns + CORK_NS
            socket.corked += content
            return Result(len(content))
        return Result(connection.write(content))

    def _close(self, socket: Socket) -> Result:
        if socket.connection is not None:
            _uncork(socket)
            socket.connection.close()
        return Result(0)

    def _set_option(self, socket: Socket, call: Call) -> Result:
        name = call.arguments[2]
        if name == "SO_SNDTIMEO":
            seconds, microseconds = (int(x) for x in re.findall(r"=(\d+)", call.arguments[3]))
            socket.send_timeout_ns = seconds * 1_000_000_000 + microseconds * 1_000
            return Result(0)
        if name not in ("SO_REUSEADDR", "TCP_CORK", "TCP_NODELAY", "IP_TOS"):
            return Result(-1, "ENOPROTOOPT")
        value = int(call.arguments[3].strip("[]"))
        socket.options[name] = value
        connection = socket.connection
        if connection is not None:
            if name == "IP_TOS":
                connection.set_dscp(value >> 2)
            elif name == "TCP_NODELAY":
                connection.set_nodelay(bool(value))
        if name == "TCP_NODELAY" or (name == "TCP_CORK" and not value):
            _uncork(socket)
        return Result(0)

    def _poll(self, call: Call) -> Result | None:
        match = re.search(r"fd=(\d+),\s*events=([A-Z|]+)", call.arguments[0])
        if match is None:
            raise Mismatch(f"poll of {call.arguments[0]!r}")
        socket = self.by_number[int(match[1])]
        ready: list[str] = []
        if "POLLIN" in match[2] and socket.waiting:
            ready.append("POLLIN")
        if "POLLOUT" in match[2] and (socket.established or socket.error):
            ready.append("POLLOUT")
        if socket.error:
            ready += ["POLLERR", "POLLHUP"]
        if ready or call.arguments[2] == "0":
            return Result(len(ready[:1]), said="|".join(ready) or "0")
        return None


def expected_value(call: Call) -> str:
    """Return what the script expects a call to put where its arguments point."""
    if call.name == "poll":
        match = re.search(r"revents=([A-Z|0]+)", call.arguments[0])
        return match[1] if match else ""
    if call.name == "getsockopt" and call.result == 0:
        return call.arguments[3].strip("[]")
    return ""


def _failed(socket: Socket) -> Result:
    error, socket.error = socket.error, ""
    return Result(-1, error)


def _uncork(socket: Socket) -> None:
    held, socket.corked = socket.corked, b""
    if held and socket.connection is not None:
        socket.connection.write(held)


def _read(socket: Socket, limit: int) -> Result | None:
    connection = socket.connection
    if connection is None:
        return Result(-1, "ENOTCONN")
    content = connection.read(limit)
    if content or connection.peer_finished:
        return Result(len(content))
    if connection.closed_for is not None:
        return Result(-1, "ENOTCONN")
    return None if socket.blocking else Result(-1, "EAGAIN")


def _fcntl(socket: Socket, call: Call) -> Result:
    if call.arguments[1] == "F_GETFL":
        return Result(2 if socket.blocking else 2 | 0x800)
    socket.blocking = "O_NONBLOCK" not in split(call.arguments[2])[0]
    return Result(0)


def _get_option(socket: Socket, call: Call) -> Result:
    name = call.arguments[2]
    if name == "SO_ERROR":
        return Result(0, said=_failed(socket).error or "0")
    if name in ("TCP_CORK", "TCP_NODELAY", "IP_TOS"):
        return Result(0, said=str(socket.options.get(name, 0)))
    return Result(-1, "EOPNOTSUPP")
