"""A box that randomises initial sequence numbers, as firewalls do for weak hosts behind them."""

from __future__ import annotations

from random import Random

from mptcplab.middleboxes.box import Middlebox
from mptcplab.middleboxes.packets import FlowKey, flow_of, is_tcp, reverse_flow
from mptcplab.middleboxes.selective import directions
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.seq import seq_add
from mptcplab.wire.segment import ACK, SYN, Segment


class RandomiseSequence(Middlebox):
    """Adds a random number to the sequence numbers of each connection that begins at the box.

    It is taken off the acknowledgments and SACK blocks that come back.  Connections whose SYN has
    not passed are left alone.  Subflow sequence numbers in mappings are relative to the initial
    one (RFC 8684 section 3.3.1), and stay right.
    """

    __slots__ = ("_directions", "_offsets", "_random")

    def __init__(self, plan: MiddleboxPlan, random: Random) -> None:
        super().__init__(plan)
        self._directions = directions(plan)
        self._random = random
        self._offsets: dict[FlowKey, int] = {}

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:  # noqa: ARG002
        """Shift sequence numbers one way, acknowledgments the other."""
        if not is_tcp(segment):
            return [segment]
        flow = flow_of(segment)
        if segment.flags & SYN and self._directions[outbound] and flow not in self._offsets:
            self._offsets[flow] = self._random.getrandbits(32)
        own = self._offsets.get(flow, 0)
        peers = self._offsets.get(reverse_flow(segment), 0)
        if own:
            segment.seq = seq_add(segment.seq, own)
        if peers and segment.flags & ACK:
            segment.ack = seq_add(segment.ack, -peers)
            segment.sack = tuple(
                (seq_add(left, -peers), seq_add(right, -peers)) for left, right in segment.sack
            )
        if own or peers:
            self.tallies[outbound].changed += segment.packets
        return [segment]

    def forget(self) -> None:
        """Forget the numbers: the connections that have them break."""
        self._offsets.clear()
