"""What makes a namespace a router, and which routers hosts hand their packets to.

Routes are those of :mod:`mptcplab.network.routing`, written out: on a router one to each subnet
that hosts are on, with all its next hops, among which the kernel's own hash chooses as that module
says (``net.ipv4.fib_multipath_hash_seed``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.netlink import Request
from mptcplab.network.ecmp import router_seed
from mptcplab.network.topology import Host, Interface, InterfaceEnd, Router, Topology
from mptcplab.network.translation import outsides

_ANYWHERE: Final[dict[int, rtnl.Network]] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
_SEED: Final = "net.ipv4.fib_multipath_hash_seed"
_BY_FIELDS: Final = "3"
"""The policy that reads the packet itself. Policy 1, ports too, takes the hash of the sender's
socket where a packet still has it, as across veth: it is random, and another after a timeout."""
_TUPLE: Final = "55"  # FIB_MULTIPATH_HASH_FIELD_*: addresses, protocol and ports (Linux 5.14)
SEEDLESS_NOTE: Final = (
    "this kernel chooses among equal ways by a seed of its own (net.ipv4.fib_multipath_hash_seed "
    "came with Linux 6.11), so that flows may take other ways than `check` says"
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The router that a host hands packets to, from one of its addresses to a network."""

    source: rtnl.InterfaceAddress
    network: rtnl.Network
    gateway: rtnl.InterfaceAddress


def router_sysctls(topology: Topology, router: Router) -> dict[str, str]:
    """Return the sysctls that make a namespace a router."""
    policy = _BY_FIELDS if router.ecmp == "ports" else "0"
    values = {
        "net.ipv4.ip_forward": "1",
        "net.ipv4.conf.all.arp_ignore": "1",
        "net.ipv4.conf.all.arp_announce": "2",
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.default.rp_filter": "0",
        "net.ipv4.conf.all.send_redirects": "0",
        "net.ipv4.conf.default.send_redirects": "0",
        "net.ipv4.fib_multipath_hash_fields": _TUPLE,
        "net.ipv4.fib_multipath_hash_policy": policy,
    }
    if has_seeds():
        values[_SEED] = str(router_seed(topology.seed, router.name))
    if Path("/proc/sys/net/ipv6").exists():
        values |= {
            "net.ipv6.conf.all.forwarding": "1",
            "net.ipv6.conf.default.accept_dad": "0",
            "net.ipv6.conf.all.keep_addr_on_down": "1",
            "net.ipv6.fib_multipath_hash_fields": _TUPLE,
            "net.ipv6.fib_multipath_hash_policy": policy,
        }
    return values


def has_seeds() -> bool:
    """Return whether the kernel lets a namespace choose the seed of its multipath hash."""
    return Path("/proc/sys", *_SEED.split(".")).exists()


def router_requests(
    topology: Topology, router: Router, devices: Mapping[str, rtnl.Device]
) -> Iterator[Request]:
    """Yield what makes the routes of a router, whose interfaces are up and have addresses."""
    routing = topology.routing
    connected = {
        address.network for interface in router.interfaces for address in interface.addresses
    }
    for route in router.routes:
        if route.destination not in connected:
            hops = routing.by_route(router.name, route)
            yield rtnl.add_shared_route(
                route.destination, [(devices[hop.end.interface].index, hop.gateway) for hop in hops]
            )
    for network in _destinations(topology):
        if network in connected or routing.explicit(router.name, network.network_address):
            continue
        hops = routing.next_hops(router.name, network)
        if hops:
            yield rtnl.add_shared_route(
                network, [(devices[hop.end.interface].index, hop.gateway) for hop in hops]
            )


def _destinations(topology: Topology) -> dict[rtnl.Network, rtnl.InterfaceAddress]:
    """Return the subnets that packets are sent to: those of hosts, and of what NATs show."""
    networks = _host_networks(topology)
    for address in outsides(topology).values():
        networks.setdefault(address.network, address)
    return networks


def _host_networks(topology: Topology) -> dict[rtnl.Network, rtnl.InterfaceAddress]:
    """Return the subnets that hosts are on, each with an address there."""
    return {
        address.network: address
        for host in topology.hosts
        for interface in host.interfaces
        for address in interface.addresses
    }


def gateways(topology: Topology, host: Host, interface: Interface) -> Iterator[Gateway]:
    """Yield which routers the addresses of an interface use, and for what: none where there are
    none, one for everything, and others for the networks that these are nearer to.
    """
    if not topology.routers:
        return
    end = InterfaceEnd(host.name, interface.name)
    beside = [hop for hop in topology.routing.neighbours(host.name) if hop.end == end]
    for source in interface.addresses:
        own = [hop.gateway for hop in beside if hop.gateway.network == source.network]
        if not own:
            continue
        yield Gateway(source, _ANYWHERE[source.version], own[0])
        if len(own) == 1:
            continue
        for network, address in _destinations(topology).items():
            if network.version != source.version or network == source.network:
                continue
            chosen = topology.routing.gateways(host.name, source, address)
            if chosen and chosen[0].gateway != own[0]:
                yield Gateway(source, network, chosen[0].gateway)
        for route in host.routes:
            hops = [hop for hop in topology.routing.by_route(host.name, route) if hop in beside]
            named = [hop.gateway for hop in hops if hop.gateway.network == source.network]
            if named:
                yield Gateway(source, route.destination, named[0])
