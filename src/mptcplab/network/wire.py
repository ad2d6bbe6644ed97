"""A channel on a loop: pieces of trains come out at the far end when they should."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from mptcplab.loop import Loop, Timer
from mptcplab.network.channel import ChannelModel
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.piece import Piece

if TYPE_CHECKING:
    from mypy_extensions import i64


class Wire(Timer):
    """Runs a `ChannelModel` with one timer, however many pieces are under way.

    A subclass says with `deliver` where a piece goes when it arrives.
    """

    __slots__ = ("channel",)

    def __init__(self, loop: Loop, channel: ChannelModel) -> None:
        super().__init__(loop)
        self.channel = channel

    @abstractmethod
    def deliver(self, piece: Piece) -> None:
        """A piece has arrived at the far end."""

    def offer(
        self,
        item: object,
        packets: i64,
        packet_bytes: i64,
        last_bytes: i64,
        late_ns: i64 = 0,
        spread_ns: i64 = 0,
        piece_packets: i64 = 0,
        burst_packets: i64 = 1,
    ) -> i64:
        """`ChannelModel.offer`, told `late_ns` late; returns how many packets the queue took."""
        channel = self.channel
        now_ns = self.loop.now_ns - late_ns
        taken = channel.offer(
            item,
            packets,
            packet_bytes,
            last_bytes,
            now_ns,
            spread_ns,
            piece_packets,
            burst_packets,
        )
        self.set(channel.next_deadline_ns())
        return taken

    def configure(self, parameters: ChannelParameters) -> None:
        """`ChannelModel.configure` at the present."""
        self.channel.configure(parameters, self.loop.now_ns)
        self.set(self.channel.next_deadline_ns())

    def expire(self) -> None:
        """Deliver what has arrived."""
        channel = self.channel
        now_ns = self.loop.now_ns
        piece = channel.take(now_ns)
        while piece is not None:
            self.deliver(piece)
            piece = channel.take(now_ns)
        self.set(channel.next_deadline_ns())


class CallbackWire(Wire):
    """A wire that hands each piece to a function."""

    __slots__ = ("_callback",)

    def __init__(
        self, loop: Loop, channel: ChannelModel, callback: Callable[[Piece], None]
    ) -> None:
        super().__init__(loop, channel)
        self._callback = callback

    def deliver(self, piece: Piece) -> None:
        """Call the function."""
        self._callback(piece)
