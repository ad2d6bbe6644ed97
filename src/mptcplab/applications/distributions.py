"""Sizes and times that vary: how they are distributed, and what is drawn of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from random import Random
from typing import Final

MOST: Final = 1 << 50
"""No draw is larger: beyond a petabyte or thirteen days, a tail is no size and no time any more."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution of whole numbers: bytes, or nanoseconds.

    ``kind`` says what ``first`` and ``second`` are: "fixed" (the value), "uniform" (least and
    most), "exponential" (mean), "pareto" (least and shape), "lognormal" (median and sigma, the
    standard deviation of the logarithm), "values" (``values``, each as likely as it is often).
    """

    kind: str
    first: float = 0.0
    second: float = 0.0
    values: tuple[int, ...] = ()

    def draw(self, random: Random, least: int = 0) -> int:
        """Return a value, at least ``least`` and at most ``MOST``."""
        return max(least, min(round(self._value(random)), MOST))

    def _value(self, random: Random) -> float:
        if self.kind == "uniform":
            return random.uniform(self.first, self.second)
        if self.kind == "exponential":
            return random.expovariate(1 / self.first)
        if self.kind == "pareto":
            return min(self.first * random.paretovariate(self.second), MOST)
        if self.kind == "lognormal":
            return min(self.first * random.lognormvariate(0.0, min(self.second, 30.0)), MOST)
        if self.kind == "values":
            return random.choice(self.values)
        return self.first

    @property
    def least(self) -> float:
        """The least value that can be drawn."""
        if self.kind == "values":
            return min(self.values)
        return 0.0 if self.kind in ("exponential", "lognormal") else self.first

    @property
    def mean(self) -> float:
        """The mean of the draws."""
        if self.kind == "values":
            return sum(self.values) / len(self.values)
        if self.kind == "uniform":
            return (self.first + self.second) / 2
        if self.kind == "pareto":
            return self.first * self.second / (self.second - 1) if self.second > 1 else MOST
        if self.kind == "lognormal":
            return self.first * exp(min(self.second, 8.0) ** 2 / 2)
        return self.first

    @property
    def is_random(self) -> bool:
        """Whether draws differ."""
        return self.kind != "fixed" and len(set(self.values)) != 1


def fixed(value: float) -> Distribution:
    """Return the distribution that always gives ``value``."""
    return Distribution("fixed", value)


def random_of(seed: int, *names: object) -> Random:
    """Return a generator for a part of a run: the same seed and names give the same draws."""
    return Random(":".join(str(part) for part in (seed, *names)))
