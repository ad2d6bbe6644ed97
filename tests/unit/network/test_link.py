"""The link model, by examples."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from tests.times import MS

from mptcplab.loop import NEVER
from mptcplab.network.drop_tail import DropTailChannel
from mptcplab.network.impairments import CapacityTrace, GilbertElliott, JitterDistribution
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece

FRAME = 1514


def channel(
    parameters: ChannelParameters, *, seed: int = 1, piece_ns: int = 100_000
) -> DropTailChannel:
    return DropTailChannel(parameters, Random(seed), piece_ns=piece_ns)


def drain(link: DropTailChannel, now_ns: int = NEVER - 1) -> list[Piece]:
    pieces = []
    while (piece := link.take(now_ns)) is not None:
        pieces.append(piece)
    return pieces


def test_a_packet_arrives_after_its_serialisation_and_the_delay() -> None:
    link = channel(ChannelParameters(rate_bps=1_000_000_000, delay_ns=5 * MS))
    link.offer("p", 1, FRAME, FRAME, 1000)
    assert link.next_deadline_ns() == 1000 + FRAME * 8 + 5 * MS
    assert link.take(link.next_deadline_ns() - 1) is None
    piece = link.take(link.next_deadline_ns())
    assert piece is not None
    assert (piece.item, piece.first, piece.packets, piece.frame_bytes) == ("p", 0, 1, FRAME)


def test_overhead_is_charged_per_packet_and_not_counted_as_bytes() -> None:
    link = channel(ChannelParameters(rate_bps=1_000_000_000, overhead_bytes=24), piece_ns=MS)
    link.offer("t", 3, FRAME, 100, 0)
    (piece,) = drain(link)
    assert piece.arrival_ns == (2 * FRAME + 100 + 3 * 24) * 8
    assert link.read_counters(NEVER - 1).delivered_bytes == 2 * FRAME + 100


def test_a_long_train_leaves_in_pieces_and_a_short_one_whole() -> None:
    link = channel(ChannelParameters(rate_bps=1_000_000_000))
    link.offer("long", 44, FRAME, 700, 0)
    pieces = drain(link)
    assert [(p.first, p.packets) for p in pieces] == [
        (0, 8),
        (8, 8),
        (16, 8),
        (24, 8),
        (32, 8),
        (40, 4),
    ]
    assert pieces[0].arrival_ns == 8 * FRAME * 8
    assert pieces[-1].arrival_ns == (43 * FRAME + 700) * 8
    fast = channel(ChannelParameters(rate_bps=10_000_000_000))
    fast.offer("whole", 44, FRAME, 700, 0)
    assert [p.packets for p in drain(fast)] == [44]


@pytest.mark.parametrize("rates_bps", [(1, 1), (10, 1), (1, 10), (2, 3), (3, 2)])
@pytest.mark.parametrize("ahead_packets", [0, 1, 20, 60])
def test_a_train_reaches_the_second_link_packet_by_packet(
    rates_bps: tuple[int, int], ahead_packets: int
) -> None:
    first, second = (ChannelParameters(rate_bps=rate * 1_000_000_000) for rate in rates_bps)

    def last_arrival_ns(trains: list[int]) -> int:
        links = [channel(first, piece_ns=MS), channel(second, piece_ns=MS)]
        for index, packets in enumerate(trains):
            links[0].offer(index, packets, FRAME, FRAME, 0)
        if ahead_packets:
            links[1].offer("ahead", ahead_packets, FRAME, FRAME, 0)
        for piece in drain(links[0]):
            links[1].offer(
                piece.item, piece.packets, FRAME, FRAME, piece.arrival_ns, piece.spread_ns
            )
        return drain(links[1])[-1].arrival_ns

    packet_by_packet = last_arrival_ns([1] * 40)
    assert abs(last_arrival_ns([40]) - packet_by_packet) <= 40, "a nanosecond a packet"
    assert abs(last_arrival_ns([15, 25]) - packet_by_packet) <= 40


def test_a_link_that_waits_for_the_packets_of_a_train_is_not_busy_meanwhile() -> None:
    link = channel(ChannelParameters(rate_bps=10_000_000_000), piece_ns=MS)
    link.offer("t", 40, FRAME, FRAME, MS, 39 * FRAME * 8)
    (piece,) = drain(link)
    assert piece.arrival_ns == pytest.approx(MS + FRAME * 8 / 10, abs=1)
    assert piece.spread_ns == pytest.approx(39 * FRAME * 8, rel=1e-3)
    assert link.read_counters(2 * MS).busy_ns == pytest.approx(40 * FRAME * 8 / 10, rel=1e-4)


def test_slow_links_send_packet_by_packet() -> None:
    link = channel(ChannelParameters(rate_bps=10_000_000))
    link.offer("t", 3, FRAME, FRAME, 0)
    assert [p.arrival_ns for p in drain(link)] == [FRAME * 800, FRAME * 1600, FRAME * 2400]


def test_fractions_of_a_nanosecond_do_not_add_up() -> None:
    link = channel(ChannelParameters(rate_bps=999_999_937), piece_ns=1)
    for _ in range(1000):
        link.offer(None, 10, 1513, 1513, 0)
    exact = -(-10_000 * 1513 * 8 * 10**9 // 999_999_937)
    assert drain(link)[-1].arrival_ns == exact


def test_the_queue_takes_what_fits_and_drops_the_tail() -> None:
    link = channel(ChannelParameters(rate_bps=1_000_000, queue_bytes=10 * FRAME + 5))
    assert link.offer("t", 44, FRAME, 700, 0) == 10
    assert link.offer("u", 1, FRAME, FRAME, 0) == 0
    counters = link.read_counters(0)
    assert (counters.queued_packets, counters.queued_bytes) == (10, 10 * FRAME)
    assert (counters.queue_drop_packets, counters.queue_drop_bytes) == (
        35,
        33 * FRAME + 700 + FRAME,
    )
    assert counters.queue_peak_packets == 10


def test_a_packet_keeps_its_place_until_its_last_bit_is_sent() -> None:
    link = channel(ChannelParameters(rate_bps=8_000_000, queue_packets=2), piece_ns=100 * MS)
    assert link.offer("t", 2, 1000, 1000, 0) == 2  # one packet per millisecond
    assert link.offer("u", 1, 1000, 1000, MS - 1) == 0
    assert link.offer("v", 1, 1000, 1000, MS) == 1
    counters = link.read_counters(MS)
    assert (counters.queued_packets, counters.sent_packets) == (2, 1)


def test_a_small_last_packet_fits_where_a_full_one_would_not() -> None:
    link = channel(ChannelParameters(rate_bps=1_000_000, queue_bytes=2 * FRAME + 700))
    assert link.offer("t", 3, FRAME, 700, 0) == 3
    assert link.read_counters(0).queued_bytes == 2 * FRAME + 700


def test_peak_is_reset_to_the_present_occupancy() -> None:
    link = channel(ChannelParameters(rate_bps=8_000_000))
    link.offer("t", 10, 1000, 1000, 0)
    assert link.read_counters(8 * MS, reset_peak=True).queue_peak_bytes == 10_000
    assert link.read_counters(9 * MS).queue_peak_bytes == 2_000


def test_a_lost_packet_takes_its_time_on_the_wire_and_splits_the_train() -> None:
    link = channel(ChannelParameters(rate_bps=1_000_000_000, loss=0.1), piece_ns=MS)
    link.offer("t", 40, FRAME, FRAME, 0)
    pieces = drain(link)
    arrived = [n for p in pieces for n in range(p.first, p.first + p.packets)]
    lost = link.read_counters(NEVER - 1).loss_packets
    assert 0 < lost == 40 - len(arrived)
    assert arrived == sorted(set(arrived))
    for piece in pieces:
        assert piece.arrival_ns == (piece.first + piece.packets) * FRAME * 8


@pytest.mark.parametrize(
    "parameters",
    [
        ChannelParameters(loss=0.02),
        ChannelParameters(burst_loss=GilbertElliott(0.01, 0.3)),
        ChannelParameters(burst_loss=GilbertElliott(0.02, 0.2, 0.6, 0.003)),
    ],
)
def test_the_share_of_lost_packets_is_as_asked(parameters: ChannelParameters) -> None:
    link = channel(parameters)
    packets = 400_000
    for _ in range(packets // 40):
        link.offer(None, 40, FRAME, FRAME, 0)
    drain(link)
    expected = parameters.loss
    if parameters.burst_loss is not None:
        expected = parameters.burst_loss.mean_loss
    lost = link.read_counters(0).loss_packets / packets
    assert lost == pytest.approx(expected, rel=0.05)


def test_losses_of_the_burst_model_come_in_bursts() -> None:
    link = channel(ChannelParameters(burst_loss=GilbertElliott(0.01, 0.25)))
    for n in range(100_000):
        link.offer(n, 1, FRAME, FRAME, 0)
    arrived = [p.item for p in drain(link)]
    gaps = [b - a - 1 for a, b in pairwise(arrived) if b - a > 1]  # type: ignore[operator]
    assert sum(gaps) / len(gaps) == pytest.approx(4.0, rel=0.1)  # 1 / bad_to_good


def test_all_or_nothing_loss() -> None:
    for loss, arrived in ((0.0, 100), (1.0, 0)):
        link = channel(ChannelParameters(rate_bps=1_000_000_000, loss=loss))
        link.offer("t", 100, FRAME, FRAME, 0)
        assert sum(p.packets for p in drain(link)) == arrived


def test_a_new_rate_holds_for_the_bits_not_yet_sent() -> None:
    parameters = ChannelParameters(rate_bps=8_000_000)
    link = channel(parameters)
    link.offer("t", 3, 1000, 1000, 0)
    link.configure(replace(parameters, rate_bps=16_000_000), MS // 2)
    # half a packet at 1 ms per packet, then two and a half at half that
    assert [p.arrival_ns for p in drain(link)] == [750_000, 1_250_000, 1_750_000]
    assert link.read_counters(2 * MS).busy_ns == 1_750_000


def test_a_stopped_link_keeps_its_queue_and_goes_on_where_it_was() -> None:
    parameters = ChannelParameters(rate_bps=8_000_000, queue_packets=3)
    link = channel(parameters)
    link.offer("t", 2, 1000, 1000, 0)
    link.configure(replace(parameters, rate_bps=0), MS // 2)
    assert link.next_deadline_ns() == NEVER
    assert link.backlog_ns(MS) > 10**18
    assert link.offer("u", 2, 1000, 1000, 5 * MS) == 1
    assert drain(link) == []
    link.configure(parameters, 10 * MS)
    assert [p.arrival_ns for p in drain(link)] == [10_500_000, 11_500_000, 12_500_000]
    assert link.read_counters(20 * MS).busy_ns == 3 * MS


def test_from_a_rate_to_none_and_back() -> None:
    parameters = ChannelParameters(rate_bps=8_000_000, delay_ns=MS)
    link = channel(parameters)
    link.offer("t", 5, 1000, 1000, 0)
    link.configure(replace(parameters, rate_bps=None), 2 * MS)
    assert [p.arrival_ns for p in drain(link)] == [2 * MS, 3 * MS, 3 * MS, 3 * MS, 3 * MS]
    link.configure(parameters, 4 * MS)
    link.offer("u", 1, 1000, 1000, 4 * MS)
    assert [p.arrival_ns for p in drain(link)] == [6 * MS]


def test_a_shorter_delay_does_not_reorder_and_a_longer_one_applies_at_once() -> None:
    parameters = ChannelParameters(rate_bps=8_000_000, delay_ns=100 * MS)
    link = channel(parameters)
    link.offer("t", 2, 1000, 1000, 0)
    link.configure(replace(parameters, delay_ns=10 * MS), MS)
    assert [p.arrival_ns for p in drain(link)] == [101 * MS, 101 * MS]
    link.offer("u", 1, 1000, 1000, 200 * MS)
    assert [p.arrival_ns for p in drain(link)] == [211 * MS]
    link.offer("v", 1, 1000, 1000, 300 * MS)
    link.configure(replace(parameters, delay_ns=50 * MS), 300 * MS)
    assert [p.arrival_ns for p in drain(link)] == [351 * MS]


def test_where_reordering_is_allowed_a_shorter_delay_overtakes() -> None:
    parameters = ChannelParameters(delay_ns=100 * MS, jitter_reorders=True)
    link = channel(parameters)
    link.offer("slow", 1, 1000, 1000, 0)
    link.configure(replace(parameters, delay_ns=10 * MS), MS)
    link.offer("fast", 1, 1000, 1000, MS)
    assert [p.item for p in drain(link)] == ["fast", "slow"]


@pytest.mark.slow
@pytest.mark.parametrize("distribution", JitterDistribution)
@pytest.mark.parametrize("reorder", [False, True])
def test_jitter_is_drawn_as_declared(distribution: JitterDistribution, reorder: bool) -> None:
    link = channel(
        ChannelParameters(
            delay_ns=50 * MS,
            jitter_ns=5 * MS,
            jitter_distribution=distribution,
            jitter_reorders=reorder,
        )
    )
    sent = {}
    for n in range(5000):
        sent[n] = n * (100_000 if reorder else 100 * MS)
        link.offer(n, 1, FRAME, FRAME, sent[n])
    pieces = drain(link)
    assert ([p.item for p in pieces] == sorted(sent)) is not reorder
    arrivals = [p.arrival_ns for p in pieces]
    assert arrivals == sorted(arrivals)
    delays = [p.arrival_ns - sent[p.item] for p in pieces]  # type: ignore[index]
    mean = sum(delays) / len(delays)
    deviation = (sum((d - mean) ** 2 for d in delays) / len(delays)) ** 0.5
    assert mean == pytest.approx(50 * MS, rel=0.01)
    if distribution is JitterDistribution.UNIFORM:
        assert min(delays) >= 45 * MS
        assert max(delays) <= 55 * MS
        assert deviation == pytest.approx(10 * MS / 12**0.5, rel=0.05)
    elif distribution is JitterDistribution.NORMAL:
        assert deviation == pytest.approx(5 * MS, rel=0.05)
    else:  # its median is the cube root of 2, its least 1; (mean 3/2, deviation the root of 3/4)
        assert min(delays) >= 50 * MS - 0.5 / 0.75**0.5 * 5 * MS
        median = sorted(delays)[len(delays) // 2]
        later_ns = (2 ** (1 / 3) - 1.5) / 0.75**0.5 * 5 * MS
        assert median == pytest.approx(50 * MS + later_ns, rel=0.01)


def test_a_cut_loses_what_is_inside_and_what_is_offered_but_not_what_has_arrived() -> None:
    parameters = ChannelParameters(rate_bps=8_000_000, delay_ns=2 * MS)
    link = channel(parameters)
    link.offer("t", 5, 1000, 1000, 0)
    down = replace(parameters, up=False)
    link.configure(down, 4 * MS)
    assert link.offer("u", 2, 1000, 1000, 4 * MS) == 0
    assert [p.arrival_ns for p in drain(link)] == [3 * MS, 4 * MS]
    link.configure(parameters, 6 * MS)
    link.offer("v", 1, 1000, 1000, 6 * MS)
    assert [p.arrival_ns for p in drain(link)] == [9 * MS]
    counters = link.read_counters(10 * MS)
    assert counters.offered_packets == 8
    assert counters.delivered_packets == 3
    assert (counters.down_packets, counters.down_bytes) == (5, 5000)
    assert (counters.queued_packets, counters.queued_bytes) == (0, 0)
    assert counters.busy_ns == 5 * MS


def test_capacity_follows_a_trace_exactly_and_repeats_it() -> None:
    trace = CapacityTrace(((0, 8_000_000), (2 * MS, 0), (5 * MS, 16_000_000)), period_ns=6 * MS)
    link = channel(ChannelParameters(trace=trace))
    link.offer("t", 6, 1000, 1000, 0)
    arrivals = []
    while (deadline_ns := link.next_deadline_ns()) != NEVER:
        arrivals += [p.arrival_ns for p in drain(link, deadline_ns)]
    assert arrivals == [MS, 2 * MS, 5 * MS + MS // 2, 6 * MS, 7 * MS, 8 * MS]
    # idle for long, then in the middle of the stop of a later round
    link.offer("u", 1, 1000, 1000, 600 * MS + 3 * MS)
    arrivals = []
    while (deadline_ns := link.next_deadline_ns()) != NEVER:
        arrivals += [p.arrival_ns for p in drain(link, deadline_ns)]
    assert arrivals == [605 * MS + MS // 2]


def test_busy_time_counts_up_to_now() -> None:
    link = channel(ChannelParameters(rate_bps=8_000_000))
    link.offer("t", 4, 1000, 1000, 0)
    assert link.read_counters(MS).busy_ns == MS
    assert link.backlog_ns(MS) == 3 * MS
    assert link.read_counters(10 * MS).busy_ns == 4 * MS


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"rate_bps": -1}, "rate"),
        ({"delay_ns": -1}, "delay"),
        ({"jitter_ns": -1}, "jitter"),
        ({"loss": 1.5}, "loss"),
        ({"loss": 0.1, "burst_loss": GilbertElliott(0.1, 0.1)}, "either"),
        ({"queue_bytes": 0}, "queue"),
        ({"queue_packets": 0}, "queue"),
        ({"overhead_bytes": -15}, "overhead"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(bad: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChannelParameters(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [(), ((1, 5),), ((0, 5), (0, 6)), ((0, -5),)])
def test_traces_that_make_no_sense_are_refused(steps: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="capacity trace"):
        CapacityTrace(steps)
    with pytest.raises(ValueError, match="capacity trace"):
        CapacityTrace(((0, 5), (10, 6)), period_ns=10)


def test_a_spread_train_meets_the_queue_that_each_packet_would() -> None:
    """Two packets fit; the train brings one in the time in which the link sends one."""
    link = DropTailChannel(ChannelParameters(10**9, queue_packets=2), Random(0), piece_ns=0)
    packet_ns = FRAME * 8
    assert link.offer("t", 40, FRAME, FRAME, 39 * packet_ns, 39 * packet_ns) == 40
    at_once = DropTailChannel(ChannelParameters(10**9, queue_packets=2), Random(0), piece_ns=0)
    assert at_once.offer("t", 40, FRAME, FRAME, 39 * packet_ns) == 2
    twice_as_fast = DropTailChannel(
        ChannelParameters(10**9, queue_packets=2), Random(0), piece_ns=0
    )
    spread_ns = 39 * packet_ns // 2
    assert twice_as_fast.offer("t", 40, FRAME, FRAME, spread_ns, spread_ns) == 21


def test_looking_at_a_link_changes_nothing_for_what_is_told_late() -> None:
    taken = []
    for looks in (0, 1):
        link = DropTailChannel(ChannelParameters(8_000_000, queue_packets=5), Random(0))
        assert link.offer("first", 5, 1000, 1000, 0) == 5  # a packet is sent in 1 ms
        for _ in range(looks):
            counters = link.read_counters(5 * MS)
            assert (counters.sent_packets, counters.queued_packets) == (5, 0)
            assert link.backlog_ns(5 * MS) == 0
        taken.append(link.offer("late", 5, 1000, 1000, 5 * MS, 5 * MS))
    assert taken == [4, 4]  # when the first of them came, the queue was full


def test_what_was_sent_before_a_cut_stays_sent() -> None:
    """Half of a piece is out when the link goes down."""
    link = DropTailChannel(ChannelParameters(10**7), Random(0), piece_ns=10**9)
    packet_ns = FRAME * 800
    link.offer("t", 10, FRAME, FRAME, 0)
    middle_ns = 5 * packet_ns + 10
    before = link.read_counters(middle_ns).sent_packets
    link.configure(replace(link.parameters, up=False), middle_ns)
    assert before == 5
    assert link.read_counters(middle_ns + 1).sent_packets == 5
