"""How the times of requests and messages are distributed at each point of a sweep.

A run keeps the percentiles of its times, from the least to the greatest; of a point's runs the mean
at each percent is taken, with its interval, which is the mean of their distributions along the axis
of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mptcplab.report.differences import mean_of
from mptcplab.report.figure import (
    COLOURS,
    LONGEST_TITLE,
    STYLE,
    drawn,
    legend_columns,
    save,
)
from mptcplab.report.latency import finish_distribution
from mptcplab.results.statistics import Estimate
from mptcplab.sweeps.design import Column, Point
from mptcplab.sweeps.figure import short_key, slug
from mptcplab.sweeps.store import parameter_array
from mptcplab.sweeps.tasks import Row

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES: Final = 8
"""In a panel; more have no colours of their own."""
_MOST_PANELS: Final = 12
_PANELS_A_ROW: Final = 3


@dataclass(frozen=True, slots=True)
class Distribution:
    """The times (s) of a flow's requests or messages at one point, by percent from 0 to 100.

    None from the percent on at which a run has requests that were not answered; all None without a
    valid run.
    """

    point: int
    flow: str
    runs: int
    percentiles: Sequence[Estimate | None]


def distributions(count: int, rows: Sequence[Row]) -> list[list[Distribution]]:
    """Return a list for each flow that has times, with a distribution for each point."""
    flows = dict.fromkeys(flow for row in rows for flow in row.times_s)
    return [
        [_of_point(point, flow, [row for row in rows if row.point == point and row.valid])
         for point in range(count)]
        for flow in flows
    ]  # fmt: skip


def _of_point(point: int, flow: str, rows: Sequence[Row]) -> Distribution:
    known = {row.seed: row.times_s[flow] for row in rows if row.times_s.get(flow)}
    length = min(map(len, known.values()), default=0)
    means = [
        mean_of({seed: values[percent] for seed, values in known.items()})
        for percent in range(length)
    ]
    return Distribution(point, flow, len(known), means)


def distributions_table(
    points: Sequence[Point], columns: Sequence[Column], flows: Sequence[Sequence[Distribution]]
) -> pa.Table:
    """Return a row for each point, flow and percent."""
    import pyarrow as pa

    flat = [
        (each, percent, value)
        for of_flow in flows
        for each in of_flow
        for percent, value in enumerate(each.percentiles)
    ]
    arrays: dict[str, Any] = {"point": pa.array([each.point for each, *_ in flat], pa.int64())}
    for column in columns:
        arrays[column.key] = parameter_array(column, (points[each.point] for each, *_ in flat))
    values = [value for *_, value in flat]
    number = pa.float64()
    arrays |= {
        "flow": pa.array([each.flow for each, *_ in flat], pa.string()),
        "percent": pa.array([percent for _, percent, _ in flat], pa.int64()),
        "runs": pa.array([each.runs for each, *_ in flat], pa.int64()),
        "mean_s": pa.array([None if each is None else each.mean for each in values], number),
        "margin_s": pa.array([None if each is None else each.margin for each in values], number),
    }
    return pa.table(arrays)


def draw_distribution(
    title: str,
    points: Sequence[Point],
    columns: Sequence[Column],
    of_flow: Sequence[Distribution],
    folder: Path,
) -> list[Path]:
    """Draw a flow's distributions; return the PNG and SVG, named after the flow."""
    figure = distribution_figure(title, points, columns, of_flow)
    return save(figure, folder / f"figure-times-of-{slug(of_flow[0].flow)}")


def distribution_figure(
    title: str,
    points: Sequence[Point],
    columns: Sequence[Column],
    of_flow: Sequence[Distribution],
) -> Figure:
    """Return the figure of a flow's distributions, a line for each point with its band.

    Where there are more points than colours, the parameter with the most values that have colours
    has lines, every combination of the others a panel; what is beyond those is not drawn.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = _panels(points, columns, of_flow)
    across = min(len(panels), _PANELS_A_ROW)
    down = -(-len(panels) // across)
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(2 + 4.5 * across if across > 1 else 9, 1.4 + 3.6 * down), layout="constrained"
        )
        grid = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, (panel, lines) in zip(grid, panels.items(), strict=False):
            for place, (label, each) in enumerate(lines.items()):
                _draw(axes, drawn(label), each.percentiles, COLOURS[place % len(COLOURS)])
            finish_distribution(axes)
            axes.label_outer()
            axes.set_title(drawn(panel), loc="left", fontsize=10)
        handles = {
            label: handle
            for axes in grid[: len(panels)]
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=legend_columns(figure, list(handles)),
            frameon=False,
            fontsize=9,
        )
        text = f"{title}: times of {of_flow[0].flow}, mean of the runs and 95 % interval"
        figure.suptitle(drawn(text, LONGEST_TITLE), x=0.01, ha="left", fontsize=11)
    return figure


def _panels(
    points: Sequence[Point], columns: Sequence[Column], of_flow: Sequence[Distribution]
) -> dict[str, dict[str, Distribution]]:
    """Return what is drawn: by the panel's title and the line's label."""
    if len(points) <= _MOST_LINES:
        both = zip(points, of_flow, strict=True)
        return {"": {point.label: each for point, each in both}}
    fitting = [column for column in columns if len(column.texts) <= _MOST_LINES]
    lines = max(fitting, key=lambda column: len(column.texts), default=None)
    panels: dict[str, dict[str, Distribution]] = {}
    for point, each in zip(points, of_flow, strict=True):
        said = {
            column.key: f"{short_key(column.key)}={point.values[column.key]}" for column in columns
        }
        label = point.label if lines is None else said.pop(lines.key)
        panel = "" if lines is None else ", ".join(said.values())
        if panel in panels or len(panels) < _MOST_PANELS:
            panels.setdefault(panel, {})[label] = each
    return panels


def _draw(axes: Axes, label: str, values: Sequence[Estimate | None], colour: str) -> None:
    known = [(percent, value) for percent, value in enumerate(values) if value is not None]
    shares = [percent / 100 for percent, _ in known]
    means = [value.mean * 1e3 for _, value in known]
    margins = [(value.margin or 0.0) * 1e3 for _, value in known]
    axes.plot(means, shares, color=colour, label=label)
    low = [max(mean - margin, mean / 10) for mean, margin in zip(means, margins, strict=True)]
    high = [mean + margin for mean, margin in zip(means, margins, strict=True)]
    axes.fill_betweenx(shares, low, high, color=colour, alpha=0.2, linewidth=0)
