"""What handling packets costs a host: a fixed cost per packet and one per byte.

The 2012 receivers were bound by their processors, not by their links (sections 3.3.3 and 3.3.4 of
the report): one connection took 4,667 Mb/s at MSS 1400, about 10 Gb/s over two 10 Gb/s links at
MSS 8900, and two connections 12,754 Mb/s together.  A connection is served by one core, so the
first two give the cost per packet and per byte,

    1400 * 8 / 4.667e9 = 2,400 ns = packet + 1400 * byte
    8900 * 8 / 10.0e9  = 7,120 ns = packet + 8900 * byte

hence 0.629 ns per byte and 1,519 ns per packet.  The third gives what the host's cores share, its
memory and its bus: 8 / 12.754e9 = 0.627 ns per byte.

Packets are handled when they arrive, bytes when the application reads them, so a receiver that
cannot keep up lets its buffer fill and closes the window; only bursts longer than the ring of the
network card are dropped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mptcplab.compiling import mypyc_attr
from mptcplab.loop import Loop, Timer

if TYPE_CHECKING:
    from mypy_extensions import i64


@dataclass(frozen=True, slots=True)
class CpuProfile:
    """Costs in nanoseconds.

    ``packet_ns`` and ``byte_ns`` are spent on the core that serves the connection,
    ``shared_byte_ns`` on what all cores of the host share.  ``ring_packets`` is how many packets
    may wait for a core before the network card drops what arrives.
    """

    packet_ns: float
    byte_ns: float
    shared_byte_ns: float
    ring_packets: int


PROFILES: Final[dict[str, CpuProfile | None]] = {
    "none": None,
    # sections 3.3.3 and 3.3.4, worked out above; the ring is that of Intel's ixgbe (512
    # descriptors) and Myricom's myri10ge (512) in Linux 3.2
    "2012": CpuProfile(packet_ns=1519.0, byte_ns=0.629, shared_byte_ns=0.627, ring_packets=512),
    # DEVIATION: no published measurement of one machine gives these; they stand for a server that
    # takes about 40 Gb/s on one core and 100 Gb/s in all at MSS 1460 with receive offload
    "modern": CpuProfile(packet_ns=60.0, byte_ns=0.16, shared_byte_ns=0.08, ring_packets=2048),
}


@mypyc_attr(allow_interpreted_subclasses=True)
class Work(ABC):
    """Something that takes a core's time."""

    __slots__ = ("_next", "cost_ns", "shared_ns")

    def __init__(self, cost_ns: i64, shared_ns: i64) -> None:
        self.cost_ns: i64 = cost_ns
        self.shared_ns: i64 = shared_ns
        self._next: Work | None = None  # what the core does after it

    @abstractmethod
    def finish(self) -> None:
        """The core is done with it."""


class Shared:
    """What all cores of a host go through one after another: memory and bus."""

    __slots__ = ("free_ns",)

    def __init__(self) -> None:
        self.free_ns: i64 = 0


class Core(Timer):
    """One core, which does its work in the order in which it comes."""

    __slots__ = ("_first", "_last", "_shared", "busy_ns", "waiting_packets")

    def __init__(self, loop: Loop, shared: Shared) -> None:
        super().__init__(loop)
        self._shared = shared
        self._first: Work | None = None  # at hand; the others are linked behind it
        self._last: Work | None = None
        self.busy_ns: i64 = 0
        self.waiting_packets: i64 = 0
        """Packets in the ring of the network card that this core serves."""

    def add(self, work: Work) -> None:
        """Take on work; its ``finish`` is called when it is done."""
        last = self._last
        self._last = work
        if self._first is None or last is None:
            self._first = work
            self._begin(work)
        else:
            last._next = work

    def expire(self) -> None:
        """Finish the work at hand and begin the next."""
        work = self._first
        assert work is not None
        following = work._next
        work._next = None
        self._first = following
        work.finish()
        if following is not None:
            self._begin(following)

    def _begin(self, work: Work) -> None:
        now_ns: i64 = self.loop.now_ns
        shared = self._shared
        if shared.free_ns < now_ns:
            shared.free_ns = now_ns
        shared.free_ns += work.shared_ns
        end_ns = now_ns + work.cost_ns
        if end_ns < shared.free_ns:
            end_ns = shared.free_ns
        self.busy_ns += end_ns - now_ns
        self.set(end_ns)
