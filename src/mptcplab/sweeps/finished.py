"""A sweep's folder read again, without the scenario that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mptcplab.results.run import RunError
from mptcplab.results.shape import ListOf, Text, Whole, problems
from mptcplab.sweeps.design import Column, Point
from mptcplab.sweeps.distributions import Distribution, distributions
from mptcplab.sweeps.store import SETTINGS, Store
from mptcplab.sweeps.summary import Cell, metrics_in, summarised
from mptcplab.sweeps.tasks import Row

_SHAPE: Final = {
    "scenario": Text(),
    "title": Text(),
    "testbed": Text(),
    "first_seed": Whole(),
    "parameters": ListOf(
        {"key": Text(), "?title": Text(), "unit": Text(), "values": ListOf(Text())}
    ),
    "points": ListOf({"set": ListOf(Text())}),
}


@dataclass(frozen=True, slots=True)
class FinishedSweep:
    """What a sweep's folder holds."""

    scenario: str
    title: str
    testbed: str
    points: Sequence[Point]
    columns: Sequence[Column]
    rows: Sequence[Row]

    def cells(self) -> list[list[Cell]]:
        """Return the summary: a list for each metric, with a cell for each point."""
        return summarised(len(self.points), self.rows, metrics_in(self.rows))

    def distributions(self) -> list[list[Distribution]]:
        """Return how times are distributed: a list for each flow, with an entry for each point."""
        return distributions(len(self.points), self.rows)


def read_sweep(folder: Path) -> FinishedSweep:
    """Return what is in a sweep's folder; RunError where it is none, or damaged."""
    store = Store(folder)
    settings = store.settings()
    missing: list[str] = []
    wrong = list(islice(problems(settings, _SHAPE, missing), 3))
    if missing:
        wrong.insert(0, f"it has no {', '.join(missing)}")
    if wrong:
        raise RunError(f"{folder / SETTINGS}: damaged: {'; '.join(wrong)}")
    columns = [_column(each, folder) for each in settings["parameters"]]
    points = [
        _point(number, each, columns, folder) for number, each in enumerate(settings["points"])
    ]
    rows = store.rows()
    if any(not 0 <= row.point < len(points) for row in rows):
        raise RunError(f"{folder}: damaged: a run is of a point that there is not")
    return FinishedSweep(
        settings["scenario"], settings["title"], settings["testbed"], points, columns, rows
    )


def _column(parameter: dict[str, Any], folder: Path) -> Column:
    texts = tuple(parameter["values"])
    numbers = parameter.get("numbers")
    if numbers is None:
        return Column(parameter["key"], texts, parameter["unit"], None)
    if not isinstance(numbers, list) or len(numbers) != len(texts):
        raise RunError(f"{folder / SETTINGS}: damaged: {parameter['key']} has other numbers")
    if not all(isinstance(each, int | float) for each in numbers):
        raise RunError(f"{folder / SETTINGS}: damaged: {parameter['key']} has no numbers")
    values = dict(zip(texts, map(float, numbers), strict=True))
    title = parameter.get("title", "")
    return Column(parameter["key"], texts, parameter["unit"], values, title)


def _point(number: int, point: dict[str, Any], columns: Sequence[Column], folder: Path) -> Point:
    values = point.get("values")
    if not isinstance(values, dict) or any(
        values.get(column.key) not in column.texts for column in columns
    ):
        raise RunError(f"{folder / SETTINGS}: damaged: point {number} has other parameters")
    return Point(number, values, tuple(point["set"]))
