"""A channel on a loop: pieces of trains come out at the far end when they should."""

from __future__ import annotations

from collections.abc import Callable

from mptcplab.loop import Loop, Timer
from mptcplab.network.link import ChannelModel
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece


class Wire(Timer):
    """Runs a `ChannelModel` with one timer, however many pieces are under way.

    `deliver` is called with each piece when it arrives.
    """

    __slots__ = ("channel", "deliver")

    def __init__(self, loop: Loop, channel: ChannelModel, deliver: Callable[[Piece], None]) -> None:
        super().__init__(loop)
        self.channel = channel
        self.deliver = deliver

    def offer(self, item: object, packets: int, packet_bytes: int, last_bytes: int) -> int:
        """`ChannelModel.offer` at the present; returns how many packets the queue took."""
        taken = self.channel.offer(item, packets, packet_bytes, last_bytes, self.loop.now_ns)
        self.set(self.channel.next_deadline_ns())
        return taken

    def configure(self, parameters: ChannelParameters) -> None:
        """`ChannelModel.configure` at the present."""
        self.channel.configure(parameters, self.loop.now_ns)
        self.set(self.channel.next_deadline_ns())

    def expire(self) -> None:
        """Deliver what has arrived."""
        channel = self.channel
        now_ns = self.loop.now_ns
        while (piece := channel.take(now_ns)) is not None:
            self.deliver(piece)
        self.set(channel.next_deadline_ns())
