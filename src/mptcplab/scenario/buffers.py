"""The buffers that flows need: equations 4, 5 and 6 of the report (sections 2.3.6 and 3.3.6).

The report takes the round-trip time of the links alone.  A sender that fills the queue of its
slowest link adds that to the round trip, and to what is in flight: what is needed is more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mptcplab.network.topology import ETHERNET_HEADER_BYTES, Channel, Path, Topology
from mptcplab.scenario.model import Flow, Scenario

_BITS_NS = 8 * 1_000_000_000

AUTOTUNED_SEND_BYTES = 4 << 20
AUTOTUNED_RECEIVE_BYTES = 6 << 20
"""What autotuning reaches where nothing else is set: the third values of tcp_wmem and tcp_rmem that
Linux chooses with a gigabyte of memory and more (net/ipv4/tcp.c, tcp_init), and our stack's."""


@dataclass(frozen=True, slots=True)
class BufferNeed:
    """What one connection of a flow needs.

    ``equation`` is the report's, and ``equation_bytes`` what it asks for with ``rtt_ns``, the round
    trip of the links alone; ``needed_bytes`` is the same with ``full_rtt_ns``, while the queues of
    the paths' slowest links are full.  ``given_bytes`` is the smaller of its two buffers; where
    that is ``autotuned``, the most that it may become.
    """

    flow: str
    equation: int
    rtt_ns: int
    full_rtt_ns: int
    rate_bps: int
    equation_bytes: int
    needed_bytes: int
    given_bytes: int
    autotuned: bool

    @property
    def short(self) -> bool:
        """Whether the given buffer is less than what is needed with full queues."""
        return self.given_bytes < self.needed_bytes

    @property
    def bounds(self) -> bool:
        """Whether the given buffer keeps the links from being filled, queues or not."""
        return self.given_bytes < self.equation_bytes


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
        if flow.workload is not None:  # what holds it back is the application
            continue
        subflows = scenario.expected_subflows(flow)
        if flow.application == "striped":
            subflows = scenario.paths(flow)
        routes = {path.links: path for path in subflows}
        rates = {links: path_rate_bps(scenario, flow, path) for links, path in routes.items()}
        known = [rate for rate in rates.values() if rate is not None]
        rtt_ns = max((_rtt(scenario.topology, path) for path in subflows), default=0)
        full_ns = max(
            (
                _rtt(scenario.topology, path) + _queue_ns(scenario, flow, path, rates[path.links])
                for path in subflows
            ),
            default=0,
        )
        if not rtt_ns or len(known) < len(rates):
            continue
        multipath = flow.protocol == "mptcp" and len(subflows) > 1
        asked, needed = (
            mptcp_buffer_bytes(each, known) if multipath else tcp_buffer_bytes(each, max(known))
            for each in (rtt_ns, full_ns)
        )
        given, autotuned = _given(scenario, flow)
        needs.append(
            BufferNeed(
                flow.name,
                5 if multipath else 4,
                rtt_ns,
                full_ns,
                sum(known) if multipath else max(known),
                asked,
                needed,
                given,
                autotuned,
            )
        )
    return tuple(needs)


def _rtt(topology: Topology, path: Path) -> int:
    return sum(topology.link(name).rtt_ns for name in path.links)


def path_rate_bps(scenario: Scenario, flow: Flow, path: Path) -> int | None:
    """Return the rate of the slowest part of a path in the direction of the data."""
    topology = scenario.topology
    rates = [channel.rate_bps for channel in _data_channels(scenario, flow, path)]
    rates += [topology.nic_at(end).rate_bps for end in (path.local, path.remote)]
    return min((rate for rate in rates if rate is not None), default=None)


def _queue_ns(scenario: Scenario, flow: Flow, path: Path, rate_bps: int | None) -> int:
    """Return how long the queue of a path's slowest link takes to send when it is full (ns)."""
    longest = 0
    for name, channel in zip(path.links, _data_channels(scenario, flow, path), strict=True):
        if rate_bps is None or channel.rate_bps != rate_bps:
            continue
        queue = channel.queue
        frame_bytes = scenario.topology.link(name).mtu + ETHERNET_HEADER_BYTES
        limits = [] if queue.limit_bytes is None else [queue.limit_bytes]
        if queue.limit_packets is not None:
            limits.append(queue.limit_packets * frame_bytes)
        longest = max(longest, min(limits, default=0) * _BITS_NS // rate_bps)
    return longest


def _data_channels(scenario: Scenario, flow: Flow, path: Path) -> list[Channel]:
    """Return the channels of a path's links in the direction of the data."""
    topology = scenario.topology
    channels = []
    for name, direction in topology.directions(path):
        link = topology.link(name)
        forward = (direction == "forward") == (flow.client == flow.source)
        channels.append(link.forward if forward else link.backward)
    return channels


def _given(scenario: Scenario, flow: Flow) -> tuple[int, bool]:
    """Return the smaller buffer of a connection, and whether it is autotuned."""
    sender = scenario.tunables[flow.source].send_buffer_max_bytes or AUTOTUNED_SEND_BYTES
    receiver = (
        scenario.tunables[flow.destination].receive_buffer_max_bytes or AUTOTUNED_RECEIVE_BYTES
    )
    return min(
        (flow.send_buffer_bytes or sender, flow.send_buffer_bytes is None),
        (flow.receive_buffer_bytes or receiver, flow.receive_buffer_bytes is None),
    )
