"""Random early detection: a queue that drops at random before it is full.

Floyd and Jacobson, "Random Early Detection Gateways for Congestion Avoidance", IEEE/ACM
Transactions on Networking 1(4), 1993, in its gentle form (Floyd, "Recommendation on using the
gentle_ variant of RED", 2000): beyond the upper threshold the probability rises on to 1 at twice
that threshold, where the plain form jumps. Thresholds follow the queue's limit, so that the limit
is where the probability reaches 1: an upper one of half of it, a lower one of a third of that (the
1:3 that both Floyd and tc-red(8) recommend).
"""

from __future__ import annotations

from random import Random
from typing import Final

_WEIGHT: Final = 0.002
"""w_q, how much one packet moves the average (1993, section 4)."""
_HIGHEST_PROBABILITY: Final = 0.1
"""max_p, at the upper threshold (Floyd, "RED: Discussions of Setting Parameters", 1997)."""
_UPPER_SHARE: Final = 0.5
_LOWER_SHARE: Final = _UPPER_SHARE / 3


class EarlyDetection:
    """The average of one queue and what it does to those who come."""

    __slots__ = ("_average", "_random", "_since")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._average = 0.0  # as a share of the limit
        self._since = 0  # packets taken since the last one dropped

    def rest(self, packets: float) -> None:
        """The queue was empty for as long as it takes to send so many packets."""
        self._average *= (1.0 - _WEIGHT) ** packets

    def admits(self, filled: float) -> bool:
        """Say whether to take a packet that finds this share of the limit in use."""
        self._average += _WEIGHT * (filled - self._average)
        average = self._average
        if average < _LOWER_SHARE:
            self._since = 0
            return True
        if average < _UPPER_SHARE:
            probability = (
                _HIGHEST_PROBABILITY * (average - _LOWER_SHARE) / (_UPPER_SHARE - _LOWER_SHARE)
            )
        else:
            steep = (1.0 - _HIGHEST_PROBABILITY) / _UPPER_SHARE
            probability = _HIGHEST_PROBABILITY + steep * (average - _UPPER_SHARE)
        # Spread evenly: the gap between two drops is uniform, not geometric (1993, section 7).
        spread = 1.0 - self._since * probability
        if spread <= probability or self._random.random() * spread < probability:
            self._since = 0
            return False
        self._since += 1
        return True
