"""Reassembly of IP fragments (RFC 791 section 3.2, RFC 8200 section 4.5), within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_MAX_DATAGRAMS: Final = 1024
"""Incomplete datagrams kept, of which the oldest is dropped first: a bound against floods."""
_MAX_BYTES: Final = 65_535
_MAX_PIECES: Final = 8192


@dataclass(slots=True)
class _Datagram:
    pieces: dict[int, bytes] = field(default_factory=dict)
    total_bytes: int = -1

    def whole(self) -> bytes | None:
        """Return the datagram if no byte is missing."""
        if self.total_bytes < 0:
            return None
        out = bytearray()
        for start in sorted(self.pieces):
            if start > len(out):
                return None
            out += self.pieces[start][len(out) - start :]
        return bytes(out[: self.total_bytes]) if len(out) >= self.total_bytes else None


class Reassembly:
    """Incomplete datagrams of a capture."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, ...], _Datagram] = {}

    def add(self, key: tuple[int, ...], start: int, more: bool, payload: bytes) -> bytes | None:
        """Take a fragment that starts at byte ``start``; returns the datagram it completes."""
        if start + len(payload) > _MAX_BYTES:
            return None
        datagram = self._waiting.setdefault(key, _Datagram())
        if len(datagram.pieces) < _MAX_PIECES:
            datagram.pieces.setdefault(start, payload)
        if not more:
            datagram.total_bytes = start + len(payload)
        whole = datagram.whole()
        if whole is not None:
            del self._waiting[key]
        elif len(self._waiting) > _MAX_DATAGRAMS:
            del self._waiting[next(iter(self._waiting))]
        return whole
