"""The buffers that flows need: equations 4, 5 and 6 of the report (sections 2.3.6 and 3.3.6).

The report takes the round-trip time of the links alone.  A sender that fills the queue of its
slowest link adds that to the round trip, and to what is in flight: what is needed is more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mptcplab.network.topology import ETHERNET_HEADER_BYTES, Channel, Path, Topology
from mptcplab.scenario.model import Flow, Scenario
from mptcplab.units import BITS_NS

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
    return rtt_ns * rate_bps // BITS_NS


def mptcp_buffer_bytes(rtt_ns: int, rates_bps: Iterable[int]) -> int:
    """Return equations 5 and 6: the largest RTT times the rates of all links, twice.

    Twice, so that all paths keep sending while any is in fast retransmit.
    """
    return 2 * rtt_ns * sum(rates_bps) // BITS_NS


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
        known = _together_bps(scenario, flow, tuple(routes.values()))
        rtt_ns = max((scenario.topology.rtt_ns(path) for path in subflows), default=0)
        full_ns = max(
            (scenario.topology.rtt_ns(path) + queue_ns(scenario, flow, path) for path in subflows),
            default=0,
        )
        if not rtt_ns or None in rates.values():
            continue
        multipath = (flow.protocol == "mptcp" or flow.cmt) and len(subflows) > 1
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


def path_rate_bps(scenario: Scenario, flow: Flow, path: Path) -> int | None:
    """Return the rate of the slowest part of a path in the direction of the data."""
    return min(_rated_parts(scenario, flow, path).values(), default=None)


def _rated_parts(scenario: Scenario, flow: Flow, path: Path) -> dict[str, int]:
    """Return the rates of a path's links and NICs that have one, in the direction of the data."""
    topology = scenario.topology
    names = [name for name, _ in data_directions(topology, flow, path)]
    channels = _data_channels(scenario, flow, path)
    rates = {name: channel.rate_bps for name, channel in zip(names, channels, strict=True)}
    for end in (path.local, path.remote):
        nic = topology.nic_at(end)
        rates[f"{end.host}:{nic.name}"] = nic.rate_bps
    return {name: rate_bps for name, rate_bps in rates.items() if rate_bps is not None}


def _together_bps(scenario: Scenario, flow: Flow, paths: Sequence[Path]) -> list[int]:
    """Return what each of a flow's paths carries while all send: links and NICs that several have
    in common carry their rate once. Paths that share least come first, which carries most."""
    parts = [_rated_parts(scenario, flow, path) for path in paths]
    users = Counter(name for rates in parts for name in rates)
    left = {name: rate_bps for rates in parts for name, rate_bps in rates.items()}
    carried = []
    for rates in sorted(parts, key=lambda rates: sum(users[name] - 1 for name in rates)):
        rate_bps = min((left[name] for name in rates), default=0)
        carried.append(rate_bps)
        for name in rates:
            left[name] -= rate_bps
    return carried


def queue_ns(scenario: Scenario, flow: Flow, path: Path) -> int:
    """Return how long the queue of a path's slowest link takes to send when it is full (ns)."""
    longest = 0
    rate_bps = path_rate_bps(scenario, flow, path)
    directions = data_directions(scenario.topology, flow, path)
    for (name, _), channel in zip(directions, _data_channels(scenario, flow, path), strict=True):
        if rate_bps is None or channel.rate_bps != rate_bps:
            continue
        queue = channel.queue
        frame_bytes = scenario.topology.link(name).mtu + ETHERNET_HEADER_BYTES
        limits = [] if queue.limit_bytes is None else [queue.limit_bytes]
        if queue.limit_packets is not None:
            limits.append(queue.limit_packets * frame_bytes)
        longest = max(longest, min(limits, default=0) * BITS_NS // rate_bps)
    return longest


def _data_channels(scenario: Scenario, flow: Flow, path: Path) -> list[Channel]:
    """Return the channels of a path's links in the direction of the data."""
    topology = scenario.topology
    channels = []
    for name, direction in data_directions(topology, flow, path):
        link = topology.link(name)
        channels.append(link.forward if direction == "forward" else link.backward)
    return channels


def data_directions(topology: Topology, flow: Flow, path: Path) -> tuple[tuple[str, str], ...]:
    """Return the links that a flow's data pass on a path, from its client's side outward, each with
    its direction.
    """
    if flow.client == flow.source:
        return topology.directions(path)
    return topology.directions_back(path)[::-1]


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
