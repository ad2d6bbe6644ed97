"""Windows, Nagle, pacing, keepalive and timeouts between two stacks, and how streams end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from tests.addresses import A1, A2, B1
from tests.times import MS, SECOND

from mptcplab.stack import Connection, StackConfig, events
from mptcplab.stack.events import CloseReason
from mptcplab.stack.path_managers.base import CloseSubflow, Command, LocalAddress, PathView
from mptcplab.stack.path_managers.full_mesh import FullMesh
from mptcplab.stack.path_managers.initial_only import InitialOnly
from mptcplab.stack.testing import Pipe, Sink, config, connection_row, pump, usable_paths
from mptcplab.wire.ip import parse_address
from mptcplab.wire.mptcp import Dss
from mptcplab.wire.segment import FIN, RST, Segment

ROUND_TRIP_NS = 20 * MS
CONTENT = Random(5).randbytes(600_000)


class Pair:
    """Two hosts, round trips of 20 ms; the server accepts and reads only when told."""

    def __init__(self, client: StackConfig, server: StackConfig, mesh: bool = False) -> None:
        self.pipe = Pipe()
        if mesh:
            client = replace(client, path_manager=FullMesh)
        self.a = self.pipe.add_host("a", client, A1, A2)
        self.b = self.pipe.add_host("b", server, B1)
        for address in (A1, A2):
            self.pipe.link(address, B1)
        self.b.stack.listen(80)
        self.accepted: list[Connection] = []
        self.b.on_event = self._accept
        self.pipe.recording = True
        self.client = self.pipe.connect(self.a, A1, B1)

    def _accept(self, connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.ConnectionAccepted):
            self.accepted.append(connection)

    @property
    def server(self) -> Connection:
        return self.accepted[0]

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        return self.pipe.run(int(seconds * SECOND), until)

    def cut(self, *addresses: str) -> None:
        for address in addresses:
            for path in self.pipe.both(address, B1):
                path.up = False

    def from_client(self, address: str = A1) -> list[tuple[int, Segment]]:
        """Return what the client sent from an address, with the times."""
        source = parse_address(address)
        return [(time, segment) for time, segment in self.pipe.sent if segment.src == source]


def both(mptcp: bool, **changes: object) -> StackConfig:
    return replace(config(), mptcp=mptcp, **changes)  # type: ignore[arg-type]


plain_and_mptcp = pytest.mark.parametrize("mptcp", [False, True])


# The receive buffer.


@pytest.mark.slow
@plain_and_mptcp
@pytest.mark.parametrize("autotuned", [False, True])
def test_receive_buffer_grows_with_what_is_read_in_a_round_trip(
    mptcp: bool, autotuned: bool
) -> None:
    settings = both(mptcp, receive_buffer_bytes=65_536)
    if not autotuned:
        settings.receive_buffer_max_bytes = 0
    pair = Pair(both(mptcp), settings)
    sink = Sink(pair.b)
    pump(pair.a, pair.client, 20_000_000)
    assert pair.run(60, lambda: sink.finished)
    took_ns = pair.pipe.now_ns - SECOND
    assert sink.connection is not None
    size = connection_row(sink.connection)["receive_buffer_bytes"]
    if autotuned:
        assert 8 * 65_536 < size <= settings.receive_buffer_max_bytes
        assert took_ns < 4 * SECOND
    else:
        assert size == 65_536
        # One buffer in a round trip and no more: the window is what limits.
        assert took_ns > 20_000_000 // 65_536 * ROUND_TRIP_NS


@plain_and_mptcp
def test_receive_buffer_hardly_grows_while_the_application_reads_slowly(mptcp: bool) -> None:
    pair = Pair(both(mptcp), both(mptcp, receive_buffer_bytes=65_536))
    pair.client.write(CONTENT)
    for _ in range(100):
        pair.run(0.02)
        pair.server.read(500)
    assert connection_row(pair.server)["receive_buffer_bytes"] < 2 * 65_536


@plain_and_mptcp
@pytest.mark.parametrize("stopped_s", [2, 100])
def test_zero_window_whose_opening_is_lost_is_probed(mptcp: bool, stopped_s: int) -> None:
    small = both(mptcp, receive_buffer_bytes=20_000, receive_buffer_max_bytes=0)
    pair = Pair(both(mptcp), small)
    pump(pair.a, pair.client, CONTENT[:60_000])
    pair.run(stopped_s)
    assert connection_row(pair.server)["bytes_received"] == 20_000
    assert pair.client.data_acked_bytes() == 20_000
    back = pair.pipe.path(B1, A1)
    back.up = False
    content = bytearray(pair.server.read())
    pair.run(0.001)  # the window update leaves, and is lost
    back.up = True

    def read(connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.DataReadable):
            content.extend(connection.read())

    pair.b.on_event = read
    assert pair.run(130, lambda: len(content) == 60_000)
    assert bytes(content) == CONTENT[:60_000]
    probes = [segment for _, segment in pair.from_client() if not segment.payload_bytes]
    assert len(probes) < 40, "probes back off"


@plain_and_mptcp
def test_connection_outlives_a_window_that_stays_closed(mptcp: bool) -> None:
    small = both(mptcp, receive_buffer_bytes=20_000, receive_buffer_max_bytes=0)
    pair = Pair(both(mptcp, retries=3), small)
    pair.client.write(CONTENT[:60_000])
    pair.run(3_600)
    assert pair.client.closed_for is None
    assert connection_row(pair.server)["bytes_received"] == 20_000


@plain_and_mptcp
def test_reading_tells_of_the_window_only_where_that_doubles_it(mptcp: bool) -> None:
    small = both(mptcp, receive_buffer_bytes=60_000, receive_buffer_max_bytes=0)
    pair = Pair(both(mptcp), small)
    pair.client.write(CONTENT[:50_000])
    pair.run(1)
    assert connection_row(pair.server)["bytes_received"] == 50_000
    told = []
    for _ in range(5):
        before = pair.pipe.transmitted
        assert pair.server.read(5_000)
        pair.run(0.001)
        told.append(pair.pipe.transmitted - before)
    assert told == [0, 1, 0, 0, 0]  # 10,000 were left: with 20,000 it has doubled


# When data leave.


@plain_and_mptcp
@pytest.mark.parametrize("nagle", [False, True])
def test_nagle_holds_small_writes_while_something_is_unacknowledged(
    mptcp: bool, nagle: bool
) -> None:
    pair = Pair(both(mptcp, nagle=nagle), both(mptcp))
    pair.run(1)
    for _ in range(10):
        pair.client.write(b"0123456789")
        pair.run(0.001)
    pair.run(0.5)
    sizes = [segment.payload_bytes for _, segment in pair.from_client() if segment.payload_bytes]
    assert sizes == ([10, 90] if nagle else [10] * 10)
    assert pair.server.read() == b"0123456789" * 10


def test_nagle_does_not_hold_the_end_of_the_stream() -> None:
    pair = Pair(both(mptcp=True, nagle=True), both(mptcp=True))
    pair.run(1)
    pair.client.write(b"first")
    pair.run(0.001)
    pair.client.write(b"last")
    pair.client.close()
    pair.run(0.012)
    assert pair.server.read() == b"firstlast"


@plain_and_mptcp
@pytest.mark.parametrize("pacing", [False, True])
def test_pacing_spreads_a_window_over_the_round_trip(mptcp: bool, pacing: bool) -> None:
    pair = Pair(both(mptcp, pacing=pacing), both(mptcp))
    Sink(pair.b)
    pair.client.write(CONTENT[:20_000])
    pair.run(1)
    pair.pipe.sent.clear()
    start_ns = pair.pipe.now_ns
    pair.client.write(CONTENT[:20_000])
    pair.run(0.019)
    sent = [(time - start_ns, s) for time, s in pair.from_client() if s.payload_bytes]
    assert sum(segment.payload_bytes for _, segment in sent) > 8_000
    times = {time for time, _ in sent}
    if pacing:
        assert len(times) >= 4
        assert max(times) > ROUND_TRIP_NS // 5
    else:
        assert times == {0}


# Keepalive and user timeout.


@plain_and_mptcp
def test_keepalive_keeps_a_live_connection_and_ends_a_dead_one(mptcp: bool) -> None:
    settings = both(
        mptcp,
        keepalive_ns=30 * SECOND,
        keepalive_interval_ns=5 * SECOND,
        keepalive_probes=3,
        close_timeout_ns=SECOND,
    )
    pair = Pair(settings, both(mptcp))
    pair.client.write(b"x")
    pair.run(1)
    pair.pipe.sent.clear()
    pair.run(100)
    assert pair.client.closed_for is None
    assert len(pair.from_client()) == 3, "one probe in 30 s, each answered"
    pair.cut(A1)
    pair.run(30)
    assert pair.client.closed_for is None
    pair.run(10)
    assert pair.client.closed_for is CloseReason.TIMEOUT


@plain_and_mptcp
def test_user_timeout_ends_what_makes_no_progress(mptcp: bool) -> None:
    settings = both(mptcp, user_timeout_ns=7 * SECOND, close_timeout_ns=SECOND)
    pair = Pair(settings, both(mptcp))
    pair.client.write(b"x")
    pair.run(60)
    assert pair.client.closed_for is None, "idle is not stalled"
    pair.cut(A1)
    pair.client.write(b"y")
    pair.run(6.9)
    assert usable_paths(pair.client)
    pair.run(0.2)
    assert not usable_paths(pair.client)
    pair.run(1)
    assert pair.client.closed_for is CloseReason.TIMEOUT


def test_user_timeout_of_one_subflow_leaves_the_connection_to_the_other() -> None:
    pair = Pair(both(mptcp=True, user_timeout_ns=2 * SECOND), both(mptcp=True), mesh=True)
    sink = Sink(pair.b, content=True)
    pair.client.write(CONTENT[:1_000])
    pair.run(1)
    pair.cut(A1)
    pump(pair.a, pair.client, CONTENT[1_000:])
    assert pair.run(20, lambda: sink.finished)
    assert bytes(sink.content) == CONTENT


# How streams end.


@plain_and_mptcp
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_both_sides_close_at_once(mptcp: bool, lost: int) -> None:
    pair = Pair(both(mptcp), both(mptcp))
    pair.client.write(b"to the server")
    pair.run(1)
    pair.server.write(b"to the client")
    pair.run(1)
    left = lost

    def lose_first_ends(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        nonlocal left
        ends = segment.flags & FIN or any(isinstance(o, Dss) and o.data_fin for o in segment.mptcp)
        if ends and left:
            left -= 1
            return []
        return [(segment, 0)]

    pair.pipe.path(A1, B1).filter = lose_first_ends
    pair.client.close()
    pair.server.close()
    assert pair.run(
        30, lambda: pair.client.closed_for is not None and pair.server.closed_for is not None
    )
    assert pair.client.closed_for is CloseReason.FINISHED
    assert pair.server.closed_for is CloseReason.FINISHED
    assert pair.server.read() == b"to the server"
    assert pair.client.read() == b"to the client"
    assert not [segment for _, segment in pair.pipe.sent if segment.flags & RST]
    pair.run(120)
    assert not pair.a.stack.connections
    assert not pair.b.stack.connections


class Unplugged(InitialOnly):
    """Closes all subflows when an address of the host goes down."""

    def on_local_down(self, view: PathView, local: LocalAddress) -> list[Command]:
        return [CloseSubflow(path.subflow_id) for path in view.subflows]


@pytest.mark.parametrize("gone_s", [40, 80])
def test_rejoin_within_the_close_timeout_saves_the_connection_and_after_it_does_not(
    gone_s: int,
) -> None:
    pair = Pair(both(mptcp=True), both(mptcp=True, path_manager=Unplugged), mesh=True)
    sink = Sink(pair.b, content=True)
    pair.client.write(CONTENT[:1_000])
    pair.run(1)
    assert len(usable_paths(pair.client)) == 2
    pair.client.write(CONTENT[1_000:50_000])
    assert sink.connection is not None
    pair.b.stack.address_down(parse_address(B1), pair.pipe.now_ns)
    for address in (A1, A2):
        pair.a.stack.address_down(parse_address(address), pair.pipe.now_ns)
    pair.cut(A1, A2)
    pair.run(gone_s)
    assert not usable_paths(pair.client)
    for path in pair.pipe.both(A2, B1):
        path.up = True
    pair.a.stack.address_up(parse_address(A2), pair.pipe.now_ns)
    if gone_s < 60:
        pump(pair.a, pair.client, CONTENT[50_000:])
        assert pair.run(60, lambda: sink.finished)
        assert bytes(sink.content) == CONTENT
    else:
        pair.run(60)
        assert pair.client.closed_for is CloseReason.TIMEOUT
        assert sink.connection.closed_for is CloseReason.TIMEOUT
        assert not pair.a.stack.connections
        assert not pair.b.stack.connections
