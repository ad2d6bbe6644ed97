"""Boxes that cut packets, or join them: the stream stays what it is."""

from __future__ import annotations

from typing import Final

from mptcplab.middleboxes.box import Middlebox
from mptcplab.middleboxes.packets import FlowKey, flow_of, is_tcp, packets_of
from mptcplab.middleboxes.selective import directions
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.seq import seq_add
from mptcplab.wire.packet import split_train
from mptcplab.wire.segment import FIN, PSH, RST, SYN, URG, Segment

_UNJOINED: Final = SYN | RST | URG
_LAST: Final = PSH | FIN  # nothing is waited for behind these


class Split(Middlebox):
    """Cuts packets of more payload than ``size_bytes``, each part with the options of the whole.

    That is what segmentation offload does (net/ipv4/tcp_offload.c), and what RFC 8684 section
    3.3.1 has mappings survive.
    """

    __slots__ = ("_directions",)

    def __init__(self, plan: MiddleboxPlan) -> None:
        super().__init__(plan)
        self._directions = directions(plan)

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:  # noqa: ARG002
        """Cut each of its packets."""
        size = self.plan.size_bytes
        longest = min(segment.segment_size_bytes or segment.payload_bytes, segment.payload_bytes)
        if not self._directions[outbound] or not is_tcp(segment) or longest <= size:
            return [segment]
        if longest % size == 0:  # the packets begin where those of the train do
            whole = segment.payload_bytes // longest
            rest = segment.payload_bytes - whole * longest
            self.tallies[outbound].changed += whole + (1 if rest > size else 0)
            segment.segment_size_bytes = size
            return [segment]
        out = []
        for packet in packets_of(segment):
            if packet.payload_bytes > size:
                self.tallies[outbound].changed += 1
                packet.segment_size_bytes = size
                parts = split_train(packet)
                for part in parts:
                    part.late_ns = packet.late_ns
                out += parts
            else:
                out.append(packet)
        return out


class _Held:
    """A packet that waits for the next one."""

    __slots__ = ("deadline_ns", "outbound", "segment")

    def __init__(self, segment: Segment, outbound: bool, deadline_ns: int) -> None:
        self.segment = segment
        self.outbound = outbound
        self.deadline_ns = deadline_ns


class Merge(Middlebox):
    """Joins packets of a flow that follow one another, up to ``size_bytes`` of payload.

    Packets stay apart that differ in their acknowledgment or in a TCP option, as receive offload
    has it (net/ipv4/tcp_offload.c, ``tcp_gro_receive``); so mappings survive. A ``blind`` box joins
    them all the same and keeps the options of the first: data then lose their mappings.
    """

    __slots__ = ("_directions", "_held")

    def __init__(self, plan: MiddleboxPlan) -> None:
        super().__init__(plan)
        self._directions = directions(plan)
        self._held: dict[FlowKey, _Held] = {}

    def treat(self, segment: Segment, outbound: bool, now_ns: int) -> list[Segment]:
        """Join what can be joined, and hold what may be."""
        if not self._directions[outbound] or not is_tcp(segment):
            return [segment]
        flow = flow_of(segment)
        if flow not in self._held and not self._may_be_joined(segment):
            return [segment]
        out: list[Segment] = []
        for packet in packets_of(segment):
            self._take(flow, packet, outbound, now_ns, out)
        return out

    def _may_be_joined(self, segment: Segment) -> bool:
        """Say whether any of its packets may be joined to another; their sizes decide."""
        size = segment.segment_size_bytes or segment.payload_bytes
        last = segment.payload_bytes % size if size else 0
        if not segment.payload_bytes or segment.flags & _UNJOINED:
            return False
        return (
            2 * size <= self.plan.size_bytes
            or (last > 0 and not segment.flags & _LAST)
            or (segment.packets == 1 and size < self.plan.size_bytes and not segment.flags & _LAST)
        )

    def _take(
        self, flow: FlowKey, packet: Segment, outbound: bool, now_ns: int, out: list[Segment]
    ) -> None:
        held = self._held.pop(flow, None)
        if held is not None and self._joins(held.segment, packet):
            _join(held.segment, packet)
            self.tallies[outbound].changed += 1
            packet = held.segment
        elif held is not None:
            held.segment.late_ns = packet.late_ns
            out.append(held.segment)
            held = None
        full = packet.payload_bytes >= self.plan.size_bytes
        if not packet.payload_bytes or packet.flags & (_UNJOINED | _LAST) or full:
            out.append(packet)
            return
        deadline_ns = now_ns - packet.late_ns + self.plan.hold_ns
        if held is not None:
            deadline_ns = held.deadline_ns
        self._held[flow] = _Held(packet, outbound, deadline_ns)

    def _joins(self, held: Segment, packet: Segment) -> bool:
        return (
            packet.payload_bytes > 0
            and held.payload_bytes + packet.payload_bytes <= self.plan.size_bytes
            and not packet.flags & _UNJOINED
            and packet.seq == seq_add(held.seq, held.payload_bytes)
            and (self.plan.blind or _same_headers(held, packet))
        )

    def forget(self) -> None:
        """Let what it holds go at once."""
        for held in self._held.values():
            held.deadline_ns = 0

    @property
    def deadline_ns(self) -> int | None:
        """When the first packet has waited for long enough."""
        return min((held.deadline_ns for held in self._held.values()), default=None)

    def expire(self, now_ns: int) -> list[tuple[Segment, bool]]:
        """Return the packets that have waited for long enough."""
        due = [flow for flow, held in self._held.items() if held.deadline_ns <= now_ns]
        released = []
        for flow in due:
            held = self._held.pop(flow)
            held.segment.late_ns = 0
            released.append((held.segment, held.outbound))
        return released


def _same_headers(one: Segment, other: Segment) -> bool:
    return (
        one.ack == other.ack
        and one.mptcp == other.mptcp
        and (one.ts_val, one.ts_ecr, one.sack) == (other.ts_val, other.ts_ecr, other.sack)
        and one.raw_options == other.raw_options
        and (one.ecn, one.dscp) == (other.ecn, other.dscp)
    )


def _join(first: Segment, second: Segment) -> None:
    """Append a packet to the one before it."""
    if first.payload is not None or second.payload is not None:
        parts = [
            bytes(part.payload_bytes) if part.payload is None else bytes(part.payload)
            for part in (first, second)
        ]
        first.payload = b"".join(parts)
    first.payload_bytes += second.payload_bytes
    first.segment_size_bytes = 0
    first.flags |= second.flags
    first.ack, first.window = second.ack, second.window
    first.late_ns, first.spread_ns = second.late_ns, 0
