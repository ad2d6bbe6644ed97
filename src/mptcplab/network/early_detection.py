"""Random early detection: a queue that drops at random before it is full.

Floyd and Jacobson, "Random Early Detection Gateways for Congestion Avoidance", IEEE/ACM
Transactions on Networking 1(4), 1993, in its gentle form (Floyd, "Recommendation on using the
gentle_ variant of RED", 2000): beyond the upper threshold the probability rises on to 1 at twice
that threshold, where the plain form jumps. Thresholds are parts of the queue's limit.
"""

from __future__ import annotations

from random import Random
from typing import Final

from mptcplab.network.topology import RedThresholds

_WEIGHT: Final = 0.002
"""w_q, how much one packet moves the average (1993, section 4)."""


class EarlyDetection:
    """The average of one queue and what it does to those who come."""

    __slots__ = ("_average", "_lower", "_probability", "_random", "_since", "_upper")

    def __init__(self, random: Random, red: RedThresholds) -> None:
        self._random = random
        self._lower = red.lower
        self._upper = red.upper
        self._probability = red.probability
        self._average = 0.0  # as a share of the limit
        self._since = 0  # packets taken since the last one dropped

    def rest(self, packets: float) -> None:
        """The queue was empty for as long as it takes to send so many packets."""
        self._average *= (1.0 - _WEIGHT) ** packets

    def admits(self, filled: float) -> bool:
        """Say whether to take a packet that finds this share of the limit in use."""
        self._average += _WEIGHT * (filled - self._average)
        average = self._average
        if average < self._lower:
            self._since = 0
            return True
        if average < self._upper:
            probability = self._probability * (average - self._lower) / (self._upper - self._lower)
        else:
            steep = (1.0 - self._probability) / self._upper
            probability = self._probability + steep * (average - self._upper)
        # Spread evenly: the gap between two drops is uniform, not geometric (1993, section 7).
        spread = 1.0 - self._since * probability
        if spread <= probability or self._random.random() * spread < probability:
            self._since = 0
            return False
        self._since += 1
        return True
