"""Variants of a scenario, each run several times: does one beat another, and how sure is that?

A variant is judged by its mean difference to the first one, with a 95 % confidence interval, and
not by two intervals that may overlap: within the pairs of runs with one seed where those rise and
fall together, by Welch's test where they do not (see ``difference`` in ``results.statistics``).
All that is judged at once is corrected together, after Holm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from mptcplab.report.differences import Outcome, beside, corrected, mean_of, outcome
from mptcplab.results.application_times import PERCENTILES
from mptcplab.results.run import Run
from mptcplab.results.statistics import Difference, Estimate
from mptcplab.results.summary import Rates, completion_ns, settled, summarise
from mptcplab.units import NANOSECONDS, format_duration, format_rate

_IN_ALL = "goodput in all"


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is compared: goodput (bit/s, more is better) or time taken (s, less is better)."""

    name: str
    is_time: bool

    def text(self, value: float) -> str:
        """Return a value with its unit."""
        return format_duration(value * NANOSECONDS) if self.is_time else format_rate(value)


Values = Mapping[Quantity, float | None]
"""What one run came to; None where a flow was not done or the run too short."""


@dataclass(frozen=True, slots=True)
class Result:
    """One quantity of one variant; ``difference`` is to the first variant, in the same unit.

    ``value`` is the mean of the valid runs, None where there are none or a flow was not done in
    one.  ``difference`` is None where there is nothing to compare, and for the first variant
    itself; ``p_value`` holds for all differences judged together.
    """

    quantity: Quantity
    value: Estimate | None
    difference: Difference | None
    p_value: float | None
    outcome: Outcome
    why_none: str = ""
    """Why there is no value."""

    @property
    def text(self) -> str:
        """Mean and margin."""
        if self.value is None:
            return self.why_none
        return with_margin(self.quantity.text, self.value)


def measured(run: Run) -> dict[Quantity, float | None]:
    """Return a run's quantities: the time of each flow with a size, the goodput of each other.

    Of flows with requests or messages the percentiles of their times, and what else their
    applications note; goodput only of messages, which have a rate to keep.
    """
    summary = summarise(run)
    goodputs = {flow["name"]: flow["goodput_bps"] for flow in summary["flows"]}
    applications = {flow["name"]: _of_application(flow) for flow in summary["flows"]}
    quantities: dict[Quantity, float | None] = {}
    endless = [
        flow["name"]
        for flow in run.scenario["flows"]
        if not flow["size_bytes"] and not applications[flow["name"]]
    ]
    for flow in run.scenario["flows"]:
        if applications[flow["name"]]:
            quantities |= applications[flow["name"]]
        elif flow["size_bytes"]:
            took_ns = completion_ns(run, flow)
            took_s = None if took_ns is None else took_ns / NANOSECONDS
            quantities[Quantity(f"time of {flow['name']}", True)] = took_s
        else:
            quantities[Quantity(f"goodput of {flow['name']}", False)] = goodputs[flow["name"]]
    if len(endless) > 1:
        whole = settled(run, 0, run.metadata["measured_ns"])
        rates = None if whole is None else Rates(run).flows_bps(*whole)
        quantities[Quantity(_IN_ALL, False)] = (
            None if rates is None else sum(rates.get(name, 0.0) for name in endless)
        )
    return quantities


def _of_application(flow: Mapping[str, Any]) -> dict[Quantity, float | None]:
    """Return what a flow's application noted, of its summary; nothing for bulk data."""
    name = flow["name"]
    quantities: dict[Quantity, float | None] = {}
    for table, what in (("requests", ""), ("pages", "pages of "), ("messages", "")):
        values = flow[table]
        if values is not None:
            for percent in PERCENTILES:
                quantities[Quantity(f"p{percent} of {what}{name}", True)] = values[f"p{percent}_s"]
    if flow["messages"] is not None:
        quantities[Quantity(f"goodput of {name}", False)] = flow["goodput_bps"]
    if flow["requests"] is not None and flow["requests"]["completion_s"] is not None:
        quantities[Quantity(f"time of {name}", True)] = flow["requests"]["completion_s"]
    if flow["video"] is not None:
        quantities[Quantity(f"start-up of {name}", True)] = flow["video"]["startup_s"]
        quantities[Quantity(f"stalls of {name}", True)] = flow["video"]["stalled_s"]
        quantities[Quantity(f"bitrate of {name}", False)] = flow["video"]["mean_bitrate_bps"]
    return quantities


def compared(
    quantities: Sequence[Quantity], variants: Sequence[Sequence[Values | None]]
) -> list[list[Result]]:
    """Hold the runs of each variant against those of the first, and judge all differences at once.

    The runs of a variant are in the order of their seeds, None for one that is not valid: it is
    left out, and so is the run that it would be compared with.
    """
    first = variants[0]
    results = [[_result(quantity, first, other) for quantity in quantities] for other in variants]
    flat = [result for mine in results for result in mine]
    p_values = iter(corrected([result.difference for result in flat]))
    return [[_judged(result, next(p_values)) for result in mine] for mine in results]


def _result(
    quantity: Quantity, first: Sequence[Values | None], other: Sequence[Values | None]
) -> Result:
    mine, theirs = (
        {place: run[quantity] for place, run in enumerate(runs) if run is not None}
        for runs in (other, first)
    )
    held = None if other is first else beside(mine, theirs)
    short = "not done in time" if quantity.is_time else "too short"
    why_none = short if mine else "no valid run"
    return Result(quantity, mean_of(mine), held, None, "not judged", why_none)


def _judged(result: Result, p_value: float | None) -> Result:
    judged = outcome(result.difference, p_value, is_time=result.quantity.is_time)
    return replace(result, p_value=p_value, outcome=judged)


def with_margin(text: Callable[[float], str], value: Estimate) -> str:
    """Return mean and margin in one unit: "52.95 ± 0.4 Mb/s".

    A margin below the last digit of the mean is shown as less than that: "1.007 ± <0.001 s".
    """
    number, _, unit = text(value.mean).partition(" ")
    if value.margin is None or not float(number):
        return text(value.mean)
    margin = Decimal(value.margin * float(number) / value.mean)
    digit = Decimal(1).scaleb(min(0, Decimal(number).adjusted() - 3))  # of four, as in all rates
    if margin < digit / 2:
        return f"{number} ± <{digit:f} {unit}"
    return f"{number} ± {Decimal(f'{margin:.2g}').normalize():f} {unit}"


def draw_comparison(
    title: str, labels: Sequence[str], results: Sequence[Sequence[Result]], stem: Path
) -> list[Path]:
    """Draw every quantity of every variant with its interval; return the PNG and SVG written."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from mptcplab.report.figure import COLOURS, INK, LONGEST_TITLE, STYLE, drawn, save

    missing: dict[str, Any] = {"va": "center", "color": INK, "fontsize": 8}
    quantities = [result.quantity for result in results[0]]
    with mpl.rc_context(STYLE):
        height = 0.9 + len(quantities) * (0.55 + 0.26 * len(labels))
        figure = Figure(figsize=(9, height), layout="constrained")
        rows = figure.subplots(len(quantities), 1, squeeze=False)
        for position, (quantity, axes) in enumerate(zip(quantities, rows[:, 0], strict=True)):
            unit = 1.0 if quantity.is_time else 1e6
            for place, mine in enumerate(results):
                value = mine[position].value
                if value is None:
                    axes.text(0, place, f" {mine[position].why_none}", **missing)
                    continue
                axes.errorbar(
                    value.mean / unit,
                    place,
                    xerr=(value.margin or 0.0) / unit,
                    fmt="o",
                    color=COLOURS[place % len(COLOURS)],
                    capsize=4,
                )
            axes.set_yticks(range(len(labels)), [drawn(label) for label in labels])
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.set_xlim(left=0)
            axes.set_xlabel(f"{quantity.name} ({'s' if quantity.is_time else 'Mb/s'})")
            axes.grid(axis="x", color="#dddddd", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(drawn(title, LONGEST_TITLE), x=0.01, ha="left", fontsize=11)
        return save(figure, stem)
