"""ICMP errors between two stacks: path MTU discovery, and destinations that are unreachable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.addresses import A1, A2, B1
from tests.times import MS, SECOND

from mptcplab.stack import Connection, StackConfig, events
from mptcplab.stack.events import CloseReason
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.path_mtu import EXPIRES_NS
from mptcplab.stack.testing import Host, Pipe, Sink, config, pump, subflow_rows
from mptcplab.wire.icmp import IcmpError, Problem
from mptcplab.wire.segment import Segment

A6, B6 = "2001:db8::1", "2001:db8::2"
WAY_BACK_NS = 10 * MS


def packet_bytes(segment: Segment) -> int:
    """Return how large the packets of a train are, IP header and all."""
    return segment.header_bytes + min(
        segment.payload_bytes, segment.segment_size_bytes or segment.payload_bytes
    )


def error(
    problem: Problem, about: Segment, mtu_bytes: int = 0, seq: int | None = None
) -> IcmpError:
    ends = (about.src, about.src_port, about.dst, about.dst_port)
    return IcmpError(problem, ends, about.seq if seq is None else seq, mtu_bytes)


class Router:
    """A router on the way from the first host: what is too big for its next link it refuses."""

    def __init__(self, pipe: Pipe, sender: Host, mtu_bytes: int) -> None:
        self.mtu_bytes = mtu_bytes
        self.tells = True
        """Whether the errors get back."""
        self.told_bytes = mtu_bytes
        self.refused = 0
        self._pipe, self._sender = pipe, sender

    def forward(self, segment: Segment, now_ns: int) -> list[tuple[Segment, int]]:
        if packet_bytes(segment) <= self.mtu_bytes:
            return [(segment, 0)]
        self.refused += 1
        if self.tells:
            told = error(Problem.TOO_BIG, segment, self.told_bytes)
            self.say(told)
        return []

    def say(self, told: IcmpError) -> None:
        self._pipe.at(
            WAY_BACK_NS, lambda: self._sender.stack.receive_error(told, self._pipe.now_ns)
        )


class Narrow:
    """A client that sends through a router with a narrow link."""

    def __init__(
        self, settings: StackConfig, mtu_bytes: int = 1280, ends: tuple[str, str] = (A1, B1)
    ) -> None:
        self.pipe = Pipe()
        self.ends = ends
        self.a = self.pipe.add_host("a", settings, ends[0], A2)
        self.b = self.pipe.add_host("b", settings, ends[1])
        self.pipe.link(*ends)
        self.pipe.link(A2, B1)
        self.router = Router(self.pipe, self.a, mtu_bytes)
        self.pipe.path(*ends).filter = self.router.forward
        self.b.stack.listen(80)
        self.sink = Sink(self.b)
        self.connection = self.pipe.connect(self.a, *ends)

    def send(self, size: int, seconds: float = 30.0) -> bool:
        wanted = self.sink.received + size
        pump(self.a, self.connection, size)
        return self.pipe.run(int(seconds * SECOND), lambda: self.sink.received >= wanted)

    @property
    def mss(self) -> int:
        return int(subflow_rows(self.connection)[0]["mss_bytes"])


both_protocols = pytest.mark.parametrize("mptcp", [False, True])


@both_protocols
@pytest.mark.parametrize(("ends", "fixed"), [((A1, B1), 40), ((A6, B6), 60)])
def test_segments_become_as_small_as_a_router_tells(
    mptcp: bool, ends: tuple[str, str], fixed: int
) -> None:
    net = Narrow(replace(config(), mptcp=mptcp), ends=ends)
    assert net.send(300_000)
    assert net.mss == 1280 - fixed - 12 - (28 if mptcp else 0)
    assert net.router.refused
    reduced = [each for each in net.a.events if isinstance(each, events.PathMtuReduced)]
    assert [each.mtu_bytes for each in reduced] == [1280]


def test_what_was_too_big_is_sent_again_at_once() -> None:
    """Linux's tcp_simple_retransmit: a round trip later, without timeout or smaller window."""
    net = Narrow(replace(config(), mptcp=False))
    net.pipe.run(SECOND)
    window = subflow_rows(net.connection)[0]["cwnd_bytes"]
    began = net.pipe.now_ns
    assert net.send(10_000)
    assert net.pipe.now_ns - began <= WAY_BACK_NS + 3 * 10 * MS
    row = subflow_rows(net.connection)[0]
    assert row["cwnd_bytes"] >= window * 1228 // 1448


def test_several_narrow_links_are_found_one_after_another() -> None:
    net = Narrow(replace(config(), mptcp=False), 1400)
    assert net.send(200_000)
    net.router.mtu_bytes = net.router.told_bytes = 1000
    assert net.mss == 1400 - 52
    second = pumped(net, 200_000)
    assert second
    assert net.mss == 1000 - 52


def pumped(net: Narrow, size: int) -> bool:
    """Send more on the host's next connection between the same addresses."""
    net.connection = net.pipe.connect(net.a, *net.ends)
    return net.send(size)


def test_connections_of_the_same_addresses_share_the_path_mtu() -> None:
    net = Narrow(replace(config(), mptcp=False))
    assert net.send(50_000)
    refused = net.router.refused
    assert pumped(net, 50_000)
    assert net.router.refused == refused
    assert net.mss == 1228


def test_another_path_of_a_connection_keeps_its_size() -> None:
    net = Narrow(replace(config(), path_manager=FullMesh))
    assert net.send(400_000)
    rows = {
        row["local"].partition(":")[0]: row["mss_bytes"] for row in subflow_rows(net.connection)
    }
    assert rows == {A1: 1200, A2: 1420}


def test_a_path_mtu_is_forgotten_after_ten_minutes() -> None:
    net = Narrow(replace(config(), mptcp=False))
    net.pipe.run(SECOND)
    net.connection.write_length(20_000)
    net.pipe.run(5 * SECOND)
    assert net.mss == 1228
    net.router.mtu_bytes = 1500
    net.pipe.run(EXPIRES_NS)
    assert net.mss == 1448
    refused = net.router.refused
    net.connection.write_length(20_000)
    net.pipe.run(5 * SECOND)
    assert net.sink.received == 40_000
    assert net.router.refused == refused


@pytest.mark.parametrize("told", [0, 68, 551])
def test_ipv4_takes_what_is_below_the_minimum_for_the_minimum(told: int) -> None:
    """Linux's route/min_pmtu; routers older than RFC 1191 tell 0."""
    net = Narrow(replace(config(), mptcp=False))
    net.router.told_bytes = told
    assert net.send(50_000)
    assert net.mss == 552 - 52


def test_ipv6_ignores_what_is_below_the_minimum() -> None:
    net = Narrow(replace(config(), mptcp=False), 1400, (A6, B6))
    net.router.told_bytes = 1279
    assert not net.send(50_000, 3.0)
    assert net.mss == 1428


@pytest.mark.parametrize("beyond", [-1, 1])
def test_an_error_has_to_quote_what_is_in_flight(beyond: int) -> None:
    """RFC 5927 section 4.1."""
    net = Narrow(replace(config(), mptcp=False), 1500)
    net.pipe.run(SECOND)
    net.pipe.recording = True
    net.connection.write_length(1000)
    net.pipe.flush()
    (_, segment) = net.pipe.sent[-1]
    end = 1001 if beyond > 0 else -1
    blind = error(Problem.TOO_BIG, segment, 600, (segment.seq + end) % (1 << 32))
    net.a.stack.receive_error(blind, net.pipe.now_ns)
    assert net.mss == 1448
    net.a.stack.receive_error(error(Problem.TOO_BIG, segment, 600), net.pipe.now_ns)
    assert net.mss == 548


def test_without_errors_the_path_is_a_black_hole() -> None:
    """As with Linux's tcp_mtu_probing = 0: the connection stalls, and small segments pass."""
    net = Narrow(replace(config(), mptcp=False))
    net.router.tells = False
    net.pipe.run(SECOND)
    net.connection.write_length(500)
    net.pipe.run(SECOND)
    assert net.sink.received == 500
    net.connection.write_length(50_000)
    net.pipe.run(20 * SECOND)
    assert net.sink.received == 500
    assert net.mss == 1448


def refused_attempt(problem: Problem) -> tuple[Connection, Pipe, int]:
    """Connect where a router answers the SYN so; return when the attempt was made as well."""
    pipe = Pipe()
    a = pipe.add_host("a", replace(config(), mptcp=False), A1)
    pipe.add_host("b", config(), B1)
    pipe.link(A1, B1)
    router = Router(pipe, a, 1500)

    def refuse(segment: Segment, now_ns: int) -> list[tuple[Segment, int]]:
        router.say(error(problem, segment))
        return []

    pipe.path(A1, B1).filter = refuse
    began = pipe.now_ns
    connection = pipe.connect(a, A1, B1)
    pipe.run(SECOND, lambda: connection.closed_for is not None)
    return connection, pipe, began


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (Problem.NO_ROUTE, CloseReason.UNREACHABLE),
        (Problem.HOST, CloseReason.UNREACHABLE),
        (Problem.PROHIBITED, CloseReason.UNREACHABLE),
        (Problem.TIME_EXCEEDED, CloseReason.UNREACHABLE),
        (Problem.PORT, CloseReason.REFUSED),
        (Problem.PROTOCOL, CloseReason.REFUSED),
    ],
)
def test_an_attempt_ends_where_the_peer_is_unreachable(
    problem: Problem, reason: CloseReason
) -> None:
    connection, pipe, began = refused_attempt(problem)
    assert connection.closed_for is reason
    assert pipe.now_ns - began == WAY_BACK_NS


@pytest.mark.parametrize(
    ("problem", "reason"),
    [(Problem.HOST, CloseReason.UNREACHABLE), (Problem.PORT, CloseReason.REFUSED)],
)
def test_once_established_an_error_is_told_at_the_timeout(
    problem: Problem, reason: CloseReason
) -> None:
    """RFC 1122 section 4.2.3.9; Linux takes all of them for soft errors."""
    net = Narrow(replace(config(), mptcp=False, retries=3), 1500)
    net.pipe.run(SECOND)

    def refuse(segment: Segment, now_ns: int) -> list[tuple[Segment, int]]:
        net.router.say(error(problem, segment))
        return []

    net.pipe.path(*net.ends).filter = refuse
    net.connection.write_length(1000)
    net.pipe.run(SECOND // 2)
    assert net.connection.closed_for is None
    net.pipe.run(600 * SECOND, lambda: net.connection.closed_for is not None)
    assert net.connection.closed_for is reason


def outage(told: Callable[[Narrow], bool]) -> float:
    """Cut the path for 5 s; return how long (s) after its return data arrive."""
    net = Narrow(replace(config(), mptcp=False), 1500)
    net.pipe.run(SECOND)
    errors = told(net)
    forward = net.router.forward

    def refuse(segment: Segment, now_ns: int) -> list[tuple[Segment, int]]:
        if errors:
            net.router.say(error(Problem.HOST, segment))
        return []

    path = net.pipe.path(*net.ends)
    path.filter = refuse
    net.connection.write_length(1000)
    net.pipe.run(5 * SECOND)
    path.filter = forward
    returned = net.pipe.now_ns
    net.pipe.run(60 * SECOND, lambda: net.sink.received == 1000)
    return (net.pipe.now_ns - returned) / SECOND


def test_an_error_is_forgotten_when_data_get_through_again() -> None:
    net = Narrow(replace(config(), mptcp=False, retries=3), 1500)
    net.pipe.run(SECOND)
    net.pipe.recording = True
    net.connection.write_length(1000)
    net.pipe.flush()
    (_, segment) = net.pipe.sent[-1]
    net.a.stack.receive_error(error(Problem.HOST, segment), net.pipe.now_ns)
    net.pipe.run(SECOND)
    assert net.sink.received == 1000
    net.pipe.path(*net.ends).up = False
    net.connection.write_length(1000)
    net.pipe.run(60 * SECOND, lambda: net.connection.closed_for is not None)
    assert net.connection.closed_for is CloseReason.TIMEOUT


def test_a_subflow_whose_way_is_broken_becomes_stale() -> None:
    """However often its timer is taken back: the other one carries its data."""
    net = Narrow(replace(config(), path_manager=FullMesh), 1500)
    net.pipe.run(SECOND)
    net.connection.write_length(1000)
    net.pipe.run(SECOND)

    def refuse(segment: Segment, now_ns: int) -> list[tuple[Segment, int]]:
        net.router.say(error(Problem.HOST, segment))
        return []

    net.pipe.path(*net.ends).filter = refuse
    assert net.send(400_000)
    net.pipe.run(10 * SECOND)
    stale = [each for each in net.a.events if isinstance(each, events.SubflowStale)]
    assert [(each.subflow_id, each.stale) for each in stale] == [(0, True)]


def test_a_broken_way_is_tried_again_soon() -> None:
    """RFC 6069: while routers say that there is no way, the timer does not back off."""
    assert outage(lambda net: True) < 0.5
    assert outage(lambda net: False) > 1
