"""Boxes that act on some packets: by direction, TCP options, kind of segment, and how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from mptcplab.middleboxes.box import Middlebox
from mptcplab.middleboxes.packets import FlowKey, classes_of, flow_of, packets_of
from mptcplab.network.middlebox import MPTCP_OPTIONS, MiddleboxPlan
from mptcplab.wire.segment import FIN, Segment

_HAS: Final[dict[str, Callable[[Segment], bool]]] = {
    "MPTCP": lambda segment: bool(segment.mptcp),
    "MSS": lambda segment: segment.mss is not None,
    "WINDOW_SCALE": lambda segment: segment.wscale is not None,
    "SACK_PERMITTED": lambda segment: segment.sack_permitted,
    "SACK": lambda segment: bool(segment.sack),
    "TIMESTAMPS": lambda segment: segment.ts_val is not None,
    "UNKNOWN": lambda segment: bool(segment.raw_options),
}


class Selective(Middlebox):
    """A box that acts on the packets that its plan chooses."""

    __slots__ = ("_directions", "_left", "_options", "_passed", "_segments", "_subtypes")

    def __init__(self, plan: MiddleboxPlan) -> None:
        super().__init__(plan)
        self._directions = directions(plan)
        self._subtypes = frozenset(
            MPTCP_OPTIONS.index(name) for name in plan.options if name in MPTCP_OPTIONS
        )
        self._options = tuple(name for name in plan.options if name in _HAS)
        self._segments = frozenset(plan.segments)
        self._left = plan.times
        self._passed: dict[FlowKey, int] = {}
        """Bytes of payload that have come, by flow, where the first of them are left alone."""

    def forget(self) -> None:
        """Count bytes from the beginning again."""
        self._passed.clear()

    def chosen(self, segment: Segment, outbound: bool) -> Iterator[tuple[Segment, bool]]:
        """Yield what a segment consists of, and whether the box acts on that."""
        if not self._directions[outbound] or self._left == 0:
            yield segment, False
            return
        by_packet = segment.packets > 1 and (
            self._left is not None
            or (bool(segment.flags & FIN) and bool(self._segments))
            or (self.plan.after_bytes > 0 and not self._has_begun(segment))
        )
        for packet in packets_of(segment) if by_packet else [segment]:
            wanted = self._has_begun(packet) and self.concerns(packet) and self._left != 0
            self._count(packet)
            if wanted and self._left is not None:
                self._left -= 1
            yield packet, wanted

    def concerns(self, packet: Segment) -> bool:
        """Say whether a packet is of those that the plan names."""
        if self._segments and self._segments.isdisjoint(classes_of(packet)):
            return False
        if not self.plan.options:
            return True
        if any(option.subtype in self._subtypes for option in packet.mptcp):
            return True
        return any(_HAS[name](packet) for name in self._options)

    def _has_begun(self, segment: Segment) -> bool:
        after = self.plan.after_bytes
        return not after or self._passed.get(flow_of(segment), 0) >= after

    def _count(self, segment: Segment) -> None:
        if self.plan.after_bytes and segment.payload_bytes:
            flow = flow_of(segment)
            self._passed[flow] = self._passed.get(flow, 0) + segment.payload_bytes


def directions(plan: MiddleboxPlan) -> dict[bool, bool]:
    """Return whether a plan is for a direction, by whether that is outbound."""
    return {True: plan.direction != "backward", False: plan.direction != "forward"}
