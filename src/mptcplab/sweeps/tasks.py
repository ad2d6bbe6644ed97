"""One run of a sweep: made, measured and told in a row, whatever becomes of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mptcplab.report.comparison import measured
from mptcplab.results.application_times import ApplicationTimes
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.results.statistics import jain_index
from mptcplab.results.summary import Rates, settle_ns
from mptcplab.results.writer import passing_runs
from mptcplab.testbeds import run_on

if TYPE_CHECKING:
    from mptcplab.scenario.model import Scenario

SERIES: Final = ("flows", "links", "subflows", "requests", "messages")
"""The tables over time that a sweep keeps where it is asked to."""


@dataclass(frozen=True, slots=True)
class Task:
    """A run to make: a point's scenario with one seed, on a testbed, in a folder of its own.

    ``keep`` leaves the run's folder, ``series`` only its tables over time, in the same place.
    """

    point: int
    seed: int
    testbed: str
    scenario: Scenario
    folder: Path
    keep: bool = False
    series: bool = False


@dataclass(slots=True)
class Row:
    """What is known of a run of a sweep.

    ``metrics`` are by name and unit as in ``NAME [UNIT]``, None where a flow was not done or the
    run too short for it. ``reasons`` say why a run is invalid, or why there is none.
    """

    point: int
    seed: int
    valid: bool
    reasons: list[str]
    metrics: dict[str, float | None] = field(default_factory=dict)
    wall_s: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    times_s: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """By flow: the percentiles, from 0 to 100, of the times of its requests or messages."""
    cut: bool = False
    """Whether a signal ended it before its time: it is made again."""


def perform(task: Task) -> Row:
    """Make one run and measure it; what goes wrong is the row's reason, and no exception."""
    folder = task.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder)  # of a run that nobody wrote down
        with nullcontext() if task.keep or task.series else passing_runs():
            run = Run(run_on(task.testbed, task.scenario, folder, Silent()))
        row = Row(
            task.point,
            task.seed,
            bool(run.metadata["valid"]),
            list(run.metadata["invalid_reasons"]),
            metrics_of(run),
            float(run.metadata["wall_s"]),
            {name: run.metadata.get(name) for name in ("build", "versions")},
            times_of(run),
            run.is_cut,
        )
    except Exception as error:  # whatever it is, the sweep goes on and tells of it
        reason = str(error) if hasattr(error, "exit_status") else f"{type(error).__name__}: {error}"
        return Row(task.point, task.seed, False, [" ".join(reason.split())])
    if task.series and not task.keep:
        for path in folder.iterdir():
            if path.stem not in SERIES:
                path.unlink() if path.is_file() else shutil.rmtree(path)
    elif not task.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return row


def metrics_of(run: Run) -> dict[str, float | None]:
    """Return what a run came to, by name and unit.

    First what comparisons judge (goodput, times, percentiles), then the goodput of all flows, what
    each link carried, and Jain's index where there are several flows.
    """
    metrics: dict[str, float | None] = {}
    for quantity, value in measured(run).items():
        metrics[f"{quantity.name} [{'s' if quantity.is_time else 'bit/s'}]"] = value
    start_ns, end_ns = settle_ns(run), run.metadata["measured_ns"]
    if end_ns <= start_ns:
        return metrics
    rates = Rates(run)
    flows = rates.flows_bps(start_ns, end_ns)
    for link, bps in rates.links_bps(start_ns, end_ns).items():
        metrics[f"rate of {link} [bit/s]"] = bps
    if len(flows) > 1:
        metrics["goodput in all [bit/s]"] = sum(flows.values())
        metrics["Jain's index []"] = jain_index(list(flows.values()))
    return metrics


def times_of(run: Run) -> dict[str, list[float | None]]:
    """Return the percentiles of the times of each flow's requests or messages (s).

    What was wanted in the run's start-up is left out, as in all its percentiles.
    """
    times = ApplicationTimes(run)
    found = {}
    for flow in run.scenario["flows"]:
        name = flow["name"]
        if times.kind(name) is not None:
            since_ns = flow["start_ns"] + settle_ns(run) if settle_ns(run) else 0
            measured_times = times.times(name, since_ns)
            if measured_times.ended:
                values = (measured_times.percentile_s(percent) for percent in range(101))
                found[name] = [value and round(value, 9) for value in values]
    return found


def unit_of(metric: str) -> tuple[str, str]:
    """Return a metric's name and its unit, "" for a plain number."""
    name, _, unit = metric.rpartition(" [")
    return name, unit.removesuffix("]")
