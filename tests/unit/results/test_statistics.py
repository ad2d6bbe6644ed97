"""Means, margins, tests and fairness, against published tables and values worked out by hand."""

from __future__ import annotations

from random import Random

import pytest

from mptcplab.results.statistics import (
    are_correlated,
    difference,
    estimate,
    holm,
    is_one_observation,
    jain_index,
    t_quantile,
    t_two_sided,
)


def test_one_run_has_no_margin() -> None:
    assert estimate([5.0]).margin is None
    assert estimate([5.0]).mean == 5.0


def test_runs_that_do_not_differ_are_one_observation() -> None:
    assert estimate([5.0, 5.0, 5.0 + 1e-13]).margin is None
    assert is_one_observation([0.0, 0.0])
    assert not is_one_observation([5.0, 5.0001])


def test_the_margin_is_students() -> None:
    # mean 2, standard deviation 1, t(2) = 4.3027: 4.3027 / sqrt(3)
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == pytest.approx(2.0)
    assert found.margin == pytest.approx(2.48414, abs=1e-5)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    # NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2, column 0.975
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228),
     (20, 2.086), (29, 2.045), (30, 2.042), (31, 2.040), (32, 2.037), (40, 2.021), (50, 2.009),
     (60, 2.000), (80, 1.990), (99, 1.984), (100, 1.984)],
)  # fmt: skip
def test_the_quantile_is_the_table_s(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, abs=5.1e-4)


@pytest.mark.parametrize(
    ("freedom", "confidence", "quantile"),
    # the same table: columns 0.90, 0.95, 0.99, 0.999; and its last row, the normal distribution
    [(1, 0.80, 3.078), (5, 0.90, 2.015), (7, 0.98, 2.998), (25, 0.98, 2.485),
     (60, 0.998, 3.232), (100, 0.98, 2.364), (1e7, 0.95, 1.960), (1e7, 0.98, 2.326)],
)  # fmt: skip
def test_other_confidences(freedom: float, confidence: float, quantile: float) -> None:
    assert t_quantile(freedom, confidence) == pytest.approx(quantile, abs=6e-4)


def test_quantile_and_probability_undo_one_another() -> None:
    for freedom in (1, 1.5, 2, 4.7, 30, 31, 1000, 123_456.7):
        assert t_two_sided(t_quantile(freedom), freedom) == pytest.approx(0.05, rel=1e-9)
    assert t_two_sided(0.0, 5) == 1.0
    assert t_two_sided(1.0, 1) == pytest.approx(0.5)  # Cauchy: half of it lies within 1
    assert 0 < t_two_sided(50.0, 30) < 1e-25


def test_no_degrees_of_freedom_have_no_quantile() -> None:
    with pytest.raises(ValueError):
        t_quantile(0)


def test_many_runs_use_their_own_quantile() -> None:
    # 16 times -1 and 16 times 1: variance 32/31, t(31) = 2.0395
    assert estimate([-1.0, 1.0] * 16).margin == pytest.approx(2.0395 / 31**0.5, rel=1e-4)


def test_nothing_to_estimate_is_an_error() -> None:
    with pytest.raises(ValueError):
        estimate([])
    with pytest.raises(ValueError):
        jain_index([])
    with pytest.raises(ValueError):
        difference([1.0], [1.0, 2.0])


def test_pairs_are_used_where_they_have_something_in_common() -> None:
    found = difference([11.0, 21.1, 30.9], [10.0, 20.0, 30.0])
    assert found.method == "paired"
    assert found.mean == pytest.approx(1.0)
    assert found.margin == pytest.approx(0.2484, abs=1e-4)  # 0.1 * 4.303 / sqrt(3)
    assert found.p_value is not None
    assert found.p_value < 0.01


def test_welch_where_seeds_have_nothing_in_common() -> None:
    # Welch's test on two samples of five, worked out by hand: variances 2.5 and 10 over 5 each,
    # t = 3 / sqrt(2.5), degrees of freedom 2.5^2 / (0.5^2 / 4 + 2^2 / 4) = 5.882
    mine, theirs = [1.0, 4.0, 2.0, 5.0, 3.0], [6.0, 2.0, 10.0, 8.0, 4.0]
    assert not are_correlated(mine, theirs)
    found = difference(mine, theirs)
    assert found.method == "Welch"
    assert found.mean == -3.0
    assert found.margin == pytest.approx(t_quantile(5.882) * 2.5**0.5, rel=1e-4)


def test_two_pairs_are_always_on_a_line_and_prove_nothing() -> None:
    assert difference([1.0, 2.0], [3.0, 4.5]).method == "Welch"


def test_what_does_not_vary_is_not_judged() -> None:
    found = difference([1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    assert found.margin is None
    assert found.p_value is None
    assert difference([1.0], [2.0]).margin is None
    one_varies = difference([5.0, 5.0, 5.0], [1.0, 2.0, 3.0])  # a full link against one that is not
    assert one_varies.margin == pytest.approx(2.48414, abs=1e-5)
    assert one_varies.method == "Welch"
    shifted = difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])  # by 1 in each pair, exactly
    assert shifted.margin is not None
    assert shifted.margin > 0


@pytest.mark.parametrize("common", [0.0, 0.9])
def test_equals_are_told_apart_one_time_in_twenty(common: float) -> None:
    """The choice between pairs and Welch's test, made by the data, must not cost the 5 %."""
    random = Random(1)
    trials, told_apart = 3000, 0
    for _ in range(trials):
        shared = [random.gauss() for _ in range(5)]
        mine, theirs = (
            [common * value + (1 - common) * random.gauss() for value in shared] for _ in range(2)
        )
        p_value = difference(mine, theirs).p_value
        told_apart += p_value is not None and p_value < 0.05
    assert 0.02 < told_apart / trials < 0.065


def test_holm_against_its_worked_example() -> None:
    # 4, 3, 2 and 1 times the p-values in their order, never less than the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_jains_index() -> None:
    assert jain_index([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert jain_index([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain_index([2.0, 1.0]) == pytest.approx(0.9)
    assert jain_index([0.0, 0.0]) == 1.0
