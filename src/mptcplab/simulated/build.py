"""From a scenario to hosts, conduits and routes in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from ipaddress import IPv4Interface, IPv6Interface
from random import Random

from mptcplab.loop import VirtualLoop
from mptcplab.middleboxes import make_chain
from mptcplab.network.ecmp import Ports
from mptcplab.network.nic_sharing import QUEUE_PACKETS, SharedNic, Way, shared_nics
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.switching import Taken
from mptcplab.network.topology import (
    ETHERNET_HEADER_BYTES,
    VLAN_TAG_BYTES,
    Channel,
    InterfaceEnd,
    Link,
    Path,
    Place,
    Queue,
    SwitchEnd,
    Topology,
)
from mptcplab.network.translation import outsides, seen_as
from mptcplab.scenario.model import Scenario
from mptcplab.scenario.repetition import processing_jitter_ns
from mptcplab.simulated.cpu import PROFILES
from mptcplab.simulated.fabric import Conduit, PortRoutes, Route
from mptcplab.simulated.forwarding import (
    UNLIMITED_BYTES,
    DeadEnd,
    ForwardedRoute,
    Refusals,
)
from mptcplab.simulated.host import Host
from mptcplab.simulated.parcel import Destination
from mptcplab.simulated.stations import BoxStation, Nowhere
from mptcplab.stack.config import StackConfig
from mptcplab.tuning.config import base_config
from mptcplab.wire.icmp import Problem
from mptcplab.wire.segment import Segment

LONGEST_TRAIN_BYTES = 524_280
"""Longest train: how finely a run looks at a fast link."""

TRAINS_PER_WINDOW = 8
"""Into how many trains a window is cut at least: how finely a run looks at a round trip.
bench/bundling.py compares it with runs that look at every packet."""


@cache
def packed_address(address: IPv4Interface | IPv6Interface) -> bytes:
    """Return an address as the stack has it, the same object each time.

    Every segment's way is looked up by it, and an identity is quicker to find than an equal.
    """
    return address.ip.packed


def trains_per_window(scenario: Scenario) -> int:
    """Return into how many trains a window is cut at least; 0 to follow each packet."""
    return TRAINS_PER_WINDOW if scenario.trains and not scenario.captures else 0


def simulated(config: StackConfig, scenario: Scenario) -> StackConfig:
    """Let a configuration have the trains of a simulation."""
    config.trains_per_window = trains_per_window(scenario)
    return config


@dataclass(slots=True)
class Network:
    """The built scenario: hosts by name, conduits by (link, direction).

    ``nics`` are those whose rate is shared by what their links may ask for, by (host, NIC, way),
    ``stations`` the middleboxes at each end, "near" or "far", of a link.
    """

    loop: VirtualLoop
    hosts: dict[str, Host]
    conduits: dict[tuple[str, str], Conduit]
    nics: dict[tuple[str, str, Way], Conduit]
    stations: dict[tuple[str, str], BoxStation] = field(default_factory=dict)


def build(scenario: Scenario, seed: int) -> Network:
    """Build every host and link of the scenario; ``seed`` decides all that is random."""
    loop = VirtualLoop()
    random = Random(seed)
    network = Network(loop, {}, {}, {})
    for host in scenario.topology.hosts:
        config = simulated(base_config(scenario, host.name, LONGEST_TRAIN_BYTES), scenario)
        built = Host(loop, host.name, config, PROFILES[host.cpu], Random(random.random()))
        network.hosts[host.name] = built
        addresses = [
            (interface, packed_address(address))
            for interface in host.interfaces
            for address in interface.addresses
            if interface.multipath
        ]
        for number, (interface, packed) in enumerate(addresses, 1):
            built.stack.add_address(packed, number, interface.name, interface.mtu)
    for link in scenario.topology.links:
        for direction, channel in (("forward", link.forward), ("backward", link.backward)):
            network.conduits[link.name, direction] = Conduit(
                loop,
                link.name,
                direction,
                _parameters(scenario, link, channel),
                Random(random.random()),
                Random(f"processing, {link.name}, {direction}, seed {seed}"),
            )
    for host in scenario.topology.hosts:
        for nic in shared_nics(scenario.topology, host):
            network.nics[host.name, nic.name, nic.way] = _nic_conduit(loop, nic, random)
    _place_boxes(scenario, network, seed)
    _connect(scenario, network)
    _connect_refused(scenario, network)
    return network


def _parameters(scenario: Scenario, link: Link, channel: Channel) -> ChannelParameters:
    """Return what one direction of a link does, with the random time of hosts for packets."""
    jitter_ns = channel.jitter_ns or processing_jitter_ns(scenario, link, channel) // 2
    frame_bytes = link.mtu + ETHERNET_HEADER_BYTES
    parameters = ChannelParameters.of(channel, up=link.up, frame_bytes=frame_bytes)
    return replace(parameters, jitter_ns=jitter_ns)


def _nic_conduit(loop: VirtualLoop, nic: SharedNic, random: Random) -> Conduit:
    """Return the queue of a shared NIC, one way: as long as a network device's on Linux.

    A host of 2012 noticed a drop only when it happened; Linux 3.6 brought TCP small queues,
    which hold the sockets back before.
    """
    limit_bytes = QUEUE_PACKETS * (nic.mtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES)
    parameters = ChannelParameters.of(Channel(nic.rate_bps, queue=Queue(limit_bytes)), up=True)
    return Conduit(loop, nic.name, nic.way, parameters, Random(random.random()))


def _place_boxes(scenario: Scenario, network: Network, seed: int) -> None:
    """Put the middleboxes at the ends of their links."""
    translates = bool(outsides(scenario.topology))
    known = _known_addresses(scenario.topology, network) if translates else {}
    for link in scenario.topology.links:
        there, back = (network.conduits[link.name, way] for way in ("forward", "backward"))
        for end, at, boxes, leaving, coming in (
            ("near", link.a, link.near_boxes, there, back),
            ("far", link.b, link.far_boxes, back, there),
        ):
            if boxes:
                ways = _TranslatedWays(scenario.topology, network, at, leaving, known)
                chain = make_chain(boxes, seed)
                station = BoxStation(network.loop, chain, leaving, ways.outward, ways.inward)
                network.stations[link.name, end] = station
                leaving.near = coming.far = station


def _known_addresses(
    topology: Topology, network: Network
) -> dict[bytes, tuple[Place, Destination]]:
    """Return who has each IPv4 address: hosts, and NATs, which take what is for their inside."""
    known: dict[bytes, tuple[Place, Destination]] = {}
    nowhere = Nowhere()
    for end, outside in outsides(topology).items():
        known[packed_address(outside)] = ((end, outside), nowhere)
    for host in topology.hosts:
        for interface in host.interfaces:
            place = InterfaceEnd(host.name, interface.name)
            for address in interface.addresses:
                known[packed_address(address)] = ((place, address), network.hosts[host.name])
    return known


class _TranslatedWays:
    """The ways of segments that a NAT has translated, worked out when first used."""

    def __init__(
        self,
        topology: Topology,
        network: Network,
        at: InterfaceEnd | SwitchEnd,
        leaving: Conduit,
        known: Mapping[bytes, tuple[Place, Destination]],
    ) -> None:
        self._topology = topology
        self._network = network
        self._at = at
        self._leaving = leaving
        self._known = known
        self._ways: dict[tuple[bytes, bytes, int, int], Destination | None] = {}

    def outward(self, segment: Segment) -> Destination | None:
        """Return the way to the other end, where it begins with the NAT's own link."""
        way = self._way(segment)
        begins = isinstance(way, Route) and way.first is self._leaving
        return way if begins else None

    def inward(self, segment: Segment) -> Destination | None:
        """Return the way to the address inside."""
        return self._way(segment)

    def _way(self, segment: Segment) -> Destination | None:
        key = (segment.src, segment.dst, segment.src_port, segment.dst_port)
        if key not in self._ways:
            self._ways[key] = self._find(segment)
        return self._ways[key]

    def _find(self, segment: Segment) -> Destination | None:
        if segment.dst not in self._known or not isinstance(self._at, InterfaceEnd):
            return None
        (end, address), host = self._known[segment.dst]
        if end.host == self._at.host:
            return host
        own = outsides(self._topology)[self._at]
        ports = (segment.src_port, segment.dst_port)
        steps = self._topology.way((self._at, own), (end, address), ports)
        if not steps:
            return None
        conduits = tuple(self._network.conduits[step] for step in steps)
        sender = self._known.get(segment.src, ((self._at, own), Nowhere()))
        ways = _Ways(self._topology, self._network, sender, self._at.host)
        return ways.route(
            (segment.src, segment.dst), conduits, steps, ETHERNET_HEADER_BYTES, (host, 0)
        )


class _Ways:
    """Makes routes from one place, and finds the ways of errors back there."""

    def __init__(
        self,
        topology: Topology,
        network: Network,
        sender: tuple[Place, Destination],
        start: str = "",
    ) -> None:
        """Take where the sender is, and who is told of errors; ``start`` is the node where routes
        begin if that is not the sender.
        """
        self._topology = topology
        self._network = network
        self._place, self._sender = sender
        self._start = start or self._place[0].host
        self._back: dict[str, tuple[tuple[Conduit, ...], Destination] | None] = {}

    def route(
        self,
        addresses: tuple[bytes, bytes],
        conduits: tuple[Conduit, ...],
        steps: tuple[tuple[str, str], ...],
        frame_header_bytes: int,
        end: tuple[Destination, int],
    ) -> Route:
        """Return the route over ``conduits``, which contain those of ``steps``.

        ``end`` is the host there, and how long its interface collects packets (ns).
        """
        arguments = (*addresses, conduits, frame_header_bytes, *end)
        topology = self._topology
        if not topology.narrow_ends:
            return Route(*arguments)
        limits = [UNLIMITED_BYTES] * len(conduits)
        routers = [""] * len(conduits)
        first = conduits.index(self._network.conduits[steps[0]])
        for place, near in enumerate(topology.forwarders(self._start, steps), first):
            if near is not None and near in topology.narrow_ends:
                routers[place] = near.host
                limits[place] = topology.interface_at(near).mtu
        if not any(routers):
            return Route(*arguments)
        route = ForwardedRoute(*arguments)
        route.forward_by(tuple(routers), tuple(limits), Refusals(self.back))
        return route

    def back(self, router: str) -> tuple[tuple[Conduit, ...], Destination] | None:
        """Return the links from a router to the sender, and the sender."""
        if router not in self._back:
            self._back[router] = self._find_back(router)
        return self._back[router]

    def _find_back(self, router: str) -> tuple[tuple[Conduit, ...], Destination] | None:
        version = self._place[1].version
        own = next(
            (InterfaceEnd(router, interface.name), address)
            for interface in self._topology.node(router).interfaces
            for address in interface.addresses
            if address.version == version
        )
        if own[0].host == self._place[0].host:
            return (), self._sender
        steps = self._topology.way(own, self._place)
        if steps is None:
            return None
        return tuple(self._network.conduits[step] for step in steps), self._sender


def _connect_refused(scenario: Scenario, network: Network) -> None:
    """Give hosts their routes to addresses that a router on the way has no route to."""
    topology = scenario.topology
    if not topology.routers:
        return
    for here, there in scenario.host_pairs():
        routes = network.hosts[here].routes
        for start in topology.places(here):
            for end in topology.places(there):
                local, remote = packed_address(start[1]), packed_address(end[1])
                refusal = topology.refusal(start, end)
                if refusal is None or remote in routes.get(local, {}):
                    continue
                steps, router = refusal
                ways = _Ways(topology, network, (start, network.hosts[here]))
                explicit = topology.routing.explicit(router, end[1].ip)
                problem = Problem.NO_ROUTE if explicit is None else Problem.HOST
                dead_end = DeadEnd(router, problem, Refusals(ways.back))
                conduits = tuple(network.conduits[step] for step in steps)
                routes.setdefault(local, {})[remote] = Route(
                    local, remote, conduits, ETHERNET_HEADER_BYTES, dead_end, 0
                )


def _connect(scenario: Scenario, network: Network) -> None:
    """Give the hosts of each flow their routes to one another's addresses."""
    topology = scenario.topology
    for here, there in scenario.host_pairs():
        for path in topology.paths(here, there, multipath=False):
            if not path.links:  # a switch alone carries no flow: see Scenario.paths
                continue
            routes = network.hosts[here].routes
            local = packed_address(path.local_address)
            remote = packed_address(path.remote_address)
            route = _route(topology, path, network)
            if path.by_ports:
                route.by_ports = PortRoutes(partial(_route_on_ports, topology, path, network))
            routes.setdefault(local, {})[remote] = route
            _connect_outside(topology, path, network)


def links_by_ports(scenario: Scenario, network: Network) -> list[Taken]:
    """Return by which links switches have sent the flows on that they chose one for by ports."""
    topology = scenario.topology
    taken = set()
    for here, there in scenario.host_pairs():
        for path in topology.paths(here, there, multipath=False):
            local, remote = packed_address(path.local_address), packed_address(path.remote_address)
            route = network.hosts[here].routes.get(local, {}).get(remote)
            if not path.by_ports or route is None or route.by_ports is None:
                continue
            source, target = str(path.local_address.ip), str(path.remote_address.ip)
            for ports in route.by_ports.used:
                for switch, link in topology.choices(topology.on_ports(path, ports)):
                    taken.add(Taken(switch, source, ports[0], target, ports[1], link))
    return sorted(taken)


def _connect_outside(topology: Topology, path: Path, network: Network) -> None:
    """Give the far host of a path the route to the address that it sees in the place of the near
    one's.
    """
    seen = seen_as(topology, path)
    if seen is None:
        return
    here, there = network.hosts[path.local.host], network.hosts[path.remote.host]
    local, remote = packed_address(path.remote_address), packed_address(seen[1])

    def on_ports(ports: Ports | None) -> Route | None:
        steps = topology.way((path.remote, path.remote_address), seen, ports)
        if not steps:
            return None
        conduits = tuple(network.conduits[step] for step in steps)
        sender = network.nics.get((path.remote.host, topology.interface_at(path.remote).nic, "out"))
        ways = _Ways(topology, network, ((path.remote, path.remote_address), there))
        return ways.route(
            (local, remote),
            conduits if sender is None else (sender, *conduits),
            steps,
            _frame_header_bytes(topology, path),
            (Nowhere(), here.stack.config.receive_coalescing_ns),
        )

    route = on_ports(None)
    if route is None:
        return
    if path.by_ports:
        route.by_ports = PortRoutes(lambda source, target: on_ports((source, target)) or route)
    there.routes.setdefault(local, {})[remote] = route


def _route(topology: Topology, path: Path, network: Network) -> Route:
    here, there = network.hosts[path.local.host], network.hosts[path.remote.host]
    ways = _Ways(topology, network, ((path.local, path.local_address), here))
    return ways.route(
        (packed_address(path.local_address), packed_address(path.remote_address)),
        _conduits(topology, path, network),
        topology.directions(path),
        _frame_header_bytes(topology, path),
        (there, there.stack.config.receive_coalescing_ns),
    )


def _route_on_ports(
    topology: Topology, path: Path, network: Network, source_port: int, destination_port: int
) -> Route:
    on_ports = topology.on_ports(path, (source_port, destination_port))
    return _route(topology, on_ports, network)


def _conduits(topology: Topology, path: Path, network: Network) -> tuple[Conduit, ...]:
    """Return what a segment passes: the sender's NIC and the receiver's where shared, and links."""
    sender = network.nics.get((path.local.host, topology.interface_at(path.local).nic, "out"))
    receiver = network.nics.get((path.remote.host, topology.interface_at(path.remote).nic, "in"))
    links = tuple(network.conduits[step] for step in topology.directions(path))
    before = () if sender is None else (sender,)
    return (*before, *links) if receiver is None else (*before, *links, receiver)


def _frame_header_bytes(topology: Topology, path: Path) -> int:
    tagged = topology.interface_at(path.local).vlan is not None
    return ETHERNET_HEADER_BYTES + (VLAN_TAG_BYTES if tagged else 0)
