"""The variants of one experiment side by side: what each came to, on each testbed, beside 2012."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mptcplab.report.figure import (
    INK,
    LONGEST_TITLE,
    MEGABIT,
    STYLE,
    colours_of,
    draw_legend,
    drawn,
    save,
    told_by_flow,
)
from mptcplab.report.repetitions import mean_of, mean_rate, valid_ones
from mptcplab.report.verdict import Measurement, findings_of, kind_of
from mptcplab.results.run import Run
from mptcplab.results.statistics import Estimate
from mptcplab.results.summary import completion_s, stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPORT = "2012 report"
_IN_SUM = "in sum"
_BAR_INCHES: Final = 0.6  # at least, so that the values above bars do not overlap


@dataclass(frozen=True, slots=True)
class Variant:
    """One point of a sweep, or a scenario without one: its runs by testbed, and what 2012 gave.

    ``runs`` differ in their seeds.  ``measured`` are the report's values as ``run.json`` has them
    (``value_bps``, ``of``, ``stage``, ``source``, ``note``), ``figures`` its figures of this run
    over time.
    """

    label: str
    measured: Sequence[Mapping[str, Any]] = ()
    figures: Sequence[int] = ()
    testbeds: Sequence[str] = ()
    """Where it can run, if not everywhere."""
    inspected: Sequence[tuple[str, int]] = ()
    """Figures of its captures, by the name that ``inspect`` has for them, with the report's."""
    planned: dict[str, list[Path]] = field(default_factory=dict)
    """The folders of its runs by testbed, also of those that are still to be made."""
    runs: dict[str, list[Run]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the summary: means over the valid runs, None where there is none to give."""

    what: str
    measured: Mapping[str, Estimate | None]
    """By testbed; in bits per second, or seconds where ``is_time``."""
    report_bps: tuple[int, ...] = ()
    """What the report measured; several where its runs differed."""
    capacity_bps: int | None = None
    """What the links could carry, by the report."""
    findings: tuple[str, ...] = ()
    """What the report observed without a value."""
    is_time: bool = False


def rows_of(variant: Variant) -> list[Row]:
    """Return what to say of a variant: its goodput, stages and flows, and all the report gives.

    A flow with a size has the time it took, and its goodput in that time.  Where testbeds are
    compared, or the report found something, also what each link carried.
    """
    first = next(iter(variant.runs.values()))[0]
    wanted: dict[tuple[str, int | None], list[int]] = {}
    capacities: dict[tuple[str, int | None], int] = {}
    staged = range(len(stages(first))) if first.scenario["timeline"] else ()
    links = [link["name"] for link in first.scenario["topology"]["links"]]
    for stage in staged or (None,):
        by_link = len(variant.runs) > 1 or (stage is not None and findings_of(first, stage))
        for of in ("total", *(links if by_link else ())):
            wanted[of, stage] = []
    sized = [flow["name"] for flow in first.scenario["flows"] if flow["size_bytes"]]
    if len(first.scenario["flows"]) > 1:
        for flow in first.scenario["flows"]:
            wanted[flow["name"], None] = []
    for value in variant.measured:
        place = value["of"], value["stage"]
        reported = wanted.setdefault(place, [])
        if kind_of(value) == "capacity":
            capacities[place] = value["value_bps"]
        else:
            reported.append(value["value_bps"])
    measurements = {
        testbed: [Measurement(run) for run in valid_ones(runs)]
        for testbed, runs in variant.runs.items()
    }
    naming = next((each[0] for each in measurements.values() if each), Measurement(first))
    rows = [
        Row(
            naming.name(of, stage),
            {name: mean_rate(each, of, stage)[0] for name, each in measurements.items()},
            tuple(values),
            capacities.get((of, stage)),
            tuple(findings_of(first, stage)) if of == "total" and stage is not None else (),
        )
        for (of, stage), values in wanted.items()
    ]
    for name in sized:
        taken = {
            testbed: mean_of([completion_s(run, name) for run in valid_ones(runs)])
            for testbed, runs in variant.runs.items()
        }
        rows.append(Row(f"time of {name}", taken, is_time=True))
    return rows


def draw_sweep(title: str, axis: str, variants: Sequence[Variant], stem: Path) -> list[Path]:
    """Draw the variants as stacked bars, a panel for each testbed and one for 2012.

    A bar is made of links, or of flows where there are several and the report gives no links, over
    the time that verdicts judge; the goodput is written above it, with the 95 % interval where
    there are several runs. Return the PNG and the SVG.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = _panels(variants)
    names = [name for bars in panels.values() for bar in bars for name in bar.parts_bps]
    colours = colours_of(dict.fromkeys(name for name in names if name != _IN_SUM))
    colours[_IN_SUM] = "#bbbbbb"
    with mpl.rc_context(STYLE):
        width = max(5.0, _BAR_INCHES * len(variants))
        figure = Figure(figsize=(2 + width * len(panels), 5), layout="constrained")
        (row,) = figure.subplots(1, len(panels), sharey=True, squeeze=False)
        for (name, bars), axes in zip(panels.items(), row, strict=True):
            _draw_panel(axes, bars, colours)
            labels = [drawn(variant.label) for variant in variants]
            axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
            axes.set_xlabel(axis)
            axes.set_title(name if name == REPORT else f"on {name}", loc="left", fontsize=10)
        row[0].set_ylabel("throughput (Mb/s)")
        title = drawn(title, LONGEST_TITLE)
        figure.suptitle(f"{title} (above the bars: goodput)", x=0.01, ha="left", fontsize=11)
        draw_legend(figure, row)
        return save(figure, stem)


@dataclass(frozen=True, slots=True)
class _Bar:
    """What one bar is made of, by link or flow, and the text above it."""

    parts_bps: Mapping[str, float]
    text: str
    total: Estimate | None = None


def _panels(variants: Sequence[Variant]) -> dict[str, list[_Bar]]:
    testbeds = dict.fromkeys(name for variant in variants for name in variant.runs)
    measured = [value for variant in variants for value in variant.measured]
    panels = {
        testbed: [_measured_bar(variant.runs.get(testbed), measured) for variant in variants]
        for testbed in testbeds
    }
    if any(value["stage"] is None and kind_of(value) != "capacity" for value in measured):
        panels[REPORT] = [_report_bar(variant) for variant in variants]
    return panels


def _measured_bar(runs: Sequence[Run] | None, measured: Sequence[Mapping[str, Any]]) -> _Bar:
    if not runs:
        return _Bar({}, "")
    valid = valid_ones(runs)
    left_out = len(runs) - len(valid)
    mark = "" if not left_out else "\nnot valid" if not valid else f"\n{left_out} not valid"
    # a single run is drawn though it is not valid, and marked; of several, the others count
    measurements = [Measurement(run) for run in valid or runs[:1]]
    total, outcome = mean_rate(measurements, "total", None)
    if total is None:
        return _Bar({}, outcome + mark)
    run = runs[0]
    flows, links = run.scenario["flows"], run.scenario["topology"]["links"]
    names = [part["name"] for part in (flows if told_by_flow(run, measured) else links)]
    parts = {}
    for name in names:
        part = mean_rate(measurements, name, None)[0]
        parts[name] = 0.0 if part is None else part.mean
    text = f"{total.mean / MEGABIT:,.0f}"
    if total.mean < 10 * MEGABIT:
        text = f"{total.mean / MEGABIT:.3g}"
    if total.margin is not None:
        text += f" ± {total.margin / MEGABIT:.2g}"
    return _Bar(parts, text + mark, total)


def _report_bar(variant: Variant) -> _Bar:
    whole = [
        (value["of"], value["value_bps"])
        for value in variant.measured
        if value["stage"] is None and kind_of(value) != "capacity"
    ]
    totals = [rate_bps for of, rate_bps in whole if of == "total"]
    parts = {of: float(rate_bps) for of, rate_bps in whole if of != "total"}
    if totals:  # runs that differed: their mean, with the values above
        parts[_IN_SUM] = max(0.0, sum(totals) / len(totals) - sum(parts.values()))
    texts = [f"{value / MEGABIT:,.0f}" for value in totals]
    return _Bar(
        parts, "\n".join(texts) or (f"{sum(parts.values()) / MEGABIT:,.0f}" if parts else "")
    )


def _draw_panel(axes: Axes, bars: Sequence[_Bar], colours: Mapping[str, str]) -> None:
    tops = [0.0] * len(bars)
    for name in dict.fromkeys(name for bar in bars for name in bar.parts_bps):
        rates = [bar.parts_bps.get(name, 0.0) / MEGABIT for bar in bars]
        if not any(rates):
            continue
        axes.bar(range(len(bars)), rates, bottom=tops, width=0.7, color=colours[name], label=name)
        tops = [top + rate for top, rate in zip(tops, rates, strict=True)]
    for place, (bar, top) in enumerate(zip(bars, tops, strict=True)):
        margin = None if bar.total is None else bar.total.margin
        if bar.total is not None and margin is not None:
            style: dict[str, Any] = {"color": INK, "capsize": 4, "linewidth": 1.2}
            axes.errorbar(place, bar.total.mean / MEGABIT, yerr=margin / MEGABIT, **style)
            top = max(top, (bar.total.mean + margin) / MEGABIT)
        axes.text(place, top, bar.text, ha="center", va="bottom", fontsize=9, color=INK)
    axes.set_xlim(-0.6, len(bars) - 0.4)
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
