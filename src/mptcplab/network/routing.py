"""Where routers send packets: shortest ways by default, explicit routes, equal ways by a hash.

A router knows each subnet that hosts are on: it delivers to those that it has an address in, and
hands packets for others to the neighbours from which the fewest links lead there. Several such
neighbours share the flows by a hash (:mod:`mptcplab.network.ecmp`). A host hands what leaves one of
its addresses to the nearest router of that address's subnet, the first in the file where several
are as near. Explicit routes, the longest prefix first, take the place of all that but delivery to
a router's own subnets. Routes are static: they stay as they are when links fail.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Generic, TypeVar

from mptcplab.network.ecmp import Fields, Ports, chosen
from mptcplab.network.switching import Ways

Address = IPv4Address | IPv6Address
InterfaceAddress = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network
E = TypeVar("E", bound=Hashable)
"""A node's interface."""
Goal = tuple[int, tuple[str, ...]]
"""An IP version, and routers with an address in a subnet."""


@dataclass(frozen=True, slots=True)
class Route:
    """An explicit route: to ``destination`` by the neighbours or links named in ``via``.

    Nothing in ``via`` makes the destination unreachable.
    """

    destination: Network
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node(Generic[E]):
    """A host or router as routing sees it: interfaces with addresses, in order.

    ``seed`` is that of a router's hash; None for hosts, which do not forward. ``by_ports`` says
    whether the hash covers ports.
    """

    name: str
    members: tuple[tuple[E, tuple[InterfaceAddress, ...]], ...]
    routes: tuple[Route, ...] = ()
    seed: int | None = None
    by_ports: bool = False


@dataclass(frozen=True, slots=True)
class NextHop(Generic[E]):
    """A neighbour that packets are handed to: over ``end``, to ``gateway`` at ``far``."""

    node: str
    end: E
    far: E
    gateway: InterfaceAddress
    links: tuple[str, ...]
    spread: bool = False
    """Whether a fabric lies between, so that ``links`` are but one of several ways."""

    @property
    def cost(self) -> int:
        """What it counts for: the links to it, and at least one."""
        return max(1, len(self.links))


@dataclass(frozen=True, slots=True)
class Way:
    """The links from one address to another, and the routers between."""

    links: tuple[str, ...]
    routers: tuple[str, ...]


class Subnets(ABC, Generic[E]):
    """How links and switches join the interfaces of a subnet; None where they do not."""

    @abstractmethod
    def between(self, one: E, other: E) -> tuple[str, ...] | None:
        """Return the links between two interfaces; where a fabric spreads flows, one way of it."""

    @abstractmethod
    def spreads(self, one: E, other: E) -> bool:
        """Return whether a fabric leaves packets from one to the other several ways."""

    @abstractmethod
    def ways(self, one: E, other: E) -> Ways | None:
        """Return all links that packets from one to the other may take."""

    @abstractmethod
    def taken(self, one: E, other: E, fields: Fields) -> tuple[str, ...] | None:
        """Return the links that a packet takes from one to the other."""


class Routing(Generic[E]):
    """The routes of every node, worked out as they are asked for."""

    def __init__(self, nodes: Iterable[Node[E]], subnets: Subnets[E]) -> None:
        """Take hosts and routers, and what says which links lie between interfaces of a subnet."""
        self._nodes = {node.name: node for node in nodes}
        self._subnets = subnets
        self._at: dict[Network, list[tuple[str, E, InterfaceAddress]]] = {}
        """The routers' interfaces in each subnet."""
        for node in self._nodes.values():
            if node.seed is None:
                continue
            for end, address in _addresses(node):
                self._at.setdefault(address.network, []).append((node.name, end, address))
        self._own = {
            node.name: {address.network: (end, address) for end, address in _addresses(node)}
            for node in self._nodes.values()
            if node.seed is not None
        }
        self._neighbours: dict[str, tuple[NextHop[E], ...]] = {}
        self._steps: dict[tuple[str, int], list[tuple[int, str, NextHop[E]]]] = {}
        self._distances: dict[Goal, dict[str, int]] = {}
        self._next_hops: dict[tuple[str, Goal], tuple[NextHop[E], ...]] = {}

    @property
    def has_routers(self) -> bool:
        """Whether there are any routers."""
        return bool(self._at)

    def neighbours(self, node: str) -> tuple[NextHop[E], ...]:
        """Return the routers that share a subnet with a node, in the order of its interfaces."""
        if node not in self._neighbours:
            self._neighbours[node] = tuple(
                NextHop(name, end, far, gateway, links, self._subnets.spreads(end, far))
                for end, address in _addresses(self._nodes[node])
                for name, far, gateway in self._at.get(address.network, ())
                if name != node and (links := self._subnets.between(end, far)) is not None
            )
        return self._neighbours[node]

    def _steps_from(self, router: str, version: int) -> list[tuple[int, str, NextHop[E]]]:
        """Return the cost, node and rest of each neighbour that an IP version leads to."""
        key = (router, version)
        if key not in self._steps:
            self._steps[key] = [
                (hop.cost, hop.node, hop)
                for hop in self.neighbours(router)
                if hop.gateway.version == version
            ]
        return self._steps[key]

    def _goal(self, network: Network) -> Goal:
        """Return what tells a subnet from others as far as ways to it go: the routers in it."""
        attached = dict.fromkeys(name for name, _, _ in self._at.get(network, ()))
        return network.version, tuple(attached)

    def distances(self, network: Network) -> dict[str, int]:
        """Return how many links are between each router that reaches a subnet and that subnet."""
        goal = self._goal(network)
        if goal not in self._distances:
            self._distances[goal] = self._find_distances(goal)
        return self._distances[goal]

    def _find_distances(self, goal: Goal) -> dict[str, int]:
        version, attached = goal
        distances: dict[str, int] = {}
        waiting = sorted((0, name) for name in attached)
        while waiting:
            distance, name = heappop(waiting)
            if name in distances:
                continue
            distances[name] = distance
            for cost, node, _ in self._steps_from(name, version):  # as far from there as to there
                if node not in distances:
                    heappush(waiting, (distance + cost, node))
        return distances

    def explicit(self, node: str, destination: Address) -> Route | None:
        """Return the longest of a node's explicit routes to an address; None where none is."""
        covering = [
            route
            for route in self._nodes[node].routes
            if route.destination.version == destination.version and destination in route.destination
        ]
        return max(covering, key=lambda route: route.destination.prefixlen, default=None)

    def by_route(self, node: str, route: Route) -> tuple[NextHop[E], ...]:
        """Return the next hops that an explicit route names: neighbours, or what links lead to."""
        return tuple(
            hop
            for hop in self.neighbours(node)
            if hop.gateway.version == route.destination.version
            and (hop.node in route.via or not set(hop.links).isdisjoint(route.via))
        )

    def next_hops(self, router: str, network: Network) -> tuple[NextHop[E], ...]:
        """Return the neighbours from which the fewest links lead to a subnet, in order."""
        key = (router, self._goal(network))
        if key not in self._next_hops:
            distances = self.distances(network)
            steps = [
                (distances[node] + cost, hop)
                for cost, node, hop in self._steps_from(router, network.version)
                if node in distances
            ]
            least = min((cost for cost, _ in steps), default=0)
            self._next_hops[key] = tuple(hop for cost, hop in steps if cost == least)
        return self._next_hops[key]

    def gateways(
        self, host: str, source: InterfaceAddress, destination: InterfaceAddress
    ) -> tuple[NextHop[E], ...]:
        """Return the router that a host hands packets to that leave an address, if there is one."""
        own = [hop for hop in self.neighbours(host) if hop.gateway.network == source.network]
        route = self.explicit(host, destination.ip)
        if route is not None:
            named = [hop for hop in self.by_route(host, route) if hop in own]
            if named or not route.via:
                return tuple(named[:1])
        distances = self.distances(destination.network)
        reaching = [hop for hop in own if hop.node in distances]
        if not reaching:  # explicit routes of routers may lead there all the same
            return tuple(own[:1])
        return (min(reaching, key=lambda hop: distances[hop.node] + hop.cost),)

    def forwarded(
        self, router: str, destination: InterfaceAddress
    ) -> tuple[E | None, tuple[NextHop[E], ...]]:
        """Return the interface that a router delivers an address from, or else its next hops."""
        own = self._own[router].get(destination.network)
        route = self.explicit(router, destination.ip)
        if own is not None and (
            route is None or route.destination.prefixlen <= own[1].network.prefixlen
        ):
            return own[0], ()
        if route is not None:
            return None, self.by_route(router, route)
        return None, self.next_hops(router, destination.network)

    def way(
        self,
        start: tuple[str, InterfaceAddress],
        end: tuple[E, InterfaceAddress],
        ports: Ports | None = None,
    ) -> Way | None:
        """Return the way from a host's address to another address, None where packets get lost."""
        (host, source), (_, destination) = start, end
        return self._follow(start, self.gateways(host, source, destination), end, ports)[0]

    def refused(
        self, start: tuple[str, InterfaceAddress], end: tuple[E, InterfaceAddress]
    ) -> Way | None:
        """Return the way from a host's address to the router that has no route on to another.

        None where packets arrive, where they get lost otherwise, and where no router is beside.
        """
        (host, source), (_, destination) = start, end
        return self._follow(start, self.gateways(host, source, destination), end, None)[1]

    def onward(
        self,
        start: tuple[str, InterfaceAddress],
        end: tuple[E, InterfaceAddress],
        ports: Ports | None = None,
    ) -> Way | None:
        """Return the way on from a router of a packet with a source address; None likewise."""
        router, (far, destination) = start[0], end
        last, hops = self.forwarded(router, destination)
        if last is not None:
            fields = Fields(start[1].ip, destination.ip, ports)
            between = self._subnets.taken(last, far, fields)
            return None if between is None else Way(between, ())
        return self._follow(start, hops, end, ports)[0]

    def _follow(
        self,
        start: tuple[str, InterfaceAddress],
        hops: tuple[NextHop[E], ...],
        end: tuple[E, InterfaceAddress],
        ports: Ports | None,
    ) -> tuple[Way | None, Way | None]:
        """Return the way from a node to an address by one of its next hops, and so on.

        Or else, as the second, that to a router that has no route on.
        """
        (node, source), (far, destination) = start, end
        fields = Fields(source.ip, destination.ip, ports)
        links: list[str] = []
        routers: list[str] = []
        while hops:
            hop = self._hashed(node, hops, fields)
            if hop.spread:
                links += self._subnets.taken(hop.end, hop.far, fields) or ()
            else:
                links += hop.links
            node = hop.node
            if node in routers:  # explicit routes that lead in a circle
                return None, None
            routers.append(node)
            last, hops = self.forwarded(node, destination)
            if last is not None:
                between = self._subnets.taken(last, far, fields)
                if between is None:
                    return None, None
                return Way((*links, *between), tuple(routers)), None
        return None, Way(tuple(links), tuple(routers)) if routers else None

    def _hashed(self, node: str, hops: Sequence[NextHop[E]], fields: Fields) -> NextHop[E]:
        router = self._nodes[node]
        if len(hops) == 1 or router.seed is None:
            return hops[0]
        return hops[chosen(fields.hash(router.seed, router.by_ports), len(hops))]

    def ways(self, start: tuple[str, InterfaceAddress], end: tuple[E, InterfaceAddress]) -> Ways:
        """Return all links that packets from one address to another may take, by any hash."""
        (host, source), (far, destination) = start, end
        links: set[str] = set()
        several = by_ports = False
        waiting = list(self.gateways(host, source, destination))
        seen: set[str] = set()
        while waiting:
            hop = waiting.pop()
            within = self._subnets.ways(hop.end, hop.far) if hop.spread else None
            links.update(hop.links if within is None else within.links)
            if within is not None:
                several, by_ports = True, by_ports or within.by_ports
            if hop.node in seen:
                continue
            seen.add(hop.node)
            last, hops = self.forwarded(hop.node, destination)
            if last is not None:
                if (ways := self._subnets.ways(last, far)) is not None:
                    links.update(ways.links)
                    several, by_ports = several or ways.several, by_ports or ways.by_ports
                continue
            if len(hops) > 1:
                several = True
                by_ports = by_ports or self._nodes[hop.node].by_ports
            waiting += hops
        return Ways(frozenset(links), several, by_ports)

    def circle(self, destination: InterfaceAddress) -> tuple[str, ...]:
        """Return routers whose explicit routes lead packets for an address in a circle, if any."""
        done: set[str] = set()
        for name, node in self._nodes.items():
            if node.seed is None or not node.routes:
                continue
            trail: list[str] = []
            if self._turns(name, destination, trail, done):
                return tuple(trail[trail.index(trail[-1]) :])
        return ()

    def _turns(
        self, router: str, destination: InterfaceAddress, trail: list[str], done: set[str]
    ) -> bool:
        """Follow every next hop in depth; leave a trail whose end was on it before, if any."""
        branches: list[Iterator[NextHop[E]]] = []
        node: str | None = router
        while True:
            if node is not None:
                trail.append(node)
                if node in trail[:-1]:
                    return True
                hops = () if node in done else self.forwarded(node, destination)[1]
                branches.append(iter(hops))
            if not branches:
                return False
            following = next(branches[-1], None)
            node = None if following is None else following.node
            if following is None:
                done.add(trail.pop())
                branches.pop()


def _addresses(node: Node[E]) -> Iterator[tuple[E, InterfaceAddress]]:
    for end, addresses in node.members:
        for address in addresses:
            yield end, address
