"""Boxes one behind the other."""

from __future__ import annotations

from collections.abc import Sequence

from mptcplab.middleboxes.box import Middlebox
from mptcplab.middleboxes.selective import directions
from mptcplab.network.middlebox import ICMP
from mptcplab.wire.icmp import IcmpError
from mptcplab.wire.segment import Segment


class Chain:
    """The boxes at one end of a link, that farthest from the link first.

    What goes out passes them in this order, what comes in by the link in the opposite one.
    """

    __slots__ = ("boxes",)

    def __init__(self, boxes: Sequence[Middlebox]) -> None:
        self.boxes = tuple(boxes)

    def forward(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:
        """Return what leaves the last box for a segment that reaches the first."""
        return self._pass(self.boxes if outbound else self.boxes[::-1], segment, outbound, now_ns)

    def passes_other(self, outbound: bool, *, is_error: bool = False) -> bool:
        """Say whether a packet passes that is neither TCP nor UDP.

        A black hole drops it; an ICMP error about TCP or UDP (``is_error``) also what drops those.
        """
        for box in self.boxes if outbound else self.boxes[::-1]:
            plan = box.plan
            drops = plan.kind == "blackhole" or (is_error and ICMP in plan.segments)
            if box.enabled and drops and directions(plan)[outbound]:
                box.tallies[outbound].seen += 1
                box.tallies[outbound].dropped += 1
                return False
        return True

    def translate_error(self, error: IcmpError, outbound: bool) -> None:
        """Give an ICMP error about a segment the addresses and ports that are known beyond NATs."""
        for box in self.boxes if outbound else self.boxes[::-1]:
            if box.enabled:
                box.translate_error(error, outbound)

    @property
    def deadline_ns(self) -> int | None:
        """When to call :meth:`expire`; None while no box holds anything."""
        return min((at for box in self.boxes if (at := box.deadline_ns) is not None), default=None)

    def expire(self, now_ns: int) -> list[tuple[Segment, bool]]:
        """Return what leaves the chain of what boxes have held for long enough, and whether
        outbound.
        """
        released = []
        for place, box in enumerate(self.boxes):
            for segment, outbound in box.expire(now_ns):
                rest = self.boxes[place + 1 :] if outbound else self.boxes[:place][::-1]
                for out in self._pass(rest, segment, outbound, now_ns):
                    released.append((out, outbound))
        return released

    def set_enabled(self, target: str, enabled: bool) -> None:
        """Switch the boxes of that target on or off; ask for the deadline afterwards."""
        for box in self.boxes:
            if box.plan.target == target:
                box.set_enabled(enabled)

    def _pass(
        self, boxes: Sequence[Middlebox], segment: Segment, outbound: bool, now_ns: int
    ) -> list[Segment]:
        segments = [segment]
        for box in boxes:
            segments = [out for each in segments for out in box.forward(each, outbound, now_ns)]
        return segments
