"""Explicit congestion notification: RFC 3168, and its precise form, RFC 8257."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.times import MS, SECOND

from mptcplab.stack.config import CongestionFactory
from mptcplab.stack.congestion.dctcp import Dctcp
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.tcp.sender import CA_CWR, CA_OPEN, CA_RECOVERY
from mptcplab.stack.testing import Filter, Pipe, Sink, config, pump
from mptcplab.wire.segment import ACK, CE, CWR, ECE, ECT_0, NOT_ECT, SYN, Segment

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
MEGABYTE = 1_000_000


def joined(
    client_ecn: int, server_ecn: int, congestion: CongestionFactory = NewReno
) -> tuple[Pipe, Connection, Sink]:
    pipe = Pipe()
    pipe.recording = True
    settings = replace(config(), train_bytes=1, congestion=congestion)  # packet by packet
    client = pipe.add_host("client", replace(settings, ecn=client_ecn), CLIENT)
    server = pipe.add_host("server", replace(settings, ecn=server_ecn), SERVER)
    pipe.link(CLIENT, SERVER)
    server.stack.listen(80)
    sink = Sink(server)
    return pipe, pipe.connect(client, CLIENT, SERVER), sink


def transfer(pipe: Pipe, connection: Connection, sink: Sink, size: int = MEGABYTE) -> None:
    pump(pipe.hosts[0], connection, size)
    assert pipe.run(60 * SECOND, lambda: sink.received == size)


def from_client(pipe: Pipe) -> list[Segment]:
    source = pipe.hosts[0].stack.local_addresses[0].address
    return [segment for _, segment in pipe.sent if segment.src == source]


def from_server(pipe: Pipe) -> list[Segment]:
    source = pipe.hosts[1].stack.local_addresses[0].address
    return [segment for _, segment in pipe.sent if segment.src == source]


@pytest.mark.parametrize(
    ("client", "server", "agreed"),
    [(1, 2, True), (1, 1, True), (1, 0, False), (2, 1, False), (2, 2, False), (0, 1, False)],
)
def test_both_ends_must_agree(client: int, server: int, agreed: bool) -> None:
    """Section 6.1.1: the SYN asks with ECE and CWR, the SYN/ACK grants with ECE alone."""
    pipe, connection, sink = joined(client, server)
    transfer(pipe, connection, sink)
    [syn] = [segment for segment in from_client(pipe) if segment.flags & SYN]
    [syn_ack] = [segment for segment in from_server(pipe) if segment.flags & SYN]
    assert (syn.flags & (ECE | CWR) == ECE | CWR) == (client == 1)
    assert bool(syn_ack.flags & ECE) == agreed
    assert not syn_ack.flags & CWR
    data = [segment for segment in from_client(pipe) if segment.payload_bytes]
    assert {segment.ecn for segment in data} == {ECT_0 if agreed else NOT_ECT}


def test_neither_syn_nor_pure_ack_nor_retransmission_is_capable() -> None:
    """Sections 6.1.1, 6.1.4 and 6.1.5."""
    pipe, connection, sink = joined(1, 2)
    dropped: list[int] = []

    def drop_one(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        if segment.payload_bytes and len(dropped) == 0 and sink.received > 100_000:
            dropped.append(segment.seq)
            return []
        return [(segment, 0)]

    pipe.path(CLIENT, SERVER).filter = drop_one
    transfer(pipe, connection, sink)
    assert all(segment.ecn == NOT_ECT for segment in from_server(pipe))
    sent = [segment for segment in from_client(pipe) if segment.seq == dropped[0]]
    assert [segment.ecn for segment in sent if segment.payload_bytes] == [ECT_0, NOT_ECT]
    assert from_client(pipe)[0].ecn == NOT_ECT


def test_a_syn_sent_again_does_not_ask() -> None:
    """Section 6.1.1.1: what asks may be what a middlebox drops."""
    pipe, connection, sink = joined(1, 2)

    def drop_asking(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
        asks = segment.flags & (SYN | ACK | ECE) == SYN | ECE
        return [] if asks else [(segment, 0)]

    pipe.path(CLIENT, SERVER).filter = drop_asking
    transfer(pipe, connection, sink)
    data = [segment for segment in from_client(pipe) if segment.payload_bytes]
    assert {segment.ecn for segment in data} == {NOT_ECT}


def marking(should_mark: Callable[[int], bool]) -> tuple[Filter, list[int]]:
    """Return a path's filter that marks data by their number, and where it lists what it marked."""
    count = 0
    marked: list[int] = []

    def mark(segment: Segment, now_ns: int) -> list[tuple[Segment, int]]:
        nonlocal count
        if segment.payload_bytes and segment.ecn == ECT_0:
            count += 1
            if should_mark(count):
                segment.ecn = CE
                marked.append(now_ns)
        return [(segment, 0)]

    return mark, marked


def test_one_mark_halves_the_window_once_and_is_echoed_until_cwr() -> None:
    """Sections 6.1.2 and 6.1.3."""
    pipe, connection, sink = joined(1, 2)
    pipe.path(CLIENT, SERVER).filter, marked = marking(lambda number: number == 200)
    congestion = connection.subflows[0].tcp.sender
    windows: list[int] = []
    pump(pipe.hosts[0], connection, MEGABYTE)
    assert pipe.run(30 * SECOND, lambda: len(marked) == 1)
    before = congestion.congestion.cwnd_bytes
    assert pipe.run(30 * SECOND, lambda: congestion.ca_state == CA_CWR)
    assert pipe.run(30 * SECOND, lambda: congestion.ca_state == CA_OPEN)
    windows.append(congestion.congestion.cwnd_bytes)
    grown = congestion.congestion.ssthresh_bytes
    assert grown >= before // 2  # of what was in use when the echo came
    assert windows[0] == pytest.approx(grown, abs=int(2 * congestion.mss_bytes))
    assert pipe.run(30 * SECOND, lambda: sink.received == MEGABYTE)
    assert congestion.counters.resent_segments == 0
    echoes = [n for n, segment in enumerate(from_server(pipe)) if segment.flags & ECE]
    plain = from_server(pipe)[echoes[1] :]
    assert echoes[1:] == list(range(echoes[1], echoes[1] + len(echoes) - 1))  # [0] is the SYN/ACK
    assert any(not segment.flags & ECE for segment in plain)
    reduced = [segment for segment in from_client(pipe)[1:] if segment.flags & CWR]
    assert len(reduced) == 1
    assert reduced[0].payload_bytes > 0


def test_marks_in_one_round_trip_count_as_one() -> None:
    pipe, connection, sink = joined(1, 2)
    pipe.path(CLIENT, SERVER).filter, _ = marking(lambda number: 200 <= number < 205)
    transfer(pipe, connection, sink)
    sent = from_client(pipe)[1:]
    assert sum(bool(segment.flags & CWR) for segment in sent) == 1


@pytest.mark.parametrize("every", [1, 4, 20])
def test_dctcp_learns_the_share_that_is_marked(every: int) -> None:
    """RFC 8257, section 3.3: alpha is the share of bytes marked, over some round trips."""
    pipe, connection, sink = joined(2, 2, congestion=Dctcp)
    pipe.path(CLIENT, SERVER).filter, _ = marking(lambda number: number % every == 0)
    transfer(pipe, connection, sink, MEGABYTE if every == 1 else 3 * MEGABYTE)
    control = connection.subflows[0].tcp.sender.congestion
    assert isinstance(control, Dctcp)
    assert control.share == pytest.approx(1 / every, rel=0.35)


def test_dctcp_asks_for_ecn_and_marks_all_that_it_sends_as_capable() -> None:
    pipe, connection, sink = joined(0, 0, congestion=Dctcp)
    transfer(pipe, connection, sink)
    assert {segment.ecn for segment in from_client(pipe) if not segment.flags & SYN} == {ECT_0}
    assert {segment.ecn for segment in from_server(pipe) if not segment.flags & SYN} == {ECT_0}


def test_a_delay_between_marks_leaves_pure_loss_recovery_alone() -> None:
    """A loss in the round trip of a mark does not halve the window twice."""
    pipe, connection, sink = joined(1, 2)
    mark, marked = marking(lambda number: number == 200)
    lost: list[int] = []

    def mark_and_drop(segment: Segment, now_ns: int) -> list[tuple[Segment, int]]:
        if marked and not lost and segment.payload_bytes:
            lost.append(segment.seq)
            return []
        return mark(segment, now_ns)

    pipe.path(CLIENT, SERVER).filter = mark_and_drop
    sender = connection.subflows[0].tcp.sender
    pump(pipe.hosts[0], connection, MEGABYTE)
    assert pipe.run(30 * SECOND, lambda: sender.ca_state == CA_CWR)
    once = sender.congestion.ssthresh_bytes
    assert pipe.run(30 * SECOND, lambda: sender.ca_state == CA_RECOVERY)
    assert sender.congestion.ssthresh_bytes == once
    assert pipe.run(30 * SECOND, lambda: sink.received == MEGABYTE)
    assert pipe.now_ns < 40 * SECOND + MS
