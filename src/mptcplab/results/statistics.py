"""Statistics of repeated runs: means with confidence intervals, tests, and Jain's fairness index.

Intervals and tests are Student's t over runs.  What is compared by pairs, and how several
comparisons are corrected, is said at :func:`difference` and :func:`holm`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

CONFIDENCE: Final = 0.95
SIGNIFICANCE: Final = 1 - CONFIDENCE
"""Below this p-value a difference is said to be one."""

_SAME: Final = 1e-9
"""Values that differ by less than this part of them are one value: what is left is rounding."""

_TINY: Final = 1e-300
_CONVERGED: Final = 1e-15
_MOST_TERMS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of some runs, and how far from it the true one may be (95 %).

    ``margin`` is None where nothing can be said of that: for a single run, and for runs that are
    one observation since they do not differ.
    """

    mean: float
    margin: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of one sample less that of another.

    ``margin`` and ``p_value`` (two-sided, not corrected) are None where both samples are one
    observation each.  ``method`` is "paired" or "Welch".
    """

    mean: float
    margin: float | None
    p_value: float | None
    method: Literal["paired", "Welch"]


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and 95 % confidence margin (Student's t). Raises ValueError without values."""
    if not values:
        raise ValueError("no values to estimate from")
    count = len(values)
    mean = math.fsum(values) / count
    if is_one_observation(values):
        return Estimate(mean, None, count)
    margin = t_quantile(count - 1) * math.sqrt(_variance(values) / count)
    return Estimate(mean, margin, count)


def is_one_observation(values: Sequence[float]) -> bool:
    """Return whether values say no more than one of them: there is one, or they do not differ.

    The same simulation run twice gives the same; five of it are not a sample of five.
    """
    return max(values) - min(values) <= _SAME * max(abs(value) for value in values)


def difference(mine: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Return the mean of ``mine`` less that of ``theirs``; both are in the order of the seeds.

    By the differences within the pairs of one seed, where pairs help: where both samples rise and
    fall together, which Student's test of the correlation coefficient has to show (one-sided,
    5 %).  Else by Welch's test, which asks nothing of the pairs: pairs that have nothing in common
    but their seed halve the degrees of freedom, and the interval is wider for it.  Raises
    ValueError for samples of no or of different length.
    """
    if not mine or len(mine) != len(theirs):
        raise ValueError(f"{len(mine)} and {len(theirs)} values are no pairs")
    pairs = [a - b for a, b in zip(mine, theirs, strict=True)]
    mean = math.fsum(pairs) / len(pairs)
    if are_correlated(mine, theirs):
        scale = max(abs(value) for value in (*mine, *theirs))
        error = math.sqrt(_variance(pairs) / len(pairs))
        if error > _SAME * scale:
            return _judged(mean, error, len(pairs) - 1, "paired")
    if is_one_observation(mine) and is_one_observation(theirs):
        return Difference(mean, None, None, "Welch")
    first, second = (_variance(values) / len(values) for values in (mine, theirs))
    # B. L. Welch, "The generalization of Student's problem when several different population
    # variances are involved", Biometrika 34, 1947; degrees of freedom after Satterthwaite, 1946
    freedom = (first + second) ** 2 / (first**2 / (len(mine) - 1) + second**2 / (len(theirs) - 1))
    return _judged(mean, math.sqrt(first + second), freedom, "Welch")


def _judged(
    mean: float, error: float, freedom: float, method: Literal["paired", "Welch"]
) -> Difference:
    p_value = t_two_sided(abs(mean) / error, freedom)
    return Difference(mean, t_quantile(freedom) * error, p_value, method)


def are_correlated(first: Sequence[float], second: Sequence[float]) -> bool:
    """Return whether two samples of the same seeds rise and fall together (one-sided, 5 %)."""
    count = len(first)
    if count < 3 or is_one_observation(first) or is_one_observation(second):
        return False
    mean_a, mean_b = math.fsum(first) / count, math.fsum(second) / count
    together = math.fsum((a - mean_a) * (b - mean_b) for a, b in zip(first, second, strict=True))
    squares = _variance(first) * _variance(second) * (count - 1) ** 2
    coefficient = together / math.sqrt(squares)
    if coefficient <= 0:
        return False
    rest = 1 - min(coefficient, 1.0) ** 2
    if rest <= 0:
        return True
    statistic = coefficient * math.sqrt((count - 2) / rest)
    return t_two_sided(statistic, count - 2) / 2 < SIGNIFICANCE


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all comparisons together.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979: the probability of one false difference among all of them stays 5 %.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def t_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """Return how many standard errors the two-sided interval of this confidence reaches.

    Student's t distribution with ``freedom`` degrees of freedom, which need not be whole.
    """
    if freedom <= 0 or not 0 < confidence < 1:
        raise ValueError(f"no quantile of {freedom} degrees of freedom at {confidence}")
    half = (freedom + 1) / 2
    density_at_0 = math.exp(math.lgamma(half) - math.lgamma(freedom / 2)) / math.sqrt(
        freedom * math.pi
    )
    reach = 0.0
    while True:  # Newton's steps on a convex function, from below
        density = density_at_0 * math.pow(1 + reach * reach / freedom, -half)
        step = (t_two_sided(reach, freedom) - (1 - confidence)) / (2 * density)
        reach += step
        if step <= 1e-12 * reach:
            return reach


def t_two_sided(statistic: float, freedom: float) -> float:
    """Return the probability that Student's t is at least so far from 0, on either side.

    It is the regularised incomplete beta function of freedom / (freedom + t^2) with parameters
    freedom / 2 and 1/2 (NIST Digital Library of Mathematical Functions, 8.17; Abramowitz and
    Stegun, 26.7.1).
    """
    square = statistic * statistic
    return _incomplete_beta(freedom / (freedom + square), square / (freedom + square), freedom / 2)


def _incomplete_beta(x: float, rest: float, a: float) -> float:
    """Return I_x(a, 1/2); ``rest`` is 1 - x, given apart since little may be left of it."""
    b = 0.5
    if x <= 0:
        return 0.0
    if rest <= 0:
        return 1.0
    factor = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    )
    if x < (a + 1) / (a + b + 2):
        return factor * _continued_fraction(x, a, b) / a
    return 1 - factor * _continued_fraction(rest, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz."""
    numerator = 1.0
    denominator = 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = denominator
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for coefficient in (even, odd):
            denominator = 1 / _not_zero(1 + coefficient * denominator)
            numerator = _not_zero(1 + coefficient / numerator)
            change = denominator * numerator
            value *= change
        if abs(change - 1) < _CONVERGED:
            break
    return value


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def jain_index(shares: Sequence[float]) -> float:
    """Return Jain's fairness index: 1 where all are equal, 1/n where one has everything.

    R. Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness", DEC-TR-301, 1984.
    Raises ValueError without shares.
    """
    if not shares:
        raise ValueError("no shares to compare")
    squares = math.fsum(share * share for share in shares)
    if squares == 0:
        return 1.0
    total = math.fsum(shares)
    return total * total / (len(shares) * squares)
