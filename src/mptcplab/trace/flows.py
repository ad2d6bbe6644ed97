"""Which TCP flow a segment belongs to, and in which direction it goes.

Only flows that have shown an MPTCP option are followed.  A flow is an address pair with ports, from
one SYN to the next SYN with another sequence number; its *initiator* is who sent that SYN, or, when
the capture starts later, who uses the higher port number.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.gather import Ints, Mask
from mptcplab.trace.interning import Interner
from mptcplab.trace.segments import ACK, SYN, Segments

MAX_FLOWS: Final = 1 << 18
"""Flows followed; a flood opens more, which are counted but not looked at."""

FLOW: Final = np.dtype(
    [
        ("source", "i8"),  # address codes and ports of the initiator and of the other side
        ("destination", "i8"),
        ("source_port", "i4"),
        ("destination_port", "i4"),
        ("initiator_is_high", "?"),  # of the two ends in the order of the flow's key
        ("syn_seq", "i8"),  # of the initiator's SYN, -1 where it was not seen
        ("first_seq", "i8"),
        ("first_number", "i8"),
        ("first_ns", "i8"),
    ]
)


def grown(table: NDArray[Any], count: int) -> NDArray[Any]:
    """Return the table with room for ``count`` rows, new ones zero."""
    if count <= table.size:
        return table
    bigger = np.zeros(max(count, table.size * 2), dtype=table.dtype)
    bigger[: table.size] = table
    return bigger


class FlowTable:
    """The flows of a capture, numbered as they appear."""

    def __init__(self) -> None:
        self.count = 0
        self.flows: NDArray[Any] = np.zeros(64, dtype=FLOW)
        self.ignored_segments = 0
        """Segments with MPTCP options of flows beyond ``MAX_FLOWS``."""
        self._tuples = Interner(3)
        self._current: Ints = np.full(64, -1, dtype=np.int64)

    def assign(self, segments: Segments) -> tuple[Ints, Ints]:
        """Return each segment's flow (-1: not followed) and direction (0: from the initiator)."""
        source_port, destination_port = segments.source_port, segments.destination_port
        from_high = segments.source > segments.destination
        same = segments.source == segments.destination
        if same.any():
            from_high |= same & (source_port > destination_port)
        words = [
            np.where(from_high, segments.destination, segments.source).astype(np.uint64),
            np.where(from_high, segments.source, segments.destination).astype(np.uint64),
            np.where(from_high, destination_port << 16 | source_port, segments.ports).astype(
                np.uint64
            ),
        ]
        insert = segments.is_mptcp
        if self.count >= MAX_FLOWS:
            insert = np.zeros(insert.size, dtype=bool)
        known = self._tuples.count
        pair = self._tuples.find(words, insert)
        if self._tuples.count > self._current.size:
            bigger = np.full(max(self._tuples.count, self._current.size * 2), -1, dtype=np.int64)
            bigger[: self._current.size] = self._current
            self._current = bigger
        fresh = np.flatnonzero(pair >= known)
        if fresh.size:
            _, first = np.unique(pair[fresh], return_index=True)
            self._open(segments, np.sort(fresh[first]), pair, from_high)
        flow: Ints = np.where(pair >= 0, self._current[pair], -1)
        self._reopen(segments, pair, flow, from_high)
        if self.count >= MAX_FLOWS:
            self.ignored_segments += int((segments.is_mptcp & (flow < 0)).sum())
        direction = (from_high != self.flows["initiator_is_high"][flow]).astype(np.int64)
        return flow, direction

    def _open(self, segments: Segments, rows: Ints, pair: Ints, from_high: Mask) -> None:
        """Start one flow at each of the rows, in order."""
        number = self.count + np.arange(rows.size, dtype=np.int64)
        self.count += rows.size
        self.flows = grown(self.flows, self.count)
        flags = segments.flags[rows]
        source_port = segments.source_port[rows]
        destination_port = segments.destination_port[rows]
        is_syn = flags & SYN != 0
        by_sender = np.where(is_syn, flags & ACK == 0, source_port >= destination_port)
        high = np.where(by_sender, from_high[rows], ~from_high[rows])
        source, destination = segments.source[rows], segments.destination[rows]
        table = self.flows
        table["source"][number] = np.where(by_sender, source, destination)
        table["destination"][number] = np.where(by_sender, destination, source)
        table["source_port"][number] = np.where(by_sender, source_port, destination_port)
        table["destination_port"][number] = np.where(by_sender, destination_port, source_port)
        table["initiator_is_high"][number] = high
        acked = (segments.ack[rows] - 1) & 0xFFFF_FFFF
        table["syn_seq"][number] = np.where(
            is_syn, np.where(by_sender, segments.seq[rows], acked), -1
        )
        table["first_seq"][number] = segments.seq[rows]
        table["first_number"][number] = segments.number[rows]
        table["first_ns"][number] = segments.time_ns[rows]
        self._current[pair[rows]] = number

    def _reopen(self, segments: Segments, pair: Ints, flow: Ints, from_high: Mask) -> None:
        """Start a new flow where an address pair is used again, with another SYN."""
        syn = (segments.flags & (SYN | ACK) == SYN) & (flow >= 0)
        rows = np.flatnonzero(syn)
        rows = rows[self.flows["first_number"][flow[rows]] != segments.number[rows]]
        for row in rows.tolist():
            current = int(self._current[pair[row]])
            old = self.flows[current]
            seq = int(segments.seq[row])
            if int(old["syn_seq"]) == seq or self.count >= MAX_FLOWS:
                continue
            if int(old["syn_seq"]) < 0 and int(old["first_seq"]) - seq in (0, 1):
                old["syn_seq"] = seq  # strays of this very flow came before its SYN
                continue
            self._open(segments, np.array([row]), pair, from_high)
            later = np.flatnonzero(pair[row:] == pair[row]) + row
            flow[later] = self.count - 1
