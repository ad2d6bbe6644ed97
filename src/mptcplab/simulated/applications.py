"""The applications at both ends of a connection: one writes without end, one reads all there is.

Payload is a length: what is checked is that every byte written is read once and in order, which the
receiving stack's data sequence guarantees and the counts at both ends confirm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.scenario.model import Flow
from mptcplab.simulated.host import Application, Copy, Host
from mptcplab.stack import events
from mptcplab.stack.mptcp.connection import Connection

if TYPE_CHECKING:
    from mypy_extensions import i64

_COPY_BYTES: Final = 65_536
"""What is copied in one go where copying costs time, as iperf's -l 64KB did; or what a train holds,
if that is more: a run looks no finer at the hosts than at the links."""

UNLIMITED_BYTES: Final = 1 << 60


class Transfer:
    """One connection of a flow: its two ends, and what has come through."""

    __slots__ = (
        "delivered_bytes",
        "drained_bytes",
        "end_ns",
        "failed",
        "flow",
        "index",
        "reader",
        "writer",
    )

    def __init__(self, flow: Flow, index: int, sender: Host, receiver: Host) -> None:
        self.flow = flow
        self.index = index
        self.writer = Writer(self, sender)
        self.reader = Reader(self, receiver)
        self.delivered_bytes = 0
        self.drained_bytes = 0
        """Of those, delivered after the run was over."""
        self.end_ns: int | None = None
        self.failed = ""

    @property
    def protocol(self) -> str:
        """What the connection turned out to be: "mptcp", "tcp" or "fallback"."""
        connection = self.writer.connection or self.reader.connection
        if self.flow.protocol == "tcp":
            return "tcp"
        return "mptcp" if connection is not None and connection.mptcp else "fallback"

    @property
    def waiting_bytes(self) -> int:
        """How much was written and not yet read at the other end."""
        return self.writer.written_bytes - self.delivered_bytes

    @property
    def intact(self) -> bool:
        """Whether every byte written was read, and the stream ended in order."""
        return self.end_ns is not None and self.delivered_bytes == self.writer.written_bytes


class Writer(Application):
    """The sending end."""

    __slots__ = (
        "_busy",
        "_copy",
        "closing",
        "connection",
        "host",
        "left_bytes",
        "transfer",
        "written_bytes",
    )

    def __init__(self, transfer: Transfer, host: Host) -> None:
        self.transfer = transfer
        self.host = host
        self.connection: Connection | None = None
        self.written_bytes = 0
        self.left_bytes = transfer.flow.size_bytes or UNLIMITED_BYTES
        self.closing = False
        self._busy = False
        self._copy = Copy(self)

    def handle(self, event: events.Event) -> None:
        """Act on what the stack tells of the connection."""
        if isinstance(event, (events.DataWritable, events.ConnectionEstablished)):
            self._write()
        elif isinstance(event, events.ConnectionClosed) and not self.closing:
            self.transfer.failed = event.reason.value

    def close(self) -> None:
        """Write no more; what was written is still delivered."""
        self.closing = True
        if self.connection is not None:
            self.connection.close()
            self.host.wake()

    def _write(self) -> None:
        if self._busy or self.closing or self.connection is None:
            return
        if not self.host.copies_cost:
            self._write_up_to(self.left_bytes)
            return
        room: i64 = self.connection.send.room_bytes()
        if self.left_bytes < room:
            room = self.left_bytes
        most = copied_at_once(self.connection.send.last_train_bytes)
        if room > most:
            room = most
        if room <= 0:
            self._write_up_to(self.left_bytes)
            return
        self._busy = True
        self.host.copy(self.connection, room, self._copy)

    def copied(self, size_bytes: int) -> None:
        """The host has copied so many bytes."""
        self._busy = False
        if self.connection is None or self.closing:
            return
        self._write_up_to(size_bytes)
        self._write()
        self.host.wake()

    def _write_up_to(self, size_bytes: int) -> None:
        assert self.connection is not None
        taken = self.connection.write_length(size_bytes)
        self.written_bytes += taken
        self.left_bytes -= taken
        if self.left_bytes == 0:
            self.closing = True
            self.connection.close()


class Reader(Application):
    """The receiving end."""

    __slots__ = ("_busy", "_copy", "connection", "host", "transfer")

    def __init__(self, transfer: Transfer, host: Host) -> None:
        self.transfer = transfer
        self.host = host
        self.connection: Connection | None = None
        self._busy = False
        self._copy = Copy(self)

    def handle(self, event: events.Event) -> None:
        """Act on what the stack tells of the connection."""
        if isinstance(event, events.DataReadable):
            self._read()
        elif isinstance(event, events.PeerFinished):
            self._read()
            self._finish()
        elif isinstance(event, events.ConnectionClosed):
            self._finish()

    def unread_bytes(self) -> int:
        """Return how much waits to be read."""
        return 0 if self.connection is None else self.connection.receive_buffer.readable_bytes()

    def _read(self) -> None:
        connection = self.connection
        if connection is None or self._busy:
            return
        if not self.host.copies_cost:
            self.transfer.delivered_bytes += connection.read_length()
            return
        waiting: i64 = connection.receive_buffer.readable_bytes()
        most = copied_at_once(connection.receive_buffer.last_train_bytes)
        if waiting > most:
            waiting = most
        if waiting > 0:
            self._busy = True
            self.host.copy(connection, waiting, self._copy)

    def copied(self, size_bytes: int) -> None:
        """The host has copied so many bytes."""
        self._busy = False
        connection = self.connection
        assert connection is not None
        self.transfer.delivered_bytes += connection.read_length(size_bytes)
        self._read()
        self._finish()
        self.host.wake()

    def _finish(self) -> None:
        """Answer the peer's end with ours once everything is read."""
        connection = self.connection
        if connection is None or self.transfer.end_ns is not None:
            return
        if connection.peer_finished and connection.receive_buffer.readable_bytes() == 0:
            self.transfer.end_ns = self.host.loop.now_ns
            connection.close()


def copied_at_once(train_bytes: i64) -> i64:
    """Return how much a host copies in one go, with trains of this length about."""
    if train_bytes > _COPY_BYTES:
        return train_bytes
    return _COPY_BYTES
