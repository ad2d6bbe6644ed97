"""What one direction of a link is asked to do.

Rates mean what they mean to tc: bits of frames per second, a frame being everything from the
destination MAC address to the end of the payload (14 bytes of Ethernet header and 4 per VLAN tag
included; preamble, frame check sequence and gap not, unless `overhead_bytes` says so: 24 makes
it the rate of the wire).
"""

from __future__ import annotations

from dataclasses import dataclass

from mptcplab.network.impairments import (
    CapacityTrace,
    GilbertElliott,
    JitterDistribution,
    check_probability,
)
from mptcplab.network.topology import (
    DEFAULT_RED,
    DISCIPLINES,
    DROP_TAIL,
    ETHERNET_HEADER_BYTES,
    Channel,
    RedThresholds,
)


@dataclass(frozen=True, slots=True)
class ChannelParameters:
    """One direction of a link. Raises `ValueError` where a value makes no sense."""

    rate_bps: int | None = None
    """Bits of frames per second; None for unlimited; 0 stops the link, which keeps its queue."""
    delay_ns: int = 0
    """From the last bit sent to the last bit received."""
    jitter_ns: int = 0
    jitter_distribution: JitterDistribution = JitterDistribution.UNIFORM
    jitter_reorders: bool = False
    """Whether jitter and a shrinking delay may let packets overtake one another."""
    reorder: float = 0.0
    """Probability of a packet to arrive without the delay, so that it overtakes (0 to 1)."""
    loss: float = 0.0
    """Probability of a packet, independently of others, to be lost on the wire (0 to 1)."""
    burst_loss: GilbertElliott | None = None
    """Loss in bursts, in the place of `loss`."""
    lost_packets: tuple[int, ...] = ()
    """In the place of both: which packets are lost, numbered from 0 from the moment on when
    this is set, as the queue lets them onto the wire. For tests of what one loss, or ten, do."""
    duplicate: float = 0.0
    """Probability of a packet to arrive twice (0 to 1)."""
    corrupt: float = 0.0
    """Probability of a packet to arrive damaged, as its checksum shows (0 to 1)."""
    queue_bytes: int | None = None
    """Room for frames that wait and the one being sent; None for no limit in bytes."""
    queue_packets: int | None = None
    """The same in packets. Both limits may be given; a packet must then fit both."""
    discipline: str = DROP_TAIL
    """What the queue does before it is full: one of `topology.DISCIPLINES`."""
    red: RedThresholds = DEFAULT_RED
    """From where on "red" drops at random; it must have a limit."""
    target_ns: int | None = None
    """How long packets may wait ("codel", "fq_codel", "pie"); None for the discipline's own."""
    interval_ns: int | None = None
    """For how long they may have waited longer ("codel", "fq_codel"); None likewise."""
    quantum_bytes: int | None = None
    """How much a flow sends in its turn ("fq_codel"); None for a full frame."""
    frame_bytes: int = 1514
    """A full frame, as the disciplines need to know it."""
    ecn: bool = False
    """Whether a managed queue marks packets that are ECN-capable, and drops only others."""
    overhead_bytes: int = 0
    """Charged on the wire for each packet in addition to its frame (tc's `overhead`)."""
    trace: CapacityTrace | None = None
    """Takes the place of `rate_bps`."""
    up: bool = True
    """A link that is down loses what it holds and what it is offered, as a cut cable does."""

    @classmethod
    def of(cls, channel: Channel, *, up: bool = True, frame_bytes: int = 1514) -> ChannelParameters:
        """What a topology declares of one direction of a link."""
        queue = channel.queue
        return cls(
            rate_bps=channel.rate_bps,
            delay_ns=channel.delay_ns,
            jitter_ns=channel.jitter_ns,
            jitter_distribution=channel.jitter_distribution,
            jitter_reorders=channel.jitter_reorders,
            reorder=channel.reorder,
            loss=channel.loss,
            burst_loss=channel.burst_loss,
            duplicate=channel.duplicate,
            corrupt=channel.corrupt,
            queue_bytes=queue.limit_bytes,
            queue_packets=queue.limit_packets,
            discipline=queue.discipline,
            red=queue.red,
            target_ns=queue.target_ns,
            interval_ns=queue.interval_ns,
            quantum_bytes=queue.quantum_bytes,
            frame_bytes=frame_bytes,
            ecn=queue.ecn,
            overhead_bytes=channel.overhead_bytes,
            trace=channel.trace,
            up=up,
        )

    def __post_init__(self) -> None:
        if self.rate_bps is not None and self.rate_bps < 0:
            raise ValueError(f"rate: expected 0 or more bit/s, found {self.rate_bps}")
        if self.delay_ns < 0:
            raise ValueError(f"delay: expected 0 or more ns, found {self.delay_ns}")
        if self.jitter_ns < 0:
            raise ValueError(f"jitter: expected 0 or more ns, found {self.jitter_ns}")
        for name in ("loss", "duplicate", "corrupt", "reorder"):
            check_probability(name, getattr(self, name))
        if self.burst_loss is not None and self.loss > 0.0:
            raise ValueError("loss: give either random loss or loss in bursts, not both")
        if self.queue_bytes is not None and self.queue_bytes <= 0:
            raise ValueError(f"queue: expected at least one byte, found {self.queue_bytes}")
        if self.queue_packets is not None and self.queue_packets <= 0:
            raise ValueError(f"queue: expected at least one packet, found {self.queue_packets}")
        if self.discipline not in DISCIPLINES:
            raise ValueError(f"discipline: expected one of {DISCIPLINES}, found {self.discipline}")
        if self.discipline == "red" and self.queue_bytes is None and self.queue_packets is None:
            raise ValueError("early detection: expected a queue with a limit")
        if self.ecn and self.discipline == DROP_TAIL:
            raise ValueError("ecn: a drop-tail queue marks nothing; expected a managed queue")
        if self.overhead_bytes < -ETHERNET_HEADER_BYTES:
            raise ValueError(
                f"overhead: expected at least -{ETHERNET_HEADER_BYTES} bytes,"
                f" found {self.overhead_bytes}"
            )
