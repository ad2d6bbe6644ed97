"""What captures do not hold, hold twice, or show of options, joins and addresses: said as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.keys import KEY_A, KEY_B, NONCE_A, NONCE_B
from tests.unit.trace.flows import MS, SERVER, Transfer, pcap
from tests.unit.trace.flows import Path as Link
from tests.unit.trace.test_signals import CLIENT, KEYS, SECOND, Talk, said

from mptcplab import trace
from mptcplab.cli.main import main
from mptcplab.limits.causes import Cause
from mptcplab.trace.findings.completeness import completeness
from mptcplab.trace.findings.events import (
    BACKUP_USED,
    CLOSED,
    FALLBACK,
    NEW_ADDRESS,
    REFUSED,
    RETURNED,
    TRANSLATED,
    UNUSED_ADDRESS,
)
from mptcplab.trace.findings.series import direction
from mptcplab.trace.findings.stalls import find_stalls
from mptcplab.trace.findings.vantage import BETWEEN, vantage
from mptcplab.trace.findings.vantage import CLIENT as AT_CLIENT
from mptcplab.trace.findings.vantage import SERVER as AT_SERVER
from mptcplab.trace.output.explain import explain_ends, explanation
from mptcplab.trace.two_captures import ends_of, open_ends
from mptcplab.wire.keys import join_hmac, token_and_idsn
from mptcplab.wire.mptcp import (
    AddAddr,
    Dss,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MpTcpRst,
)

IDSN_A, IDSN_B = (token_and_idsn(key)[1] for key in KEYS)


def text_of(capture: trace.Trace) -> str:
    return "\n".join(explanation(capture))


def passing(packet: bytes, hops: int) -> bytes:
    """The packet after some routers: their hops are taken from the time to live."""
    return packet[:22] + bytes((packet[22] - hops,)) + packet[23:]


def doubled(rows: Iterable[tuple[int, bytes]], hops: int) -> list[tuple[int, bytes]]:
    return [
        row
        for when, packet in rows
        for row in ((when, packet), (when + 20_000, passing(packet, hops)))
    ]


@pytest.mark.parametrize("hops", [0, 1])
def test_packets_captured_twice_count_once(read: Any, hops: int) -> None:
    rows = Transfer([Link()], total=200_000).run().client
    once, twice = read(pcap(rows)), read(pcap(doubled(rows, hops)))
    for name in ("bytes", "retransmissions", "payload_bytes", "duplicate_acks"):
        assert [getattr(half, name) for half in twice.subflows[0].halves] == [
            getattr(half, name) for half in once.subflows[0].halves
        ]
    assert twice.subflows[0].halves[0].retransmissions == 0
    assert f"{len(rows):,} packets were captured twice" in text_of(twice)
    assert ("with a router between them" in text_of(twice)) == bool(hops)
    assert "captured twice" not in text_of(once)


def test_a_retransmission_is_no_copy(read: Any) -> None:
    """It has an identification of its own."""
    rows = Transfer([Link(lost=frozenset({40}), repair_ns=30 * MS)], total=100_000).run().client
    capture = read(pcap(rows))
    assert capture.subflows[0].halves[0].retransmissions == 1
    assert capture.reading.placer.copies.count == 0


def test_a_hop_shows_copies_without_identification(read: Any) -> None:
    rows = Transfer([Link()], total=50_000).run().client
    bare = [(when, packet[:18] + b"\0\0" + packet[20:]) for when, packet in rows]
    capture = read(pcap(doubled(bare, 1)))
    assert capture.reading.placer.copies.count == len(rows)
    assert capture.subflows[0].halves[0].retransmissions == 0


def test_the_place_of_a_capture(read: Any) -> None:
    transfer = Transfer([Link()], total=50_000).run()
    for data, place in zip(transfer.captures(), (AT_CLIENT, AT_SERVER), strict=True):
        (connection,) = read(data).connections
        assert vantage(connection).place == place
        loops = vantage(connection).loops_ns
        assert None not in loops
        assert sum(loop or 0 for loop in loops) == pytest.approx(20 * MS, rel=0.02)


def test_a_capture_between_the_ends(build: ModuleType, read: Any) -> None:
    talk = Talk(build)
    talk.open()
    (connection,) = talk.read(read).connections
    assert vantage(connection).place == BETWEEN


def test_windows_without_their_scale_are_not_judged(read: Any) -> None:
    """The window is 128 times what the packets say, if the SYN is missing."""
    rows = Transfer([Link()], total=3_000_000).run().client
    (connection,) = read(pcap(rows[10:])).connections
    (held,) = [held for held in connection.held if held.side == 0]
    assert Cause.RECEIVE_WINDOW not in {limit.cause for limit in held.limits}
    assert not completeness(connection).scale_known


def test_one_subflow_is_never_blocked_by_another(read: Any) -> None:
    lost = frozenset(range(30, 900, 40))
    data = Transfer([Link(lost=lost)], receive_buffer=lambda _: 60_000).run().captures()[0]
    (connection,) = read(data).connections
    series = direction(connection, 0)
    assert series is not None
    assert find_stalls(connection, series) == []
    assert Cause.HEAD_OF_LINE not in {limit.cause for limit in connection.limits}


def test_data_that_was_not_captured(read: Any) -> None:
    """One of a client's two interfaces: what the other carried was acknowledged all the same."""
    both = [Link(cwnd=lambda _: 20_000), Link(cwnd=lambda _: 20_000)]
    transfer = Transfer(both, total=1_000_000).run()
    first = [row for row in transfer.client if b"\x0a\x00\x00\x01" in row[1][26:34]]
    capture = read(pcap(first))
    (connection,) = capture.connections
    carried = connection.side_bytes(0)
    missing = completeness(connection).uncaptured_bytes[0]
    assert missing == pytest.approx(1_000_000 - carried, abs=25_000)
    assert "other subflows (interfaces) were not captured" in text_of(capture)
    (held,) = [held for held in connection.held if held.side == 0]
    assert held.limits[0].cause is Cause.UNKNOWN
    whole = read(pcap(transfer.client))
    assert completeness(whole.connections[0]).uncaptured_bytes == (0, 0)


@pytest.mark.parametrize("shuffled", [False, True])
def test_two_interfaces_of_a_client_and_the_server(
    tmp_path: Path, read: Any, shuffled: bool
) -> None:
    """Three files, the server's clock 3 s ahead: one end has two of them."""
    lost = frozenset(range(100, 200, 10))
    transfer = Transfer(
        [Link(cwnd=lambda _: 40_000, lost=lost), Link(delay_ns=15 * MS, cwnd=lambda _: 40_000)],
        total=2_000_000,
    ).run()
    parts = [
        [row for row in transfer.client if bytes((10, k, 0, 1)) in row[1][26:34]] for k in (0, 1)
    ]
    rows = [*parts, [(when + 3000 * MS, packet) for when, packet in transfer.server]]
    paths = []
    for name, part in zip(("eth0", "eth1", "server"), rows, strict=True):
        paths.append(tmp_path / f"{name}.pcap")
        paths[-1].write_bytes(pcap(part))
    given = [[path] for path in (paths[::-1] if shuffled else paths)]
    found = ends_of(given)
    assert found is not None
    assert (sorted(found.near), found.far, found.between) == (paths[:2], paths[2:], [])
    ends = open_ends(found.near, found.far)
    assert ends.both_ways
    assert abs(ends.offset_ns - 3000 * MS) <= ends.uncertainty_ns
    (connection,) = ends.near.connections
    assert len(connection.subflows) == 2
    assert sum(passage.lost_packets for passage in ends.passages if passage.side == 0) == len(lost)
    assert sum(half.retransmissions for half in connection.subflows[1].halves) == 0
    assert {held.side for held in connection.held} == {0}
    assert ends_of([paths[:1], paths[1:2]]) is None


@pytest.mark.parametrize("late", ["near", "far"])
def test_what_one_end_was_not_yet_or_no_longer_captured_is_not_lost(
    tmp_path: Path, late: str
) -> None:
    lost = frozenset(range(0, 9_000, 50))
    link = Link(rate_bps=20e6, cwnd=lambda _: 60_000, lost=lost, repair_ns=30 * MS)
    transfer = Transfer([link]).run()
    paths = [tmp_path / name for name in ("near.pcap", "far.pcap")]
    for path, rows in zip(paths, (transfer.client, transfer.server), strict=True):
        begin, end = (600 * MS, 2000 * MS) if path.stem == late else (0, 1400 * MS)
        path.write_bytes(pcap([row for row in rows if begin <= row[0] < end]))
    found = ends_of([[path] for path in paths])
    assert found is not None
    shares = {
        passage.side: passage.lost_packets / passage.sent_packets
        for passage in open_ends(found.near, found.far).passages
        if passage.sent_packets
    }
    assert shares.pop(0) == pytest.approx(1 / 50, abs=0.006)
    assert sum(shares.values()) == 0


def test_a_capture_from_between_the_ends_is_left_out(tmp_path: Path) -> None:
    """A router half way, where each packet passes half its way later."""
    transfer = Transfer([Link()], total=100_000).run()
    there = {packet: when for when, packet in transfer.server}
    both = [row for row in transfer.client if row[1] in there]
    halfway = [((when + there[packet]) // 2, packet) for when, packet in both]
    paths = []
    for name, rows in (("router", halfway), ("far", transfer.server), ("near", transfer.client)):
        paths.append(tmp_path / f"{name}.pcap")
        paths[-1].write_bytes(pcap(rows))
    router, far, near = paths
    found = ends_of([[path] for path in paths])
    assert found == ([near], [far], [router])
    ends = open_ends(found.near, found.far, between=found.between)
    assert "router.pcap: between the two ends, left out" in list(explain_ends(ends))


def test_a_join_that_was_never_accepted(build: ModuleType, read: Any) -> None:
    """Its first ACK acknowledges nothing that was sent; the SYN/ACK comes late and is reset."""
    talk = Talk(build)
    talk.open()
    talk.join(answered=False)
    talk.say(0, Dss(1, True), source=SECOND)
    for _ in range(30):
        talk.say(0)
    theirs = join_hmac(KEY_B, KEY_A, NONCE_B, NONCE_A)
    talk.say(1, MpJoinSynAck(False, 0, theirs[:8], NONCE_B), flags=0x12, source=SECOND)
    talk.say(0, flags=0x04, source=SECOND)
    capture = talk.read(read)
    (connection,) = capture.connections
    (text,) = said(connection, REFUSED)
    assert "never accepted: the SYN/ACK came" in text
    assert connection.subflows[1].handshake_ns == 0
    assert NEW_ADDRESS not in {event.kind for event in connection.events}


def test_a_refused_join_and_another_are_no_return(build: ModuleType, read: Any) -> None:
    talk = Talk(build)
    talk.open()
    talk.join(answered=False)
    talk.say(1, flags=0x14, source=SECOND)
    talk.join(port=2048)
    (connection,) = talk.read(read).connections
    kinds = [event.kind for event in connection.events]
    assert RETURNED not in kinds
    assert NEW_ADDRESS in kinds


def test_the_end_of_a_capture_is_no_end_of_a_connection(build: ModuleType, read: Any) -> None:
    talk = Talk(build)
    talk.say(0, Dss(5, True))
    talk.say(1, Dss(7, True))
    (connection,) = talk.read(read).connections
    assert said(connection, CLOSED) == []


@pytest.mark.parametrize("reset", [True, False])
def test_a_syn_ack_without_its_join(build: ModuleType, read: Any, reset: bool) -> None:
    talk = Talk(build)
    talk.open()
    talk.join(answered=False)
    talk.say(1, flags=0x12, source=SECOND)
    if reset:
        talk.say(0, MpTcpRst(1), flags=0x14, source=SECOND)
    (connection,) = talk.read(read).connections
    (text,) = said(connection, REFUSED)
    assert "the SYN/ACK carries no MP_JOIN: it was removed on the way" in text
    assert ("was reset" in text) == reset


def test_a_syn_without_its_join(build: ModuleType, read: Any) -> None:
    """At the server: a plain SYN to the connection's end, and a reset that speaks MPTCP."""
    talk = Talk(build)
    talk.open()
    talk.say(0, flags=0x02, source=SECOND)
    talk.say(1, flags=0x12, source=SECOND)
    talk.say(0, MpTcpRst(1), flags=0x14, source=SECOND)
    (connection,) = talk.read(read).connections
    assert len(connection.subflows) == 2
    (text,) = said(connection, REFUSED)
    assert "its SYN carries no MP_JOIN here" in text


def test_where_a_join_was_removed(build: ModuleType, tmp_path: Path) -> None:
    talks = []
    for strip in (False, True):
        talk = Talk(build)
        talk.open()
        join = MpJoinSyn(False, 1, token_and_idsn(KEY_B)[0], NONCE_A)
        talk.say(0, *([] if strip else [join]), flags=0x02, source=SECOND)
        talk.say(1, flags=0x12, source=SECOND)
        talk.say(0, MpTcpRst(1), flags=0x14, source=SECOND)
        talks.append(talk)
    paths = [tmp_path / name for name in ("client.pcap", "server.pcap")]
    for path, talk in zip(paths, talks, strict=True):
        path.write_bytes(talk.pcap())
    found = ends_of([paths[:1], paths[1:]])
    assert found is not None
    lines = list(explain_ends(open_ends(found.near, found.far)))
    assert any(
        "MP_JOIN was on the SYN at client.pcap and is not at server.pcap" in line for line in lines
    )


def test_fallback_at_the_third_packet(build: ModuleType, read: Any) -> None:
    talk = Talk(build)
    talk.open()
    del talk.packets[-1]
    talk.say(0)
    talk.say(0, payload=b"hello")
    talk.say(1)
    (connection,) = talk.read(read).connections
    assert connection.fallback
    (text,) = said(connection, FALLBACK)
    assert "the third packet and the data carry no MPTCP option" in text


def test_a_malformed_option_costs_no_segment(build: ModuleType, read: Any) -> None:
    """Linux 5.11 sent an ADD_ADDR without a port in the room of one with it."""
    packets = []
    talk = Talk(build)
    talk.open()
    talk.say(0, Dss(IDSN_B + 1, True, IDSN_A + 1, True, 1, 100), payload=bytes(100))
    segment = build.tcp(
        80, 1024, 501, 201, build.ACK, bytes((30, 20, 0x30, 1)) + bytes(16), b"data"
    )
    packets = [*talk.packets, build.ethernet(build.ipv4("192.0.2.1", CLIENT, segment))]
    capture = read(build.pcap(packets))
    (damage,) = capture.malformed
    assert "the option is ignored, its segment counts" in damage.reason
    halves = capture.subflows[0].halves
    assert (halves[0].acked_bytes, halves[1].bytes) == (100, 4)


def test_an_address_that_nobody_joins(build: ModuleType, read: Any) -> None:
    talk = Talk(build)
    talk.open()
    talk.say(1, AddAddr(3, ip_address("10.7.7.7").packed, None, hmac=bytes(8)))
    for _ in range(1100):
        talk.say(0)
    (connection,) = talk.read(read).connections
    (text,) = said(connection, UNUSED_ADDRESS)
    assert text.startswith("no subflow to 10.7.7.7 (address ID 3) was seen in the 1.1 s after")


def test_an_address_that_is_translated(build: ModuleType, read: Any) -> None:
    """The client announces 192.168.0.2; its subflow of that ID comes from elsewhere."""
    talk = Talk(build)
    talk.open()
    talk.say(0, AddAddr(1, ip_address("192.168.0.2").packed, None, hmac=bytes(8)))
    talk.join()
    (connection,) = talk.read(read).connections
    (text,) = said(connection, TRANSLATED)
    assert "192.168.0.2 (address ID 1) is seen as 10.0.1.1 on subflow 1" in text
    assert said(connection, UNUSED_ADDRESS) == []


def carry(talk: Talk, numbers: dict[str, int], piece: int, source: str) -> None:
    seq = numbers.get(source, 0)
    option = Dss(IDSN_B + 1, True, IDSN_A + 1 + 100 * piece, True, 1 + seq, 100)
    talk.say(0, option, payload=bytes(100), source=source)
    numbers[source] = seq + 100


@pytest.mark.parametrize("by_priority", [True, False])
def test_data_that_moves_to_a_backup(build: ModuleType, read: Any, by_priority: bool) -> None:
    talk = Talk(build)
    talk.open()
    if by_priority:
        talk.join()
        talk.say(0, MpPrio(True), source=SECOND)
    else:
        theirs = join_hmac(KEY_B, KEY_A, NONCE_B, NONCE_A)
        ours = join_hmac(KEY_A, KEY_B, NONCE_A, NONCE_B)
        token = token_and_idsn(KEY_B)[0]
        talk.say(0, MpJoinSyn(True, 1, token, NONCE_A), flags=0x02, source=SECOND)
        talk.say(1, MpJoinSynAck(False, 0, theirs[:8], NONCE_B), flags=0x12, source=SECOND)
        talk.say(0, MpJoinAck(ours[:20]), source=SECOND)
    numbers: dict[str, int] = {}
    for piece in range(20):
        carry(talk, numbers, piece, CLIENT)
    for piece in range(20, 40):
        carry(talk, numbers, piece, SECOND)
    (connection,) = talk.read(read).connections
    (text,) = said(connection, BACKUP_USED)
    assert text.startswith("data moves to backup subflow 1")
    assert "1 ms after regular subflow 0 last carried any" in text


def test_the_server_joins_the_client(build: ModuleType, read: Any) -> None:
    talk = Talk(build)
    talk.open()
    join = MpJoinSyn(False, 2, token_and_idsn(KEY_A)[0], NONCE_B)
    ours = join_hmac(KEY_B, KEY_A, NONCE_B, NONCE_A)
    theirs = join_hmac(KEY_A, KEY_B, NONCE_A, NONCE_B)
    where: dict[str, Any] = {"source": "192.0.2.9", "target": CLIENT}
    talk.say(0, join, flags=0x02, **where)
    talk.say(1, MpJoinSynAck(False, 0, theirs[:8], NONCE_A), flags=0x12, **where)
    talk.say(0, MpJoinAck(ours[:20]), **where)
    (connection,) = talk.read(read).connections
    assert connection.subflows[1].opened_by == 1
    assert connection.subflows[1].hmac_ok is True
    texts = [event.text for event in connection.events if event.subflow == 1]
    assert any("opened by the side that was asked for the connection" in text for text in texts)


def test_a_flood_is_told_in_one_line(build: ModuleType, read: Any) -> None:
    talk = Talk(build)
    talk.open()
    for k in range(500):
        talk.say(1, AddAddr(k % 256, ip_address("10.7.7.7").packed, None, hmac=bytes(8)))
    lines = text_of(talk.read(read)).splitlines()
    assert sum("announces" in line for line in lines) == 1
    assert any("500 times within 499 ms: address; the first:" in line for line in lines)


def test_the_command_leads_with_the_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "client.pcap"
    path.write_bytes(Transfer([Link()], receive_buffer=lambda _: 32_000).run().captures()[0])
    assert main(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (place,) = [k for k, line in enumerate(lines) if line.startswith("  client-to-server: ")]
    assert "of the time the receive window was full: a window of" in lines[place]
    assert place < next(k for k, line in enumerate(lines) if "What happened" in line)


def test_limits_are_data(read: Any) -> None:
    data = Transfer([Link()], receive_buffer=lambda _: 32_000).run().captures()[0]
    capture = read(data)
    limits = [limit.to_json() for limit in capture.limits]
    assert json.loads(json.dumps(limits)) == limits
    assert limits[0]["cause"] == "receive-window"
    assert limits[0]["direction"] == "client-to-server"
    assert SERVER in capture.subflows[0].ends[1]
