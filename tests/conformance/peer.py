"""A peer played by hand, to say what no stack of ours would; our stack is the server."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tests.times import MS, SECOND

from mptcplab.stack import Connection, Stack, StackConfig, events
from mptcplab.stack.testing import config, is_fully_established, polled_events, subflow_rows
from mptcplab.wire.checksum import dss_checksum, ones_sum
from mptcplab.wire.keys import join_hmac, token_and_idsn
from mptcplab.wire.mptcp import (
    Dss,
    MpCapable,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MptcpOption,
    MpTcpRst,
)
from mptcplab.wire.segment import ACK, RST, SYN, Segment

US = bytes((10, 0, 0, 1))
OTHER = bytes((10, 0, 1, 1))
PEER = bytes((10, 0, 0, 2))
PEER_PORT = 4000
KEY = 0x1122334455667788
ISN = 0xFFFF_FF00  # wraps early
MASK64 = 0xFFFF_FFFF_FFFF_FFFF


class Peer:
    """The other end, by hand; our stack is the server."""

    def __init__(self, settings: StackConfig | None = None, flags: int = 1) -> None:
        settings = settings or config()
        settings = replace(settings, timestamps=False)
        self.stack = Stack(settings, Random(7))
        self.stack.add_address(US, 1)
        self.stack.add_address(OTHER, 2)
        self.stack.listen(80)
        self.now_ns = SECOND
        self.flags = flags
        self.version = settings.version
        self.connection: Connection | None = None
        self.kinds: list[str] = []
        self.seq = ISN
        self.ack = 0
        self.server_key = 0
        self.early: list[Segment] = []
        """What came back while opening."""

    def say(self, *options: MptcpOption, **fields: object) -> list[Segment]:
        """Send a segment on the initial subflow; return what comes back."""
        values: dict[str, object] = {
            "seq": self.seq,
            "ack": self.ack,
            "flags": ACK,
            "window": 60_000,
            "mptcp": options,
        }
        values.update(fields)
        return self.give(Segment(PEER, PEER_PORT, US, 80, **values))  # type: ignore[arg-type]

    def give(self, segment: Segment) -> list[Segment]:
        self.stack.receive(segment, self.now_ns)
        return self.collect()

    def collect(self) -> list[Segment]:
        found = []
        segment = self.stack.poll_transmit(self.now_ns)
        while segment is not None:
            found.append(segment)
            segment = self.stack.poll_transmit(self.now_ns)
        for connection, event in polled_events(self.stack):
            if isinstance(event, events.ConnectionAccepted):
                self.connection = connection
            self.kinds.append(event.kind)
        return found

    def later(self, milliseconds: int) -> list[Segment]:
        found = []
        end_ns = self.now_ns + milliseconds * MS
        while True:
            deadline = self.stack.poll_timeout()
            if deadline is None or deadline > end_ns:
                break
            self.now_ns = max(self.now_ns, deadline)
            self.stack.handle_timeout(self.now_ns)
            found += self.collect()
        self.now_ns = end_ns
        return found

    def syn(self, option: MptcpOption | None = None) -> Segment:
        option = option or MpCapable(self.version, self.flags)
        replies = self.say(option, flags=SYN, mss=1460, sack_permitted=True)
        assert len(replies) == 1
        self.seq = (self.seq + 1) & 0xFFFFFFFF
        self.ack = (replies[0].seq + 1) & 0xFFFFFFFF
        return replies[0]

    def open(self) -> None:
        """Do the handshake of version 1, with four bytes of data."""
        capable = self.syn().mptcp[0]
        assert isinstance(capable, MpCapable)
        assert capable.sender_key is not None
        self.server_key = capable.sender_key
        self.early = self.say(MpCapable(1, self.flags, KEY, self.server_key))
        checksum = None
        if self.flags & 0x80:
            checksum = dss_checksum((self.idsn + 1) & MASK64, 1, 4, ones_sum(b"data"))
        self.early += self.say(
            MpCapable(1, self.flags, KEY, self.server_key, 4, checksum),
            payload=b"data",
            payload_bytes=4,
        )
        self.seq = (self.seq + 4) & 0xFFFFFFFF

    @property
    def idsn(self) -> int:
        return token_and_idsn(KEY)[1]

    @property
    def server_idsn(self) -> int:
        return token_and_idsn(self.server_key)[1]

    @property
    def data_ack(self) -> int:
        return (self.server_idsn + 1) & MASK64

    def read(self) -> bytes:
        assert self.connection is not None
        return self.connection.read()

    def dsn(self, offset: int) -> int:
        return (self.idsn + 1 + offset) & MASK64

    def state(self) -> tuple[bool, bool]:
        assert self.connection is not None
        return self.connection.mptcp, is_fully_established(self.connection)


def opened(settings: StackConfig | None = None, flags: int = 1) -> Peer:
    peer = Peer(settings, flags)
    peer.open()
    return peer


def send_window_bytes(peer: Peer) -> int:
    """How much the stack may send beyond what it has sent."""
    assert peer.connection is not None
    return int(subflow_rows(peer.connection)[0]["send_window_bytes"])


def only(replies: list[Segment], kind: type[MptcpOption]) -> list[MptcpOption]:
    return [o for segment in replies for o in segment.mptcp if isinstance(o, kind)]


def join(peer: Peer, token: int, port: int = 5000) -> list[Segment]:
    return peer.give(
        Segment(
            PEER,
            port,
            US,
            80,
            seq=100,
            flags=SYN,
            window=60_000,
            mss=1460,
            mptcp=(MpJoinSyn(False, 3, token, 0xABCD),),
        )
    )


def joined(peer: Peer, port: int = 5000) -> tuple[int, int]:
    """Join a subflow to ``peer``; return the next numbers, ours and the stack's."""
    reply = join(peer, token_and_idsn(peer.server_key)[0], port)[0]
    option = reply.mptcp[0]
    assert isinstance(option, MpJoinSynAck)
    proof = join_hmac(KEY, peer.server_key, 0xABCD, option.nonce)[:20]
    ack = (reply.seq + 1) & 0xFFFFFFFF
    on_join(peer, 101, ack, (MpJoinAck(proof),))
    return 101, ack


def on_join(
    peer: Peer, seq: int, ack: int, options: tuple[MptcpOption, ...], content: bytes = b""
) -> list[Segment]:
    return peer.give(
        Segment(
            PEER,
            5000,
            US,
            80,
            seq=seq,
            ack=ack,
            flags=ACK,
            window=60_000,
            payload=content,
            payload_bytes=len(content),
            mptcp=options,
        )
    )


def why_reset(replies: list[Segment]) -> list[int]:
    resets = [segment for segment in replies if segment.flags & RST]
    return [o.reason for o in only(resets, MpTcpRst) if isinstance(o, MpTcpRst)]


def data(peer: Peer, offset: int, content: bytes, **dss: object) -> list[Segment]:
    ssn = 1 + ((peer.seq - ISN - 1) & 0xFFFFFFFF)
    values: dict[str, object] = {
        "data_ack": peer.data_ack,
        "dsn": peer.dsn(offset),
        "ssn": ssn,
        "data_length": len(content),
    }
    values.update(dss)
    replies = peer.say(
        Dss(**values),  # type: ignore[arg-type]
        payload=content,
        payload_bytes=len(content),
    )
    peer.seq = (peer.seq + len(content)) & 0xFFFFFFFF
    return replies
