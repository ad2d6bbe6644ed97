"""One direction of a link with a drop-tail queue, which works train by train.

For a FIFO link the fate of a packet is known when it is offered: the transmitter is busy until a
known time, the packet follows, and so do its departure and its arrival. So the work grows with
trains, not with packets.

Arithmetic is exact: times are nanoseconds rounded up, and the fraction of a nanosecond that
rounding adds is carried on to the next packet, in *nanobits* (1 ns at 1 bit/s), so rates do not
drift. A packet occupies the queue from its arrival until its last bit is sent.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.loop.timers import NEVER
from mptcplab.network.capacity import UNLIMITED, Capacity
from mptcplab.network.channel import PIECE_NS, ChannelModel
from mptcplab.network.counters import ChannelCounters
from mptcplab.network.fates import CORRUPT, DUPLICATE, EARLY, LOST, Fates
from mptcplab.network.flight import Flight
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import NANOBITS_PER_BYTE, Piece, leaving
from mptcplab.network.train import Train

if TYPE_CHECKING:
    from mypy_extensions import i64

_NO_LIMIT: Final = 1 << 60

_ROUNDING_NS: Final = 2.0
"""Times are whole nanoseconds, rounded up, of arrivals and of departures."""


class DropTailChannel(ChannelModel):
    """One direction of a link; see the module's description.

    `random` draws loss and jitter, or loss alone where jitter has a random source of its own, so
    that the same packets are lost whatever jitter there is.
    """

    __slots__ = (
        "_busy_ns",
        "_capacity",
        "_fates",
        "_first_unsent",
        "_flight",
        "_free_ns",
        "_gap",
        "_last_unsent",
        "_limit_bytes",
        "_limit_packets",
        "_overhead_bytes",
        "_piece_ns",
        "_random",
        "_rate_bps",
        "_rest",
        "_train",
        "_up",
    )

    def __init__(
        self,
        parameters: ChannelParameters,
        random: Random,
        now_ns: int = 0,
        piece_ns: int = PIECE_NS,
        jitter_random: Random | None = None,
    ) -> None:
        super().__init__(parameters)
        self._random = random
        self._flight = Flight(parameters, random if jitter_random is None else jitter_random)
        self._piece_ns: i64 = piece_ns
        # Pieces that are not yet on the wire, in order of sending, linked by `leaves_next`.
        self._first_unsent: Piece | None = None
        self._last_unsent: Piece | None = None
        self._free_ns: i64 = now_ns  # when the transmitter becomes free, rounded up,
        self._rest: int = 0  # and by how many nanobits
        self._busy_ns: i64 = 0  # time spent sending, up to _free_ns
        self._rate_bps: i64 = UNLIMITED
        self._capacity = Capacity()
        self._train = Train()
        self._fates = Fates(parameters, random)
        self._gap: i64 = self._fates.first_gap()
        self._up: bool = parameters.up
        self._overhead_bytes: i64 = parameters.overhead_bytes
        self._limit_bytes: i64 = _limit(parameters.queue_bytes)
        self._limit_packets: i64 = _limit(parameters.queue_packets)
        self._capacity.configure(parameters, now_ns)
        self._set_rate(self._capacity.rate_bps, now_ns)

    # What the link holds

    def next_deadline_ns(self) -> i64:
        """When to call `take` next; `NEVER` when nothing is under way."""
        change_ns = self._capacity.next_ns
        arrival_ns = self._flight.next_ns()
        if arrival_ns < change_ns:
            return arrival_ns
        if self._first_unsent is None and self._flight.is_empty():
            return NEVER
        return change_ns

    def backlog_ns(self, now_ns: int) -> int:
        """How long a packet offered now would wait before it is sent (`NEVER` at rate 0)."""
        if now_ns >= self._capacity.next_ns:
            self._follow_trace(now_ns)
        return max(0, self._free_ns - now_ns)

    def read_counters(self, now_ns: int, *, reset_peak: bool = False) -> ChannelCounters:
        """The counters as of now; optionally let the queue's peak start anew afterwards.

        Nothing is released: what is offered next may be told of late, and finds the queue as it was
        when it came, whether or not somebody has looked since.
        """
        if now_ns >= self._capacity.next_ns:
            self._follow_trace(now_ns)
        counters = self.counters
        packets, frame_bytes = self._occupancy(now_ns)
        snapshot = counters.copy()
        snapshot.queued_packets = packets
        snapshot.queued_bytes = frame_bytes
        snapshot.sent_packets += counters.queued_packets - packets
        snapshot.sent_bytes += counters.queued_bytes - frame_bytes
        ahead_ns = max(0, self._free_ns - now_ns) if self._rate_bps > 0 else 0
        snapshot.busy_ns = self._busy_ns - ahead_ns
        if reset_peak:
            counters.queue_peak_packets = packets
            counters.queue_peak_bytes = frame_bytes
        return snapshot

    # What goes in and what comes out

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
        """A train reaches the queue; see `ChannelModel.offer`."""
        if now_ns >= self._capacity.next_ns:
            self._follow_trace(now_ns)
        counters = self.counters
        frame_bytes = (packets - 1) * packet_bytes + last_bytes
        counters.offered_packets += packets
        counters.offered_bytes += frame_bytes
        if not self._up:
            counters.down_packets += packets
            counters.down_bytes += frame_bytes
            return 0
        train = self._train
        train.item = item
        train.packets = packets
        train.packet_bytes = packet_bytes
        train.last_bytes = last_bytes
        train.start_ns = now_ns - spread_ns
        train.spread_ns = spread_ns
        train.piece_packets = piece_packets
        train.burst_packets = burst_packets
        if self._rate_bps == UNLIMITED:
            counters.sent_packets += packets
            counters.sent_bytes += frame_bytes
            self._transmit(train, 0, packets)
            return packets
        self._release(train.start_ns)
        taken = packets
        if (
            counters.queued_bytes + frame_bytes > self._limit_bytes
            or counters.queued_packets + packets > self._limit_packets
        ):
            taken = self._admit(train)
        else:
            counters.queued_packets += packets
            counters.queued_bytes += frame_bytes
            self._transmit(train, 0, packets)
        if spread_ns > 0:
            self._release(now_ns)
        if (
            counters.queued_bytes > counters.queue_peak_bytes
            or counters.queued_packets > counters.queue_peak_packets
        ):
            self._note_peak(now_ns)
        return taken

    def take(self, now_ns: i64) -> Piece | None:
        """The next piece that has arrived by now, or None. Call until it returns None."""
        if now_ns >= self._capacity.next_ns:
            self._follow_trace(now_ns)
        piece = self._flight.take(now_ns)
        if piece is None:
            return None
        self.counters.note_delivered(piece)
        return piece

    def configure(self, parameters: ChannelParameters, now_ns: int) -> None:
        """Live change; see `ChannelModel.configure`."""
        self._advance(now_ns)
        old = self.parameters
        self.parameters = parameters
        if parameters.discipline != old.discipline:
            raise ValueError("discipline: a channel keeps the kind that it has")
        self._up = parameters.up
        self._overhead_bytes = parameters.overhead_bytes
        self._limit_bytes = _limit(parameters.queue_bytes)
        self._limit_packets = _limit(parameters.queue_packets)
        if self._fates.configure(old, parameters):
            self._gap = self._fates.first_gap()
        if not parameters.up:
            self._cut(now_ns)
        self._flight.configure(parameters, leaving(self._first_unsent))
        self._capacity.configure(parameters, now_ns)
        self._set_rate(self._capacity.rate_bps, now_ns)
        self._flight.replan(leaving(self._first_unsent))

    # The queue

    def _advance(self, now_ns: int) -> None:
        if now_ns >= self._capacity.next_ns:
            self._follow_trace(now_ns)
        self._release(now_ns)

    def _follow_trace(self, now_ns: int) -> None:
        """Make the changes of rate that were due by now, each at its time."""
        capacity = self._capacity
        while capacity.next_ns <= now_ns:
            at_ns = capacity.next_ns
            self._release(at_ns)
            if self._first_unsent is None:  # nothing waited: the rates in between do not matter
                at_ns = now_ns
            capacity.seek(at_ns)
            self._set_rate(capacity.rate_bps, at_ns)
            self._flight.replan(leaving(self._first_unsent))

    def _release(self, now_ns: i64) -> None:
        """Release the pieces that are on the wire by now."""
        counters = self.counters
        piece = self._first_unsent
        while piece is not None and piece.end_ns <= now_ns:
            counters.queued_packets -= piece.packets
            counters.queued_bytes -= piece.frame_bytes
            counters.sent_packets += piece.packets
            counters.sent_bytes += piece.frame_bytes
            following = piece.leaves_next
            piece.leaves_next = None
            piece = following
        self._first_unsent = piece

    def _occupancy(self, now_ns: i64) -> tuple[i64, i64]:
        """Packets and bytes in the queue: of the piece being sent, the packets not yet sent."""
        counters = self.counters
        packets = counters.queued_packets
        frame_bytes = counters.queued_bytes
        piece = self._first_unsent
        while piece is not None and piece.end_ns <= now_ns:
            packets -= piece.packets
            frame_bytes -= piece.frame_bytes
            piece = piece.leaves_next
        if piece is not None and piece.packets > 1:
            sent = piece.packets - piece.unsent_packets(self._backlog(piece, now_ns))
            packets -= sent
            frame_bytes -= sent * piece.packet_bytes
        return packets, frame_bytes

    def _admit(self, train: Train) -> i64:
        """Send those packets of a train that find room."""
        counters = self.counters
        frame_bytes = train.packet_bytes
        packet_ns = self._packet_ns(frame_bytes)
        free_ns = float(self._free_ns)  # when the transmitter will have sent what is admitted
        taken: i64 = 0
        first: i64 = 0  # of those that are admitted and not in the queue yet
        index: i64 = 0
        packets = train.packets
        while index < packets:
            at_ns = train.arrival_ns(index)
            self._release(at_ns)
            queue_packets, queue_bytes = self._occupancy(at_ns)
            waiting = index - first
            if waiting > 0 and queue_packets == 0 and train.spread_ns > 0:
                waiting = min(waiting, whole_packets(free_ns - float(at_ns), packet_ns))
            queue_packets += waiting
            queue_bytes += waiting * frame_bytes
            size = train.last_bytes if index == packets - 1 else frame_bytes
            admitted = (
                queue_packets < self._limit_packets and queue_bytes + size <= self._limit_bytes
            )
            if admitted:
                free_ns = max(free_ns, float(at_ns)) + packet_ns
                taken += 1
            else:
                counters.queue_drop_packets += 1
                counters.queue_drop_bytes += size
                self._queue(train, first, index - first)
                first = index + 1
            index += 1
        self._queue(train, first, index - first)
        return taken

    def _packet_ns(self, frame_bytes: i64) -> float:
        """Return how long a packet takes to send; at rate 0, for ever."""
        work = float((frame_bytes + self._overhead_bytes) * NANOBITS_PER_BYTE)
        if self._rate_bps <= 0 or work <= 0.0:
            return float(NEVER)
        return work / float(self._rate_bps)

    def _queue(self, train: Train, first: i64, packets: i64) -> None:
        """Take packets of a train into the queue, from its packet `first` on."""
        if packets <= 0:
            return
        counters = self.counters
        counters.queued_packets += packets
        counters.queued_bytes += train.bytes_of(first, packets)
        self._transmit(train, first, packets)

    def _note_peak(self, now_ns: i64) -> None:
        counters = self.counters
        packets, frame_bytes = self._occupancy(now_ns)
        if packets > counters.queue_peak_packets:
            counters.queue_peak_packets = packets
        if frame_bytes > counters.queue_peak_bytes:
            counters.queue_peak_bytes = frame_bytes

    # The transmitter

    def _transmit(self, train: Train, first: i64, packets: i64) -> None:
        """Send `packets` of a train, from its packet `first` on, in pieces; draw what gets lost.

        Sending begins when the first of them came, and no packet is sent before it has come.
        """
        most = self.packets_within(self._piece_ns, train.packet_bytes)
        if most < train.piece_packets:
            most = train.piece_packets
        start_ns: i64 = self._free_ns
        end = first + packets
        while first < end:
            count = end - first
            if count > most:
                count = most
            fate: i64 = 0
            if self._gap >= count:
                self._gap -= count
            elif self._gap > 0:
                count = self._gap
                self._gap = 0
            else:
                count = 1
                fate = self._fates.fate
                self._gap = self._fates.next_gap()
            frame_bytes = train.bytes_of(first, count)
            piece = Piece(
                train.item, first, count, train.packet_bytes, frame_bytes, self._overhead_bytes
            )
            last = first + count - 1
            together = train.came_together(last)
            if together > count:
                together = count
            self._send(piece, train.arrival_ns(first), train.arrival_ns(last), together)
            if fate != 0:
                self._meet(piece, fate)
            else:
                self._flight.depart(piece)
            first += count
        if self._rate_bps > 0:
            self._busy_ns += self._free_ns - start_ns

    def trace_start_ns(self) -> int:
        """When the trace of the capacity began."""
        return self._capacity.start_ns

    def packets_within(self, duration_ns: i64, frame_bytes: i64) -> i64:
        """How many frames of this length the transmitter sends in so long, at least one."""
        wire_bytes = frame_bytes + self._overhead_bytes
        if self._rate_bps <= 0 or wire_bytes <= 0:
            return _NO_LIMIT
        most = duration_ns * self._rate_bps // (wire_bytes * NANOBITS_PER_BYTE)
        return max(most, 1)

    def _send(self, piece: Piece, came_ns: i64, last_came_ns: i64, together: i64) -> None:
        """Let the transmitter send a piece once it has sent all the others.

        Its first packet came at `came_ns`, its last ones, so many `together`, at `last_came_ns`.
        """
        rate_bps = self._rate_bps
        if rate_bps == UNLIMITED:
            # The piece before it may have come later: an offer may be told late of.
            piece.end_ns = last_came_ns if last_came_ns > self._free_ns else self._free_ns
            piece.spread_ns = last_came_ns - came_ns
            self._free_ns = piece.end_ns
            return
        work = (piece.frame_bytes + piece.packets * piece.overhead_bytes) * NANOBITS_PER_BYTE
        if rate_bps == 0:
            self._rest += work
            piece.rest = self._rest
            piece.end_ns = NEVER
        else:
            if self._free_ns <= came_ns:
                self._busy_ns -= came_ns - self._free_ns
                self._free_ns = came_ns
                self._rest = 0
            rest: i64 = self._rest
            work -= rest
            duration_ns = (work + rate_bps - 1) // rate_bps
            self._rest = piece.rest = duration_ns * rate_bps - work
            packet_ns = duration_ns // piece.packets
            piece.spread_ns = duration_ns - packet_ns
            self._free_ns += duration_ns
            idle_ns = last_came_ns + packet_ns * together - self._free_ns
            if idle_ns > 0 and piece.packets > 1:  # it waits for its last packets
                last_bytes = piece.frame_bytes - (piece.packets - together) * piece.packet_bytes
                last_work = (last_bytes + together * piece.overhead_bytes) * NANOBITS_PER_BYTE
                idle_ns = last_came_ns + (last_work + rate_bps - 1) // rate_bps - self._free_ns
            if idle_ns > 0:
                piece.spread_ns += idle_ns
                self._free_ns += idle_ns
                self._busy_ns -= idle_ns
            piece.end_ns = self._free_ns
        last = self._last_unsent
        if self._first_unsent is None or last is None:
            self._first_unsent = piece
        else:
            last.leaves_next = piece
        self._last_unsent = piece

    def _backlog(self, piece: Piece, now_ns: i64) -> int:
        """Nanobits to be sent until the end of an unsent piece."""
        if self._rate_bps == 0:
            return piece.rest
        rate_bps: int = self._rate_bps
        left_ns: int = piece.end_ns - now_ns
        return left_ns * rate_bps - piece.rest  # may need more than 64 bits

    def _set_rate(self, rate_bps: int, now_ns: int) -> None:
        """Send what is unsent at another rate from now on; the bits sent so far stay sent."""
        if rate_bps == self._rate_bps:
            return
        unsent = leaving(self._first_unsent)
        backlogs = [self._backlog(piece, now_ns) for piece in unsent]
        if self._rate_bps > 0:
            self._busy_ns -= max(0, self._free_ns - now_ns)
        self._rate_bps = rate_bps
        self._free_ns = NEVER if rate_bps == 0 else now_ns
        self._rest = 0
        for piece, backlog in zip(unsent, backlogs, strict=True):
            if rate_bps == 0:
                piece.rest = backlog
                piece.end_ns = NEVER
                self._rest = backlog
                continue
            duration_ns = 0
            if rate_bps > 0:
                duration_ns = (backlog + rate_bps - 1) // rate_bps
                self._rest = duration_ns * rate_bps - backlog
            self._free_ns = now_ns + duration_ns
            piece.end_ns = self._free_ns
            piece.rest = self._rest
        if rate_bps > 0:
            self._busy_ns += self._free_ns - now_ns

    # The wire

    def _meet(self, piece: Piece, fate: i64) -> None:
        """Let happen to a packet what is to."""
        if fate & LOST:
            piece.lost = True
            self.counters.loss_packets += piece.packets
            self.counters.loss_bytes += piece.frame_bytes
            return
        piece.corrupt = fate & CORRUPT != 0
        piece.duplicate = fate & DUPLICATE != 0
        piece.early = fate & EARLY != 0
        self._flight.depart(piece)

    def _cut(self, now_ns: int) -> None:
        """Lose everything that has not arrived."""
        counters = self.counters
        packets, frame_bytes = self._occupancy(now_ns)
        counters.sent_packets += counters.queued_packets - packets
        counters.sent_bytes += counters.queued_bytes - frame_bytes
        for piece in self._flight.cut(now_ns):
            counters.down_packets += piece.packets
            counters.down_bytes += piece.frame_bytes
        self._first_unsent = None
        counters.queued_packets = 0
        counters.queued_bytes = 0
        self._rest = 0
        if self._rate_bps > 0 and self._free_ns > now_ns:
            self._busy_ns -= self._free_ns - now_ns
            self._free_ns = now_ns


def whole_packets(work_ns: float, packet_ns: float) -> i64:
    """Return how many packets the transmitter has not sent whole, with so much work left."""
    if work_ns <= 0.0:
        return 0
    packets = int(work_ns / packet_ns)
    # What times rounded up to nanoseconds add is no packet.
    return packets + 1 if work_ns - packets * packet_ns > _ROUNDING_NS else packets


def _limit(value: int | None) -> int:
    return _NO_LIMIT if value is None else value
