"""What every middlebox does, and what it counts."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.wire.icmp import IcmpError
from mptcplab.wire.segment import Segment


class Tally:
    """What a box did in one direction, in packets (and, where it strips, options)."""

    __slots__ = ("changed", "dropped", "seen", "stripped")

    def __init__(self) -> None:
        self.seen = 0
        self.changed = 0
        self.dropped = 0
        self.stripped = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return {name: getattr(self, name) for name in ("seen", "changed", "dropped", "stripped")}


class Middlebox(ABC):
    """Something at the end of a link that may change, hold, drop, split or merge segments.

    *Outbound* is the direction in which segments leave that end by the link.  While it is not
    enabled, all passes as it is; what a box has remembered is forgotten with that.
    """

    __slots__ = ("enabled", "plan", "tallies")

    def __init__(self, plan: MiddleboxPlan) -> None:
        self.plan = plan
        self.enabled = plan.enabled
        self.tallies = {True: Tally(), False: Tally()}
        """By whether outbound."""

    def forward(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:
        """Return what leaves the box for a segment that comes in, in order.

        It may change the segment itself.  ``now_ns`` never decreases.  Where the segments that
        leave came at different times, their ``late_ns`` says how long before now.
        """
        if not self.enabled:
            return [segment]
        self.tallies[outbound].seen += segment.packets
        return self.treat(segment, outbound, now_ns)

    @abstractmethod
    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:
        """Do the same, once the segment is counted."""

    def set_enabled(self, enabled: bool) -> None:
        """Switch it on or off; ask for its deadline afterwards."""
        if not enabled and self.enabled:
            self.forget()
        self.enabled = enabled

    def forget(self) -> None:  # noqa: B027 - most boxes remember nothing
        """Lose what it has remembered of connections."""

    def translate_error(self, error: IcmpError, outbound: bool) -> None:  # noqa: B027
        """Change what an ICMP error quotes of a segment to what it is on the other side."""

    @property
    def deadline_ns(self) -> int | None:
        """When to call :meth:`expire`; None while it holds nothing."""
        return None

    def expire(self, now_ns: int) -> list[tuple[Segment, bool]]:  # noqa: ARG002
        """Return the segments that it has held for long enough, each with whether outbound."""
        return []


def describe_box(box: Middlebox) -> dict[str, object]:
    """Return a box's state and what it did, by direction."""
    return {
        "enabled": box.enabled,
        "forward": box.tallies[True].as_dict(),
        "backward": box.tallies[False].as_dict(),
    }
