"""Means of independent replications, with their confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

STUDENT_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}
"""Two-sided 95 % points of Student's t for so many replications."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, and half the width of its 95 % confidence interval."""

    mean: float
    half_width: float

    def agrees(self, expected: float, tolerance: float) -> bool:
        """Say whether the interval reaches within ``tolerance`` (a fraction) of ``expected``."""
        return abs(self.mean - expected) <= self.half_width + tolerance * expected

    def __str__(self) -> str:
        return f"{self.mean:.0f} ± {self.half_width:.0f}"


def estimate(values: list[float]) -> Estimate:
    """Return the mean of ``values`` with its interval."""
    half_width = STUDENT_95[len(values)] * stdev(values) / sqrt(len(values))
    return Estimate(mean(values), half_width)


def replicate(run: Callable[[int], list[float]], replications: int) -> list[Estimate]:
    """Call ``run`` with the seeds 1, 2, ...; return the estimate of each of its results."""
    results = [run(seed) for seed in range(1, replications + 1)]
    return [estimate(list(column)) for column in zip(*results, strict=True)]
