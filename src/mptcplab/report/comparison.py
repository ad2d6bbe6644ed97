"""Variants of a scenario, each run several times: does one beat another, and how sure is that?

Runs of two variants with the same seed are a pair: both met the same losses, jitter and starts.  So
a variant is judged by the mean of the differences within the pairs, with its 95 % confidence
interval (Student's t), and not by two intervals that may overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mptcplab.results.run import Run
from mptcplab.results.statistics import Estimate, estimate
from mptcplab.results.summary import completion_ns, summarise
from mptcplab.units import NANOSECONDS, format_duration, format_rate

Outcome = Literal["better", "worse", "no difference shown", "not judged"]
_IN_ALL = "goodput in all"


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is compared: goodput (bit/s, more is better) or time taken (s, less is better)."""

    name: str
    is_time: bool

    def text(self, value: float) -> str:
        """Return a value with its unit."""
        return format_duration(value * NANOSECONDS) if self.is_time else format_rate(value)


@dataclass(frozen=True, slots=True)
class Result:
    """One quantity of one variant; ``difference`` is to the first variant, in the same unit.

    ``value`` is None where the flow was not done in some run; ``difference`` also where the first
    variant has no value, and for the first variant itself.
    """

    quantity: Quantity
    value: Estimate | None
    difference: Estimate | None
    outcome: Outcome

    @property
    def text(self) -> str:
        """Mean and margin."""
        if self.value is None:
            return "not done in time"
        return _with_margin(self.quantity.text, self.value)


def measured(run: Run) -> dict[Quantity, float | None]:
    """Return a run's quantities: the time of each flow with a size, the goodput of each other."""
    summary = summarise(run)
    goodputs = {flow["name"]: flow["goodput_bps"] for flow in summary["flows"]}
    quantities: dict[Quantity, float | None] = {}
    endless = [flow["name"] for flow in run.scenario["flows"] if not flow["size_bytes"]]
    for flow in run.scenario["flows"]:
        if flow["size_bytes"]:
            took_ns = completion_ns(run, flow)
            took_s = None if took_ns is None else took_ns / NANOSECONDS
            quantities[Quantity(f"time of {flow['name']}", True)] = took_s
        else:
            quantities[Quantity(f"goodput of {flow['name']}", False)] = goodputs[flow["name"]]
    if len(endless) > 1:
        sizes = (flow["bytes"] for flow in summary["flows"] if flow["name"] in endless)
        quantities[Quantity(_IN_ALL, False)] = 8 * sum(sizes) / summary["duration_s"]
    return quantities


def compared(
    first: Sequence[dict[Quantity, float | None]], other: Sequence[dict[Quantity, float | None]]
) -> list[Result]:
    """Hold the runs of a variant against those of the first, pair by pair."""
    results = []
    for quantity in other[0]:
        mine = [run.get(quantity) for run in other]
        theirs = [run.get(quantity) for run in first]
        both = zip(mine, theirs, strict=True)
        differences = [a - b for a, b in both if a is not None and b is not None]
        values = [value for value in mine if value is not None]
        value = estimate(values) if len(values) == len(mine) else None
        judged = first is not other and len(differences) == len(mine)
        difference = estimate(differences) if judged else None
        results.append(Result(quantity, value, difference, _outcome(quantity, difference)))
    return results


def _outcome(quantity: Quantity, difference: Estimate | None) -> Outcome:
    if difference is None or difference.margin is None:
        return "not judged"
    if abs(difference.mean) <= difference.margin or difference.mean == 0:
        return "no difference shown"
    return "better" if (difference.mean > 0) != quantity.is_time else "worse"


def relative_text(result: Result, first: Result) -> str:
    """Return the difference to the first variant in percent: "+4.2 ± 0.8 %"."""
    if result.difference is None or first.value is None or not first.value.mean:
        return ""
    percent = 100 / first.value.mean
    margin = result.difference.margin
    within = "" if margin is None else f" ± {abs(margin * percent):.1f}"
    return f"{result.difference.mean * percent:+.1f}{within} %"


def _with_margin(text: Callable[[float], str], value: Estimate) -> str:
    """Return mean and margin in one unit: "52.95 ± 0.4 Mb/s"."""
    number, _, unit = text(value.mean).partition(" ")
    if value.margin is None or not float(number):
        return text(value.mean)
    return f"{number} ± {value.margin * float(number) / value.mean:.2g} {unit}"


def draw_comparison(
    title: str, labels: Sequence[str], results: Sequence[Sequence[Result]], stem: Path
) -> list[Path]:
    """Draw every quantity of every variant with its interval; return the PNG and SVG written."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from mptcplab.report.figure import COLOURS, INK, save

    quantities = [result.quantity for result in results[0]]
    with mpl.rc_context({"svg.hashsalt": "mptcplab", "font.size": 10}):
        height = 0.9 + len(quantities) * (0.55 + 0.26 * len(labels))
        figure, rows = plt.subplots(
            len(quantities), 1, figsize=(9, height), layout="constrained", squeeze=False
        )
        for position, (quantity, axes) in enumerate(zip(quantities, rows[:, 0], strict=True)):
            unit = 1.0 if quantity.is_time else 1e6
            for place, mine in enumerate(results):
                value = mine[position].value
                if value is None:
                    axes.text(0, place, " not done in time", va="center", color=INK, fontsize=8)
                    continue
                axes.errorbar(
                    value.mean / unit,
                    place,
                    xerr=(value.margin or 0.0) / unit,
                    fmt="o",
                    color=COLOURS[place % len(COLOURS)],
                    capsize=4,
                )
            axes.set_yticks(range(len(labels)), labels)
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.set_xlim(left=0)
            axes.set_xlabel(f"{quantity.name} ({'s' if quantity.is_time else 'Mb/s'})")
            axes.grid(axis="x", color="#dddddd", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        written = save(figure, stem)
        plt.close(figure)
    return written
