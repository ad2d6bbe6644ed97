"""Multipath TCP between two stacks: fallback, addresses, priorities, failures, fast close."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.addresses import A1, A2, A6, B1, B2, B6
from tests.times import SECOND

from mptcplab.stack.config import StackConfig
from mptcplab.stack.events import CloseReason, FellBack
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.path_managers import Endpoint, EndpointFlag, Endpoints, Limits
from mptcplab.stack.path_managers.base import (
    AnnounceAddress,
    Command,
    LocalAddress,
    PathManager,
    PathView,
    RemoveAddress,
)
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.testing import (
    Host,
    Pipe,
    Sink,
    config,
    connection_row,
    is_fully_established,
    pump,
    sends_mappings,
    subflow_paths,
    usable_paths,
)
from mptcplab.wire.ip import parse_address
from mptcplab.wire.mptcp import (
    CAPABLE_NO_JOIN,
    AddAddr,
    Dss,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MptcpOption,
    MpTcpRst,
    RemoveAddr,
)
from mptcplab.wire.segment import RST, SYN, Segment

CONTENT = bytes(range(251)) * 2_000


class Announcer(PathManager):
    """Announces the second address, and withdraws it when told to."""

    def on_established(self, view: PathView) -> list[Command]:
        return [AnnounceAddress(2, parse_address(B2))]


class Pair:
    """Two hosts with two addresses each, every pair of addresses joined."""

    def __init__(self, client: StackConfig | None = None, server: StackConfig | None = None):
        self.pipe = Pipe()
        self.a = self.pipe.add_host("a", client or config(), A1, A2)
        self.b = self.pipe.add_host("b", server or config(), B1, B2)
        for left in (A1, A2):
            for right in (B1, B2):
                self.pipe.link(left, right)
        self.b.stack.listen(80)
        self.sink = Sink(self.b, content=True)
        self.pipe.recording = True
        self.changed_bytes = 0
        """How many bytes a box on the path changes for good."""
        self.client = self.pipe.connect(self.a, A1, B1)

    def ends(self) -> tuple[CloseReason | None, CloseReason | None]:
        """Return why each side ended."""
        return self.client.closed_for, self.server.closed_for

    @property
    def server(self) -> Connection:
        assert self.sink.connection is not None
        return self.sink.connection

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        return self.pipe.run(int(seconds * SECOND), until)

    def unplug(self) -> None:
        """Take both of the client's addresses down: its path manager closes the subflows."""
        for address in (A1, A2):
            self.a.stack.address_down(parse_address(address), self.pipe.now_ns)

    def check_content(self) -> None:
        content = bytes(self.sink.content)
        assert len(content) == len(CONTENT)
        differing = sum(a != b for a, b in zip(content, CONTENT, strict=True))
        assert differing == self.changed_bytes

    def finish(self, seconds: float = 300) -> None:
        """Let everything written arrive and both sides close."""
        done = self.run(
            seconds,
            lambda: self.client.closed_for is not None and self.server.closed_for is not None,
        )
        assert done
        self.check_content()
        assert self.client.closed_for is CloseReason.FINISHED
        assert self.server.closed_for is CloseReason.FINISHED

    def options(self, kind: type[MptcpOption], host: Host | None = None) -> list[Segment]:
        """Return the segments sent (by ``host``) with such an option."""
        return [
            segment
            for _, segment in self.pipe.sent
            if any(isinstance(option, kind) for option in segment.mptcp)
            and (host is None or segment.src in [x.address for x in host.stack.local_addresses])
        ]


def strip(
    kind: type[MptcpOption] | None, when: Callable[[Segment], bool] = lambda segment: True
) -> Callable[[Segment, int], list[tuple[Segment, int]]]:
    """Return a filter that removes options of a kind (``None``: all MPTCP options)."""

    def carry(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        if when(segment):
            segment = copy(segment)
            segment.mptcp = tuple(
                option
                for option in segment.mptcp
                if kind is not None and not isinstance(option, kind)
            )
        return [(segment, 0)]

    return carry


def copy(segment: Segment) -> Segment:
    return Segment(
        segment.src,
        segment.src_port,
        segment.dst,
        segment.dst_port,
        seq=segment.seq,
        ack=segment.ack,
        flags=segment.flags,
        window=segment.window,
        payload_bytes=segment.payload_bytes,
        payload=segment.payload,
        segment_size_bytes=segment.segment_size_bytes,
        mss=segment.mss,
        wscale=segment.wscale,
        sack_permitted=segment.sack_permitted,
        sack=segment.sack,
        ts_val=segment.ts_val,
        ts_ecr=segment.ts_ecr,
        mptcp=segment.mptcp,
    )


def mesh() -> StackConfig:
    return replace(config(), path_manager=FullMesh)


def of_version(version: int, settings: StackConfig) -> StackConfig:
    return replace(settings, version=version)


# Fallback (RFC 8684 section 3.7).


@pytest.mark.parametrize("which", ["syn", "synack", "third", "all", "server"])
@pytest.mark.parametrize("version", [0, 1])
def test_falls_back_when_the_handshake_loses_its_options(which: str, version: int) -> None:
    server = config()
    server.mptcp = which != "server"
    pair = Pair(of_version(version, mesh()), of_version(version, server))
    up, down = pair.pipe.both(A1, B1)
    if which == "syn":
        up.filter = strip(None, lambda segment: bool(segment.flags & SYN))
    elif which == "synack":
        down.filter = strip(None, lambda segment: bool(segment.flags & SYN))
    elif which == "third":
        up.filter = strip(MpCapable, lambda segment: not segment.flags & SYN)
        if version == 0:
            up.filter = strip(None, lambda segment: not segment.flags & SYN)
    elif which == "all":
        up.filter = strip(None)
        down.filter = strip(None)
    pump(pair.a, pair.client, CONTENT)
    if which == "third" and version == 1:
        up.filter = strip(None, lambda segment: not segment.flags & SYN)
    pair.finish()
    assert not pair.client.mptcp
    assert not sends_mappings(pair.server)
    assert not pair.options(MpJoinSyn)
    assert "fallback" in pair.a.kinds()


def test_falls_back_when_acknowledgments_lose_the_data_ack() -> None:
    pair = Pair()
    pair.pipe.path(B1, A1).filter = strip(None, lambda segment: not segment.flags & SYN)
    pump(pair.a, pair.client, CONTENT)
    pair.finish()
    (fallback,) = [event for event in pair.a.events if isinstance(event, FellBack)]
    assert fallback.why


def test_server_data_first_establishes_the_client() -> None:
    pair = Pair()
    pair.run(1)
    assert not is_fully_established(pair.client)
    pair.server.write(b"x")
    pair.run(1)
    assert is_fully_established(pair.client)
    assert pair.client.read() == b"x"
    assert is_fully_established(pair.server)


def test_lost_third_packet_is_made_good_by_the_first_data() -> None:
    pair = Pair()
    lost: list[Segment] = []

    def lose_first_ack(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        if not segment.flags & SYN and not lost:
            lost.append(segment)
            return []
        return [(segment, 0)]

    pair.pipe.path(A1, B1).filter = lose_first_ack
    pair.run(0.025)
    pump(pair.a, pair.client, CONTENT)
    pair.finish()
    assert lost[0].payload_bytes == 0
    assert pair.client.mptcp
    assert pair.server.mptcp


# Joins (section 3.2).


@pytest.mark.parametrize("version", [0, 1])
def test_join_proves_itself_and_carries_data(version: int) -> None:
    pair = Pair(of_version(version, mesh()), of_version(version, config()))
    pump(pair.a, pair.client, CONTENT)
    pair.finish()
    assert pair.options(MpJoinSyn)
    assert pair.options(MpJoinSynAck)
    assert pair.options(MpJoinAck)
    join = pair.options(MpJoinSyn)[0]
    first = next(s for _, s in pair.pipe.sent if s.src == join.src and s.payload_bytes)
    fourth = next(
        s
        for _, s in pair.pipe.sent
        if s.dst == join.src and not s.flags & SYN and s.src == join.dst
    )
    order = [s for _, s in pair.pipe.sent]
    assert order.index(fourth) < order.index(first), "no data before the fourth packet"


@pytest.mark.parametrize("kind", [MpJoinSynAck, MpJoinAck])
def test_join_that_loses_its_option_is_reset(kind: type[MptcpOption]) -> None:
    pair = Pair(mesh())
    for path in (*pair.pipe.both(A2, B1), *pair.pipe.both(A2, B2)):
        path.filter = strip(kind)
    pump(pair.a, pair.client, CONTENT)
    pair.finish()
    resets = [s for _, s in pair.pipe.sent if s.flags & RST]
    assert resets
    assert pair.client.mptcp
    assert "fallback" not in pair.a.kinds()


def test_join_with_a_wrong_hmac_is_reset() -> None:
    pair = Pair(mesh())

    def forge(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        segment = copy(segment)
        segment.mptcp = tuple(
            MpJoinSynAck(o.backup, o.address_id, bytes(8), o.nonce)
            if isinstance(o, MpJoinSynAck)
            else o
            for o in segment.mptcp
        )
        return [(segment, 0)]

    pair.pipe.path(B1, A2).filter = forge
    pair.run(2)
    pair.client.write(b"x")
    pair.run(2)
    assert len(subflow_paths(pair.client)) == 1
    reset = next(s for _, s in pair.pipe.sent if s.flags & RST)
    assert any(isinstance(option, MpTcpRst) and option.reason == 1 for option in reset.mptcp)


def test_unknown_token_is_refused() -> None:
    pair = Pair()
    pair.run(1)
    syn = Segment(
        parse_address(A2),
        5000,
        parse_address(B1),
        80,
        flags=SYN,
        mptcp=(MpJoinSyn(False, 1, 7, 7),),
    )
    pair.pipe.inject(syn)
    pair.run(1)
    assert [s for _, s in pair.pipe.sent if s.flags & RST and s.dst_port == 5000]


def test_flag_c_refuses_joins_to_the_initial_address() -> None:
    pair = Pair(mesh(), replace(config(), allow_join_initial=False))
    pump(pair.a, pair.client, CONTENT)
    pair.finish()
    syn_ack = next(s for s in pair.options(MpCapable, pair.b) if s.flags & SYN)
    assert isinstance(syn_ack.mptcp[0], MpCapable)
    assert syn_ack.mptcp[0].flags & CAPABLE_NO_JOIN
    assert not [s for s in pair.options(MpJoinSyn) if s.dst == parse_address(B1)]


# Addresses (section 3.4) and priorities (section 3.3.8).


@pytest.mark.parametrize("version", [0, 1])
def test_announced_address_is_echoed_and_joined(version: int) -> None:
    server = replace(config(), path_manager=Announcer, version=version)
    pair = Pair(replace(mesh(), version=version), server)
    pump(pair.a, pair.client, CONTENT)
    pair.finish()
    assert "address-announced" in pair.a.kinds()
    echoes = [s for s in pair.options(AddAddr, pair.a) if _add_addr(s).echo]
    assert bool(echoes) is (version == 1)
    assert any(s.dst == parse_address(B2) for s in pair.options(MpJoinSyn))
    for segment in pair.options(AddAddr):
        assert len(segment.mptcp) == 1, "ADD_ADDR travels alone"
        assert segment.payload_bytes == 0


def _add_addr(segment: Segment) -> AddAddr:
    option = segment.mptcp[0]
    assert isinstance(option, AddAddr)
    return option


def _removed(segment: Segment) -> tuple[int, ...]:
    return next(o.address_ids for o in segment.mptcp if isinstance(o, RemoveAddr))


class AnnouncerV6(PathManager):
    """Announces an IPv6 address with a port: the longest ADD_ADDR there is."""

    def on_established(self, view: PathView) -> list[Command]:
        return [AnnounceAddress(2, parse_address(B6), 80)]


def test_longest_announcement_goes_without_timestamps() -> None:
    pipe = Pipe()
    a = pipe.add_host("a", mesh(), A1, A6)
    b = pipe.add_host("b", replace(config(), path_manager=AnnouncerV6), B1, B6)
    pipe.link(A1, B1)
    pipe.link(A6, B6)
    b.stack.listen(80)
    sink = Sink(b)
    pipe.recording = True
    connection = pipe.connect(a, A1, B1)
    pump(a, connection, 500_000)
    assert pipe.run(100 * SECOND, lambda: connection.closed_for is not None)
    assert sink.received == 500_000
    assert "address-announced" in a.kinds()
    assert all(segment.option_bytes <= 40 for _, segment in pipe.sent)
    assert any(segment.src == parse_address(A6) for _, segment in pipe.sent)


def test_announcement_is_repeated_until_echoed() -> None:
    pair = Pair(None, replace(config(), path_manager=Announcer))
    pair.pipe.path(A1, B1).filter = strip(AddAddr)
    pair.client.write(b"x")
    pair.run(20)
    assert len(pair.options(AddAddr, pair.b)) == 4


def test_forged_announcement_is_ignored() -> None:
    pair = Pair(mesh(), replace(config(), path_manager=Announcer))

    def forge(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        segment = copy(segment)
        segment.mptcp = tuple(
            AddAddr(o.address_id, o.address, hmac=bytes(8)) if isinstance(o, AddAddr) else o
            for o in segment.mptcp
        )
        return [(segment, 0)]

    pair.pipe.path(B1, A1).filter = forge
    pump(pair.a, pair.client, CONTENT)
    pair.finish()
    assert "address-announced" not in pair.a.kinds()


class Withdrawing(FullMesh):
    """Withdraws an address, and leaves it to the peer to close the subflows."""

    def on_local_down(self, view: PathView, local: LocalAddress) -> list[Command]:
        return [RemoveAddress(view.local_id(local))]


def test_removed_address_closes_its_subflows() -> None:
    pair = Pair(replace(config(), path_manager=Withdrawing))
    pair.client.write(CONTENT[:1000])
    pair.run(2)
    assert len(subflow_paths(pair.server)) == 2
    pair.a.stack.address_down(parse_address(A2), pair.pipe.now_ns)
    pair.run(2)
    assert [_removed(segment) for segment in pair.options(RemoveAddr)] == [(2,)]
    assert "address-removed" in pair.b.kinds()
    assert "subflow-closed" in pair.b.kinds()
    resets = {segment.src for _, segment in pair.pipe.sent if segment.flags & RST}
    assert resets == {parse_address(B1)}, "it is the peer that closes"


def test_priority_moves_data_off_a_subflow() -> None:
    pair = Pair(mesh())
    pair.client.write(CONTENT[:1000])
    pair.run(2)
    pair.server.set_backup(0, True)
    pair.run(1)
    assert pair.options(MpPrio)
    assert [path.backup for path in subflow_paths(pair.client)] == [True, False]
    pair.pipe.sent.clear()
    pump(pair.a, pair.client, CONTENT[1000:])
    pair.finish()
    carried = {s.src for _, s in pair.pipe.sent if s.payload_bytes}
    assert carried == {parse_address(A2)}


BACKUP = EndpointFlag.BACKUP


@pytest.mark.parametrize("asks", ["client", "server"])
def test_either_end_may_ask_for_a_join_to_be_a_backup(asks: str) -> None:
    """By the flag B of the MP_JOIN in its SYN or SYN/ACK."""
    signal = EndpointFlag.SIGNAL | (BACKUP if asks == "server" else EndpointFlag(0))
    own = [Endpoint(1, parse_address(A1), BACKUP)] if asks == "client" else []
    pair = Pair(
        replace(config(), path_manager=lambda: Endpoints(own, Limits(8, 8))),
        replace(
            config(),
            path_manager=lambda: Endpoints([Endpoint(2, parse_address(B2), signal)], Limits(8, 0)),
        ),
    )
    pair.client.write(CONTENT[:1000])
    pair.run(2)
    flags = [
        (isinstance(option, MpJoinSyn), option.backup)
        for _, segment in pair.pipe.sent
        for option in segment.mptcp
        if isinstance(option, MpJoinSyn | MpJoinSynAck)
    ]
    assert flags == [(True, asks == "client"), (False, asks == "server")]
    for connection in (pair.client, pair.server):
        # the client's endpoint is the initial address, of whose subflow MP_PRIO tells
        assert [path.backup for path in subflow_paths(connection)] == [asks == "client", True]


def test_a_backup_of_the_host_takes_no_data_while_a_regular_subflow_lives() -> None:
    own = [Endpoint(2, parse_address(A2), EndpointFlag.SUBFLOW | BACKUP)]
    pair = Pair(replace(config(), path_manager=lambda: Endpoints(own, Limits(8, 8))))
    pair.client.write(CONTENT[:1000])
    pair.run(2)
    pump(pair.a, pair.client, CONTENT[1000:])
    pair.finish()
    carried = {s.src for _, s in pair.pipe.sent if s.payload_bytes}
    assert carried == {parse_address(A1)}


# Failures.


def test_survives_the_death_of_the_initial_path() -> None:
    pair = Pair(mesh())
    pair.client.write(CONTENT[:1000])
    pair.run(2)
    for path in pair.pipe.both(A1, B1):
        path.up = False
    pump(pair.a, pair.client, CONTENT[1000:])
    pair.finish(2000)
    assert connection_row(pair.client)["bytes_reinjected"] > 0


def test_break_before_make() -> None:
    pair = Pair(mesh())
    pair.client.write(CONTENT[:1000])
    pair.run(2)
    pair.unplug()
    pair.run(0.005)
    assert not usable_paths(pair.client)
    assert pair.client.closed_for is None
    pair.a.stack.address_up(parse_address(A2), pair.pipe.now_ns)
    pump(pair.a, pair.client, CONTENT[1000:])
    pair.finish()


def test_connection_without_subflows_times_out() -> None:
    pair = Pair(mesh(), None)
    pair.client.write(b"x")
    pair.run(2)
    pair.unplug()
    pair.run(59)
    assert pair.ends() == (None, None)
    pair.run(3)
    assert pair.ends() == (CloseReason.TIMEOUT, CloseReason.TIMEOUT)
    assert not pair.a.stack.connections


def test_fast_close() -> None:
    pair = Pair(mesh())
    pair.client.write(CONTENT[:1000])
    pair.run(2)
    pair.client.abort(pair.pipe.now_ns)
    pair.run(1)
    assert pair.options(MpFastclose)
    assert pair.client.closed_for is CloseReason.ABORTED
    assert pair.server.closed_for is CloseReason.FASTCLOSE
    assert not pair.b.stack.connections


# Checksums (section 3.3.1) and MP_FAIL (section 3.7).


def corrupt_once(after: int) -> Callable[[Segment, int], list[tuple[Segment, int]]]:
    done: list[Segment] = []

    def carry(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        if segment.payload is not None and segment.payload_bytes > 1000:
            done.append(segment)
            if len(done) == after:
                changed = copy(segment)
                body = bytearray(segment.payload)
                body[100] ^= 0x55
                changed.payload = bytes(body)
                return [(changed, 0)]
        return [(segment, 0)]

    return carry


@pytest.mark.parametrize("version", [0, 1])
def test_checksum_protects_a_whole_transfer(version: int) -> None:
    server = replace(config(), checksum=True, version=version)
    pair = Pair(replace(mesh(), version=version), server)
    pump(pair.a, pair.client, CONTENT)
    pair.finish()
    assert pair.client.session.checksum
    dss = [o for _, s in pair.pipe.sent for o in s.mptcp if isinstance(o, Dss) and o.dsn]
    assert dss
    assert all(option.checksum is not None for option in dss)


def test_bad_checksum_on_the_only_subflow_leads_to_the_infinite_mapping() -> None:
    pair = Pair(replace(config(), checksum=True), replace(config(), checksum=True))
    pair.pipe.path(A1, B1).filter = corrupt_once(20)
    pair.changed_bytes = 1
    pump(pair.a, pair.client, CONTENT)
    pair.finish()
    assert pair.options(MpFail, pair.b)
    infinite = [o for _, s in pair.pipe.sent for o in s.mptcp if isinstance(o, Dss) and o.infinite]
    assert infinite
    assert "fallback" in pair.a.kinds()
    assert "checksum-failed" in pair.b.kinds()


def test_bad_checksum_with_a_sibling_resets_the_subflow() -> None:
    pair = Pair(replace(mesh(), checksum=True), replace(config(), checksum=True))
    pair.client.write(CONTENT[:1000])
    pair.run(2)
    pair.pipe.path(A2, B1).filter = corrupt_once(3)
    pump(pair.a, pair.client, CONTENT[1000:])
    pair.finish()
    failed = pair.options(MpFail, pair.b)
    assert failed
    assert failed[0].flags & RST
    assert pair.client.mptcp
