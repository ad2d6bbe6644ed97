"""Which data sequence numbers every new byte on a subflow stands for.

Linux repeats one mapping on every packet of a burst, so mappings are not summed: each byte that is
new on its subflow is placed through the mapping that covers it, and bytes next to each other in
both spaces and in the same slot of time become one *extent*.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.flows import grown
from mptcplab.trace.follow import Followed
from mptcplab.trace.gather import Ints, Mask
from mptcplab.trace.interning import Words
from mptcplab.trace.running import Groups, near
from mptcplab.trace.segments import Segments
from mptcplab.wire.mptcp import DSS_DSN_8, DSS_FIN, MpCapable

DSN_32: Final = 1
DSN_64: Final = 2
FROM_IDSN: Final = 3
"""How an extent's DSN is to be read: 32 bits, 64 bits, or counted from the IDSN (first data of
version 1, which MP_CAPABLE maps)."""

MAX_EXTENTS: Final = 1 << 21

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
    ]
)

_MAP: Final = np.dtype(
    [
        ("kind", "i1"),  # 0: none yet
        ("shifted", "?"),
        ("shift", "i8"),  # relative sequence number of subflow sequence number 0
        ("dsn", "u8"),
        ("ssn", "i8"),
        ("bytes", "i8"),
    ]
)

_ENDLESS: Final = 1 << 41
_MAX_LATER: Final = 1 << 18
_MAX_LONG: Final = 1 << 19
_HALF_SHIFT: Final = 44


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
        self._limit = MAX_EXTENTS
        # Mappings of more than one segment, and payload that came after its mapping was replaced:
        # what is sent again may have no option of its own.
        self._long: list[NDArray[Any]] = []
        self._long_rows = 0
        self._later: list[NDArray[Any]] = []
        self._later_rows = 0

    def add(
        self,
        segments: Segments,
        followed: Followed,
        by_half: Groups,
        isn_known: Mask,
        resolution_ns: int,
    ) -> None:
        """Take a batch; ``by_half`` groups its columns by half.

        ``isn_known`` tells of every half whether its SYN was seen.
        """
        self.maps = grown(self.maps, (int(by_half.ids[-1]) | 1) + 1)  # both halves of the flow
        order = by_half.order
        element = followed.element[order]
        half = by_half.ids[by_half.group]
        kind, dsn, ssn, size = self._announced(segments, element)
        announces = np.flatnonzero(kind)
        if announces.size == 0 and not self.maps["kind"][by_half.ids].any():
            self._unmapped(half, followed.new_bytes[order])
            return
        seq = followed.seq[order]
        self._shifts(half, announces, seq, ssn, isn_known)
        self._notes(segments, element, half, followed, order, announces)
        self._keep_long(followed, order, half, announces, (kind, dsn, ssn, size))
        place = by_half.last_where(kind > 0)
        new = np.flatnonzero(followed.new_bytes[order] > 0)
        self._place(followed, order[new], half[new], place[new], (kind, dsn, ssn, size),
                    segments.number[element[new]], resolution_ns)  # fmt: skip
        last = place[by_half.ends]
        seen = last >= 0
        rows = by_half.ids[seen]
        for name, column in (("kind", kind), ("dsn", dsn), ("ssn", ssn), ("bytes", size)):
            self.maps[name][rows] = column[last[seen]]

    @staticmethod
    def _announced(segments: Segments, element: Ints) -> tuple[Ints, Words, Ints, Ints]:
        """Return what each segment announces: (kind, DSN, SSN, payload bytes)."""
        dss = segments.dss
        flags = dss.flags[element]
        has_map = dss.has_map[element]
        wide = np.where(flags & DSS_DSN_8 != 0, DSN_64, DSN_32)
        kind = np.where(has_map, wide, 0).astype(np.int64)
        length = dss.length[element]
        infinite = has_map & (length == 0)
        fin = has_map & (flags & DSS_FIN != 0)
        size = np.where(infinite, _ENDLESS, length - fin)
        kind[fin & (size == 0)] = 0  # a lone DATA_FIN maps nothing
        dsn, ssn = dss.dsn[element], dss.ssn[element]
        firsts = [
            (at, option.data_length)
            for at, option in segments.options
            if isinstance(option, MpCapable) and option.data_length
        ]
        if firsts:
            place = np.full(len(segments), -1, dtype=np.int64)
            place[element] = np.arange(element.size)
            for at, data_length in firsts:
                k = int(place[at])
                if k >= 0:
                    kind[k], dsn[k], ssn[k], size[k] = FROM_IDSN, 1, 1, data_length
        return kind, dsn, ssn, size

    def _shifts(self, half: Ints, announces: Ints, seq: Ints, ssn: Ints, isn_known: Mask) -> None:
        """Where a SYN was not seen, find the initial sequence number by the first mappings.

        A mapping is announced on its first byte or later, so the least difference is the one.
        """
        halves = half[announces]
        unknown = ~self.maps["shifted"][halves]
        if not unknown.any():
            return
        rows = announces[unknown]
        ids, inverse = np.unique(half[rows], return_inverse=True)
        least = np.full(ids.size, np.iinfo(np.int64).max)
        distance = near(seq[rows] - ssn[rows], np.zeros_like(rows), np.zeros_like(rows))
        np.minimum.at(least, inverse, distance)
        self.maps["shift"][ids] = np.where(isn_known[ids], 0, least)
        self.maps["shifted"][ids] = True

    def _notes(
        self,
        segments: Segments,
        element: Ints,
        half: Ints,
        followed: Followed,
        order: Ints,
        announces: Ints,
    ) -> None:
        """Note infinite mappings and DATA_FINs, each once."""
        dss = segments.dss
        time = followed.time_ns[order]
        endless = announces[dss.has_map[element[announces]] & (dss.length[element[announces]] == 0)]
        for k in endless.tolist():
            number = int(segments.number[element[k]])
            self.infinite.setdefault(int(half[k]), (int(time[k]), number))
        for k in np.flatnonzero(dss.has_fin[element]).tolist():
            number = int(segments.number[element[k]])
            self.data_fins.setdefault(int(half[k]), (int(time[k]), number))

    def _place(
        self,
        followed: Followed,
        rows: Ints,
        half: Ints,
        place: Ints,
        announced: tuple[Ints, Words, Ints, Ints],
        number: Ints,
        resolution_ns: int,
    ) -> None:
        """Turn the new payload at ``rows`` into extents."""
        if rows.size == 0:
            return
        kind, dsn, ssn, size = (column[place] for column in announced)
        earlier = np.flatnonzero(place < 0)  # the mapping was announced in an earlier batch
        if earlier.size:
            carried = self.maps[half[earlier]]
            for column, name in (
                (kind, "kind"), (dsn, "dsn"), (ssn, "ssn"), (size, "bytes"),
            ):  # fmt: skip
                column[earlier] = carried[name]
        start, count = followed.new_from[rows], followed.new_bytes[rows]
        first = near(ssn + self.maps["shift"][half], np.zeros_like(ssn), start)
        offset = start - first
        good = (kind > 0) & (offset >= 0) & (offset < size)
        time = followed.time_ns[rows]
        pieces = [half, kind, time, time, number, start, dsn + offset.astype(np.uint64), count]
        table = np.zeros(rows.size, dtype=EXTENT)
        for name, column in zip(EXTENT.names or (), pieces, strict=True):
            table[name] = column
        if not good.all():
            self._keep_later(table[~good])
            table, room = table[good], (size - offset)[good]
        else:
            room = size - offset
        table["bytes"] = np.minimum(table["bytes"], room)
        table = _coalesced(table, resolution_ns)
        self._pieces.append(table)
        self._rows += table.size
        if self._rows > self._limit:
            self._pieces = [_coalesced(self.extents(), 4 * resolution_ns)]
            self._rows = self._pieces[0].size
            self._limit = max(MAX_EXTENTS, 2 * self._rows)  # where nothing joins, seldom try

    def _keep_long(
        self,
        followed: Followed,
        order: Ints,
        half: Ints,
        announces: Ints,
        announced: tuple[Ints, Words, Ints, Ints],
    ) -> None:
        kind, dsn, ssn, size = (column[announces] for column in announced)
        owner = half[announces]
        fresh = np.ones(announces.size, dtype=bool)
        fresh[1:] = (dsn[1:] != dsn[:-1]) | (ssn[1:] != ssn[:-1]) | (owner[1:] != owner[:-1])
        fresh &= (size > followed.payload_bytes[order][announces]) & (size < _ENDLESS)
        if not fresh.any():
            return
        table = np.zeros(int(fresh.sum()), dtype=EXTENT)
        seq = followed.seq[order][announces]
        first = near(ssn + self.maps["shift"][owner], np.zeros_like(ssn), seq)
        for name, column in (
            ("half", owner), ("kind", kind), ("seq", first), ("dsn", dsn), ("bytes", size),
        ):  # fmt: skip
            table[name] = column[fresh]
        self._long.append(table)
        self._long_rows += table.size
        if self._long_rows > _MAX_LONG:  # what is sent again is sent again soon
            self._settle()
            del self._long[: len(self._long) // 2]
            self._long_rows = sum(part.size for part in self._long)

    def _keep_later(self, table: NDArray[Any]) -> None:
        if self._later_rows < _MAX_LATER:
            self._later.append(table)
            self._later_rows += table.size
        else:
            self._unmapped(table["half"], table["bytes"])

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
            found = known[np.maximum(np.searchsorted(key, asked, side="right") - 1, 0)]
            offset = later["seq"] - found["seq"]
            good = (found["half"] == later["half"]) & (offset >= 0) & (offset < found["bytes"])
            later["kind"][good] = found["kind"][good]
            later["dsn"][good] = found["dsn"][good] + offset[good].astype(np.uint64)
            room = found["bytes"][good] - offset[good]
            later["bytes"][good] = np.minimum(later["bytes"][good], room)
        self._pieces.append(later[good])
        self._unmapped(later["half"][~good], later["bytes"][~good])

    def _unmapped(self, half: Ints, count: Ints) -> None:
        ids, inverse = np.unique(half, return_inverse=True)
        totals = np.bincount(inverse, weights=count)
        for one, total in zip(ids.tolist(), totals.tolist(), strict=True):
            if total:
                self.unmapped_bytes[one] = self.unmapped_bytes.get(one, 0) + int(total)

    def extents(self) -> NDArray[Any]:
        """Return all extents by half and time."""
        self._settle()
        if not self._pieces:
            return np.zeros(0, dtype=EXTENT)
        if len(self._pieces) > 1:
            table = np.concatenate(self._pieces)
            self._pieces = [table[np.lexsort((table["first_number"], table["half"]))]]
        return self._pieces[0]


def _coalesced(table: NDArray[Any], resolution_ns: int) -> NDArray[Any]:
    """Join neighbours that continue each other within a slot of time."""
    if table.size < 2:
        return table
    slot = table["first_ns"] // resolution_ns
    size = table["bytes"]
    joined = (
        (table["half"][1:] == table["half"][:-1])
        & (table["kind"][1:] == table["kind"][:-1])
        & (table["seq"][1:] == table["seq"][:-1] + size[:-1])
        & (table["dsn"][1:] == table["dsn"][:-1] + size[:-1].astype(np.uint64))
        & (slot[1:] == slot[:-1])
    )
    starts = np.append(0, np.flatnonzero(~joined) + 1)
    ends = np.append(starts[1:], table.size) - 1
    out: NDArray[Any] = table[starts]
    out["last_ns"] = table["last_ns"][ends]
    out["bytes"] = np.add.reduceat(size, starts)
    return out
