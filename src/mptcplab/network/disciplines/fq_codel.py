"""fq_codel: a queue for each flow, in turns by bytes, each under CoDel.

RFC 8290, with what Linux does at the limit (net/sched/sch_fq_codel.c): up to 64 packets, or half of
the bytes, go from the head of the longest queue.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mptcplab.network.counters import ChannelCounters
from mptcplab.network.disciplines.codel import Controller
from mptcplab.network.disciplines.discipline import Discipline, Waiting
from mptcplab.network.disciplines.packet import Packet

if TYPE_CHECKING:
    from mypy_extensions import i64

FLOWS: Final = 1024
"""Queues, by a hash (RFC 8290 section 5.2.3; Linux's default)."""
LIMIT_PACKETS: Final = 10 * 1024
"""RFC 8290 section 5.2.2; Linux's default."""
_DROP_BATCH: Final = 64
"""Packets dropped at once where the limit is reached (fq_codel_drop)."""


class _Flow:
    """One of the queues."""

    __slots__ = ("controller", "deficit_bytes", "listed", "waiting")

    def __init__(self, waiting: Waiting, controller: Controller) -> None:
        self.waiting = waiting
        self.controller = controller
        self.deficit_bytes: i64 = 0
        self.listed = False
        """Whether it is among the new or the old ones."""


class FqCodel(Discipline):
    """Flows in turns: new ones first, each a quantum of bytes: by default a full frame."""

    __slots__ = (
        "_flows",
        "_full_frame_bytes",
        "_interval_ns",
        "_new",
        "_old",
        "_quantum_bytes",
        "_target_ns",
    )

    def __init__(
        self,
        counters: ChannelCounters,
        full_frame_bytes: i64,
        target_ns: i64,
        interval_ns: i64,
        quantum_bytes: i64,
        *,
        ecn: bool,
    ) -> None:
        super().__init__(counters, ecn=ecn)
        self._full_frame_bytes: i64 = full_frame_bytes
        self._quantum_bytes: i64 = quantum_bytes
        self._target_ns: i64 = target_ns
        self._interval_ns: i64 = interval_ns
        self._flows: dict[int, _Flow] = {}
        self._new: deque[_Flow] = deque()
        self._old: deque[_Flow] = deque()

    def enqueue(self, packet: Packet, now_ns: i64) -> bool:
        """Take a packet; at the limit, one of the longest queue goes, which may be this one."""
        flow = self._flow(packet.flow % FLOWS)
        flow.waiting.put(packet)
        if not flow.listed:
            flow.listed = True
            flow.deficit_bytes = self._quantum_bytes
            self._new.append(flow)
        if self.packets > self.limit_packets or self.frame_bytes > self.limit_bytes:
            self._drop_from_longest()
        return True

    def dequeue(self, now_ns: i64) -> Packet | None:
        """Return the next packet of the flow whose turn it is (RFC 8290 section 4.2)."""
        while True:
            is_new = len(self._new) > 0
            flows = self._new if is_new else self._old
            if not flows:
                return None
            flow = flows[0]
            if flow.deficit_bytes <= 0:
                flow.deficit_bytes += self._quantum_bytes
                flows.popleft()
                self._old.append(flow)
                continue
            packet = flow.controller.dequeue(flow.waiting, now_ns)
            if packet is not None:
                flow.deficit_bytes -= packet.frame_bytes
                return packet
            flows.popleft()
            if is_new and self._old:  # once through the old ones, so that none starves
                self._old.append(flow)
            else:
                flow.listed = False

    def _flow(self, number: int) -> _Flow:
        flow = self._flows.get(number)
        if flow is None:
            controller = Controller(
                self, self._target_ns, self._interval_ns, self._full_frame_bytes
            )
            flow = self._flows[number] = _Flow(Waiting(self), controller)
        return flow

    def _drop_from_longest(self) -> None:
        longest = max(self._flows.values(), key=_waiting_bytes)
        enough = longest.waiting.frame_bytes // 2
        dropped: i64 = 0
        dropped_bytes: i64 = 0
        while True:
            packet = longest.waiting.take()
            if packet is None:
                break
            self.drop(packet)
            dropped += 1
            dropped_bytes += packet.frame_bytes
            if dropped >= _DROP_BATCH or dropped_bytes >= enough:
                break
        longest.controller.count += dropped


def _waiting_bytes(flow: _Flow) -> int:
    return flow.waiting.frame_bytes
