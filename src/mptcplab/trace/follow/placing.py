"""Which segments of a batch are followed, and in which order: by half, and by time in each.

That needs nothing of what following finds out, so that the process that decodes does it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mptcplab.trace.columns.fields import Ints
from mptcplab.trace.decode.segments import Segments
from mptcplab.trace.follow.by_direction import HalfOrder
from mptcplab.trace.follow.copies import Copies
from mptcplab.trace.follow.flow_table import FlowTable


@dataclass(slots=True, eq=False, repr=False)
class Placed:
    """The segments of a batch that are followed."""

    element: Ints
    """Each one's element in ``Segments``."""
    order: HalfOrder
    """Each one's half, and the places of every half's."""
    flows: int
    """How many flows there are by now."""


class Placer:
    """The flows of a capture, and what came twice, while it is read."""

    def __init__(self) -> None:
        self.table = FlowTable()
        self.copies = Copies()

    def place(self, segments: Segments) -> Placed | None:
        """Take the next batch; returns what of it is followed, None for nothing."""
        if not len(segments):
            return None
        half = self.table.assign(segments)
        copies = self.copies.find(segments)
        if copies is not None:
            half = np.where(copies, -1, half)
        element = np.flatnonzero(half >= 0)
        if element.size == 0:
            return None
        if element.size < half.size:
            half = half[element]
        order, by_half = HalfOrder.of(half, 2 * self.table.count)
        element = element[by_half] if element.size < len(segments) else by_half
        return Placed(element, order, self.table.count)
