"""Explicit routes of hosts and routers: from names to subnets and next hops, errors noted."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from mptcplab.network.routing import Network, Route
from mptcplab.network.topology import Topology
from mptcplab.scenario.errors import Path, Problems, nearest

Values = dict[str, Any]

UNREACHABLE = "unreachable"
_EVERYTHING: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


def resolve_routes(
    topology: Topology, hosts: Values, routers: Values, problems: Problems
) -> Topology:
    """Return a topology with the explicit routes that the tables of hosts and routers give."""
    if not any(table["routes"] for table in (*hosts.values(), *routers.values())):
        return topology
    return replace(
        topology,
        hosts=tuple(
            replace(host, routes=_routes(topology, "hosts", host.name, hosts, problems))
            for host in topology.hosts
        ),
        routers=tuple(
            replace(router, routes=_routes(topology, "routers", router.name, routers, problems))
            for router in topology.routers
        ),
    )


def _routes(
    topology: Topology, kind: str, node: str, tables: Values, problems: Problems
) -> tuple[Route, ...]:
    routes = []
    for destination, hops in tables[node]["routes"].items():
        path = (kind, node, "routes", destination)
        via = () if hops == (UNREACHABLE,) else hops
        networks = _networks(topology, destination, path, problems)
        found = [Route(network, via) for network in networks]
        if _check_hops(topology, node, via, path, problems):
            usable = [each for each in found if not via or topology.routing.by_route(node, each)]
            if found and not usable:
                problems.add(
                    path,
                    f"{', '.join(via)} has no address of the family of {destination}",
                    "next hops of the same address family",
                )
            routes += usable
    return tuple(routes)


def _networks(
    topology: Topology, destination: str, path: Path, problems: Problems
) -> tuple[Network, ...]:
    """Return the subnets that a destination stands for."""
    if destination == "default":
        return _EVERYTHING
    if topology.has_host(destination):
        return tuple(
            ip_network(address.ip)
            for interface in topology.host(destination).interfaces
            for address in interface.addresses
        )
    if "/" in destination:
        try:
            return (ip_network(destination),)
        except ValueError:
            problems.add(
                path,
                f'"{destination}" is no subnet',
                'its first address and its prefix length, such as "10.0.3.0/24"',
            )
            return ()
    hosts = [host.name for host in topology.hosts]
    problems.add(
        path,
        f'there is no host "{destination}"',
        f'"default", a subnet or one of {", ".join(hosts)}',
        nearest(destination, hosts),
    )
    return ()


def _check_hops(
    topology: Topology, node: str, via: tuple[str, ...], path: Path, problems: Problems
) -> bool:
    """Return whether a node has all next hops that a route names; what it has not is noted."""
    neighbours = topology.routing.neighbours(node)
    known = dict.fromkeys([hop.node for hop in neighbours])
    known.update(dict.fromkeys(link for hop in neighbours for link in hop.links))
    for name in via:
        if name not in known:
            problems.add(
                path,
                f'"{name}" is no router beside {node}, and no link to one',
                f'one of {", ".join(known)}, or "{UNREACHABLE}"' if known else "a router beside it",
                nearest(name, known),
            )
    return set(via) <= set(known)
