"""Packets that wait in a managed queue, and a first-in-first-out list of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.compiling import mypyc_attr

if TYPE_CHECKING:
    from mypy_extensions import i64


@mypyc_attr(free_list_len=1)
class Packet:
    """One packet of a train: the one of `index` of what was offered as `item`.

    `flow` is a hash of its addresses and ports. An `ect` packet may be marked instead of dropped
    (ECN-capable transport, RFC 3168 section 5).
    """

    __slots__ = ("came_ns", "ect", "flow", "frame_bytes", "index", "item", "marked", "most", "next")

    def __init__(
        self, item: object, index: i64, frame_bytes: i64, came_ns: i64, flow: i64, *, ect: bool
    ) -> None:
        self.item = item
        self.index: i64 = index
        self.frame_bytes: i64 = frame_bytes
        self.came_ns: i64 = came_ns
        self.flow: i64 = flow
        self.ect = ect
        self.marked = False
        self.most: i64 = 1
        """How many packets of its train may arrive as one piece."""
        self.next: Packet | None = None


class PacketList:
    """Packets in the order in which they came."""

    __slots__ = ("_first", "_last", "frame_bytes", "packets")

    def __init__(self) -> None:
        self._first: Packet | None = None
        self._last: Packet | None = None
        self.packets: i64 = 0
        self.frame_bytes: i64 = 0

    def append(self, packet: Packet) -> None:
        """Put a packet behind all others."""
        last = self._last
        if self._first is None or last is None:
            self._first = packet
        else:
            last.next = packet
        self._last = packet
        self.packets += 1
        self.frame_bytes += packet.frame_bytes

    def pop(self) -> Packet | None:
        """Take the first packet out; None where there is none."""
        packet = self._first
        if packet is None:
            return None
        self._first = packet.next
        packet.next = None
        self.packets -= 1
        self.frame_bytes -= packet.frame_bytes
        return packet
