"""Boxes that act on some packets: which ones, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.middleboxes.boxes import answer, box, mapping, segment, texts

from mptcplab.middleboxes.packets import packets_of
from mptcplab.wire.mptcp import MpJoinSyn, MpTcpRst
from mptcplab.wire.segment import ACK, FIN, PSH, RST, SYN, RawOption, Segment

JOIN = MpJoinSyn(False, 2, 1, 2)


def test_strip_removes_the_options_that_it_names_and_counts_them() -> None:
    strip = box("strip", options=("MP_JOIN", "SACK_PERMITTED"))
    syn = segment(SYN, mptcp=(JOIN,), sack_permitted=True, mss=1460)
    (out,) = strip.forward(syn, True, 0)
    assert (out.mptcp, out.sack_permitted, out.mss) == ((), False, 1460)
    assert strip.tallies[True].as_dict() == {"seen": 1, "changed": 1, "dropped": 0, "stripped": 2}


def test_strip_of_mptcp_takes_all_of_its_options_and_no_other() -> None:
    strip = box("strip", options=("MPTCP",))
    both = segment(RST | ACK, mptcp=(MpTcpRst(0), mapping(10)), ts_val=5)
    (out,) = strip.forward(both, False, 0)
    assert out.mptcp == ()
    assert out.ts_val == 5
    assert strip.tallies[False].stripped == 2


@pytest.mark.parametrize(
    ("name", "field", "value", "gone"),
    [
        ("MSS", "mss", 1460, None),
        ("WINDOW_SCALE", "wscale", 7, None),
        ("SACK", "sack", ((1, 2),), ()),
        ("TIMESTAMPS", "ts_val", 9, None),
    ],
)
def test_strip_of_tcp_options(name: str, field: str, value: Any, gone: object) -> None:
    strip = box("strip", options=(name,))
    (out,) = strip.forward(segment(ACK, **{field: value}), True, 0)
    assert getattr(out, field) == gone
    assert strip.tallies[True].stripped == 1


def test_strip_of_unknown_options_leaves_those_with_a_name() -> None:
    strip = box("strip", options=("UNKNOWN",))
    syn = segment(SYN, mptcp=(JOIN,))
    syn.raw_options = (RawOption(34, bytes([34, 2])),)
    (out,) = strip.forward(syn, True, 0)
    assert out.raw_options == ()
    assert out.mptcp == (JOIN,)


def test_a_direction_leaves_the_other_alone() -> None:
    strip = box("strip", options=("MP_JOIN",), direction="backward")
    assert strip.forward(segment(SYN, mptcp=(JOIN,)), True, 0)[0].mptcp == (JOIN,)
    assert strip.forward(answer(SYN, mptcp=(JOIN,)), False, 0)[0].mptcp == ()


@pytest.mark.parametrize(
    ("classes", "flags", "payload", "dropped"),
    [
        (("SYN",), SYN, b"", True),
        (("SYN",), SYN | ACK, b"", False),
        (("SYN/ACK",), SYN | ACK, b"", True),
        (("ACK",), ACK, b"", True),
        (("ACK",), ACK | FIN, b"", False),
        (("data",), ACK | PSH, b"x", True),
        (("FIN",), ACK | FIN, b"x", True),
        (("RST",), RST, b"", True),
        (("RST", "FIN"), ACK, b"x", False),
    ],
)
def test_drop_takes_segments_of_its_kinds(
    classes: tuple[str, ...], flags: int, payload: bytes, dropped: bool
) -> None:
    drop = box("drop", segments=classes)
    assert (drop.forward(segment(flags, payload), True, 0) == []) is dropped


def test_drop_wants_options_and_segments_both() -> None:
    drop = box("drop", options=("MP_JOIN",), segments=("SYN",))
    assert drop.forward(segment(SYN, mptcp=(JOIN,)), True, 0) == []
    assert drop.forward(segment(SYN), True, 0)
    assert drop.forward(segment(ACK, mptcp=(JOIN,)), True, 0)


def test_times_counts_packets_also_within_a_train() -> None:
    drop = box("drop", segments=("data",), times=3)
    train = segment(ACK, bytes(range(50)), segment_size_bytes=10, seq=0)
    left = drop.forward(train, True, 0)
    assert [packet.seq for packet in left] == [30, 40]
    assert drop.forward(segment(ACK, b"x"), True, 0)
    assert drop.tallies[True].dropped == 3


def test_after_lets_the_first_bytes_of_each_flow_pass() -> None:
    drop = box("drop", segments=("data",), after_bytes=25)
    train = segment(ACK, bytes(60), segment_size_bytes=10, seq=0)
    assert [packet.seq for packet in drop.forward(train, True, 0)] == [0, 10, 20]
    other = segment(ACK, bytes(10), src_port=7)
    assert drop.forward(other, True, 0) == [other]


def test_a_fin_at_the_end_of_a_train_is_that_packet_alone() -> None:
    drop = box("drop", segments=("FIN",))
    train = segment(ACK | FIN, bytes(30), segment_size_bytes=10, seq=0)
    assert [packet.seq for packet in drop.forward(train, True, 0)] == [0, 10]


def test_a_black_hole_drops_everything_and_so_do_datagrams_end() -> None:
    hole = box("blackhole", direction="forward")
    assert hole.forward(segment(ACK, b"x"), True, 0) == []
    assert hole.forward(segment(0, b"x"), True, 0) == []
    assert hole.forward(answer(ACK), False, 0)


def test_rewrite_changes_one_byte_of_each_packet_and_leaves_lengths() -> None:
    rewrite = box("rewrite")
    train = segment(ACK, bytes(25), segment_size_bytes=10)
    (out,) = rewrite.forward(train, True, 0)
    assert out.payload is not None
    assert [place for place, byte in enumerate(bytes(out.payload)) if byte] == [5, 15, 22]
    assert rewrite.tallies[True].changed == 3
    assert rewrite.forward(segment(ACK), True, 0)
    assert rewrite.tallies[True].changed == 3


def test_rewrite_gives_a_length_content() -> None:
    rewrite = box("rewrite", times=1)
    length = Segment(b"\1\2\3\4", 1, b"\1\2\3\5", 2, flags=ACK, payload_bytes=4)
    (out,) = rewrite.forward(length, True, 0)
    assert out.payload == b"\0\0\x20\0"


def test_a_box_that_is_off_lets_all_pass_and_counts_nothing() -> None:
    drop = box("drop", segments=("data",), enabled=False)
    assert drop.forward(segment(ACK, b"x"), True, 0)
    assert drop.tallies[True].seen == 0
    drop.set_enabled(True)
    assert drop.forward(segment(ACK, b"x"), True, 0) == []


@pytest.mark.parametrize(
    ("kind", "plan"),
    [
        ("strip", {"options": ("DSS",)}),
        ("strip", {"options": ("DSS",), "after_bytes": 25}),
        ("strip", {"options": ("DSS",), "times": 2, "segments": ("data",)}),
        ("drop", {"options": ("DSS",), "after_bytes": 1}),
        ("rewrite", {"times": 3}),
        ("rewrite", {"after_bytes": 20}),
        ("split", {"size_bytes": 5}),
        ("split", {"size_bytes": 7}),
        ("merge", {"size_bytes": 20}),
        ("merge", {"size_bytes": 35}),
        ("randomise-sequence", {}),
        ("firewall", {}),
    ],
)
def test_a_train_is_treated_as_its_packets(kind: str, plan: dict[str, Any]) -> None:
    content = bytes(range(95))

    def train() -> Segment:
        return segment(
            ACK | FIN, content, segment_size_bytes=10, seq=0xFFFF_FFF0, mptcp=(mapping(95),)
        )

    whole, single = box(kind, **plan), box(kind, **plan)
    for each in (whole, single):
        each.forward(segment(SYN, seq=0xFFFF_FFEF), True, 0)
    together = whole.forward(train(), True, 1)
    apart = [out for packet in packets_of(train()) for out in single.forward(packet, True, 1)]
    assert texts(together) == texts(apart)
    assert whole.tallies[True].as_dict() == single.tallies[True].as_dict()


def test_a_train_of_acks_is_treated_as_its_packets() -> None:
    drop = box("drop", segments=("ACK",), times=2)
    acks = answer(ACK, ack=3000)
    acks.ack_count, acks.ack_step_bytes = 4, 500
    acks.mptcp = (mapping(0).with_data_ack(9000),)
    left = drop.forward(acks, False, 0)
    assert [each.ack for each in left] == [2500, 3000]
    assert [each.mptcp[0].data_ack for each in left] == [8500, 9000]  # type: ignore[attr-defined]
