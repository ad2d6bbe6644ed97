"""One metric of a sweep: lines with bands over a numeric axis, or marks with intervals.

The axis is the numeric parameter that takes the most values (the points' ``x`` is one), the second
parameter has a line each, every combination of the others a panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, isclose, log10
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mptcplab.report.figure import (
    COLOURS,
    INK,
    LONGEST_TITLE,
    STYLE,
    drawn,
    legend_columns,
    logarithmic,
    save,
)
from mptcplab.sweeps.design import Column, Point
from mptcplab.sweeps.summary import Cell
from mptcplab.sweeps.tasks import unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PANELS: Final = 12
_MOST_LINES: Final = 8
"""Beyond it colours repeat; then every combination is a mark in a list."""
_LOGARITHMIC: Final = 20
"""How many times the least value the greatest is from which the axis is a logarithmic one."""
_PANELS_A_ROW: Final = 3
_AXIS_UNITS: Final = {"bit/s": ("Mb/s", 1e6), "bytes": ("MB", 1e6), "s": ("ms", 1e-3)}


@dataclass(frozen=True, slots=True)
class _Layout:
    axis: Column
    lines: Column | None
    panels: tuple[Column, ...]


def draw_metric(
    title: str,
    points: Sequence[Point],
    columns: Sequence[Column],
    cells: Sequence[Cell],
    folder: Path,
) -> list[Path]:
    """Draw a metric's cells, one for each point; return the PNG and SVG, named after the metric."""
    name, _ = unit_of(cells[0].metric)
    return save(metric_figure(title, points, columns, cells), folder / f"figure-{slug(name)}")


def slug(name: str) -> str:
    """Return a name as part of a file's."""
    return "-".join("".join(c if c.isalnum() else " " for c in name).split())


def metric_figure(
    title: str, points: Sequence[Point], columns: Sequence[Column], cells: Sequence[Cell]
) -> Figure:
    """Return the figure of a metric's cells, one for each point."""
    import matplotlib as mpl

    name, _ = unit_of(cells[0].metric)
    layout = _layout(columns)
    with mpl.rc_context(STYLE):
        if layout is None:
            figure = _draw_marks(points, cells)
        else:
            figure = _draw_lines(points, cells, layout)
        figure.suptitle(
            drawn(f"{title}: {name}, mean and 95 % interval", LONGEST_TITLE),
            x=0.01,
            ha="left",
            fontsize=11,
        )
    return figure


def _layout(columns: Sequence[Column]) -> _Layout | None:
    """Return what the axis, the lines and the panels are; None where no parameter is an axis."""
    numeric = [column for column in columns if column.numbers and len(column.numbers) > 1]
    if not numeric:
        return None
    axis = max(numeric, key=lambda column: len(column.numbers or ()))
    rest = sorted((c for c in columns if c is not axis), key=lambda column: -len(column.texts))
    lines = next((column for column in rest if len(column.texts) <= _MOST_LINES), None)
    panels = tuple(column for column in columns if column not in (axis, lines))
    count = 1
    for column in panels:
        count *= len(column.texts)
    return _Layout(axis, lines, panels) if count <= _MOST_PANELS else None


def _draw_lines(points: Sequence[Point], cells: Sequence[Cell], layout: _Layout) -> Figure:
    from matplotlib.figure import Figure

    by_panel: dict[str, dict[str, list[tuple[float, Cell]]]] = {}
    for point, cell in zip(points, cells, strict=True):
        panel = ", ".join(f"{short_key(c.key)}={point.values[c.key]}" for c in layout.panels)
        line = "" if layout.lines is None else point.values[layout.lines.key]
        x = float(layout.axis.value(point.values[layout.axis.key]))
        by_panel.setdefault(panel, {}).setdefault(line, []).append((x, cell))
    across = min(len(by_panel), _PANELS_A_ROW)
    down = ceil(len(by_panel) / across)
    figure = Figure(
        figsize=(2 + 4.5 * across if across > 1 else 8, 1 + 3.6 * down), layout="constrained"
    )
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    axes_of = list(grid.flat)
    for axes in axes_of[len(by_panel) :]:
        axes.set_visible(False)
    x_unit, x_scale = _AXIS_UNITS.get(layout.axis.unit, ("", 1.0))
    for place, (axes, (panel, lines)) in enumerate(zip(axes_of, by_panel.items(), strict=False)):
        for number, (line, values) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            _draw_line(axes, drawn(line), [(x / x_scale, cell) for x, cell in values], colour)
        axes.set_title(drawn(panel), loc="left", fontsize=10)
        _finish(axes, [x / x_scale for values in lines.values() for x, _ in values])
        if place % across == 0:
            axes.set_ylabel(_y_label(cells[0].metric))
        unit = f" ({x_unit})" if x_unit else ""
        axes.set_xlabel(f"{drawn(layout.axis.name)}{unit}")
    if layout.lines is not None:
        handles, labels = axes_of[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=legend_columns(figure, labels),
            frameon=False,
            title=short_key(layout.lines.key),
        )
    return figure


def _draw_line(axes: Axes, label: str, values: Sequence[tuple[float, Cell]], colour: str) -> None:
    """Draw the means of a line with their band; points without a mean are gaps."""
    scale = _scale(values[0][1].metric)
    ordered = sorted(values, key=lambda pair: pair[0])
    known = [(x, cell.value) for x, cell in ordered if cell.value is not None]
    xs = [x for x, _ in known]
    means = [value.mean / scale for _, value in known]
    margins = [(value.margin or 0.0) / scale for _, value in known]
    axes.plot(xs, means, marker="o", markersize=4, color=colour, label=label)
    low = [mean - margin for mean, margin in zip(means, margins, strict=True)]
    high = [mean + margin for mean, margin in zip(means, margins, strict=True)]
    axes.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)


def _draw_marks(points: Sequence[Point], cells: Sequence[Cell]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.3 * len(points)), layout="constrained")
    axes = figure.subplots()
    scale = _scale(cells[0].metric)
    for place, cell in enumerate(cells):
        if cell.value is None:
            text = " not done in time" if cell.missing else " no valid run"
            axes.text(0, place, text, va="center", color=INK, fontsize=8)
            continue
        axes.errorbar(
            cell.value.mean / scale,
            place,
            xerr=(cell.value.margin or 0.0) / scale,
            fmt="o",
            color=COLOURS[0],
            capsize=4,
        )
    axes.set_yticks(range(len(points)), [drawn(point.label) for point in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(_y_label(cells[0].metric))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _finish(axes: Axes, xs: Sequence[float]) -> None:
    axes.set_ylim(bottom=0)
    least, most = min(xs), max(xs)
    if least > 0 and most / least >= _LOGARITHMIC:
        logarithmic(axes)
        ticks = sorted(set(xs))
        if len(ticks) <= _MOST_LINES and not any(
            isclose(log10(a), log10(b), abs_tol=0.1) for a, b in pairwise(ticks)
        ):
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _y_label(metric: str) -> str:
    name, unit = unit_of(metric)
    shown = {"bit/s": " (Mb/s)", "s": " (s)"}.get(unit, "")
    return f"{drawn(name)}{shown}"


def _scale(metric: str) -> float:
    return 1e6 if unit_of(metric)[1] == "bit/s" else 1.0


def short_key(key: str) -> str:
    """Return the last part of a key, as figures show it."""
    return drawn(key.rpartition(".")[2])
