"""The applications of bulk data: one end writes without end, the other reads all there is.

With a rate, an application writes or reads `write_size` bytes at a time and then pauses.

Payload is a length: what is checked is that every byte written is read once and in order, which the
receiving stack's data sequence guarantees and the counts at both ends confirm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.loop import Loop, Timer
from mptcplab.scenario.model import Flow
from mptcplab.simulated.host import Application, Copy, Host
from mptcplab.simulated.transfer import Transfer
from mptcplab.stack import events
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.units import BITS_NS

if TYPE_CHECKING:
    from mypy_extensions import i64

_COPY_BYTES: Final = 65_536
"""What is copied in one go where copying costs time, as iperf's -l 64KB did; or what a train holds,
if that is more: a run looks no finer at the hosts than at the links."""

UNLIMITED_BYTES: Final = 1 << 60


class Pace(Timer):
    """The rate of an application: it says when its next write or read may be."""

    __slots__ = ("_application", "_rate_bps", "chunk_bytes")

    def __init__(self, loop: Loop, application: Paced, rate_bps: i64, chunk_bytes: i64) -> None:
        super().__init__(loop)
        self._application = application
        self._rate_bps: i64 = rate_bps
        self.chunk_bytes: i64 = chunk_bytes

    def wait(self, size_bytes: i64) -> None:
        """Let it pause for as long as so many bytes take at its rate."""
        self.set(self.loop.now_ns + size_bytes * BITS_NS // self._rate_bps)

    def expire(self) -> None:
        """Let it go on."""
        self._application.go_on()


class Paced(Application):
    """An application that may have a rate."""

    __slots__ = ()

    def go_on(self) -> None:
        """Its pause is over."""
        raise NotImplementedError


class BulkTransfer(Transfer):
    """One connection of a bulk flow: one end writes, the other reads."""

    __slots__ = ("reader", "writer")

    def __init__(self, flow: Flow, index: int, sender: Host, receiver: Host) -> None:
        super().__init__(flow, index)
        self.begun_ns = flow.start_ns
        self.writer = Writer(self, sender)
        self.reader = Reader(self, receiver)

    def attach(self, host: str, connection: Connection) -> None:
        """Take the connection that was opened or accepted on a host."""
        if host == self.flow.source:
            self.writer.connection = connection
            self.writer.host.applications[connection] = self.writer
        else:
            self.reader.connection = connection
            self.reader.host.applications[connection] = self.reader

    def stop(self) -> None:
        """Write no more; what was written is still delivered, and read as it comes."""
        self.writer.close()
        self.reader.hurry()

    def ends(self) -> list[tuple[Host, Connection]]:
        """Return the two ends, as far as they are there."""
        return [
            (end.host, end.connection)
            for end in (self.writer, self.reader)
            if end.connection is not None
        ]

    @property
    def sending(self) -> Connection | None:
        """The end that writes."""
        return self.writer.connection

    @property
    def receiving(self) -> Connection | None:
        """The end that reads."""
        return self.reader.connection

    @property
    def written_bytes(self) -> int:
        """How much was written."""
        return self.writer.written_bytes


class Writer(Paced):
    """The sending end."""

    __slots__ = (
        "_busy",
        "_copy",
        "_late",
        "_pace",
        "_unwritten_bytes",
        "closing",
        "connection",
        "host",
        "left_bytes",
        "transfer",
        "written_bytes",
    )

    def __init__(self, transfer: BulkTransfer, host: Host) -> None:
        self.transfer = transfer
        self.host = host
        self.connection: Connection | None = None
        self.written_bytes = 0
        self.left_bytes = transfer.flow.size_bytes or UNLIMITED_BYTES
        self.closing = False
        self._busy = False
        self._copy = Copy(self)
        rate_bps = transfer.flow.write_rate_bps
        self._pace = (
            None if rate_bps is None else Pace(host.loop, self, rate_bps, transfer.flow.write_bytes)
        )
        self._unwritten_bytes: i64 = 0
        """With a rate: what the connection has not taken yet of the write at hand."""
        self._late = False
        """With a rate: it is time for the next write already."""

    def handle(self, event: events.Event) -> None:
        """Act on what the stack tells of the connection."""
        if isinstance(event, events.DataWritable):
            self._write()
        elif isinstance(event, events.ConnectionEstablished):
            if self._pace is None:
                self._write()
            else:
                self._begin_write(self._pace)
        elif isinstance(event, events.ConnectionClosed) and not self.closing:
            self.transfer.failed = event.reason.value

    def close(self) -> None:
        """Write no more; what was written is still delivered."""
        self.closing = True
        if self.connection is not None:
            self.connection.close()
            self.host.wake()

    def go_on(self) -> None:
        """It is time for the next write, which begins when the one at hand is done."""
        pace = self._pace
        if pace is None or self.closing:
            return
        if self._unwritten_bytes > 0:
            self._late = True
            return
        self._begin_write(pace)
        self.host.wake()

    def _begin_write(self, pace: Pace) -> None:
        self._late = False
        self._unwritten_bytes = min(pace.chunk_bytes, self.left_bytes)
        pace.wait(self._unwritten_bytes)
        self._write()

    def _wanted_bytes(self) -> i64:
        """Return what it would write now, were there room for it."""
        return self.left_bytes if self._pace is None else self._unwritten_bytes

    def _write(self) -> None:
        if self._busy or self.closing or self.connection is None:
            return
        wanted = self._wanted_bytes()
        if wanted <= 0:
            return
        if not self.host.copies_cost:
            self._write_up_to(wanted)
            return
        room: i64 = self.connection.send.room_bytes()
        if wanted < room:
            room = wanted
        most = copied_at_once(self.connection.send.last_train_bytes)
        if room > most:
            room = most
        if room <= 0:
            self._write_up_to(wanted)
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
        elif self._pace is not None:
            self._unwritten_bytes -= taken
            if self._unwritten_bytes == 0 and self._late:
                self._begin_write(self._pace)


class Reader(Paced):
    """The receiving end."""

    __slots__ = ("_busy", "_copy", "_pace", "_pauses", "connection", "host", "transfer")

    def __init__(self, transfer: BulkTransfer, host: Host) -> None:
        self.transfer = transfer
        self.host = host
        self.connection: Connection | None = None
        self._busy = False
        self._copy = Copy(self)
        rate_bps = transfer.flow.read_rate_bps
        self._pace = (
            None if rate_bps is None else Pace(host.loop, self, rate_bps, transfer.flow.write_bytes)
        )
        self._pauses = False

    def handle(self, event: events.Event) -> None:
        """Act on what the stack tells of the connection."""
        if isinstance(event, events.DataReadable):
            self._read()
        elif isinstance(event, events.PeerFinished):
            self._read()
            self._finish()
        elif isinstance(event, events.ConnectionClosed):
            self._finish()

    def go_on(self) -> None:
        """Its pause is over: read on."""
        self._pauses = False
        self._read()
        self._finish()
        self.host.wake()

    def hurry(self) -> None:
        """Keep to no rate any more."""
        if self._pace is not None:
            self._pace.cancel()
            self._pace = None
            self.go_on()

    def _read(self) -> None:
        connection = self.connection
        if connection is None or self._busy or self._pauses:
            return
        pace = self._pace
        if not self.host.copies_cost:
            if pace is None:
                self.transfer.delivered_bytes += connection.read_length()
            else:
                self._note_read(connection.read_length(pace.chunk_bytes))
            return
        waiting: i64 = connection.receive_buffer.readable_bytes()
        most = copied_at_once(connection.receive_buffer.last_train_bytes)
        if pace is not None and pace.chunk_bytes < most:
            most = pace.chunk_bytes
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
        self._note_read(connection.read_length(size_bytes))
        self._read()
        self._finish()
        self.host.wake()

    def _note_read(self, size_bytes: i64) -> None:
        """It has read so many bytes."""
        self.transfer.delivered_bytes += size_bytes
        if self._pace is not None and size_bytes > 0:
            self._pauses = True
            self._pace.wait(size_bytes)

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
