"""Following TCP flows batch by batch: what is new, sent again, acknowledged, in flight.

All columns of ``Followed`` are in *flow order*: by flow, time order within each.  What must be
remembered from batch to batch is one row per *half* of a flow, its direction: half 2n is what the
initiator of flow n sends, half 2n + 1 what the other side sends.  Sequence numbers are relative as
in Wireshark: the SYN is 0, the first byte of data 1 (where the SYN was not seen, the first byte
seen is 1), and do not wrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.flows import FlowTable, grown
from mptcplab.trace.gather import Ints, Mask
from mptcplab.trace.holes import REORDERED_NS, Holes
from mptcplab.trace.rtt import RoundTrips
from mptcplab.trace.running import LOWEST, Groups, near
from mptcplab.trace.segments import ACK, FIN, RST, SYN, Segments

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
    ]
)


@dataclass(slots=True)
class Followed:
    """The followed segments of a batch, in flow order."""

    element: Ints
    """Each one's element in ``Segments``."""
    flow: Ints
    direction: Ints
    half: Ints
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


class Follower:
    """The flows of a capture while it is read."""

    def __init__(self) -> None:
        self.table = FlowTable()
        self.halves: NDArray[Any] = np.zeros(128, dtype=HALF)
        self.holes: dict[int, Holes] = {}
        self._round_trips = RoundTrips()

    def follow(self, segments: Segments) -> Followed | None:
        """Take a batch; returns its followed segments, None where there are none."""
        flow, direction = self.table.assign(segments)
        element = np.flatnonzero(flow >= 0)
        if element.size == 0:
            return None
        self.halves = grown(self.halves, 2 * self.table.count)
        groups = Groups(flow[element], self.table.count)
        element = element[groups.order]
        return _Batch(self, segments, element, direction[element], groups).run()

    def round_trips(self) -> RoundTrips:
        """Return the matcher of data and acknowledgements."""
        return self._round_trips


class _Batch:
    """The computation of one batch, in flow order."""

    def __init__(
        self, owner: Follower, segments: Segments, element: Ints, direction: Ints, groups: Groups
    ) -> None:
        self.owner = owner
        self.halves = owner.halves
        self.groups = groups
        self.element = element
        self.direction = direction
        self.flow = groups.ids[groups.group]
        self.half = 2 * self.flow + direction
        self.time = segments.time_ns[element]
        self.number = segments.number[element]
        self.flags = segments.flags[element]
        self.raw_seq = segments.seq[element]
        self.raw_ack = segments.ack[element]
        self.raw_window = segments.window[element]
        self.payload = segments.payload_bytes[element]
        self.scale = segments.window_scale[element]
        self.mss = segments.mss[element]
        self.syn = self.flags & SYN != 0
        self.valid = self.flags & RST == 0
        """A reset's numbers say nothing about the stream."""
        self.acks = self.valid & (self.flags & ACK != 0)
        self.forward = direction == 0

    def run(self) -> Followed:
        self._handshakes()
        self._bases()
        halves, half, groups = self.halves, self.half, self.groups
        syn = self.syn.astype(np.int64)
        fin = (self.flags & FIN != 0).astype(np.int64)
        seq = near(self.raw_seq, halves["base"][half], halves["next"][half])
        ack = near(self.raw_ack, halves["base"][half ^ 1], halves["acked"][half ^ 1])
        seq = np.clip(seq, LOWEST, -LOWEST)
        ack = np.clip(ack, LOWEST, -LOWEST)
        start = seq + syn
        stop = start + self.payload
        sent, sent_before = self._both(groups, stop + fin, self.valid, "next")
        acked, acked_before = self._both(groups, ack, self.acks, "acked", by_peer=True)
        before = self._of(sent_before, self.direction)
        new_bytes, new_from, again, out_of_order = self._novelty(seq, start, stop, before)
        window = self._scaled()
        in_flight = self._of(sent, self.direction) - self._of(acked, self.direction)
        offered = self._offered(window)
        other = 1 - self.direction
        before_ack = np.where(self.acks, self._of(acked_before, other), -LOWEST)
        advances = ack > before_ack
        rtt = self.owner.round_trips().match(
            groups, self.half, self.time, new_from + new_bytes, new_bytes > 0, again > 0,
            ack, before_ack, halves,
        )  # fmt: skip
        self._remember(groups, sent, acked, window, fin, seq, ack)
        return Followed(
            element=self.element,
            flow=self.flow,
            direction=self.direction,
            half=half,
            time_ns=self.time,
            seq=seq,
            ack=np.where(self.flags & ACK != 0, ack, -1),
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
            duplicate_ack=self._duplicates(ack, advances, window),
        )

    @staticmethod
    def _of(pair: tuple[Ints, Ints], direction: Ints) -> Ints:
        return np.where(direction == 0, pair[0], pair[1])

    def _both(
        self, groups: Groups, values: Ints, usable: Mask, column: str, by_peer: bool = False
    ) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
        """Running maximum for each direction of the flow: ((incl. 0, incl. 1), (before ...))."""
        including, before = [], []
        for direction in (0, 1):
            speaker = 1 - direction if by_peer else direction
            mine = usable & (self.forward if speaker == 0 else ~self.forward)
            initial = self.halves[column][2 * groups.ids + direction]
            one, two = groups.running_max(np.where(mine, values, LOWEST), initial)
            including.append(one)
            before.append(two)
        return (including[0], including[1]), (before[0], before[1])

    def _handshakes(self) -> None:
        """Note what the SYNs, FINs and RSTs of the batch say, one at a time: they are few."""
        halves = self.halves
        for k in np.flatnonzero(self.flags & (SYN | FIN | RST)).tolist():
            half = self.half[k]
            row = halves[half : half + 1]
            now = max(int(self.time[k]), 1)  # 0 is never, and where simulated time starts
            flags = int(self.flags[k])
            if flags & SYN:
                name = "syn_ack_ns" if flags & ACK else "syn_ns"
                row[name] = row[name][0] or now
                row["mss"] = self.mss[k]
                shift = int(self.scale[k])
                row["scale"] = NO_SCALE if shift < 0 else 2 + shift
                if not row["isn_known"][0]:
                    row["based"], row["isn_known"] = True, True
                    row["base"], row["next"] = self.raw_seq[k], 0
            for bit, name in ((FIN, "fin"), (RST, "rst")):
                if flags & bit and not row[name + "_ns"][0]:
                    row[name + "_ns"], row[name + "_number"] = now, self.number[k]

    def _bases(self) -> None:
        """Choose where sequence numbers of halves without a SYN start."""
        halves = self.halves
        for half, usable, number in (
            (self.half, self.valid, self.raw_seq),
            (self.half ^ 1, self.acks, self.raw_ack),
        ):
            rows = np.flatnonzero(usable & ~halves["based"][half])
            if rows.size:
                unique, first = np.unique(half[rows], return_index=True)
                halves["base"][unique] = number[rows[first]] - 1
                halves["next"][unique] = 1
                halves["based"][unique] = True

    def _scaled(self) -> Ints:
        """Windows as they count: scaled, except on a SYN (RFC 7323 section 2.2)."""
        mine = self.halves["scale"][self.half]
        theirs = self.halves["scale"][self.half ^ 1]
        shift = np.where((mine >= 2) & (theirs != NO_SCALE), mine - 2, 0)
        return self.raw_window << np.where(self.syn, 0, shift)

    def _offered(self, window: Ints) -> Ints:
        """The window that the other side of each segment has last offered."""
        out = []
        for speaker in (1, 0):
            mine = self.acks & (self.forward if speaker == 0 else ~self.forward)
            place = self.groups.last_where(mine)
            initial = self.halves["window"][2 * self.flow + speaker]
            out.append(np.where(place >= 0, window[place], initial))
        return self._of((out[0], out[1]), self.direction)

    def _novelty(
        self, seq: Ints, start: Ints, stop: Ints, before: Ints
    ) -> tuple[Ints, Ints, Ints, Mask]:
        """Tell new payload from old: (new bytes, where they start, old bytes, out of order)."""
        has_data = (self.payload > 0) & self.valid
        new_from = np.maximum(start, before)
        new_bytes = np.where(has_data, np.maximum(stop - new_from, 0), 0)
        again = np.where(has_data, self.payload - new_bytes, 0)
        out_of_order = np.zeros(self.payload.size, dtype=bool)
        gaps = self.valid & (seq > before)
        interesting = gaps.copy()
        old = again > 0
        if old.any():
            halves_with_holes = np.fromiter(self.owner.holes, dtype=np.int64)
            halves_with_holes = np.union1d(halves_with_holes, self.half[gaps])
            interesting |= old & np.isin(self.half, halves_with_holes)
        for k in np.flatnonzero(interesting).tolist():
            holes = self.owner.holes.setdefault(int(self.half[k]), Holes())
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

    def _duplicates(self, ack: Ints, advances: Mask, window: Ints) -> Mask:
        """Duplicate acknowledgements (RFC 5681 section 2): no data, same number and window."""
        pure = self.acks & (self.payload == 0) & (self.flags & (SYN | FIN) == 0)
        duplicate = np.zeros(ack.size, dtype=bool)
        groups = Groups(self.half[pure], self.halves.size) if pure.any() else None
        if groups is None:
            return duplicate
        place = np.flatnonzero(pure)[groups.order]
        half, number, offered = self.half[place], ack[place], window[place]
        same = np.zeros(place.size, dtype=bool)
        same[1:] = (number[1:] == number[:-1]) & (offered[1:] == offered[:-1])
        first = groups.starts
        row = half[first]
        same[first] = (number[first] == self.halves["pure_ack"][row]) & (
            offered[first] == self.halves["pure_ack_window"][row]
        )
        last = groups.ends
        self.halves["pure_ack"][half[last]] = number[last]
        self.halves["pure_ack_window"][half[last]] = offered[last]
        same &= ~advances[place]
        # Without data in flight the same acknowledgement again is a window probe's or keep-alive's.
        peer = half ^ 1
        same &= self.halves["next"][peer] > number
        duplicate[place] = same
        np.add.at(self.halves["dup_acks"], half[same], 1)
        return duplicate

    def _remember(
        self,
        groups: Groups,
        sent: tuple[Ints, Ints],
        acked: tuple[Ints, Ints],
        window: Ints,
        fin: Ints,
        seq: Ints,
        ack: Ints,
    ) -> None:
        """Carry the state at the batch's end over to the next."""
        halves = self.halves
        latest = (
            ("last_ns", self.time),
            ("last_number", self.number),
            ("last_flags", self.flags),
            ("last_seq", seq),
            ("last_ack", ack),
            ("last_payload_bytes", self.payload),
        )
        for direction in (0, 1):
            half = 2 * groups.ids + direction
            halves["next"][half] = sent[direction][groups.ends]
            halves["acked"][half] = acked[direction][groups.ends]
            mine = self.forward if direction == 0 else ~self.forward
            for mask, pairs in (
                (self.acks & mine, (("window", window),)),
                (mine, latest),
                (
                    mine & (self.payload > 0),
                    (("last_data_ns", self.time), ("last_data_number", self.number)),
                ),
                (mine & (fin > 0), (("fin_seq", seq + self.payload),)),
            ):
                place = groups.last_where(mask)[groups.ends]
                if (place < 0).all():
                    continue
                known = place >= 0
                for column, values in pairs:
                    halves[column][half[known]] = values[place[known]]
        self._established()
        for number in [key for key, holes in self.owner.holes.items() if len(holes)]:
            gone = self.owner.holes[number].forget_below(int(halves["acked"][number]))
            halves["missing_bytes"][number] += gone

    def _established(self) -> None:
        """When the initiator first acknowledged the other side's SYN."""
        halves = self.halves
        waiting = (halves["established_ns"][self.half] == 0) & self.acks & ~self.syn
        waiting &= self.forward & (halves["syn_ns"][self.half] > 0)
        waiting &= self.time > halves["syn_ns"][self.half]
        rows = np.flatnonzero(waiting)
        if rows.size:
            unique, first = np.unique(self.half[rows], return_index=True)
            halves["established_ns"][unique] = self.time[rows[first]]
