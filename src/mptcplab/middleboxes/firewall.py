"""A stateful firewall: connections begin inside, or not at all."""

from __future__ import annotations

from mptcplab.middleboxes.box import Middlebox
from mptcplab.middleboxes.connections import Connections
from mptcplab.middleboxes.packets import flow_of, is_tcp, reverse_flow
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.wire.segment import ACK, SYN, Segment


class Firewall(Middlebox):
    """Lets TCP connections pass that a SYN from inside began, and the answers to UDP from inside.

    Inside is where outbound segments come from.  What belongs to no connection is dropped, also
    from inside: so it drops connections that it has forgotten, or that are older than it.
    """

    __slots__ = ("_connections",)

    def __init__(self, plan: MiddleboxPlan) -> None:
        super().__init__(plan)
        self._connections = Connections(plan)

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:
        """Pass it, or drop it."""
        flow = flow_of(segment) if outbound else reverse_flow(segment)
        begins = outbound and (not is_tcp(segment) or segment.flags & (SYN | ACK) == SYN)
        if not begins and not self._connections.knows(flow, now_ns):
            self.tallies[outbound].dropped += segment.packets
            return []
        if begins and is_tcp(segment):
            self._connections.begin(flow)
        self._connections.note(flow, segment, outbound, now_ns)
        return [segment]

    def forget(self) -> None:
        """Forget all connections."""
        self._connections.clear()
