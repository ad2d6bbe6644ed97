"""Variants are judged by the differences within pairs of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.report.comparison import (
    Quantity,
    Result,
    compared,
    draw_comparison,
    measured,
)
from mptcplab.report.differences import percent_text
from mptcplab.results.run import Run

GOODPUT = Quantity("goodput of main", False)
TIME = Quantity("time of main", True)

Runs = list[dict[Quantity, float | None]]


def runs(quantity: Quantity, *values: float | None) -> Runs:
    return [{quantity: value} for value in values]


def judged(
    quantity: Quantity, base: tuple[float | None, ...], other: tuple[float | None, ...]
) -> Result:
    _, (result,) = compared([quantity], [runs(quantity, *base), runs(quantity, *other)])
    return result


def test_pairs_show_what_overlapping_intervals_hide() -> None:
    base = (10e6, 20e6, 30e6)  # seeds differ far more than variants
    result = judged(GOODPUT, base, (11e6, 21.1e6, 30.9e6))
    assert result.outcome == "better"
    assert result.value is not None
    assert result.value.margin is not None
    assert result.value.margin > 20e6
    assert result.difference is not None
    assert result.difference.mean == pytest.approx(1e6)
    assert result.difference.method == "paired"
    (first,), _ = compared([GOODPUT], [runs(GOODPUT, *base)] * 2)
    assert percent_text(result.difference, first.value) == "+5.0 ± 1.2 %"


@pytest.mark.parametrize(
    ("quantity", "base", "other", "outcome"),
    [
        (GOODPUT, (10.0, 11.0, 12.0), (9.0, 10.1, 10.9), "worse"),
        (TIME, (10.0, 11.0, 12.0), (9.0, 10.1, 10.9), "better"),
        (TIME, (10.0, 11.0, 12.0), (12.0, 13.1, 13.9), "worse"),
        (GOODPUT, (10.0, 11.0, 12.0), (11.0, 9.0, 13.0), "no difference shown"),
        (GOODPUT, (10.0, 10.0), (10.0, 10.0), "not judged"),
        (GOODPUT, (10.0, 10.0, 10.0), (20.0, 20.0, 20.0), "not judged"),
        (GOODPUT, (10.0,), (20.0,), "not judged"),
        (TIME, (10.0, None), (9.0, 9.0), "not judged"),
        (TIME, (10.0, 10.0), (9.0, None), "not judged"),
    ],
)
def test_outcomes(
    quantity: Quantity,
    base: tuple[float | None, ...],
    other: tuple[float | None, ...],
    outcome: str,
) -> None:
    assert judged(quantity, base, other).outcome == outcome


def test_values_read_in_one_unit() -> None:
    assert judged(GOODPUT, (1.0, 1.0), (52.9e6, 53.1e6)).text == "53 ± 1.3 Mb/s"
    assert judged(TIME, (1.0,), (0.0305,)).text == "30.5 ms"
    assert judged(TIME, (1.0, 1.0), (0.5, None)).text == "not done in time"


def test_what_is_measured_of_a_run(run: Run) -> None:
    found = measured(run)
    assert [quantity.name for quantity in found] == ["goodput of main"]
    assert found[GOODPUT] == pytest.approx(13.6e6)


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    base = runs(GOODPUT, 10e6, 11e6)
    results = compared([GOODPUT], [base, runs(GOODPUT, None, 12e6)])
    written = draw_comparison("title", ["as it is", "other"], results, tmp_path / "comparison")
    assert [path.name for path in written] == ["comparison.png", "comparison.svg"]
    assert all(path.stat().st_size > 5000 for path in written)


def test_long_labels_leave_room_for_the_figure_and_stay_apart(tmp_path: Path) -> None:
    results = compared([GOODPUT], [runs(GOODPUT, 10e6, 11e6), runs(GOODPUT, 9e6, 12e6)])
    labels = ["x" * 300 + ending for ending in ("first", "second")]
    _, svg = draw_comparison("t" * 300, labels, results, tmp_path / "comparison")  # no warning
    text = svg.read_text()
    assert "xfirst -->" in text
    assert "xsecond -->" in text
    assert "x" * 60 not in text
    assert "t" * 120 not in text
