"""A sweep as part of a page: its figures, and a row for each point to filter and sort."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mptcplab.cli.sweep import mean_text
from mptcplab.plain_text import printable
from mptcplab.report.differences import percent_text
from mptcplab.report.page.document import Part
from mptcplab.report.page.markup import Markup, element, section
from mptcplab.report.page.run import validity
from mptcplab.sweeps.distributions import distribution_figure
from mptcplab.sweeps.figure import metric_figure
from mptcplab.sweeps.finished import FinishedSweep, read_sweep
from mptcplab.sweeps.tasks import unit_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mptcplab.sweeps.summary import Cell

_MOST_FIGURES: Final = 8
_MOST_REASONS: Final = 20


def sweep_part(folder: Path) -> Part:
    """Return what a page shows of a sweep's folder. Raises RunError for a damaged one."""
    sweep = read_sweep(folder)
    invalid = [row for row in sweep.rows if not row.valid]
    counted = Counter(reason for row in invalid for reason in row.reasons)
    reasons = [f"{count} runs: {why}" for why, count in counted.most_common(_MOST_REASONS)]
    keys = ", ".join(column.title or column.key for column in sweep.columns)
    facts = (
        f"{len(sweep.points)} points, {len(sweep.rows)} runs on {sweep.testbed}; mean and 95 % "
        "confidence interval (Student's t); differences are to the first point, and a point is "
        "better or worse where one is shown (those of a metric are corrected together, Holm)"
    )
    return Part(
        title=f"{sweep.scenario}: {sweep.title}" if sweep.title else sweep.scenario,
        kind="sweep",
        before=[
            element("p", f"What does {keys} change?", class_="question"),
            validity(not invalid, reasons, "some run" if invalid else "every run"),
            element("p", facts, class_="facts"),
            *_figures(sweep),
        ],
        after=[],
        listing=_listing(sweep) if sweep.rows else None,
    )


def _figures(sweep: FinishedSweep) -> Iterator[Markup]:
    for cells in sweep.cells()[:_MOST_FIGURES]:
        name, _ = unit_of(cells[0].metric)
        title = f"{sweep.scenario} on {sweep.testbed}"
        picture = _data_url(metric_figure(title, sweep.points, sweep.columns, cells))
        alternative = f"{name} over the points of the sweep; the table below has the values"
        yield section(name, element("img", src=picture, alt=alternative, class_="figure"))
    for of_flow in sweep.distributions()[:_MOST_FIGURES]:
        title = f"{sweep.scenario} on {sweep.testbed}"
        picture = _data_url(distribution_figure(title, sweep.points, sweep.columns, of_flow))
        name = f"times of {of_flow[0].flow}"
        alternative = f"how the {name} are distributed at the points of the sweep"
        yield section(name, element("img", src=picture, alt=alternative, class_="figure"))


def _data_url(figure: Figure) -> str:
    """Return a figure as the address of an image, whose texts stay texts."""
    import matplotlib as mpl

    stream = BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mptcplab"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _against(cell: Cell, first: Cell) -> str:
    """Return a point's difference to the first, and whether it is better or worse by it."""
    text = percent_text(cell.difference, first.value)
    return f"{text}, {cell.outcome}" if text and cell.outcome in ("better", "worse") else text


def _listing(sweep: FinishedSweep) -> dict[str, Any]:
    """Return the table of all points: parameters, runs, and each metric with its difference."""
    cells = sweep.cells()
    names = [unit_of(of_metric[0].metric)[0] for of_metric in cells]
    made = Counter(row.point for row in sweep.rows)
    valid = Counter(row.point for row in sweep.rows if row.valid)
    head = [*(column.title or column.key for column in sweep.columns), "valid runs"]
    for name in names:
        head += [name, "against the first"]
    rows = []
    for point in sweep.points:
        row: list[list[Any]] = []
        for column in sweep.columns:
            text = point.values[column.key]
            row.append(
                [printable(text), column.value(text)] if column.numbers else [printable(text)]
            )
        row.append([f"{valid[point.number]} of {made[point.number]}", valid[point.number]])
        for of_metric in cells:
            cell = of_metric[point.number]
            row.append([mean_text(cell), cell.value.mean if cell.value else -1])
            share = cell.difference.mean if cell.difference else 0
            row.append([_against(cell, of_metric[0]), share])
        rows.append(row)
    numeric = [place for place, column in enumerate(sweep.columns) if column.numbers]
    numeric += range(len(sweep.columns), len(head))
    return {"title": "Points", "head": list(map(printable, head)), "numeric": numeric, "rows": rows}
