"""One direction of an emulated link with middleboxes where it begins, where it ends, or both."""

from __future__ import annotations

import os
from time import monotonic_ns

from mptcplab.linux.emulator.arrivals import ArrivalClock
from mptcplab.linux.emulator.boxes import BoxedEnd
from mptcplab.linux.emulator.engine import Direction
from mptcplab.linux.emulator.frames import OffloadedFrame, marked
from mptcplab.network.channel import ChannelModel
from mptcplab.network.piece import Piece


class BoxedDirection(Direction):
    """A direction whose frames pass middleboxes before the model, behind it, or both."""

    __slots__ = ("_begins", "_ends", "opposite")

    def __init__(
        self,
        source: int,
        sink: int,
        channel: ChannelModel,
        clock: ArrivalClock | None,
        ends: tuple[BoxedEnd | None, BoxedEnd | None],
        *,
        in_trains: bool = True,
    ) -> None:
        """Take the boxes where it begins and where it ends.

        Each end is that of the opposite direction as well, which is to be set in ``opposite``.
        """
        super().__init__(source, sink, channel, clock, in_trains=in_trains)
        self._begins, self._ends = ends
        self.opposite: BoxedDirection | None = None

    def offer(self, frame: bytes, at_ns: int) -> None:
        """Offer the model what leaves the boxes for a frame."""
        if self._begins is None:
            super().offer(frame, at_ns)
            return
        for out in self._begins.forward(frame, True, at_ns):
            super().offer(out, at_ns)

    def write(self, piece: Piece, now_ns: int) -> None:
        """Write what leaves the boxes for a piece; what is damaged passes them by."""
        if self._ends is None or piece.corrupt:
            super().write(piece, now_ns)
            return
        for out in self._ends.forward(_frame(piece), False, now_ns, in_trains=self.in_trains):
            os.write(self.sink, out)
        if self.opposite is not None:
            self.opposite.settle()

    def deliver(self) -> None:
        """Write what is due, and let go on what boxes have held for long enough."""
        if self._begins is not None:
            self._release(self._begins)
        super().deliver()

    def _release(self, begins: BoxedEnd) -> None:
        now_ns = max(monotonic_ns(), self._last_ns)
        takes = (True, self.opposite is None or self.opposite.in_trains)
        for frame, outbound in begins.expire(now_ns, in_trains=takes):
            if outbound:
                super().offer(frame, now_ns)
                self._last_ns = now_ns
            elif self.opposite is not None:
                try:
                    os.write(self.opposite.sink, frame)
                except OSError:
                    self.opposite.refused_packets += 1

    def settle(self) -> None:
        """Note when the next delivery is due, or a box lets something go."""
        super().settle()
        if self._begins is not None:
            held_ns = self._begins.chain.deadline_ns
            if held_ns is not None and held_ns < self.deadline_ns:
                self.deadline_ns = held_ns


def _frame(piece: Piece) -> bytes:
    """Return a piece of the model as one frame."""
    item = piece.item
    if isinstance(item, OffloadedFrame):
        if piece.packets == item.packets:
            frame = item.frame
        else:
            headers, payload = item.cut(piece.first, piece.packets)
            frame = bytes(headers) + payload
    else:
        assert isinstance(item, bytes)
        frame = item
    return bytes(marked(frame)) if piece.marked else frame
