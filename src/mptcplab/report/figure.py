"""Throughput over time, as the report's figures 13 to 21, 23 and 25 to 28 show it.

Of one flow, its links and their sum, as of several where the report gives links (figure 16); of
several else each flow, as in its figures 27 and 28.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

from mptcplab.report.verdict import findings_of, kind_of
from mptcplab.results.run import Run
from mptcplab.results.statistics import estimate
from mptcplab.results.summary import stages
from mptcplab.units import NANOSECONDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEGABIT = 1e6

# Okabe and Ito's palette, which readers with any colour vision tell apart
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
INK = "#222222"
_MUTED = "#777777"

Series = dict[tuple[float, float], float]
"""Rates (Mb/s) by interval (start and end, s)."""


STYLE: Final[Any] = {
    "svg.hashsalt": "mptcplab",
    "font.size": 10,
    "text.parse_math": False,  # a "$" in a title is a dollar
}

Several = Run | Sequence[Run]
"""One run, or repetitions of it with other seeds: their mean is drawn, in a band of 95 %."""


LONGEST_LABEL: Final = 48
"""Characters of a label; more would take the room of what is drawn."""
LONGEST_TITLE: Final = 110
_LETTER_INCHES: Final = 0.085
"""Of a legend's text, on average."""
_HANDLE_LETTERS: Final = 8
"""What a legend's line takes, and the gaps around it."""
_MOST_PANELS: Final = 6
MOST_NAMED: Final = 16
"""Lines that a legend names; more would take all of the figure."""


def draw_throughput(runs: Several, stem: Path) -> list[Path]:
    """Draw the links and goodput over time; return the PNG and SVG written at ``stem``."""
    return save(throughput_figure(runs), stem)


def throughput_figure(runs: Several) -> Figure:
    """Return the figure of the links and goodput over time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    runs = _listed(runs)
    run = runs[0]
    with mpl.rc_context(STYLE):
        several = len(run.scenario["flows"]) > 1
        figure = Figure(figsize=(10, 8.2 if several else 5.2), layout="constrained")
        panels = figure.subplots(2 if several else 1, 1, sharex=True, squeeze=False)
        first, last = panels[0, 0], panels[-1, 0]
        _draw_panel(first, runs, run.scenario["report"]["measured"], by_flow=several)
        first.set_ylabel("goodput of the flows (Mb/s)" if several else "throughput (Mb/s)")
        if several:  # the flows above, what they came to on the links below
            _mark_actions(run, last, _plot_links(runs, last)[0])
            _finish(runs, last)
            last.set_ylabel("throughput of the links (Mb/s)")
            first.set_xlabel("")
            for panel in (first, last):
                handles, labels = _named([panel])
                panel.legend(
                    handles,
                    labels,
                    loc="center left",
                    bbox_to_anchor=(1, 0.5),
                    frameon=False,
                    fontsize=9,
                )
        else:
            draw_legend(figure, [first])
        first.set_title(drawn(_title(runs), LONGEST_TITLE), loc="left", fontsize=11)
    return figure


def draw_side_by_side(
    title: str, runs: Mapping[str, Several], measured: Sequence[Mapping[str, Any]], stem: Path
) -> list[Path]:
    """Draw the same scenario's runs on several testbeds, a panel each; return PNG and SVG.

    ``measured`` is what the report gives for it, drawn in every panel.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 + 8 * len(runs), 5.2), layout="constrained")
        panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)
        for axes, (testbed, several) in zip(panels[0], runs.items(), strict=True):
            repeated = _listed(several)
            by_flow = told_by_flow(repeated[0], measured)
            _draw_panel(axes, repeated, measured, by_flow=by_flow)
            axes.set_title(f"on {testbed}{_counted(repeated)}", loc="left", fontsize=10)
        axes.set_ylim(0, max(axes.get_ylim()[1] for axes in panels[0]))
        panels[0][0].set_ylabel("throughput (Mb/s)")
        figure.suptitle(drawn(title, LONGEST_TITLE), x=0.01, ha="left", fontsize=11)
        draw_legend(figure, panels[0])
        return save(figure, stem)


def draw_overlay(runs: Mapping[str, Run], stem: Path) -> list[Path]:
    """Draw several runs over one another; return the PNG and SVG written at ``stem``."""
    return save(overlay_figure(runs), stem)


def overlay_figure(runs: Mapping[str, Run]) -> Figure:
    """Return the figure of several runs, by their labels: goodput of each flow, a line a run.

    Flows are one by name; of many, the sum is drawn. What the timeline does is marked where all
    runs have the same one.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    series = {label: _flow_series([run]) for label, run in runs.items()}
    names = list(dict.fromkeys(name for flows in series.values() for name in flows))
    if len(names) > _MOST_PANELS:
        total = "all flows"
        series = {label: {total: _sum(flows.values())} for label, flows in series.items()}
        names = [total]
    first, *others = runs.values()
    is_one_timeline = all(run.scenario["timeline"] == first.scenario["timeline"] for run in others)
    colours = colours_of(runs)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 1.8 + 3.2 * len(names)), layout="constrained")
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for name, axes in zip(names, panels, strict=True):
            highest = [
                _draw_steps(axes, flows[name], color=colours[label], label=drawn(label))
                for label, flows in series.items()
                if name in flows
            ]
            top = max(highest) or 1.0
            if is_one_timeline:
                _mark_actions(first, axes, top)
            else:
                axes.set_ylim(0, top * 1.15)
            _finish(list(runs.values()), axes)
            axes.set_ylabel(f"{drawn(name)} (Mb/s)")
            if axes is not panels[-1]:
                axes.set_xlabel("")
        draw_legend(figure, panels)
        panels[0].set_title("goodput of the flows", loc="left", fontsize=11)
    return figure


def _listed(runs: Several) -> Sequence[Run]:
    return [runs] if isinstance(runs, Run) else runs


def _counted(runs: Sequence[Run]) -> str:
    return "" if len(runs) == 1 else f", mean of {len(runs)} runs and 95 % interval"


def told_by_flow(run: Run, measured: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether flows, and not links, are what to show of a run beside what was measured."""
    links = {link["name"] for link in run.scenario["topology"]["links"]}
    return len(run.scenario["flows"]) > 1 and not any(value["of"] in links for value in measured)


def _draw_panel(
    axes: Axes, runs: Sequence[Run], measured: Sequence[Mapping[str, Any]], *, by_flow: bool
) -> None:
    if by_flow:
        highest, colours = _plot_flows(runs, axes)
    else:
        highest, colours = _plot_links(runs, axes)
    highest = max([highest, *_plot_report(runs[0], axes, measured, colours)])
    _mark_actions(runs[0], axes, highest)
    _finish(runs, axes)
    _tell_findings(runs[0], axes)


def _tell_findings(run: Run, axes: Axes) -> None:
    """Write into each stage what the report observed in it, and below what it did of the whole."""
    whole = [fill(f"2012: {text}", 100) for text in findings_of(run, None)]
    if whole:
        axes.set_xlabel("\n".join([axes.get_xlabel(), *whole]))
    for stage, (start_ns, end_ns) in enumerate(stages(run)):
        for text in findings_of(run, stage):
            axes.text(
                (start_ns + end_ns) / 2 / NANOSECONDS,
                axes.get_ylim()[1] * 0.02,
                fill(f"2012: {text}", 28),
                fontsize=8,
                color="#D55E00",
                ha="center",
                va="bottom",
            )


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name, always the same for the same names in the same order."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def drawn(text: str, most: int = LONGEST_LABEL) -> str:
    """Return a label as figures show it: of a long one the beginning and the end."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 1]}…{text[-end:]}"


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG, the same bytes for the same figure; return the two paths."""
    import warnings

    import matplotlib as mpl

    written = []
    with warnings.catch_warnings(), mpl.rc_context(STYLE):
        # letters that the font lacks are drawn as boxes, and the SVG has them as text
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            path = stem.with_name(f"{stem.name}.{suffix}")  # a stem may have dots of its own
            figure.savefig(path, dpi=130, metadata=metadata)
            written.append(path)
    return written


def _series(runs: Sequence[Run]) -> dict[str, list[Series]]:
    """Return the busier direction of each link that carried anything, of every run."""
    by_direction: dict[tuple[str, str], list[Series]] = {}
    for position, run in enumerate(runs):
        for row in run.rows("links"):
            key = (row["link"], row["direction"])
            of_runs = by_direction.setdefault(key, [{} for _ in runs])
            of_runs[position][_interval(row)] = row["bps"] / MEGABIT
    busier = {}
    for link in runs[0].scenario["topology"]["links"]:
        both = [by_direction.get((link["name"], way), []) for way in ("forward", "backward")]
        busier[link["name"]] = max(both, key=_total)
    return {name: series for name, series in busier.items() if _total(series)}


def _total(several: Sequence[Series]) -> float:
    return sum(sum(series.values()) for series in several)


def _flow_series(runs: Sequence[Run]) -> dict[str, list[Series]]:
    """Return the goodput of each flow, of every run."""
    by_flow: dict[str, list[Series]] = {}
    for position, run in enumerate(runs):
        for row in run.rows("flows"):
            of_runs = by_flow.setdefault(row["flow"], [{} for _ in runs])
            series, interval = of_runs[position], _interval(row)
            series[interval] = series.get(interval, 0.0) + row["goodput_bps"] / MEGABIT
    return by_flow


def _interval(row: Mapping[str, Any]) -> tuple[float, float]:
    return (row["time_ns"] - row["interval_ns"]) / NANOSECONDS, row["time_ns"] / NANOSECONDS


def _sum(several: Iterable[Sequence[Series]]) -> list[Series]:
    """Return the sum of flows or links, of every run."""
    return [_sum_of(of_one_run) for of_one_run in zip(*several, strict=True)]


def _sum_of(several: Iterable[Series]) -> Series:
    total: Series = defaultdict(float)
    for series in several:
        for interval, rate in series.items():
            total[interval] += rate
    return total


def _draw_steps(axes: Axes, several: Sequence[Series], **style: Any) -> float:
    """Draw a rate that holds from the start to the end of each interval; return the highest value.

    Of several runs the mean, in a band of its 95 % interval.  Their samples are numbered alike,
    if not taken at exactly the same times.
    """
    samples = [sorted(series.items()) for series in several if series]
    if not samples:
        return 0.0
    columns = list(zip(*samples, strict=False))
    estimates = [estimate([rate for _, rate in column]) for column in columns]
    times = [columns[0][0][0][0], *(column[0][0][1] for column in columns)]
    rates = [value.mean for value in estimates]
    axes.plot(times, [rates[0], *rates], drawstyle="steps-pre", **style)
    margins = [value.margin or 0.0 for value in estimates]
    if any(margins):
        low = [max(0.0, rate - margin) for rate, margin in zip(rates, margins, strict=True)]
        high = [rate + margin for rate, margin in zip(rates, margins, strict=True)]
        axes.fill_between(
            times,
            [low[0], *low],
            [high[0], *high],
            step="pre",
            color=style["color"],
            alpha=0.2,
            linewidth=0,
        )
        return max(high)
    return max(rates)


def _plot_flows(runs: Sequence[Run], axes: Axes) -> tuple[float, dict[str, str]]:
    """Draw the goodput of each flow and of all; return the highest value and the colours."""
    flows = _flow_series(runs)
    colours = colours_of(flows)
    for name, series in flows.items():
        _draw_steps(axes, series, color=colours[name], linewidth=1.8, label=name)
    total = _sum(flows.values())
    return _draw_steps(
        axes, total, color=INK, linewidth=1.4, label="sum of the flows"
    ) or 1.0, colours


def _plot_links(runs: Sequence[Run], axes: Axes) -> tuple[float, dict[str, str]]:
    """Draw each link, their sum where that means something, and the goodput of all flows."""
    links = _series(runs)
    colours = colours_of(links)
    highest = []
    for index, (name, series) in enumerate(links.items()):
        # links that run level stay visible
        width = 1.5 + min(1.2 * (len(links) - 1 - index), 6)
        highest.append(_draw_steps(axes, series, color=colours[name], linewidth=width, label=name))
    if len(links) > 1 and not _in_series(runs[0], links):
        total = _sum(links.values())
        label = "sum of the links"
        highest.append(_draw_steps(axes, total, color=INK, linewidth=1.8, label=label))
    goodput = _sum(_flow_series(runs).values())
    style = {"color": _MUTED, "linewidth": 1.1, "linestyle": (0, (4, 2))}
    highest.append(_draw_steps(axes, goodput, label="goodput of the flows", **style))
    return max(highest) or 1.0, colours


def _in_series(run: Run, names: Container[str]) -> bool:
    """Return whether two of the links meet at a switch, so that bytes count on one and another."""
    switches = [
        end
        for link in run.scenario["topology"]["links"]
        if link["name"] in names
        for end in (link["a"], link["b"])
        if ":" not in end  # an interface is "host:interface"
    ]
    return len(set(switches)) < len(switches)


def _plot_report(
    run: Run, axes: Axes, measured: Iterable[Mapping[str, Any]], colours: Mapping[str, str]
) -> list[float]:
    """Draw what the report measured, stage by stage or over the whole run; return the values."""
    cuts = stages(run)
    seen = []
    for value in measured:
        if value["of"] != "total" and value["of"] not in colours:
            continue
        capacity = kind_of(value) == "capacity"
        label = f"2012 report, {'in sum' if value['of'] == 'total' else value['of']}"
        if capacity:
            label = "what the links could carry, by the 2012 report"
        if value["stage"] is None:
            start_ns, end_ns = 0, run.metadata["measured_ns"]
        elif value["stage"] < len(cuts):
            start_ns, end_ns = cuts[value["stage"]]
        else:
            continue
        axes.hlines(
            value["value_bps"] / MEGABIT,
            start_ns / NANOSECONDS,
            end_ns / NANOSECONDS,
            color=_MUTED if capacity else colours.get(value["of"], "#D55E00"),
            linewidth=1.2 if capacity else 5,
            linestyle=(0, (1, 2)) if capacity else "solid",
            alpha=0.8 if capacity else 0.25,
            label=label,
            zorder=0,
        )
        seen.append(value["value_bps"] / MEGABIT)
    return seen


def _mark_actions(run: Run, axes: Axes, highest: float) -> None:
    by_time: dict[int, list[str]] = defaultdict(list)
    captioned = set()
    for action in run.scenario["timeline"]:
        caption = _caption(action)
        captions = by_time[action["at_ns"]]
        if not action.get("repeated") or caption not in captioned:
            captions.append(caption)
        captioned.add(caption)
    axes.set_ylim(0, highest * (1.32 if by_time else 1.15))
    for at_ns, captions in sorted(by_time.items()):
        at = at_ns / NANOSECONDS
        axes.axvline(at, color=_MUTED, linewidth=0.8, linestyle=":")
        axes.text(
            at,
            highest * 1.3,
            " " + "\n ".join(captions),
            rotation=90,
            fontsize=8,
            color=INK,
            va="top",
            ha="right",
        )


def _caption(action: dict[str, Any]) -> str:
    if action["label"]:
        return drawn(str(action["label"]))
    changes = ", ".join(f"{key} {value}" for key, value in action["changes"])
    return drawn(" ".join(part for part in (action["target"], action["verb"], changes) if part))


def _finish(runs: Sequence[Run], axes: Axes) -> None:
    longest_ns = max(run.metadata["measured_ns"] for run in runs)
    axes.set_xlim(0, max(longest_ns, 1) / NANOSECONDS)
    axes.set_xlabel("time (s)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if not all(run.metadata["valid"] for run in runs):
        axes.text(
            0.5,
            0.5,
            "NOT VALID",
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=48,
            color="#D55E00",
            alpha=0.18,
        )


def _title(runs: Sequence[Run]) -> str:
    run = runs[0]
    scenario = run.scenario
    scale = "" if scenario["time_scale"] == 1 else f", time scale {scenario['time_scale']:.3g}"
    name = f"{scenario['name']}: {scenario['title']}" if scenario["title"] else scenario["name"]
    return f"{name} (on {run.metadata['testbed']}{scale}{_counted(runs)})"


def draw_legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """One legend for all panels, below them."""
    handles, labels = _named(panels)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=legend_columns(figure, labels),
        frameon=False,
        fontsize=9,
    )


def legend_columns(figure: Figure, labels: Sequence[str]) -> int:
    """Return how many columns of a legend below all panels fit into the figure's width."""
    longest = max(map(len, labels), default=0)
    fitting = int(figure.get_figwidth() / (_LETTER_INCHES * (longest + _HANDLE_LETTERS)))
    return max(1, min(len(labels), 6, fitting))


def logarithmic(axes: Axes) -> None:
    """Make the axis of x a logarithmic one, whose ticks are numbers as one writes them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _named(panels: Iterable[Axes]) -> tuple[list[Any], list[str]]:
    """Return what a legend names, each label once; of many, the first and how many more."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    more = len(handles) - MOST_NAMED
    if more > 0:
        from matplotlib.lines import Line2D

        handles = dict(list(handles.items())[:MOST_NAMED])
        handles[f"and {more} more"] = Line2D([], [], linestyle="none")
    return list(handles.values()), list(handles)
