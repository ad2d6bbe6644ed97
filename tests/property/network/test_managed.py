"""What holds for every channel with a managed queue, whatever is offered and however it changes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.search import cases

from mptcplab.loop import NEVER
from mptcplab.network.counters import ChannelCounters
from mptcplab.network.impairments import CapacityTrace, JitterDistribution
from mptcplab.network.managed import ManagedChannel
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece

RATES = st.integers(100_000, 10**9)

PARAMETERS = st.builds(
    ChannelParameters,
    rate_bps=st.none() | st.just(0) | RATES,
    delay_ns=st.integers(0, 10**8),
    jitter_ns=st.just(0) | st.integers(0, 10**7),
    jitter_distribution=st.sampled_from(JitterDistribution),
    jitter_reorders=st.sampled_from([False, False, True]),
    reorder=st.sampled_from([0.0, 0.0, 0.1, 1.0]),
    loss=st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0]),
    duplicate=st.sampled_from([0.0, 0.0, 0.1, 1.0]),
    corrupt=st.sampled_from([0.0, 0.0, 0.1, 1.0]),
    queue_bytes=st.none() | st.integers(9014, 300_000),
    queue_packets=st.integers(1, 100),
    overhead_bytes=st.sampled_from([0, 24, -14]),
    up=st.sampled_from([True, True, True, False]),
    trace=st.none()
    | st.builds(
        lambda rates: CapacityTrace(
            tuple((n * 1_000_000, rate) for n, rate in enumerate(rates)), len(rates) * 1_000_000
        ),
        st.lists(st.just(0) | RATES, min_size=1, max_size=5),
    ),
)

OFFERS = st.tuples(
    st.integers(0, 3_000_000),  # after the one before
    st.integers(1, 50),  # packets
    st.integers(60, 9014),  # bytes of each,
    st.integers(60, 9014),  # and of the last one at most
    st.sampled_from([0, 0, 500_000]),  # over so long
    st.none() | PARAMETERS,
)


def classify(item: object) -> int:
    assert isinstance(item, int)
    return item % 3 << 1 | item % 2


def run_to(link: ManagedChannel, until_ns: int, from_ns: int = 0) -> list[tuple[int, Piece]]:
    """Take everything at the link's own deadlines, and nothing before `from_ns`."""
    taken = []
    while (deadline_ns := link.next_deadline_ns()) <= until_ns:
        at_ns = max(deadline_ns, from_ns)
        while (piece := link.take(at_ns)) is not None:
            taken.append((at_ns, piece))
    return taken


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


@pytest.mark.slow
@given(
    st.lists(OFFERS, max_size=30),
    PARAMETERS,
    st.sampled_from(["red", "codel", "fq_codel", "pie"]),
    st.booleans(),
    st.integers(),
)
@settings(max_examples=cases(200))
def test_every_packet_is_delivered_or_counted_once(
    script: list[tuple[int, int, int, int, int, ChannelParameters | None]],
    first: ChannelParameters,
    discipline: str,
    ecn: bool,
    seed: int,
) -> None:
    first = replace(first, discipline=discipline, ecn=ecn)
    link = ManagedChannel(first, Random(seed), 0, classify)
    now_ns = 0
    taken: list[tuple[int, Piece]] = []
    sizes: list[list[int]] = []
    for number, (gap_ns, packets, size, last, spread_ns, change) in enumerate(script):
        taken += run_to(link, now_ns + gap_ns, now_ns)
        now_ns += gap_ns
        if change is not None:
            link.configure(replace(change, discipline=discipline, ecn=ecn), now_ns)
        sizes.append([size] * (packets - 1) + [min(size, last) if packets > 1 else size])
        spread = min(spread_ns, gap_ns) if packets > 1 else 0
        link.offer(number, packets, size, sizes[-1][-1], now_ns, spread)
        conserve(link.read_counters(now_ns), inside=True)
    last_parameters = replace(link.parameters, rate_bps=10**9, trace=None)
    link.configure(last_parameters, now_ns)
    taken += run_to(link, NEVER - 1, now_ns)
    counters = link.read_counters(now_ns + 10**12)
    conserve(counters, inside=False)
    assert counters.queued_packets == 0
    seen = set()
    for at_ns, piece in taken:
        assert piece.arrival_ns <= at_ns
        assert isinstance(piece.item, int)
        assert not piece.marked or (ecn and piece.item % 2 == 1)
        for index in range(piece.first, piece.first + piece.packets):
            assert (piece.item, index) not in seen
            if not piece.is_copy:
                seen.add((piece.item, index))
        expected = sizes[piece.item][piece.first : piece.first + piece.packets]
        assert sum(expected) == piece.frame_bytes
    changes = [change for *_, change in script if change is not None]
    if any(each.jitter_reorders or each.reorder for each in (first, *changes)):
        return
    order = [(piece.item % 3, piece.item, piece.first) for _, piece in taken]  # type: ignore[operator]
    for flow in range(3):
        mine = [place for place in order if place[0] == flow]
        assert mine == sorted(mine)


@given(st.lists(st.tuples(st.integers(0, 300_000), st.integers(60, 1514)), max_size=60), RATES)
@settings(max_examples=cases(100))
def test_packets_leave_as_a_queue_of_single_packets_would_let_them(
    script: list[tuple[int, int]], rate_bps: int
) -> None:
    """Before its first interval is over, CoDel is a FIFO queue."""
    link = ManagedChannel(
        ChannelParameters(rate_bps, queue_packets=10_000, discipline="codel"),
        Random(0),
        0,
        classify,
        piece_ns=0,
    )
    now_ns = 0
    free = 0.0
    expected = []
    arrivals = []
    for gap_ns, size in script:
        arrivals += [piece.arrival_ns for _, piece in run_to(link, now_ns + gap_ns, now_ns)]
        now_ns += gap_ns
        link.offer(1, 1, size, size, now_ns)
        free = max(free, now_ns) + size * 8e9 / rate_bps
        expected.append(free)
        if free - now_ns > 90_000_000:  # an interval, from which on it drops
            return
    arrivals += [piece.arrival_ns for _, piece in run_to(link, NEVER - 1, now_ns)]
    assert len(arrivals) == len(expected)
    for arrival_ns, exact in zip(arrivals, expected, strict=True):
        assert int(arrival_ns) == pytest.approx(exact, abs=2)
