"""Which TCP flow a segment belongs to, and in which direction it goes.

Only flows that have shown an MPTCP option are followed.  A flow is an address pair with ports, from
one SYN to the next SYN with another sequence number.  Its *initiator* is the end that sent that
SYN, or, when the capture starts later, the end with the higher port number.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.columns.growing import grown
from mptcplab.trace.columns.interning import Interner
from mptcplab.trace.decode.segments import ACK, SYN, Segments

MAX_FLOWS: Final = 1 << 17
"""Flows followed; segments of further ones, as in a flood, are only counted."""

FLOW: Final = np.dtype(
    [
        ("source", "i8"),  # address codes and ports of the initiator and of the other side
        ("destination", "i8"),
        ("source_port", "i4"),
        ("destination_port", "i4"),
        ("syn_seq", "i8"),  # of the initiator's SYN, -1 where it was not seen
        ("first_seq", "i8"),
        ("first_number", "i8"),
        ("first_ns", "i8"),
    ]
)


class FlowTable:
    """The flows of a capture, numbered as they appear."""

    def __init__(self) -> None:
        self.count = 0
        self.flows: NDArray[Any] = np.zeros(64, dtype=FLOW)
        self.ignored_segments = 0
        """Segments with MPTCP options of flows beyond ``MAX_FLOWS``."""
        # Addresses and ports as in a segment; the reverse, as in its answers, has a number too.
        self._tuples = Interner(3)
        self._answer: Ints = np.zeros(128, dtype=np.int64)
        self._half: Ints = np.full(128, -1, dtype=np.int64)
        """The current half of each tuple; -1 in the last place, for a tuple without a number."""

    def assign(self, segments: Segments) -> Ints:
        """Return each segment's half, -1 where its flow is not followed."""
        insert = segments.is_mptcp
        words = [
            column.view(np.uint64)
            for column in (segments.source, segments.destination, segments.ports)
        ]
        crowded = self.count + insert.size > MAX_FLOWS
        if crowded:
            unknown = insert & (self._tuples.find(words, np.zeros_like(insert)) < 0)
            insert = unknown & (np.cumsum(unknown) <= MAX_FLOWS - self.count)
        known = self._tuples.count
        number = self._tuples.find(words, insert)
        if self._tuples.count > known:
            self._open_new(segments, number, known)
        half: Ints = self._half[number]
        self._reopen(segments, number, half)
        if crowded:
            self.ignored_segments += int((segments.is_mptcp & (half < 0)).sum())
        return half

    def _open_new(self, segments: Segments, number: Ints, known: int) -> None:
        """Start the flows of new tuples, and complete ``number`` for segments that answer them."""
        fresh = np.flatnonzero(number >= known)
        _, first = np.unique(number[fresh], return_index=True)
        asked = fresh[first]
        ports = segments.ports
        self._number_answers(
            number[asked],
            [
                segments.destination[asked],
                segments.source[asked],
                (ports[asked] & 0xFFFF) << 16 | ports[asked] >> 16,
            ],
        )
        unknown = np.flatnonzero(number < 0)
        if unknown.size:  # answers without an MPTCP option of their own
            number[unknown] = self._tuples.find(
                [
                    column[unknown].view(np.uint64)
                    for column in (segments.source, segments.destination, ports)
                ],
                np.zeros(unknown.size, dtype=bool),
            )
            fresh = np.flatnonzero(number >= known)
        pair = np.minimum(number[fresh], self._answer[number[fresh]])
        _, first = np.unique(pair, return_index=True)
        self._open(segments, np.sort(fresh[first]), number)

    def _number_answers(self, number: Ints, words: list[Ints]) -> None:
        """Number the reverse of new tuples."""
        answer = self._tuples.find([column.view(np.uint64) for column in words])
        count = self._tuples.count
        if count >= self._half.size:
            size = max(count + 1, 2 * self._half.size)
            half = np.full(size, -1, dtype=np.int64)
            half[: self._half.size] = self._half
            self._half = half
            self._answer = np.concatenate((self._answer, np.zeros(size - self._answer.size, "i8")))
        self._answer[number] = answer
        self._answer[answer] = number

    def _open(self, segments: Segments, rows: Ints, number: Ints) -> None:
        """Start one flow at each of the rows, in order."""
        flow = self.count + np.arange(rows.size, dtype=np.int64)
        self.count += rows.size
        self.flows = grown(self.flows, self.count)
        flags = segments.flags[rows]
        source_port = segments.source_port[rows]
        destination_port = segments.destination_port[rows]
        is_syn = flags & SYN != 0
        by_sender = np.where(is_syn, flags & ACK == 0, source_port >= destination_port)
        source, destination = segments.source[rows], segments.destination[rows]
        table = self.flows
        table["source"][flow] = np.where(by_sender, source, destination)
        table["destination"][flow] = np.where(by_sender, destination, source)
        table["source_port"][flow] = np.where(by_sender, source_port, destination_port)
        table["destination_port"][flow] = np.where(by_sender, destination_port, source_port)
        acked = (segments.ack[rows] - 1) & 0xFFFF_FFFF
        table["syn_seq"][flow] = np.where(
            is_syn, np.where(by_sender, segments.seq[rows], acked), -1
        )
        table["first_seq"][flow] = segments.seq[rows]
        table["first_number"][flow] = segments.number[rows]
        table["first_ns"][flow] = segments.time_ns[rows]
        asked = number[rows]
        self._half[self._answer[asked]] = 2 * flow + by_sender
        self._half[asked] = 2 * flow + ~by_sender

    def _reopen(self, segments: Segments, number: Ints, half: Ints) -> None:
        """Start a new flow where an address pair is used again, with another SYN."""
        rows = np.flatnonzero(segments.flags & (SYN | ACK) == SYN)
        rows = rows[half[rows] >= 0]
        rows = rows[self.flows["first_number"][half[rows] >> 1] != segments.number[rows]]
        for row in rows.tolist():
            asked = int(number[row])
            old = self.flows[int(self._half[asked]) >> 1]
            seq = int(segments.seq[row])
            if int(old["syn_seq"]) == seq or self.count >= MAX_FLOWS:
                continue
            if int(old["syn_seq"]) < 0 and int(old["first_seq"]) - seq in (0, 1):
                old["syn_seq"] = seq  # segments of this same flow came before its SYN
                continue
            self._open(segments, np.array([row]), number)
            later = number[row:]
            mine = (later == asked) | (later == self._answer[asked])
            half[row:][mine] = self._half[later[mine]]
