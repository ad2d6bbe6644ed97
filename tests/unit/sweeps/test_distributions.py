"""How times of several runs become one distribution of a point."""

from __future__ import annotations

from mptcplab.results.statistics import estimate
from mptcplab.sweeps.distributions import distributions
from mptcplab.sweeps.tasks import Row


def row(point: int, seed: int, *times_s: float | None, valid: bool = True) -> Row:
    return Row(point, seed, valid, [], {}, times_s={"ask": list(times_s)})


def test_at_each_percent_the_runs_have_a_mean() -> None:
    rows = [row(0, 1, 1.0, 2.0), row(0, 2, 3.0, 5.0), row(1, 1, 7.0, 8.0)]
    ((first, second),) = distributions(2, rows)
    assert list(first.percentiles) == [estimate([1.0, 3.0]), estimate([2.0, 5.0])]
    assert first.runs == 2
    assert [value and value.margin for value in second.percentiles] == [None, None]


def test_it_ends_where_a_run_has_requests_without_an_answer() -> None:
    ((only,),) = distributions(1, [row(0, 1, 1.0, 2.0), row(0, 2, 3.0, None)])
    assert list(only.percentiles) == [estimate([1.0, 3.0]), None]


def test_runs_that_are_not_valid_do_not_count() -> None:
    ((only,),) = distributions(1, [row(0, 1, 1.0), row(0, 2, 9.0, valid=False)])
    assert only.runs == 1
    assert only.percentiles[0] == estimate([1.0])
    ((nothing,),) = distributions(1, [row(0, 2, 9.0, valid=False)])
    assert nothing.percentiles == []
