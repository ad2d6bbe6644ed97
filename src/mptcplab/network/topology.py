"""What a network is made of: hosts, NICs, VLAN interfaces, switches, routers and links.

These are plain descriptions, resolved and validated before any testbed sees them; nothing here
computes when a packet arrives (see :mod:`mptcplab.network.link`) or creates a device.

A *link* is an emulated wire between two ends.  An end is an interface of a host, or a switch.  A
switch also takes interfaces plugged straight into it, at their NIC's rate and without delay.  A
*path* is a pair of addresses, one at each host, with the links that lie between them; through
routers see :mod:`mptcplab.network.routing`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from zlib import crc32

from mptcplab.network.ecmp import Fields, Ports, router_seed
from mptcplab.network.impairments import CapacityTrace, GilbertElliott, JitterDistribution
from mptcplab.network.middlebox import MiddleboxPlan
from mptcplab.network.routing import Node, Route, Routing, Subnets
from mptcplab.network.switching import Spreading, Switching, Walk, Ways

Address = IPv4Address | IPv6Address

ETHERNET_HEADER_BYTES = 14  # IEEE 802.3: two addresses and the type; what tc charges a frame for
VLAN_TAG_BYTES = 4  # IEEE 802.1Q


@dataclass(frozen=True, slots=True)
class RedThresholds:
    """Where random early detection begins, and what it does at its upper threshold.

    ``lower`` and ``upper`` are parts of the queue's limit, ``probability`` that of a drop at
    ``upper``, from which it rises on to 1 at twice that. The defaults let it reach 1 at the limit,
    with the thresholds in the ratio of 1:3 that Floyd and tc-red(8) recommend, and max_p of
    0.1 (Floyd, "RED: Discussions of Setting Parameters", 1997).
    """

    lower: float = 1 / 6
    upper: float = 1 / 2
    probability: float = 0.1


DEFAULT_RED = RedThresholds()

DROP_TAIL = "drop-tail"
DISCIPLINES = (DROP_TAIL, "red", "codel", "fq_codel", "pie")
"""What a queue can do besides turning away what finds it full."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's limit; where both are given, the first one reached drops.

    ``discipline`` is one of `DISCIPLINES`. With ``ecn`` it marks packets whose ends know ECN
    in the place of dropping them (RFC 3168). ``target_ns`` (codel, fq_codel, pie), ``interval_ns``
    (codel, fq_codel) and ``quantum_bytes`` (fq_codel) are None for the discipline's own.
    """

    limit_bytes: int | None = None
    limit_packets: int | None = None
    discipline: str = DROP_TAIL
    red: RedThresholds = DEFAULT_RED
    ecn: bool = False
    target_ns: int | None = None
    interval_ns: int | None = None
    quantum_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    """One direction of a link.

    ``rate_bps`` counts frames as tc does: with the Ethernet header and VLAN tag, without preamble,
    FCS and inter-frame gap, unless ``overhead_bytes`` adds them.  None is unlimited.  ``delay_ns``
    is one way.  ``jitter_ns`` is the half-width of a uniform distribution around the delay, or the
    standard deviation of another; frames stay in order unless ``jitter_reorders``.  With a
    ``trace``, ``rate_bps`` is the mean of it.

    ``loss``, ``duplicate``, ``corrupt`` and ``reorder`` are probabilities for each packet, 0 to 1:
    to be lost, to arrive twice, damaged, or without the delay.  ``burst_loss`` takes the place of
    ``loss``.
    """

    rate_bps: int | None = None
    delay_ns: int = 0
    jitter_ns: int = 0
    loss: float = 0.0
    queue: Queue = Queue()
    overhead_bytes: int = 0
    trace: CapacityTrace | None = None
    jitter_distribution: JitterDistribution = JitterDistribution.UNIFORM
    jitter_reorders: bool = False
    reorder: float = 0.0
    burst_loss: GilbertElliott | None = None
    duplicate: float = 0.0
    corrupt: float = 0.0

    @property
    def missing(self) -> float:
        """The share of packets that no host gets whole, for their loss or damage (0 to 1)."""
        lost = self.loss if self.burst_loss is None else self.burst_loss.mean_loss
        return 1.0 - (1.0 - lost) * (1.0 - self.corrupt)

    @property
    def jitter_most_ns(self) -> int:
        """How much later than their delay all but one packet in ten thousand come, at most."""
        return round(self.jitter_ns * self.jitter_distribution.most)


@dataclass(frozen=True, slots=True)
class Nic:
    """A network card; ``rate_bps`` is shared by all its VLANs (None is unlimited)."""

    name: str
    rate_bps: int | None = None


@dataclass(frozen=True, slots=True)
class Interface:
    """A NIC itself (``vlan`` None) or a VLAN on it, with its addresses.

    ``multipath`` False keeps it out of MPTCP, as ``ip link set dev IFACE multipath off`` did.
    Subflows over one that is ``backup`` carry data only while no other works (RFC 8684, 3.3.8).
    """

    name: str
    nic: str
    vlan: int | None = None
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    mtu: int = 1500
    multipath: bool = True
    backup: bool = False


@dataclass(frozen=True, slots=True)
class InterfaceEnd:
    """A link's end, or a switch's port, at an interface of a host or router."""

    host: str
    interface: str

    def __str__(self) -> str:
        return f"{self.host}:{self.interface}"


@dataclass(frozen=True, slots=True)
class SwitchEnd:
    """A link's end at a switch."""

    switch: str

    def __str__(self) -> str:
        return self.switch


@dataclass(frozen=True, slots=True)
class Host:
    """A machine; ``stack`` is "kernel" or "ours".

    ``cpu`` is what packets cost a simulated host: "none", "2012" (the report's machines) or
    "modern"; the Linux testbed ignores it.  Without ``offload`` it sends, receives and acknowledges
    packet by packet.  ``routes`` are the explicit ones to subnets beyond routers.
    """

    name: str
    nics: tuple[Nic, ...]
    interfaces: tuple[Interface, ...]
    stack: str = "kernel"
    cpu: str = "none"
    offload: bool = True
    routes: tuple[Route, ...] = ()

    def interface(self, name: str) -> Interface:
        """Return the interface of that name; KeyError where there is none."""
        for interface in self.interfaces:
            if interface.name == name:
                return interface
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Switch:
    """An Ethernet switch; ``ports`` are the interfaces plugged straight into it.

    ``fabric`` is "bridge", a learning switch, or "openvswitch", one that spreads flows over the
    links that lead on; ``ecmp`` is what its hash covers, as a router's.
    """

    name: str
    ports: tuple[InterfaceEnd, ...] = ()
    fabric: str = "bridge"
    ecmp: str = "ports"

    @property
    def spreads(self) -> bool:
        """Whether it spreads flows."""
        return self.fabric != "bridge"


@dataclass(frozen=True, slots=True)
class Router:
    """A machine that forwards between its interfaces, at no cost of its own.

    ``ecmp`` is what the hash covers that chooses among next hops which are as near: "addresses" or
    "ports" (addresses and ports).  ``routes`` are the explicit ones.
    """

    name: str
    nics: tuple[Nic, ...]
    interfaces: tuple[Interface, ...]
    ecmp: str = "addresses"
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """An emulated wire from ``a`` to ``b``.

    ``forward`` is the direction a to b, ``backward`` b to a.  ``driver`` is "auto", "kernel" (tbf
    or htb), "netem" or "tap".  ``environment`` is the report's grouping: "lan", "wan", "man" or "".
    ``up`` is the state at the start of a run.  ``spare`` links are left down where a lab is
    switched to their environment.

    ``near_boxes`` are the middleboxes at ``a``, ``far_boxes`` those at ``b``, each the one farthest
    from the link first; for them, forward is what leaves their end by the link.
    """

    name: str
    a: InterfaceEnd | SwitchEnd
    b: InterfaceEnd | SwitchEnd
    forward: Channel
    backward: Channel
    mtu: int = 1500
    environment: str = ""
    driver: str = "auto"
    up: bool = True
    spare: bool = False
    near_boxes: tuple[MiddleboxPlan, ...] = ()
    far_boxes: tuple[MiddleboxPlan, ...] = ()

    @property
    def boxes(self) -> tuple[MiddleboxPlan, ...]:
        """All middleboxes of the link."""
        return self.near_boxes + self.far_boxes

    @property
    def rtt_ns(self) -> int:
        """The round trip the two delays add up to, without queueing or serialisation."""
        return self.forward.delay_ns + self.backward.delay_ns


@dataclass(frozen=True, slots=True)
class Path:
    """An address pair and the links between them, from the local host's side outward.

    Where it is ``routed``, or a fabric spreads flows, the way ``back``, from the remote host's
    side, may be another (empty where it has the same links).  ``candidates`` are all links that
    packets either way may take, by whatever hash; empty where there is one way.  With ``by_ports``
    each subflow takes the way that its ports lead to, which :meth:`Topology.on_ports` finds.
    """

    local: InterfaceEnd
    local_address: IPv4Interface | IPv6Interface
    remote: InterfaceEnd
    remote_address: IPv4Interface | IPv6Interface
    links: tuple[str, ...]
    routed: bool = False
    back: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    by_ports: bool = False

    @property
    def passed(self) -> tuple[str, ...]:
        """Every link that its packets pass, either way; with ``by_ports`` all that they may."""
        if self.by_ports:
            return self.candidates
        return tuple(dict.fromkeys((*self.links, *self.back))) if self.back else self.links

    @property
    def possible(self) -> tuple[str, ...]:
        """Every link that its packets may pass, whatever the seeds of the hashes."""
        return self.candidates or self.passed


@dataclass(frozen=True)
class Topology:
    """Hosts, switches, routers and the links between them; names are unique within each kind.

    Between two interfaces, frames take the way of fewest links.  Where switches leave several such
    ways, each pair of addresses has one of them for good, in both directions: the pairs of two
    hosts take them in turn, and which way is the first follows from the hosts' names.  So a host
    with several addresses uses several ways, and hosts with one address are spread, as by routers
    that hash addresses (ECMP, RFC 2992; Linux's net.ipv4.fib_multipath_hash_policy 0).  Switches of
    a fabric hash addresses or ports at every step.
    """

    name: str
    hosts: tuple[Host, ...]
    switches: tuple[Switch, ...]
    links: tuple[Link, ...]
    routers: tuple[Router, ...] = ()
    seed: int = 0
    """Of the hashes of routers and fabrics; that of the scenario."""

    @property
    def nodes(self) -> tuple[Host | Router, ...]:
        """The hosts and the routers: all that has interfaces."""
        return (*self.hosts, *self.routers)

    def has_host(self, name: str) -> bool:
        """Return whether there is a host of that name."""
        return name in self._host_by_name

    def has_link(self, name: str) -> bool:
        """Return whether there is a link of that name."""
        return name in self._link_by_name

    def in_order(self, links: Collection[str]) -> tuple[str, ...]:
        """Return links in the order of the topology."""
        return tuple(sorted(links, key=self._link_places.__getitem__))

    def host(self, name: str) -> Host:
        """Return the host of that name; KeyError where there is none."""
        return self._host_by_name[name]

    def link(self, name: str) -> Link:
        """Return the link of that name; KeyError where there is none."""
        return self._link_by_name[name]

    def interface_at(self, end: InterfaceEnd) -> Interface:
        """Return the interface an end names; KeyError where there is none."""
        return self._interface_by_end[end]

    def nic_at(self, end: InterfaceEnd) -> Nic:
        """Return the NIC of the interface an end names; KeyError where there is none."""
        return self._nic_by_name[end.host, self.interface_at(end).nic]

    def link_at(self, end: InterfaceEnd) -> Link | None:
        """Return the link that an interface is an end of; None for a switch's port."""
        _, link = self.attached.get(end, (end, None))
        return None if link is None else self.link(link)

    def paths(
        self, local_host: str, remote_host: str, *, multipath: bool = True
    ) -> tuple[Path, ...]:
        """Return every path between two hosts, in the order of the local interfaces.

        Two addresses make a path when they share a subnet and links and switches join the
        interfaces, or when routers lead from each to the other (no host forwards); with
        ``multipath``, when both also take part in MPTCP.
        """
        known = self._known_paths
        if (local_host, remote_host) not in known:
            there, back = self._find_paths(*sorted((local_host, remote_host), key=self._position))
            known[there[0]], known[back[0]] = there[1], back[1]
        paths = known[local_host, remote_host]
        if not multipath:
            return paths
        return tuple(
            path
            for path in paths
            if self.interface_at(path.local).multipath and self.interface_at(path.remote).multipath
        )

    def circle(self, here: str, there: str) -> tuple[str, ...]:
        """Return routers whose explicit routes lead between two hosts in a circle, or ()."""
        for host in (here, there):
            for interface in self.host(host).interfaces:
                for address in interface.addresses:
                    if circle := self.routing.circle(address):
                        return circle
        return ()

    def pairs_between(self, one: str, other: str) -> int:
        """Return how many pairs of addresses two hosts have on links and switches, at most.

        It is quick to tell, where :meth:`paths` looks at each pair.
        """
        direct, switched = 0, [0, 0]
        for place, host in enumerate((one, other)):
            for interface in self.host(host).interfaces:
                near, _ = self.attached.get(InterfaceEnd(host, interface.name), (None, None))
                if isinstance(near, SwitchEnd) or (near is not None and self.is_router(near.host)):
                    switched[place] += len(interface.addresses)
                elif near is not None and near.host == other:
                    far = self.interface_at(near)
                    direct += len(interface.addresses) * len(far.addresses)
        return direct + switched[0] * switched[1]

    def directions(self, path: Path) -> tuple[tuple[str, str], ...]:
        """Return (link, "forward" or "backward") for each link of a path, from local to remote."""
        return self._directions(path.local, path.links)

    def directions_back(self, path: Path) -> tuple[tuple[str, str], ...]:
        """Return the same of the way back, from remote to local."""
        return self._directions(path.remote, path.back or path.links[::-1])

    def source_for(self, host: str, remote: InterfaceEnd, address: Address) -> Address | None:
        """Return the address from which a host's routes lead to an address of another, where no
        address was chosen: the one on that network, else its first behind which routers lead there.
        """
        paths = [
            path
            for path in self.paths(host, remote.host, multipath=False)
            if path.remote == remote and path.remote_address.ip == address
        ]
        paths.sort(key=lambda path: path.routed)
        return paths[0].local_address.ip if paths else None

    def bottleneck(self, path: Path) -> str:
        """Return the link that names a path: its slowest, the first one where several are."""

        def rate(name: str) -> float:
            link = self.link(name)
            rates = (link.forward.rate_bps, link.backward.rate_bps)
            return min((each for each in rates if each is not None), default=float("inf"))

        return min(path.links, key=rate) if path.links else f"{path.local}-{path.remote}"

    def rtt_ns(self, path: Path) -> int:
        """Return the round trip that the delays of a path add up to, there and back."""
        passed = (*self.directions(path), *self.directions_back(path))
        channels = (
            link.forward if direction == "forward" else link.backward
            for link, direction in ((self.link(name), direction) for name, direction in passed)
        )
        return sum(channel.delay_ns for channel in channels)

    def _directions(
        self, start: InterfaceEnd, links: tuple[str, ...]
    ) -> tuple[tuple[str, str], ...]:
        at = start.host
        directions = []
        for name in links:
            link = self.link(name)
            ends = (_node_of(link.a), _node_of(link.b))
            if at not in ends:  # plugged straight into the switch at the link's end
                at = self._plugged_into(at, ends)
            directions.append((name, "forward" if at == ends[0] else "backward"))
            at = ends[1] if at == ends[0] else ends[0]
        return tuple(directions)

    def _plugged_into(self, node: str, switches: tuple[str, ...]) -> str:
        """Return which of two switches a node has an interface at without a link."""
        return next(
            end.switch
            for end, _ in (self.attached[each] for each in self._ends_of[node])
            if isinstance(end, SwitchEnd) and end.switch in switches
        )

    def on_ports(self, path: Path, ports: Ports) -> Path:
        """Return a path as subflows take it that have these ports, local and remote."""
        if not path.by_ports:
            return path
        start, end = (path.local, path.local_address), (path.remote, path.remote_address)
        if path.routed:
            there = self.routing.way((start[0].host, start[1]), end, ports)
            back = self.routing.way((end[0].host, end[1]), start, ports[::-1])
            assert there is not None  # as with any other ports
            assert back is not None
            return replace(path, links=there.links, back=_unless_same(there.links, back.links))
        links, links_back = self._within(start, end, ports), self._within(end, start, ports[::-1])
        return replace(path, links=links, back=_unless_same(links, links_back))

    def _within(self, start: Place, end: Place, ports: Ports | None = None) -> tuple[str, ...]:
        """Return the links that packets take from one address to another of the same subnet."""
        taken = self._subnets.taken(start[0], end[0], Fields(start[1].ip, end[1].ip, ports))
        assert taken is not None
        return taken

    def choices(self, path: Path) -> tuple[tuple[str, str], ...]:
        """Return the switches of a path, from local to remote, that chose among several links, each
        with the link that it chose.
        """
        steps = []
        for name, direction in self.directions(path):
            link = self.link(name)
            steps.append((link.a, link.b) if direction == "forward" else (link.b, link.a))
        chosen = []
        for place, (near, far) in enumerate(steps):
            if not isinstance(near, SwitchEnd) or not isinstance(far, SwitchEnd):
                continue
            last = far
            for _, further in steps[place + 1 :]:
                if not isinstance(further, SwitchEnd):
                    break
                last = further
            if near in self.fabric and len(self.walk(last).steps(near)) > 1:
                chosen.append((near.switch, path.links[place]))
        return tuple(chosen)

    def places(self, host: str) -> list[Place]:
        """Return the interfaces of a host, each with an address of it."""
        return [
            (InterfaceEnd(host, interface.name), address)
            for interface in self.host(host).interfaces
            for address in interface.addresses
        ]

    def routers_on(self, path: Path) -> tuple[str, ...]:
        """Return the routers that a path passes, from local to remote."""
        passed = []
        for name, direction in self.directions(path)[:-1]:
            link = self.link(name)
            node = _node_of(link.b if direction == "forward" else link.a)
            if node in self._router_by_name:
                passed.append(node)
        return tuple(passed)

    def way(self, start: Place, end: Place, ports: Ports | None = None) -> Directions | None:
        """Return (link, "forward" or "backward") for each link from one address to another.

        Of a router it is the way of what it forwards.  None where packets get lost.
        """
        (near, source), (far, destination) = start, end
        if source.network == destination.network:
            links = self._subnets.taken(near, far, Fields(source.ip, destination.ip, ports))
        else:
            find = self.routing.onward if self.is_router(near.host) else self.routing.way
            way = find((near.host, source), end, ports)
            links = None if way is None else way.links
        return None if links is None else self._directions(near, links)

    def refusal(self, start: Place, end: Place) -> tuple[Directions, str] | None:
        """Return the way from a host's address to the router that has no route on to another, and
        that router; None where there is none that refuses.
        """
        (near, source), (_, destination) = start, end
        if source.network == destination.network or source.version != destination.version:
            return None
        way = self.routing.refused((near.host, source), end)
        if way is None:
            return None
        return self._directions(near, way.links), way.routers[-1]

    def forwarders(self, start: str, steps: Directions) -> tuple[InterfaceEnd | None, ...]:
        """Return for each link of a way from a node on the router's interface before it, if any."""
        ends: list[InterfaceEnd | None] = []
        at = start
        for name, direction in steps:
            link = self.link(name)
            near, far = (link.a, link.b) if direction == "forward" else (link.b, link.a)
            if not self.is_router(at):
                ends.append(None)
            elif isinstance(near, InterfaceEnd):
                ends.append(near)
            else:  # plugged straight into the switch
                ends.append(next(end for end in self._ends_of[at] if self.attached[end][0] == near))
            at = _node_of(far)
        return tuple(ends)

    def own_links(self, path: Path) -> tuple[str, ...]:
        """Return the links of a path whose state its local host sees: all up to a router, or to a
        fabric that spreads flows.
        """
        if not path.routed and not path.candidates:
            return path.links
        link = self.link_at(path.local)
        return () if link is None else (link.name,)

    def reachable(self, start: InterfaceEnd) -> dict[InterfaceEnd, tuple[str, ...]]:
        """Return the interfaces that links and switches join to one, with the links on the way.

        Of several shortest ways, that whose links come first in the file.
        """
        near, link = self.attached.get(start, (start, None))
        if isinstance(near, InterfaceEnd):
            return {} if link is None else {near: (link,)}
        first = () if link is None else (link,)
        reached = {}
        walk = self.walk(near)
        for switch in walk.reached:
            way = walk.way(switch, 0)
            for end, last in self.hanging.get(switch, ()):
                if end != start:
                    reached[end] = (*first, *way, *(() if last is None else (last,)))
        return reached

    def ring_links(self) -> tuple[str, ...]:
        """Return the links that close a ring with a bridge in it, in the order of the links."""
        joined = DisjointSets()
        closing = []
        between = [
            link
            for link in self.links
            if isinstance(link.a, SwitchEnd) and isinstance(link.b, SwitchEnd)
        ]
        for link in sorted(between, key=lambda link: not {link.a, link.b} <= self.fabric.keys()):
            spreads = {link.a, link.b} <= self.fabric.keys()
            if not spreads and joined.find(link.a) == joined.find(link.b):
                closing.append(link.name)
            joined.join(link.a, link.b)
        return tuple(closing)

    # Indices, made once.

    @cached_property
    def _host_by_name(self) -> dict[str, Host]:
        return {host.name: host for host in self.hosts}

    @cached_property
    def _router_by_name(self) -> dict[str, Router]:
        return {router.name: router for router in self.routers}

    def is_router(self, name: str) -> bool:
        """Return whether a node is a router."""
        return name in self._router_by_name

    def node(self, name: str) -> Host | Router:
        """Return the host or router of that name; KeyError where there is none."""
        return self._router_by_name.get(name) or self._host_by_name[name]

    def offloads(self, name: str) -> bool:
        """Return whether a node takes frames of more than a packet, as routers do."""
        return self.is_router(name) or self.host(name).offload

    @cached_property
    def _ends_of(self) -> dict[str, list[InterfaceEnd]]:
        return {
            node.name: [InterfaceEnd(node.name, each.name) for each in node.interfaces]
            for node in self.nodes
        }

    @cached_property
    def routing(self) -> Routing[InterfaceEnd]:
        """The routes of hosts and routers."""
        nodes = []
        for node in self.nodes:
            members = tuple(
                (InterfaceEnd(node.name, each.name), each.addresses) for each in node.interfaces
            )
            if isinstance(node, Router):
                seed = router_seed(self.seed, node.name)
                by_ports = node.ecmp == "ports"
                nodes.append(Node(node.name, members, node.routes, seed, by_ports))
            else:
                nodes.append(Node(node.name, members, node.routes))
        return Routing(nodes, self._subnets)

    @cached_property
    def _subnets(self) -> _Subnets:
        return _Subnets(self)

    @cached_property
    def narrow_ends(self) -> frozenset[InterfaceEnd]:
        """The routers' interfaces that not every packet of every host fits."""
        largest_bytes = max(
            (interface.mtu for host in self.hosts for interface in host.interfaces), default=0
        )
        return frozenset(
            InterfaceEnd(router.name, interface.name)
            for router in self.routers
            for interface in router.interfaces
            if interface.mtu < largest_bytes
        )

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {host.name: position for position, host in enumerate(self.hosts)}

    def _position(self, host: str) -> int:
        return self._positions[host]

    @cached_property
    def _nic_by_name(self) -> dict[tuple[str, str], Nic]:
        return {(node.name, nic.name): nic for node in self.nodes for nic in node.nics}

    @cached_property
    def _link_by_name(self) -> dict[str, Link]:
        return {link.name: link for link in self.links}

    @cached_property
    def _link_places(self) -> dict[str, int]:
        return {link.name: place for place, link in enumerate(self.links)}

    @cached_property
    def _interface_by_end(self) -> dict[InterfaceEnd, Interface]:
        return {
            InterfaceEnd(node.name, interface.name): interface
            for node in self.nodes
            for interface in node.interfaces
        }

    @cached_property
    def attached(self) -> dict[InterfaceEnd, Neighbour]:
        """What each interface is joined to, by which link; by none for a switch's port."""
        attached: dict[InterfaceEnd, Neighbour] = {}
        for switch in self.switches:
            for port in switch.ports:
                attached[port] = (SwitchEnd(switch.name), None)
        for link in self.links:
            for near, far in ((link.a, link.b), (link.b, link.a)):
                if isinstance(near, InterfaceEnd):
                    attached[near] = (far, link.name)
        return attached

    @cached_property
    def hanging(self) -> dict[SwitchEnd, list[tuple[InterfaceEnd, str | None]]]:
        """The interfaces at each switch."""
        hanging: dict[SwitchEnd, list[tuple[InterfaceEnd, str | None]]] = defaultdict(list)
        for end, (switch, link) in self.attached.items():
            if isinstance(switch, SwitchEnd):
                hanging[switch].append((end, link))
        return hanging

    @cached_property
    def fabric(self) -> dict[SwitchEnd, Spreading]:
        """The switches that spread flows."""
        return {
            SwitchEnd(each.name): Spreading(router_seed(self.seed, each.name), each.ecmp == "ports")
            for each in self.switches
            if each.spreads
        }

    @cached_property
    def switching(self) -> Switching[SwitchEnd]:
        """The ways between switches."""
        joints: dict[SwitchEnd, list[tuple[SwitchEnd, str]]] = defaultdict(list)
        for link in self.links:
            if isinstance(link.a, SwitchEnd) and isinstance(link.b, SwitchEnd):
                joints[link.a].append((link.b, link.name))
                joints[link.b].append((link.a, link.name))
        return Switching(joints, self.fabric)

    def walk(self, start: SwitchEnd) -> Walk[SwitchEnd]:
        """Return the shortest ways from a switch to others."""
        return self.switching.walk(start)

    @cached_property
    def _known_paths(self) -> dict[tuple[str, str], tuple[Path, ...]]:
        return {}

    def _find_paths(self, here: str, there: str) -> tuple[PathsOf, PathsOf]:
        """Return the paths from ``here``, the earlier host of the file, to ``there``, and back."""
        order = {each.name: place for place, each in enumerate(self.host(there).interfaces)}
        turn = crc32(f"{here} {there}".encode())
        paths = []
        for local in self.host(here).interfaces:
            start = InterfaceEnd(here, local.name)
            near = self._ends_from(start, there)
            for end in self._ends_of[there] if self.routers else near:
                for own in local.addresses:
                    for other in self.interface_at(end).addresses:
                        if own.network != other.network:
                            paths += self._routed((start, own), (end, other))
                        elif end in near:
                            paths.append(self._switched((start, own), (end, other), turn))
                            turn += 1
        back = [_reversed(path) for path in paths]
        back.sort(key=lambda path: order[path.local.interface])
        return ((here, there), tuple(paths)), ((there, here), tuple(back))

    def _switched(self, start: Place, end: Place, turn: int) -> Path:
        """Return the path between two addresses of a subnet."""
        if not self.fabric:
            return Path(*start, *end, self.way_in_turn(start[0], end[0], turn))
        near, far = self._subnets.ways(start[0], end[0]), self._subnets.ways(end[0], start[0])
        if near is None or far is None or not (near.several or far.several):
            return Path(*start, *end, self.way_in_turn(start[0], end[0], turn))
        links, back = self._within(start, end), self._within(end, start)
        return Path(
            *start,
            *end,
            links,
            back=_unless_same(links, back),
            candidates=self.in_order(near.links | far.links),
            by_ports=near.by_ports or far.by_ports,
        )

    def _routed(self, start: Place, end: Place) -> list[Path]:
        """Return the path from one address to another through routers, where there is one."""
        (local, own), (remote, other) = start, end
        if own.version != other.version:
            return []
        there = self.routing.way((local.host, own), end)
        back = self.routing.way((remote.host, other), start)
        if there is None or back is None:
            return []
        both = (
            self.routing.ways((local.host, own), end),
            self.routing.ways((remote.host, other), start),
        )
        return [
            Path(
                local,
                own,
                remote,
                other,
                there.links,
                True,
                _unless_same(there.links, back.links),
                self.in_order(both[0].links | both[1].links)
                if any(each.several for each in both)
                else (),
                any(each.by_ports for each in both),
            )
        ]

    def _ends_from(self, start: InterfaceEnd, host: str) -> list[InterfaceEnd]:
        """Return the interfaces of a host that can be reached from one, in the host's order."""
        near, _ = self.attached.get(start, (start, None))
        if isinstance(near, InterfaceEnd):
            return [near] if near.host == host else []
        walk = self.walk(near)
        ends = [InterfaceEnd(host, each.name) for each in self.host(host).interfaces]
        return [end for end in ends if end != start and walk.reaches(self.attached[end][0])]

    def way_in_turn(self, start: InterfaceEnd, end: InterfaceEnd, turn: int) -> tuple[str, ...]:
        """Return the links from one interface to another; ``turn`` counts through all ways."""
        (near, first), (far, last) = self.attached[start], self.attached[end]
        between: tuple[str, ...] = ()
        if isinstance(near, SwitchEnd) and isinstance(far, SwitchEnd):
            between = self.walk(near).way(far, turn)
        elif first is not None:
            return (first,)
        return tuple(link for link in (first, *between, last) if link is not None)


def _node_of(end: InterfaceEnd | SwitchEnd) -> str:
    return end.switch if isinstance(end, SwitchEnd) else end.host


def _unless_same(there: tuple[str, ...], back: tuple[str, ...]) -> tuple[str, ...]:
    """Return the links of a way back where they are not those of the way there."""
    return () if back == there[::-1] else back


def _reversed(path: Path) -> Path:
    """Return a path as seen from its other end."""
    back = path.back or path.links[::-1]
    return Path(
        path.remote,
        path.remote_address,
        path.local,
        path.local_address,
        back,
        path.routed,
        _unless_same(back, path.links),
        path.candidates,
        path.by_ports,
    )


Place = tuple[InterfaceEnd, IPv4Interface | IPv6Interface]
Directions = tuple[tuple[str, str], ...]
Neighbour = tuple[InterfaceEnd | SwitchEnd, str | None]
PathsOf = tuple[tuple[str, str], tuple[Path, ...]]


class DisjointSets:
    """Things that are joined two by two, and which of them belong together (union and find)."""

    def __init__(self) -> None:
        self._parent: dict[object, object] = {}

    def find(self, item: object) -> object:
        """Return what stands for all that belong together with ``item``."""
        root = item
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while item != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, one: object, other: object) -> None:
        """Let two belong together; what stood for ``one`` then stands for both."""
        self._parent[self.find(other)] = self.find(one)


class _Subnets(Subnets[InterfaceEnd]):
    """How a topology joins the interfaces of a subnet."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    def between(self, one: InterfaceEnd, other: InterfaceEnd) -> tuple[str, ...] | None:
        """Return the links between two interfaces; None where none join them."""
        attached = self._topology.attached
        if one not in attached or other not in attached:
            return None
        near, first = attached[one]
        if isinstance(near, InterfaceEnd):
            return (first,) if near == other and first is not None else None
        far, _ = attached[other]
        if not isinstance(far, SwitchEnd) or not self._topology.walk(near).reaches(far):
            return None
        turn = crc32(" ".join(sorted((str(one), str(other)))).encode())
        return self._topology.way_in_turn(one, other, turn)

    def spreads(self, one: InterfaceEnd, other: InterfaceEnd) -> bool:
        """Return whether a fabric leaves packets from one interface to another several ways."""
        return self._spread(one, other) is not None

    def ways(self, one: InterfaceEnd, other: InterfaceEnd) -> Ways | None:
        """Return all links that packets from one interface to another may take."""
        spread = self._spread(one, other)
        if spread is None:
            links = self.between(one, other)
            return None if links is None else Ways(frozenset(links), False, False)
        (near, first), (far, last) = spread
        ways = self._topology.switching.ways(near, far)
        own = {link for link in (first, last) if link is not None}
        return Ways(ways.links | own, ways.several, ways.by_ports)

    def taken(
        self, one: InterfaceEnd, other: InterfaceEnd, fields: Fields
    ) -> tuple[str, ...] | None:
        """Return the links that a packet takes from one interface to another."""
        spread = self._spread(one, other)
        if spread is None:
            return self.between(one, other)
        (near, first), (far, last) = spread
        between = self._topology.switching.taken(near, far, fields)
        return tuple(link for link in (first, *between, last) if link is not None)

    def _spread(self, one: InterfaceEnd, other: InterfaceEnd) -> tuple[_Port, _Port] | None:
        """Return the switches that two interfaces are at, and their links there, if packets between
        them have several ways by a fabric.
        """
        if not self._topology.fabric:
            return None
        attached = self._topology.attached
        (near, first), (far, last) = (
            attached.get(one, (one, None)),
            attached.get(other, (one, None)),
        )
        if not isinstance(near, SwitchEnd) or not isinstance(far, SwitchEnd):
            return None
        if not self._topology.walk(near).reaches(far):
            return None
        several = self._topology.switching.ways(near, far).several
        return ((near, first), (far, last)) if several else None


_Port = tuple[SwitchEnd, str | None]
