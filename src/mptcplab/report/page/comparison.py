"""A comparison of variants as part of a page: every quantity with its interval, every run small."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import floor, log10
from pathlib import Path
from typing import Any, Final

import numpy as np

from mptcplab.plain_text import plain_values
from mptcplab.report.comparison import with_margin
from mptcplab.report.differences import percent_text
from mptcplab.report.page.columns import Rows, summed
from mptcplab.report.page.document import Part
from mptcplab.report.page.markup import Markup, element, joined, section, table
from mptcplab.report.page.plots import Floats
from mptcplab.report.page.run import validity
from mptcplab.results.run import Run, RunError
from mptcplab.results.shape import Flag, ListOf, Maybe, Number, Text, Whole, problems
from mptcplab.results.statistics import Difference, Estimate
from mptcplab.units import NANOSECONDS, format_duration, format_rate

FILE: Final = "comparison.json"

_ANY_NUMBER: Final = Number(float("-inf"))
_ESTIMATE: Final = {"mean": _ANY_NUMBER, "margin": Maybe(Number()), "count": Whole()}
_SHAPE: Final = {
    "scenario": Text(),
    "testbed": Text(),
    "repetitions": Whole(1),
    "seeds": ListOf(Whole()),
    "settle_s": Number(),
    "judged_together": Whole(),
    "variants": ListOf(
        {
            "label": Text(),
            "valid": Flag(),
            "valid_runs": Whole(),
            "invalid_reasons": ListOf(Text()),
            "runs": ListOf(Text()),
            "quantities": ListOf(
                {
                    "name": Text(),
                    "unit": Text(),
                    "values": ListOf(Maybe(Number())),
                    "value": Maybe(_ESTIMATE),
                    "difference": Maybe(
                        {"mean": _ANY_NUMBER, "margin": Maybe(Number()), "method": Text()}
                    ),
                    "corrected_p_value": Maybe(Number()),
                    "outcome": Text(),
                }
            ),
        }
    ),
}
_MOST_PICTURES: Final = 60
_POINTS: Final = 160
_WIDTH: Final = 740
_ROW: Final = 24


def comparison_part(folder: Path) -> Part:
    """Return what a page shows of a comparison's folder. Raises RunError for a damaged one."""
    comparison = read_comparison(folder)
    variants = comparison["variants"]
    count = comparison["repetitions"]
    settled = comparison["settle_s"]
    reasons = [reason for variant in variants for reason in variant["invalid_reasons"]]
    facts = [
        f"{count} run{'' if count == 1 else 's'} of each on {comparison['testbed']}, from seed "
        f"{comparison['seeds'][0] if comparison['seeds'] else '?'} on",
        "mean and 95 % confidence interval (Student's t)",
        f"goodput without the first {format_duration(settled * NANOSECONDS)}"
        if settled
        else "goodput with its start-up",
    ]
    if comparison["judged_together"] > 1:
        facts.append(
            f"{comparison['judged_together']} differences are judged together (Holm's correction)"
        )
    return Part(
        title=f"{comparison['scenario']}: {', '.join(each['label'] for each in variants)}",
        kind="comparison",
        before=[
            element(
                "p",
                f"Which variant of {comparison['scenario']} is better?",
                class_="question",
            ),
            validity(not reasons, reasons, "some run" if reasons else "every run"),
            element("p", "; ".join(facts), class_="facts"),
            section("Results", _quantities(variants)),
        ],
        after=[*_held_back(variants), *_pictures(folder, variants)],
    )


def read_comparison(folder: Path) -> dict[str, Any]:
    """Return what ``compare`` wrote; RunError where it is not that."""
    path = folder / FILE
    try:
        comparison = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: not JSON: {error}") from error
    plain_values(comparison)
    missing: list[str] = []
    wrong = list(islice(problems(comparison, _SHAPE, missing), 3))
    if missing:
        wrong.insert(0, f"it has no {', '.join(missing)}")
    if not wrong and not comparison["variants"]:
        wrong.append("it has no variant")
    if not wrong and len({len(each["quantities"]) for each in comparison["variants"]}) > 1:
        wrong.append("its variants have different quantities")
    if wrong:
        raise RunError(f"{path}: damaged: {'; '.join(wrong)}")
    assert isinstance(comparison, dict)
    return comparison


def run_folders(folder: Path, variant: Mapping[str, Any]) -> list[Path]:
    """Return the folders of a variant's runs, which lie in the comparison's, wherever that is."""
    return [folder.joinpath(*Path(name).parts[-2:]) for name in variant["runs"]]


def _text(quantity: Mapping[str, Any], value: float) -> str:
    is_time = quantity["unit"] == "s"
    return format_duration(value * NANOSECONDS) if is_time else format_rate(value)


def _quantities(variants: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    for place, first in enumerate(variants[0]["quantities"]):
        rows, values = [], []
        for variant in variants:
            quantity = variant["quantities"][place]
            value = _estimate(quantity)
            values.append(quantity["value"])
            known = "none" if value is None else with_margin(
                lambda number, of=quantity: _text(of, number),  # type: ignore[misc]
                value,
            )  # fmt: skip
            rows.append(
                [
                    variant["label"],
                    known,
                    percent_text(_difference(quantity), _estimate(first)),
                    "" if variant is variants[0] else quantity["outcome"],
                    _p_value(quantity),
                ]
            )
        yield table(
            first["name"], ["variant", "mean", "against the first", "judged", "p (corrected)"], rows
        )
        yield _intervals(first, [variant["label"] for variant in variants], values)


def _estimate(quantity: Mapping[str, Any]) -> Estimate | None:
    value = quantity["value"]
    return None if value is None else Estimate(value["mean"], value["margin"], value["count"])


def _difference(quantity: Mapping[str, Any]) -> Difference | None:
    held = quantity["difference"]
    if held is None:
        return None
    return Difference(held["mean"], held["margin"], quantity["corrected_p_value"], held["method"])


def _p_value(quantity: Mapping[str, Any]) -> str:
    value = quantity["corrected_p_value"]
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _intervals(
    quantity: Mapping[str, Any],
    labels: Sequence[str],
    values: Sequence[Mapping[str, Any] | None],
) -> Markup:
    """Return the means with their intervals, drawn from 0 on; text is text."""
    most = max(
        (value["mean"] + (value["margin"] or 0.0) for value in values if value is not None),
        default=0.0,
    )
    if most <= 0:
        return Markup("")
    left, height = 250, _ROW * len(labels) + 26

    def place(value: float) -> float:
        return left + max(0.0, value) / most * (_WIDTH - left - 60)

    parts: list[Markup] = []
    for tick in _ticks(most):
        at = f"{place(tick):.1f}"
        parts.append(element("line", x1=at, x2=at, y1=4, y2=height - 22))
        parts.append(
            element(
                "text",
                _text(quantity, tick) if tick else "0",
                x=at,
                y=height - 6,
                text_anchor="middle",
                class_="minor",
            )
        )
    for row, (label, value) in enumerate(zip(labels, values, strict=True)):
        y = 4 + _ROW * row + _ROW // 2
        shown = label if len(label) <= 34 else f"{label[:21]}…{label[-12:]}"
        parts.append(element("text", shown, x=left - 12, y=y + 4, text_anchor="end"))
        if value is None:
            parts.append(element("text", "none", x=left + 6, y=y + 4, class_="minor"))
            continue
        margin = value["margin"] or 0.0
        low, high = place(value["mean"] - margin), place(value["mean"] + margin)
        colour = f"s{row % 8}"
        parts += [
            element(
                "line", x1=f"{low:.1f}", x2=f"{high:.1f}", y1=y, y2=y, stroke_width=2, class_=colour
            ),
            *(
                element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=y - 5, y2=y + 5, class_=colour)
                for x in (low, high)
            ),
            element("circle", cx=f"{place(value['mean']):.1f}", cy=y, r=5, class_=colour),
        ]
    told = "; ".join(
        f"{label}: {'none' if value is None else _text(quantity, value['mean'])}"
        for label, value in zip(labels, values, strict=True)
    )
    return element(
        "svg",
        element("title", f"{quantity['name']}, mean and 95 % interval: {told}"),
        parts,
        viewBox=f"0 0 {_WIDTH} {height}",
        role="img",
        class_="intervals",
    )


def _ticks(most: float) -> list[float]:
    """Return up to seven round numbers from 0 to the largest value."""
    power = 10.0 ** floor(log10(most / 6))
    step = next(size * power for size in (1, 2, 5, 10) if size * power * 6 >= most)
    return [number * step for number in range(int(most / step) + 1)]


def _held_back(variants: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    rows = []
    for variant in variants:
        limits = variant.get("limits")
        for limit in limits if isinstance(limits, list) else ():
            if isinstance(limit, dict) and isinstance(limit.get("share"), int | float):
                words = [str(limit.get(key, "")) for key in ("connection", "cause")]
                more = [str(limit.get(key, "")) for key in ("detail", "advice")]
                if limit["share"] >= 0.05:
                    rows.append([variant["label"], *words, f"{limit['share']:.0%}", *more])
    if rows:
        head = ["variant", "connection", "cause", "of the time", "detail", "what would change it"]
        yield section(
            "What held the connections back",
            table("Mean of the valid runs; causes of at least 5 % of the time", head, rows, left=9),
        )


def _pictures(folder: Path, variants: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    """Yield a small picture of each run: goodput over time, all on one scale."""
    drawn: list[tuple[str, str, Run, Floats, Floats]] = []
    for variant in variants:
        for path in run_folders(folder, variant):
            if len(drawn) < _MOST_PICTURES and (path / "run.json").exists():
                run = Run(path)
                run.check()
                drawn.append((variant["label"], path.name, run, *_goodput(run)))
    if not drawn:
        return
    most = max((float(value.max(initial=0.0)) for *_, value in drawn), default=0.0) or 1.0
    figures = []
    for label, seed, run, time_s, value in drawn:
        length = max(run.metadata["measured_ns"] / NANOSECONDS, 1e-9)
        points = " ".join(
            f"{240 * at / length:.1f},{58 - 54 * bps / most:.1f}"
            for at, bps in zip(time_s.tolist(), value.tolist(), strict=True)
        )
        mean = float(value.mean()) if value.size else 0.0
        valid = run.metadata["valid"]
        figures.append(
            element(
                "figure",
                element(
                    "svg",
                    element("title", f"Goodput of {label}, seed {seed}"),
                    element("polyline", points=points, class_="sparkline"),
                    viewBox="0 0 240 60",
                    role="img",
                ),
                element(
                    "figcaption",
                    f"{label}, seed {seed}: {format_rate(mean)}{'' if valid else ', NOT VALID'}",
                ),
            )
        )
    yield section(
        "Every run",
        element(
            "p",
            f"Goodput over time, from 0 to {format_rate(most)}; `mptcplab page` with the folder of "
            f"a run (such as {'/'.join(drawn[0][2].folder.parts[-2:])}) shows all of it.",
            class_="note",
        ),
        element("div", joined(figures), class_="small-multiples"),
    )


def _goodput(run: Run) -> tuple[Floats, Floats]:
    """Return time (s) and goodput (bit/s) of all flows, in at most so many points."""
    rows = Rows(run.table("flows"), ())
    time_s, total = summed(rows.time_s(()), rows.column((), "goodput_bps"))
    width = -(-time_s.size // _POINTS) if time_s.size else 1
    starts = np.arange(0, time_s.size, width)
    if not starts.size:
        return time_s, total
    counts = np.diff(np.append(starts, time_s.size))
    return time_s[starts], np.asarray(np.add.reduceat(total, starts) / counts)
