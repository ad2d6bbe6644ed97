"""A sweep from its design to its tables: planned whole, made in any order, summed up at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from mptcplab.scenario.errors import ScenarioError
from mptcplab.scenario.repetition import random_sources
from mptcplab.scenario.to_json import as_plain
from mptcplab.sweeps.design import Design, Point
from mptcplab.sweeps.distributions import Distribution, distributions, distributions_table
from mptcplab.sweeps.engine import Workers, make_all
from mptcplab.sweeps.store import RUNS, Store, runs_table
from mptcplab.sweeps.summary import Cell, metrics_in, runs_still_needed, summarised, summary_table
from mptcplab.sweeps.tasks import Row, Task, perform

if TYPE_CHECKING:
    import pyarrow as pa

    from mptcplab.scenario.model import Scenario


@dataclass(frozen=True, slots=True)
class Asked:
    """What a sweep is asked for, apart from its design.

    With ``precision`` (a part of the mean) points get further runs beyond ``repetitions`` until
    the interval of ``metrics`` is that narrow. ``metrics`` are names without units; none means
    all of them in tables, and goodput or times for precision.
    """

    testbed: str
    repetitions: int = 1
    precision: float | None = None
    metrics: tuple[str, ...] = ()
    keep: bool = False
    series: bool = False


class Sweep:
    """The runs of a design: those that are done, those to come, and what they come to."""

    def __init__(
        self, design: Design, load: Callable[[Point], Scenario], asked: Asked, folder: Path
    ) -> None:
        """Load every point's scenario; ScenarioError of the first that is wrong, with its label."""
        self.design = design
        self.asked = asked
        self.points = design.points()
        self.scenarios = [self._loaded(load, point) for point in self.points]
        self.columns = design.columns(self.points)
        self.store = Store(folder)
        self.rows: list[Row] = []
        self._cells: list[list[Cell]] = []
        self._summed_rows = 0

    @staticmethod
    def _loaded(load: Callable[[Point], Scenario], point: Point) -> Scenario:
        try:
            return load(point)
        except ScenarioError as error:
            error.add_note(f"at {point.label}")
            raise

    def settings(self) -> dict[str, Any]:
        """Return what makes a folder's runs the ones that are asked for."""
        first = self.scenarios[0]
        return {
            "scenario": first.name,
            "title": first.title,
            "testbed": self.asked.testbed,
            "parameters": [
                {
                    "key": column.key,
                    "title": column.title,
                    "unit": column.unit,
                    "values": list(column.texts),
                    "numbers": column.numbers and list(column.numbers.values()),
                }
                for column in self.columns
            ],
            "points": [
                {"values": dict(point.values), "set": list(point.overrides)}
                for point in self.points
            ],
            "resolved": [_digest(scenario) for scenario in self.scenarios],
            "first_seed": first.seed,
            "keep": self.asked.keep,
            "series": self.asked.series,
        }

    def tasks_left(self) -> list[Task]:
        """Return the runs that are still to be made, shuffled, so that what drifts over time on a
        machine meets all points alike; with a precision, those that are known to be needed so far.
        """
        rows: list[list[Row]] = [[] for _ in self.points]
        for row in self.rows:
            rows[row.point].append(row)
        tasks = []
        for number, scenario in enumerate(self.scenarios):
            done = {row.seed for row in rows[number]}
            wanted = range(scenario.seed, scenario.seed + self._wanted(number, rows[number]))
            tasks += [self._task(number, seed) for seed in wanted if seed not in done]
        Random(len(tasks)).shuffle(tasks)
        return tasks

    def _task(self, point: int, seed: int) -> Task:
        return Task(
            point,
            seed,
            self.asked.testbed,
            replace(self.scenarios[point], seed=seed),
            self.store.run_folder(point, seed),
            self.asked.keep,
            self.asked.series,
        )

    def _wanted(self, point: int, rows: list[Row]) -> int:
        """Return how many runs a point is to have, by what is known now."""
        if not self.is_random(point):
            return 1
        least = self.asked.repetitions
        if self.asked.precision is None or len(rows) < least:
            return least
        valid = [row for row in rows if row.valid]
        if not valid:
            return len(rows)
        more = 0
        for metric in self.judged_metrics():
            values = [row.metrics.get(metric) for row in valid]
            known = [value for value in values if value is not None]
            if len(known) == len(values):
                more = max(more, runs_still_needed(known, self.asked.precision))
        return len(rows) + more

    def is_random(self, point: int) -> bool:
        """Whether seeds make a difference there; on the Linux testbed every run is another."""
        return self.asked.testbed != "simulated" or bool(random_sources(self.scenarios[point]))

    def judged_metrics(self) -> list[str]:
        """Return the metrics that were asked for, or all where no run has one of these."""
        present = metrics_in(self.rows)
        if not self.asked.metrics:
            return present
        chosen = [metric for metric in present if metric.rpartition(" [")[0] in self.asked.metrics]
        return chosen or present

    def make(self, workers_for: Callable[[int], Workers]) -> Iterator[tuple[Row, int]]:
        """Make what is left and yield each row once it is written down, with how many runs are
        still known to be needed; ``workers_for`` returns who makes so many.

        Closing the iterator ends what is made.
        """
        self.rows = self.store.rows()
        while tasks := self.tasks_left():
            with closing(make_all(perform, tasks, workers_for(len(tasks)), _died)) as results:
                for done, (_, row) in enumerate(results, 1):
                    if row.cut:
                        return
                    self.rows.append(row)
                    self.store.append(row)
                    yield row, len(tasks) - done

    def cells(self) -> list[list[Cell]]:
        """Return the summary: a list for each metric, with a cell for each point."""
        if self._summed_rows != len(self.rows):
            self._cells = summarised(len(self.points), self.rows, self.judged_metrics())
            self._summed_rows = len(self.rows)
        return self._cells

    def distributions(self) -> list[list[Distribution]]:
        """Return how times are distributed: a list for each flow, with an entry for each point."""
        return distributions(len(self.points), self.rows)

    def runs_table(self) -> pa.Table:
        """Return a row for each run and metric."""
        return runs_table(self.points, self.columns, self.rows)

    def summary_table(self) -> pa.Table:
        """Return a row for each point and metric."""
        return summary_table(self.points, self.columns, self.rows, self.cells())

    def write_tables(self) -> None:
        """Write the tables of what is done; merge the series where they are kept."""
        if not self.rows:
            return
        self.store.write_table("runs", self.runs_table())
        self.store.write_table("summary", self.summary_table())
        times = self.distributions()
        if times:
            table = distributions_table(self.points, self.columns, times)
            self.store.write_table("distributions", table)
        if self.asked.series:
            self.store.merge_series(
                self._task(row.point, row.seed)
                for row in sorted(self.rows, key=lambda row: (row.point, row.seed))
            )
        elif not self.asked.keep:
            self.store.remove(RUNS)


def _digest(scenario: Scenario) -> str:
    """Return what changes with anything in a resolved scenario but its seed."""
    text = json.dumps(as_plain(replace(scenario, seed=0)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _died(task: Task) -> Row:
    reason = "its process died each time that it was made"
    return Row(task.point, task.seed, False, [reason])
