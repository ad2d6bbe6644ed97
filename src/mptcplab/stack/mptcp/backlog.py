"""What a scheduler gave a subflow beyond its congestion window: data that wait their turn there.

Most schedulers give no more than can leave at once. Linux's default one fills send buffers, as
the kernel's subflows have one each (``mptcplab.stack.schedulers.linux_default``). Data that wait
are given (the scheduler will not see them again as new) but have no subflow sequence numbers yet,
so that nothing stands in the way of giving them to another subflow when this one fails.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i64


class Backlog:
    """Ranges of stream offsets, in the order in which they were given."""

    __slots__ = ("_ranges", "waiting_bytes")

    def __init__(self) -> None:
        self._ranges: deque[tuple[int, int]] = deque()
        self.waiting_bytes: i64 = 0

    def add(self, start: int, end: int) -> None:
        """Queue a range."""
        self._ranges.append((start, end))
        self.waiting_bytes += end - start

    def first(self, acked_offset: int) -> tuple[int, int]:
        """Return what is to leave next, without what was acknowledged meanwhile; (0, 0): nothing.

        Others may have carried it (reinjections), and what is acknowledged is no longer held.
        """
        ranges = self._ranges
        while ranges:
            start, end = ranges[0]
            if end > acked_offset:
                return (start if start > acked_offset else acked_offset), end
            ranges.popleft()
            self.waiting_bytes -= end - start
        return 0, 0

    def remove_to(self, offset: int) -> None:
        """The first range has left up to ``offset``."""
        start, end = self._ranges.popleft()
        if offset < end:
            self._ranges.appendleft((offset, end))
            self.waiting_bytes -= offset - start
        else:
            self.waiting_bytes -= end - start

    def take_all(self) -> list[tuple[int, int]]:
        """Empty it and return the ranges."""
        ranges = list(self._ranges)
        self._ranges.clear()
        self.waiting_bytes = 0
        return ranges
