"""What one direction of a link is asked to do.

Rates mean what they mean to tc: bits of frames per second, a frame being everything from the
destination MAC address to the end of the payload (14 bytes of Ethernet header and 4 per VLAN tag
included; preamble, frame check sequence and gap not, unless `overhead_bytes` says so: 24 makes
it the rate of the wire).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from mptcplab.network.topology import (
    DEFAULT_RED,
    DISCIPLINES,
    DROP_TAIL,
    ETHERNET_HEADER_BYTES,
    Channel,
    RedThresholds,
)


class JitterDistribution(Enum):
    """How the extra delay of a packet is drawn."""

    UNIFORM = "uniform"
    """Anywhere from -jitter to +jitter, all equally likely."""

    NORMAL = "normal"
    """Normal with standard deviation jitter."""


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Loss in bursts: a Markov chain of a good and a bad state, one step per packet.

    Gilbert 1960, Elliott 1963; the parameters are those of `tc netem loss gemodel`, all
    probabilities from 0 to 1.
    """

    good_to_bad: float
    """Probability, at each packet, to go from good to bad (netem's p)."""
    bad_to_good: float
    """Probability, at each packet, to go from bad to good (netem's r)."""
    loss_in_bad: float = 1.0
    """Probability to lose a packet in the bad state (netem's 1-h)."""
    loss_in_good: float = 0.0
    """Probability to lose a packet in the good state (netem's 1-k)."""

    def __post_init__(self) -> None:
        for name in ("good_to_bad", "bad_to_good", "loss_in_bad", "loss_in_good"):
            _check_probability(name, getattr(self, name))

    @property
    def mean_loss(self) -> float:
        """The share of packets lost in the long run."""
        total = self.good_to_bad + self.bad_to_good
        if total == 0.0:
            return self.loss_in_good
        bad = self.good_to_bad / total
        return bad * self.loss_in_bad + (1.0 - bad) * self.loss_in_good


@dataclass(frozen=True, slots=True)
class CapacityTrace:
    """A rate that changes at given times, as recorded on a real link.

    Times count from the moment the trace is handed to the channel. After `period_ns` the trace
    starts over; without a period the last rate stays.
    """

    steps: tuple[tuple[int, int], ...]
    """Pairs of a time (ns, ascending, the first one 0) and the rate from then on (bit/s; 0 stops
    the link, which keeps its queue)."""
    period_ns: int | None = None

    def __post_init__(self) -> None:
        times = [time_ns for time_ns, _ in self.steps]
        if not times or times[0] != 0 or any(b <= a for a, b in pairwise(times)):
            raise ValueError("capacity trace: times must ascend and start at 0")
        if any(rate < 0 for _, rate in self.steps):
            raise ValueError("capacity trace: a rate must not be negative")
        if self.period_ns is not None and self.period_ns <= times[-1]:
            raise ValueError("capacity trace: the period must be longer than the last time")


@dataclass(frozen=True, slots=True)
class ChannelParameters:
    """One direction of a link. Raises `ValueError` where a value makes no sense."""

    rate_bps: int | None = None
    """Bits of frames per second; None for unlimited; 0 stops the link, which keeps its queue."""
    delay_ns: int = 0
    """From the last bit sent to the last bit received."""
    jitter_ns: int = 0
    jitter_distribution: JitterDistribution = JitterDistribution.UNIFORM
    reorder: bool = False
    """Whether jitter and a shrinking delay may let packets overtake one another."""
    loss: float = 0.0
    """Probability of a packet, independently of others, to be lost on the wire (0 to 1)."""
    burst_loss: GilbertElliott | None = None
    """Loss in bursts, in the place of `loss`."""
    queue_bytes: int | None = None
    """Room for frames that wait and the one being sent; None for no limit in bytes."""
    queue_packets: int | None = None
    """The same in packets. Both limits may be given; a packet must then fit both."""
    discipline: str = DROP_TAIL
    """What the queue does before it is full: one of `topology.DISCIPLINES`."""
    red: RedThresholds = DEFAULT_RED
    """From where on "red" drops at random; it must have a limit."""
    ecn: bool = False
    """Whether a managed queue marks packets that are ECN-capable, and drops only others."""
    overhead_bytes: int = 0
    """Charged on the wire for each packet in addition to its frame (tc's `overhead`)."""
    trace: CapacityTrace | None = None
    """Takes the place of `rate_bps`."""
    up: bool = True
    """A link that is down loses what it holds and what it is offered, as a cut cable does."""

    @classmethod
    def of(cls, channel: Channel, *, up: bool = True) -> ChannelParameters:
        """What a topology declares of one direction of a link."""
        return cls(
            rate_bps=channel.rate_bps,
            delay_ns=channel.delay_ns,
            jitter_ns=channel.jitter_ns,
            loss=channel.loss,
            queue_bytes=channel.queue.limit_bytes,
            queue_packets=channel.queue.limit_packets,
            discipline=channel.queue.discipline,
            red=channel.queue.red,
            ecn=channel.queue.ecn,
            overhead_bytes=channel.overhead_bytes,
            up=up,
        )

    def __post_init__(self) -> None:
        if self.rate_bps is not None and self.rate_bps < 0:
            raise ValueError(f"rate: expected 0 or more bit/s, found {self.rate_bps}")
        if self.delay_ns < 0:
            raise ValueError(f"delay: expected 0 or more ns, found {self.delay_ns}")
        if self.jitter_ns < 0:
            raise ValueError(f"jitter: expected 0 or more ns, found {self.jitter_ns}")
        _check_probability("loss", self.loss)
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


def _check_probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: expected a probability from 0 to 1, found {value}")
