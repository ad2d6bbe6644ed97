"""The course of every half of a flow in short slots of time: what figures and causes are made of.

A slot is a millisecond; when a long capture would need too many rows, slots are merged and become
longer, so that memory stays bounded whatever the capture.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.follow import Followed
from mptcplab.trace.gather import Ints, Mask
from mptcplab.trace.running import Groups
from mptcplab.trace.segments import Segments
from mptcplab.wire.mptcp import DSS_ACK_8

FIRST_RESOLUTION_NS: Final = 1_000_000
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
    ]
)

_SUMS: Final = (
    "packets", "payload_bytes", "new_bytes", "retransmitted_bytes", "retransmissions",
    "out_of_order", "rtt_ns", "rtts", "duplicate_acks",
)  # fmt: skip
_MAXIMA: Final = ("next", "ack", "in_flight_bytes")
_MINIMA: Final = ("least_window_bytes", "headroom_bytes", "least_rtt_ns")


class Samples:
    """Rows of all halves, growing while the capture is read."""

    def __init__(self) -> None:
        self.resolution_ns = FIRST_RESOLUTION_NS
        self._pieces: list[NDArray[Any]] = []
        self._rows = 0

    def add(self, segments: Segments, followed: Followed, by_half: Groups) -> NDArray[Any]:
        """Take a batch; ``by_half`` groups its columns by half.  Returns its rows."""
        order = by_half.order
        time = followed.time_ns[order]
        starts, ends = self._runs(by_half.group, time)
        out = np.zeros(starts.size, dtype=SAMPLE)
        out["half"] = by_half.ids[by_half.group[starts]]
        out["time_ns"] = time[ends]
        out["packets"] = ends - starts + 1
        self._bytes(out, followed, order, starts)
        window = followed.window_bytes[order]
        out["window_bytes"] = window[ends]
        out["least_window_bytes"] = np.minimum.reduceat(window, starts)
        out["ack"] = np.maximum.reduceat(followed.ack[order], starts)
        self._round_trips(out, followed, order, starts)
        self._data_acks(out, segments, followed, order, starts, ends)
        self._pieces.append(out)
        self._rows += out.size
        if self._rows > MAX_ROWS:
            self._coarsen()
        return out

    def _runs(self, group: Ints, time: Ints) -> tuple[Ints, Ints]:
        slot = time // self.resolution_ns
        change = (group[1:] != group[:-1]) | (slot[1:] != slot[:-1])
        edges = np.flatnonzero(change) + 1
        return np.append(0, edges), np.append(edges, group.size) - 1

    @staticmethod
    def _bytes(out: NDArray[Any], followed: Followed, order: Ints, starts: Ints) -> None:
        payload = followed.payload_bytes[order]
        new = followed.new_bytes[order]
        out["payload_bytes"] = np.add.reduceat(payload, starts)
        out["new_bytes"] = np.add.reduceat(new, starts)
        if followed.retransmitted_bytes.any():
            again = followed.retransmitted_bytes[order]
            out["retransmitted_bytes"] = np.add.reduceat(again, starts)
            out["retransmissions"] = np.add.reduceat((again > 0).astype(np.int32), starts)
        if followed.out_of_order.any():
            late = followed.out_of_order[order].astype(np.int32)
            out["out_of_order"] = np.add.reduceat(late, starts)
        if followed.duplicate_ack.any():
            same = followed.duplicate_ack[order].astype(np.int32)
            out["duplicate_acks"] = np.add.reduceat(same, starts)
        has_data = payload > 0
        end = np.where(new > 0, followed.new_from[order] + new, 0)
        out["next"] = np.maximum.reduceat(end, starts)
        flight = np.where(has_data, followed.in_flight_bytes[order], 0)
        out["in_flight_bytes"] = np.maximum.reduceat(flight, starts)
        headroom = np.where(has_data, followed.headroom_bytes[order], _NEVER)
        out["headroom_bytes"] = np.minimum.reduceat(headroom, starts)

    @staticmethod
    def _round_trips(out: NDArray[Any], followed: Followed, order: Ints, starts: Ints) -> None:
        rtt = followed.rtt_ns[order]
        out["rtt_ns"] = np.add.reduceat(rtt, starts)
        out["rtts"] = np.add.reduceat((rtt > 0).astype(np.int32), starts)
        out["least_rtt_ns"] = np.minimum.reduceat(np.where(rtt > 0, rtt, _NEVER), starts)

    @staticmethod
    def _data_acks(
        out: NDArray[Any],
        segments: Segments,
        followed: Followed,
        order: Ints,
        starts: Ints,
        ends: Ints,
    ) -> None:
        dss = segments.dss
        element = followed.element[order]
        has_ack = dss.has_ack[element]
        place = np.maximum.accumulate(np.where(has_ack, np.arange(has_ack.size), -1))[ends]
        inside = place >= starts
        place = place[inside]
        chosen = element[place]
        out["data_ack"][inside] = dss.data_ack[chosen]
        out["data_ack_bits"][inside] = np.where(dss.flags[chosen] & DSS_ACK_8, 64, 32)
        out["data_ack_window_bytes"][inside] = followed.window_bytes[order][place]

    def _coarsen(self) -> None:
        """Make slots four times as long."""
        self.resolution_ns *= 4
        self._pieces = [self._merged()]
        self._rows = self._pieces[0].size

    def table(self) -> NDArray[Any]:
        """Return all rows by half and time, one per slot."""
        if not self._pieces:
            return np.zeros(0, dtype=SAMPLE)
        if len(self._pieces) > 1:
            self._pieces = [self._merged()]
        return self._pieces[0]

    def _merged(self) -> NDArray[Any]:
        rows = np.concatenate(self._pieces)
        rows = rows[np.lexsort((rows["time_ns"], rows["half"]))]
        slot = rows["time_ns"] // self.resolution_ns
        change = (rows["half"][1:] != rows["half"][:-1]) | (slot[1:] != slot[:-1])
        edges = np.flatnonzero(change) + 1
        starts, ends = np.append(0, edges), np.append(edges, rows.size) - 1
        out: NDArray[Any] = rows[ends]
        for names, merge in ((_SUMS, np.add), (_MAXIMA, np.maximum), (_MINIMA, np.minimum)):
            for name in names:
                out[name] = merge.reduceat(rows[name], starts)
        with_ack: Mask = rows["data_ack_bits"] > 0
        place = np.maximum.accumulate(np.where(with_ack, np.arange(rows.size), -1))[ends]
        inside = place >= starts
        for name in ("data_ack", "data_ack_bits", "data_ack_window_bytes"):
            out[name][inside] = rows[name][place[inside]]
        return out
