"""Channels with managed queues: what each discipline does, on a link in virtual time."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from tests.times import MS, SECOND

from mptcplab.loop import NEVER
from mptcplab.network.managed import ManagedChannel
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece
from mptcplab.network.topology import RedThresholds

FRAME = 1514
PACKET_NS = FRAME * 800
"""At 10 Mb/s."""


def channel(parameters: ChannelParameters, seed: int = 0, flows: int = 1) -> ManagedChannel:
    """Return a channel in which what is offered is a number, and belongs to a flow by it.

    Even numbers are ECN-capable.
    """

    def classify(item: object) -> int:
        assert isinstance(item, int)
        return item % flows << 1 | (item % 2 == 0)

    return ManagedChannel(parameters, Random(seed), 0, classify)


def drain(link: ManagedChannel, now_ns: int = NEVER - 1) -> list[Piece]:
    pieces = []
    while (deadline_ns := link.next_deadline_ns()) <= now_ns:
        while (piece := link.take(deadline_ns)) is not None:
            pieces.append(piece)
    return pieces


def offer_at(link: ManagedChannel, load: float, packets: int, train: int) -> int:
    """Offer trains at `load` times what a link of 100 Mb/s sends; return how many were taken."""
    gap_ns = round(train * FRAME * 80 / load)
    taken = 0
    for number in range(packets // train):
        taken += link.offer(number, train, FRAME, FRAME, number * gap_ns)
        drain(link, number * gap_ns)
    return taken


RED = ChannelParameters(rate_bps=100_000_000, queue_packets=120, discipline="red")


def test_early_detection_lets_pass_what_the_link_carries() -> None:
    link = channel(RED)
    assert offer_at(link, 0.9, 5000, 1) == 5000


def test_early_detection_drops_before_the_queue_is_full_and_its_gaps_are_spread() -> None:
    link = channel(RED)
    taken = offer_at(link, 1.05, 20_000, 1)
    counters = link.read_counters(20_000 * FRAME * 80)
    assert 20 < counters.queue_peak_packets < 120
    assert 20_000 - taken == counters.queue_drop_packets
    assert counters.queue_drop_packets / 20_000 == pytest.approx(0.05 / 1.05, rel=0.1)


def test_early_detection_takes_packets_out_of_the_middle_of_a_train() -> None:
    link = channel(RED)
    gap_ns = round(20 * FRAME * 80 / 1.2)
    pieces = []
    for number in range(500):
        link.offer(number, 20, FRAME, 700, number * gap_ns)
        pieces += drain(link, number * gap_ns)
    pieces += drain(link)
    found = [piece.item for piece in pieces for _ in range(piece.packets)]
    counters = link.read_counters(NEVER - 1)
    assert len(found) == counters.delivered_packets == 10_000 - counters.queue_drop_packets
    assert any(
        after.item == before.item and after.first > before.first + before.packets
        for before, after in pairwise(pieces)
    )
    lasts = [piece for piece in pieces if piece.first + piece.packets == 20]
    assert all(piece.frame_bytes == (piece.packets - 1) * FRAME + 700 for piece in lasts)


def test_early_detection_needs_a_limit() -> None:
    with pytest.raises(ValueError, match="early detection: expected a queue with a limit"):
        ChannelParameters(rate_bps=1, discipline="red")


def average_queue(red: RedThresholds, load: float) -> float:
    """Packets waiting, on average, while packets come at so many times the link's rate."""
    link = channel(ChannelParameters(10**7, queue_packets=100, discipline="red", red=red), seed=1)
    packet_ns = FRAME * 8 * 100
    waiting = 0
    for number in range(20_000):
        now_ns = int(number * packet_ns / load)
        link.offer(number, 1, FRAME, FRAME, now_ns)
        drain(link, now_ns)
        if number >= 10_000:
            waiting += link.read_counters(now_ns).queued_packets
    return waiting / 10_000


def test_early_detection_keeps_the_queue_between_its_thresholds() -> None:
    """Five packets in a hundred are too many: between the thresholds half of max_p drops them."""
    assert 25 < average_queue(RedThresholds(0.2, 0.4, 0.1), 1.05) < 38
    assert 45 < average_queue(RedThresholds(0.4, 0.8, 0.1), 1.05) < 76
    assert average_queue(RedThresholds(0.2, 0.4, 0.5), 1.05) < 26


@pytest.mark.parametrize("discipline", ["red", "codel", "fq_codel", "pie"])
def test_a_link_that_is_not_full_lets_everything_pass_in_order(discipline: str) -> None:
    link = channel(ChannelParameters(10**7, queue_packets=1000, discipline=discipline))
    pieces = []
    for number in range(2000):
        assert link.offer(number, 1, FRAME, FRAME, number * PACKET_NS) == 1
        pieces += drain(link, number * PACKET_NS)
    pieces += drain(link)
    assert [piece.item for piece in pieces] == list(range(2000))
    assert [piece.arrival_ns for piece in pieces] == [n * PACKET_NS for n in range(1, 2001)]


def test_a_train_stays_together_and_says_over_what_time_it_comes() -> None:
    link = channel(ChannelParameters(10**7, delay_ns=MS, discipline="codel"))
    link.offer(1, 10, FRAME, 700, 0, 0, 10)
    [piece] = drain(link)
    assert (piece.first, piece.packets, piece.frame_bytes) == (0, 10, 9 * FRAME + 700)
    assert piece.arrival_ns == 9 * PACKET_NS + 700 * 800 + MS
    assert piece.spread_ns == 8 * PACKET_NS + 700 * 800


def overloaded(parameters: ChannelParameters, seconds: int, load: float = 1.2) -> ManagedChannel:
    """Offer packets at so many times the rate of 10 Mb/s."""
    link = channel(parameters)
    for number in range(int(seconds * SECOND / PACKET_NS * load)):
        at_ns = int(number * PACKET_NS / load)
        link.offer(2 * number, 1, FRAME, FRAME, at_ns)
        drain(link, at_ns)
    return link


def test_codel_drops_first_after_an_interval_and_then_faster_and_faster() -> None:
    """A queue that grows by 0.2 s a second is above 5 ms from 25 ms on (RFC 8289 section 5)."""
    link = channel(ChannelParameters(10**7, discipline="codel"))
    drops_ns = []
    before = 0
    for number in range(6000):
        at_ns = int(number * PACKET_NS / 1.2)
        link.offer(1, 1, FRAME, FRAME, at_ns)
        drain(link, at_ns)
        now = link.counters.queue_drop_packets
        drops_ns += [at_ns] * (now - before)
        before = now
    assert drops_ns[0] / MS == pytest.approx(130, abs=5)
    gaps = [(later - sooner) / MS for sooner, later in pairwise(drops_ns[:8])]
    for count, gap in enumerate(gaps, 1):
        assert gap == pytest.approx(100 / count**0.5, abs=2.5)


def test_codel_marks_what_is_capable_in_the_place_of_dropping_it() -> None:
    parameters = ChannelParameters(10**7, discipline="codel", ecn=True)
    link = overloaded(parameters, 2)
    assert link.counters.queue_drop_packets == 0
    assert link.counters.mark_packets > 10
    link = channel(parameters)
    for number in range(4000):
        at_ns = int(number * PACKET_NS / 1.2)
        link.offer(2 * number + 1, 1, FRAME, FRAME, at_ns)
        drain(link, at_ns)
    assert link.counters.mark_packets == 0
    assert link.counters.queue_drop_packets > 10


def test_marked_packets_come_as_pieces_of_their_own() -> None:
    link = channel(ChannelParameters(10**7, discipline="codel", ecn=True))
    pieces = []
    for number in range(400):
        at_ns = int(number * 10 * PACKET_NS / 1.2)
        link.offer(2 * number, 10, FRAME, FRAME, at_ns, 0, 10)
        pieces += drain(link, at_ns)
    pieces += drain(link)
    assert sum(piece.packets for piece in pieces if piece.marked) == link.counters.mark_packets > 0
    assert sum(piece.packets for piece in pieces) == 4000


def test_fq_codel_shares_a_link_evenly_and_serves_a_new_flow_at_once() -> None:
    link = channel(ChannelParameters(10**7, discipline="fq_codel"), flows=2)
    sent = {0: 0, 1: 0}
    waited: list[int] = []
    for number in range(4000):
        at_ns = int(number * PACKET_NS / 1.5)
        link.offer(0, 1, FRAME, FRAME, at_ns)  # one and a half times the link
        if number % 30 == 0:  # a twentieth of it
            link.offer(1, 1, 100, 100, at_ns)
        for piece in drain(link, at_ns):
            sent[int(str(piece.item))] += piece.packets
            if piece.item == 1:
                waited.append(piece.arrival_ns)
    assert sent[1] >= 4000 // 30 - 1
    offered = [int(number * PACKET_NS / 1.5) for number in range(0, 4000, 30)]
    delays = [came - left for came, left in zip(waited, offered, strict=False)]
    assert max(delays) <= 2 * PACKET_NS  # behind what is being sent, and one frame of the other


def test_fq_codel_at_its_limit_drops_from_the_longest_queue() -> None:
    link = channel(ChannelParameters(10**8, discipline="fq_codel", queue_packets=200), flows=2)
    link.offer(1, 20, FRAME, FRAME, 0)
    link.offer(0, 300, FRAME, FRAME, 0)
    kept = {0: 0, 1: 0}
    for piece in drain(link):
        kept[int(str(piece.item))] += piece.packets
    assert kept[1] == 20
    assert 100 <= kept[0] <= 200


@pytest.mark.parametrize(("discipline", "delay_ms"), [("codel", 60), ("pie", 35)])
def test_the_delay_comes_down_under_a_moderate_overload(discipline: str, delay_ms: float) -> None:
    """2 % too much: without a discipline the queue would hold 1,000 packets, 1.2 s."""
    link = overloaded(
        ChannelParameters(10**7, queue_packets=1000, discipline=discipline), 60, load=1.02
    )
    now_ns = 60 * SECOND
    waiting_ns: int = link.read_counters(now_ns).queued_packets * PACKET_NS
    assert waiting_ns < delay_ms * MS


def test_pie_lets_a_burst_pass() -> None:
    """150 ms at most after a rest (RFC 8033 section 4.4)."""
    link = channel(ChannelParameters(10**7, discipline="pie", queue_packets=1000))
    assert link.offer(1, 100, FRAME, FRAME, 0) == 100


def test_a_channel_keeps_its_kind() -> None:
    link = channel(ChannelParameters(10**7, discipline="codel"))
    with pytest.raises(ValueError, match="keeps the kind"):
        link.configure(ChannelParameters(10**7, discipline="pie"), 0)


def test_ecn_needs_a_managed_queue() -> None:
    with pytest.raises(ValueError, match="a drop-tail queue marks nothing"):
        ChannelParameters(ecn=True)
