"""Network address and port translation, as RFC 4787 and RFC 5382 have it."""

from __future__ import annotations

from typing import Final

from mptcplab.middleboxes.box import Middlebox
from mptcplab.middleboxes.connections import Connections
from mptcplab.middleboxes.packets import FlowKey, flow_of, is_tcp, reverse_flow
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.wire.icmp import IcmpError
from mptcplab.wire.segment import ACK, SYN, Segment

_FIRST_PORT: Final = 49_152  # of the dynamic ports (RFC 6335 section 6)
_LAST_PORT: Final = 65_535

Inside = tuple[bool, bytes, int]
"""Whether TCP, an address inside and a port."""


class _Mapping:
    """What one address and port inside has outside."""

    __slots__ = ("flows", "inside", "port")

    def __init__(self, inside: Inside, port: int) -> None:
        self.inside = inside
        self.port = port
        self.flows: set[FlowKey] = set()


class Nat(Middlebox):
    """Gives what leaves one address, and a port for each address and port inside.

    A mapping is the same for all peers (endpoint-independent, RFC 4787 REQ-1) and keeps the port
    where no other has it; what comes in has to be from a peer that was sent to (address and
    port-dependent filtering). Packets that come in for an address inside are dropped: nobody
    outside knows these. IPv6 passes as it is.
    """

    __slots__ = ("_by_inside", "_by_port", "_connections", "_next_port", "outside")

    def __init__(self, plan: MiddleboxPlan) -> None:
        super().__init__(plan)
        assert plan.outside is not None  # as the scenario resolves it
        self.outside = plan.outside.packed
        self._connections = Connections(plan)
        self._by_inside: dict[Inside, _Mapping] = {}
        self._by_port: dict[tuple[bool, int], _Mapping] = {}
        self._next_port = _FIRST_PORT

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:
        """Translate it; drop it where there is no mapping for it."""
        if len(segment.src) != 4:
            return [segment]
        if outbound and segment.src == self.outside:  # the router's own
            return [segment]
        done = self._leave(segment, now_ns) if outbound else self._enter(segment, now_ns)
        tally = self.tallies[outbound]
        if not done:
            tally.dropped += segment.packets
            return []
        tally.changed += segment.packets
        return [segment]

    def _leave(self, segment: Segment, now_ns: int) -> bool:
        flow = flow_of(segment)
        inside = flow[:3]
        mapping = self._by_inside.get(inside)
        known = mapping is not None and self._connections.knows(flow, now_ns)
        if mapping is None or not (known or self._lives(mapping, now_ns)):
            mapping = self._map(inside, now_ns)
        if mapping is None:
            return False
        if segment.flags & (SYN | ACK) == SYN:
            self._connections.begin(flow)
        mapping.flows.add(flow)
        self._connections.note(flow, segment, True, now_ns)
        segment.src, segment.src_port = self.outside, mapping.port
        return True

    def _enter(self, segment: Segment, now_ns: int) -> bool:
        if segment.dst != self.outside:
            return False
        mapping = self._by_port.get((is_tcp(segment), segment.dst_port))
        if mapping is None:
            return False
        _, address, port = mapping.inside
        _, _, _, peer, peer_port = reverse_flow(segment)
        flow = (is_tcp(segment), address, port, peer, peer_port)
        if flow not in mapping.flows or not self._connections.knows(flow, now_ns):
            return False
        self._connections.note(flow, segment, False, now_ns)
        segment.dst, segment.dst_port = address, port
        return True

    def _lives(self, mapping: _Mapping, now_ns: int) -> bool:
        mapping.flows = {flow for flow in mapping.flows if self._connections.knows(flow, now_ns)}
        return bool(mapping.flows)

    def _map(self, inside: Inside, now_ns: int) -> _Mapping | None:
        """Make a mapping: on the same port where that is free, else on the next one that is."""
        old = self._by_inside.pop(inside, None)
        if old is not None:
            del self._by_port[old.inside[0], old.port]
        tcp, _, port = inside
        if not self._is_free(tcp, port, now_ns):
            for _ in range(_FIRST_PORT, _LAST_PORT + 1):
                port = self._next_port
                self._next_port = _FIRST_PORT if port == _LAST_PORT else port + 1
                if self._is_free(tcp, port, now_ns):
                    break
            else:
                return None
        mapping = _Mapping(inside, port)
        self._by_inside[inside] = self._by_port[tcp, port] = mapping
        return mapping

    def _is_free(self, tcp: bool, port: int, now_ns: int) -> bool:
        holder = self._by_port.get((tcp, port))
        if holder is None:
            return True
        if self._lives(holder, now_ns):
            return False
        del self._by_port[tcp, port], self._by_inside[holder.inside]
        return True

    def shown(self, tcp: bool, address: bytes, port: int) -> tuple[bytes, int] | None:
        """Return what an address and port inside are outside; None where they are nothing yet."""
        mapping = self._by_inside.get((tcp, address, port))
        return None if mapping is None else (self.outside, mapping.port)

    def hidden(self, tcp: bool, port: int) -> tuple[bytes, int] | None:
        """Return the address and port inside that a port outside stands for, if any."""
        mapping = self._by_port.get((tcp, port))
        return None if mapping is None else mapping.inside[1:]

    def translate_error(self, error: IcmpError, outbound: bool) -> None:
        """Translate the addresses of the segment that an error is about (RFC 5508 section 4.2)."""
        if outbound:  # it came in, and had its destination translated
            found = self.shown(True, error.dst, error.dst_port)
            if found is not None:
                error.dst, error.dst_port = found
        elif error.src == self.outside:
            found = self.hidden(True, error.src_port)
            if found is not None:
                error.src, error.src_port = found

    def forget(self) -> None:
        """Forget all mappings, as when it is switched off and on."""
        self._connections.clear()
        self._by_inside.clear()
        self._by_port.clear()
