"""How much sooner or later than after its delay a packet arrives."""

from __future__ import annotations

from math import exp, log, sqrt
from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.network.impairments import JitterDistribution
from mptcplab.network.parameters import ChannelParameters

if TYPE_CHECKING:
    from mypy_extensions import i64


_PARETO_DEVIATION: Final = sqrt(0.75)


class Jitter:
    """Draws the jitter of one packet after another, in nanoseconds."""

    __slots__ = ("_gauss", "_normal", "_pareto", "_uniform", "width_ns")

    def __init__(self, parameters: ChannelParameters, random: Random) -> None:
        self.width_ns: i64 = parameters.jitter_ns
        self._normal: bool = parameters.jitter_distribution is JitterDistribution.NORMAL
        self._pareto: bool = parameters.jitter_distribution is JitterDistribution.PARETO
        # Bound once: a packet's jitter is drawn for every piece on the wire.
        self._uniform = random.random
        self._gauss = random.gauss

    def draw_ns(self) -> i64:
        """Return the next packet's jitter: within the width either way, or as distributed."""
        if self._normal:
            return round(self._gauss(0.0, float(self.width_ns)))
        if self._pareto:
            # Shape 3 has mean 3/2 and variance 3/4.
            drawn = exp(-log(1.0 - self._uniform()) / 3.0) - 1.5
            return round(drawn * float(self.width_ns) / _PARETO_DEVIATION)
        return int(2.0 * float(self.width_ns) * self._uniform() + 0.5) - self.width_ns


def jitter_of(parameters: ChannelParameters, random: Random) -> Jitter | None:
    """Return what draws the jitter of a channel; None where it has none."""
    return Jitter(parameters, random) if parameters.jitter_ns else None
