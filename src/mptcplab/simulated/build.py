"""From a scenario to hosts, conduits and routes in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from ipaddress import IPv4Interface, IPv6Interface
from random import Random

from mptcplab.loop import VirtualLoop
from mptcplab.network.nic_sharing import QUEUE_PACKETS, SharedNic, Way, shared_nics
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.topology import (
    ETHERNET_HEADER_BYTES,
    VLAN_TAG_BYTES,
    Channel,
    Link,
    Path,
    Queue,
    Topology,
)
from mptcplab.scenario.model import Scenario
from mptcplab.scenario.repetition import processing_jitter_ns
from mptcplab.simulated.cpu import PROFILES
from mptcplab.simulated.fabric import Conduit, PortRoutes, Route
from mptcplab.simulated.host import Host
from mptcplab.stack.config import StackConfig
from mptcplab.tuning.config import base_config

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

    ``nics`` are those whose rate is shared by what their links may ask for, by (host, NIC, way).
    """

    loop: VirtualLoop
    hosts: dict[str, Host]
    conduits: dict[tuple[str, str], Conduit]
    nics: dict[tuple[str, str, Way], Conduit]


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
    _connect(scenario, network)
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


def _route(topology: Topology, path: Path, network: Network) -> Route:
    there = network.hosts[path.remote.host]
    return Route(
        packed_address(path.local_address),
        packed_address(path.remote_address),
        _conduits(topology, path, network),
        _frame_header_bytes(topology, path),
        there,
        there.stack.config.receive_coalescing_ns,
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
