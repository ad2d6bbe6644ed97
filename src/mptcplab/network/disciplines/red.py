"""Random early detection: a queue that drops or marks at random before it is full.

Floyd and Jacobson, "Random Early Detection Gateways for Congestion Avoidance", IEEE/ACM
Transactions on Networking 1(4), 1993, in its gentle form (Floyd, "Recommendation on using the
gentle_ variant of RED", 2000): beyond the upper threshold the probability rises on to 1 at twice
that threshold, where the plain form jumps. Thresholds are parts of the queue's limit. With ECN,
packets are marked below the upper threshold, and dropped beyond it (1993, section 4).
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.network.counters import ChannelCounters
from mptcplab.network.disciplines.discipline import Discipline, Waiting
from mptcplab.network.disciplines.packet import Packet
from mptcplab.network.topology import RedThresholds

if TYPE_CHECKING:
    from mypy_extensions import i64

_WEIGHT: Final = 0.002
"""w_q, how much one packet moves the average (1993, section 4)."""


class Red(Discipline):
    """One queue, and the average of it that decides who is taken."""

    __slots__ = (
        "_average",
        "_empty_since_ns",
        "_lower",
        "_probability",
        "_random",
        "_since",
        "_upper",
        "_waiting",
    )

    def __init__(
        self,
        counters: ChannelCounters,
        random: Random,
        thresholds: RedThresholds,
        now_ns: i64,
        *,
        ecn: bool,
    ) -> None:
        super().__init__(counters, ecn=ecn)
        self._waiting = Waiting(self)
        self._random = random
        self._lower = thresholds.lower
        self._upper = thresholds.upper
        self._probability = thresholds.probability
        self._average = 0.0  # as a share of the limit
        self._since = 0  # packets taken since the last one dropped or marked
        self._empty_since_ns: i64 = now_ns

    def enqueue(self, packet: Packet, now_ns: i64) -> bool:
        """Take a packet, mark it or turn it away."""
        if self.packets == 0 and now_ns > self._empty_since_ns and self.packet_ns > 0.0:
            rested = float(now_ns - self._empty_since_ns) / self.packet_ns
            self._average *= (1.0 - _WEIGHT) ** rested
        filled = max(
            float(self.frame_bytes) / float(self.limit_bytes),
            float(self.packets) / float(self.limit_packets),
        )
        early = self._is_early(filled)
        marked = early and self._average < self._upper and self.marks(packet)
        if self.is_full_for(packet) or (early and not marked):
            self.drop(packet)
            return False
        self._waiting.put(packet)
        return True

    def dequeue(self, now_ns: i64) -> Packet | None:
        """Return the oldest packet."""
        packet = self._waiting.take()
        if self.packets == 0:
            self._empty_since_ns = now_ns + int(self.packet_ns)  # when it has been sent
        return packet

    def _is_early(self, filled: float) -> bool:
        """Draw whether a packet is to go that finds this share of the limit in use."""
        self._average += _WEIGHT * (filled - self._average)
        average = self._average
        if average < self._lower:
            self._since = 0
            return False
        if average < self._upper:
            probability = self._probability * (average - self._lower) / (self._upper - self._lower)
        else:
            steep = (1.0 - self._probability) / self._upper
            probability = self._probability + steep * (average - self._upper)
        # Spread evenly: the gap between two drops is uniform, not geometric (1993, section 7).
        spread = 1.0 - self._since * probability
        if spread <= probability or self._random.random() * spread < probability:
            self._since = 0
            return True
        self._since += 1
        return False
