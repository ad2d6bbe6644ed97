"""Packets that a wire loses, damages, doubles or lets overtake, on both kinds of channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from tests.times import MS

from mptcplab.loop import NEVER
from mptcplab.network.channel import ChannelModel
from mptcplab.network.link import channel_model
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece

FRAME = 1514
DISCIPLINES = pytest.mark.parametrize("discipline", ["drop-tail", "codel"])
FAST = 10**10


def channel(parameters: ChannelParameters, seed: int = 1) -> ChannelModel:
    return channel_model(parameters, Random(seed), 0, lambda _: 0)


def drain(link: ChannelModel) -> list[Piece]:
    pieces = []
    while (deadline_ns := link.next_deadline_ns()) < NEVER:
        while (piece := link.take(deadline_ns)) is not None:
            pieces.append(piece)
    return pieces


def numbers(pieces: list[Piece], chosen: Callable[[Piece], bool]) -> list[object]:
    """Return the packets of the pieces that are chosen, each by what it was offered as."""
    return [
        (piece.item, index)
        for piece in pieces
        if chosen(piece)
        for index in range(piece.first, piece.first + piece.packets)
    ]


def offered(parameters: ChannelParameters, trains: int = 5000) -> tuple[ChannelModel, list[Piece]]:
    """Offer trains of 20 packets, each after the one before it has left."""
    link = channel(parameters)
    pieces = []
    for number in range(trains):
        link.offer(number, 20, FRAME, FRAME, number * MS)
        pieces += drain(link)
    return link, pieces


@DISCIPLINES
def test_as_many_packets_as_asked_for_meet_each_fate(discipline: str) -> None:
    link, pieces = offered(
        ChannelParameters(
            FAST, 0, discipline=discipline, loss=0.02, corrupt=0.03, duplicate=0.04, reorder=0.05
        )
    )
    counters = link.read_counters(NEVER - 1)
    packets = int(counters.offered_packets)
    kept = packets - int(counters.loss_packets)
    assert int(counters.loss_packets) / packets == pytest.approx(0.02, rel=0.1)
    assert len(numbers(pieces, lambda piece: piece.is_copy)) == counters.duplicate_packets
    assert len(numbers(pieces, lambda piece: piece.corrupt)) == counters.corrupt_packets
    assert int(counters.duplicate_packets) / kept == pytest.approx(0.04, rel=0.1)
    assert int(counters.corrupt_packets) / (kept * 1.04) == pytest.approx(0.03, rel=0.1)
    early = numbers(pieces, lambda piece: piece.early)
    assert len(early) / kept == pytest.approx(0.05, rel=0.1)
    assert counters.delivered_packets == kept + counters.duplicate_packets
    assert counters.delivered_bytes == counters.delivered_packets * FRAME


@DISCIPLINES
def test_the_same_packets_are_lost_whatever_else_happens(discipline: str) -> None:
    plain = ChannelParameters(FAST, 0, discipline=discipline, loss=0.02)
    others = replace(plain, corrupt=0.1, duplicate=0.1, reorder=0.1)
    arrived = [
        numbers(offered(each, 500)[1], lambda piece: not piece.is_copy) for each in (plain, others)
    ]
    assert sorted(arrived[0], key=str) == sorted(arrived[1], key=str)
    assert len(arrived[0]) < 9900


@DISCIPLINES
def test_both_copies_of_a_packet_arrive_when_it_does(discipline: str) -> None:
    link = channel(ChannelParameters(8_000_000, 5 * MS, discipline=discipline, duplicate=1.0))
    link.offer("train", 2, 1000, 1000, 0)
    arrivals = [(piece.first, piece.arrival_ns, piece.is_copy) for piece in drain(link)]
    assert arrivals == [
        (0, 6 * MS, True),
        (0, 6 * MS, False),
        (1, 7 * MS, True),
        (1, 7 * MS, False),
    ]


@DISCIPLINES
def test_an_early_packet_overtakes_by_the_delay_and_the_others_keep_their_order(
    discipline: str,
) -> None:
    parameters = ChannelParameters(8_000_000, 5 * MS, discipline=discipline, reorder=0.3)
    link = channel(parameters)
    for number in range(100):
        link.offer(number, 1, 1000, 1000, number * MS)
    pieces = drain(link)
    arrivals = [piece.arrival_ns for piece in pieces]
    assert arrivals == sorted(arrivals)
    for piece in pieces:
        assert isinstance(piece.item, int)
        assert piece.arrival_ns == (piece.item + (1 if piece.early else 6)) * MS
    early = [piece.item for piece in pieces if piece.early]
    assert 15 < len(early) < 45
    late = [piece.end_ns for piece in pieces if not piece.early]
    assert late == sorted(late)


@DISCIPLINES
def test_what_a_wire_does_may_change_and_end(discipline: str) -> None:
    parameters = ChannelParameters(FAST, 0, discipline=discipline)
    link = channel(parameters)
    for corrupt, duplicate, found in ((0.0, 0.0, 0), (1.0, 0.0, 20), (1.0, 1.0, 40), (0.0, 0.0, 0)):
        before = link.read_counters(0).corrupt_packets
        link.configure(replace(parameters, corrupt=corrupt, duplicate=duplicate), 0)
        link.offer("train", 20, FRAME, FRAME, 0)
        drain(link)
        assert link.read_counters(0).corrupt_packets - before == found


@DISCIPLINES
def test_a_cut_loses_a_packet_to_be_doubled_once(discipline: str) -> None:
    parameters = ChannelParameters(8_000_000, 5 * MS, discipline=discipline, duplicate=1.0)
    link = channel(parameters)
    link.offer("train", 3, 1000, 1000, 0)
    link.take(MS)
    link.configure(replace(parameters, up=False), 4 * MS)
    assert drain(link) == []
    assert link.read_counters(5 * MS).down_packets == 3


@DISCIPLINES
def test_a_rate_that_changes_moves_early_packets_too(discipline: str) -> None:
    parameters = ChannelParameters(8_000_000, 5 * MS, discipline=discipline, reorder=1.0)
    link = channel(parameters)
    link.offer("train", 3, 1000, 1000, 0)
    link.configure(replace(parameters, rate_bps=4_000_000), MS // 2)
    assert [piece.arrival_ns for piece in drain(link)] == [3 * MS // 2, 7 * MS // 2, 11 * MS // 2]


@pytest.mark.parametrize("name", ["corrupt", "duplicate", "reorder"])
def test_a_probability_beyond_1_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a probability from 0 to 1"):
        ChannelParameters(**{name: 1.5})  # type: ignore[arg-type]


@DISCIPLINES
def test_the_packets_of_a_list_are_lost_counted_from_when_it_is_set(discipline: str) -> None:
    parameters = ChannelParameters(FAST, 0, discipline=discipline)
    link = channel(parameters)
    link.offer("before", 3, FRAME, FRAME, 0)
    pieces = drain(link)
    link.configure(replace(parameters, lost_packets=(7, 0, 5)), MS)
    link.offer("first", 6, FRAME, FRAME, 2 * MS)
    link.offer("second", 6, FRAME, FRAME, 2 * MS)
    pieces += drain(link)
    assert numbers(pieces, lambda _: True) == [
        *(("before", index) for index in range(3)),
        *(("first", index) for index in (1, 2, 3, 4)),
        *(("second", index) for index in (0, 2, 3, 4, 5)),
    ]
    assert link.counters.loss_packets == 3
