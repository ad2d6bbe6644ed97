"""Means, margins and fairness, against values worked out by hand."""

from __future__ import annotations

import pytest

from mptcplab.results.statistics import estimate, jain_index


def test_one_run_has_no_margin() -> None:
    assert estimate([5.0]).margin is None
    assert estimate([5.0]).mean == 5.0


def test_the_margin_is_students() -> None:
    # mean 2, standard deviation 1, t(2) = 4.303: 4.303 / sqrt(3)
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == pytest.approx(2.0)
    assert found.margin == pytest.approx(2.4843, abs=1e-4)


def test_many_runs_use_the_normal_distribution() -> None:
    # 50 times -1 and 50 times 1: variance 100/99, margin 1.96 * sqrt(100/99/100)
    assert estimate([-1.0, 1.0] * 50).margin == pytest.approx(0.19699, abs=1e-5)


def test_nothing_to_estimate_is_an_error() -> None:
    with pytest.raises(ValueError):
        estimate([])
    with pytest.raises(ValueError):
        jain_index([])


def test_jains_index() -> None:
    assert jain_index([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert jain_index([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain_index([2.0, 1.0]) == pytest.approx(0.9)
    assert jain_index([0.0, 0.0]) == 1.0
