"""What the runs of each point come to: means with intervals, percentiles, tests against the first.

Runs that are not valid are counted and left out. Two points are compared over the seeds that both
have; all p-values of a metric are corrected together (Holm).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from mptcplab.results.application_times import percentile
from mptcplab.results.statistics import (
    SIGNIFICANCE,
    Difference,
    Estimate,
    difference,
    estimate,
    holm,
)
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

Outcome = Literal["better", "worse", "no difference shown", "not judged"]


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
        if self.difference is None or self.p_value is None:
            return "not judged"
        if self.p_value >= SIGNIFICANCE:
            return "no difference shown"
        is_time = unit_of(self.metric)[1] == "s"
        return "better" if (self.difference.mean > 0) != is_time else "worse"

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
    first = _values(metric, valid[0])
    cells = []
    for point, rows in enumerate(valid):
        values = _values(metric, rows)
        missing = sum(row.metrics.get(metric) is None for row in rows)
        value = estimate(list(values.values())) if values and not missing else None
        held = None
        both = sorted(values.keys() & first.keys())
        if point and both and not missing:
            held = difference([values[seed] for seed in both], [first[seed] for seed in both])
        cells.append(Cell(point, metric, values, missing, value, held))
    judged = [
        (place, cell.difference.p_value)
        for place, cell in enumerate(cells)
        if cell.difference is not None and cell.difference.p_value is not None
    ]
    for (place, _), p_value in zip(judged, holm([p for _, p in judged]), strict=True):
        cell = cells[place]
        cells[place] = Cell(
            cell.point,
            cell.metric,
            cell.values,
            cell.missing,
            cell.value,
            cell.difference,
            p_value,
        )
    return cells


def _values(metric: str, rows: Sequence[Row]) -> dict[int, float]:
    pairs = ((row.seed, row.metrics.get(metric)) for row in sorted(rows, key=lambda row: row.seed))
    return {seed: value for seed, value in pairs if value is not None}


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
