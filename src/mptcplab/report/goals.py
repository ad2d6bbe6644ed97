"""The three design goals of RFC 6356 section 3, and fairness, as verdicts on measured rates.

What is judged is one MPTCP flow that shares the first of its links with TCP. Each rate is the mean
of repeated runs with its 95 % margin, and so is what it is held against; where the margin of their
difference reaches across the limit, or there was one run alone, the verdict is "undecided", not a
guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import Final, Literal

from mptcplab.results.statistics import Estimate
from mptcplab.units import format_rate

Outcome = Literal["met", "missed", "undecided"]

_SLACK: Final = 0.05
"""How far below the best single path, or above a TCP, still counts as equal: the headers of the
MPTCP options and the sawtooth of one loss more or less come to about this much."""
_MOVED: Final = 0.9
"""Goal 3 wants at most this part of what uncoupled subflows leave on the congested link."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, what was measured for it, and what became of it."""

    goal: str
    outcome: Outcome
    text: str


def improve_throughput(together: Estimate, alone: dict[str, Estimate]) -> Verdict:
    """Goal 1: no less than a TCP on the best of its paths gets, among the same competitors."""
    best = max(alone, key=lambda path: alone[path].mean)
    return Verdict(
        "1: improve throughput",
        _compared(alone[best], 1 - _SLACK, together, 1.0),
        f"MPTCP {rate(together)}; TCP on the best path, {best}: {rate(alone[best])}",
    )


def do_no_harm(on_link: dict[str, Estimate], alone: dict[str, Estimate]) -> Verdict:
    """Goal 2: on no link more than a TCP in its place would have taken."""
    outcomes = []
    parts = []
    for link, taken in on_link.items():
        outcomes.append(_compared(taken, 1.0, alone[link], 1 + _SLACK))
        parts.append(f"{link}: MPTCP {rate(taken)}, a TCP {rate(alone[link])}")
    return Verdict("2: do no harm", _worst(outcomes), "; ".join(parts))


def balance_congestion(shared: str, coupled: Estimate, uncoupled: Estimate) -> Verdict:
    """Goal 3: less on the congested link than subflows that know nothing of one another."""
    return Verdict(
        "3: balance congestion",
        _compared(coupled, 1.0, uncoupled, _MOVED),
        f"{shared}, congested: {rate(coupled)} left on it; uncoupled subflows (reno) leave "
        f"{rate(uncoupled)}",
    )


def rate(value: Estimate) -> str:
    """Return a rate with its margin, as text."""
    text = format_rate(value.mean)
    return text if value.margin is None else f"{text} ± {format_rate(value.margin)}"


def _compared(small: Estimate, small_factor: float, large: Estimate, factor: float) -> Outcome:
    """Say whether one mean, times a factor, is no more than another, times its own."""
    if small.count == 1 or large.count == 1:
        return "undecided"
    room = large.mean * factor - small.mean * small_factor
    # a link that is always full carries the same in every run: no margin, and none is needed
    margin = hypot((large.margin or 0.0) * factor, (small.margin or 0.0) * small_factor)
    if room >= margin:
        return "met"
    return "missed" if room < -margin else "undecided"


def _worst(outcomes: list[Outcome]) -> Outcome:
    for outcome in ("missed", "undecided"):
        if outcome in outcomes:
            return outcome
    return "met"
