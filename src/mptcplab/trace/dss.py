"""DSS options (RFC 8684 section 3.3) as columns: the one option that every data packet carries."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.gather import Ints, Mask, be16, be32, be64
from mptcplab.trace.interning import Words
from mptcplab.wire.mptcp import DSS_ACK, DSS_ACK_8, DSS_DSN_8, DSS_FIN, DSS_MAP


@dataclass(slots=True)
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

    ``captured`` says how much of each option's ``length`` is there.  Returns the columns, one
    element per row of ``headers``, and (segment, reason) of each option
    whose length is not what its flags ask for.
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
    flat = headers.ravel()  # options end four bytes before their row does, so 8 can be read at 4
    flags = np.where(captured > 3, flat[at + 3], 0).astype(np.int16)
    has_map = flags & DSS_MAP != 0
    ack_bytes = np.where(flags & DSS_ACK != 0, np.where(flags & DSS_ACK_8 != 0, 8, 4), 0)
    map_bytes = np.where(has_map, np.where(flags & DSS_DSN_8 != 0, 14, 10), 0)
    expected = 4 + ack_bytes + map_bytes
    good = (length == expected) | (has_map & (length == expected + 2)) | (captured == 3)
    bad = [
        (one, f"a DSS with flags 0x{flag:02x} has {size} bytes, expected {wanted}")
        for one, flag, size, wanted in zip(
            element[~good].tolist(),
            flags[~good].tolist(),
            length[~good].tolist(),
            expected[~good].tolist(),
            strict=True,
        )
    ]
    first = good.copy()
    first[1:] &= element[1:] != element[:-1]
    element, at, flags = element[first], at[first], flags[first]
    length, ack_bytes, map_bytes = length[first], ack_bytes[first], map_bytes[first]
    captured = captured[first]
    out.flags[element] = flags
    acks = (ack_bytes > 0) & (captured >= 4 + ack_bytes)
    out.data_ack[element[acks]] = _number(flat, at[acks] + 4, ack_bytes[acks])
    maps = (map_bytes > 0) & (captured >= 4 + ack_bytes + map_bytes)
    out.parts[element] = np.where(acks, DSS_ACK, 0) | np.where(maps, DSS_MAP, 0)
    start = at[maps] + 4 + ack_bytes[maps]
    width = map_bytes[maps] - 6
    chosen = element[maps]
    out.dsn[chosen] = _number(flat, start, width)
    out.ssn[chosen] = be32(flat, start + width)
    out.length[chosen] = be16(flat, start + width + 4)
    summed = captured[maps] == 4 + ack_bytes[maps] + map_bytes[maps] + 2
    out.checksum[chosen[summed]] = be16(flat, start[summed] + width[summed] + 6)
    return out, bad


def _number(flat: NDArray[np.uint8], at: Ints, width: Ints) -> Words:
    """Read numbers of 4 or 8 bytes."""
    words = be64(flat, at)
    return np.where(width == 8, words, words >> np.uint64(32))
