"""From a scenario to hosts, conduits and routes in virtual time."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from mptcplab.loop import VirtualLoop
from mptcplab.network.nic_sharing import QUEUE_PACKETS, SharedNic, Way, shared_nics
from mptcplab.network.parameters import ChannelParameters
from mptcplab.network.topology import (
    ETHERNET_HEADER_BYTES,
    VLAN_TAG_BYTES,
    Channel,
    Path,
    Queue,
    Topology,
)
from mptcplab.scenario.model import Flow, Scenario, Tunables
from mptcplab.simulated.cpu import PROFILES
from mptcplab.simulated.fabric import Conduit, Route
from mptcplab.simulated.host import Host
from mptcplab.simulated.policies import congestion_for, path_manager_for, scheduler_for
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.path_managers import InitialOnly

MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000
LONGEST_TRAIN_BYTES = 524_280
"""Longest train, bounded further by a millisecond of sending and a third of what is in flight:
Linux's GSO_MAX_SIZE (8 * 65,535), which BIG TCP allows since 6.3 (5.19 for IPv6).  How finely a run
looks at a fast link, for hosts of every year: with 64 KiB it says the same and takes longer.
"""

RECEIVE_BUFFER_SHARE = 2
"""Half of a receive buffer is window; the rest is for what packets take besides their payload, a
packet of 1,400 bytes 2,304 in all. Linux offers as much from 3.4 to 6.2 (tcp_adv_win_scale 1). The
report's 3.2 offered three quarters, which no buffer full of such packets holds. Since 6.3 the share
follows from the packets: Linux 6.18 was seen to offer 0.67 to 0.76 on these links."""


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
        config = base_config(scenario, host.name)
        built = Host(loop, host.name, config, PROFILES[host.cpu], Random(random.random()))
        network.hosts[host.name] = built
        addresses = [
            (interface, address.ip.packed)
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
                ChannelParameters.of(channel, up=link.up),
                Random(random.random()),
            )
    for host in scenario.topology.hosts:
        for nic in shared_nics(scenario.topology, host):
            network.nics[host.name, nic.name, nic.way] = _nic_conduit(loop, nic, random)
    _connect(scenario.topology, network)
    return network


def _nic_conduit(loop: VirtualLoop, nic: SharedNic, random: Random) -> Conduit:
    """Return the queue of a shared NIC, one way: as long as a network device's on Linux.

    A host of 2012 was told of a drop only when it happened; Linux 3.6 brought TCP small queues,
    which hold the sockets back before.
    """
    limit_bytes = QUEUE_PACKETS * (nic.mtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES)
    parameters = ChannelParameters.of(Channel(nic.rate_bps, queue=Queue(limit_bytes)), up=True)
    return Conduit(loop, nic.name, nic.way, parameters, Random(random.random()))


def _connect(topology: Topology, network: Network) -> None:
    """Give every host its routes to every address that links lead to."""
    for here in topology.hosts:
        for there in topology.hosts:
            if here.name == there.name:
                continue
            for path in topology.paths(here.name, there.name, multipath=False):
                if not path.links:  # a switch alone carries no flow: see Scenario.paths
                    continue
                routes = network.hosts[here.name].routes
                to_remote = routes.setdefault(path.local_address.ip.packed, {})
                to_remote[path.remote_address.ip.packed] = Route(
                    _conduits(topology, path, network),
                    _frame_header_bytes(topology, path),
                    network.hosts[there.name],
                )


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


def base_config(scenario: Scenario, host: str) -> StackConfig:
    """Return what a host's tunables make of the stack's configuration."""
    tunables = scenario.tunables.get(host, Tunables())
    config = StackConfig(NewReno, scheduler_for(scenario, host), InitialOnly)
    config.mptcp = tunables.enabled
    config.train_bytes = LONGEST_TRAIN_BYTES
    config.checksum = tunables.checksum
    config.mss_bytes = tunables.mss or 0
    if tunables.receive_buffer_max_bytes is not None:
        config.receive_buffer_max_bytes = window_of(tunables.receive_buffer_max_bytes)
    if tunables.send_buffer_max_bytes is not None:
        config.send_buffer_max_bytes = tunables.send_buffer_max_bytes
    if tunables.rto_max_ms is not None:
        config.max_rto_ns = tunables.rto_max_ms * MILLISECOND_NS
    if tunables.retries2 is not None:
        config.retries = tunables.retries2
    if tunables.stale_loss_cnt is not None:
        config.stale_loss_count = tunables.stale_loss_cnt
    if tunables.close_timeout_s is not None:
        config.close_timeout_ns = tunables.close_timeout_s * SECOND_NS
    if tunables.add_addr_timeout_s is not None:
        config.add_addr_timeout_ns = tunables.add_addr_timeout_s * SECOND_NS
    return config


def flow_config(scenario: Scenario, flow: Flow, host: str) -> StackConfig:
    """Return the configuration of a flow's connections at one of its hosts."""
    config = base_config(scenario, host)
    config.mptcp = config.mptcp and flow.protocol == "mptcp"
    config.congestion = congestion_for(scenario, flow)
    config.path_manager = path_manager_for(scenario, flow, host)
    config.max_subflows = max(8, len(scenario.expected_subflows(flow)) + 1)
    if flow.send_buffer_bytes is not None:
        config.send_buffer_bytes, config.send_buffer_max_bytes = flow.send_buffer_bytes, 0
    if flow.receive_buffer_bytes is not None:
        config.receive_buffer_bytes = window_of(flow.receive_buffer_bytes)
        config.receive_buffer_max_bytes = 0
    return config


def window_of(buffer_bytes: int) -> int:
    """Return the window that a receive buffer of this size, as getsockopt tells it, allows."""
    return buffer_bytes // RECEIVE_BUFFER_SHARE
