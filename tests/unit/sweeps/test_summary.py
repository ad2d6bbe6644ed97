"""What rows come to: means, tests against the first point, and how many runs are still needed."""

from __future__ import annotations

from random import Random

import pytest

from mptcplab.results.statistics import estimate
from mptcplab.sweeps.summary import (
    LEAST_FOR_PRECISION,
    MOST_FOR_PRECISION,
    runs_still_needed,
    summarised,
)
from mptcplab.sweeps.tasks import Row

METRIC = "goodput of bulk [bit/s]"
TIME = "time of file [s]"


def rows(point: int, *values: float | None, metric: str = METRIC, valid: bool = True) -> list[Row]:
    reasons = [] if valid else ["bent"]
    return [
        Row(point, seed, valid, list(reasons), {metric: value})
        for seed, value in enumerate(values, 1)
    ]


def test_points_are_tested_against_the_first_over_the_seeds_of_both() -> None:
    made = rows(0, 10, 11, 12, 10.5) + rows(1, 20, 22, 21, 20.7) + rows(2, 10.2, 11.3, 11.5, 10.4)
    (cells,) = summarised(3, made, [METRIC])
    assert [cell.outcome for cell in cells] == ["not judged", "better", "no difference shown"]
    assert cells[0].value == estimate([10, 11, 12, 10.5])
    assert cells[1].difference is not None
    assert cells[1].difference.mean == pytest.approx(10.05)


def test_of_times_less_is_better() -> None:
    made = rows(0, 1, 1.1, 1.05, metric=TIME) + rows(1, 2, 2.1, 2.2, metric=TIME)
    (cells,) = summarised(2, made, [TIME])
    assert cells[1].outcome == "worse"


def test_p_values_are_corrected_for_their_number() -> None:
    alone = rows(0, 10, 11, 12, 10) + rows(1, 12, 12.5, 14, 12)
    (two,) = summarised(2, alone, [METRIC])
    (many,) = summarised(
        9, alone + [r for p in range(2, 9) for r in rows(p, 10, 11.2, 12, 9.8)], [METRIC]
    )
    assert two[1].p_value is not None
    assert many[1].p_value is not None
    assert many[1].p_value == pytest.approx(8 * two[1].p_value)


def test_invalid_runs_do_not_count_and_undone_flows_leave_no_mean() -> None:
    made = rows(0, 10, 11, 12) + rows(1, 99, valid=False) + rows(2, 10, None, 12)
    (cells,) = summarised(3, made, [METRIC])
    assert cells[1].value is None
    assert cells[1].values == {}
    assert cells[2].value is None
    assert cells[2].missing == 1
    assert cells[2].percentile(50) == 11


def test_runs_that_are_not_done_are_not_left_out_of_a_difference() -> None:
    made = rows(0, 10, None, 12, 11) + rows(1, 20, 22, 21, 20)
    (cells,) = summarised(2, made, [METRIC])
    assert cells[1].value is not None
    assert cells[1].difference is None
    assert cells[1].outcome == "not judged"


def test_precision_asks_for_runs_until_the_interval_is_narrow() -> None:
    assert runs_still_needed([], 0.05) == LEAST_FOR_PRECISION
    assert runs_still_needed([10, 10], 0.05) == LEAST_FOR_PRECISION - 2
    assert runs_still_needed([10, 10, 10], 0.05) == 0  # one observation, however many
    assert runs_still_needed([10, 10.01, 9.99], 0.05) == 0
    assert runs_still_needed([10, 14, 7], 0.05) == 3  # at most as many again
    assert runs_still_needed([1, -1, 0], 0.05) == MOST_FOR_PRECISION - 3


@pytest.mark.parametrize("seed", [1, 2])
def test_the_intervals_cover_what_they_say(seed: int) -> None:
    """Of 1,000 synthetic sweeps: 95 % of the intervals of a mean hold the true one."""
    random = Random(seed)
    held = 0
    for _ in range(1_000):
        made = rows(0, *(random.gauss(50, 7) for _ in range(6)))
        ((cell,),) = summarised(1, made, [METRIC])
        assert cell.value is not None
        assert cell.value.margin is not None
        held += abs(cell.value.mean - 50) <= cell.value.margin
    assert 930 <= held <= 970


def test_of_synthetic_sweeps_without_a_difference_few_claim_one() -> None:
    """Holm keeps the probability of any false claim in a sweep of ten points at 5 %."""
    random = Random(5)
    claims = 0
    for _ in range(400):
        made = [
            row
            for point in range(10)
            for row in rows(point, *(random.gauss(50, 7) for _ in range(5)))
        ]
        (cells,) = summarised(10, made, [METRIC])
        claims += any(cell.outcome in ("better", "worse") for cell in cells)
    assert claims <= 400 * 0.05 + 14  # three standard deviations
