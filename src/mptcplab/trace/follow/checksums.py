"""DSS checksums (RFC 8684 section 3.3.1), verified where the capture holds a whole mapping.

A checksum covers a whole mapping, which may be spread over many packets, some of them retransmitted
or late.  So each packet's payload is summed separately, all of a batch at once; a mapping whose
pieces are all in one batch is judged there, others wait for their missing pieces.  Sums are kept
modulo 65535, in which ones' complement arithmetic is ordinary arithmetic, and a piece at an odd
offset counts 256 times (RFC 1071 section 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Bytes, Ints, Mask
from mptcplab.trace.columns.fields import rows as gathered
from mptcplab.trace.columns.growing import grown
from mptcplab.trace.columns.sequence_numbers import relative_dsns
from mptcplab.trace.columns.sorting import distinct
from mptcplab.trace.decode.segments import Segments
from mptcplab.trace.follow.announced_mappings import DSN_32, DSN_64, FROM_IDSN, Announced
from mptcplab.trace.follow.by_direction import last_index
from mptcplab.trace.follow.tcp import Followed
from mptcplab.wire.checksum import ones_sum

_MODULUS: Final = 0xFFFF
_MOST_WAITING: Final = 1 << 14
"""Mappings that wait for pieces; of more than this, the pieces were never captured."""
_MOST_SIZES: Final = 8
"""Pieces kept that start at one offset, since retransmissions may be cut anew."""
_MOST_NARROW: Final = 1 << 18
_MOST_WRONG: Final = 1 << 12
_FEW: Final = 8
_LONG_BYTES: Final = 1 << 14
"""Pieces of one length, not longer than this, are summed together where they are not few."""
_COPIED_BYTES: Final = 1 << 23

COUNT: Final = np.dtype([("verified", "i8"), ("wrong", "i8"), ("unverifiable", "i8")])
"""Of each half."""

MAPPING: Final = np.dtype(
    [
        ("half", "i4"),
        ("kind", "i1"),  # as of extents; 0: none
        ("number", "i8"),  # of the packet that shows it
        ("time_ns", "i8"),
        ("first", "i8"),  # where it starts on the subflow, relative
        ("dsn", "u8"),
        ("ssn", "i8"),
        ("length", "i8"),  # with the DATA_FIN
        ("bytes", "i8"),  # without
        ("checksum", "i8"),  # -1: it has none
        ("payload", "i8"),  # with the DSN: what it says of the payload's sum; -1 likewise
    ]
)
_KEY: Final = ("half", "first", "bytes", "payload")
"""What tells mappings apart.  Linux maps its first data in MP_CAPABLE, whose DSN is that after the
IDSN, and goes on with the same mapping in DSS options, which have a DSN; and what is closed while
its last mapping is being sent goes on with a DATA_FIN, which changes length and checksum."""


@dataclass(slots=True)
class WrongChecksum:
    """A mapping whose checksum is wrong."""

    half: int
    number: int
    """A packet that carries some of it."""
    time_ns: int
    dsn: int
    """As the option has it, or the number after the IDSN where MP_CAPABLE maps."""


class _Waiting:
    """A mapping that lacks pieces."""

    __slots__ = ("mapping", "pieces")

    def __init__(self, mapping: NDArray[Any]) -> None:
        self.mapping = mapping
        self.pieces: dict[int, dict[int, int]] = {}
        """Offset -> bytes -> sum weighted by the offset's parity, of the pieces seen."""

    def add(self, offset: int, size: int, total: int) -> None:
        sizes = self.pieces.setdefault(offset, {})
        if len(sizes) < _MOST_SIZES:
            sizes.setdefault(size, total)

    def total(self) -> int | None:
        """Return the sum of the whole payload, None while something is missing.

        What was sent again may be cut elsewhere, so that pieces overlap; some of them must follow
        each other from the first byte to the last.
        """
        sums = {0: 0}
        for offset in sorted(self.pieces):
            if offset in sums:
                for size, total in self.pieces[offset].items():
                    sums.setdefault(offset + size, sums[offset] + total)
        whole = sums.get(int(self.mapping["bytes"]))
        return None if whole is None else whole % _MODULUS


class Checksums:
    """How many checksums of each half were right, wrong or not verifiable."""

    def __init__(self) -> None:
        self.counts: NDArray[Any] = np.zeros(128, dtype=COUNT)
        self.wrong: list[WrongChecksum] = []
        self._in_use = False
        self._in_force: NDArray[Any] = np.zeros(128, dtype=MAPPING)
        self._cut: NDArray[Any] = np.zeros(128, dtype=MAPPING)  # the last one that was cut
        self._waiting: dict[tuple[int, ...], _Waiting] = {}
        # Those whose DSN has 32 bits or depends on an IDSN that may come later: (mapping, sum).
        self._narrow: list[tuple[NDArray[Any], Ints]] = []
        self._narrow_rows = 0
        self._fins: set[int] = set()

    def add(
        self, segments: Segments, followed: Followed, announced: Announced, shifts: Ints
    ) -> None:
        """Take a batch and its mappings, those of DATA_FINs alone included.

        ``shifts`` holds each half's relative sequence number of subflow sequence number 0.
        """
        self._in_use = self._in_use or bool((announced.checksum >= 0).any())
        if not self._in_use:
            return
        order = followed.order
        bound = int(order.ids[-1]) + 1
        self.counts = grown(self.counts, bound)
        self._in_force, self._cut = grown(self._in_force, bound), grown(self._cut, bound)
        table = _table(segments, followed, announced, shifts)
        self._lone_fins(table)
        maps = table["bytes"] > 0
        table, place = table[maps], announced.place[maps]
        rows = np.flatnonzero(followed.payload_bytes > 0)
        in_force = self._in_force.take(order.half[rows])
        latest = last_index(place, order.start[rows], rows)
        here = latest >= 0
        in_force[here] = table.take(latest[here])
        last = last_index(place, order.starts, order.ends)
        seen = last >= 0
        self._in_force[order.ids[seen]] = table[last[seen]]
        own = np.isin(rows, place, assume_unique=True)
        offset = followed.seq[rows] - in_force["first"]
        size = followed.payload_bytes[rows]
        fits = (in_force["checksum"] >= 0) & (offset >= 0) & (offset + size <= in_force["bytes"])
        beyond = ~fits & own & (in_force["checksum"] >= 0)
        beyond &= followed.new_bytes[rows] > 0
        self._note_cut(in_force, beyond)  # the packet holds data of another mapping, too
        if not fits.any():
            return
        chosen = rows[fits]
        in_force, offset = in_force[fits], offset[fits]
        in_force["time_ns"] = followed.time_ns[chosen]
        element, new_bytes = followed.element[chosen], followed.new_bytes[chosen]
        in_force["number"] = segments.number[element]
        alone = (offset == 0) & (new_bytes == in_force["bytes"])
        if alone.any():
            self._in_one_piece(segments, in_force[alone], element[alone])
        if not alone.all():
            rest = ~alone
            self._in_pieces(
                segments, in_force[rest], element[rest], offset[rest], new_bytes[rest] > 0
            )

    def _in_one_piece(self, segments: Segments, mapping: NDArray[Any], element: Ints) -> None:
        """Judge mappings that one packet carries."""
        there = segments.payload_captured[element] >= mapping["bytes"]
        if not there.all():
            np.add.at(self.counts["unverifiable"], mapping["half"][~there], 1)
            mapping, element = mapping[there], element[there]
        at = segments.payload_at[element]
        self._judge(mapping, payload_sums(segments.data, at, mapping["bytes"]))

    def _lone_fins(self, table: NDArray[Any]) -> None:
        """Judge DATA_FINs without data, the first of each half: they are sent many times."""
        alone = (table["length"] == 1) & (table["bytes"] == 0)
        alone &= table["checksum"] >= 0
        for k in np.flatnonzero(alone).tolist():
            half = int(table["half"][k])
            if half not in self._fins:
                self._fins.add(half)
                self._judge(table[k : k + 1], np.zeros(1, dtype=np.int64))

    def _in_pieces(
        self, segments: Segments, mapping: NDArray[Any], element: Ints, offset: Ints, new: Mask
    ) -> None:
        """Sum payload, a piece of its ``mapping`` each, and judge the mappings that are whole."""
        size = segments.payload_bytes[element]
        order = np.lexsort((size, offset, *(mapping[name] for name in reversed(_KEY))))
        mapping = mapping[order]
        element, offset, size, new = element[order], offset[order], size[order], new[order]
        starts = _changes(mapping, _KEY)
        group = np.repeat(np.arange(starts.size), np.diff(np.append(starts, size.size)))
        again = np.zeros(size.size, dtype=bool)
        again[1:] = (group[1:] == group[:-1]) & (offset[1:] == offset[:-1])
        again[1:] &= size[1:] == size[:-1]
        cut = np.zeros(starts.size, dtype=bool)
        cut[group[segments.payload_captured[element] < size]] = True
        fresh = np.zeros(starts.size, dtype=bool)
        fresh[group[new]] = True
        latest = np.zeros(starts.size, dtype=np.int64)
        np.maximum.at(latest, group, np.arange(size.size))
        self._note_cut(mapping[latest], cut & fresh)
        kept = ~again & ~cut[group]
        if not kept.any():
            return
        mapping = mapping[kept]
        element, offset, size, group = element[kept], offset[kept], size[kept], group[kept]
        at = segments.payload_at[element]
        total = payload_sums(segments.data, at, size)
        total = np.where(offset & 1, total << 8, total)
        starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
        ends = np.append(starts[1:], group.size) - 1
        whole = (offset[starts] == 0) & (offset[ends] + size[ends] == mapping["bytes"][ends])
        gap = np.zeros(group.size, dtype=np.int64)
        gap[1:] = (group[1:] == group[:-1]) & (offset[1:] != offset[:-1] + size[:-1])
        whole &= np.add.reduceat(gap, starts) == 0
        new_ones = fresh[group[starts]]  # others were judged when their pieces came first
        waiting = self._are_waiting(mapping[starts])
        chosen = whole & new_ones & ~waiting
        self._judge(mapping[ends][chosen], np.add.reduceat(total, starts)[chosen])
        for k in np.flatnonzero(waiting | (new_ones & ~whole)).tolist():
            part = slice(int(starts[k]), int(ends[k]) + 1)
            self._wait(mapping[ends[k]], offset[part], size[part], total[part])
        self._forget()

    def _note_cut(self, mapping: NDArray[Any], cut: Mask) -> None:
        """Count mappings with a packet that is cut, each once."""
        rows = mapping[cut]
        if not rows.size:
            return
        known = self._cut[rows["half"]]
        news = np.zeros(rows.size, dtype=bool)
        for name in _KEY:
            news |= rows[name] != known[name]
        np.add.at(self.counts["unverifiable"], rows["half"][news], 1)
        self._cut[rows["half"]] = rows

    def _are_waiting(self, mapping: NDArray[Any]) -> Mask:
        if not self._waiting:
            return np.zeros(mapping.size, dtype=bool)
        keys = zip(*(mapping[name].tolist() for name in _KEY), strict=True)
        return np.array([key in self._waiting for key in keys], dtype=bool)

    def _wait(self, mapping: NDArray[Any], offset: Ints, size: Ints, total: Ints) -> None:
        """Keep pieces of a mapping that is not whole in this batch, and judge it when it is."""
        key = tuple(int(mapping[name]) for name in _KEY)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting(mapping)
        for piece in zip(offset.tolist(), size.tolist(), total.tolist(), strict=True):
            waiting.add(*piece)
        payload = waiting.total()
        if payload is not None:
            del self._waiting[key]
            self._judge(mapping.reshape(1), np.array([payload]))

    def _forget(self) -> None:
        """Give up the mappings that have waited longest where there are too many."""
        excess = len(self._waiting) - _MOST_WAITING
        for key in list(self._waiting)[: max(excess, 0)]:
            self.counts["unverifiable"][key[0]] += 1
            del self._waiting[key]

    def _judge(self, mapping: NDArray[Any], payload: Ints) -> None:
        """Judge whole mappings, given the sums of their payload."""
        if not mapping.size:
            return
        rest = payload + mapping["ssn"] + mapping["length"] + mapping["checksum"]
        wide = mapping["kind"] == DSN_64
        self._verdict(mapping[wide], rest[wide], mapping["dsn"][wide])
        if not wide.all():
            narrow = mapping[~wide]
            if self._narrow_rows < _MOST_NARROW:
                self._narrow.append((narrow, rest[~wide]))
                self._narrow_rows += narrow.size
            else:
                np.add.at(self.counts["unverifiable"], narrow["half"], 1)

    def _verdict(self, mapping: NDArray[Any], rest: Ints, dsn: NDArray[np.uint64]) -> None:
        total = (rest + (dsn % np.uint64(_MODULUS)).astype(np.int64)) % _MODULUS
        good = total == 0
        np.add.at(self.counts["verified"], mapping["half"][good], 1)
        np.add.at(self.counts["wrong"], mapping["half"][~good], 1)
        for row in mapping[~good][: _MOST_WRONG - len(self.wrong)]:
            self.wrong.append(
                WrongChecksum(
                    int(row["half"]), int(row["number"]), int(row["time_ns"]), int(row["dsn"])
                )
            )

    def settle(self, idsns: dict[int, int]) -> None:
        """Judge what depended on an IDSN, and give up what is not whole.

        ``idsns`` holds the IDSNs that are known, by half.
        """
        for key in self._waiting:
            self.counts["unverifiable"][key[0]] += 1
        self._waiting.clear()
        if not self._narrow:
            return
        mapping = np.concatenate([part for part, _ in self._narrow])
        rest = np.concatenate([part for _, part in self._narrow])
        self._narrow = []
        order = np.lexsort((mapping["number"], mapping["half"]))
        mapping, rest = mapping[order], rest[order]
        for half in distinct(mapping["half"]).tolist():
            low, high = np.searchsorted(mapping["half"], (half, half + 1))
            rows = mapping[low:high]
            idsn = idsns.get(half)
            if idsn is None:
                self.counts["unverifiable"][half] += rows.size
                continue
            narrow = rows["kind"] == DSN_32
            numbers = relative_dsns(rows["dsn"], ~narrow, rows["kind"] == FROM_IDSN, idsn)
            dsn = numbers.astype(np.uint64) + np.uint64(idsn)
            self._verdict(rows, rest[low:high], dsn)


def payload_sums(data: Bytes, at: Ints, size: Ints) -> Ints:
    """Return the ones' complement sum, modulo 65535, of ``size`` bytes at each position."""
    out = np.zeros(at.size, dtype=np.int64)
    if not size.size:
        return out
    one_by_one = []
    order = np.argsort(size, kind="stable")
    sizes, first = np.unique(size[order], return_index=True)
    for length, rows in zip(sizes.tolist(), np.split(order, first[1:]), strict=True):
        if rows.size < _FEW or not 4 <= length <= _LONG_BYTES:
            one_by_one.append(rows)
            continue
        most = max(_COPIED_BYTES // length, 1)
        for begin in range(0, rows.size, most):
            part = rows[begin : begin + most]
            out[part] = _equal_sums(data, at[part], length)
    view = data.data
    for k in np.concatenate(one_by_one).tolist() if one_by_one else ():
        begin = int(at[k])
        out[k] = ones_sum(view[begin : begin + int(size[k])]) % _MODULUS
    return out


def _equal_sums(data: Bytes, at: Ints, length: int) -> Ints:
    """Return the sums of pieces that are equally long, from four bytes up."""
    whole = length & ~3
    words = gathered(data, at, whole).view("<u4")
    total: Ints = words.sum(axis=1, dtype=np.uint64).astype(np.int64)
    for k in range(length - whole):
        total += data[at + whole + k].astype(np.int64) << 8 * (k & 1)
    return (total % _MODULUS << 8) % _MODULUS  # RFC 1071 section 2 (B): the other byte order


def _table(
    segments: Segments, followed: Followed, announced: Announced, shifts: Ints
) -> NDArray[Any]:
    """Return the mappings that a batch announces as rows of ``MAPPING``."""
    rows = np.zeros(announced.place.size, dtype=MAPPING)
    for name in ("half", "kind", "dsn", "ssn", "length", "bytes", "checksum"):
        rows[name] = getattr(announced, name)
    rows["number"] = segments.number[followed.element[announced.place]]
    rows["time_ns"] = followed.time_ns[announced.place]
    rows["first"] = announced.first_seq(shifts)
    known = rows["checksum"] >= 0
    rows["payload"] = np.where(known, (rows["checksum"] + rows["length"]) % _MODULUS, -1)
    return rows


def _changes(table: NDArray[Any], names: tuple[str, ...]) -> Ints:
    """Return where rows begin that differ from the one before."""
    change = np.ones(table.size, dtype=bool)
    change[1:] = False
    for name in names:
        change[1:] |= table[name][1:] != table[name][:-1]
    return np.flatnonzero(change)
