"""Times of requests and messages: held against what a scenario expects, and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mptcplab.report.comparison import with_margin
from mptcplab.report.figure import (
    COLOURS,
    LONGEST_LABEL,
    LONGEST_TITLE,
    STYLE,
    drawn,
    logarithmic,
    save,
)
from mptcplab.results.application_times import ApplicationTimes
from mptcplab.results.run import Run
from mptcplab.results.statistics import Estimate, estimate
from mptcplab.results.summary import settle_ns, stages
from mptcplab.units import NANOSECONDS, format_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Outcome = Literal["met", "missed", "undecided", "not measured"]


@dataclass(frozen=True, slots=True)
class LatencyCheck:
    """One expectation of a time, and what became of it; of several runs, of their mean."""

    what: str
    measured_s: Estimate | None
    most_s: float
    outcome: Outcome
    source: str

    @property
    def text(self) -> str:
        """One line a person can read."""
        wanted = f"expected at most {_time(self.most_s)}"
        if self.measured_s is None:
            return f"{self.what}: {self.outcome}, {wanted}"
        return f"{self.what}: {with_margin(_time, self.measured_s)}, {wanted}: {self.outcome}"


def _time(value_s: float) -> str:
    return format_duration(value_s * NANOSECONDS)


def latency_checks(runs: Sequence[Run]) -> list[LatencyCheck]:
    """Hold a run, or the mean of several, against its scenario's expectations of times."""
    times = [ApplicationTimes(run) for run in runs]
    checks = []
    for expectation in runs[0].scenario.get("latency_expectations", ()):
        flow, percent = expectation["of"], expectation["percentile"]
        values = [
            _value_s(run, each, flow, percent, expectation["stage"])
            for run, each in zip(runs, times, strict=True)
        ]
        known = [value for value in values if value is not None]
        value = estimate(known) if known and len(known) == len(values) else None
        stage = expectation["stage"]
        when = "" if stage is None else f", stage {stage}"
        most_s = expectation["most_ns"] / NANOSECONDS
        checks.append(
            LatencyCheck(
                f"p{percent:g} of {flow}{when}",
                value,
                most_s,
                _outcome(value, most_s, len(runs)),
                expectation["source"],
            )
        )
    return checks


def _value_s(
    run: Run, times: ApplicationTimes, flow: str, percent: float, stage: int | None
) -> float | None:
    if times.kind(flow) is None:
        return None
    since_ns, until_ns = 0, None
    if stage is not None:
        extents = stages(run)
        if stage >= len(extents):
            return None
        since_ns, until_ns = extents[stage]
    elif settle_ns(run):
        (start_ns,) = (each["start_ns"] for each in run.scenario["flows"] if each["name"] == flow)
        since_ns = start_ns + settle_ns(run)
    return times.times(flow, since_ns, until_ns).percentile_s(percent)


def _outcome(value: Estimate | None, most_s: float, runs: int) -> Outcome:
    if value is None:
        return "not measured"
    if runs == 1:
        return "met" if value.mean <= most_s else "missed"
    if value.margin is None:
        return "undecided"
    if value.mean + value.margin <= most_s:
        return "met"
    return "missed" if value.mean - value.margin > most_s else "undecided"


def draw_latency(run: Run, stem: Path) -> list[Path]:
    """Draw how the times of each flow's requests and messages are distributed.

    Returns the PNG and SVG written at ``stem``; none for a run without any.
    """
    title = run.scenario["title"] or run.scenario["name"]
    return draw_latencies({"": run}, f"{title}, on {run.metadata['testbed']}", stem)


def draw_latencies(runs: Mapping[str, Run], title: str, stem: Path) -> list[Path]:
    """Draw how the times of several runs, by their labels, are distributed; see draw_latency."""
    figure = latency_figure(runs, title)
    return [] if figure is None else save(figure, stem)


def latency_figure(runs: Mapping[str, Run], title: str) -> Figure | None:
    """Return the figure of the distributions of times, a line for each run and flow, or None."""
    series: dict[str, Sequence[float]] = {}
    for label, run in runs.items():
        times = ApplicationTimes(run)
        for flow in run.scenario["flows"]:
            name, kind = flow["name"], times.kind(flow["name"])
            values = times.times(name).values_s if kind else ()
            if any(map(isfinite, values)):
                whose = f"{label}, {name}" if label else name
                series[f"{whose} ({len(values)} {kind})"] = values
    if not series:
        return None
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 5.2), layout="constrained")
        axes = figure.subplots()
        for place, (name, taken) in enumerate(series.items()):
            ended = [value * 1e3 for value in taken if isfinite(value)]
            shares = [(rank + 1) / len(taken) for rank in range(len(ended))]
            axes.step(
                [ended[0], *ended],
                [0.0, *shares],
                where="post",
                color=COLOURS[place % len(COLOURS)],
                label=drawn(name, LONGEST_LABEL),
            )
        finish_distribution(axes)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
        axes.set_title(drawn(title, LONGEST_TITLE), loc="left", fontsize=11)
    return figure


def finish_distribution(axes: Axes) -> None:
    """Give a distribution of times (ms) its axes."""
    logarithmic(axes)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("time (ms)")
    axes.set_ylabel("share that took at most so long")
    axes.grid(which="both", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
