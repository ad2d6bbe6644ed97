"""CoDel: drop from the head of a queue in which packets have waited too long for too long.

RFC 8289, with the details of Linux (include/net/codel_impl.h): the state in which it begins to drop
again, what a mark does, and that nothing is dropped while a packet's worth or less is left.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final

from mptcplab.network.counters import ChannelCounters
from mptcplab.network.disciplines.discipline import Discipline, Waiting
from mptcplab.network.disciplines.packet import Packet

if TYPE_CHECKING:
    from mypy_extensions import i64

TARGET_NS: Final = 5_000_000
"""How long packets may wait (RFC 8289 section 4.4; Linux's default)."""
INTERVAL_NS: Final = 100_000_000
"""For how long they may have waited longer (RFC 8289 section 4.3; Linux's default)."""
LIMIT_PACKETS: Final = 1000
"""Linux's DEFAULT_CODEL_LIMIT (net/sched/sch_codel.c)."""

_RECENT_INTERVALS: Final = 16
"""Within so many intervals, the last rate of drops is a start for the next (codel_dequeue)."""


class Controller:
    """The control law of one queue."""

    __slots__ = (
        "_discipline",
        "_drop_next_ns",
        "_first_above_ns",
        "_interval_ns",
        "_last_count",
        "_least_bytes",
        "_target_ns",
        "count",
        "dropping",
    )

    def __init__(
        self, discipline: Discipline, target_ns: i64, interval_ns: i64, least_bytes: i64
    ) -> None:
        self._discipline = discipline
        self._target_ns: i64 = target_ns
        self._interval_ns: i64 = interval_ns
        self._least_bytes: i64 = least_bytes
        """With no more than this left in the queue, nothing is dropped: a full frame."""
        self.count: i64 = 0
        """Drops since it last began to drop."""
        self.dropping = False
        self._last_count: i64 = 0
        self._first_above_ns: i64 = 0
        """When packets will have waited too long for an interval; 0: they have not."""
        self._drop_next_ns: i64 = 0

    def dequeue(self, waiting: Waiting, now_ns: i64) -> Packet | None:
        """Return the packet to send now, after dropping those before it that are to go."""
        packet = waiting.take()
        if packet is None:
            self.dropping = False
            return None
        due = self._is_due(packet, now_ns)
        if self.dropping:
            if not due:
                self.dropping = False
                return packet
            return self._go_on(packet, waiting, now_ns)
        if due:
            return self._begin(packet, waiting, now_ns)
        return packet

    def _is_due(self, packet: Packet | None, now_ns: i64) -> bool:
        """Say whether packets have waited too long for an interval, up to this one."""
        if packet is None:
            self._first_above_ns = 0
            return False
        if (
            now_ns - packet.came_ns < self._target_ns
            or self._discipline.frame_bytes <= self._least_bytes
        ):
            self._first_above_ns = 0
            return False
        if self._first_above_ns == 0:
            self._first_above_ns = now_ns + self._interval_ns
            return False
        return now_ns > self._first_above_ns

    def _go_on(self, packet: Packet, waiting: Waiting, now_ns: i64) -> Packet | None:
        following: Packet | None = packet
        while following is not None and self.dropping and now_ns >= self._drop_next_ns:
            self.count += 1
            if self._discipline.marks(following):
                self._drop_next_ns = self._after(self._drop_next_ns)
                return following
            self._discipline.drop(following)
            following = waiting.take()
            if self._is_due(following, now_ns):
                self._drop_next_ns = self._after(self._drop_next_ns)
            else:
                self.dropping = False
        return following

    def _begin(self, packet: Packet, waiting: Waiting, now_ns: i64) -> Packet | None:
        following: Packet | None = packet
        if not self._discipline.marks(packet):
            self._discipline.drop(packet)
            following = waiting.take()
            self._is_due(following, now_ns)
        self.dropping = True
        since = self.count - self._last_count
        recent = now_ns - self._drop_next_ns < _RECENT_INTERVALS * self._interval_ns
        self.count = since if since > 1 and recent else 1
        self._last_count = self.count
        self._drop_next_ns = self._after(now_ns)
        return following

    def _after(self, time_ns: i64) -> i64:
        """Return when the next drop follows one: the interval, less with each (section 5.6)."""
        return time_ns + int(float(self._interval_ns) / sqrt(float(self.count)))


class Codel(Discipline):
    """One queue under CoDel."""

    __slots__ = ("_controller", "_waiting")

    def __init__(
        self,
        counters: ChannelCounters,
        full_frame_bytes: i64,
        target_ns: i64,
        interval_ns: i64,
        *,
        ecn: bool,
    ) -> None:
        super().__init__(counters, ecn=ecn)
        self._waiting = Waiting(self)
        self._controller = Controller(self, target_ns, interval_ns, full_frame_bytes)

    def enqueue(self, packet: Packet, now_ns: i64) -> bool:
        """Take a packet unless the limit is reached."""
        if self.is_full_for(packet):
            self.drop(packet)
            return False
        self._waiting.put(packet)
        return True

    def dequeue(self, now_ns: i64) -> Packet | None:
        """Return what the controller lets go on."""
        return self._controller.dequeue(self._waiting, now_ns)
