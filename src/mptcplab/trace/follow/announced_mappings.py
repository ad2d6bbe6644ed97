"""The mappings that the segments of a batch announce, in DSS options and in MP_CAPABLE."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.columns.interning import Words
from mptcplab.trace.columns.sequence_numbers import unwrapped
from mptcplab.trace.decode.segments import Segments
from mptcplab.trace.follow.tcp import Followed
from mptcplab.wire.mptcp import DSS_DSN_8, DSS_FIN

DSN_32: Final = 1
DSN_64: Final = 2
FROM_IDSN: Final = 3
"""How a mapping's DSN is to be read: 32 bits, 64 bits, or counted from the IDSN (first data of
version 1, which MP_CAPABLE maps)."""

ENDLESS: Final = 1 << 41
"""The bytes of an infinite mapping."""


@dataclass(slots=True, eq=False, repr=False)
class Announced:
    """Announced mappings by half, in order of time within each; at most one of a segment."""

    place: Ints
    """Of the segment in ``Followed``."""
    kind: Ints
    dsn: Words
    ssn: Ints
    length: Ints
    """As the option has it: a DATA_FIN counts as one; 0 is infinite."""
    bytes: Ints
    """Data that is mapped: 0 where a DATA_FIN is alone."""
    checksum: Ints
    """-1 where there is none."""
    half: Ints
    seq: Ints
    """Of the segment, relative."""

    def take(self, kept: Ints | Mask) -> Announced:
        """Return those that ``kept`` selects."""
        return Announced(*(getattr(self, field.name)[kept] for field in fields(self)))

    def of_data(self) -> Announced:
        """Return those that map data."""
        maps_data = self.bytes > 0
        return self if maps_data.all() else self.take(maps_data)

    def first_seq(self, shifts: Ints) -> Ints:
        """Return where each one starts on its subflow, as a relative sequence number.

        ``shifts`` holds each half's relative sequence number of subflow sequence number 0.
        """
        return unwrapped(self.ssn + shifts[self.half], 0, self.seq)


def announced(segments: Segments, followed: Followed) -> Announced:
    """Return the mappings that a batch announces."""
    dss, order = segments.dss, followed.order
    place = np.flatnonzero(dss.has_map[followed.element])
    chosen = followed.element[place]
    flags, length = dss.flags[chosen], dss.length[chosen]
    kind = np.where(flags & DSS_DSN_8 != 0, DSN_64, DSN_32)
    size = np.where(length > 0, length - (flags & DSS_FIN != 0), ENDLESS)
    checksum = np.where(length > 0, dss.checksum[chosen], -1)
    columns = [place, kind, dss.dsn[chosen], dss.ssn[chosen], length, size, checksum]
    firsts = dict(segments.first_data())
    extra = np.flatnonzero(np.isin(followed.element, np.array(list(firsts)))) if firsts else place
    if firsts and extra.size:
        options = [firsts[element] for element in followed.element[extra].tolist()]
        sizes = np.array([option.data_length for option in options], dtype=np.int64)
        sums = [-1 if option.checksum is None else option.checksum for option in options]
        ones = np.ones_like(extra)
        more = (extra, FROM_IDSN * ones, ones.astype(np.uint64), ones, sizes, sizes, np.array(sums))
        columns = [np.concatenate(pair) for pair in zip(columns, more, strict=True)]
        sort = np.argsort(columns[0], kind="stable")
        last = np.append(np.diff(columns[0][sort]) > 0, True)  # of two, that of MP_CAPABLE counts
        columns = [column[sort[last]] for column in columns]
    place = columns[0]
    columns += [order.half[place], followed.seq[place]]
    return Announced(*columns)
