"""What handling packets costs a host: a fixed cost per packet and one per byte.

The 2012 receivers were bound by their processors, not by their links (sections 3.3.3 and 3.3.4 of
the report): one connection took 4,667 Mb/s at MSS 1400, about 10 Gb/s over two 10 Gb/s links at
MSS 8900, and two connections 12,754 Mb/s together.  A connection is served by one core, so the first
two give the cost per packet and per byte,

    1400 * 8 / 4.667e9 = 2,400 ns = packet + 1400 * byte
    8900 * 8 / 10.0e9  = 7,120 ns = packet + 8900 * byte

hence 0.629 ns per byte and 1,519 ns per packet.  The third gives what the host's cores share, its
memory and its bus: 8 / 12.754e9 = 0.627 ns per byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CpuProfile:
    """Costs in nanoseconds; all zero costs nothing.

    ``packet_ns`` and ``byte_ns`` are spent on the core that serves the connection, ``shared_byte_ns``
    on what all cores of the host share.  ``ring_packets`` is how many packets may wait for a core
    before the network card drops what arrives.
    """

    packet_ns: float
    byte_ns: float
    shared_byte_ns: float
    ring_packets: int


PROFILES: Final[dict[str, CpuProfile | None]] = {
    "none": None,
    # section 3.3.3 and 3.3.4, worked out above; the ring is the default of the Myricom 10G driver
    # (myri10ge, 512 receive descriptors) and of the Intel 82598EB (ixgbe, 512)
    "2012": CpuProfile(packet_ns=1519.0, byte_ns=0.629, shared_byte_ns=0.627, ring_packets=512),
    # DEVIATION: no published measurement of one machine gives these; they stand for a server that
    # takes 40 Gb/s on one core at MSS 1460 with aggregation (GRO) and 100 Gb/s in all
    "modern": CpuProfile(packet_ns=60.0, byte_ns=0.16, shared_byte_ns=0.08, ring_packets=2048),
}


class Core:
    """One core (or what all cores share), serving work in the order in which it comes."""

    __slots__ = ("busy_ns", "free_ns")

    def __init__(self) -> None:
        self.free_ns = 0
        self.busy_ns = 0

    def serve(self, cost_ns: int, now_ns: int) -> int:
        """Take on work that costs ``cost_ns`` and return when it is done."""
        start_ns = max(self.free_ns, now_ns)
        self.free_ns = start_ns + cost_ns
        self.busy_ns += cost_ns
        return self.free_ns
