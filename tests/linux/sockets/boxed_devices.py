"""Middleboxes before TUN devices: between two of them, or between one and a stack of ours."""

from __future__ import annotations

import time
from typing import Any

from mptcplab.linux.sockets.tun_device import PACKETS_PER_WAKE, SegmentPort
from mptcplab.loop import RealTimeLoop
from mptcplab.loop.timers import NEVER
from mptcplab.middleboxes import Chain, Middlebox, make_box
from mptcplab.middleboxes.options import Drop
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.wire.segment import Segment


def box(kind: str, **plan: Any) -> Middlebox:
    """Return a box of a kind."""
    return make_box(MiddleboxPlan(kind, **plan))


class Gate(Drop):
    """Lets everything pass, or, once ``closed``, nothing: a cut cable."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(MiddleboxPlan("blackhole", enabled=False))

    @property
    def closed(self) -> bool:
        return self.enabled

    @closed.setter
    def closed(self, closed: bool) -> None:
        self.set_enabled(closed)

    @property
    def dropped(self) -> int:
        return sum(tally.dropped for tally in self.tallies.values())


class BoxedPort(SegmentPort):
    """A device behind boxes: *outbound* is what the user of this port writes."""

    __slots__ = ("chain", "device")

    def __init__(self, device: SegmentPort, chain: Chain) -> None:
        self.device = device
        self.chain = chain

    def fileno(self) -> int:
        return self.device.fileno()

    def read_segments(self, limit: int = PACKETS_PER_WAKE) -> list[Segment]:
        came = [
            out
            for segment in self.device.read_segments(limit)
            for out in self.chain.forward(segment, False, time.monotonic_ns())
        ]
        return came + self._release()

    def write_segment(self, segment: Segment) -> None:
        for out in self.chain.forward(segment, True, time.monotonic_ns()):
            self.device.write_segment(out)
        self._release()

    def _release(self) -> list[Segment]:
        """Send on what boxes have held for long enough; return what comes in of it."""
        coming = []
        for segment, outbound in self.chain.expire(time.monotonic_ns()):
            if outbound:
                self.device.write_segment(segment)
            else:
                coming.append(segment)
        return coming


class Relay:
    """Boxes between two devices, served by a real-time loop; *outbound* is from left to right."""

    __slots__ = ("_clock", "_loop", "chain", "left", "right")

    def __init__(
        self, loop: RealTimeLoop, left: SegmentPort, right: SegmentPort, chain: Chain
    ) -> None:
        self.left = left
        self.right = right
        self.chain = chain
        self._loop = loop
        self._clock = loop.call_at(NEVER, self._release)
        loop.add_reader(left.fileno(), self._outbound)
        loop.add_reader(right.fileno(), self._inbound)

    def _outbound(self) -> None:
        for segment in self.left.read_segments():
            self._pass(segment, outbound=True)

    def _inbound(self) -> None:
        for segment in self.right.read_segments():
            self._pass(segment, outbound=False)

    def _pass(self, segment: Segment, *, outbound: bool) -> None:
        for out in self.chain.forward(segment, outbound, self._loop.now_ns):
            (self.right if outbound else self.left).write_segment(out)
        self._settle()

    def _release(self) -> None:
        for segment, outbound in self.chain.expire(self._loop.now_ns):
            (self.right if outbound else self.left).write_segment(segment)
        self._settle()

    def _settle(self) -> None:
        deadline_ns = self.chain.deadline_ns
        self._clock.set(NEVER if deadline_ns is None else deadline_ns)
