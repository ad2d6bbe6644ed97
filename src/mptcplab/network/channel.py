"""One direction of a link: a queue, a transmitter, a wire.

A channel is pure bookkeeping: it is told what is offered and when, and says what comes out at the
other end and when. It owns no clock; the simulator runs it in virtual time, the TAP emulator in
real time.

What is offered is a *train*: n packets that arrive together, as hosts with segmentation offload
hand them over, or evenly spread up to now, as another link does; one packet is a train too.

A train leaves in *pieces* of at most `piece_ns` of wire time and at least one packet. A piece is
delivered when its last bit arrives, so a packet is late by at most `piece_ns` against a link that
delivers packet by packet, and never early. At the default, 100 us, this is what the interrupt
coalescing of common network cards adds; 64 KiB at 10 Gb/s (52 us) stay in one piece, and at
100 Mb/s and below every packet of 1,500 bytes goes by itself.

`network.drop_tail` and `network.managed` are the kinds of channel, `network.link` chooses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from mptcplab.network.counters import ChannelCounters
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece

if TYPE_CHECKING:
    from mypy_extensions import i64

PIECE_NS: Final = 100_000
"""The default length of a piece: the coalescing delay of common cards (Intel ixgbe: 8,000 to
20,000 interrupts a second in bulk)."""


class ChannelModel(ABC):
    """One direction of a link; see the module's description.

    All methods want a `now_ns` that never decreases, except that `offer` may be told late of an
    arrival: it must not be before the offer before it, but may be before what else has happened.
    Two channels of equal parameters, seed and offers behave identically.
    """

    __slots__ = ("counters", "parameters")

    def __init__(self, parameters: ChannelParameters) -> None:
        self.counters = ChannelCounters()
        self.parameters = parameters

    @abstractmethod
    def next_deadline_ns(self) -> i64:
        """When to call `take` next; `NEVER` when nothing is under way."""

    @abstractmethod
    def backlog_ns(self, now_ns: int) -> int:
        """How long a packet offered now would wait before it is sent (`NEVER` at rate 0)."""

    @abstractmethod
    def read_counters(self, now_ns: int, *, reset_peak: bool = False) -> ChannelCounters:
        """The counters as of now; optionally let the queue's peak start anew afterwards."""

    @abstractmethod
    def offer(
        self,
        item: object,
        packets: i64,
        packet_bytes: i64,
        last_bytes: i64,
        now_ns: i64,
        spread_ns: i64 = 0,
        piece_packets: i64 = 0,
        burst_packets: i64 = 1,
    ) -> i64:
        """A train reaches the queue: `packets` packets of `packet_bytes` each, the last one of
        `last_bytes` (frames, all headers included; equal to `packet_bytes` for a train of one).
        The last one comes now, the first came `spread_ns` before, the others evenly in between, or
        `burst_packets` at a time. It leaves in pieces of at most `piece_packets`, where that is
        more than the channel's own.

        Returns how many of them the queue took: each is judged by what the queue holds when it
        comes. Ask `next_deadline_ns` afterwards.
        """

    @abstractmethod
    def take(self, now_ns: i64) -> Piece | None:
        """The next piece that has arrived by now, or None. Call until it returns None."""

    @abstractmethod
    def configure(self, parameters: ChannelParameters, now_ns: int) -> None:
        """Live change. What is under way stays under way:

        A new rate holds from now on, also for the bits not yet sent of the packet being sent. A
        new delay and jitter hold for packets that leave the transmitter after now; unless
        reordering is allowed they do not arrive before those that left earlier. A smaller queue
        turns newcomers away until it has drained. New loss and overhead hold for packets offered
        from now on. A link that goes down loses what it holds; what has arrived by now is still
        there to take. A capacity trace starts now. The discipline stays of its kind.
        """

    @abstractmethod
    def trace_start_ns(self) -> int:
        """When the trace of the capacity began, where there is one."""

    def mean_rate_bps(self, since_ns: int, until_ns: int) -> int | None:
        """The rate; of a trace, the mean from one time to a later one, as far as it ran."""
        trace = self.parameters.trace
        if trace is None:
            return self.parameters.rate_bps
        start_ns = self.trace_start_ns()
        since_ns = max(since_ns - start_ns, 0)
        return trace.mean_between_bps(since_ns, max(until_ns - start_ns, since_ns + 1))

    @abstractmethod
    def packets_within(self, duration_ns: i64, frame_bytes: i64) -> i64:
        """How many frames of this length the transmitter sends in so long, at least one."""
