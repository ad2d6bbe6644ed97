"""One direction of a link: a queue, a transmitter, a wire.

A channel is pure bookkeeping: it is told what is offered and when, and says what comes out at the
other end and when. It owns no clock; the simulator runs it in virtual time, the TAP emulator in
real time.

What is offered is a *train*: n packets that arrive together, as hosts with segmentation offload
hand them over, or evenly spread up to now, as another link does; one packet is a train too. For a
FIFO link the fate of a packet is known when it is offered: the transmitter is busy until a known
time, the packet follows, and so do its departure and its arrival. So the work grows with trains,
not with packets.

A train leaves in *pieces* of at most `piece_ns` of wire time and at least one packet. A piece is
delivered when its last bit arrives, so a packet is late by at most `piece_ns` against a link that
delivers packet by packet, and never early. At the default, 100 us, this is what the interrupt
coalescing of common network cards adds; 64 KiB at 10 Gb/s (52 us) stay in one piece, and at
100 Mb/s and below every packet of 1,500 bytes goes by itself.

Arithmetic is exact: times are nanoseconds rounded up, and the fraction of a nanosecond that
rounding adds is carried on to the next packet, in *nanobits* (1 ns at 1 bit/s), so rates do not
drift. A packet occupies the queue from its arrival until its last bit is sent.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.loop.timers import NEVER
from mptcplab.network.capacity import UNLIMITED, Capacity
from mptcplab.network.counters import ChannelCounters
from mptcplab.network.early_detection import EarlyDetection
from mptcplab.network.jitter import draw_jitter
from mptcplab.network.loss import loss_model
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import NANOBITS_PER_BYTE, Piece, arrival_order, arriving, leaving

if TYPE_CHECKING:
    from mypy_extensions import i64

_NO_LIMIT: Final = 1 << 60

PIECE_NS: Final = 100_000
"""The default length of a piece: the coalescing delay of common cards (Intel ixgbe: 8,000 to
20,000 interrupts a second in bulk)."""


class ChannelModel:
    """One direction of a link; see the module's description.

    All methods want a `now_ns` that never decreases, except that `offer` may be told late of an
    arrival: it must not be before the offer before it, but may be before what else has happened.
    `random` draws loss and jitter, or loss alone where jitter has a random source of its own, so
    that the same packets are lost whatever jitter there is; two channels of equal parameters, seed
    and offers behave identically.
    """

    __slots__ = (
        "_busy_ns",
        "_capacity",
        "_delay_ns",
        "_early",
        "_first_arriving",
        "_first_unsent",
        "_free_ns",
        "_gap",
        "_jitter_random",
        "_last_arrival_ns",
        "_last_arriving",
        "_last_unsent",
        "_limit_bytes",
        "_limit_packets",
        "_loss",
        "_overhead_bytes",
        "_piece_ns",
        "_plain",
        "_random",
        "_rate_bps",
        "_rest",
        "_up",
        "counters",
        "parameters",
    )

    def __init__(
        self,
        parameters: ChannelParameters,
        random: Random,
        now_ns: int = 0,
        piece_ns: int = PIECE_NS,
        jitter_random: Random | None = None,
    ) -> None:
        self.counters = ChannelCounters()
        self.parameters = parameters
        self._random = random
        self._jitter_random: Random = random if jitter_random is None else jitter_random
        self._piece_ns: i64 = piece_ns
        # Pieces that will arrive, in order of arrival, linked by `arrives_next`; and pieces that
        # are not yet on the wire, in order of sending, linked by `leaves_next`.
        self._first_arriving: Piece | None = None
        self._last_arriving: Piece | None = None
        self._first_unsent: Piece | None = None
        self._last_unsent: Piece | None = None
        self._free_ns: i64 = now_ns  # when the transmitter becomes free, rounded up,
        self._rest: int = 0  # and by how many nanobits
        self._busy_ns: i64 = 0  # time spent sending, up to _free_ns
        self._last_arrival_ns: i64 = 0
        self._rate_bps: i64 = UNLIMITED
        self._capacity = Capacity()
        self._loss = loss_model(parameters, random)
        self._gap: i64 = self._loss.next_gap()
        self._early = EarlyDetection(random) if parameters.early_detection else None
        self._up: bool = parameters.up
        self._delay_ns: i64 = parameters.delay_ns
        self._overhead_bytes: i64 = parameters.overhead_bytes
        self._limit_bytes: i64 = _limit(parameters.queue_bytes)
        self._limit_packets: i64 = _limit(parameters.queue_packets)
        self._capacity.configure(parameters, now_ns)
        self._set_rate(self._capacity.rate_bps, now_ns)
        self._plain: bool = self._is_plain()

    # What the link holds

    def next_deadline_ns(self) -> i64:
        """When to call `take` next; `NEVER` when nothing is under way."""
        change_ns = self._capacity.next_ns
        first = self._first_arriving
        if first is not None and first.arrival_ns < change_ns:
            return first.arrival_ns
        if first is None and self._first_unsent is None:
            return NEVER
        return change_ns

    def backlog_ns(self, now_ns: int) -> int:
        """How long a packet offered now would wait before it is sent (`NEVER` at rate 0)."""
        self._advance(now_ns)
        return max(0, self._free_ns - now_ns)

    def read_counters(self, now_ns: int, *, reset_peak: bool = False) -> ChannelCounters:
        """The counters as of now; optionally let the queue's peak start anew afterwards."""
        self._advance(now_ns)
        counters = self.counters
        packets, frame_bytes = self._occupancy(now_ns)
        head_packets = counters.queued_packets - packets
        head_bytes = counters.queued_bytes - frame_bytes
        snapshot = counters.copy()
        snapshot.queued_packets = packets
        snapshot.queued_bytes = frame_bytes
        snapshot.sent_packets += head_packets
        snapshot.sent_bytes += head_bytes
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
    ) -> i64:
        """A train reaches the queue: `packets` packets of `packet_bytes` each, the last one of
        `last_bytes` (frames, all headers included; equal to `packet_bytes` for a train of one).
        The last one comes now, the first came `spread_ns` before.

        Returns how many of them the queue took; the others, the train's tail or, under early
        detection, any, are dropped. Ask `next_deadline_ns` afterwards.
        """
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
        if self._rate_bps == UNLIMITED:
            counters.sent_packets += packets
            counters.sent_bytes += frame_bytes
            self._transmit(item, 0, packets, packet_bytes, last_bytes, now_ns, spread_ns)
            return packets
        self._release(now_ns)
        taken = packets
        if (
            counters.queued_bytes + frame_bytes > self._limit_bytes
            or counters.queued_packets + packets > self._limit_packets
        ):
            taken = self._room(packets, packet_bytes, last_bytes, now_ns)
            if taken < packets:
                counters.queue_drop_packets += packets - taken
                counters.queue_drop_bytes += (packets - taken - 1) * packet_bytes + last_bytes
                if taken == 0:
                    return 0
                last_bytes = packet_bytes
                frame_bytes = taken * packet_bytes
        if self._early is None:
            counters.queued_packets += taken
            counters.queued_bytes += frame_bytes
            self._transmit(item, 0, taken, packet_bytes, last_bytes, now_ns, spread_ns)
        else:
            taken = self._sift(
                self._early, item, taken, packet_bytes, last_bytes, now_ns, spread_ns
            )
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
        piece = self._first_arriving
        if piece is None or piece.arrival_ns > now_ns:
            return None
        self._first_arriving = piece.arrives_next
        piece.arrives_next = None
        counters = self.counters
        counters.delivered_packets += piece.packets
        counters.delivered_bytes += piece.frame_bytes
        return piece

    def configure(self, parameters: ChannelParameters, now_ns: int) -> None:
        """Live change. What is under way stays under way:

        A new rate holds from now on, also for the bits not yet sent of the packet being sent. A
        new delay and jitter hold for packets that leave the transmitter after now; unless
        reordering is allowed they do not arrive before those that left earlier. A smaller queue
        turns newcomers away until it has drained. New loss and overhead hold for packets offered
        from now on. A link that goes down loses what it holds; what has arrived by now is still
        there to take. A capacity trace starts now.
        """
        self._advance(now_ns)
        old = self.parameters
        self.parameters = parameters
        if parameters.early_detection != old.early_detection:
            self._early = EarlyDetection(self._random) if parameters.early_detection else None
        self._up = parameters.up
        self._delay_ns = parameters.delay_ns
        self._overhead_bytes = parameters.overhead_bytes
        self._limit_bytes = _limit(parameters.queue_bytes)
        self._limit_packets = _limit(parameters.queue_packets)
        if (parameters.loss, parameters.burst_loss) != (old.loss, old.burst_loss):
            self._loss = loss_model(parameters, self._random)
            self._gap = self._loss.next_gap()
        if not parameters.up:
            self._cut(now_ns)
        if (parameters.delay_ns, parameters.jitter_ns) != (old.delay_ns, old.jitter_ns):
            for piece in leaving(self._first_unsent):
                piece.jitter_ns = draw_jitter(self.parameters, self._jitter_random)
        self._capacity.configure(parameters, now_ns)
        self._set_rate(self._capacity.rate_bps, now_ns)
        self._plain = self._is_plain()
        self._reschedule()

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
            self._plain = self._is_plain()
            self._reschedule()

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
        head = self._first_unsent
        if head is not None and head.packets > 1:
            sent = head.packets - head.unsent_packets(self._backlog(head, now_ns))
            packets -= sent
            frame_bytes -= sent * head.packet_bytes
        return packets, frame_bytes

    def _room(self, packets: i64, packet_bytes: i64, last_bytes: i64, now_ns: i64) -> i64:
        """How many packets of a train fit into the queue."""
        queued_packets, queued_bytes = self._occupancy(now_ns)
        free_bytes = self._limit_bytes - queued_bytes
        room = packets
        if (packets - 1) * packet_bytes + last_bytes > free_bytes:
            room = free_bytes // packet_bytes
            if room > packets - 1:
                room = packets - 1
        if room > self._limit_packets - queued_packets:
            room = self._limit_packets - queued_packets
        return room if room > 0 else 0

    def _sift(
        self,
        early: EarlyDetection,
        item: object,
        packets: i64,
        packet_bytes: i64,
        last_bytes: i64,
        now_ns: i64,
        spread_ns: i64,
    ) -> i64:
        """Send the packets of a train that early detection admits; return how many."""
        counters = self.counters
        if self._rate_bps > 0 and self._free_ns < now_ns and packet_bytes > 0:
            wire_nanobits = (packet_bytes + self._overhead_bytes) * NANOBITS_PER_BYTE
            idle_nanobits = float(now_ns - self._free_ns) * float(self._rate_bps)
            early.rest(idle_nanobits / float(wire_nanobits))
        queued_packets, queued_bytes = self._occupancy(now_ns)
        limit_bytes, limit_packets = float(self._limit_bytes), float(self._limit_packets)
        taken: i64 = 0
        start: i64 = 0
        index: i64 = 0
        while index <= packets:
            if index < packets:
                filled = max(
                    float(queued_bytes) / limit_bytes, float(queued_packets) / limit_packets
                )
                if early.admits(filled):
                    queued_packets += 1
                    queued_bytes += packet_bytes
                    index += 1
                    continue
                counters.queue_drop_packets += 1
                counters.queue_drop_bytes += last_bytes if index == packets - 1 else packet_bytes
            count = index - start
            if count > 0:
                last = last_bytes if index == packets else packet_bytes
                counters.queued_packets += count
                counters.queued_bytes += (count - 1) * packet_bytes + last
                self._transmit(item, start, count, packet_bytes, last, now_ns, spread_ns)
                taken += count
            index += 1
            start = index
        return taken

    def _note_peak(self, now_ns: i64) -> None:
        counters = self.counters
        packets, frame_bytes = self._occupancy(now_ns)
        if packets > counters.queue_peak_packets:
            counters.queue_peak_packets = packets
        if frame_bytes > counters.queue_peak_bytes:
            counters.queue_peak_bytes = frame_bytes

    def _set_flight(self, pieces: list[Piece]) -> None:
        """Let these pieces arrive, in this order."""
        self._first_arriving = None
        for piece in pieces:
            piece.arrives_next = None
            self._append_to_flight(piece)

    def _append_to_flight(self, piece: Piece) -> None:
        """Let a piece arrive after all others."""
        last = self._last_arriving
        if self._first_arriving is None or last is None:
            self._first_arriving = piece
        else:
            last.arrives_next = piece
        self._last_arriving = piece

    # The transmitter

    def _transmit(
        self,
        item: object,
        start: i64,
        packets: i64,
        packet_bytes: i64,
        last_bytes: i64,
        now_ns: i64,
        spread_ns: i64,
    ) -> None:
        """Send `packets` of a train, from its packet `start`, in pieces; draw what gets lost.

        Sending begins when the first of them came, and the last is not sent before it has come.
        """
        overhead_bytes = self._overhead_bytes
        most = self._piece_packets(packet_bytes + overhead_bytes)
        start_ns = now_ns - spread_ns
        if self._free_ns <= start_ns:
            self._free_ns = start_ns
            self._rest = 0
        start_ns = self._free_ns
        plain = self._plain
        first: i64 = 0
        while first < packets:
            count = packets - first
            if count > most:
                count = most
            lost = False
            if self._gap >= count:
                self._gap -= count
            elif self._gap > 0:
                count = self._gap
                self._gap = 0
            else:
                count = 1
                lost = True
                self._gap = self._loss.next_gap()
            frame_bytes = count * packet_bytes
            if first + count == packets:
                frame_bytes += last_bytes - packet_bytes
            piece = Piece(item, start + first, count, packet_bytes, frame_bytes, overhead_bytes)
            self._send(piece, now_ns, spread_ns)
            if lost:
                self._lose(piece)
            elif plain:
                arrival_ns = piece.end_ns + self._delay_ns
                if arrival_ns < self._last_arrival_ns:
                    arrival_ns = self._last_arrival_ns
                self._last_arrival_ns = arrival_ns
                piece.arrival_ns = arrival_ns
                self._append_to_flight(piece)
            else:
                self._fly(piece)
            first += count
        if self._rate_bps > 0:
            self._busy_ns += self._free_ns - start_ns

    def _is_plain(self) -> bool:
        """Whether arrivals follow departures by the delay alone."""
        parameters = self.parameters
        return self._rate_bps != 0 and not parameters.jitter_ns and not parameters.reorder

    def _piece_packets(self, wire_bytes: i64) -> i64:
        """How many packets of this length on the wire make a piece."""
        if self._rate_bps <= 0 or wire_bytes <= 0:
            return _NO_LIMIT
        most = self._piece_ns * self._rate_bps // (wire_bytes * NANOBITS_PER_BYTE)
        return max(most, 1)

    def _send(self, piece: Piece, now_ns: i64, spread_ns: i64) -> None:
        """Let the transmitter send a piece once it has sent all the others."""
        rate_bps = self._rate_bps
        if rate_bps == UNLIMITED:
            piece.end_ns = max(now_ns, self._free_ns)  # an offer may be told late of
            piece.spread_ns = spread_ns
            return
        work = (piece.frame_bytes + piece.packets * piece.overhead_bytes) * NANOBITS_PER_BYTE
        if rate_bps == 0:
            self._rest += work
            piece.rest = self._rest
            piece.end_ns = NEVER
        else:
            rest: i64 = self._rest
            work -= rest
            duration_ns = (work + rate_bps - 1) // rate_bps
            self._rest = piece.rest = duration_ns * rate_bps - work
            packet_ns = duration_ns // piece.packets
            piece.spread_ns = duration_ns - packet_ns
            self._free_ns += duration_ns
            idle_ns = now_ns + packet_ns - self._free_ns
            if idle_ns > 0:  # it waits for its last packet, which comes only now
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

    def _fly(self, piece: Piece) -> None:
        """Let a piece arrive, in its turn, a delay after its last bit is sent."""
        if self.parameters.jitter_ns:
            piece.jitter_ns = draw_jitter(self.parameters, self._jitter_random)
        arrival_ns = self._arrival_ns(piece)
        if self.parameters.reorder:
            piece.arrival_ns = arrival_ns
            flight = arriving(self._first_arriving)
            place = len(flight)
            while place and flight[place - 1].arrival_ns > arrival_ns:
                place -= 1
            flight.insert(place, piece)
            self._set_flight(flight)
            return
        if arrival_ns < self._last_arrival_ns:
            arrival_ns = self._last_arrival_ns
        self._last_arrival_ns = arrival_ns
        piece.arrival_ns = arrival_ns
        self._append_to_flight(piece)

    def _arrival_ns(self, piece: Piece) -> int:
        if piece.end_ns == NEVER:
            return NEVER
        return piece.end_ns + max(0, self.parameters.delay_ns + piece.jitter_ns)

    def _lose(self, piece: Piece) -> None:
        piece.lost = True
        self.counters.loss_packets += piece.packets
        self.counters.loss_bytes += piece.frame_bytes

    def _reschedule(self) -> None:
        """Work out anew when what is unsent will arrive."""
        reorder = self.parameters.reorder
        unsent = leaving(self._first_unsent)
        for piece in unsent:
            piece.arrival_ns = -1
        last_ns: i64 = 0
        for piece in reversed(arriving(self._first_arriving)):
            if piece.arrival_ns >= 0:
                last_ns = piece.arrival_ns
                break
        for piece in unsent:
            if not piece.lost:
                arrival_ns = self._arrival_ns(piece)
                piece.arrival_ns = arrival_ns if reorder else max(arrival_ns, last_ns)
                last_ns = max(last_ns, piece.arrival_ns)
        self._last_arrival_ns = last_ns
        self._set_flight(sorted(arriving(self._first_arriving), key=arrival_order))

    def _cut(self, now_ns: int) -> None:
        """Lose everything that has not arrived."""
        counters = self.counters
        flight = arriving(self._first_arriving)
        while flight and flight[-1].arrival_ns > now_ns:
            piece = flight.pop()
            counters.down_packets += piece.packets
            counters.down_bytes += piece.frame_bytes
        self._set_flight(flight)
        self._first_unsent = None
        counters.queued_packets = 0
        counters.queued_bytes = 0
        self._rest = 0
        if self._rate_bps > 0 and self._free_ns > now_ns:
            self._busy_ns -= self._free_ns - now_ns
            self._free_ns = now_ns
        self._last_arrival_ns = now_ns


def _limit(value: int | None) -> int:
    return _NO_LIMIT if value is None else value
