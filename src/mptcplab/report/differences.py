"""What runs of one setting come to beside those of another: seed by seed, judged, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from mptcplab.results.statistics import (
    SIGNIFICANCE,
    Difference,
    Estimate,
    difference,
    estimate,
    holm,
)

Outcome = Literal["better", "worse", "no difference shown", "not judged"]

Values = Mapping[int, float | None]
"""What the valid runs of a setting came to, by seed; None where a flow was not done in time."""


def mean_of(values: Values) -> Estimate | None:
    """Return mean and interval; None without runs, and where one of them has no value."""
    known = [value for value in values.values() if value is not None]
    return estimate(known) if known and len(known) == len(values) else None


def beside(mine: Values, first: Values) -> Difference | None:
    """Return the difference to another setting, over the seeds that both have.

    None without any, and where one of these runs has no value: to leave such runs out would leave
    out the slow ones.
    """
    pairs = [(mine[seed], first[seed]) for seed in sorted(mine.keys() & first.keys())]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not both or len(both) < len(pairs):
        return None
    return difference([a for a, _ in both], [b for _, b in both])


def corrected(differences: Sequence[Difference | None]) -> list[float | None]:
    """Return p-values that hold for all of these together (Holm); None where nothing is judged."""
    judged = [each.p_value for each in differences if each is not None and each.p_value is not None]
    adjusted = iter(holm(judged))
    return [
        None if each is None or each.p_value is None else next(adjusted) for each in differences
    ]


def outcome(held: Difference | None, p_value: float | None, *, is_time: bool) -> Outcome:
    """Return what a corrected test says; of times less is better, of all else more."""
    if held is None or p_value is None:
        return "not judged"
    if p_value >= SIGNIFICANCE:
        return "no difference shown"
    return "better" if (held.mean > 0) != is_time else "worse"


def percent_text(held: Difference | None, first: Estimate | None) -> str:
    """Return a difference in percent of the first mean: "+4.2 ± 0.8 %"; "" where there is none."""
    if held is None or first is None or not first.mean:
        return ""
    percent = 100 / first.mean
    text = f"{held.mean * percent:+.1f}"
    if held.margin is None:
        return f"{text} %"
    margin = held.margin * abs(percent)
    return f"{text} ± {'<0.1' if margin < 0.05 else f'{margin:.1f}'} %"
