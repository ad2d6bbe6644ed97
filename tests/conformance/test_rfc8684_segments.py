"""RFC 8684 by section, one segment at a time: what a stack must say, accept, refuse or ignore.

A peer is played by hand: segments are built here, so that it can say what no stack of ours would.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from mptcplab.stack import Connection, Stack, StackConfig, events
from mptcplab.stack.testing import config
from mptcplab.wire.checksum import dss_checksum, ones_sum
from mptcplab.wire.keys import add_addr_hmac, join_hmac, token_and_idsn
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)
from mptcplab.wire.segment import ACK, FIN, RST, SYN, Segment

US = bytes((10, 0, 0, 1))
OTHER = bytes((10, 0, 1, 1))
PEER = bytes((10, 0, 0, 2))
PEER_PORT = 4000
KEY = 0x1122334455667788
ISN = 0xFFFF_FF00  # wraps early
MILLISECOND_NS = 1_000_000
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
        self.now_ns = 1_000 * MILLISECOND_NS
        self.flags = flags
        self.version = settings.version
        self.connection: Connection | None = None
        self.kinds: list[str] = []
        self.seq = ISN
        self.ack = 0
        self.server_key = 0

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
        event = self.stack.poll_event()
        while event is not None:
            if isinstance(event, events.ConnectionAccepted):
                self.connection = event.connection
            self.kinds.append(event.kind)
            event = self.stack.poll_event()
        return found

    def later(self, milliseconds: int) -> list[Segment]:
        found = []
        end_ns = self.now_ns + milliseconds * MILLISECOND_NS
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
        self.say(MpCapable(1, self.flags, KEY, self.server_key))
        checksum = None
        if self.flags & 0x80:
            checksum = dss_checksum((self.idsn + 1) & MASK64, 1, 4, ones_sum(b"data"))
        self.say(
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
        return self.connection.mptcp, self.connection.fully_established


def opened(settings: StackConfig | None = None, flags: int = 1) -> Peer:
    peer = Peer(settings, flags)
    peer.open()
    return peer


def only(replies: list[Segment], kind: type[MptcpOption]) -> list[MptcpOption]:
    return [o for segment in replies for o in segment.mptcp if isinstance(o, kind)]


# Section 3.1: MP_CAPABLE.


def test_3_1_syn_ack_carries_our_key_and_version() -> None:
    reply = Peer().syn()
    capable = reply.mptcp[0]
    assert isinstance(capable, MpCapable)
    assert (capable.version, capable.flags & 1, capable.length_bytes) == (1, 1, 12)


@pytest.mark.parametrize("flags", [0x41, 0x00, 0x40])
def test_3_1_flag_b_or_no_known_hmac_means_no_mptcp(flags: int) -> None:
    assert Peer(flags=flags).syn().mptcp == ()


def test_3_1_unknown_version_means_no_mptcp() -> None:
    assert Peer().syn(MpCapable(0, 1, KEY)).mptcp == ()


def test_3_1_either_side_may_require_the_checksum() -> None:
    capable = Peer(flags=0x81).syn().mptcp[0]
    assert isinstance(capable, MpCapable)
    assert capable.flags & 0x80
    peer = opened(flags=0x81)
    assert peer.read() == b"data"


def test_3_1_data_with_both_keys_establishes_fully() -> None:
    peer = opened()
    assert peer.state() == (True, True)
    assert peer.read() == b"data"


def test_3_1_third_packet_with_a_wrong_key_is_not_accepted_as_mptcp() -> None:
    peer = Peer()
    peer.syn()
    peer.say(MpCapable(1, 1, KEY, 99))
    assert peer.state()[0] is False


def test_3_1_lost_third_packet_leaves_the_keys_to_the_data() -> None:
    peer = Peer()
    capable = peer.syn().mptcp[0]
    assert isinstance(capable, MpCapable)
    key = capable.sender_key
    peer.say(MpCapable(1, 1, KEY, key, 4), payload=b"data", payload_bytes=4)
    assert peer.state() == (True, True)
    assert peer.read() == b"data"


# Section 3.2: MP_JOIN.


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


def test_3_2_join_with_an_unknown_token_is_reset() -> None:
    replies = join(opened(), 12345)
    assert replies[0].flags & RST
    assert only(replies, MpTcpRst)


def test_3_2_join_before_the_connection_is_fully_established_is_reset() -> None:
    peer = Peer()
    capable = peer.syn().mptcp[0]
    assert isinstance(capable, MpCapable)
    assert capable.sender_key is not None
    peer.server_key = capable.sender_key
    peer.say(MpCapable(1, 1, KEY, peer.server_key))
    assert join(peer, token_and_idsn(peer.server_key)[0])[0].flags & RST


def test_3_2_handshake_of_four_packets_with_hmacs() -> None:
    peer = opened()
    reply = join(peer, token_and_idsn(peer.server_key)[0])[0]
    option = reply.mptcp[0]
    assert isinstance(option, MpJoinSynAck)
    assert option.hmac == join_hmac(peer.server_key, KEY, option.nonce, 0xABCD)[:8]
    proof = join_hmac(KEY, peer.server_key, 0xABCD, option.nonce)[:20]
    third = Segment(
        PEER, 5000, US, 80, seq=101, ack=reply.seq + 1, flags=ACK, window=60_000,
        mptcp=(MpJoinAck(proof),),
    )  # fmt: skip
    fourth = peer.give(third)
    assert fourth[0].flags == ACK
    assert only(fourth, Dss)
    assert "subflow-established" in peer.kinds


def test_3_2_wrong_hmac_in_the_third_packet_is_reset() -> None:
    peer = opened()
    reply = join(peer, token_and_idsn(peer.server_key)[0])[0]
    third = Segment(
        PEER, 5000, US, 80, seq=101, ack=reply.seq + 1, flags=ACK, window=60_000,
        mptcp=(MpJoinAck(bytes(20)),),
    )  # fmt: skip
    replies = peer.give(third)
    assert replies[0].flags & RST
    assert peer.state() == (True, True)


# Section 3.3: DSS.


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


def test_3_3_1_mapping_may_span_segments_and_be_repeated() -> None:
    peer = opened()
    ssn = 5
    mapping = Dss(peer.data_ack, True, peer.dsn(4), True, ssn, 6)
    for piece in (b"ab", b"cd", b"ef"):
        peer.say(mapping, payload=piece, payload_bytes=2)
        peer.seq = (peer.seq + 2) & 0xFFFFFFFF
    assert peer.read() == b"dataabcdef"


def test_3_3_1_segment_without_option_inside_a_mapping() -> None:
    peer = opened()
    mapping = Dss(peer.data_ack, True, peer.dsn(4), True, 5, 4)
    peer.say(mapping, payload=b"ab", payload_bytes=2)
    peer.seq = (peer.seq + 2) & 0xFFFFFFFF
    peer.say(payload=b"cd", payload_bytes=2)
    assert peer.read() == b"dataabcd"


@pytest.mark.parametrize("wide", [True, False])
def test_3_3_1_sequence_numbers_of_four_and_eight_bytes(wide: bool) -> None:
    peer = opened()
    dsn = peer.dsn(4) if wide else peer.dsn(4) & 0xFFFFFFFF
    ack = peer.data_ack if wide else peer.data_ack & 0xFFFFFFFF
    data(peer, 4, b"more", dsn=dsn, dsn_8=wide, data_ack=ack, data_ack_8=wide)
    assert peer.read() == b"datamore"


def test_3_3_1_mapping_cannot_be_changed() -> None:
    peer = opened()
    first = Dss(peer.data_ack, True, peer.dsn(4), True, 5, 4)
    other = Dss(peer.data_ack, True, peer.dsn(400), True, 5, 4)
    peer.say(first, payload=b"ab", payload_bytes=2)
    peer.seq = (peer.seq + 2) & 0xFFFFFFFF
    replies = peer.say(other, payload=b"cd", payload_bytes=2)
    assert replies[0].flags & RST


def test_3_3_1_data_beyond_the_window_is_not_taken() -> None:
    peer = opened(replace(config(), receive_buffer_bytes=1000, receive_buffer_max_bytes=0))
    data(peer, 5000, b"late")
    assert peer.connection is not None
    assert peer.connection.receive_buffer.outside_bytes == 4
    assert peer.connection.out_of_order_bytes() == 0


def test_3_3_1_checksum_present_only_if_negotiated() -> None:
    peer = opened()
    assert data(peer, 4, b"more", checksum=1)[0].flags & RST
    peer = opened(flags=0x81)
    assert data(peer, 4, b"more")[0].flags & RST


def test_3_3_2_data_ack_is_cumulative_over_subflows_and_data() -> None:
    peer = opened()
    replies = data(peer, 10, b"hole") + peer.later(50)
    acks = only(replies, Dss)
    assert isinstance(acks[-1], Dss)
    assert acks[-1].data_ack == peer.dsn(4)
    replies = data(peer, 4, b"filled") + peer.later(50)
    acks = only(replies, Dss)
    assert isinstance(acks[-1], Dss)
    assert acks[-1].data_ack == peer.dsn(14)


def test_3_3_2_data_ack_of_data_never_sent_is_ignored() -> None:
    peer = opened()
    peer.say(Dss((peer.data_ack + 1000) & MASK64))
    assert peer.connection is not None
    assert peer.connection.data_acked_bytes() == 0


def test_3_3_3_data_fin_alone_takes_one_number_and_is_acknowledged() -> None:
    peer = opened()
    replies = peer.say(Dss(peer.data_ack, True, peer.dsn(4), True, 0, 1, None, True))
    acks = only(replies, Dss)
    assert isinstance(acks[-1], Dss)
    assert acks[-1].data_ack == peer.dsn(5)
    assert "peer-finished" in peer.kinds


def test_3_3_3_data_fin_with_data() -> None:
    peer = opened()
    data(peer, 4, b"end", data_length=4, data_fin=True)
    assert peer.read() == b"dataend"
    assert "peer-finished" in peer.kinds


def test_3_3_3_subflow_fin_does_not_end_the_stream() -> None:
    peer = opened()
    peer.say(Dss(peer.data_ack), flags=ACK | FIN)
    assert "peer-finished" not in peer.kinds


def test_3_3_4_window_counts_from_the_data_ack_and_never_shrinks() -> None:
    peer = opened()
    assert peer.connection is not None
    edge = peer.connection.send.window_end
    peer.say(Dss(peer.data_ack), window=10)
    assert peer.connection.send.window_end == edge
    peer.say(window=65_000)
    assert peer.connection.send.window_end == edge, "no DATA_ACK, no window for the connection"


def test_3_3_5_data_are_kept_until_acknowledged_at_the_data_level() -> None:
    peer = opened()
    assert peer.connection is not None
    peer.connection.write(b"x" * 100)
    sent = peer.collect()
    assert sent[-1].payload_bytes == 100
    peer.ack = (sent[-1].seq + 100) & 0xFFFFFFFF
    peer.say(Dss(peer.data_ack))
    assert peer.connection.send.buffer.held_bytes() == 100
    again = [segment for segment in peer.later(3000) if segment.payload_bytes]
    assert again, "acknowledged by the subflow only: sent again"
    mapping = only(again, Dss)[0]
    assert isinstance(mapping, Dss)
    assert mapping.dsn == peer.data_ack


# Section 3.4: addresses.


def test_3_4_1_add_addr_is_echoed_if_its_hmac_holds() -> None:
    peer = opened()
    address = bytes((10, 9, 9, 9))
    good = add_addr_hmac(KEY, peer.server_key, 4, address)
    echo = only(peer.say(AddAddr(4, address, hmac=good)), AddAddr)[0]
    assert isinstance(echo, AddAddr)
    assert (echo.echo, echo.address_id, echo.address) == (True, 4, address)
    assert not only(peer.say(AddAddr(5, address, hmac=bytes(8))), AddAddr)


def test_3_4_2_remove_addr_of_an_unknown_id_is_ignored() -> None:
    peer = opened()
    peer.say(RemoveAddr((77,)))
    assert "address-removed" not in peer.kinds
    assert peer.state() == (True, True)


def test_3_4_2_remove_addr_closes_the_subflows_of_the_address() -> None:
    peer = opened()
    replies = peer.say(RemoveAddr((0,)))
    assert any(segment.flags & RST for segment in replies)


# Sections 3.5 to 3.7.


def test_3_5_fast_close_with_our_key_ends_the_connection() -> None:
    peer = opened()
    replies = peer.say(MpFastclose(peer.server_key))
    assert replies[0].flags & RST
    assert "connection-closed" in peer.kinds


def test_3_5_fast_close_with_a_wrong_key_is_ignored() -> None:
    peer = opened()
    peer.say(MpFastclose(1))
    assert "connection-closed" not in peer.kinds


def test_3_7_first_data_without_options_fall_back() -> None:
    peer = Peer()
    capable = peer.syn().mptcp[0]
    assert isinstance(capable, MpCapable)
    peer.say(MpCapable(1, 1, KEY, capable.sender_key))
    peer.say(payload=b"data", payload_bytes=4)
    assert peer.state()[0] is False
    assert peer.read() == b"data"


def test_3_7_bad_checksum_on_the_only_subflow_sends_mp_fail() -> None:
    peer = opened(flags=0x81)
    replies = data(peer, 4, b"more", checksum=1)
    fail = only(replies, MpFail)[0]
    assert isinstance(fail, MpFail)
    assert fail.dsn == peer.dsn(4)
    assert not any(segment.flags & RST for segment in replies)
    data(peer, 8, b"MORE", data_length=0, checksum=0)
    assert peer.read() == b"datamoreMORE", "nothing is sent again: the subflow is the stream"


def test_3_7_mp_fail_is_answered_and_followed_by_an_infinite_mapping() -> None:
    peer = opened(flags=0x81)
    assert peer.connection is not None
    peer.connection.write(b"x" * 100)
    sent = peer.collect()
    peer.ack = (sent[-1].seq + 100) & 0xFFFFFFFF
    replies = peer.say(Dss(peer.data_ack), MpFail(peer.data_ack))
    infinite = [o for o in only(replies, Dss) if isinstance(o, Dss) and o.infinite]
    assert infinite
    assert infinite[0].dsn == peer.data_ack
    assert only(replies, MpFail)
