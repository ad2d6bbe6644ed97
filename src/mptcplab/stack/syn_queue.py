"""Connections of a listener whose handshake is not done, counted (RFC 4987, the backlog)."""

from __future__ import annotations


class SynQueue:
    """How many there are, and how many there may be."""

    __slots__ = ("length", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.length: int = 0

    def is_full(self) -> bool:
        """Say whether a further SYN is to be dropped."""
        return self.length >= self.limit
