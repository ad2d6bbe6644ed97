"""DSS options (RFC 8684 section 3.3), which every data packet carries, as columns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints, Mask, be64, column, rows
from mptcplab.trace.columns.interning import Words
from mptcplab.wire.mptcp import DSS_ACK, DSS_ACK_8, DSS_DSN_8, DSS_FIN, DSS_MAP

_MAP_TAIL: Final = 14
_FLAGS: Final = np.arange(256)
_ACK_BYTES: Final = np.where(_FLAGS & DSS_ACK != 0, np.where(_FLAGS & DSS_ACK_8 != 0, 8, 4), 0)
_EXPECTED: Final = (
    4 + _ACK_BYTES + np.where(_FLAGS & DSS_MAP != 0, np.where(_FLAGS & DSS_DSN_8 != 0, 14, 10), 0)
)
"""Length of an option with each value of the flags, without a checksum."""


@dataclass(slots=True, eq=False, repr=False)
class DssColumns:
    """The first DSS of each segment; numbers are 0 where the flags say that they are absent."""

    flags: NDArray[np.int16]
    """The option's flags byte, -1 where the segment has no DSS."""
    parts: NDArray[np.int16]
    """Those of the flags ``DSS_ACK`` and ``DSS_MAP`` whose numbers the snap length did not cut."""
    data_ack: Words
    dsn: Words
    ssn: Ints
    length: Ints
    """Data-level length; counts a DATA_FIN as one; 0 is an infinite mapping."""
    checksum: Ints
    """-1 where the mapping has none."""

    @property
    def has_ack(self) -> Mask:
        """Whether the segment carries a DATA_ACK."""
        return np.asarray(self.parts & DSS_ACK != 0)

    @property
    def has_map(self) -> Mask:
        """Whether the segment carries a mapping."""
        return np.asarray(self.parts & DSS_MAP != 0)

    @property
    def has_fin(self) -> Mask:
        """Whether the segment carries a DATA_FIN."""
        return np.asarray((self.flags >= 0) & (self.flags & DSS_FIN != 0))

    def take(self, kept: Any) -> DssColumns:
        """Return the elements that ``kept`` selects."""
        return DssColumns(*(getattr(self, field.name)[kept] for field in fields(self)))


def decode_dss(
    headers: NDArray[np.uint8], element: Ints, at: Ints, length: Ints, captured: Ints
) -> tuple[DssColumns, list[tuple[int, str]]]:
    """Decode the options at ``at`` of the flattened headers, ordered by segment and position.

    ``captured`` is how much of each option's ``length`` was captured.  Returns the columns, one
    element per row of ``headers``, and (segment, reason) of each option whose length does not fit
    its flags.
    """
    size = headers.shape[0]
    out = DssColumns(
        np.full(size, -1, dtype=np.int16),
        np.zeros(size, dtype=np.int16),
        np.zeros(size, dtype=np.uint64),
        np.zeros(size, dtype=np.uint64),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.full(size, -1, dtype=np.int64),
    )
    if element.size == 0:
        return out, []
    flat = headers.ravel()  # options end four bytes before their row does
    flags = flat[at + 3]
    if (captured <= 3).any():
        flags = np.where(captured > 3, flags, 0)
    expected = _EXPECTED[flags]
    over = length - expected
    good = (over == 0) | ((over == 2) & (flags & DSS_MAP != 0)) | (captured == 3)
    bad: list[tuple[int, str]] = []
    if not good.all():
        wrong = ~good
        bad = [
            (segment, f"a DSS with flags 0x{flag:02x} has {size} bytes, expected {wanted}")
            for segment, flag, size, wanted in zip(
                *(part[wrong].tolist() for part in (element, flags, length, expected)), strict=True
            )
        ]
    first = good.copy()
    first[1:] &= element[1:] != element[:-1]
    if not first.all():
        element, at, flags, expected, captured = (
            part[first] for part in (element, at, flags, expected, captured)
        )
    # Numpy takes ten times as long to put values in places while it converts them.
    out.flags[element] = flags.astype(np.int16)
    ack_bytes = _ACK_BYTES[flags]
    acks = (ack_bytes > 0) & (captured >= 4 + ack_bytes)
    maps = (flags & DSS_MAP != 0) & (captured >= expected)
    parts = DSS_ACK * acks.view(np.uint8) | DSS_MAP * maps.view(np.uint8)
    out.parts[element] = parts.astype(np.int16)
    rows_of = np.flatnonzero(acks)
    words = be64(flat, at[rows_of] + 4)
    narrow = flags[rows_of] & DSS_ACK_8 == 0
    if narrow.any():
        words = np.where(narrow, words >> np.uint64(32), words)
    out.data_ack[element[rows_of]] = words
    _decode_maps(out, flat, element, at, flags, expected, captured, np.flatnonzero(maps))
    return out, bad


def _decode_maps(
    out: DssColumns,
    flat: NDArray[np.uint8],
    element: Ints,
    at: Ints,
    flags: NDArray[np.uint8],
    expected: Ints,
    captured: Ints,
    rows_of: Ints,
) -> None:
    """Decode the mappings of the options at ``rows_of``."""
    # Whatever comes before, a mapping ends with DSN, subflow sequence number and length.
    end = at[rows_of] + expected[rows_of]
    tail = rows(flat, end - _MAP_TAIL, _MAP_TAIL + 2)
    dsn = column(tail, 0, ">u8")
    narrow = flags[rows_of] & DSS_DSN_8 == 0
    if narrow.any():
        dsn[narrow] &= np.uint64(0xFFFF_FFFF)
    chosen = element[rows_of]
    out.dsn[chosen] = dsn
    out.ssn[chosen] = column(tail, 8, ">u4").astype(np.int64)
    out.length[chosen] = column(tail, 12, ">u2").astype(np.int64)
    summed = np.flatnonzero(captured[rows_of] == expected[rows_of] + 2)
    if summed.size:
        out.checksum[chosen[summed]] = column(tail, 14, ">u2")[summed]
