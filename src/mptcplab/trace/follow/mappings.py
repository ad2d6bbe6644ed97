"""The data sequence numbers that every new byte on a subflow stands for.

Linux repeats one mapping on every packet of a burst, so mappings are not summed: each byte that is
new on its subflow is placed through the mapping that covers it, and bytes next to each other in
both spaces and in the same slot of time become one *extent*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.columns.growing import grown
from mptcplab.trace.columns.interning import Words
from mptcplab.trace.columns.sequence_numbers import unwrapped
from mptcplab.trace.decode.segments import Segments
from mptcplab.trace.follow.announced_mappings import ENDLESS, Announced
from mptcplab.trace.follow.by_direction import last_index
from mptcplab.trace.follow.tcp import Followed

MAX_EXTENTS: Final = 1 << 21
"""Beyond this, neighbours are joined over longer slots of time.  What is still too much, such as
millions of segments that alternate between subflows, is counted, not kept."""
_LONGEST_SLOT_NS: Final = 1_000_000_000

EXTENT: Final = np.dtype(
    [
        ("half", "i4"),
        ("kind", "i1"),
        ("first_ns", "i8"),
        ("last_ns", "i8"),
        ("first_number", "i8"),  # of packets
        ("seq", "i8"),  # relative, of the first byte on the subflow
        ("dsn", "u8"),
        ("bytes", "i8"),
    ],
    align=True,
)

_MAP: Final = np.dtype(
    [
        ("kind", "i1"),  # 0: none yet
        ("shifted", "?"),
        ("shift", "i8"),  # relative sequence number of subflow sequence number 0
        ("dsn", "u8"),
        ("ssn", "i8"),
        ("bytes", "i8"),
    ],
    align=True,
)

_LONGEST_BYTES: Final = 1 << 16  # of a mapping: its length has 16 bits
_MAX_LATER: Final = 1 << 18
_MAX_LONG: Final = 1 << 19
_HALF_SHIFT: Final = 43  # sequence numbers are below 2^43, halves below 2^20


class Mappings:
    """The mappings in force and the extents they gave."""

    def __init__(self) -> None:
        self.maps: NDArray[Any] = np.zeros(128, dtype=_MAP)
        self.unmapped_bytes: dict[int, int] = {}
        """Payload without a mapping, by half: plain TCP, or a start that was not captured."""
        self.infinite: dict[int, tuple[int, int]] = {}
        """(time, packet) of the first infinite mapping of a half."""
        self.data_fins: dict[int, tuple[int, int]] = {}
        """(time, packet) of the first DATA_FIN of a half."""
        self._pieces: list[NDArray[Any]] = []
        self._rows = 0
        self._slot_ns = 0
        self._full = False
        self.unplaced_bytes: dict[int, int] = {}
        """Payload of extents that were too many to keep, by half."""
        # Mappings of more than one segment, and payload that came after its mapping was replaced,
        # since a retransmission may have no option of its own.
        self._long: list[NDArray[Any]] = []
        self._long_rows = 0
        self._later: list[NDArray[Any]] = []
        self._later_rows = 0

    def add(
        self,
        segments: Segments,
        followed: Followed,
        announced: Announced,
        isn_known: Mask,
        resolution_ns: int,
    ) -> None:
        """Take a batch and the mappings ``announced`` in it.

        ``isn_known`` tells of every half whether its SYN was seen.
        """
        order = followed.order
        self.maps = grown(self.maps, (int(order.ids[-1]) | 1) + 1)  # both halves of the flow
        announced = announced.of_data()
        self._notes(segments, followed, announced)
        if announced.place.size == 0 and not self.maps["kind"][order.ids].any():
            _count(
                self.unmapped_bytes, order.ids, np.add.reduceat(followed.new_bytes, order.starts)
            )
            return
        self._shifts(announced, isn_known)
        self._keep_long(announced, followed.payload_bytes[announced.place])
        self._place(segments, followed, announced, resolution_ns)
        if announced.place.size:
            last = last_index(announced.place, order.starts, order.ends)
            half, last = order.ids[last >= 0], last[last >= 0]
            for name in ("kind", "dsn", "ssn", "bytes"):
                self.maps[name][half] = getattr(announced, name)[last]

    def _shifts(self, announced: Announced, isn_known: Mask) -> None:
        """Where a SYN was not seen, derive the initial sequence number from the first mappings.

        A mapping is announced on its first byte or later, so the least difference is the one; a
        mapping has less than 64 KiB, so that among the first two one is seen from its start.
        """
        shifted = self.maps["shifted"][announced.half]
        asked = ~shifted | (~isn_known[announced.half] & (announced.seq < 2 * _LONGEST_BYTES))
        if not asked.any():
            return
        ids, inverse = np.unique(announced.half[asked], return_inverse=True)
        least = np.full(ids.size, np.iinfo(np.int64).max)
        distance = announced.seq[asked] - announced.ssn[asked]
        np.minimum.at(least, inverse, unwrapped(distance, 0, np.zeros_like(distance)))
        known, before = self.maps["shifted"][ids], self.maps["shift"][ids]
        later = known & ~isn_known[ids] & (least < before) & (least > before - _LONGEST_BYTES)
        for half, less in zip(ids[later].tolist(), (before - least)[later].tolist(), strict=True):
            self._move(half, less)
        chosen = later | ~known
        self.maps["shift"][ids[chosen]] = np.where(isn_known[ids], 0, least)[chosen]
        self.maps["shifted"][ids] = True

    def _move(self, half: int, count: int) -> None:
        """Correct the mappings of a half that began ``count`` bytes earlier than assumed."""
        for table in (*self._pieces, *self._later):
            mine = table["half"] == half
            table["dsn"][mine] += np.uint64(count)
        for table in self._long:
            table["seq"][table["half"] == half] -= count

    def _notes(self, segments: Segments, followed: Followed, announced: Announced) -> None:
        """Note the first infinite mapping and DATA_FIN of each half."""
        fins = np.zeros(0, dtype=np.int64)
        if segments.dss.has_fin.any():
            fins = np.flatnonzero(segments.dss.has_fin[followed.element])
        for places, known in (
            (announced.place[announced.bytes == ENDLESS], self.infinite),
            (fins, self.data_fins),
        ):
            for k in places.tolist():
                number = int(segments.number[followed.element[k]])
                half = int(followed.order.half[k])
                known.setdefault(half, (int(followed.time_ns[k]), number))

    def _place(
        self, segments: Segments, followed: Followed, announced: Announced, resolution_ns: int
    ) -> None:
        """Turn new payload into extents."""
        rows = np.flatnonzero(followed.new_bytes > 0)
        if rows.size == 0:
            return
        order = followed.order
        half = order.half[rows]
        kind, dsn, ssn, size = self._in_force(announced, rows, half, order.start[rows])
        start, count = followed.new_from[rows], followed.new_bytes[rows]
        offset = start - unwrapped(ssn + self.maps["shift"][half], 0, start)
        room = size - offset
        good = (kind > 0) & (offset >= 0) & (room > 0)
        time = followed.time_ns[rows]
        dsn += offset.astype(np.uint64)
        number = segments.number[followed.element[rows]]
        columns: list[NDArray[Any]] = [half, kind, time, time, number, start, dsn, count]
        if not good.all():
            bad = np.flatnonzero(~good)
            self._keep_later(_table([column[bad] for column in columns]))
            rows = np.flatnonzero(good)
            if rows.size == 0:
                return
            columns = [column[rows] for column in columns]
            room = room[rows]
        columns[-1] = np.minimum(columns[-1], room)
        self._keep(_coalesced(columns, resolution_ns))
        if self._rows > MAX_EXTENTS and not self._full:
            self._join(max(4 * resolution_ns, 4 * self._slot_ns))
            if self._rows > MAX_EXTENTS * 3 // 4:
                self._join(_LONGEST_SLOT_NS)
            self._full = self._rows > MAX_EXTENTS * 3 // 4

    def _join(self, slot_ns: int) -> None:
        """Join extents that continue each other within a slot."""
        self._slot_ns = min(slot_ns, _LONGEST_SLOT_NS)
        kept = self.extents()
        joined = _coalesced([kept[name] for name in EXTENT.names or ()], self._slot_ns)
        self._pieces, self._rows = [joined], joined.size

    def _keep(self, table: NDArray[Any]) -> None:
        if self._full:
            _count(self.unplaced_bytes, table["half"], table["bytes"])
            return
        self._pieces.append(table)
        self._rows += table.size

    def _in_force(
        self, announced: Announced, rows: Ints, half: Ints, start: Ints
    ) -> tuple[Ints, Words, Ints, Ints]:
        """Return the mapping in force at each of the rows: (kind, DSN, SSN, bytes)."""
        if announced.place.size == rows.size and bool((announced.place == rows).all()):
            return announced.kind, announced.dsn.copy(), announced.ssn, announced.bytes
        carried = self.maps.take(half)
        kind, dsn, ssn, size = (carried[name] for name in ("kind", "dsn", "ssn", "bytes"))
        if announced.place.size:
            latest = last_index(announced.place, start, rows)
            here = np.flatnonzero(latest >= 0)
            latest = latest[here]  # the others' were announced in earlier batches
            kind[here], dsn[here] = announced.kind[latest], announced.dsn[latest]
            ssn[here], size[here] = announced.ssn[latest], announced.bytes[latest]
        return kind, dsn, ssn, size

    def _keep_long(self, announced: Announced, payload_bytes: Ints) -> None:
        fresh = (announced.bytes > payload_bytes) & (announced.bytes < ENDLESS)
        fresh[1:] &= (
            (announced.dsn[1:] != announced.dsn[:-1])
            | (announced.ssn[1:] != announced.ssn[:-1])
            | (announced.half[1:] != announced.half[:-1])
        )
        chosen = np.flatnonzero(fresh)
        if chosen.size == 0:
            return
        announced = announced.take(chosen)
        table = np.zeros(chosen.size, dtype=EXTENT)
        for name in ("half", "kind", "dsn", "bytes"):
            table[name] = getattr(announced, name)
        table["seq"] = announced.first_seq(self.maps["shift"])
        self._long.append(table)
        self._long_rows += table.size
        if self._long_rows > _MAX_LONG:  # retransmissions come soon
            self._settle()
            del self._long[: len(self._long) // 2]
            self._long_rows = sum(part.size for part in self._long)

    def _keep_later(self, table: NDArray[Any]) -> None:
        if self._later_rows < _MAX_LATER:
            self._later.append(table)
            self._later_rows += table.size
        else:
            _count(self.unmapped_bytes, table["half"], table["bytes"])

    def _settle(self) -> None:
        """Place what came after its mapping was replaced by the mappings known by now."""
        if not self._later:
            return
        later = np.concatenate(self._later)
        self._later, self._later_rows = [], 0
        good = np.zeros(later.size, dtype=bool)
        if self._long:
            known = np.concatenate(self._long)
            key = (known["half"].astype(np.int64) << _HALF_SHIFT) + np.maximum(known["seq"], 0)
            order = np.argsort(key, kind="stable")
            known, key = known[order], key[order]
            asked = (later["half"].astype(np.int64) << _HALF_SHIFT) + np.maximum(later["seq"], 0)
            mapping = known[np.maximum(np.searchsorted(key, asked, side="right") - 1, 0)]
            offset = later["seq"] - mapping["seq"]
            good = (mapping["half"] == later["half"]) & (offset >= 0) & (offset < mapping["bytes"])
            later["kind"][good] = mapping["kind"][good]
            later["dsn"][good] = mapping["dsn"][good] + offset[good].astype(np.uint64)
            room = mapping["bytes"][good] - offset[good]
            later["bytes"][good] = np.minimum(later["bytes"][good], room)
        self._pieces.append(later[good])
        _count(self.unmapped_bytes, later["half"][~good], later["bytes"][~good])

    def extents(self) -> NDArray[Any]:
        """Return all extents by half and time."""
        self._settle()
        if not self._pieces:
            return np.zeros(0, dtype=EXTENT)
        if len(self._pieces) > 1:
            table, self._pieces = np.concatenate(self._pieces), []
            order = np.lexsort((table["first_number"], table["half"]))
            self._pieces = [table.take(order)]  # whole rows, not field by field
        return self._pieces[0]


def _count(totals: dict[int, int], half: Ints, count: Ints) -> None:
    """Add to the total of each half."""
    ids, inverse = np.unique(half, return_inverse=True)
    sums = np.bincount(inverse, weights=count)
    for number, total in zip(ids.tolist(), sums.tolist(), strict=True):
        if total:
            totals[number] = totals.get(number, 0) + int(total)


def _table(columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return extents, given the columns of ``EXTENT``."""
    table = np.empty(columns[0].size, dtype=EXTENT)
    for name, column in zip(EXTENT.names or (), columns, strict=True):
        table[name] = column
    return table


def _coalesced(columns: Sequence[NDArray[Any]], resolution_ns: int) -> NDArray[Any]:
    """Return extents, neighbours joined that continue each other within a slot of time."""
    half, kind, first_ns, last_ns, number, seq, dsn, size = columns
    slot = first_ns // resolution_ns
    apart = seq[1:] != seq[:-1] + size[:-1]
    apart |= dsn[1:] != dsn[:-1] + size[:-1].astype(np.uint64)
    apart |= slot[1:] != slot[:-1]
    apart |= (half[1:] != half[:-1]) | (kind[1:] != kind[:-1])
    starts = np.append(0, np.flatnonzero(apart) + 1)
    ends = np.append(starts[1:], seq.size) - 1
    firsts = [column[starts] for column in (half, kind, first_ns, number, seq, dsn)]
    firsts.insert(3, last_ns[ends])
    return _table([*firsts, np.add.reduceat(size, starts)])
