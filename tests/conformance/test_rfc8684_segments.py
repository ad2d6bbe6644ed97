"""RFC 8684 by section, one segment at a time: what a stack must say, accept, refuse or ignore."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.conformance.peer import (
    KEY,
    MASK64,
    OTHER,
    PEER,
    US,
    Peer,
    data,
    join,
    joined,
    on_join,
    only,
    opened,
    send_window_bytes,
    why_reset,
)

from mptcplab.stack.testing import config, connection_row
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
    MpTcpRst,
    RemoveAddr,
)
from mptcplab.wire.segment import ACK, FIN, RST, SYN, Segment

# Section 3.1: MP_CAPABLE.


def test_3_1_syn_ack_carries_our_key_and_version() -> None:
    reply = Peer().syn()
    capable = reply.mptcp[0]
    assert isinstance(capable, MpCapable)
    assert (capable.version, capable.flags & 1, capable.length_bytes) == (1, 1, 12)


@pytest.mark.parametrize("flags", [0x41, 0x00, 0x40])
def test_3_1_flag_b_or_no_known_hmac_means_no_mptcp(flags: int) -> None:
    assert Peer(flags=flags).syn().mptcp == ()


def test_3_1_syn_without_mp_capable_is_answered_without() -> None:
    peer = Peer()
    assert peer.say(flags=SYN, mss=1460)[0].mptcp == ()


def test_3_1_one_of_the_offered_hmac_algorithms_is_chosen() -> None:
    capable = Peer(flags=0x3F).syn().mptcp[0]
    assert isinstance(capable, MpCapable)
    assert capable.flags & 0x3F == 1, "HMAC-SHA256 and nothing else"
    assert not capable.flags & 0x40, "flag B is never sent"


def test_3_1_no_data_before_the_peers_key_is_known() -> None:
    peer = Peer()
    peer.syn()
    assert peer.connection is not None
    peer.connection.write(b"early")
    assert not any(segment.payload_bytes for segment in peer.collect() + peer.later(5_000))


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
    again = peer.give(third)  # since the fourth packet was lost
    assert again[0].flags == ACK
    assert only(again, Dss)


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


def test_3_2_the_token_finds_the_connection_whatever_the_port() -> None:
    peer = opened()
    syn = Segment(
        PEER, 5000, OTHER, 4711, seq=100, flags=SYN, window=60_000, mss=1460,
        mptcp=(MpJoinSyn(False, 3, token_and_idsn(peer.server_key)[0], 0xABCD),),
    )  # fmt: skip
    assert only(peer.give(syn), MpJoinSynAck)


def test_3_2_join_beyond_the_limit_is_reset() -> None:
    peer = opened(replace(config(), max_subflows=1))
    replies = join(peer, token_and_idsn(peer.server_key)[0])
    assert why_reset(replies) == [3], "administratively prohibited"


# Section 3.3: DSS.


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


def test_3_3_1_dsn_of_eight_bytes_is_answered_with_eight() -> None:
    peer = opened()
    acks = only(data(peer, 4, b"more", dsn_8=True) + peer.later(50), Dss)
    assert isinstance(acks[-1], Dss)
    assert acks[-1].data_ack_8
    assert acks[-1].data_ack == peer.dsn(8)


def test_3_3_1_unmapped_data_on_a_joined_subflow_break_it_after_a_window() -> None:
    peer = opened(replace(config(), receive_buffer_bytes=65_536, receive_buffer_max_bytes=0))
    seq, ack = joined(peer)
    replies: list[Segment] = []
    given = 0
    while not any(segment.flags & RST for segment in replies):
        assert given <= 70_000
        data(peer, 4 + given, bytes(1000))  # keeps the window open
        peer.read()
        replies = on_join(peer, seq + given, ack, (), bytes(1000))
        given += 1000
    assert given > 65_536
    assert why_reset(replies) == [6], "middlebox interference"
    assert peer.state() == (True, True)


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
    data(peer, 1000, b"late")
    assert peer.connection is not None
    assert peer.connection.out_of_order_bytes() == 0
    assert peer.read() == b"data"
    data(peer, 4, bytes(996))
    assert peer.read() == bytes(996), "what came late was not kept"


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


def test_3_3_3_data_fin_is_not_acknowledged_before_the_data() -> None:
    peer = opened()
    replies = data(peer, 10, b"end", data_length=4, data_fin=True) + peer.later(50)
    acks = only(replies, Dss)
    assert isinstance(acks[-1], Dss)
    assert acks[-1].data_ack == peer.dsn(4)
    assert "peer-finished" not in peer.kinds
    replies = data(peer, 4, b"filled") + peer.later(50)
    acks = only(replies, Dss)
    assert isinstance(acks[-1], Dss)
    assert acks[-1].data_ack == peer.dsn(14)


def test_3_3_3_our_data_fin_without_data_has_subflow_number_0() -> None:
    peer = opened()
    assert peer.connection is not None
    peer.connection.close()
    fins = [o for o in only(peer.collect(), Dss) if isinstance(o, Dss) and o.data_fin]
    assert [(o.ssn, o.data_length, o.dsn) for o in fins] == [(0, 1, peer.data_ack)]


def test_3_3_3_subflow_fin_does_not_end_the_stream() -> None:
    peer = opened()
    peer.say(Dss(peer.data_ack), flags=ACK | FIN)
    assert "peer-finished" not in peer.kinds


def test_3_3_4_window_counts_from_the_data_ack_and_never_shrinks() -> None:
    peer = opened()
    assert peer.connection is not None
    assert send_window_bytes(peer) == 60_000
    peer.say(Dss(peer.data_ack), window=10)
    assert send_window_bytes(peer) == 60_000
    peer.say(window=65_000)
    assert send_window_bytes(peer) == 60_000, "no DATA_ACK, no window for the connection"


def test_3_3_5_data_are_kept_until_acknowledged_at_the_data_level() -> None:
    peer = opened()
    assert peer.connection is not None
    peer.connection.write(b"x" * 100)
    sent = peer.collect()
    assert sent[-1].payload_bytes == 100
    peer.ack = (sent[-1].seq + 100) & 0xFFFFFFFF
    peer.say(Dss(peer.data_ack))
    assert connection_row(peer.connection)["unacked_bytes"] == 100
    again = [segment for segment in peer.later(3000) if segment.payload_bytes]
    assert again[0].payload == b"x" * 100, "acknowledged by the subflow only: sent again"
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


def test_3_4_1_identifier_in_use_means_one_address() -> None:
    peer = opened()
    first, second = bytes((10, 9, 9, 9)), bytes((10, 9, 9, 8))
    for address in (first, second):
        peer.say(AddAddr(4, address, hmac=add_addr_hmac(KEY, peer.server_key, 4, address)))
    assert peer.kinds.count("address-announced") == 1
    peer.say(RemoveAddr((4,)))
    peer.say(AddAddr(4, second, hmac=add_addr_hmac(KEY, peer.server_key, 4, second)))
    assert peer.kinds.count("address-announced") == 2


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


def test_3_7_after_the_infinite_mapping_only_subflow_acks_release_data() -> None:
    peer = opened(flags=0x81)
    assert peer.connection is not None
    peer.connection.write(b"x" * 100)
    sent = peer.collect()
    peer.say(Dss(peer.data_ack), MpFail(peer.data_ack))
    peer.say(Dss((peer.data_ack + 100) & MASK64))
    assert peer.connection.data_acked_bytes() == 0
    peer.ack = (sent[-1].seq + 100) & 0xFFFFFFFF
    peer.say()
    assert peer.connection.data_acked_bytes() == 100


def test_3_7_infinite_mapping_on_a_joined_subflow_is_refused() -> None:
    peer = opened()
    seq, ack = joined(peer)
    infinite = Dss(peer.data_ack, True, peer.dsn(4), True, 1, 0)
    assert why_reset(on_join(peer, seq, ack, (infinite,), b"more")) == [1]
    assert peer.state() == (True, True)


def test_3_7_fallback_is_for_good() -> None:
    peer = Peer()
    peer.syn()
    peer.say()
    assert peer.state()[0] is False
    replies = peer.say(Dss(1, True, 99, True, 1, 4), payload=b"data", payload_bytes=4)
    assert not any(segment.mptcp for segment in replies + peer.later(50))
    assert peer.state()[0] is False
    assert peer.read() == b"data"
