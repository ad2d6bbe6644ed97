"""What a run follows of one connection of a flow, whatever its application is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mptcplab.scenario.model import Flow
from mptcplab.simulated.host import Host
from mptcplab.stack.mptcp.connection import Connection


class Transfer(ABC):
    """One connection of a flow, or those that follow one another in its place."""

    __slots__ = (
        "begun_ns",
        "delivered_bytes",
        "drained_bytes",
        "end_ns",
        "failed",
        "flow",
        "index",
    )

    def __init__(self, flow: Flow, index: int) -> None:
        self.flow = flow
        self.index = index
        self.begun_ns: int | None = None
        """From when on there is to be a connection."""
        self.delivered_bytes = 0
        """Read by the applications."""
        self.drained_bytes = 0
        """Of those, delivered after the run was over."""
        self.end_ns: int | None = None
        """When all of it had been read, and the end of the stream."""
        self.failed = ""

    @abstractmethod
    def attach(self, host: str, connection: Connection) -> None:
        """Take a connection that was opened or accepted on a host."""

    @abstractmethod
    def stop(self) -> None:
        """Begin nothing more; what was written is still delivered."""

    @abstractmethod
    def ends(self) -> list[tuple[Host, Connection]]:
        """Return the ends that are to be sampled, the sender's first."""

    @property
    @abstractmethod
    def sending(self) -> Connection | None:
        """The connection of the end that sends, or asks."""

    @property
    @abstractmethod
    def receiving(self) -> Connection | None:
        """The connection of the end that receives, or answers."""

    @property
    def serving(self) -> Connection | None:
        """The connection of the end that accepts."""
        return self.receiving if self.flow.client == self.flow.source else self.sending

    @property
    @abstractmethod
    def written_bytes(self) -> int:
        """How much the applications have written."""

    @property
    def is_sampled(self) -> bool:
        """Whether its connections last, so that samples tell of them."""
        return True

    @property
    def protocol(self) -> str:
        """What the connection turned out to be: "mptcp", "tcp" or "fallback"; or "udp"."""
        connection = self.sending or self.receiving
        if self.flow.protocol != "mptcp":
            return self.flow.protocol
        return "mptcp" if connection is not None and connection.mptcp else "fallback"

    @property
    def unread_bytes(self) -> int:
        """How much waits to be read at the receiving end."""
        receiving = self.receiving
        return 0 if receiving is None else receiving.receive_buffer.readable_bytes()

    @property
    def waiting_bytes(self) -> int:
        """How much was written and not yet read at the other end."""
        return self.written_bytes - self.delivered_bytes

    @property
    def changed_bytes(self) -> int:
        """How many bytes arrived, and were accepted, in packets that a middlebox had changed.

        Hosts write lengths: content is what a box has put in.
        """
        ends = (self.sending, self.receiving)
        return sum(end.receive_buffer.content_bytes for end in ends if end is not None)

    @property
    def intact(self) -> bool | None:
        """Whether every byte written was read, and the stream ended in order; None of datagrams."""
        complete = self.end_ns is not None and self.delivered_bytes == self.written_bytes
        return complete and not self.changed_bytes
