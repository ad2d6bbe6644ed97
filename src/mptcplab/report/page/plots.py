"""What a page plots: series over time, shares of time, distributions; thinned to what one can see.

``to_json`` of each gives what ``assets/page.js`` reads: times as whole microseconds, each less the
one before it, values with five digits, null for none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from mptcplab.plain_text import printable
from mptcplab.results.application_times import PERCENTILES, percentile

Floats = NDArray[np.float64]
Unit = Literal["bit/s", "B", "s", ""]
Style = Literal["rate", "line", "held", "points"]

MOST_POINTS: Final = 1500
"""Of a series: more than a screen has columns."""
_MOST_INTERVALS: Final = 600
"""Of shares of time."""
_LEAST_S: Final = 1e-9
"""Of a distribution, whose axis is logarithmic."""


@dataclass(slots=True)
class Series:
    """One thing over time (s)."""

    name: str
    time_s: Floats
    value: Floats
    """NaN where there is none."""
    colour: int = 0
    """Which of the page's colours; the same for the same thing in all plots."""
    is_dashed: bool = False
    is_hidden: bool = False
    """Not drawn until it is asked for."""
    interval_s: float = 0.0
    """Of rates: the length of the first interval; each value is that up to its time."""


@dataclass(slots=True)
class Plot:
    """Series on one axis.

    A "rate" holds over the interval that ends at its time, a "line" is sampled, what is "held"
    stays until the next value, "points" stand alone.
    """

    key: str
    """Its name within a part."""
    title: str
    unit: Unit
    style: Style
    series: list[Series]
    note: str = ""
    is_logarithmic: bool = False

    def to_json(self, most_points: int = MOST_POINTS) -> dict[str, Any]:
        """Return what the page's script draws."""
        thin = {"rate": _means, "line": _extremes, "held": _extremes, "points": _every}[self.style]
        series, is_thinned = [], False
        for one in self.series:
            time_s, value = one.time_s, one.value
            mean, most = numbers(np.array([_mean(one, self.style), _most(value)]))
            if time_s.size > most_points:
                time_s, value = thin(time_s, value, most_points)
                is_thinned = True
            if self.is_logarithmic:  # which has no place for 0
                value = np.where(value > 0, value, np.nan)
            if self.style == "rate" and time_s.size:
                begin_s = max(0.0, float(one.time_s[0]) - one.interval_s)
                time_s, value = np.append(begin_s, time_s), np.append(value[:1], value)
            series.append(
                {
                    "name": printable(one.name),
                    "colour": one.colour,
                    "dashed": one.is_dashed,
                    "hidden": one.is_hidden,
                    "mean": mean,
                    "most": most,
                    "t": microseconds(time_s),
                    "y": numbers(value),
                }
            )
        note = self.note
        if is_thinned:
            note = f"{note} {_THINNED[self.style].format(most_points)}".strip()
        return {
            "key": self.key,
            "title": printable(self.title),
            "unit": self.unit,
            "style": self.style,
            "log": self.is_logarithmic,
            "note": printable(note),
            "series": series,
        }


_LOWEST_AND_HIGHEST: Final = (
    "Of longer series the lowest and the highest value of each stretch are drawn, {} in all."
)
_THINNED: Final = {
    "rate": "Longer series are drawn as the means of {} stretches.",
    "line": _LOWEST_AND_HIGHEST,
    "held": _LOWEST_AND_HIGHEST,
    "points": "Of longer series every n-th point is drawn, {} in all.",
}


def _mean(series: Series, style: Style) -> float:
    """Return the mean of a series: over time where its values hold for a time."""
    weights = np.ones(series.value.size)
    if style == "rate" and series.value.size:
        weights = np.diff(series.time_s, prepend=series.time_s[0] - series.interval_s)
    elif style == "held":
        weights = np.diff(series.time_s, append=series.time_s[-1:])
    known = np.isfinite(series.value)
    total = float(weights[known].sum())
    return (
        float((series.value * weights)[known].sum()) / total if total > 0 else _most(series.value)
    )


def _most(value: Floats) -> float:
    known = value[np.isfinite(value)]
    return float(known.max()) if known.size else float("nan")


def _means(time_s: Floats, value: Floats, most: int) -> tuple[Floats, Floats]:
    """Return the means of neighbours; each holds up to the last of them."""
    width = -(-time_s.size // most)
    starts = np.arange(0, time_s.size, width)
    known = np.isfinite(value)
    count = np.add.reduceat(known.astype(np.int64), starts)
    total = np.add.reduceat(np.where(known, value, 0.0), starts)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return time_s[np.minimum(starts + width, time_s.size) - 1], mean


def _extremes(time_s: Floats, value: Floats, most: int) -> tuple[Floats, Floats]:
    """Return the lowest and the highest value of each stretch, at their times, and both ends."""
    width = -(-time_s.size // max(most // 2, 1))
    starts = np.arange(0, time_s.size, width)
    chosen = {0, time_s.size - 1}
    for start in starts.tolist():
        part = value[start : start + width]
        if np.isnan(part).all():
            chosen.add(start)
            continue
        chosen |= {start + int(np.nanargmin(part)), start + int(np.nanargmax(part))}
    places = np.array(sorted(chosen))
    return time_s[places], value[places]


def _every(time_s: Floats, value: Floats, most: int) -> tuple[Floats, Floats]:
    step = -(-time_s.size // most)
    return time_s[::step], value[::step]


@dataclass(slots=True)
class Shares:
    """How a stretch of time was divided, interval by interval: one strip of colours.

    Each interval is (start, end, share by name); times are seconds.
    """

    key: str
    title: str
    intervals: Sequence[tuple[float, float, Mapping[str, float]]]
    note: str = ""

    def to_json(self, most_points: int = MOST_POINTS) -> dict[str, Any]:
        """Return what the page's script draws."""
        most = min(most_points, _MOST_INTERVALS)
        intervals = _regular(self.intervals, most)
        total: dict[str, float] = {}
        for start, end, shares in self.intervals:
            for name, share in shares.items():
                total[name] = total.get(name, 0.0) + share * (end - start)
        names = sorted(total, key=lambda name: -total[name])
        place = {name: number for number, name in enumerate(names)}
        length = max(sum(total.values()), 1e-12)
        return {
            "key": self.key,
            "title": printable(self.title),
            "style": "shares",
            "note": printable(self.note),
            "names": [printable(name) for name in names],
            "of_all": [round(total[name] / length, 4) for name in names],
            "start": microseconds(np.array([start for start, _, _ in intervals])),
            "end": microseconds(np.array([end for _, end, _ in intervals])),
            "shares": [
                [number for name in sorted(shares, key=place.__getitem__)
                 for number in (place[name], round(shares[name], 3)) if shares[name] >= 0.0005]
                for _, _, shares in intervals
            ],
        }  # fmt: skip


def _regular(
    intervals: Sequence[tuple[float, float, Mapping[str, float]]], most: int
) -> Sequence[tuple[float, float, Mapping[str, float]]]:
    """Return the intervals, or where there are more than ``most`` of them, equal ones in their
    place.
    """
    if len(intervals) <= most:
        return intervals
    first, last = intervals[0][0], max(end for _, end, _ in intervals)
    width = max((last - first) / most, 1e-9)
    time: list[dict[str, float]] = [{} for _ in range(most)]
    for start, end, shares in intervals:
        low = min(int((start - first) / width), most - 1)
        high = min(int((end - first) / width), most - 1)
        for place in range(low, high + 1):
            begin = first + place * width
            overlap = min(end, begin + width) - max(start, begin)
            for name, share in shares.items():
                if overlap > 0:
                    time[place][name] = time[place].get(name, 0.0) + share * overlap / width
    return [
        (first + place * width, first + (place + 1) * width, shares)
        for place, shares in enumerate(time)
        if shares
    ]


@dataclass(slots=True)
class Distribution:
    """How large a share of things took at most how long (s, ascending; ``of`` is their number,
    with those that never ended)."""

    key: str
    title: str
    curves: list[tuple[str, Floats, int]] = field(default_factory=list)

    def to_json(self, most_points: int = MOST_POINTS) -> dict[str, Any]:
        """Return what the page's script draws."""
        series = []
        for colour, (name, value_s, of) in enumerate(self.curves):
            share = np.arange(1, value_s.size + 1) / max(of, 1)
            step = max(1, value_s.size // most_points)
            places = np.unique(np.append(np.arange(0, value_s.size, step), value_s.size - 1))
            series.append(
                {
                    "name": printable(name),
                    "colour": colour,
                    "dashed": False,
                    "hidden": False,
                    **_percentiles(value_s, of),
                    "x": numbers(np.maximum(value_s[places], _LEAST_S)),
                    "y": numbers(share[places]),
                }
            )
        return {
            "key": self.key,
            "title": printable(self.title),
            "unit": "",
            "style": "distribution",
            "note": "",
            "series": series,
        }


def _percentiles(value_s: Floats, of: int) -> dict[str, float | int | None]:
    """Return percentiles, of all with those that never ended."""
    values = [*value_s.tolist(), *[inf] * (of - value_s.size)]
    known = [percentile(values, percent) for percent in PERCENTILES]
    found = numbers(np.array([nan if value is None else value for value in known]))
    return {f"p{percent}": value for percent, value in zip(PERCENTILES, found, strict=True)}


AnyPlot = Plot | Shares | Distribution


def microseconds(time_s: Floats) -> list[int]:
    """Return times as whole microseconds, each less the one before it."""
    whole = np.rint(np.asarray(time_s, dtype=np.float64) * 1e6).astype(np.int64)
    steps: list[int] = np.diff(whole, prepend=0).tolist()
    return steps


def numbers(value: Floats) -> list[float | int | None]:
    """Return values with five digits as JSON has them, None for those that are none."""
    written: list[float | int | None] = []
    for number in np.asarray(value, dtype=np.float64).tolist():
        if number != number or number in (float("inf"), float("-inf")):
            written.append(None)
        else:
            rounded = float(f"{number:.5g}")
            written.append(int(rounded) if rounded == int(rounded) else rounded)
    return written


def with_data(plots: Iterable[AnyPlot]) -> list[AnyPlot]:
    """Return the plots that have anything to show."""
    shown: list[AnyPlot] = []
    for plot in plots:
        if isinstance(plot, Plot):
            plot.series = [one for one in plot.series if np.isfinite(one.value).any()]
            if plot.series:
                shown.append(plot)
        elif isinstance(plot, Shares):
            if plot.intervals:
                shown.append(plot)
        elif any(value_s.size for _, value_s, _ in plot.curves):
            plot.curves = [curve for curve in plot.curves if curve[1].size]
            shown.append(plot)
    return shown
