"""Lateness statistics."""

from __future__ import annotations

from tests.times import US

from mptcplab.linux.emulator.reading import Lateness


def test_quantiles_are_upper_bounds_within_one_step() -> None:
    lateness = Lateness()
    for late_us in range(1, 1001):
        lateness.record(late_us * US)
    assert lateness.pieces == 1000
    assert lateness.mean_ns == 500.5 * US
    assert lateness.max_ns == 1000 * US
    for share in (0.5, 0.9, 0.99):
        assert share * 1000 * US <= lateness.quantile_ns(share) <= share * 1000 * US + 10 * US


def test_what_lies_beyond_the_histogram_is_the_maximum() -> None:
    lateness = Lateness()
    lateness.record(70_000 * US)
    assert lateness.quantile_ns(0.5) == 70_000 * US
    assert Lateness().quantile_ns(0.99) == 0


def test_the_difference_of_two_readings() -> None:
    lateness = Lateness()
    lateness.record(15 * US)
    earlier = Lateness(lateness.pieces, lateness.sum_ns, lateness.max_ns, list(lateness.histogram))
    lateness.record(25 * US)
    since = lateness.since(earlier)
    assert (since.pieces, since.sum_ns) == (1, 25 * US)
    assert since.quantile_ns(1.0) == 25 * US
