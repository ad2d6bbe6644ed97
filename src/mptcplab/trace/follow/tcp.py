"""TCP flows followed batch by batch: what is new, retransmitted, acknowledged and in flight.

What must be remembered from batch to batch is one row per *half* of a flow, its direction: half 2n
is what the initiator of flow n sends, half 2n + 1 what the other side sends.  All columns of
``Followed`` are sorted by half, then by time.  Sequence numbers are relative as
in Wireshark: the SYN is 0, the first byte of data 1 (where the SYN was not seen, the first byte
seen is 1), and do not wrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.columns.growing import grown
from mptcplab.trace.columns.sorting import distinct
from mptcplab.trace.decode.segments import ACK, FIN, RST, SYN, Segments
from mptcplab.trace.follow.by_direction import LOWEST, HalfOrder
from mptcplab.trace.follow.holes import REORDERED_NS, Holes
from mptcplab.trace.follow.placing import Placed
from mptcplab.trace.follow.rtt import RoundTrips

UNKNOWN_SCALE: Final = 0
NO_SCALE: Final = 1  # the SYN was seen and had no window scale option; above: 2 + shift

HALF: Final = np.dtype(
    [
        ("based", "?"),
        ("isn_known", "?"),
        ("base", "i8"),  # the sequence number that is 0
        ("next", "i8"),  # the highest sequence number sent, plus one
        ("acked", "i8"),  # the highest acknowledged by the other side
        ("window", "i8"),  # the last one this side offered, scaled
        ("scale", "i1"),
        ("mss", "i4"),
        ("dup_acks", "i8"),
        ("missing_bytes", "i8"),  # acknowledged, but never seen in the capture
        ("retransmitted_ns", "i8"),  # when this side last sent something again
        ("pure_ack", "i8"),  # acknowledgement and window of the last pure ACK, for duplicates
        ("pure_ack_window", "i8"),
        ("syn_ns", "i8"),
        ("syn_ack_ns", "i8"),
        ("last_syn_ns", "i8"),  # of the last SYN or SYN/ACK
        ("established_ns", "i8"),
        ("fin_ns", "i8"),
        ("fin_number", "i8"),  # packets
        ("fin_seq", "i8"),
        ("rst_ns", "i8"),
        ("rst_number", "i8"),
        ("last_ns", "i8"),
        ("last_number", "i8"),
        ("last_flags", "u1"),
        ("last_seq", "i8"),
        ("last_ack", "i8"),
        ("last_payload_bytes", "i8"),
        ("last_data_ns", "i8"),
        ("last_data_number", "i8"),
    ],
    align=True,
)
_HALF_SPACE: Final = 1 << 31
PROMPT_NS: Final = 400_000
"""Within which a host answers a packet with data that it has ready."""


@dataclass(slots=True, eq=False, repr=False)
class Followed:
    """The followed segments of a batch, by half."""

    element: Ints
    """Each one's element in ``Segments``."""
    order: HalfOrder
    """Each one's half, and the places of every half's."""
    time_ns: Ints
    seq: Ints
    """Relative."""
    ack: Ints
    """Relative to the other half, -1 without an acknowledgement."""
    payload_bytes: Ints
    new_bytes: Ints
    """Payload not seen before, gaps filled late included."""
    new_from: Ints
    """Where the new payload starts."""
    retransmitted_bytes: Ints
    """Payload that was seen before, or that fills a gap too late to be reordering."""
    out_of_order: Mask
    """Fills a gap soon after it opened."""
    window_bytes: Ints
    """The window this segment offers, scaled."""
    in_flight_bytes: Ints
    """Of this half, after this segment."""
    headroom_bytes: Ints
    """What the window last offered by the other side leaves, after this segment."""
    rtt_ns: Ints
    """From data of the other half to this acknowledgement of it, 0 where there is no sample."""
    advances: Mask
    """Whether the acknowledgement is of something new."""
    duplicate_ack: Mask
    prompt: Mask
    """Whether the other half's latest packet came just before, and had no data."""


class Follower:
    """The flows of a capture while it is read."""

    def __init__(self) -> None:
        self.halves: NDArray[Any] = np.zeros(128, dtype=HALF)
        self.holes: dict[int, Holes] = {}
        self.round_trips = RoundTrips()

    def follow(self, segments: Segments, placed: Placed) -> Followed:
        """Take a batch; returns its followed segments."""
        self.halves = grown(self.halves, 2 * placed.flows)
        return _Batch(self, segments, placed).run()


class _Batch:
    """The computation of one batch, in the order of its halves."""

    def __init__(self, owner: Follower, segments: Segments, placed: Placed) -> None:
        self.owner = owner
        self.halves = owner.halves
        self.order = placed.order
        self.segments = segments
        self.element = element = placed.element
        self.time = segments.time_ns[element]
        self.flags = segments.flags[element]
        self.payload = segments.payload_bytes[element]
        self.syn = self.flags & SYN != 0
        self.fin = self.flags & FIN != 0
        self.valid = self.flags & RST == 0
        """The numbers of a reset say nothing about the stream."""
        self.has_ack = self.flags & ACK != 0
        self.acks = self.valid & self.has_ack
        self.rare = np.flatnonzero(self.flags & (SYN | FIN | RST))

    def run(self) -> Followed:
        raw_seq = self.segments.seq[self.element]
        raw_ack = self.segments.ack[self.element]
        self._handshakes(raw_seq)
        self._bases(raw_seq, raw_ack)
        halves, order = self.halves, self.order
        ids = order.ids
        seq = self._unwrapped(raw_seq, halves["base"][ids], halves["next"][ids])
        ack = self._unwrapped(raw_ack, halves["base"][ids ^ 1], halves["acked"][ids ^ 1])
        start = seq + self.syn
        stop = start + self.payload
        end = stop + self.fin
        if not self.valid.all():
            end[~self.valid] = LOWEST
        told = ack if self.acks.all() else np.where(self.acks, ack, LOWEST)
        sent, sent_before = order.running_max(end, halves["next"][ids])
        acked, acked_before = order.running_max(told, halves["acked"][ids ^ 1])
        new_bytes, new_from, again, out_of_order = self._novelty(seq, start, stop, sent_before)
        window = self._scaled()
        in_flight = sent - self._of_peer(acked, halves["acked"][ids])
        offered = self._offered(window)
        advances = told > acked_before
        duplicate = self._duplicates(sent, ack, advances, window)
        self._remember(sent, acked, window, seq, ack)
        rtt = self.owner.round_trips.match(
            order, self.time, new_from, new_bytes, again > 0, ack, advances, acked_before, halves
        )
        return Followed(
            element=self.element,
            order=order,
            time_ns=self.time,
            seq=seq,
            ack=ack if self.has_ack.all() else np.where(self.has_ack, ack, -1),
            payload_bytes=self.payload,
            new_bytes=new_bytes,
            new_from=new_from,
            retransmitted_bytes=again,
            out_of_order=out_of_order,
            window_bytes=window,
            in_flight_bytes=in_flight,
            headroom_bytes=offered - in_flight,
            rtt_ns=rtt,
            advances=advances,
            duplicate_ack=duplicate,
            prompt=self._prompt(),
        )

    def _unwrapped(self, number: Ints, base: Ints, reference: Ints) -> Ints:
        """``unwrapped`` with a base and reference of every half."""
        low = np.clip(reference, LOWEST + _HALF_SPACE, -LOWEST - _HALF_SPACE) - _HALF_SPACE
        out: Ints = number - self.order.each(base + low)
        out &= 2 * _HALF_SPACE - 1
        out += self.order.each(low)
        return out

    def _of_peer(self, values: Ints, initial: Ints) -> Ints:
        """Return the latest value of the other half, ``initial`` (of every half) before any."""
        peer = self.order.peer
        out = values[peer]
        none = np.flatnonzero(peer < 0)
        if none.size:
            out[none] = self.order.each(initial)[none]
        return out

    def _handshakes(self, raw_seq: Ints) -> None:
        """Take the SYNs, FINs and RSTs of the batch one at a time: they are few."""
        halves = self.halves
        for k in self.rare.tolist():
            half, element = int(self.order.half[k]), int(self.element[k])
            row = halves[half : half + 1]
            now = max(
                int(self.time[k]), 1
            )  # 0 stands for never, and is where simulated time starts
            flags = int(self.flags[k])
            if flags & SYN:
                name = "syn_ack_ns" if flags & ACK else "syn_ns"
                row[name] = row[name][0] or now
                row["last_syn_ns"] = now
                row["mss"] = self.segments.mss[element]
                shift = int(self.segments.window_scale[element])
                row["scale"] = NO_SCALE if shift < 0 else 2 + shift
                if not row["isn_known"][0]:
                    row["based"], row["isn_known"] = True, True
                    row["base"], row["next"] = raw_seq[k], 0
            for bit, name in ((FIN, "fin"), (RST, "rst")):
                if flags & bit and not row[name + "_ns"][0]:
                    row[name + "_ns"], row[name + "_number"] = now, self.segments.number[element]

    def _bases(self, raw_seq: Ints, raw_ack: Ints) -> None:
        """Choose where sequence numbers of halves without a SYN start."""
        halves, order = self.halves, self.order
        for ids, usable, number in (
            (order.ids, self.valid, raw_seq),
            (order.ids ^ 1, self.acks, raw_ack),
        ):
            baseless = ~halves["based"][ids]
            if baseless.any():
                rows = np.flatnonzero(usable & order.each(baseless))
                half = order.each(ids)[rows]
                unique, first = np.unique(half, return_index=True)
                halves["base"][unique] = number[rows[first]] - 1
                halves["next"][unique] = 1
                halves["based"][unique] = True

    def _scaled(self) -> Ints:
        """Windows as they count: scaled, except on a SYN (RFC 7323 section 2.2)."""
        raw = self.segments.window[self.element]
        mine = self.halves["scale"][self.order.ids]
        theirs = self.halves["scale"][self.order.ids ^ 1]
        shift = np.where((mine >= 2) & (theirs != NO_SCALE), mine - 2, 0).astype(np.int64)
        window: Ints = raw << self.order.each(shift)
        rows = self.rare[self.syn[self.rare]]
        window[rows] = raw[rows]
        return window

    def _offered(self, window: Ints) -> Ints:
        """The window that the other side of each segment has last offered."""
        ids = self.order.ids
        if self.acks.all():
            return self._of_peer(window, self.halves["window"][ids ^ 1])
        place = self.order.latest(self.acks)
        initial = self.order.each(self.halves["window"][ids])
        offer = np.where(place >= 0, window[place], initial)
        return self._of_peer(offer, self.halves["window"][ids ^ 1])

    def _novelty(
        self, seq: Ints, start: Ints, stop: Ints, before: Ints
    ) -> tuple[Ints, Ints, Ints, Mask]:
        """Tell new payload from old: (new bytes, where they start, old bytes, out of order)."""
        new_from = np.maximum(start, before)
        new_bytes = np.maximum(stop - new_from, 0)
        new_bytes *= (self.payload > 0) & self.valid
        again = (self.payload - new_bytes) * self.valid
        out_of_order = np.zeros(self.payload.size, dtype=bool)
        gaps = self.valid & (seq > before)
        interesting = gaps.copy()
        old = again > 0
        if old.any():
            half = self.order.half
            halves_with_holes = np.fromiter(self.owner.holes, dtype=np.int64)
            halves_with_holes = distinct(np.append(halves_with_holes, half[gaps]))
            interesting |= old & np.isin(half, halves_with_holes)
        for k in np.flatnonzero(interesting).tolist():
            holes = self.owner.holes.setdefault(int(self.order.half[k]), Holes())
            if gaps[k]:
                holes.open(int(before[k]), int(seq[k]), int(self.time[k]))
                continue
            filled, since = holes.fill(int(start[k]), int(stop[k]))
            if filled:
                new_bytes[k] += filled
                new_from[k] = start[k]
                soon = int(self.time[k]) - since <= REORDERED_NS
                out_of_order[k] = soon
                if soon:
                    again[k] -= min(filled, int(again[k]))
        return new_bytes, new_from, again, out_of_order

    def _duplicates(self, sent: Ints, ack: Ints, advances: Mask, window: Ints) -> Mask:
        """Duplicate acknowledgements (RFC 5681 section 2): no data, same number and window."""
        halves, order = self.halves, self.order
        pure = self.acks & (self.payload == 0) & ~(self.syn | self.fin)
        duplicate = np.zeros(ack.size, dtype=bool)
        places = np.flatnonzero(pure)
        if places.size == 0:
            return duplicate
        asked = np.flatnonzero(pure & ~advances)
        if asked.size:
            earlier = places[np.searchsorted(places, asked) - 1]
            half = order.half[asked]
            known = (earlier < asked) & (earlier >= order.start[asked])
            number = np.where(known, ack[earlier], halves["pure_ack"][half])
            offered = np.where(known, window[earlier], halves["pure_ack_window"][half])
            same = (number == ack[asked]) & (offered == window[asked])
            # Without data in flight the same acknowledgement again is a window probe's or
            # keep-alive's.
            peer = order.peer[asked]
            same &= np.where(peer >= 0, sent[peer], halves["next"][half ^ 1]) > ack[asked]
            duplicate[asked] = same
            np.add.at(halves["dup_acks"], half[same], 1)
        last = order.last_of(places)
        seen = last >= 0
        last, half = last[seen], order.ids[seen]
        halves["pure_ack"][half] = ack[last]
        halves["pure_ack_window"][half] = window[last]
        return duplicate

    def _prompt(self) -> Mask:
        """Segments that answer an acknowledgement without data: they follow it at once."""
        peer = self.order.peer
        bare = self.payload[peer] == 0
        return np.asarray((self.time - self.time[peer] <= PROMPT_NS) & bare & (peer >= 0))

    def _remember(self, sent: Ints, acked: Ints, window: Ints, seq: Ints, ack: Ints) -> None:
        """Carry the state at the batch's end over to the next."""
        halves, order = self.halves, self.order
        ids, ends = order.ids, order.ends
        elements = self.segments.number[self.element[ends]]
        halves["next"][ids] = sent[ends]
        halves["acked"][ids ^ 1] = acked[ends]
        for name, values in (
            ("last_ns", self.time[ends]),
            ("last_number", elements),
            ("last_flags", self.flags[ends]),
            ("last_seq", seq[ends]),
            ("last_ack", ack[ends]),
            ("last_payload_bytes", self.payload[ends]),
        ):
            halves[name][ids] = values
        place = ends if self.acks.all() else order.last_of(np.flatnonzero(self.acks))
        known = place >= 0
        halves["window"][ids[known]] = window[place[known]]
        place = order.last_of(np.flatnonzero(self.payload > 0))
        known = place >= 0
        place = place[known]
        halves["last_data_ns"][ids[known]] = self.time[place]
        halves["last_data_number"][ids[known]] = self.segments.number[self.element[place]]
        for k in self.rare[self.fin[self.rare]].tolist():
            halves["fin_seq"][order.half[k]] = seq[k] + self.payload[k]
        self._established(sent, ack)
        for number in [key for key, holes in self.owner.holes.items() if len(holes)]:
            gone = self.owner.holes[number].forget_below(int(halves["acked"][number]))
            halves["missing_bytes"][number] += gone

    def _established(self, sent: Ints, ack: Ints) -> None:
        """When the initiator first acknowledged the other side's SYN, which must have come."""
        halves, order = self.halves, self.order
        asked = halves["syn_ns"][order.ids]
        waiting = (halves["established_ns"][order.ids] == 0) & (asked > 0) & (order.ids & 1 == 0)
        if not waiting.any():
            return
        rows = self.acks & ~self.syn & order.each(waiting) & (self.time > order.each(asked))
        places = np.flatnonzero(rows)
        half, peer = order.half[places], order.peer[places]
        answered = halves["syn_ack_ns"][half ^ 1]
        said = np.where(peer >= 0, sent[peer], halves["next"][half ^ 1])
        right = (answered > 0) & (answered <= self.time[places])
        places = places[right & (ack[places] >= 1) & (ack[places] <= said)]
        unique, first = np.unique(order.half[places], return_index=True)
        halves["established_ns"][unique] = self.time[places[first]]
