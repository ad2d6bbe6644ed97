"""How much sooner or later than after its delay a packet arrives."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from mptcplab.network.parameters import ChannelParameters, JitterDistribution

if TYPE_CHECKING:
    from mypy_extensions import i64


class Jitter:
    """Draws the jitter of one packet after another, in nanoseconds."""

    __slots__ = ("_gauss", "_normal", "_uniform", "width_ns")

    def __init__(self, parameters: ChannelParameters, random: Random) -> None:
        self.width_ns: i64 = parameters.jitter_ns
        self._normal: bool = parameters.jitter_distribution is JitterDistribution.NORMAL
        # Bound once: a packet's jitter is drawn for every piece on the wire.
        self._uniform = random.random
        self._gauss = random.gauss

    def draw_ns(self) -> i64:
        """Return the next packet's jitter: within the width either way, or normal about 0."""
        if self._normal:
            return round(self._gauss(0.0, float(self.width_ns)))
        return int(2.0 * float(self.width_ns) * self._uniform() + 0.5) - self.width_ns


def jitter_of(parameters: ChannelParameters, random: Random) -> Jitter | None:
    """Return what draws the jitter of a channel; None where it has none."""
    return Jitter(parameters, random) if parameters.jitter_ns else None
