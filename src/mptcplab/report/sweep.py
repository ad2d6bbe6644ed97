"""The variants of one experiment side by side: what each came to, on each testbed, beside 2012."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mptcplab.report.figure import COLOURS, INK, MEGABIT, save
from mptcplab.results.run import Run
from mptcplab.results.summary import summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mptcplab.scenario.model import SweepPoint


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished run of a sweep; rates in bits per second, ``links_bps`` by link."""

    goodput_bps: float
    links_bps: Mapping[str, float]
    valid: bool
    folder: Path


@dataclass(frozen=True, slots=True)
class Variant:
    """One point of a sweep: its outcome on each testbed, and what the report measured there."""

    label: str
    x: float
    report_bps: int | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)


def outcome_of(run: Run) -> Outcome:
    """Return what a finished run came to."""
    summary = summarise(run)
    return Outcome(
        goodput_bps=sum(flow["goodput_bps"] for flow in summary["flows"]),
        links_bps={link["name"]: link["mean_bps"] for link in summary["links"]},
        valid=summary["valid"],
        folder=run.folder,
    )


def report_value(point: SweepPoint) -> int | None:
    """Return the total that the report gives at a point of a sweep, None where it gives none."""
    totals = [item.value_bps for item in point.measured if item.of == "total"]
    return totals[0] if totals else None


def draw_sweep(title: str, axis: str, variants: Sequence[Variant], stem: Path) -> list[Path]:
    """Draw the variants as bars, links stacked, one panel a testbed; return the PNG and the SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    testbeds = list(dict.fromkeys(name for variant in variants for name in variant.outcomes))
    with mpl.rc_context({"svg.hashsalt": "mptcplab", "font.size": 10}):
        figure, panels = plt.subplots(
            1,
            len(testbeds),
            figsize=(1 + 6.5 * len(testbeds), 5),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for testbed, axes in zip(testbeds, panels[0], strict=True):
            _draw_panel(axes, testbed, variants)
            axes.set_xlabel(axis)
        panels[0][0].set_ylabel("throughput (Mb/s)")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        written = save(figure, stem)
        plt.close(figure)
    return written


def _draw_panel(axes: Axes, testbed: str, variants: Sequence[Variant]) -> None:
    shown = [variant for variant in variants if testbed in variant.outcomes]
    places = range(len(shown))
    links = list(dict.fromkeys(name for item in shown for name in item.outcomes[testbed].links_bps))
    below = [0.0] * len(shown)
    for index, link in enumerate(links):
        rates = [item.outcomes[testbed].links_bps.get(link, 0.0) / MEGABIT for item in shown]
        colour = COLOURS[index % len(COLOURS)]
        axes.bar(places, rates, bottom=below, width=0.7, color=colour, label=link)
        below = [base + rate for base, rate in zip(below, rates, strict=True)]
    for place, item in zip(places, shown, strict=True):
        outcome = item.outcomes[testbed]
        text = f"{outcome.goodput_bps / MEGABIT:,.0f}" + ("" if outcome.valid else "\nnot valid")
        axes.text(place, below[place], text, ha="center", va="bottom", fontsize=9, color=INK)
    known = [
        (place, item.report_bps / MEGABIT)
        for place, item in zip(places, shown, strict=True)
        if item.report_bps is not None
    ]
    if known:
        axes.scatter(
            [place for place, _ in known],
            [rate for _, rate in known],
            marker="D",
            s=46,
            color="white",
            edgecolor="#D55E00",
            linewidth=2,
            zorder=3,
            label="2012 report",
        )
    axes.set_xticks(list(places), [item.label for item in shown], rotation=30, ha="right")
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(f"on {testbed} (figures above the bars: goodput)", fontsize=10)
