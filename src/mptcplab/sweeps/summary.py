"""What the runs of each point come to: means with intervals, percentiles, tests against the first.

Runs that are not valid are counted and left out. Two points are compared over the seeds that both
have; all p-values of a metric are corrected together (Holm).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mptcplab.report.differences import Outcome, beside, corrected, mean_of, outcome
from mptcplab.results.application_times import percentile
from mptcplab.results.statistics import Difference, Estimate, estimate
from mptcplab.sweeps.design import Column, Point
from mptcplab.sweeps.store import parameter_array
from mptcplab.sweeps.tasks import Row, unit_of

if TYPE_CHECKING:
    import pyarrow as pa

PERCENTILES: Final = (5, 50, 95)
LEAST_FOR_PRECISION: Final = 3
"""Runs before an interval says anything of how many more are needed."""
MOST_FOR_PRECISION: Final = 100
"""Runs of a point at which a wish for precision ends."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric at one point, in the metric's unit.

    ``values`` are by seed, of the valid runs that have one; ``missing`` counts valid runs without
    (a flow not done in time). ``difference`` is to the first point, None there and where nothing
    can be compared.
    """

    point: int
    metric: str
    values: Mapping[int, float]
    missing: int
    value: Estimate | None
    difference: Difference | None = None
    p_value: float | None = None

    @property
    def outcome(self) -> Outcome:
        """What the corrected test says; of times less is better, of all else more."""
        is_time = unit_of(self.metric)[1] == "s"
        return outcome(self.difference, self.p_value, is_time=is_time)

    def percentile(self, percent: float) -> float | None:
        """Return a percentile over its runs."""
        return percentile(sorted(self.values.values()), percent)


def metrics_in(rows: Iterable[Row]) -> list[str]:
    """Return all metrics of some runs, in the order in which runs have them."""
    return list(dict.fromkeys(metric for row in rows for metric in row.metrics))


def summarised(count: int, rows: Sequence[Row], metrics: Sequence[str]) -> list[list[Cell]]:
    """Return a list for each metric, with a cell for each of ``count`` points."""
    valid: list[list[Row]] = [[] for _ in range(count)]
    for row in rows:
        if row.valid:
            valid[row.point].append(row)
    return [_of_metric(metric, valid) for metric in metrics]


def _of_metric(metric: str, valid: Sequence[Sequence[Row]]) -> list[Cell]:
    values = [
        {row.seed: row.metrics.get(metric) for row in sorted(rows, key=lambda row: row.seed)}
        for rows in valid
    ]
    held = [None, *(beside(mine, values[0]) for mine in values[1:])]
    return [
        _cell(point, metric, mine, difference, p_value)
        for point, (mine, difference, p_value) in enumerate(
            zip(values, held, corrected(held), strict=True)
        )
    ]


def _cell(
    point: int,
    metric: str,
    values: Mapping[int, float | None],
    held: Difference | None,
    p_value: float | None,
) -> Cell:
    known = {seed: value for seed, value in values.items() if value is not None}
    missing = len(values) - len(known)
    return Cell(point, metric, known, missing, mean_of(values), held, p_value)


def runs_still_needed(values: Sequence[float], precision: float) -> int:
    """Return how many more runs a mean needs until its interval is within ``precision`` of it.

    By the spread so far, whose own uncertainty asks for care: at most twice as many as there are.
    A sequential rule such as this one covers a little less than the 95 % that it states.
    """
    count = len(values)
    if count < LEAST_FOR_PRECISION:
        return LEAST_FOR_PRECISION - count
    value = estimate(values)
    if value.margin is None or value.margin <= precision * abs(value.mean):
        return 0
    if not value.mean:
        return MOST_FOR_PRECISION - count
    wanted = count * (value.margin / (precision * abs(value.mean))) ** 2
    return max(0, min(round(wanted) + 1, 2 * count, MOST_FOR_PRECISION) - count)


def summary_table(
    points: Sequence[Point],
    columns: Sequence[Column],
    rows: Sequence[Row],
    cells: Sequence[Sequence[Cell]],
) -> pa.Table:
    """Return a row for each point and metric; margins, differences and p-values as they apply."""
    import pyarrow as pa

    made = [0] * len(points)
    valid = [0] * len(points)
    for row in rows:
        made[row.point] += 1
        valid[row.point] += row.valid
    flat = [cell for of_metric in cells for cell in of_metric]
    names = [unit_of(cell.metric) for cell in flat]
    arrays: dict[str, Any] = {"point": pa.array([cell.point for cell in flat], pa.int64())}
    for column in columns:
        arrays[column.key] = parameter_array(column, (points[cell.point] for cell in flat))
    number = pa.float64()
    arrays |= {
        "metric": pa.array([name for name, _ in names], pa.string()),
        "unit": pa.array([unit for _, unit in names], pa.string()),
        "runs": pa.array([made[cell.point] for cell in flat], pa.int64()),
        "valid_runs": pa.array([valid[cell.point] for cell in flat], pa.int64()),
        "mean": pa.array(
            [None if cell.value is None else cell.value.mean for cell in flat], number
        ),
        "margin": pa.array(
            [None if cell.value is None else cell.value.margin for cell in flat], number
        ),
    }
    for percent in PERCENTILES:
        arrays[f"p{percent}"] = pa.array([cell.percentile(percent) for cell in flat], number)
    held = [cell.difference for cell in flat]
    arrays |= {
        "difference": pa.array([None if each is None else each.mean for each in held], number),
        "difference_margin": pa.array(
            [None if each is None else each.margin for each in held], number
        ),
        "method": pa.array([None if each is None else each.method for each in held], pa.string()),
        "corrected_p_value": pa.array([cell.p_value for cell in flat], number),
        "outcome": pa.array([str(cell.outcome) for cell in flat], pa.string()),
    }
    return pa.table(arrays)
