"""Data sequence mappings received on one subflow (RFC 8684 section 3.3.1).

A mapping says which stream offsets a run of subflow sequence numbers stands for. It may span many
segments, be repeated on each, or arrive before its data; bytes that no mapping covers wait for
one. Where the checksum is in use a mapping's bytes are held until all of them are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.compiling import mypyc_attr
from mptcplab.seq import SEQ32_MASK
from mptcplab.stack.reassembly import Chunk
from mptcplab.wire.checksum import add_sums, dss_checksum, ones_sum

if TYPE_CHECKING:
    from mypy_extensions import i64


NOTHING_HELD: Final[list[Chunk]] = []
"""What most mappings hold: those without checksum. Nobody adds to it."""


@mypyc_attr(free_list_len=1)
class Mapping:
    """Subflow sequence numbers ``ssn`` to ``end`` stand for the stream from ``offset`` on."""

    __slots__ = ("checksum", "data_fin", "end", "held", "offset", "ssn", "sum", "summed")

    def __init__(self, ssn: i64, end: i64, offset: i64, checksum: i64, data_fin: bool) -> None:
        self.ssn: i64 = ssn
        self.end: i64 = end
        self.offset: i64 = offset
        self.checksum: i64 = checksum
        """-1 for none."""
        self.data_fin: bool = data_fin
        self.held = NOTHING_HELD
        self.sum: int = 0
        self.summed: i64 = 0

    def hold(self, start: i64, end: i64, payload: bytes | None) -> None:
        """Keep bytes, which come in order, until the mapping is complete."""
        if self.held is NOTHING_HELD:
            self.held = []
        self.held.append((start, end, payload))
        if payload is not None:
            self.sum = add_sums(self.sum, ones_sum(payload), odd=self.summed % 2 == 1)
        self.summed += end - start

    def checksum_holds(self, dsn: int, ssn: i64) -> bool:
        """Verify the checksum of the complete mapping; content without any bytes always passes.

        ``dsn`` is the data sequence number of its first byte, 64 bits, and ``ssn`` that of the
        subflow as the peer counts it. Where only some parts have
        bytes, as changed on the way, the others are zeros.
        """
        for _, _, payload in self.held:
            if payload is not None:
                break
        else:
            return True
        length = self.end - self.ssn + (1 if self.data_fin else 0)
        return dss_checksum(dsn, ssn & SEQ32_MASK, length, self.sum) == self.checksum


class MappingTable:
    """The mappings of one subflow that are not yet used up, and the data that wait for one."""

    __slots__ = (
        "_mappings",
        "_unmapped",
        "last_end",
        "last_offset",
        "last_ssn",
        "unmapped_bytes",
    )

    def __init__(self) -> None:
        self._mappings: list[Mapping] = []
        self.last_ssn: i64 = -1
        self.last_end: i64 = -1
        self.last_offset: i64 = -1
        self._unmapped: list[Chunk] = []
        self.unmapped_bytes: i64 = 0

    def __len__(self) -> int:
        return len(self._mappings)

    def add(self, mapping: Mapping) -> bool:
        """Take a mapping in; ``False`` if it contradicts one that is already known.

        RFC 8684 section 3.3.1: once a mapping was declared, its subflow numbers may be repeated
        with the same meaning only.
        """
        self.last_ssn = mapping.ssn
        self.last_end = mapping.end
        self.last_offset = mapping.offset
        mappings = self._mappings
        if not mappings or mapping.ssn >= mappings[-1].end:
            mappings.append(mapping)
            return True
        shift = mapping.offset - mapping.ssn
        index = len(mappings)
        while index > 0 and mappings[index - 1].ssn >= mapping.end:
            index -= 1
        first = index
        while first > 0 and mappings[first - 1].end > mapping.ssn:
            first -= 1
            if mappings[first].offset - mappings[first].ssn != shift:
                return False
        if first < index:
            # It repeats, or with some stack in the path re-cuts, what is known: fill the gaps only.
            self._fill(mapping, first, index)
        else:
            mappings.insert(index, mapping)
        return True

    def find(self, ssn: i64) -> Mapping | None:
        """Return the mapping that covers ``ssn``, forgetting those wholly before it."""
        mappings = self._mappings
        while mappings:
            mapping = mappings[0]
            if mapping.end <= ssn:
                if len(mappings) == 1:
                    mappings.pop()  # the same, and spares moving a slice
                else:
                    mappings.pop(0)
                continue
            return mapping if mapping.ssn <= ssn else None
        return None

    def keep_unmapped(self, start: i64, end: i64, payload: bytes | None) -> None:
        """Keep data, in subflow order, until a mapping comes that covers them."""
        self._unmapped.append((start, end, payload))
        self.unmapped_bytes += end - start

    def take_unmapped(self) -> list[Chunk]:
        """Take out the data that wait."""
        waiting = self._unmapped
        self._unmapped = []
        self.unmapped_bytes = 0
        return waiting

    def _fill(self, mapping: Mapping, first: int, last: int) -> None:
        if mapping.checksum >= 0:
            return  # pieces of a checksummed mapping cannot be verified: the known ones stand
        known = self._mappings[first:last]
        position = mapping.ssn
        pieces: list[Mapping] = []
        for other in known:
            if other.ssn > position:
                pieces.append(self._piece(mapping, position, other.ssn))
            pieces.append(other)
            position = max(position, other.end)
        if position < mapping.end:
            pieces.append(self._piece(mapping, position, mapping.end))
        self._mappings[first:last] = pieces

    @staticmethod
    def _piece(mapping: Mapping, start: int, end: int) -> Mapping:
        offset = mapping.offset + start - mapping.ssn
        return Mapping(start, end, offset, -1, False)
