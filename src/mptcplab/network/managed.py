"""One direction of a link whose queue is managed: RED, CoDel, fq_codel, PIE.

A discipline decides when a packet comes and when it may leave, and what it decides depends on what
comes in between. So this channel follows packets one by one, where `DropTailChannel` knows the fate
of a train when it is offered; it answers the same calls. Packets of a train that leave one behind
the other arrive as one piece.

What is on the wire is no longer in the queue: limits and thresholds are about packets that wait,
as those of the kernel's queueing disciplines are.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from mptcplab.loop.timers import NEVER
from mptcplab.network.capacity import UNLIMITED, Capacity
from mptcplab.network.channel import PIECE_NS, ChannelModel
from mptcplab.network.counters import ChannelCounters
from mptcplab.network.disciplines.codel import INTERVAL_NS, TARGET_NS, Codel
from mptcplab.network.disciplines.discipline import NO_LIMIT, Discipline
from mptcplab.network.disciplines.fq_codel import FqCodel
from mptcplab.network.disciplines.packet import Packet
from mptcplab.network.disciplines.pie import TARGET_NS as PIE_TARGET_NS
from mptcplab.network.disciplines.pie import Pie
from mptcplab.network.disciplines.red import Red
from mptcplab.network.fates import CORRUPT, DUPLICATE, EARLY, LOST, Fates
from mptcplab.network.flight import Flight
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import NANOBITS_PER_BYTE, Piece
from mptcplab.network.train import Train

if TYPE_CHECKING:
    from mypy_extensions import i64

Classifier = Callable[[object], int]
"""Of what is offered: a hash of its addresses and ports, times two, plus 1 where it is ECN-capable
(ECT(0) or ECT(1), RFC 3168 section 5)."""


class ManagedChannel(ChannelModel):
    """One direction of a link with a discipline; see the module's description."""

    __slots__ = (
        "_busy_ns",
        "_capacity",
        "_classify",
        "_discipline",
        "_fates",
        "_first_sent_ns",
        "_flight",
        "_free_ns",
        "_gap",
        "_left",
        "_most",
        "_one_less_ns",
        "_open",
        "_overhead_bytes",
        "_piece_ns",
        "_random",
        "_rate_bps",
        "_rest",
        "_sending",
        "_train",
        "_up",
    )

    def __init__(
        self,
        parameters: ChannelParameters,
        random: Random,
        now_ns: int,
        classify: Classifier,
        piece_ns: int = PIECE_NS,
        jitter_random: Random | None = None,
    ) -> None:
        super().__init__(parameters)
        self._random = random
        self._classify = classify
        self._flight = Flight(parameters, random if jitter_random is None else jitter_random)
        self._discipline = _discipline(parameters, self.counters, random, now_ns)
        self._piece_ns: i64 = piece_ns
        self._train = Train()
        self._fates = Fates(parameters, random)
        self._gap: i64 = self._fates.first_gap()
        self._up: bool = parameters.up
        self._overhead_bytes: i64 = parameters.overhead_bytes
        self._sending: Packet | None = None
        self._open: Piece | None = None
        """The piece that the packet sent last belongs to; None where it is lost."""
        self._first_sent_ns: i64 = 0
        """When the first packet of the open piece was sent."""
        self._one_less_ns: i64 = 0
        """When it would have been sent without its last packet."""
        self._most: i64 = 1
        """How many packets it may hold."""
        self._free_ns: i64 = now_ns  # when the transmitter becomes free, rounded up,
        self._rest: int = 0  # and by how many nanobits
        self._left: int = 0  # at rate 0: nanobits that the packet being sent still has
        self._busy_ns: i64 = 0
        self._rate_bps: i64 = UNLIMITED
        self._capacity = Capacity()
        self._capacity.configure(parameters, now_ns)
        self._set_rate(self._capacity.rate_bps, now_ns)

    def next_deadline_ns(self) -> i64:
        """When to call `take` next; `NEVER` when nothing is under way."""
        deadline_ns = self._flight.next_ns()
        piece = self._open
        if piece is not None:
            # As it is, it would arrive then; whether it grows is decided when it is sent.
            end_ns = self._earliest_ns(piece)
            if end_ns < deadline_ns:
                deadline_ns = end_ns
        if piece is not None or self._sending is not None or self._discipline.packets > 0:
            if self._free_ns < deadline_ns and piece is None:
                deadline_ns = self._free_ns
            if self._capacity.next_ns < deadline_ns:
                deadline_ns = self._capacity.next_ns
        return deadline_ns

    def backlog_ns(self, now_ns: int) -> int:
        """How long a packet offered now would wait before it is sent (`NEVER` at rate 0)."""
        self._advance(now_ns)
        if self._rate_bps == 0:
            return NEVER
        waiting = self._discipline
        work = waiting.frame_bytes + waiting.packets * self._overhead_bytes
        ahead_ns = work * NANOBITS_PER_BYTE // self._rate_bps if self._rate_bps > 0 else 0
        return max(0, self._free_ns - now_ns) + ahead_ns

    def read_counters(self, now_ns: int, *, reset_peak: bool = False) -> ChannelCounters:
        """The counters as of now; optionally let the queue's peak start anew afterwards."""
        self._advance(now_ns)
        counters = self.counters
        snapshot = counters.copy()
        ahead_ns = max(0, self._free_ns - now_ns) if self._rate_bps > 0 else 0
        snapshot.busy_ns = self._busy_ns - ahead_ns
        if reset_peak:
            counters.queue_peak_packets = counters.queued_packets
            counters.queue_peak_bytes = counters.queued_bytes
        return snapshot

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
        counters = self.counters
        frame_bytes = (packets - 1) * packet_bytes + last_bytes
        counters.offered_packets += packets
        counters.offered_bytes += frame_bytes
        if not self._up:
            counters.down_packets += packets
            counters.down_bytes += frame_bytes
            return 0
        train = self._train
        train.packets = packets
        train.start_ns = now_ns - spread_ns
        train.spread_ns = spread_ns
        train.burst_packets = burst_packets
        traits: i64 = self._classify(item)
        dropped = counters.queue_drop_packets
        index: i64 = 0
        while index < packets:
            at_ns = train.arrival_ns(index)
            self._advance(at_ns)
            size = last_bytes if index == packets - 1 else packet_bytes
            packet = Packet(item, index, size, at_ns, traits >> 1, ect=bool(traits & 1))
            packet.most = piece_packets
            self._enqueue(packet, at_ns)
            index += 1
        return packets - (counters.queue_drop_packets - dropped)

    def take(self, now_ns: i64) -> Piece | None:
        """The next piece that has arrived by now, or None. Call until it returns None."""
        self._advance(now_ns)
        piece = self._open
        if piece is not None and self._earliest_ns(piece) <= now_ns:
            self._close()
        arrived = self._flight.take(now_ns)
        if arrived is not None:
            self.counters.note_delivered(arrived)
        return arrived

    def configure(self, parameters: ChannelParameters, now_ns: int) -> None:
        """Live change; see `ChannelModel.configure`. The discipline stays of its kind."""
        self._advance(now_ns)
        old = self.parameters
        if parameters.discipline != old.discipline:
            raise ValueError("discipline: a channel keeps the kind that it has")
        self.parameters = parameters
        self._up = parameters.up
        self._overhead_bytes = parameters.overhead_bytes
        _limit(self._discipline, parameters)
        if self._fates.configure(old, parameters):
            self._gap = self._fates.first_gap()
        if not parameters.up:
            self._cut(now_ns)
        self._flight.configure(parameters, [])
        self._capacity.configure(parameters, now_ns)
        self._set_rate(self._capacity.rate_bps, now_ns)

    def trace_start_ns(self) -> int:
        """When the trace of the capacity began."""
        return self._capacity.start_ns

    def packets_within(self, duration_ns: i64, frame_bytes: i64) -> i64:
        """How many frames of this length the transmitter sends in so long, at least one."""
        wire_bytes = frame_bytes + self._overhead_bytes
        if self._rate_bps <= 0 or wire_bytes <= 0:
            return NO_LIMIT
        most = duration_ns * self._rate_bps // (wire_bytes * NANOBITS_PER_BYTE)
        return max(most, 1)

    # The queue and the transmitter

    def _enqueue(self, packet: Packet, at_ns: i64) -> None:
        counters = self.counters
        queue = self._discipline
        before = queue.packets
        before_bytes = queue.frame_bytes
        queue.enqueue(packet, at_ns)
        self._note_queue(before, before_bytes)
        if self._sending is None and self._rate_bps != 0 and self._free_ns <= at_ns:
            self._send_next(at_ns)
        if counters.queued_packets > counters.queue_peak_packets:
            counters.queue_peak_packets = counters.queued_packets
        if counters.queued_bytes > counters.queue_peak_bytes:
            counters.queue_peak_bytes = counters.queued_bytes

    def _note_queue(self, before: i64, before_bytes: i64) -> None:
        """Count what the queue has taken and let go."""
        queue = self._discipline
        self.counters.queued_packets += queue.packets - before
        self.counters.queued_bytes += queue.frame_bytes - before_bytes

    def _advance(self, now_ns: i64) -> None:
        """Send what the transmitter had time for by now, at the rates of its time."""
        while True:
            capacity = self._capacity
            change_ns = capacity.next_ns
            until_ns = now_ns if now_ns < change_ns else change_ns
            while self._free_ns <= until_ns and (
                self._sending is not None or (self._discipline.packets > 0 and self._rate_bps != 0)
            ):
                at_ns = self._free_ns
                self._sent()
                self._send_next(at_ns)
            if now_ns < change_ns:
                return
            capacity.seek(change_ns)
            self._set_rate(capacity.rate_bps, change_ns)

    def _sent(self) -> None:
        """The last bit of the packet being sent is on the wire."""
        packet = self._sending
        if packet is None:
            return
        self._sending = None
        counters = self.counters
        counters.queued_packets -= 1
        counters.queued_bytes -= packet.frame_bytes
        counters.sent_packets += 1
        counters.sent_bytes += packet.frame_bytes

    def _send_next(self, at_ns: i64) -> None:
        """Begin to send the packet that the discipline gives; the open piece grows or ends."""
        queue = self._discipline
        before = queue.packets
        before_bytes = queue.frame_bytes
        packet = queue.dequeue(at_ns)
        self._note_queue(before, before_bytes)
        if packet is None:
            return
        self.counters.queued_packets += 1  # the one being sent counts, as on other channels
        self.counters.queued_bytes += packet.frame_bytes
        self._sending = packet
        back_to_back = self._free_ns == at_ns
        self._transmit(packet, at_ns, back_to_back=back_to_back)
        if self._gap == 0:
            fate: i64 = self._fates.fate
            self._gap = self._fates.next_gap()
            self._close()
            self._meet(packet, fate)
            return
        self._gap -= 1
        piece = self._open
        if (
            piece is not None
            and back_to_back
            and piece.item is packet.item
            and piece.first + piece.packets == packet.index
            and piece.marked == packet.marked
            and piece.packets < self._most
        ):
            piece.packets += 1
            piece.frame_bytes += packet.frame_bytes
            self._one_less_ns = piece.end_ns
            piece.end_ns = self._free_ns
            piece.spread_ns = piece.end_ns - self._first_sent_ns
            return
        self._close()
        self._begin_piece(packet)

    def _meet(self, packet: Packet, fate: i64) -> None:
        """Let happen to a packet what is to: unless it is lost, it is a piece by itself."""
        if fate & LOST:
            self.counters.loss_packets += 1
            self.counters.loss_bytes += packet.frame_bytes
            return
        self._begin_piece(packet)
        piece = self._open
        if piece is not None:
            self._most = 1
            piece.corrupt = fate & CORRUPT != 0
            piece.duplicate = fate & DUPLICATE != 0
            piece.early = fate & EARLY != 0

    def _earliest_ns(self, piece: Piece) -> i64:
        """Return when the open piece may arrive at the earliest."""
        if piece.end_ns >= NEVER or piece.early:
            return piece.end_ns
        return piece.end_ns + self._flight.least_delay_ns()

    def _begin_piece(self, packet: Packet) -> None:
        piece = Piece(packet.item, packet.index, 1, packet.frame_bytes, packet.frame_bytes, 0)
        piece.marked = packet.marked
        piece.end_ns = self._free_ns
        self._first_sent_ns = self._free_ns
        self._open = piece
        self._most = self.packets_within(self._piece_ns, packet.frame_bytes)
        if packet.most > self._most:
            self._most = packet.most

    def _transmit(self, packet: Packet, at_ns: i64, *, back_to_back: bool) -> None:
        rate_bps = self._rate_bps
        if rate_bps == UNLIMITED:
            self._free_ns = at_ns
            return
        work = (packet.frame_bytes + self._overhead_bytes) * NANOBITS_PER_BYTE
        rest: i64 = self._rest if back_to_back else 0
        work -= rest
        duration_ns = (work + rate_bps - 1) // rate_bps
        self._rest = duration_ns * rate_bps - work
        self._free_ns = at_ns + duration_ns
        self._busy_ns += duration_ns

    def _close(self) -> None:
        """Let the open piece fly."""
        piece = self._open
        if piece is not None:
            self._open = None
            self._flight.depart(piece)

    def _part(self, packet: Packet) -> None:
        """Let what has been sent of the open piece fly without the packet being sent."""
        piece = self._open
        if piece is None or piece.packets == 1:
            return
        piece.packets -= 1
        piece.frame_bytes -= packet.frame_bytes
        piece.end_ns = self._one_less_ns
        piece.spread_ns = piece.end_ns - self._first_sent_ns
        self._close()
        self._begin_piece(packet)

    def _set_rate(self, rate_bps: int, now_ns: i64) -> None:
        """Send what is left of the packet being sent at another rate from now on."""
        old_bps = self._rate_bps
        self._rate_bps = rate_bps
        self._discipline.packet_ns = (
            self.parameters.frame_bytes * NANOBITS_PER_BYTE / rate_bps if rate_bps > 0 else 0.0
        )
        if rate_bps == old_bps:
            return
        if self._sending is not None:
            self._part(self._sending)
            left = self._left
            if old_bps > 0:
                ahead_ns: int = self._free_ns - now_ns
                left = ahead_ns * old_bps - self._rest
                self._busy_ns -= self._free_ns - now_ns
            self._left = left
            duration_ns = NEVER - now_ns
            if rate_bps > 0:
                duration_ns = (left + rate_bps - 1) // rate_bps
                self._rest = duration_ns * rate_bps - left
                self._busy_ns += duration_ns
            elif rate_bps == UNLIMITED:
                duration_ns = 0
            self._free_ns = now_ns + duration_ns
            if self._open is not None:
                self._open.end_ns = self._free_ns
        elif rate_bps == 0:
            self._free_ns = NEVER
        elif self._free_ns > now_ns:
            self._free_ns = now_ns
        if rate_bps != 0 and self._sending is None and self._discipline.packets > 0:
            self._send_next(now_ns)

    def _cut(self, now_ns: i64) -> None:
        """Lose everything that has not arrived."""
        counters = self.counters
        packet = self._sending
        if packet is not None:
            self._sending = None
            counters.queued_packets -= 1
            counters.queued_bytes -= packet.frame_bytes
        self._close()
        queue = self._discipline
        counters.down_packets += queue.packets
        counters.down_bytes += queue.frame_bytes
        counters.queued_packets -= queue.packets
        counters.queued_bytes -= queue.frame_bytes
        self._discipline = _discipline(self.parameters, counters, self._random, now_ns)
        for piece in self._flight.cut(now_ns):
            counters.down_packets += piece.packets
            counters.down_bytes += piece.frame_bytes
        if self._rate_bps > 0 and self._free_ns > now_ns:
            self._busy_ns -= self._free_ns - now_ns
        if self._rate_bps != 0:
            self._free_ns = now_ns
        self._rest = 0


def _discipline(
    parameters: ChannelParameters, counters: ChannelCounters, random: Random, now_ns: int
) -> Discipline:
    """Return the discipline that the parameters ask for, empty."""
    ecn, frame_bytes = parameters.ecn, parameters.frame_bytes
    target_ns = parameters.target_ns
    interval_ns = parameters.interval_ns or INTERVAL_NS
    queue: Discipline
    if parameters.discipline == "red":
        queue = Red(counters, random, parameters.red, now_ns, ecn=ecn)
    elif parameters.discipline == "codel":
        queue = Codel(counters, frame_bytes, target_ns or TARGET_NS, interval_ns, ecn=ecn)
    elif parameters.discipline == "fq_codel":
        queue = FqCodel(
            counters,
            frame_bytes,
            target_ns or TARGET_NS,
            interval_ns,
            parameters.quantum_bytes or frame_bytes,
            ecn=ecn,
        )
    elif parameters.discipline == "pie":
        queue = Pie(counters, frame_bytes, random, now_ns, target_ns or PIE_TARGET_NS, ecn=ecn)
    else:
        raise ValueError(f"discipline: {parameters.discipline} is not a managed one")
    _limit(queue, parameters)
    return queue


def _limit(queue: Discipline, parameters: ChannelParameters) -> None:
    packets, frame_bytes = parameters.queue_packets, parameters.queue_bytes
    queue.limit_packets = NO_LIMIT if packets is None else packets
    queue.limit_bytes = NO_LIMIT if frame_bytes is None else frame_bytes
