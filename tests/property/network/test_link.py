"""What holds for every link, whatever is offered and however it is changed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.search import cases
from tests.times import SECOND

from mptcplab.loop import NEVER
from mptcplab.network.counters import ChannelCounters
from mptcplab.network.drop_tail import DropTailChannel
from mptcplab.network.impairments import CapacityTrace, JitterDistribution
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece


@dataclass(frozen=True)
class Offer:
    """A train, and how long after the one before it comes."""

    gap_ns: int
    packets: int
    packet_bytes: int
    last_bytes: int

    @property
    def sizes(self) -> list[int]:
        return [self.packet_bytes] * (self.packets - 1) + [self.last_bytes]


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    packets = draw(st.integers(1, 50))
    packet_bytes = draw(st.integers(60, 9014))
    last_bytes = draw(st.integers(60, packet_bytes)) if packets > 1 else packet_bytes
    return Offer(draw(st.integers(0, 3_000_000)), packets, packet_bytes, last_bytes)


rates = st.integers(100_000, 20 * 10**9)
limits = st.none() | st.integers(9014, 300_000)
packet_limits = st.none() | st.integers(1, 100)
parameters = st.builds(
    ChannelParameters,
    rate_bps=st.none() | st.just(0) | rates,
    delay_ns=st.integers(0, 10**8),
    jitter_ns=st.just(0) | st.integers(0, 10**7),
    jitter_reorders=st.booleans(),
    jitter_distribution=st.sampled_from(JitterDistribution),
    reorder=st.sampled_from([0.0, 0.0, 0.1]),
    duplicate=st.sampled_from([0.0, 0.0, 0.1, 1.0]),
    corrupt=st.sampled_from([0.0, 0.0, 0.1]),
    loss=st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0]),
    queue_bytes=limits,
    queue_packets=packet_limits,
    overhead_bytes=st.sampled_from([0, 24, -14, 4]),
    up=st.sampled_from([True, True, True, False]),
    trace=st.none()
    | st.builds(
        lambda rates, period: CapacityTrace(
            tuple((n * 1_000_000, rate) for n, rate in enumerate(rates)),
            len(rates) * 1_000_000 if period else None,
        ),
        st.lists(st.just(0) | rates, min_size=1, max_size=5),
        st.booleans(),
    ),
)


def drain(link: DropTailChannel, now_ns: int) -> list[Piece]:
    pieces = []
    while (piece := link.take(now_ns)) is not None:
        pieces.append(piece)
    return pieces


def run_to(link: DropTailChannel, until_ns: int, from_ns: int = 0) -> list[tuple[int, Piece]]:
    """Take everything at the link's own deadlines, and nothing before `from_ns`."""
    taken = []
    while (deadline_ns := link.next_deadline_ns()) <= until_ns:
        at_ns = max(deadline_ns, from_ns)
        taken += [(at_ns, piece) for piece in drain(link, at_ns)]
    return taken


scripts = st.lists(st.tuples(offers(), st.none() | parameters), max_size=30)
lateness = st.sampled_from([0, 0, 1000, 2_000_000])


STOPPED = ChannelParameters(rate_bps=None, trace=CapacityTrace(((0, 0),), None))
SMALL = Offer(0, 1, 60, 60)


# A packet waits at rate 0 until the link has no rate any more; told late of the next one, the link
# sent that one before it.
@pytest.mark.slow
@example([(SMALL, None), (replace(SMALL, gap_ns=1), ChannelParameters())], STOPPED, 0, 1000)
@given(scripts, parameters, st.integers(), lateness)
@settings(max_examples=cases(150))
def test_every_packet_is_delivered_or_counted_and_trains_come_out_as_they_went_in(
    script: list[tuple[Offer, ChannelParameters | None]],
    first: ChannelParameters,
    seed: int,
    late_ns: int,
) -> None:
    link = DropTailChannel(first, Random(seed))
    now_ns = offered_ns = 0
    taken: list[tuple[int, Piece]] = []
    for number, (offer, change) in enumerate(script):
        taken += run_to(link, now_ns + offer.gap_ns, now_ns)
        now_ns += offer.gap_ns
        if change is not None:
            link.configure(change, now_ns)
        offered_ns = max(offered_ns, now_ns - late_ns)
        link.offer(number, offer.packets, offer.packet_bytes, offer.last_bytes, offered_ns)
        conserve(link.read_counters(now_ns), inside=True)
    last = script[-1][1] if script else None
    link.configure(replace(last or first, rate_bps=10**9, trace=None), now_ns)
    taken += run_to(link, NEVER - 1, now_ns)
    conserve(link.read_counters(now_ns + 10**12), inside=False)
    seen = set()
    for at_ns, piece in taken:
        assert piece.arrival_ns <= at_ns <= piece.arrival_ns + late_ns
        assert isinstance(piece.item, int)
        for index in range(piece.first, piece.first + piece.packets):
            assert (piece.item, index) not in seen
            if not piece.is_copy:
                seen.add((piece.item, index))
        sizes = script[piece.item][0].sizes[piece.first : piece.first + piece.packets]
        assert sum(sizes) == piece.frame_bytes
    if not any(overtakes(each) for each in (first, *(change for _, change in script))):
        order = [(piece.item, piece.first) for _, piece in taken]
        assert order == sorted(order)


def overtakes(parameters: ChannelParameters | None) -> bool:
    """Say whether a link may let packets overtake one another."""
    return parameters is not None and bool(parameters.jitter_reorders or parameters.reorder)


def conserve(counters: ChannelCounters, *, inside: bool) -> None:
    for unit in ("packets", "bytes"):
        gone = sum(
            getattr(counters, f"{cause}_{unit}")
            for cause in ("delivered", "queue_drop", "loss", "down")
        )
        offered = getattr(counters, f"offered_{unit}")
        gone -= getattr(counters, f"duplicate_{unit}")
        assert gone <= offered if inside else gone == offered
        assert 0 <= getattr(counters, f"queued_{unit}") <= offered
    assert counters.busy_ns >= 0


class OneByOne:
    """The reference: a queue that looks at single packets, in exact fractions."""

    def __init__(self, parameters: ChannelParameters) -> None:
        self.rate = Fraction(parameters.rate_bps or 0, SECOND * 8)  # bytes a nanosecond
        self.parameters = parameters
        self.queue: deque[tuple[Fraction, int]] = deque()  # when each is sent, and its bytes
        self.free = Fraction(0)

    def offer(self, offer: Offer, now_ns: int, spread_ns: int = 0) -> dict[int, Fraction]:
        """When each packet that fits is sent, by its place in the train."""
        sent = {}
        for index, size in enumerate(offer.sizes):
            at_ns = now_ns - spread_ns
            if index:
                at_ns += spread_ns * index // (offer.packets - 1)
            while self.queue and self.queue[0][0] <= at_ns:
                self.queue.popleft()
            limit_bytes = self.parameters.queue_bytes or NEVER
            limit_packets = self.parameters.queue_packets or NEVER
            if sum(b for _, b in self.queue) + size > limit_bytes:
                continue
            if len(self.queue) + 1 > limit_packets:
                continue
            wire_bytes = size + self.parameters.overhead_bytes
            self.free = max(self.free, Fraction(at_ns)) + wire_bytes / self.rate
            self.queue.append((self.free, size))
            sent[index] = self.free
        while self.queue and self.queue[0][0] <= now_ns:
            self.queue.popleft()
        return sent


finite = st.builds(
    ChannelParameters,
    rate_bps=rates,
    delay_ns=st.integers(0, 10**8),
    queue_bytes=limits,
    queue_packets=packet_limits,
    overhead_bytes=st.sampled_from([0, 24]),
)


@pytest.mark.slow
@given(st.lists(offers(), min_size=1, max_size=40), finite, st.sampled_from([1, 100_000, 10**9]))
@settings(max_examples=cases(150))
def test_trains_fare_as_their_packets_would_one_by_one(
    script: list[Offer], asked: ChannelParameters, piece_ns: int
) -> None:
    link = DropTailChannel(asked, Random(0), piece_ns=piece_ns)
    reference = OneByOne(asked)
    now_ns = 0
    expected: dict[tuple[int, int], Fraction] = {}
    for number, offer in enumerate(script):
        now_ns += offer.gap_ns
        sent = reference.offer(offer, now_ns)
        taken = link.offer(number, offer.packets, offer.packet_bytes, offer.last_bytes, now_ns)
        assert taken == len(sent)
        counters = link.read_counters(now_ns)
        assert counters.queued_packets == len(reference.queue)
        assert counters.queued_bytes == sum(size for _, size in reference.queue)
        expected |= {(number, index): end for index, end in sent.items()}
    for _, piece in run_to(link, NEVER - 1):
        assert isinstance(piece.item, int)
        ends = [
            expected.pop((piece.item, index))
            for index in range(piece.first, piece.first + piece.packets)
        ]
        # exact for the piece's last packet, at most a nanosecond late, and never early
        assert 0 <= piece.arrival_ns - asked.delay_ns - ends[-1] < 1
        assert len(ends) == 1 or ends[-1] - ends[0] <= piece_ns
    assert not expected


spreads = st.sampled_from([0, 1_000, 50_000, 1_000_000, 20_000_000])


@pytest.mark.slow
@given(
    st.lists(st.tuples(offers(), spreads), min_size=1, max_size=40),
    finite,
    st.sampled_from([1, 100_000, 10**9]),
)
@settings(max_examples=cases(150))
def test_spread_trains_fare_as_their_packets_would_one_by_one(
    script: list[tuple[Offer, int]], asked: ChannelParameters, piece_ns: int
) -> None:
    """To the packet, but for those that come in the nanoseconds in which another one leaves."""
    link = DropTailChannel(asked, Random(0), piece_ns=piece_ns)
    reference = OneByOne(asked)
    now_ns = 0
    offered = taken = expected = 0
    for number, (offer, spread_ns) in enumerate(script):
        spread_ns = spread_ns if offer.packets > 1 else 0
        now_ns += offer.gap_ns + spread_ns
        expected += len(reference.offer(offer, now_ns, spread_ns))
        taken += link.offer(
            number, offer.packets, offer.packet_bytes, offer.last_bytes, now_ns, spread_ns
        )
        offered += offer.packets
    assert abs(taken - expected) <= len(script)
    last_ns = max((piece.arrival_ns for _, piece in run_to(link, NEVER - 1)), default=0)
    if taken == expected and taken:  # the end of a train that comes as fast as it leaves
        longest = Fraction(9014 + asked.overhead_bytes) / reference.rate
        assert abs(last_ns - asked.delay_ns - reference.free) <= longest + 2 * offered


@pytest.mark.slow
@given(st.lists(offers(), min_size=1, max_size=40), finite, st.integers(10**5, 10**10))
@settings(max_examples=cases(100))
def test_the_rate_is_not_exceeded_over_any_window(
    script: list[Offer], asked: ChannelParameters, second_rate: int
) -> None:
    link = DropTailChannel(asked, Random(0), piece_ns=1)
    now_ns = 0
    for number, offer in enumerate(script):
        now_ns += offer.gap_ns
        if number == len(script) // 2:
            asked = replace(asked, rate_bps=max(second_rate, asked.rate_bps or 0))
            link.configure(asked, now_ns)
        link.offer(number, offer.packets, offer.packet_bytes, offer.last_bytes, now_ns)
    pieces = [piece for _, piece in run_to(link, NEVER - 1)]
    sent = 0
    marks = []  # bytes of the wire sent before, at, each arrival
    for piece in pieces:
        size = piece.frame_bytes + piece.packets * asked.overhead_bytes
        sent += size
        marks.append((piece.arrival_ns, sent))
    for (earlier_ns, before), (later_ns, after) in pairwise(marks):
        assert (after - before) * 8 * SECOND <= (later_ns - earlier_ns + 1) * (asked.rate_bps or 0)


@pytest.mark.slow
@given(st.lists(offers(), max_size=20), parameters, st.integers())
@settings(max_examples=cases(50))
def test_equal_seeds_give_equal_links(
    script: list[Offer], asked: ChannelParameters, seed: int
) -> None:
    def run() -> list[tuple[object, ...]]:
        link = DropTailChannel(replace(asked, up=True), Random(seed))
        now_ns = 0
        for number, offer in enumerate(script):
            now_ns += offer.gap_ns
            link.offer(number, offer.packets, offer.packet_bytes, offer.last_bytes, now_ns)
        link.configure(replace(asked, rate_bps=None, trace=None), now_ns)
        return [(p.item, p.first, p.packets, p.arrival_ns) for p in drain(link, NEVER - 1)]

    assert run() == run()
