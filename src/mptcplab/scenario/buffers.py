"""The buffers that flows need: equations 4, 5 and 6 of the report (sections 2.3.6 and 3.3.6).

The round-trip time is that of the links alone; queues that fill add to it, and to the need.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mptcplab.network.topology import Path, Topology
from mptcplab.scenario.model import Flow, Scenario

_BITS_NS = 8 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class BufferNeed:
    """What one connection of a flow needs; ``given_bytes`` is the smaller of its two buffers.

    ``given_bytes`` is None where the buffers are autotuned without a limit of ours;
    ``equation`` is the report's.
    """

    flow: str
    equation: int
    rtt_ns: int
    rate_bps: int
    needed_bytes: int
    given_bytes: int | None

    @property
    def short(self) -> bool:
        """Whether the given buffer is less than the equation asks for."""
        return self.given_bytes is not None and self.given_bytes < self.needed_bytes


def tcp_buffer_bytes(rtt_ns: int, rate_bps: int) -> int:
    """Return equation 4: the RTT times the rate of the link."""
    return rtt_ns * rate_bps // _BITS_NS


def mptcp_buffer_bytes(rtt_ns: int, rates_bps: Iterable[int]) -> int:
    """Return equations 5 and 6: the largest RTT times the rates of all links, twice.

    Twice, so that all paths keep sending while any is in fast retransmit.
    """
    return 2 * rtt_ns * sum(rates_bps) // _BITS_NS


def buffer_needs(scenario: Scenario) -> tuple[BufferNeed, ...]:
    """Return the need of each flow; flows over links without rate or delay are left out."""
    needs = []
    for flow in scenario.flows:
        subflows = scenario.expected_subflows(flow)
        if flow.application == "striped":
            subflows = scenario.paths(flow)
        routes = {path.links: path for path in subflows}
        rates = {links: _rate(scenario, flow, path) for links, path in routes.items()}
        known = [rate for rate in rates.values() if rate is not None]
        rtt_ns = max((_rtt(scenario.topology, path) for path in subflows), default=0)
        if not rtt_ns or len(known) < len(rates):
            continue
        multipath = flow.protocol == "mptcp" and len(subflows) > 1
        needed = (
            mptcp_buffer_bytes(rtt_ns, known) if multipath else tcp_buffer_bytes(rtt_ns, max(known))
        )
        needs.append(
            BufferNeed(
                flow.name,
                5 if multipath else 4,
                rtt_ns,
                sum(known) if multipath else max(known),
                needed,
                _given(scenario, flow),
            )
        )
    return tuple(needs)


def _rtt(topology: Topology, path: Path) -> int:
    return sum(topology.link(name).rtt_ns for name in path.links)


def _rate(scenario: Scenario, flow: Flow, path: Path) -> int | None:
    """Return the rate of the slowest part of a path in the direction of the data."""
    topology = scenario.topology
    rates = []
    for name, direction in topology.directions(path):
        link = topology.link(name)
        outward = link.forward if direction == "forward" else link.backward
        inward = link.backward if direction == "forward" else link.forward
        rates.append((outward if flow.client == flow.source else inward).rate_bps)
    for end in (path.local, path.remote):
        nic = topology.interface_at(end).nic
        rates += [each.rate_bps for each in topology.host(end.host).nics if each.name == nic]
    return min((rate for rate in rates if rate is not None), default=None)


def _given(scenario: Scenario, flow: Flow) -> int | None:
    sender = scenario.tunables[flow.source].send_buffer_max_bytes
    receiver = scenario.tunables[flow.destination].receive_buffer_max_bytes
    sizes = (flow.send_buffer_bytes or sender, flow.receive_buffer_bytes or receiver)
    return min((size for size in sizes if size is not None), default=None)
