"""PIE: drop what comes with a probability that follows the delay of the queue.

RFC 8033, as Linux has it (net/sched/sch_pie.c) in its default, which takes the delay from the time
that packets waited (section 5.2 of the RFC), and spreads drops (section 5.4).
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.network.counters import ChannelCounters
from mptcplab.network.disciplines.discipline import Discipline, Waiting
from mptcplab.network.disciplines.packet import Packet

if TYPE_CHECKING:
    from mypy_extensions import i64

TARGET_NS: Final = 15_000_000
"""The delay to be kept (QDELAY_REF, RFC 8033 section 4.2; Linux's default)."""
UPDATE_NS: Final = 15_000_000
"""How often the probability changes (T_UPDATE, section 4.2; Linux's default)."""
LIMIT_PACKETS: Final = 1000
"""Linux's default (pie_params_init, include/net/pie.h)."""

_ALPHA_PER_S: Final = 0.125
_BETA_PER_S: Final = 1.25
"""How the probability follows the delay, and its change (section 4.2)."""
_BURST_NS: Final = 150_000_000
"""For how long nothing is dropped after a rest (MAX_BURST, section 4.4)."""
_HIGH_DELAY_NS: Final = 250_000_000
_STEP: Final = 0.02
"""Of the probability at most at once, and so much more at a high delay (section 5.1)."""
_LOW: Final = 0.2
"""Below this probability, a delay of half the target drops nothing (section 4.1)."""
_MARKED: Final = 0.1
"""Up to this probability packets are marked, beyond it dropped (section 5.1; mark_ecnth)."""
_SECOND_NS: Final = 1_000_000_000


class Pie(Discipline):
    """One queue under PIE."""

    __slots__ = (
        "_accumulated",
        "_burst_ns",
        "_delay_ns",
        "_full_frame_bytes",
        "_last_out_ns",
        "_old_delay_ns",
        "_probability",
        "_random",
        "_target_ns",
        "_update_ns",
        "_waiting",
    )

    def __init__(
        self,
        counters: ChannelCounters,
        full_frame_bytes: i64,
        random: Random,
        now_ns: i64,
        target_ns: i64,
        *,
        ecn: bool,
    ) -> None:
        super().__init__(counters, ecn=ecn)
        self._random = random
        self._full_frame_bytes: i64 = full_frame_bytes
        self._target_ns: i64 = target_ns
        self._waiting = Waiting(self)
        self._update_ns: i64 = now_ns + UPDATE_NS
        """When the probability changes next."""
        self._probability = 0.0
        self._accumulated = 0.0
        """Of the probabilities of packets since the last drop."""
        self._burst_ns: i64 = _BURST_NS
        """For how long nothing is dropped yet."""
        self._delay_ns: i64 = 0
        """How long the last packet waited,"""
        self._old_delay_ns: i64 = 0
        """and that of the update before."""
        self._last_out_ns: i64 = -1

    def enqueue(self, packet: Packet, now_ns: i64) -> bool:
        """Take a packet, mark it or turn it away."""
        self._follow(now_ns)
        if self.is_full_for(packet) or (
            self._is_early() and not (self._probability <= _MARKED and self.marks(packet))
        ):
            self._accumulated = 0.0
            self.drop(packet)
            return False
        self._waiting.put(packet)
        return True

    def dequeue(self, now_ns: i64) -> Packet | None:
        """Return the oldest packet, and learn from it how long it waited."""
        self._follow(now_ns)
        packet = self._waiting.take()
        if packet is None:
            return None
        self._delay_ns = 0 if self.packets == 0 else now_ns - packet.came_ns
        if self._last_out_ns >= 0:
            self._burst_ns = max(0, self._burst_ns - (now_ns - self._last_out_ns))
        self._last_out_ns = now_ns
        return packet

    def _rest(self) -> None:
        """Begin anew (pie_vars_init)."""
        self._probability = 0.0
        self._accumulated = 0.0
        self._burst_ns = _BURST_NS
        self._delay_ns = 0
        self._old_delay_ns = 0
        self._last_out_ns = -1

    def _is_early(self) -> bool:
        """Draw whether a packet is to go although there is room (section 4.1; pie_drop_early)."""
        if self._burst_ns > 0:
            return False
        if self._delay_ns < self._target_ns // 2 and self._probability < _LOW:
            return False
        if self.frame_bytes < 2 * self._full_frame_bytes:
            return False
        if self._probability == 0.0:
            self._accumulated = 0.0
        self._accumulated += self._probability
        if self._accumulated < 0.85:  # section 5.4
            return False
        if self._accumulated >= 8.5:
            return True
        if self._random.random() < self._probability:
            self._accumulated = 0.0
            return True
        return False

    def _follow(self, now_ns: i64) -> None:
        """Change the probability as often as was due by now (section 4.2)."""
        while self._update_ns <= now_ns:
            self._update_ns += UPDATE_NS
            if self._is_at_rest():  # and stays so, until a packet comes
                self._update_ns += (now_ns - self._update_ns) // UPDATE_NS * UPDATE_NS + UPDATE_NS
                return
            self._change()

    def _is_at_rest(self) -> bool:
        return (
            self._probability == 0.0
            and self.packets == 0
            and self._delay_ns == 0
            and self._old_delay_ns == 0
            and self._burst_ns == _BURST_NS
        )

    def _change(self) -> None:
        delay_ns, old_ns = self._delay_ns, self._old_delay_ns
        shrinks = delay_ns > 0 or self.packets == 0  # else the queue is too short to tell
        probability = self._probability
        scale = 1.0
        if probability < 0.1:
            scale = 0.5
            bound = 0.01
            while probability < bound and bound >= 0.000001:
                scale /= 4.0
                bound /= 10.0
        delta = _ALPHA_PER_S * scale * float(delay_ns - self._target_ns) / _SECOND_NS
        delta += _BETA_PER_S * scale * float(delay_ns - old_ns) / _SECOND_NS
        if delta > _STEP and probability >= 0.1:
            delta = _STEP
        if delay_ns > _HIGH_DELAY_NS:
            delta += _STEP
        probability = min(1.0, max(0.0, probability + delta))
        if delay_ns == 0 and old_ns == 0 and shrinks:
            probability -= probability / 64.0
        self._probability = probability
        half_ns = self._target_ns // 2
        if delay_ns < half_ns and old_ns < half_ns and probability == 0.0:
            self._rest()
        self._old_delay_ns = delay_ns
