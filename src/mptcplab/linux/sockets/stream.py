"""What an application knows of a connection: the part that blocking and asyncio use share."""

from __future__ import annotations

from typing import Final

from mptcplab.stack import events
from mptcplab.stack.events import CloseReason, Event
from mptcplab.stack.mptcp.connection import Connection

LINGER_S: Final = 1.0
"""How long closing a host waits for connections whose both ends have finished."""

_ERRORS: dict[CloseReason, type[OSError]] = {
    CloseReason.REFUSED: ConnectionRefusedError,
    CloseReason.TIMEOUT: TimeoutError,
    CloseReason.ABORTED: ConnectionAbortedError,
}


class StreamState:
    """State of one connection as its events tell it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.established = False
        self.mptcp = False
        """Whether MPTCP is in use; ends with a fallback."""
        self.fallback: str | None = None
        """Why it fell back to TCP, if it did."""
        self.subflows: set[int] = set()
        """Identifiers of the subflows that are established."""
        self.delivered = False
        """Whether the peer acknowledged all that was written before ``close``."""
        self.peer_finished = False
        self.closed_for: CloseReason | None = None
        self.log: list[Event] = []
        """Every event so far, but those that tell of room and data."""

    def handle_event(self, event: Event) -> None:
        """Take one event of the connection in."""
        if isinstance(event, events.DataReadable | events.DataWritable):
            return
        self.log.append(event)
        if isinstance(event, events.ConnectionEstablished):
            self.established = True
            self.mptcp = event.mptcp
        elif isinstance(event, events.FellBack):
            self.mptcp = False
            self.fallback = event.why
        elif isinstance(event, events.SubflowEstablished):
            self.subflows.add(event.subflow_id)
        elif isinstance(event, events.SubflowClosed):
            self.subflows.discard(event.subflow_id)
        elif isinstance(event, events.PeerFinished):
            self.peer_finished = True
        elif isinstance(event, events.AllDelivered):
            self.delivered = True
        elif isinstance(event, events.ConnectionClosed):
            self.closed_for = event.reason

    @property
    def at_end(self) -> bool:
        """Whether nothing can be read any more, now that everything was."""
        return self.peer_finished or self.closed_for is not None

    @property
    def ending(self) -> bool:
        """Whether both sides have finished and only the last segments are under way."""
        return self.peer_finished and self.connection.send.finished and self.closed_for is None

    def error(self) -> OSError | None:
        """The error that reading or writing must report, if the connection broke."""
        reason = self.closed_for
        if reason is None or reason is CloseReason.FINISHED:
            return None
        return _ERRORS.get(reason, ConnectionResetError)(f"connection {reason.value}")
