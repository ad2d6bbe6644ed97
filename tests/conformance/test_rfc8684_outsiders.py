"""What peers that nobody here made have said: half-open floods, old options, silent ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from tests.addresses import A1, A2, B1, B2
from tests.conformance.peer import (
    KEY,
    OTHER,
    PEER,
    PEER_PORT,
    US,
    Peer,
    data,
    join,
    joined,
    only,
    opened,
    why_reset,
)
from tests.times import MS, SECOND

from mptcplab.stack import Connection, Stack, StackConfig, events
from mptcplab.stack.events import CloseReason
from mptcplab.stack.path_managers.base import AnnounceAddress, Command, PathManager, PathView
from mptcplab.stack.path_managers.endpoints import Endpoint, EndpointFlag, Endpoints, Limits
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.testing import (
    Pipe,
    Sink,
    config,
    holdings,
    is_fully_established,
    pump,
    sends_mappings,
    subflow_paths,
)
from mptcplab.wire.ip import parse_address
from mptcplab.wire.keys import join_hmac, token_and_idsn
from mptcplab.wire.mptcp import (
    CAPABLE_EXTENSIBILITY,
    CAPABLE_HMAC,
    AddAddr,
    Dss,
    MpCapable,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
)
from mptcplab.wire.segment import ACK, FIN, RST, SYN, Segment


class Announcer(PathManager):
    """Announces the second address as soon as it may."""

    def on_established(self, view: PathView) -> list[Command]:
        return [AnnounceAddress(2, OTHER)]


def token_of(peer: Peer) -> int:
    return token_and_idsn(peer.server_key)[0]


def third_packet(peer: Peer, reply: Segment, port: int) -> list[Segment]:
    """Send the third packet of a join that ``reply`` answered."""
    option = reply.mptcp[0]
    assert isinstance(option, MpJoinSynAck)
    proof = join_hmac(KEY, peer.server_key, 0xABCD, option.nonce)[:20]
    ack = (reply.seq + 1) & 0xFFFF_FFFF
    options = (MpJoinAck(proof),)
    return peer.give(
        Segment(PEER, port, US, 80, seq=101, ack=ack, flags=ACK, window=60_000, mptcp=options)
    )


def shaken(settings: StackConfig | None = None) -> Peer:
    """A peer that has sent the third packet, and nothing else."""
    peer = Peer(settings)
    capable = peer.syn().mptcp[0]
    assert isinstance(capable, MpCapable)
    assert capable.sender_key is not None
    peer.server_key = capable.sender_key
    peer.early = peer.say(MpCapable(1, CAPABLE_HMAC, KEY, peer.server_key))
    return peer


def connection_of(peer: Peer) -> Connection:
    assert peer.connection is not None
    return peer.connection


# Section 3.1.


@pytest.mark.parametrize("flags", [CAPABLE_HMAC | CAPABLE_EXTENSIBILITY, 0, 0x80])
def test_3_1_third_packet_with_flag_b_or_without_h_falls_back(flags: int) -> None:
    peer = Peer()
    capable = peer.syn().mptcp[0]
    assert isinstance(capable, MpCapable)
    peer.say(MpCapable(1, flags, KEY, capable.sender_key))
    assert peer.state() == (False, False)
    connection = connection_of(peer)
    connection.write(b"plain")
    assert [segment.mptcp for segment in peer.collect()] == [()]


# Section 3.2: joins that are not completed.


def test_3_2_half_open_joins_leave_room_for_those_that_are_completed() -> None:
    peer = opened(replace(config(), max_subflows=2))
    for port in range(5000, 5020):
        assert join(peer, token_of(peer), port)[0].flags == SYN | ACK
    third_packet(peer, join(peer, token_of(peer), 6000)[0], 6000)
    assert [path.remote_port for path in subflow_paths(connection_of(peer))] == [PEER_PORT, 6000]


def test_3_2_the_oldest_half_open_join_makes_room() -> None:
    peer = opened()
    limit = config().max_half_open_joins
    first = join(peer, token_of(peer), 5000)[0]
    for port in range(5001, 5001 + 10 * limit):
        last = join(peer, token_of(peer), port)[0]
    assert holdings(connection_of(peer)).subflows == 1 + limit
    assert [segment.flags for segment in third_packet(peer, first, 5000)] == [RST]
    assert not why_reset(third_packet(peer, last, port))
    assert len(subflow_paths(connection_of(peer))) == 2


def test_3_2_room_is_asked_for_again_at_the_third_packet() -> None:
    peer = opened(replace(config(), max_subflows=2))
    replies = [join(peer, token_of(peer), port)[0] for port in (5000, 5001)]
    assert not why_reset(third_packet(peer, replies[0], 5000))
    assert why_reset(third_packet(peer, replies[1], 5001)) == [3]  # administratively prohibited


def test_3_2_limits_of_endpoints_count_completed_joins_and_not_the_initial_subflow() -> None:
    peer = opened(replace(config(), path_manager=lambda: Endpoints([], Limits(2, 0))))
    for port in range(5000, 5020):
        join(peer, token_of(peer), port)
    for port in (6000, 6001):
        assert not why_reset(third_packet(peer, join(peer, token_of(peer), port)[0], port))
    assert join(peer, token_of(peer), 6002)[0].flags & RST


def test_3_2_a_subflow_that_dies_beside_half_open_joins_was_the_last() -> None:
    peer = opened(replace(config(), close_timeout_ns=SECOND))
    join(peer, token_of(peer), 5000)
    peer.say(flags=RST)
    peer.later(2_000)
    assert connection_of(peer).closed_for is CloseReason.TIMEOUT
    assert peer.stack.connections == []


# Sections 3.3.8, 3.5, 3.6.


def test_3_3_8_a_priority_of_version_0_is_ignored_in_version_1() -> None:
    peer = opened()
    joined(peer)
    peer.say(MpPrio(True, 0), Dss(peer.data_ack))
    peer.say(MpPrio(True, 3), Dss(peer.data_ack))
    assert not any(path.backup for path in subflow_paths(connection_of(peer)))
    peer.say(MpPrio(True), Dss(peer.data_ack))
    assert [path.backup for path in subflow_paths(connection_of(peer))] == [True, False]


def test_3_5_a_rst_with_fast_close_is_not_answered_where_it_came() -> None:
    peer = opened()
    joined(peer)
    replies = peer.say(MpFastclose(peer.server_key), flags=RST)
    assert [(segment.dst_port, segment.flags) for segment in replies] == [(5000, RST | ACK)]
    assert connection_of(peer).closed_for is CloseReason.FASTCLOSE


def test_3_5_a_rst_with_the_wrong_key_ends_its_subflow_alone() -> None:
    peer = opened()
    joined(peer)
    assert not peer.say(MpFastclose(peer.server_key ^ 1), flags=RST)
    assert connection_of(peer).closed_for is None
    assert len(subflow_paths(connection_of(peer))) == 1


# Section 3.3: a length of 0 without payload.


def test_3_7_a_mapping_of_length_0_on_an_ack_ends_nothing_while_mappings_follow() -> None:
    peer = opened()
    empty = Dss(peer.data_ack, True, peer.dsn(4), True, 5, 0)
    for _ in range(3):
        peer.say(empty)
    data(peer, 4, b"more")
    peer.say(empty)
    assert "fallback" not in peer.kinds
    assert sends_mappings(connection_of(peer))
    assert peer.read() == b"datamore"


def test_3_7_a_mapping_of_length_0_on_an_ack_holds_once_mappings_have_stopped() -> None:
    peer = opened()
    peer.say(Dss(peer.data_ack, True, peer.dsn(4), True, 5, 0))
    peer.say(payload=b"more", payload_bytes=4)
    assert "fallback" in peer.kinds
    assert peer.read() == b"datamore"


# Section 3.4: addresses.


def test_3_4_1_the_servers_address_is_announced_after_the_third_packet() -> None:
    peer = shaken(replace(config(), path_manager=Announcer))
    sent = only(peer.early, AddAddr)
    assert [(o.address, o.echo) for o in sent if isinstance(o, AddAddr)] == [(OTHER, False)]
    assert not is_fully_established(connection_of(peer)), "joins of ours wait for more"


def test_3_4_1_a_client_that_has_heard_an_address_may_join_before_it_has_said_more() -> None:
    peer = shaken(replace(config(), path_manager=Announcer))
    assert not why_reset(third_packet(peer, join(peer, token_of(peer))[0], 5000))
    assert peer.state() == (True, True)


def test_3_4_1_nothing_is_announced_to_a_peer_that_speaks_tcp() -> None:
    peer = shaken(replace(config(), path_manager=Announcer))
    join(peer, token_of(peer), 5000)
    peer.say(payload=b"bare", payload_bytes=4)
    assert peer.state() == (False, False)
    assert not only(peer.later(300_000), AddAddr)
    assert len(subflow_paths(connection_of(peer))) == 1


def test_3_4_1_subflows_of_the_servers_wait_for_the_connection_to_be_established() -> None:
    endpoint = Endpoint(2, OTHER, EndpointFlag.SUBFLOW)
    peer = shaken(replace(config(), path_manager=lambda: Endpoints([endpoint], Limits(2, 0))))
    assert not [segment for segment in peer.early if segment.flags & SYN]
    replies = peer.say(Dss(peer.data_ack))
    assert [segment.src for segment in replies if segment.flags & SYN] == [OTHER]


# RFC 9293 section 3.9.2.3.


@pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "::"])
def test_no_connection_to_what_is_no_host(address: str) -> None:
    stack = Stack(config(), Random(1))
    local = parse_address("::5" if ":" in address else "10.0.0.5")
    stack.add_address(local, 1)
    with pytest.raises(ValueError, match="not the address of a host"):
        stack.connect(local, parse_address(address), 80, SECOND)
    stack.listen(80)
    syn = Segment(parse_address(address), 4000, local, 80, flags=SYN, window=60_000)
    stack.receive(syn, SECOND)
    assert stack.poll_transmit(SECOND) is None
    assert not stack.connections


# RFC 7323 section 3.2.


def test_rsts_have_timestamps_where_these_were_negotiated() -> None:
    pipe = Pipe()
    client = pipe.add_host("a", config(), A1)
    server = pipe.add_host("b", config(), B1)
    pipe.link(A1, B1)
    server.stack.listen(80)
    connection = pipe.connect(client, A1, B1)
    pipe.run(100 * MS)
    pipe.recording = True
    connection.abort(pipe.now_ns)
    pipe.run(100 * MS)
    resets = [segment for _, segment in pipe.sent if segment.flags & RST]
    assert len(resets) == 1
    assert resets[0].ts_val is not None
    assert resets[0].ts_ecr


# RFC 4987: half-open connections.


def test_syns_beyond_the_backlog_are_dropped() -> None:
    stack = Stack(replace(config(), backlog=10), Random(1))
    stack.add_address(US, 1)
    stack.listen(80)

    def syn(port: int) -> list[Segment]:
        stack.receive(Segment(PEER, port, US, 80, seq=1, flags=SYN, window=60_000), SECOND)
        replies = []
        while (segment := stack.poll_transmit(SECOND)) is not None:
            replies.append(segment)
        return replies

    replies = [syn(port) for port in range(1000, 1100)]
    assert [len(reply) for reply in replies] == [1] * 10 + [0] * 90
    assert len(stack.connections) == 10
    ack = Segment(PEER, 1000, US, 80, seq=2, ack=replies[0][0].seq + 1, flags=ACK, window=60_000)
    stack.receive(ack, SECOND)
    assert len(syn(2000)) == 1, "an established connection is not half-open"
    stack.receive(Segment(PEER, 1001, US, 80, seq=2, flags=RST), SECOND)
    assert len(syn(2001)) == 1, "neither is one that was reset"
    assert not syn(2002)


# Section 3.3.3: how connections end.


class Ends:
    """A client and a server with two networks, full mesh, whose streams end as they are told."""

    def __init__(self, seed: int = 1, mesh: bool = True) -> None:
        self.pipe = Pipe(seed)
        settings = replace(config(), path_manager=FullMesh) if mesh else config()
        self.a = self.pipe.add_host("a", settings, A1, A2)
        self.b = self.pipe.add_host("b", settings, B1, B2)
        for left in (A1, A2):
            for right in (B1, B2):
                self.pipe.link(left, right)
        self.b.stack.listen(80)
        self.pipe.recording = True

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        return self.pipe.run(int(seconds * SECOND), until)


@pytest.mark.parametrize("when_ms", [0, 5, 15, 50, 2_000])
@pytest.mark.parametrize("version", [0, 1])
def test_3_3_3_a_client_that_closes_without_data_sends_its_data_fin(
    when_ms: int, version: int
) -> None:
    ends = Ends(mesh=False)
    settings = replace(config(), version=version)
    ends.b.stack.listen(81, config=settings)
    local, remote = parse_address(A1), parse_address(B1)
    client = ends.a.stack.connect(local, remote, 81, ends.pipe.now_ns, config=settings)
    ends.pipe.at(when_ms * MS, client.close)
    ends.run(when_ms / 1_000 + 0.1)
    assert ends.a.kinds()[-1] == "all-delivered"
    assert ends.b.kinds()[-1] == "peer-finished"
    server = ends.b.stack.connections[0]
    assert server.mptcp
    server.close()
    ends.run(0.2)
    assert (client.closed_for, server.closed_for) == (CloseReason.FINISHED, CloseReason.FINISHED)
    assert client.fallback_reason == ""


@pytest.mark.parametrize("lost", range(1, 8))
def test_3_3_3_an_end_without_data_survives_the_loss_of_any_packet(lost: int) -> None:
    ends = Ends(mesh=False)
    client = ends.pipe.connect(ends.a, A1, B1)
    sent = 0

    def drop(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        nonlocal sent
        sent += 1
        return [] if sent == lost else [(segment, 0)]

    for path in ends.pipe.both(A1, B1):
        path.filter = drop
    client.close()
    ends.b.on_event = lambda connection, event: (
        connection.close() if isinstance(event, events.PeerFinished) else None
    )
    ends.run(30)
    assert "peer-finished" in ends.a.kinds()
    assert "peer-finished" in ends.b.kinds()
    closed = [e for e in ends.a.events + ends.b.events if isinstance(e, events.ConnectionClosed)]
    assert [event.reason for event in closed] == [CloseReason.FINISHED] * 2


@pytest.mark.parametrize("seed", range(1, 13))
def test_3_3_3_a_connection_is_over_when_only_time_wait_is_left(seed: int) -> None:
    random = Random(seed)
    ends = Ends(seed)
    for path in ends.pipe.paths.values():
        path.delay_ns = random.randrange(1, 40) * MS
    client = ends.pipe.connect(ends.a, A1, B1)
    sink = Sink(ends.b)
    pump(ends.a, client, 50_000)
    assert ends.run(5, lambda: sink.connection is not None and sink.connection.peer_finished)
    server = sink.connection
    assert server is not None
    server.close()
    token, port = server.local_token, ends.a.stack.connections[0].initial_remote.port
    ends.run(2)
    assert (client.closed_for, server.closed_for) == (CloseReason.FINISHED, CloseReason.FINISHED)
    del ends.pipe.sent[:]
    ends.pipe.inject(spoofed_join(token, port))
    ends.run(0.1)
    replies = [s for _, s in ends.pipe.sent if s.src == parse_address(B1)]
    assert [segment.flags for segment in replies] == [RST | ACK]


def spoofed_join(token: int, port: int) -> Segment:
    return Segment(
        parse_address(A2),
        999,
        parse_address(B1),
        port,
        seq=7,
        flags=SYN,
        window=60_000,
        mptcp=(MpJoinSyn(False, 9, token, 1),),
    )


def test_3_3_3_a_subflow_in_time_wait_speaks_tcp_alone() -> None:
    peer = opened()
    peer.say(Dss(peer.data_ack, True, peer.dsn(4), True, 0, 1, None, True))
    connection_of(peer).close()
    peer.collect()
    acked = Dss(peer.data_ack + 1)
    fin = peer.say(acked)[-1]
    assert fin.flags & FIN
    peer.ack = (fin.seq + 1) & 0xFFFF_FFFF
    peer.say(acked)
    replies = peer.say(acked, flags=ACK | FIN)
    assert connection_of(peer).closed_for is CloseReason.FINISHED
    assert [(segment.flags, segment.mptcp) for segment in replies] == [(ACK, ())]
    replies = peer.say(acked, flags=ACK | FIN)
    assert [(segment.flags, segment.mptcp) for segment in replies] == [(ACK, ())]
    again = Dss(peer.data_ack + 1, True, peer.dsn(4), True, 0, 1, None, True)
    assert only(peer.say(again, flags=ACK | FIN), Dss), "a DATA_FIN that is repeated is answered"


def test_3_3_3_a_last_subflow_closed_without_data_fin_may_be_replaced() -> None:
    peer = opened()
    peer.say(Dss(peer.data_ack), flags=ACK | FIN)
    peer.seq = (peer.seq + 1) & 0xFFFF_FFFF
    connection_of(peer).close_subflow(0)
    fin = peer.collect()[-1]
    peer.ack = (fin.seq + 1) & 0xFFFF_FFFF
    peer.say(Dss(peer.data_ack))
    assert connection_of(peer).closed_for is None
    joined(peer)
    assert [path.remote_port for path in subflow_paths(connection_of(peer))] == [5000]


@pytest.mark.parametrize("dead_at_once", [True, False])
def test_3_3_3_a_subflow_that_died_ends_with_its_connection(dead_at_once: bool) -> None:
    ends = Ends()
    client = ends.pipe.connect(ends.a, A1, B1)
    sink = Sink(ends.b)
    pump(ends.a, client, 50_000)
    assert ends.run(5, lambda: sink.connection is not None and sink.connection.peer_finished)
    server = sink.connection
    assert server is not None

    def cut() -> None:
        for path in ends.pipe.both(A2, B2):
            path.up = False

    if dead_at_once:
        cut()
        server.close()
    else:
        server.close()
        ends.pipe.at(5 * MS, cut)
    ends.run(15)
    assert (client.closed_for, server.closed_for) == (CloseReason.FINISHED, CloseReason.FINISHED)
    ends.run(60)
    assert not ends.a.stack.connections + ends.b.stack.connections


def test_3_3_3_the_only_subflow_may_not_outlast_its_connection_for_long() -> None:
    peer = opened()
    peer.say(Dss(peer.data_ack, True, peer.dsn(4), True, 0, 1, None, True))
    connection_of(peer).close()
    peer.collect()
    assert peer.say(Dss(peer.data_ack + 1))[-1].flags & FIN
    peer.later(61_000)
    assert connection_of(peer).closed_for is CloseReason.FINISHED
    assert not peer.stack.connections


# Socket options.


def test_the_code_point_is_set_on_all_that_leaves() -> None:
    ends = Ends()
    settings = replace(config(), path_manager=FullMesh, dscp=10)
    addresses = parse_address(A1), parse_address(B1)
    client = ends.a.stack.connect(*addresses, 80, ends.pipe.now_ns, config=settings)
    ends.run(0.1)
    ours = {parse_address(address) for address in (A1, A2)}
    assert {s.dscp for _, s in ends.pipe.sent if s.src in ours} == {10}
    assert {s.dscp for _, s in ends.pipe.sent if s.src not in ours} == {0}
    del ends.pipe.sent[:]
    client.set_dscp(46)
    client.write_length(100_000)
    ends.run(0.1)
    client.abort(ends.pipe.now_ns)
    ends.run(0.1)
    assert {s.dscp for _, s in ends.pipe.sent if s.src in ours} == {46}
    assert any(s.flags & RST for _, s in ends.pipe.sent)
    with pytest.raises(ValueError, match="DSCP 64"):
        client.set_dscp(64)


def test_nagle_can_be_switched_for_one_connection() -> None:
    ends = Ends(mesh=False)
    client = ends.pipe.connect(ends.a, A1, B1)
    client.set_nodelay(False)
    ends.run(0.1)
    del ends.pipe.sent[:]
    for _ in range(3):
        client.write(b"x")
        ends.run(0.001)
    assert [s.payload_bytes for _, s in ends.pipe.sent] == [1]
    client.set_nodelay(True)
    ends.run(0.001)
    assert [s.payload_bytes for _, s in ends.pipe.sent] == [1, 2]
    for _ in range(3):
        client.write(b"x")
        ends.run(0.001)
    assert [s.payload_bytes for _, s in ends.pipe.sent] == [1, 2, 1, 1, 1]
