"""Where our stack's congestion controls settle over the link model, against the literature.

Every rate is the mean of replications with seeds 1, 2, ... and their 95 % confidence interval
(Student's t); it must reach within a stated fraction of the closed form. That fraction covers
what the forms leave out: windows are whole segments, and a recovery takes a round trip without
growth. ``MPTCPLAB_LONG=1`` runs more and longer replications with narrower fractions, and more
cases; ``python -m bench.equilibria`` measures the tables of docs/validation/congestion.md.
"""

from __future__ import annotations

import os
from functools import cache
from math import sqrt
from statistics import mean

import pytest
from bench.equilibria.closed_forms import (
    LossyPath,
    balia_rates,
    lia_rates,
    olia_rates,
    reno_rate,
)
from bench.equilibria.estimate import Estimate, replicate
from bench.equilibria.paths import MS, Rates, lossy_paths, shared_bottleneck, wifi_and_3g

from mptcplab.network.parameters import ChannelParameters
from mptcplab.simulated.build import TRAINS_PER_WINDOW
from mptcplab.stack.congestion import CONGESTION_CONTROLS

LONG = bool(os.environ.get("MPTCPLAB_LONG"))
REPLICATIONS = 5 if LONG else 3
LOSSES = 600 if LONG else 80
"""That a single TCP on the first path would meet in one replication."""
DURATION_S = 60.0 if LONG else 15.0
"""Of runs over links with a rate."""
FIRST = 0.06 if LONG else 0.10
"""Tolerance beyond the confidence interval for the path that carries most."""
SECOND = 0.20
"""The same for a path that carries little: there a window of few segments, whole ones, fluctuates
more than the mean-field forms know."""

# One process measures all: the tests share what `settled` and `share` have measured.
pytestmark = [pytest.mark.slow, pytest.mark.compiled, pytest.mark.xdist_group("theory")]

Paths = tuple[LossyPath, ...]

EQUAL: Paths = (LossyPath(0.001, 10), LossyPath(0.001, 10))
UNEQUAL: Paths = (LossyPath(0.001, 10), LossyPath(0.004, 10))
GENTLE: Paths = (LossyPath(0.00025, 10), LossyPath(0.001, 10))
CAPPED: Paths = (LossyPath(0.001, 10), LossyPath(0.0001, 100))


def harshness(paths: Paths) -> str:
    """Return an identifier for pytest."""
    return "-".join(f"{path.loss}@{path.rtt_ms}ms" for path in paths)


@cache
def settled(name: str, paths: Paths) -> list[Estimate]:
    """Return segments per second on each path."""
    control = CONGESTION_CONTROLS[name]
    duration_s = LOSSES / (paths[0].loss * reno_rate(paths[0]))

    def run(seed: int) -> list[float]:
        return lossy_paths(control, list(paths), seed, 5, duration_s).segments_per_s[0]

    return replicate(run, REPLICATIONS)


@cache
def share(name: str, subflows: int) -> Estimate:
    """Return what part of a bottleneck a connection takes that it shares with one TCP."""
    link = ChannelParameters(rate_bps=20_000_000, delay_ns=10 * MS, queue_bytes=50_000, loss=0.001)
    duration_s = DURATION_S if LONG else DURATION_S / 2

    def run(seed: int) -> list[float]:
        control = CONGESTION_CONTROLS[name]
        rates = shared_bottleneck(control, subflows, link, seed, 3, duration_s)
        return [rates.total(0) / (rates.total(0) + rates.total(1))]

    return replicate(run, REPLICATIONS)[0]


RARE_LOSS = 0.00005


@cache
def one_path(trains_per_window: int) -> Rates:
    """One TCP on a path that loses one packet in 20,000."""
    control = CONGESTION_CONTROLS["reno"]
    path = LossyPath(RARE_LOSS, 10)
    changes = {"trains_per_window": trains_per_window}
    return lossy_paths(control, [path], 1, 2, DURATION_S / 2, **changes)


@pytest.mark.parametrize("trains_per_window", [0, TRAINS_PER_WINDOW], ids=["packets", "trains"])
def test_random_loss_strikes_each_packet_of_a_train(trains_per_window: int) -> None:
    rates = one_path(trains_per_window)
    counters = rates.wires[0].channel.counters
    expected = RARE_LOSS * int(counters.offered_packets)
    assert abs(int(counters.loss_packets) - expected) < 3.5 * sqrt(expected)
    if trains_per_window == 0:
        assert rates.segments_per_train == pytest.approx(1.0)
    else:
        assert rates.segments_per_train > 4.0


def test_trains_do_not_change_the_rate() -> None:
    assert one_path(TRAINS_PER_WINDOW).total() == pytest.approx(one_path(0).total(), rel=0.05)


@pytest.mark.parametrize(
    "path",
    [
        LossyPath(0.0005, 10),
        LossyPath(0.001, 10),
        LossyPath(0.004, 10),
        LossyPath(0.001, 50),
        *([LossyPath(0.0001, 20), LossyPath(0.002, 100)] if LONG else []),
    ],
    ids=str,
)
def test_newreno_follows_the_loss_law(path: LossyPath) -> None:
    measured = settled("reno", (path,))[0]
    assert measured.agrees(reno_rate(path), FIRST), measured
    assert measured.half_width < 0.35 * measured.mean


@pytest.mark.parametrize("name", ["lia", "olia", "balia"])
def test_two_equal_paths_take_half_each(name: str) -> None:
    first, second = settled(name, EQUAL)
    best = reno_rate(EQUAL[0])
    for measured in (first, second):
        assert measured.agrees(best / 2, SECOND), measured
    total = Estimate(first.mean + second.mean, first.half_width + second.half_width)
    assert total.agrees(best, FIRST), total


@pytest.mark.parametrize("paths", [UNEQUAL, *([GENTLE] if LONG else [])], ids=harshness)
@pytest.mark.parametrize("name", ["lia", "balia"])
def test_a_path_with_four_times_the_loss(name: str, paths: Paths) -> None:
    forms = (lia_rates if name == "lia" else balia_rates)(list(paths))
    first, second = settled(name, paths)
    assert first.agrees(forms[0], FIRST), first
    assert second.agrees(forms[1], SECOND), second


@pytest.mark.parametrize("paths", [UNEQUAL, *([GENTLE] if LONG else [])], ids=harshness)
def test_olia_leaves_the_lossy_path_nearly_alone(paths: Paths) -> None:
    first, second = settled("olia", paths)
    _, lia_second = settled("lia", paths)
    assert first.agrees(olia_rates(list(paths))[0], 0.2), first
    assert second.mean < 0.75 * lia_second.mean
    assert second.mean - second.half_width < 0.16 * first.mean


REFERENCE: dict[tuple[str, Paths], tuple[int, int]] = {
    ("lia", EQUAL): (2254, 2260),
    ("olia", EQUAL): (2081, 2072),
    ("balia", EQUAL): (2195, 2173),
    ("lia", UNEQUAL): (3180, 796),
    ("olia", UNEQUAL): (3384, 449),
    ("balia", UNEQUAL): (3384, 637),
}
"""Segments per second that an independent packet-level simulation gave for the same paths."""


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: f"{case[0]}-{case[1][1].loss}")
def test_against_an_independent_simulation(case: tuple[str, Paths]) -> None:
    expected = REFERENCE[case]
    measured = settled(*case)
    total = Estimate(
        measured[0].mean + measured[1].mean, measured[0].half_width + measured[1].half_width
    )
    assert total.agrees(sum(expected), FIRST), total
    for one, reference in zip(measured, expected, strict=True):
        assert one.agrees(reference, SECOND), one


def test_lia_is_capped_at_tcp_on_a_path_with_a_long_round_trip() -> None:
    first, second = settled("lia", CAPPED)
    forms = lia_rates(list(CAPPED))
    assert forms[1] == pytest.approx(reno_rate(CAPPED[1]))
    assert first.agrees(forms[0], SECOND), first
    assert second.agrees(forms[1], SECOND), second


@pytest.mark.parametrize("name", ["lia", "olia", "balia"])
@pytest.mark.parametrize("paths", [UNEQUAL, *([GENTLE, CAPPED] if LONG else [])], ids=harshness)
def test_goal_1_as_much_as_tcp_on_the_best_path(name: str, paths: Paths) -> None:
    measured = settled(name, paths)
    best = max(settled("reno", (path,))[0].mean for path in paths if path.rtt_ms < 100)
    total = sum(one.mean for one in measured)
    spread = sum(one.half_width for one in measured)
    assert total + spread > (1 - FIRST) * best
    assert total - spread < (1 + SECOND) * best


@pytest.mark.parametrize("name", ["lia", *(["olia", "balia"] if LONG else [])])
def test_goal_2_two_subflows_take_what_one_tcp_does(name: str) -> None:
    measured = share(name, 2)
    assert measured.agrees(0.5, 0.10), measured
    assert measured.mean + 0.05 < share("reno", 2).mean


def test_uncoupled_subflows_take_a_share_each() -> None:
    assert share("reno", 2).agrees(2 / 3, 0.10), share("reno", 2)


@pytest.mark.skipif(not LONG, reason="MPTCPLAB_LONG is not set")
@pytest.mark.parametrize("name", ["lia", "olia", "balia"])
def test_goal_2_four_subflows_take_what_one_tcp_does(name: str) -> None:
    measured = share(name, 4)
    assert measured.agrees(0.5, 0.15), measured


WIFI_ALONE_MBPS = 8.0 * 1360 / 1426
"""Goodput of a full WiFi link: the payload of its frames."""


def test_a_small_buffer_spoils_plain_multipath_and_penalisation_cures_it() -> None:
    """The shape of NSDI 2012, figure 4, with receive buffers of about 200 kB.

    Nothing is random here and each run a cycle of its own, so that one buffer says little.
    """
    plain, repeating, cured = (
        mean(
            wifi_and_3g(m1, m2, buffer_bytes, 1, 10, DURATION_S)
            for buffer_bytes in (180_000, 200_000, 220_000)
        )
        for m1, m2 in ((False, False), (True, False), (True, True))
    )
    assert plain < 0.85 * WIFI_ALONE_MBPS
    assert plain < 1.05 * repeating
    assert cured > WIFI_ALONE_MBPS
