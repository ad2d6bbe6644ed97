"""RFC 8684 by section, where it takes two stacks: paths that lose, and what is repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.addresses import A1, A2, B1
from tests.times import SECOND

from mptcplab.simulated.parcel import part_of
from mptcplab.stack import Stack, StackConfig
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.testing import (
    Filter,
    Pipe,
    Sink,
    config,
    connection_row,
    pump,
    subflow_paths,
    subflow_rows,
)
from mptcplab.wire.ip import parse_address
from mptcplab.wire.mptcp import CAPABLE_NO_JOIN, Dss, MpCapable, MpJoinAck, MpJoinSyn, MpTcpRst
from mptcplab.wire.segment import ACK, RST, SYN, Segment

CONTENT = Random(3).randbytes(400_000)


class Pair:
    """A client with two addresses that joins them, a server with one."""

    def __init__(self, server: StackConfig | None = None) -> None:
        self.pipe = Pipe()
        client = replace(config(), path_manager=FullMesh)
        self.a = self.pipe.add_host("a", client, A1, A2)
        self.b = self.pipe.add_host("b", server or config(), B1)
        self.pipe.link(A1, B1)
        self.pipe.link(A2, B1)
        self.b.stack.listen(80)
        self.sink = Sink(self.b, content=True)
        self.pipe.recording = True
        self.client = self.pipe.connect(self.a, A1, B1)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        return self.pipe.run(int(seconds * SECOND), until)

    def sent(self, source: str, destination: str) -> list[Segment]:
        """Return what was sent from one address to another."""
        ends = (parse_address(source), parse_address(destination))
        return [segment for _, segment in self.pipe.sent if (segment.src, segment.dst) == ends]


def drop(unwanted: Callable[[Segment], bool]) -> Filter:
    return lambda segment, _now_ns: [] if unwanted(segment) else [(segment, 0)]


def mapping(segment: Segment) -> Dss | MpCapable | None:
    """Return the option that maps a segment's payload."""
    for option in segment.mptcp:
        if isinstance(option, Dss) and option.dsn is not None:
            return option
        if isinstance(option, MpCapable) and option.data_length is not None:
            return option
    return None


class Repeating(Random):
    """Gives every number of 64 bits twice."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.again: int | None = None

    def getrandbits(self, k: int) -> int:
        if k != 64:
            return super().getrandbits(k)
        value = super().getrandbits(64) if self.again is None else self.again
        self.again = value if self.again is None else None
        return value


def test_3_1_keys_and_tokens_are_unique_among_the_connections_of_a_host() -> None:
    stack = Stack(config(), Repeating(1))
    local, remote = parse_address(A1), parse_address(B1)
    stack.add_address(local, 1)
    connections = [stack.connect(local, remote, 80, 0) for _ in range(4)]
    tokens = {connection_row(connection)["token"] for connection in connections}
    assert len(tokens) == 4, "and so are the keys that they are made of"


def test_3_1_syns_without_answer_end_up_without_mp_capable() -> None:
    pair = Pair()
    pair.pipe.path(A1, B1).filter = drop(lambda segment: bool(segment.mptcp))
    pump(pair.a, pair.client, CONTENT)
    assert pair.run(100, lambda: pair.client.closed_for is not None)
    syns = [segment for segment in pair.sent(A1, B1) if segment.flags & SYN]
    assert [bool(segment.mptcp) for segment in syns] == [True, True, True, False]
    assert bytes(pair.sink.content) == CONTENT
    assert not pair.client.mptcp


def test_3_1_flag_c_means_no_join_to_the_initial_address() -> None:
    pair = Pair(replace(config(), allow_join_initial=False))
    pump(pair.a, pair.client, CONTENT)
    assert pair.run(100, lambda: pair.client.closed_for is not None)
    (syn_ack,) = [segment for segment in pair.sent(B1, A1) if segment.flags & SYN]
    assert isinstance(syn_ack.mptcp[0], MpCapable)
    assert syn_ack.mptcp[0].flags & CAPABLE_NO_JOIN
    assert pair.sent(A2, B1) == []


def test_3_2_initial_subflow_has_identifier_0_and_joins_have_others() -> None:
    pair = Pair()
    pair.client.write(b"x")
    pair.run(1)
    joins = [o for s in pair.sent(A2, B1) for o in s.mptcp if isinstance(o, MpJoinSyn)]
    assert [option.address_id for option in joins] == [2]
    assert [path.local_id for path in subflow_paths(pair.client)] == [0, 2]
    assert pair.sink.connection is not None
    assert [path.remote_id for path in subflow_paths(pair.sink.connection)] == [0, 2]


def test_3_2_third_packet_is_repeated_until_answered_and_no_data_before() -> None:
    pair = Pair()
    back = pair.pipe.path(B1, A2)
    back.filter = drop(lambda segment: not segment.flags & SYN)
    pair.client.write(CONTENT[:1_000])
    assert pair.run(5, lambda: len(pair.sent(A2, B1)) >= 4)
    pair.client.write(CONTENT[1_000:60_000])
    pair.run(1)
    packets = pair.sent(A2, B1)
    assert packets[0].flags & SYN
    for packet in packets[1:]:
        assert packet.flags == ACK
        assert packet.payload_bytes == 0
        assert any(isinstance(option, MpJoinAck) for option in packet.mptcp)


def test_3_3_every_data_segment_carries_its_mapping() -> None:
    pair = Pair()
    pump(pair.a, pair.client, CONTENT)
    assert pair.run(100, lambda: pair.client.closed_for is not None)
    carrying = [s for _, s in pair.pipe.sent if s.payload_bytes]
    assert carrying
    assert all(mapping(segment) is not None for segment in carrying)


def test_3_3_6_reinjected_data_are_also_repeated_where_they_were_first_sent() -> None:
    pair = Pair()
    pair.client.write(CONTENT[:1_000])
    pair.run(1)
    pump(pair.a, pair.client, CONTENT[1_000:])
    path = pair.pipe.path(A2, B1)
    path.filter = drop(lambda segment: segment.payload_bytes > 0)
    assert pair.run(5, lambda: subflow_rows(pair.client)[1]["retransmissions"] > 0)
    assert pair.run(5, lambda: len(pair.sink.content) == len(CONTENT)), "the other carries all"
    assert connection_row(pair.client)["bytes_reinjected"] > 0
    path.filter = drop(lambda segment: False)
    assert pair.run(100, lambda: pair.client.closed_for is not None)
    carried = pair.sent(A2, B1)
    last = max(carried, key=lambda s: (s.seq - carried[0].seq) & 0xFFFF_FFFF)
    end = (last.seq + last.sequence_length) & 0xFFFF_FFFF
    assert pair.sent(B1, A2)[-1].ack == end, "all of it was acknowledged on this subflow too"
    mapped: dict[int, int] = {}
    for segment in carried:
        option = mapping(segment)
        if isinstance(option, Dss) and option.dsn is not None and not option.data_fin:
            first = (option.dsn - option.ssn) & 0xFFFF_FFFF_FFFF_FFFF
            for number in (option.ssn, option.ssn + option.data_length - 1):
                assert mapped.setdefault(number, first) == first, "mappings never change"


def test_3_3_1_all_of_a_checksummed_mapping_is_carried_by_others_when_its_subflow_ends() -> None:
    """The subflow acknowledged its beginning, which the peer may not take without the rest."""
    pair = Pair(replace(config(), checksum=True))
    pair.client.write(CONTENT[:1_000])
    pair.run(1)
    cut: list[Segment] = []

    def cut_short(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        if cut and segment.payload_bytes:
            return []
        if segment.packets > 1:
            cut.append(segment)
            return [(part_of(segment, 0, 1), 0)]
        return [(segment, 0)]

    pair.pipe.path(A2, B1).filter = cut_short
    pump(pair.a, pair.client, CONTENT[1_000:])
    joined = pair.client.subflows[1].tcp.sender
    assert pair.run(5, lambda: bool(cut) and joined.snd_una > 1)
    pair.a.stack.address_down(parse_address(A2), pair.pipe.now_ns)
    assert pair.run(0.15, lambda: len(pair.sink.content) == len(CONTENT)), "before any timer"
    assert pair.sink.content == CONTENT


def test_3_7_joined_subflow_without_data_acks_is_reset() -> None:
    pair = Pair()

    def strip(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        if not segment.flags & SYN:
            segment.mptcp = ()
        return [(segment, 0)]

    pair.pipe.path(B1, A2).filter = strip
    pump(pair.a, pair.client, CONTENT)
    assert pair.run(100, lambda: pair.client.closed_for is not None)
    assert bytes(pair.sink.content) == CONTENT
    assert pair.client.mptcp
    resets = [segment for segment in pair.sent(A2, B1) if segment.flags & RST]
    reasons = [o.reason for s in resets for o in s.mptcp if isinstance(o, MpTcpRst)]
    assert reasons[:1] == [6], "middlebox interference"
