"""A TCP peer played by hand on bytes; our stack is plain TCP, as server or as client."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tests.times import MS, SECOND

from mptcplab.stack import Connection, Stack, StackConfig, events
from mptcplab.stack.testing import config, polled_events, subflow_rows
from mptcplab.wire.packet import decode_packet, encode_packet, split_train
from mptcplab.wire.segment import ACK, FIN, SYN, Segment

US = bytes((192, 0, 2, 1))
PEER = bytes((192, 0, 2, 2))
OUR_PORT = 80
PEER_PORT = 4000
MASK32 = 0xFFFF_FFFF


def plain(**changes: object) -> StackConfig:
    """Return a configuration of plain TCP with small fixed buffers and no options in the way."""
    settings: dict[str, object] = {
        "mptcp": False,
        "timestamps": False,
        "window_scaling": False,
        "receive_buffer_bytes": 10_000,
        "receive_buffer_max_bytes": 0,
        "send_buffer_bytes": 1_000_000,
        "train_bytes": 1,
    }
    settings.update(changes)
    return replace(config(), **settings)  # type: ignore[arg-type]


class TcpPeer:
    """Sends what it is told; everything passes through bytes, both ways."""

    def __init__(self, settings: StackConfig | None = None, isn: int = 0xFFFF_FFF0) -> None:
        self.stack = Stack(settings or plain(), Random(3))
        self.stack.add_address(US, 1)
        self.now_ns = 5 * SECOND
        self.isn = isn  # wraps early
        self.seq = isn
        self.ack = 0
        self.connection: Connection | None = None
        self.reason: events.CloseReason | None = None
        self.kinds: list[str] = []
        self.defaults: dict[str, object] = {}
        """Fields of every segment that it sends, such as timestamps."""

    # Segments.

    def say(self, **fields: object) -> list[Segment]:
        """Send a segment, an ACK of all so far unless told otherwise; return the answers."""
        payload = fields.get("payload")
        values: dict[str, object] = {
            "seq": self.seq,
            "ack": self.ack,
            "flags": ACK,
            "window": 60_000,
            "payload_bytes": len(payload) if isinstance(payload, bytes) else 0,
        }
        values.update(self.defaults)
        values.update(fields)
        made = Segment(PEER, PEER_PORT, US, OUR_PORT, **values)  # type: ignore[arg-type]
        self.stack.receive(decode_packet(encode_packet(made), verify_checksum=True), self.now_ns)
        return self.collect()

    def collect(self) -> list[Segment]:
        """Return what the stack has to send, packet by packet, and take its events."""
        found: list[Segment] = []
        while (segment := self.stack.poll_transmit(self.now_ns)) is not None:
            for packet in split_train(segment):
                found.append(decode_packet(encode_packet(packet), verify_checksum=True))
        for connection, event in polled_events(self.stack):
            self.kinds.append(event.kind)
            if isinstance(event, events.ConnectionAccepted):
                self.connection = connection
            elif isinstance(event, events.ConnectionClosed):
                self.reason = event.reason
        return found

    def later(self, milliseconds: int) -> list[Segment]:
        """Let time pass; return what the stack sends meanwhile."""
        found: list[Segment] = []
        end_ns = self.now_ns + milliseconds * MS
        while (deadline := self.stack.poll_timeout()) is not None and deadline <= end_ns:
            self.now_ns = max(self.now_ns, deadline)
            self.stack.handle_timeout(self.now_ns)
            found += self.collect()
        self.now_ns = end_ns
        return found

    # Openings.

    def syn(self, **fields: object) -> Segment:
        """Send the SYN to our listener; return the SYN/ACK."""
        self.stack.listen(OUR_PORT)
        values: dict[str, object] = {"flags": SYN, "mss": 1000, "ack": 0}
        values.update(fields)
        (answer,) = self.say(**values)
        assert answer.flags & (SYN | ACK) == SYN | ACK
        self.seq = self.seq + 1 & MASK32
        self.ack = answer.seq + 1 & MASK32
        return answer

    def open(self, **fields: object) -> None:
        """Have our server accept a connection."""
        self.syn(**fields)
        assert self.say() == []
        assert self.state == "ESTABLISHED"

    def syn_sent(self) -> Segment:
        """Have our client connect; return its SYN, unanswered."""
        self.connection = self.stack.connect(US, PEER, PEER_PORT, self.now_ns, OUR_PORT)
        (syn,) = self.collect()
        assert syn.flags == SYN
        self.ack = syn.seq + 1 & MASK32
        return syn

    def connect(self, **fields: object) -> None:
        """Have our client connect, and accept it."""
        self.syn_sent()
        values: dict[str, object] = {"flags": SYN | ACK, "mss": 1000}
        values.update(fields)
        self.say(**values)
        self.seq = self.seq + 1 & MASK32

    # Data.

    def send(self, payload: bytes, **fields: object) -> list[Segment]:
        """Send the next bytes, with FIN where the flags say so."""
        answers = self.say(payload=payload, **fields)
        flags = fields.get("flags", ACK)
        assert isinstance(flags, int)
        self.seq = self.seq + len(payload) + (1 if flags & FIN else 0) & MASK32
        return answers

    def write(self, content: bytes) -> list[Segment]:
        """Have our application write."""
        assert self.connection is not None
        assert self.connection.write(content) == len(content)
        return self.collect()

    def close(self) -> list[Segment]:
        """Have our application close its direction."""
        assert self.connection is not None
        self.connection.close()
        return self.collect()

    def read(self) -> bytes:
        """Have our application read."""
        assert self.connection is not None
        return self.connection.read()

    @property
    def state(self) -> str:
        """State of our end; CLOSED once it is gone."""
        assert self.connection is not None
        rows = subflow_rows(self.connection)
        return str(rows[0]["state"]) if rows else "CLOSED"
