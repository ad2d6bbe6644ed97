"""Peers that break or stretch RFC 8684: each is answered as it says, at bounded cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.addresses import A1, A2, B1
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
from tests.times import MS, SECOND

from mptcplab.stack.events import CloseReason
from mptcplab.stack.path_managers.base import AnnounceAddress, Command, PathManager, PathView
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.testing import (
    Pipe,
    Sink,
    config,
    connection_row,
    holdings,
    subflow_paths,
    usable_paths,
)
from mptcplab.wire.keys import add_addr_hmac, join_hmac, token_and_idsn
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpCapable,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MpTcpRst,
    RemoveAddr,
)
from mptcplab.wire.mptcp_decode import decode_mptcp
from mptcplab.wire.segment import ACK, FIN, RST, SYN, Segment

# Handshakes.


@pytest.mark.parametrize("version", [2, 15])
def test_3_1_offer_of_a_later_version_is_answered_with_ours(version: int) -> None:
    peer = Peer()
    capable = peer.syn(MpCapable(version, 1)).mptcp[0]
    assert isinstance(capable, MpCapable)
    assert (capable.version, capable.length_bytes) == (1, 12)
    assert capable.sender_key is not None
    peer.say(MpCapable(1, 1, KEY, capable.sender_key))
    assert peer.state()[0]


def test_3_1_later_version_that_insists_gets_plain_tcp() -> None:
    peer = Peer()
    capable = peer.syn(MpCapable(2, 1)).mptcp[0]
    assert isinstance(capable, MpCapable)
    peer.say(MpCapable(2, 1, KEY, capable.sender_key))
    assert not peer.state()[0]


@pytest.mark.parametrize(
    "option",
    [
        MpCapable(1, 1, KEY),
        MpCapable(1, 1, KEY, KEY),
        MpJoinAck(bytes(20)),
        Dss(1, True),
        AddAddr(1, OTHER, None, hmac=bytes(8)),
    ],
    ids=lambda option: type(option).__name__,
)
def test_3_1_syn_with_the_wrong_option_is_plain_tcp(option: object) -> None:
    peer = Peer()
    assert isinstance(option, MpCapable | MpJoinAck | Dss | AddAddr)
    assert peer.syn(option).mptcp == ()


def test_3_2_repeated_join_is_answered_alike_and_counts_once() -> None:
    peer = opened()
    token = token_and_idsn(peer.server_key)[0]
    (first,), (second,) = join(peer, token), join(peer, token)
    assert first.mptcp == second.mptcp
    assert first.seq == second.seq
    assert peer.connection is not None
    assert holdings(peer.connection).subflows == 2


def test_3_2_join_of_a_port_in_use_does_not_disturb_its_subflow() -> None:
    peer = opened()
    token = token_and_idsn(peer.server_key)[0]
    option = MpJoinSyn(False, 3, token, 0xABCD)
    (answer,) = peer.say(option, flags=SYN, seq=peer.seq + 100)
    assert answer.flags == ACK, "a challenge"
    data(peer, 4, b"alive")
    assert peer.read() == b"dataalive"


def test_3_2_data_in_place_of_the_third_packet_are_reset() -> None:
    peer = opened()
    answer = join(peer, token_and_idsn(peer.server_key)[0])[0]
    ack = (answer.seq + 1) & 0xFFFFFFFF
    dss = Dss(peer.data_ack, True, peer.dsn(4), True, 1, 4)
    assert why_reset(on_join(peer, 101, ack, (dss,), b"evil"))
    assert peer.read() == b"data"


def test_3_2_half_open_joins_end_by_themselves() -> None:
    peer = opened()
    token = token_and_idsn(peer.server_key)[0]
    for port in range(5000, 5100):
        join(peer, token, port)
    assert peer.connection is not None
    assert len(subflow_paths(peer.connection)) <= config().max_subflows
    peer.later(300_000)
    assert len(subflow_paths(peer.connection)) == 1
    assert join(peer, token, 6000)[0].flags == SYN | ACK


def test_3_2_no_algorithm_or_key_can_be_replayed_from_another_join() -> None:
    peer = opened()
    token = token_and_idsn(peer.server_key)[0]
    first = only(join(peer, token, 5000), MpJoinSynAck)[0]
    assert isinstance(first, MpJoinSynAck)
    proof = join_hmac(KEY, peer.server_key, 0xABCD, first.nonce)[:20]
    reply = join(peer, token, 5001)[0]
    segment = Segment(
        PEER, 5001, US, 80, seq=101, ack=reply.seq + 1, flags=ACK, mptcp=(MpJoinAck(proof),)
    )
    assert why_reset(peer.give(segment)) == [1]


# Data.


def test_3_3_1_mappings_beyond_the_window_take_no_memory() -> None:
    peer = opened()
    assert peer.connection is not None
    for number in range(2_000):
        far = Dss(peer.data_ack, True, peer.dsn(number), True, 10_000_000 + 7 * number, 5)
        peer.say(far)
    assert holdings(peer.connection).mappings < 10
    data(peer, 4, b"still")
    assert peer.read() == b"datastill"


@pytest.mark.parametrize("offset", [-(1 << 40), -5, 1 << 20, 1 << 62])
def test_3_8_mapping_outside_the_window_drops_its_data(offset: int) -> None:
    peer = opened()
    data(peer, 4 + offset, b"lost!")
    assert peer.connection is not None
    assert peer.read() == b"data"
    assert peer.connection.out_of_order_bytes() == 0
    data(peer, 4, b"next")
    assert peer.read() == b"next"


def test_3_3_1_overlapping_mappings_deliver_each_byte_once() -> None:
    peer = opened()
    data(peer, 4, b"abcdef")
    data(peer, 7, b"defghi")
    data(peer, 4, b"abc")
    assert peer.read() == b"dataabcdefghi"


def test_3_3_2_data_ack_of_data_written_but_not_sent_is_ignored() -> None:
    peer = opened()
    assert peer.connection is not None
    peer.connection.write(bytes(50_000))
    sent = sum(segment.payload_bytes for segment in peer.collect())
    assert 0 < sent < 40_000
    peer.say(Dss((peer.data_ack + 40_000) & MASK64, True))
    assert peer.connection.data_acked_bytes() == 0
    peer.say(Dss((peer.data_ack + sent) & MASK64, True))
    assert peer.connection.data_acked_bytes() == sent


def test_3_3_3_nothing_comes_after_the_end_of_the_stream() -> None:
    peer = opened()
    data(peer, 4, b"end", data_length=4, data_fin=True)
    assert "peer-finished" in peer.kinds
    data(peer, 7, b"more")
    data(peer, 8, b"more")
    assert peer.read() == b"dataend"


def test_3_3_3_repeated_data_fin_is_acknowledged_alike() -> None:
    peer = opened()
    fin = Dss(peer.data_ack, True, peer.dsn(4), True, 0, 1, data_fin=True)
    answers = peer.say(fin) + peer.say(fin) + peer.say(fin)
    acks = {option.data_ack for option in only(answers, Dss) if isinstance(option, Dss)}
    assert acks == {peer.dsn(5)}
    assert peer.kinds.count("peer-finished") == 1


def test_3_3_3_data_fins_that_cross() -> None:
    peer = opened()
    assert peer.connection is not None
    peer.connection.close()
    ours = [option for option in only(peer.collect(), Dss) if isinstance(option, Dss)]
    assert [option.data_fin for option in ours] == [True]
    fin = Dss(peer.data_ack, True, peer.dsn(4), True, 0, 1, data_fin=True)
    peer.say(fin)
    answers = peer.say(Dss((peer.data_ack + 1) & MASK64, True))
    assert any(segment.flags & FIN for segment in answers)


def test_3_3_3_the_only_subflow_still_carries_what_we_have_to_send_after_its_fin() -> None:
    """A host must not close all subflows while data are outstanding."""
    peer = opened()
    assert peer.connection is not None
    peer.say(Dss(peer.data_ack, True), flags=ACK | FIN)
    peer.seq = (peer.seq + 1) & 0xFFFFFFFF
    peer.connection.write(b"answer")
    (segment,) = peer.collect()
    assert segment.payload == b"answer"
    assert not segment.flags & FIN
    peer.ack = (peer.ack + 6) & 0xFFFFFFFF
    peer.say(Dss((peer.data_ack + 6) & MASK64, True))
    peer.connection.close()
    (end,) = [option for option in only(peer.collect(), Dss) if isinstance(option, Dss)]
    assert end.data_fin
    answers = peer.say(Dss((peer.data_ack + 7) & MASK64, True))
    assert any(segment.flags & FIN for segment in answers), "nothing is left to wait for here"


def test_3_3_3_half_closed_and_idle_ends_after_the_timeouts() -> None:
    peer = opened()
    peer.say(Dss(peer.data_ack, True), flags=ACK | FIN)
    peer.seq = (peer.seq + 1) & 0xFFFFFFFF
    assert any(segment.flags & FIN for segment in peer.later(61_000))
    peer.ack = (peer.ack + 1) & 0xFFFFFFFF
    peer.say(Dss(peer.data_ack, True))
    peer.later(61_000)
    assert peer.connection is not None
    assert peer.connection.closed_for is CloseReason.TIMEOUT


# Signals.


def test_3_signals_are_not_signs_of_congestion() -> None:
    """RFC 8684 sections 3, 3.4.1 and 4; without SACK three duplicates would mean a loss."""
    peer = opened(replace(config(), sack=False))
    assert peer.connection is not None
    peer.connection.write(bytes(20_000))
    peer.collect()
    ack = Dss(peer.data_ack, True)
    for number in range(6):
        answers = peer.say(ack, MpPrio(bool(number & 1)))
        assert not any(segment.payload_bytes for segment in answers)
    answers = [segment for _ in range(3) for segment in peer.say(ack)]
    assert any(segment.payload_bytes for segment in answers)


def test_3_standard_checks_come_before_signals() -> None:
    peer = opened()
    fast = MpFastclose(peer.server_key)
    peer.say(fast, seq=peer.seq + 0x4000_0000 & 0xFFFFFFFF)
    peer.say(fast, ack=peer.ack + 50_000 & 0xFFFFFFFF)
    peer.say(fast, flags=RST, seq=peer.seq + 10)
    assert peer.connection is not None
    assert peer.connection.closed_for is None
    peer.say(fast)
    assert peer.connection.closed_for is CloseReason.FASTCLOSE


@pytest.mark.slow
@pytest.mark.parametrize("valid", [True, False])
def test_3_4_1_flood_of_announcements_is_answered_one_by_one(valid: bool) -> None:
    peer = opened()
    assert peer.connection is not None
    echoes = 0
    for number in range(3_000):
        address = bytes((10, 9, number >> 8, number & 255))
        hmac = add_addr_hmac(KEY, peer.server_key, number & 255, address, None)[-8:]
        answers = peer.say(AddAddr(number & 255, address, None, hmac=hmac if valid else bytes(8)))
        echoes += len(only(answers, AddAddr))
    assert echoes == (256 if valid else 0), "an identifier keeps its address"
    assert holdings(peer.connection).announced_addresses == echoes


def test_3_4_1_announcements_pile_up_nowhere_while_nothing_can_be_sent() -> None:
    peer = opened()
    assert peer.connection is not None
    peer.connection.close_subflow(0)
    peer.collect()
    for number in range(500):
        address = bytes((10, 9, 0, number & 255))
        hmac = add_addr_hmac(KEY, peer.server_key, number & 255, address, None)[-8:]
        peer.say(AddAddr(number & 255, address, None, hmac=hmac))
    assert holdings(peer.connection).signals <= 64


def test_3_4_2_removing_the_address_of_the_last_subflow_leaves_the_connection_waiting() -> None:
    peer = opened()
    answers = peer.say(Dss(peer.data_ack, True), RemoveAddr((0,)))
    assert any(segment.flags & RST for segment in answers)
    assert peer.connection is not None
    assert peer.connection.closed_for is None
    assert subflow_paths(peer.connection) == []
    joined(peer)
    assert len(usable_paths(peer.connection)) == 1


def test_3_5_fast_close_on_a_joined_subflow_resets_all() -> None:
    peer = opened()
    seq, ack = joined(peer)
    answers = on_join(peer, seq, ack, (MpFastclose(peer.server_key),))
    assert sorted(segment.dst_port for segment in answers if segment.flags & RST) == [4000, 5000]
    assert peer.connection is not None
    assert peer.connection.closed_for is CloseReason.FASTCLOSE


def test_3_6_reserved_flags_and_unknown_reasons_are_ignored() -> None:
    peer = opened()
    seq, ack = joined(peer)
    reset = Segment(
        PEER, 5000, US, 80, seq=seq, ack=ack, flags=RST | ACK, mptcp=(MpTcpRst(0x99, 0xF),)
    )
    peer.give(reset)
    assert peer.connection is not None
    assert [path.subflow_id for path in subflow_paths(peer.connection)] == [0]


def test_pending_retry_of_a_path_does_not_outlive_the_connection() -> None:
    """A timer whose connection is over must not be due for ever."""
    pipe = Pipe()
    client = replace(config(), path_manager=FullMesh, syn_retries=0)
    a = pipe.add_host("a", client, A1, A2)
    b = pipe.add_host("b", config(), B1)
    pipe.link(A1, B1)
    b.stack.listen(80)
    sink = Sink(b)
    connection = pipe.connect(a, A1, B1)
    pipe.run(100 * MS)
    connection.write(b"x")

    def retry_ns() -> int:
        """When the client does something next: all but the second path is at rest."""
        due_ns = a.stack.poll_timeout()
        assert due_ns is not None
        return due_ns

    assert pipe.run(150 * SECOND, lambda: 15 * SECOND < retry_ns() - pipe.now_ns < 60 * SECOND)
    planned_ns = retry_ns()
    connection.close()
    assert pipe.run(10 * SECOND, lambda: sink.finished)
    assert pipe.now_ns < planned_ns
    for _ in range(60):
        pipe.run(SECOND)
        due = a.stack.poll_timeout()
        a.stack.handle_timeout(pipe.now_ns)
        assert due is None or due > pipe.now_ns


def test_3_3_2_acks_without_data_ack_are_valid_once_one_was_seen() -> None:
    peer = opened()
    assert peer.connection is not None
    peer.say(Dss(peer.data_ack, True))
    peer.connection.write(b"first")
    peer.collect()
    peer.ack = (peer.ack + 5) & 0xFFFFFFFF
    peer.say()
    assert peer.connection.mptcp
    peer.say(Dss((peer.data_ack + 5) & MASK64, True))
    peer.connection.write(b"second")
    (segment,) = peer.collect()
    (mapping,) = only([segment], Dss)
    assert isinstance(mapping, Dss)
    assert mapping.data_length == 6, "one mapping, not an infinite one"


def test_3_7_acks_that_stay_without_data_ack_lead_to_the_infinite_mapping() -> None:
    peer = opened()
    assert peer.connection is not None
    peer.say(Dss(peer.data_ack, True))
    peer.connection.write(b"first")
    peer.collect()
    peer.ack = (peer.ack + 5) & 0xFFFFFFFF
    peer.say()
    peer.later(5_000)
    peer.connection.write(b"second")
    assert any(
        isinstance(option, Dss) and option.infinite
        for segment in peer.collect()
        for option in segment.mptcp
    )


def test_3_3_2_window_without_data_ack_says_nothing() -> None:
    peer = opened()
    assert peer.connection is not None
    peer.say(Dss(peer.data_ack, True), window=1_000)
    before = send_window_bytes(peer)
    peer.say(window=65_535)
    assert send_window_bytes(peer) == before
    peer.say(Dss(peer.data_ack, True), window=65_535)
    assert send_window_bytes(peer) == 65_535 > before


def test_3_4_1_identifier_is_removed_before_it_means_another_address() -> None:
    first, second = bytes((10, 7, 0, 1)), bytes((10, 7, 0, 2))

    class Renumbering(PathManager):
        def on_established(self, view: PathView) -> list[Command]:
            return [AnnounceAddress(9, first), AnnounceAddress(9, second)]

    peer = opened(replace(config(), path_manager=Renumbering))
    said = [option for segment in peer.early for option in segment.mptcp]
    signals = [option for option in said if isinstance(option, AddAddr | RemoveAddr)]
    assert [type(option) for option in signals] == [AddAddr, RemoveAddr, AddAddr]
    assert [o.address for o in signals if isinstance(o, AddAddr)] == [first, second]


def test_3_1_third_packet_carries_both_keys() -> None:
    pipe = Pipe()
    pipe.recording = True
    a = pipe.add_host("a", config(), A1)
    b = pipe.add_host("b", config(), B1)
    pipe.link(A1, B1)
    b.stack.listen(80)
    connection = pipe.connect(a, A1, B1)
    pipe.run(100 * MS)
    _, syn_ack, third = (segment for _, segment in pipe.sent)
    (theirs,), (both,) = syn_ack.mptcp, third.mptcp
    assert isinstance(theirs, MpCapable)
    assert isinstance(both, MpCapable)
    assert both.sender_key is not None
    assert both == MpCapable(1, 1, both.sender_key, theirs.sender_key)
    assert connection_row(connection)["token"] == token_and_idsn(both.sender_key)[0]
    assert third.payload_bytes == 0


@pytest.mark.parametrize("wide", [False, True])
def test_3_3_2_data_acks_of_four_and_eight_bytes(wide: bool) -> None:
    peer = opened()
    assert peer.connection is not None
    peer.connection.write(b"acknowledge me")
    peer.collect()
    number = (peer.data_ack + 14) & (MASK64 if wide else 0xFFFF_FFFF)
    peer.say(Dss(number, wide))
    assert peer.connection.data_acked_bytes() == 14


@pytest.mark.parametrize(("echo", "nibble"), [(False, 0xE), (True, 0xF)])
def test_3_4_1_unassigned_bits_are_ignored(echo: bool, nibble: int) -> None:
    option = AddAddr(3, OTHER, None, echo=echo, hmac=None if echo else bytes(8))
    raw = bytearray(option.encode())
    assert raw[2] & 0xF == int(echo)
    raw[2] |= nibble
    assert decode_mptcp(bytes(raw)) == option
