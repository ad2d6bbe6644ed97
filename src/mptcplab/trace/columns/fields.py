"""Reading big-endian fields of many packets at once.

Packets lie one after another in one byte array; every function takes that array and the positions
of a field, one per packet.  The array must be padded (``PADDING`` bytes) so that a position just
past the last packet can be read; the caller knows whether the bytes there mean anything.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

PADDING: Final = 512
"""Zero bytes that follow the last packet of every byte array."""

Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Heads: TypeAlias = NDArray[np.void]
"""The first bytes of each of several records, one element a record."""


def windows(data: Bytes, size: int) -> Heads:
    """View ``data`` as overlapping elements of ``size`` bytes, one at each position."""
    shape = (data.size - size + 1,)
    return np.ndarray(shape, f"V{size}", data.data, strides=(1,))


def whole_bytes(data: Bytes) -> bytes:
    """Return the bytes of an array, without copying them where it is a view of such."""
    base: object = data.base
    if isinstance(base, bytes) and len(base) == data.size:
        return base
    return data.tobytes()


def u8(data: Bytes, at: Ints) -> NDArray[np.uint8]:
    """Return the byte at each position."""
    return data[at]


def be16(data: Bytes, at: Ints) -> NDArray[np.uint16]:
    """Return the 16-bit number in network byte order at each position."""
    return windows(data, 2)[at].view(">u2").astype(np.uint16)


def be32(data: Bytes, at: Ints) -> NDArray[np.uint32]:
    """Return the 32-bit number in network byte order at each position."""
    return windows(data, 4)[at].view(">u4").astype(np.uint32)


def be64(data: Bytes, at: Ints) -> NDArray[np.uint64]:
    """Return the 64-bit number in network byte order at each position."""
    return windows(data, 8)[at].view(">u8").astype(np.uint64)


def le16(data: Bytes, at: Ints) -> NDArray[np.uint16]:
    """Return the 16-bit number, low byte first, at each position."""
    return windows(data, 2)[at].view("<u2").astype(np.uint16)


def le32(data: Bytes, at: Ints) -> NDArray[np.uint32]:
    """Return the 32-bit number, low byte first, at each position."""
    return windows(data, 4)[at].view("<u4").astype(np.uint32)


def rows(data: Bytes, at: Ints, size: int) -> NDArray[np.uint8]:
    """Copy ``size`` bytes from each position into a matrix, one row per position."""
    return windows(data, size)[at].view(np.uint8).reshape(at.size, size)


def column(matrix: NDArray[np.uint8], offset: int, kind: str) -> NDArray[Any]:
    """Read the field of numpy type ``kind`` (such as ``>u4``) at ``offset`` of every row."""
    if matrix.shape[0] == 0:
        return np.zeros(0, dtype=np.dtype(kind).newbyteorder("="))
    field = np.ndarray(
        (matrix.shape[0],), kind, matrix.data, offset=offset, strides=(matrix.strides[0],)
    )
    return field.astype(np.dtype(kind).newbyteorder("="))
