"""Every half over time in short slots, from which figures and causes are made.

A slot is a millisecond; when a capture would need too many rows, slots are merged and become
longer, so that memory is bounded.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.decode.segments import Segments
from mptcplab.trace.follow.by_direction import last_within
from mptcplab.trace.follow.tcp import Followed
from mptcplab.wire.mptcp import DSS_ACK_8

FIRST_RESOLUTION_NS: Final = 1_000_000
_LAST_RESOLUTION_NS: Final = 1 << 52
"""52 days."""
MAX_ROWS: Final = 1 << 20
_NEVER: Final = np.iinfo(np.int64).max

SAMPLE: Final = np.dtype(
    [
        ("half", "i4"),
        ("packets", "i4"),
        ("time_ns", "i8"),  # of the last packet in the slot
        ("payload_bytes", "i8"),
        ("new_bytes", "i8"),
        ("retransmitted_bytes", "i8"),
        ("retransmissions", "i4"),
        ("out_of_order", "i4"),
        ("next", "i8"),  # highest relative sequence number sent, plus one; 0: no data
        ("ack", "i8"),  # highest acknowledgement this half sent of the other's data, -1: none
        ("window_bytes", "i8"),  # last one this half offered
        ("least_window_bytes", "i8"),
        ("in_flight_bytes", "i8"),  # most in the slot
        ("headroom_bytes", "i8"),  # least in the slot
        ("rtt_ns", "i8"),  # sum, least and number of the samples this half's ACKs gave
        ("least_rtt_ns", "i8"),
        ("rtts", "i4"),
        ("duplicate_acks", "i4"),
        ("data_ack", "u8"),  # the last one
        ("data_ack_bits", "i1"),  # 32 or 64, 0: none in the slot
        ("data_ack_window_bytes", "i8"),  # the window that came with it
        ("prompt_bytes", "i8"),  # new bytes sent right after a packet of the other half
        ("timestamp", "i8"),  # TSval and TSecr of the last packet in the slot, -1: it has none
        ("echo", "i8"),
        ("first_ns", "i8"),  # time and TSval of the first one
        ("first_timestamp", "i8"),
    ],
    align=True,
)

_SUMS: Final = (
    "packets", "payload_bytes", "new_bytes", "retransmitted_bytes", "retransmissions",
    "out_of_order", "rtt_ns", "rtts", "duplicate_acks", "prompt_bytes",
)  # fmt: skip
_MAXIMA: Final = ("next", "ack", "in_flight_bytes")
_MINIMA: Final = ("least_window_bytes", "headroom_bytes", "least_rtt_ns")


class Samples:
    """Rows of all halves, growing while the capture is read."""

    def __init__(self) -> None:
        self.resolution_ns = FIRST_RESOLUTION_NS
        self._pieces: list[NDArray[Any]] = []
        self._rows = 0
        self._most_rows = MAX_ROWS

    def add(self, segments: Segments, followed: Followed) -> None:
        """Take a batch."""
        order = followed.order
        slot = followed.time_ns // self.resolution_ns
        change = slot[1:] != slot[:-1]
        change[order.starts[1:] - 1] = True
        edges = np.flatnonzero(change) + 1
        starts, ends = np.append(0, edges), np.append(edges, slot.size) - 1
        out = np.zeros(starts.size, dtype=SAMPLE)
        out["half"] = order.half[starts]
        out["time_ns"] = followed.time_ns[ends]
        out["packets"] = ends - starts + 1
        self._bytes(out, followed, starts)
        out["window_bytes"] = followed.window_bytes[ends]
        out["least_window_bytes"] = np.minimum.reduceat(followed.window_bytes, starts)
        out["ack"] = np.maximum.reduceat(followed.ack, starts)
        self._round_trips(out, followed.rtt_ns, starts)
        self._data_acks(out, segments, followed, starts, ends)
        last = followed.element[ends]
        out["timestamp"], out["echo"] = segments.timestamp[last], segments.echo[last]
        out["first_ns"] = followed.time_ns[starts]
        out["first_timestamp"] = segments.timestamp[followed.element[starts]]
        self._pieces.append(out)
        self._rows += out.size
        if self._rows > self._most_rows:
            self._coarsen()

    @staticmethod
    def _bytes(out: NDArray[Any], followed: Followed, starts: Ints) -> None:
        payload, new = followed.payload_bytes, followed.new_bytes
        out["payload_bytes"] = np.add.reduceat(payload, starts)
        out["new_bytes"] = np.add.reduceat(new, starts)
        out["prompt_bytes"] = np.add.reduceat(new * followed.prompt, starts)
        again = followed.retransmitted_bytes
        if again.any():
            out["retransmitted_bytes"] = np.add.reduceat(again, starts)
            out["retransmissions"] = np.add.reduceat((again > 0).astype(np.int32), starts)
        for name, mask in (
            ("out_of_order", followed.out_of_order),
            ("duplicate_acks", followed.duplicate_ack),
        ):
            if mask.any():
                out[name] = np.add.reduceat(mask.astype(np.int32), starts)
        end = (followed.new_from + new) * (new > 0)
        out["next"] = np.maximum.reduceat(end, starts)
        has_data = payload > 0
        flight = followed.in_flight_bytes * has_data
        out["in_flight_bytes"] = np.maximum.reduceat(flight, starts)
        headroom = np.where(has_data, followed.headroom_bytes, _NEVER)
        out["headroom_bytes"] = np.minimum.reduceat(headroom, starts)

    @staticmethod
    def _round_trips(out: NDArray[Any], rtt: Ints, starts: Ints) -> None:
        out["rtt_ns"] = np.add.reduceat(rtt, starts)
        out["rtts"] = np.add.reduceat((rtt > 0).astype(np.int32), starts)
        out["least_rtt_ns"] = np.minimum.reduceat(np.where(rtt > 0, rtt, _NEVER), starts)

    @staticmethod
    def _data_acks(
        out: NDArray[Any], segments: Segments, followed: Followed, starts: Ints, ends: Ints
    ) -> None:
        dss = segments.dss
        place = last_within(np.flatnonzero(dss.has_ack[followed.element]), starts, ends)
        inside = place >= 0
        place = place[inside]
        chosen = followed.element[place]
        out["data_ack"][inside] = dss.data_ack[chosen]
        out["data_ack_bits"][inside] = np.where(dss.flags[chosen] & DSS_ACK_8, 64, 32)
        out["data_ack_window_bytes"][inside] = followed.window_bytes[place]

    def _coarsen(self) -> None:
        """Make slots four times as long, until longer ones would join no more rows.

        Of many halves there are more rows than that anyway: at least one of each.
        """
        self.resolution_ns = min(4 * self.resolution_ns, _LAST_RESOLUTION_NS)
        self._pieces = [self._merged()]
        self._rows = self._pieces[0].size
        self._most_rows = max(MAX_ROWS, 2 * self._rows)

    def table(self) -> NDArray[Any]:
        """Return all rows by half and time, one per slot."""
        if not self._pieces:
            return np.zeros(0, dtype=SAMPLE)
        if len(self._pieces) > 1:
            self._pieces = [self._merged()]
        return self._pieces[0]

    def _merged(self) -> NDArray[Any]:
        rows = np.concatenate(self._pieces)
        order = np.argsort(rows["half"], kind="stable")
        half, time = rows["half"][order], rows["time_ns"][order]
        if bool(((time[1:] < time[:-1]) & (half[1:] == half[:-1])).any()):
            order = np.lexsort((rows["time_ns"], rows["half"]))
            half, time = rows["half"][order], rows["time_ns"][order]
        slot = time // self.resolution_ns
        change = (half[1:] != half[:-1]) | (slot[1:] != slot[:-1])
        edges = np.flatnonzero(change) + 1
        starts, ends = np.append(0, edges), np.append(edges, rows.size) - 1
        out: NDArray[Any] = rows[order[ends]]
        several = np.flatnonzero(ends > starts)
        if several.size:
            starts, sizes = starts[several], (ends - starts)[several] + 1
            firsts = np.cumsum(sizes) - sizes
            places = np.repeat(starts - firsts, sizes) + np.arange(int(sizes.sum()))
            out[several] = self._joined(rows[order[places]], firsts, sizes)
        return out

    @staticmethod
    def _joined(rows: NDArray[Any], firsts: Ints, sizes: Ints) -> NDArray[Any]:
        """Join so many rows from each place on."""
        lasts = firsts + sizes - 1
        out: NDArray[Any] = rows[lasts]
        for name in ("first_ns", "first_timestamp"):
            out[name] = rows[name][firsts]
        for names, merge in ((_SUMS, np.add), (_MAXIMA, np.maximum), (_MINIMA, np.minimum)):
            for name in names:
                out[name] = merge.reduceat(rows[name], firsts)
        place = last_within(np.flatnonzero(rows["data_ack_bits"] > 0), firsts, lasts)
        inside = place >= 0
        for name in ("data_ack", "data_ack_bits", "data_ack_window_bytes"):
            out[name][inside] = rows[name][place[inside]]
        return out
