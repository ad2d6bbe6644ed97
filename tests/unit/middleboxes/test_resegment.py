"""Boxes that cut and join: the stream, the mappings and the times stay right."""

from __future__ import annotations

from tests.unit.middleboxes.boxes import box, mapping, segment

from mptcplab.middleboxes import Chain
from mptcplab.middleboxes.packets import packets_of
from mptcplab.wire.segment import ACK, CWR, FIN, PSH, SYN, Segment

MS = 1_000_000


def stream(segments: list[Segment]) -> bytes:
    return b"".join(bytes(each.payload or b"") for each in segments)


def test_split_cuts_each_packet_and_keeps_the_options() -> None:
    split = box("split", size_bytes=40)
    train = segment(
        ACK | PSH | CWR, bytes(range(200)), segment_size_bytes=100, seq=7, mptcp=(mapping(200),)
    )
    out = split.forward(train, True, 0)
    assert [each.payload_bytes for each in out] == [40, 40, 20, 40, 40, 20]
    assert [each.seq for each in out] == [7, 47, 87, 107, 147, 187]
    assert {each.mptcp for each in out} == {(mapping(200),)}
    assert [bool(each.flags & PSH) for each in out] == [False] * 5 + [True]
    assert [bool(each.flags & CWR) for each in out] == [True] + [False] * 5
    assert split.tallies[True].changed == 2


def test_split_leaves_a_train_whole_where_its_packets_are_cut_evenly() -> None:
    split = box("split", size_bytes=50)
    (out,) = split.forward(segment(ACK, bytes(250), segment_size_bytes=100), True, 0)
    assert out.packets == 5
    assert split.tallies[True].changed == 2


def test_parts_of_a_packet_came_when_it_did() -> None:
    split = box("split", size_bytes=60)
    train = segment(ACK, bytes(300), segment_size_bytes=100)
    train.spread_ns, train.late_ns = 20, 5
    out = split.forward(train, True, 100)
    assert [each.late_ns for each in out] == [25, 25, 15, 15, 5, 5]


def test_merge_joins_what_follows_on_up_to_its_size() -> None:
    merge = box("merge", size_bytes=25)
    out: list[Segment] = []
    for number in range(5):
        piece = bytes([number]) * 10
        out += merge.forward(segment(ACK, piece, seq=number * 10, mptcp=(mapping(50),)), True, 0)
    out += [each for each, _ in merge.expire(MS)]
    assert [(each.seq, each.payload_bytes) for each in out] == [(0, 20), (20, 20), (40, 10)]
    assert stream(out) == b"".join(bytes([number]) * 10 for number in range(5))
    assert merge.tallies[True].changed == 2


def test_merge_holds_a_packet_for_its_time_and_no_longer() -> None:
    merge = box("merge", size_bytes=100, hold_ns=MS)
    assert merge.forward(segment(ACK, b"one", seq=0), True, 5) == []
    assert merge.deadline_ns == MS + 5
    assert merge.forward(segment(ACK, b"two", seq=3), True, 10) == []
    assert merge.deadline_ns == MS + 5, "the first packet of it waits no longer for that"
    assert merge.expire(MS) == []
    ((out, outbound),) = merge.expire(MS + 5)
    assert (bytes(out.payload or b""), outbound) == (b"onetwo", True)
    assert merge.deadline_ns is None


def test_merge_waits_for_nothing_behind_a_push_or_a_fin() -> None:
    merge = box("merge", size_bytes=100)
    merge.forward(segment(ACK, b"one", seq=0), True, 0)
    (out,) = merge.forward(segment(ACK | PSH | FIN, b"two", seq=3), True, 0)
    assert bytes(out.payload or b"") == b"onetwo"
    assert out.flags == ACK | PSH | FIN


def test_merge_keeps_packets_apart_that_differ_in_options_or_acknowledgment() -> None:
    merge = box("merge", size_bytes=100)
    merge.forward(segment(ACK, b"one", seq=0, mptcp=(mapping(3, 100),)), True, 0)
    (first,) = merge.forward(segment(ACK, b"two", seq=3, mptcp=(mapping(3, 103),)), True, 0)
    assert bytes(first.payload or b"") == b"one"
    (second,) = merge.forward(segment(ACK, b"six", seq=6, ack=9, mptcp=(mapping(3, 103),)), True, 0)
    assert bytes(second.payload or b"") == b"two"


def test_merge_keeps_the_order_of_a_flow() -> None:
    merge = box("merge", size_bytes=100)
    merge.forward(segment(ACK, b"one", seq=0), True, 0)
    out = merge.forward(segment(ACK, seq=3), True, 0)
    assert [each.payload_bytes for each in out] == [3, 0]
    merge.forward(segment(ACK, b"gap", seq=50), True, 0)
    (held,) = merge.forward(segment(ACK, b"old", seq=3), True, 0)
    assert held.seq == 50


def test_a_blind_merge_keeps_the_options_of_the_first() -> None:
    merge = box("merge", size_bytes=100, blind=True)
    merge.forward(segment(ACK, b"one", seq=0, mptcp=(mapping(3, 100),)), True, 0)
    (out,) = merge.forward(
        segment(ACK | PSH, b"two", seq=3, ack=9, mptcp=(mapping(3, 103),)), True, 0
    )
    assert (bytes(out.payload or b""), out.mptcp, out.ack) == (b"onetwo", (mapping(3, 100),), 9)


def test_merge_that_is_switched_off_lets_go_what_it_holds() -> None:
    merge = box("merge", size_bytes=100)
    merge.forward(segment(ACK, b"one", seq=0), True, 5)
    merge.set_enabled(False)
    assert [each.payload_bytes for each, _ in merge.expire(6)] == [3]


def test_no_box_joins_or_cuts_syns_and_datagrams() -> None:
    for kind in (box("split", size_bytes=2), box("merge", size_bytes=100)):
        syn, datagram = segment(SYN, b"fast", seq=0), segment(0, b"datagram")
        assert kind.forward(datagram, True, 0) == [datagram]
        assert stream(kind.forward(syn, True, 0)) == b"fast"


def test_what_a_box_releases_passes_the_rest_of_its_chain() -> None:
    merge = box("merge", size_bytes=100)
    split = box("split", size_bytes=4)
    chain = Chain([merge, split])
    assert chain.forward(segment(ACK, b"hold me", seq=0), True, 0) == []
    assert chain.deadline_ns == MS
    out = chain.expire(MS)
    parts = [packet for each, _ in out for packet in packets_of(each)]
    assert [packet.payload_bytes for packet in parts] == [4, 3]
