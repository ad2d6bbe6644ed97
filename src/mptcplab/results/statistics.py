"""Statistics of repeated runs: means with confidence intervals, and Jain's fairness index."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Two-sided 95 % quantiles of Student's t distribution by degrees of freedom (any table of it,
# for example NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2).
_T_95: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_T_95_LIMIT: Final = 1.960


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of some runs, and how far from it the true one may be (95 %).

    ``margin`` is None for a single run, of which nothing can be said.
    """

    mean: float
    margin: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and 95 % confidence margin (Student's t). Raises ValueError without values."""
    if not values:
        raise ValueError("no values to estimate from")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    quantile = _T_95[count - 2] if count - 2 < len(_T_95) else _T_95_LIMIT
    return Estimate(mean, quantile * math.sqrt(variance / count), count)


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
