"""TCP Fast Open between two stacks (RFC 7413; with MPTCP RFC 8684 appendix B)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from tests.addresses import A1, A2, B1, B2
from tests.times import MINUTE, MS, SECOND

from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.testing import Filter, Pipe, config, usable_paths
from mptcplab.wire.fast_open import find_cookie
from mptcplab.wire.mptcp import Dss
from mptcplab.wire.packet import decode_packet, encode_packet, split_train
from mptcplab.wire.segment import ACK, SYN, Segment

ROUND_TRIP = 20 * MS
REQUEST = bytes(range(200))
RESPONSE = bytes(reversed(range(256))) * 100


class Exchanges:
    """A client that asks over new connections, and a server that answers what it has read."""

    def __init__(self, settings: StackConfig, client: StackConfig | None = None) -> None:
        self.pipe = Pipe()
        self.client = self.pipe.add_host("client", client or settings, A1, A2)
        self.server = self.pipe.add_host("server", settings, B1, B2)
        for left in (A1, A2):
            for right in (B1, B2):
                self.pipe.link(left, right)
        self.server.stack.listen(80)
        self.server.on_event = self._answer
        self.client.on_event = self._read
        self.asked = bytearray()
        self.answered = bytearray()
        self.pipe.recording = True

    def _answer(self, connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.DataReadable):
            self.asked += connection.read()
            if len(self.asked) % len(REQUEST) == 0:
                connection.write(RESPONSE)
        elif isinstance(event, events.PeerFinished):
            connection.close()

    def _read(self, connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.DataReadable):
            self.answered += connection.read()

    def ask(self, times: int = 1) -> int:
        """Open a connection and ask so many times in a row; return how long the first took (ns)."""
        self.asked.clear()
        self.answered.clear()
        self.pipe.sent.clear()
        start_ns = self.pipe.now_ns
        connection = self.pipe.connect(self.client, A1, B1)
        took_ns = 0
        for number in range(1, times + 1):
            connection.write(REQUEST)
            assert self.pipe.run(MINUTE, partial(self._has_answers, number))
            took_ns = took_ns or self.pipe.now_ns - start_ns
        assert bytes(self.asked) == REQUEST * times
        assert bytes(self.answered) == RESPONSE * times
        self.last = connection
        return took_ns

    def _has_answers(self, count: int) -> bool:
        return len(self.answered) == count * len(RESPONSE)

    def close(self) -> None:
        self.last.close()
        self.pipe.run(2 * MINUTE)
        assert not self.client.stack.connections
        assert not self.server.stack.connections

    def syns(self) -> list[Segment]:
        return [segment for _, segment in self.pipe.sent if segment.flags & SYN]


def exchanges(mptcp: bool, **changes: object) -> Exchanges:
    return Exchanges(replace(config(), mptcp=mptcp, fast_open=True, **changes))  # type: ignore[arg-type]


@pytest.fixture(params=[False, True], ids=["tcp", "mptcp"])
def mptcp(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def saved_ns(mptcp: bool) -> int:
    """How much sooner an answer comes: with MPTCP it waits for the key, as Linux's does."""
    return 0 if mptcp else ROUND_TRIP


def test_the_second_connection_sends_its_request_with_the_syn(mptcp: bool) -> None:
    lab = exchanges(mptcp)
    without = lab.ask()
    first = lab.syns()
    lab.close()
    assert find_cookie(first[0]) == b""
    assert find_cookie(first[1])
    with_cookie = lab.ask()
    syn, syn_ack = lab.syns()
    assert find_cookie(syn) == find_cookie(first[1])
    assert syn.payload == REQUEST
    assert syn_ack.ack == (syn.seq + 1 + len(REQUEST)) & 0xFFFF_FFFF
    assert find_cookie(syn_ack) is None
    assert without - with_cookie == saved_ns(mptcp)
    assert lab.last.mptcp is mptcp
    assert lab.last.fallback_reason == ""
    lab.close()


def test_its_segments_fit_their_headers(mptcp: bool) -> None:
    lab = exchanges(mptcp)
    for _ in range(2):
        lab.ask(times=3)
        for _, segment in lab.pipe.sent:
            for packet in split_train(segment):
                again = decode_packet(encode_packet(packet))
                assert again.mptcp == packet.mptcp
                assert find_cookie(again) == find_cookie(packet)
        lab.close()


def test_an_mptcp_connection_goes_on_after_the_data_of_its_syn() -> None:
    """RFC 8684 appendix B.2: those have no data sequence numbers, and what follows begins at 1."""
    lab = exchanges(mptcp=True, checksum=True)
    lab.ask()
    lab.close()
    lab.ask(times=4)
    mappings = [
        option
        for _, segment in lab.pipe.sent
        if segment.src_port != 80
        for option in segment.mptcp
        if isinstance(option, Dss) and option.dsn is not None
    ]
    assert lab.last.fallback_reason == ""
    assert lab.last.fully_established
    assert [option.ssn for option in mappings] == [1 + len(REQUEST) * done for done in range(3)]
    lab.close()


def test_further_subflows_join_after_a_fast_open() -> None:
    settings = replace(config(), fast_open=True)
    lab = Exchanges(settings, replace(settings, path_manager=FullMesh))
    lab.ask()
    lab.close()
    lab.ask()
    lab.pipe.run(SECOND)
    assert len(usable_paths(lab.last)) == 2
    lab.close()


def test_a_wrong_cookie_is_replaced_and_its_data_sent_again(mptcp: bool) -> None:
    lab = exchanges(mptcp)
    without = lab.ask()
    lab.close()
    known = lab.client.stack.fast_open().peer(lab.syns()[0].src, lab.syns()[0].dst, 0)
    assert known is not None
    right, known.cookie = known.cookie, b"wrong!"
    assert lab.ask() == without
    syn, syn_ack = lab.syns()
    assert syn.payload == REQUEST
    assert syn_ack.ack == (syn.seq + 1) & 0xFFFF_FFFF
    assert find_cookie(syn_ack) == right
    lab.close()
    assert lab.ask() == without - saved_ns(mptcp)


def test_a_cookie_too_long_for_its_syn_is_left_out() -> None:
    """Cookies have up to 16 bytes; beside MP_CAPABLE and the usual options 15 have room."""
    lab = exchanges(mptcp=True)
    without = lab.ask()
    lab.close()
    known = lab.client.stack.fast_open().peer(lab.syns()[0].src, lab.syns()[0].dst, 0)
    assert known is not None
    known.cookie = bytes(16)
    assert lab.ask() == without
    syn = lab.syns()[0]
    assert (find_cookie(syn), syn.payload_bytes) == (None, 0)
    assert decode_packet(encode_packet(syn)).mptcp == syn.mptcp
    lab.close()


def test_a_server_without_it_takes_the_data_after_the_handshake(mptcp: bool) -> None:
    lab = exchanges(mptcp)
    without = lab.ask()
    lab.close()
    lab.server.stack._listeners[0].config = replace(config(), mptcp=mptcp)
    assert lab.ask() == without
    lab.close()


def stripping(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
    segment.raw_options = ()
    return [(segment, 0)]


def dropping(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
    return [] if find_cookie(segment) else [(segment, 0)]


def test_boxes_that_strip_or_drop_cost_no_data(mptcp: bool) -> None:
    lab = exchanges(mptcp)
    without = lab.ask()
    lab.close()
    lab.pipe.path(A1, B1).filter = stripping
    assert lab.ask() == without
    lab.close()
    lab.pipe.path(A1, B1).filter = dropping
    for _ in range(2):  # a timeout each, then a SYN without option and data
        assert lab.ask() == without + SECOND
        assert [len(segment.raw_options) for segment in lab.syns()] == [1, 0, 0]
        lab.close()
    assert lab.ask() == without  # no longer tried
    assert lab.syns()[0].raw_options == ()
    lab.close()
    lab.pipe.run(4 * MINUTE)
    assert lab.ask() == without + SECOND


def losing(what: str) -> Filter:
    """Lose the first segment of a kind."""
    lost: list[Segment] = []

    def judge(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        kinds = {
            "syn": segment.flags & (SYN | ACK) == SYN,
            "syn-ack": segment.flags & (SYN | ACK) == SYN | ACK,
            "third": segment.flags & (SYN | ACK) == ACK and not segment.payload_bytes,
            "response": segment.payload_bytes > 1000,
        }
        if kinds[what] and not lost:
            lost.append(segment)
            return []
        return [(segment, 0)]

    return judge


@pytest.mark.parametrize("what", ["syn", "syn-ack", "third", "response"])
def test_a_loss_in_the_handshake_is_repaired(mptcp: bool, what: str) -> None:
    lab = exchanges(mptcp)
    lab.ask()
    lab.close()
    for path in lab.pipe.both(A1, B1):
        path.filter = losing(what)
    lab.ask(times=2)
    assert lab.last.mptcp is mptcp
    assert lab.last.fallback_reason == ""
    lab.close()


def test_mptcp_options_stripped_after_the_syn_leave_plain_tcp() -> None:
    lab = exchanges(mptcp=True)
    lab.ask()
    lab.close()

    def strip(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        segment.mptcp = ()
        return [(segment, 0)]

    for path in lab.pipe.both(A1, B1):
        path.filter = strip
    lab.ask(times=2)
    assert not lab.last.mptcp
    lab.close()


def test_more_than_a_segment_goes_on_after_the_handshake(mptcp: bool) -> None:
    lab = exchanges(mptcp)
    lab.ask()
    lab.close()
    content = bytes(range(256)) * 40
    received = bytearray()

    def read(connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.DataReadable):
            received.extend(connection.read())
        elif isinstance(event, events.PeerFinished):
            connection.close()

    lab.server.on_event = read
    connection = lab.pipe.connect(lab.client, A1, B1)
    connection.write(content)
    connection.close()
    assert lab.pipe.run(MINUTE, lambda: connection.closed_for is not None)
    assert bytes(received) == content
