"""What packets show of a connection's subflows."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from mptcplab.hosts.packets import Packet, digest, read_packets
from mptcplab.trace import CaptureError
from mptcplab.wire.keys import token_and_idsn
from mptcplab.wire.mptcp import (
    CAPABLE_HMAC,
    CAPABLE_NO_JOIN,
    AddAddr,
    MpCapable,
    MpJoinSyn,
    MpJoinSynAck,
    MptcpOption,
    MpTcpRst,
)
from mptcplab.wire.pcap import PcapWriter
from mptcplab.wire.segment import ACK, RST, SYN, Segment

ONE, TWO = ip_address("10.0.1.1"), ip_address("10.0.2.1")
PEER, SECOND = ip_address("10.0.8.2"), ip_address("10.0.9.2")
PEER_KEY = 0x1234_5678_9ABC_DEF0
TOKEN = token_and_idsn(PEER_KEY)[0]


def packet(
    way: tuple[object, int, object, int], flags: int, *options: MptcpOption, by: str = "eth1"
) -> Packet:
    """Return a segment between two addresses and ports."""
    source, source_port, destination, port = way
    segment = Segment(
        ip_address(str(source)).packed, source_port, ip_address(str(destination)).packed, port
    )
    segment.flags = flags
    segment.mptcp = options
    return by, segment


FIRST, FIRST_BACK = (ONE, 4000, PEER, 80), (PEER, 80, ONE, 4000)
JOIN, JOIN_BACK = (TWO, 4001, PEER, 80), (PEER, 80, TWO, 4001)
OPENING = [
    packet(FIRST, SYN, MpCapable(1)),
    packet(FIRST_BACK, SYN | ACK, MpCapable(1, CAPABLE_HMAC | CAPABLE_NO_JOIN, PEER_KEY)),
    packet(FIRST, ACK, MpCapable(1, CAPABLE_HMAC, 1, PEER_KEY)),
    packet(FIRST_BACK, ACK, AddAddr(2, SECOND.packed, hmac=bytes(8))),
]
JOIN_SYN = packet(JOIN, SYN, MpJoinSyn(False, 1, TOKEN, 5), by="eth2")
JOIN_SYN_ACK = packet(JOIN_BACK, SYN | ACK, MpJoinSynAck(False, 0, bytes(8), 7))


def test_the_flag_and_the_announcements_of_the_peer() -> None:
    seen = digest(OPENING, [PEER])
    assert seen is not None
    assert seen.denies_initial_address is True
    assert seen.announced == (SECOND,)
    first = seen.handshake(ONE, PEER)
    assert first is not None
    assert (first.initial, first.answer, first.established) == (True, "syn-ack", True)


def test_a_join_without_an_answer_and_where_its_syns_left() -> None:
    again = (JOIN_SYN[0].replace("2", "1"), JOIN_SYN[1])
    seen = digest([*OPENING, JOIN_SYN, again])
    assert seen is not None
    join = seen.handshake(TWO, PEER)
    assert join is not None
    assert (join.syns, join.syn_interfaces, join.answer) == (2, ("eth2", "eth1"), "")


@pytest.mark.parametrize(
    ("back", "answer", "reason"),
    [
        (packet(JOIN_BACK, SYN | ACK), "syn-ack without option", None),
        (packet(JOIN_BACK, RST | ACK, MpTcpRst(3)), "reset", 3),
    ],
)
def test_answers_to_a_join(back: Packet, answer: str, reason: int | None) -> None:
    seen = digest([*OPENING, JOIN_SYN, back])
    assert seen is not None
    join = seen.handshake(TWO, PEER)
    assert join is not None
    assert (join.answer, join.reset_reason) == (answer, reason)


def test_a_join_that_the_peer_resets_at_its_ack() -> None:
    packets = [JOIN_SYN, JOIN_SYN_ACK, packet(JOIN, ACK), packet(JOIN_BACK, RST, MpTcpRst(3))]
    seen = digest([*OPENING, *packets])
    assert seen is not None
    join = seen.handshake(TWO, PEER)
    assert join is not None
    assert (join.answer, join.reset_after, join.reset_reason) == ("syn-ack", True, 3)


def test_joins_of_other_connections_and_other_peers_do_not_count() -> None:
    stranger = packet(JOIN, SYN, MpJoinSyn(False, 1, TOKEN + 1, 5))
    seen = digest([*OPENING, stranger])
    assert seen is not None
    assert seen.handshake(TWO, PEER) is None
    assert digest(OPENING, [SECOND]) is None
    assert digest(OPENING[1:], [PEER]) is None


def test_a_capture_file_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "lan.pcap"
    with path.open("wb") as file:
        writer = PcapWriter(file)
        for number, (_, segment) in enumerate(OPENING):
            writer.write_segment(number, segment)
    assert digest(read_packets(path)) is not None
    assert len(list(read_packets(path))) == len(OPENING)


def test_what_is_no_capture_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "not.pcap"
    path.write_bytes(b"no capture at all, but some text of a length")
    with pytest.raises(CaptureError, match=r"not\.pcap: magic number"):
        list(read_packets(path))
    with pytest.raises(CaptureError, match="No such file"):
        list(read_packets(tmp_path / "gone.pcap"))
