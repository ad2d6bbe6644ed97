"""What a network is made of: hosts, NICs, VLAN interfaces, switches and links.

These are plain descriptions, resolved and validated before any testbed sees them; nothing here
computes when a packet arrives (see :mod:`mptcplab.network.link`) or creates a device.

A *link* is an emulated wire between two ends.  An end is an interface of a host, or a switch.  A
switch also takes interfaces plugged straight into it, at their NIC's rate and without delay.  A
*path* is a pair of addresses, one at each host, with the links that lie between them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Interface, IPv6Interface
from zlib import crc32

from mptcplab.network.impairments import CapacityTrace, GilbertElliott, JitterDistribution

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
    """

    name: str
    nic: str
    vlan: int | None = None
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    mtu: int = 1500
    multipath: bool = True


@dataclass(frozen=True, slots=True)
class InterfaceEnd:
    """A link's end, or a switch's port, at an interface of a host."""

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
    packet by packet.
    """

    name: str
    nics: tuple[Nic, ...]
    interfaces: tuple[Interface, ...]
    stack: str = "kernel"
    cpu: str = "none"
    offload: bool = True

    def interface(self, name: str) -> Interface:
        """Return the interface of that name; KeyError where there is none."""
        for interface in self.interfaces:
            if interface.name == name:
                return interface
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Switch:
    """A learning Ethernet switch; ``ports`` are the interfaces plugged straight into it."""

    name: str
    ports: tuple[InterfaceEnd, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """An emulated wire from ``a`` to ``b``.

    ``forward`` is the direction a to b, ``backward`` b to a.  ``driver`` is "auto", "kernel" (tbf
    or htb), "netem" or "tap".  ``environment`` is the report's grouping: "lan", "wan", "man" or "".
    ``up`` is the state at the start of a run.  ``spare`` links are left down where a lab is
    switched to their environment.
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

    @property
    def rtt_ns(self) -> int:
        """The round trip the two delays add up to, without queueing or serialisation."""
        return self.forward.delay_ns + self.backward.delay_ns


@dataclass(frozen=True, slots=True)
class Path:
    """An address pair and the links between them, from the local host's side outward."""

    local: InterfaceEnd
    local_address: IPv4Interface | IPv6Interface
    remote: InterfaceEnd
    remote_address: IPv4Interface | IPv6Interface
    links: tuple[str, ...]


@dataclass(frozen=True)
class Topology:
    """Hosts, switches and the links between them; names are unique within each kind.

    Between two interfaces, frames take the way of fewest links.  Where switches leave several such
    ways, each pair of addresses has one of them for good, in both directions: the pairs of two
    hosts take them in turn, and which way is the first follows from the hosts' names.  So a host
    with several addresses uses several ways, and hosts with one address are spread, as by routers
    that hash addresses (ECMP, RFC 2992; Linux's net.ipv4.fib_multipath_hash_policy 0).
    """

    name: str
    hosts: tuple[Host, ...]
    switches: tuple[Switch, ...]
    links: tuple[Link, ...]

    def has_host(self, name: str) -> bool:
        """Return whether there is a host of that name."""
        return name in self._host_by_name

    def has_link(self, name: str) -> bool:
        """Return whether there is a link of that name."""
        return name in self._link_by_name

    def in_order(self, links: Collection[str]) -> tuple[str, ...]:
        """Return links in the order of the topology."""
        if len(links) == 1:
            return tuple(links)
        return tuple(name for name in self._link_by_name if name in links)

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
        _, link = self._attached.get(end, (end, None))
        return None if link is None else self.link(link)

    def paths(
        self, local_host: str, remote_host: str, *, multipath: bool = True
    ) -> tuple[Path, ...]:
        """Return every path between two hosts, in the order of the local interfaces.

        Two addresses make a path when they share a subnet and links and switches (no host forwards)
        join the interfaces; with ``multipath``, when both also take part in MPTCP.
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

    def pairs_between(self, one: str, other: str) -> int:
        """Return how many pairs of addresses two hosts have on links and switches, at most.

        It is quick to tell, where :meth:`paths` looks at each pair.
        """
        direct, switched = 0, [0, 0]
        for place, host in enumerate((one, other)):
            for interface in self.host(host).interfaces:
                near, _ = self._attached.get(InterfaceEnd(host, interface.name), (None, None))
                if isinstance(near, SwitchEnd):
                    switched[place] += len(interface.addresses)
                elif near is not None and near.host == other:
                    far = self.interface_at(near)
                    direct += len(interface.addresses) * len(far.addresses)
        return direct + switched[0] * switched[1]

    def directions(self, path: Path) -> tuple[tuple[str, str], ...]:
        """Return (link, "forward" or "backward") for each link of a path, from local to remote."""
        at: InterfaceEnd | SwitchEnd = path.local
        directions = []
        for name in path.links:
            link = self.link(name)
            if at not in (link.a, link.b):  # plugged straight into the switch at the link's end
                at, _ = self._attached[path.local]
            directions.append((name, "forward" if at == link.a else "backward"))
            at = link.b if at == link.a else link.a
        return tuple(directions)

    def reachable(self, start: InterfaceEnd) -> dict[InterfaceEnd, tuple[str, ...]]:
        """Return the interfaces that links and switches join to one, with the links on the way.

        Of several shortest ways, that whose links come first in the file.
        """
        near, link = self._attached.get(start, (start, None))
        if isinstance(near, InterfaceEnd):
            return {} if link is None else {near: (link,)}
        first = () if link is None else (link,)
        reached = {}
        for switch, way in self._walk(near).first_ways():
            for end, last in self._hanging[switch]:
                if end != start:
                    reached[end] = (*first, *way, *(() if last is None else (last,)))
        return reached

    def ring_links(self) -> tuple[str, ...]:
        """Return the links that close a ring of switches, in the order of the links."""
        joined = DisjointSets()
        closing = []
        for link in self.links:
            if isinstance(link.a, SwitchEnd) and isinstance(link.b, SwitchEnd):
                if joined.find(link.a) == joined.find(link.b):
                    closing.append(link.name)
                joined.join(link.a, link.b)
        return tuple(closing)

    # Indices, made once.

    @cached_property
    def _host_by_name(self) -> dict[str, Host]:
        return {host.name: host for host in self.hosts}

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {host.name: position for position, host in enumerate(self.hosts)}

    def _position(self, host: str) -> int:
        return self._positions[host]

    @cached_property
    def _nic_by_name(self) -> dict[tuple[str, str], Nic]:
        return {(host.name, nic.name): nic for host in self.hosts for nic in host.nics}

    @cached_property
    def _link_by_name(self) -> dict[str, Link]:
        return {link.name: link for link in self.links}

    @cached_property
    def _interface_by_end(self) -> dict[InterfaceEnd, Interface]:
        return {
            InterfaceEnd(host.name, interface.name): interface
            for host in self.hosts
            for interface in host.interfaces
        }

    @cached_property
    def _attached(self) -> dict[InterfaceEnd, Neighbour]:
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
    def _hanging(self) -> dict[SwitchEnd, list[tuple[InterfaceEnd, str | None]]]:
        """The interfaces at each switch."""
        hanging: dict[SwitchEnd, list[tuple[InterfaceEnd, str | None]]] = defaultdict(list)
        for end, (switch, link) in self._attached.items():
            if isinstance(switch, SwitchEnd):
                hanging[switch].append((end, link))
        return hanging

    @cached_property
    def _fabric(self) -> dict[SwitchEnd, list[tuple[SwitchEnd, str]]]:
        """The switches that each switch has links to."""
        fabric: dict[SwitchEnd, list[tuple[SwitchEnd, str]]] = defaultdict(list)
        for link in self.links:
            if isinstance(link.a, SwitchEnd) and isinstance(link.b, SwitchEnd):
                fabric[link.a].append((link.b, link.name))
                fabric[link.b].append((link.a, link.name))
        return fabric

    @cached_property
    def _known_paths(self) -> dict[tuple[str, str], tuple[Path, ...]]:
        return {}

    @cached_property
    def _walks(self) -> dict[SwitchEnd, _Walk]:
        return {}

    def _walk(self, start: SwitchEnd) -> _Walk:
        if start not in self._walks:
            self._walks[start] = _Walk(self._fabric, start)
        return self._walks[start]

    def _find_paths(self, here: str, there: str) -> tuple[PathsOf, PathsOf]:
        """Return the paths from ``here``, the earlier host of the file, to ``there``, and back."""
        order = {each.name: place for place, each in enumerate(self.host(there).interfaces)}
        turn = crc32(f"{here} {there}".encode())
        paths = []
        for local in self.host(here).interfaces:
            start = InterfaceEnd(here, local.name)
            for end in self._ends_from(start, there):
                for own in local.addresses:
                    for other in self.interface_at(end).addresses:
                        if own.network == other.network:
                            paths.append(Path(start, own, end, other, self._way(start, end, turn)))
                            turn += 1
        back = [
            Path(path.remote, path.remote_address, path.local, path.local_address, path.links[::-1])
            for path in paths
        ]
        back.sort(key=lambda path: order[path.local.interface])
        return ((here, there), tuple(paths)), ((there, here), tuple(back))

    def _ends_from(self, start: InterfaceEnd, host: str) -> list[InterfaceEnd]:
        """Return the interfaces of a host that can be reached from one, in the host's order."""
        near, _ = self._attached.get(start, (start, None))
        if isinstance(near, InterfaceEnd):
            return [near] if near.host == host else []
        walk = self._walk(near)
        ends = [InterfaceEnd(host, each.name) for each in self.host(host).interfaces]
        return [end for end in ends if end != start and walk.reaches(self._attached[end][0])]

    def _way(self, start: InterfaceEnd, end: InterfaceEnd, turn: int) -> tuple[str, ...]:
        """Return the links from one interface to another; ``turn`` counts through all ways."""
        (near, first), (far, last) = self._attached[start], self._attached[end]
        between: tuple[str, ...] = ()
        if isinstance(near, SwitchEnd) and isinstance(far, SwitchEnd):
            between = self._walk(near).way(far, turn)
        elif first is not None:
            return (first,)
        return tuple(link for link in (first, *between, last) if link is not None)


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


class _Walk:
    """The shortest ways from one switch to all others, found breadth first."""

    def __init__(
        self, fabric: dict[SwitchEnd, list[tuple[SwitchEnd, str]]], start: SwitchEnd
    ) -> None:
        self._distance = {start: 0}
        self._before: dict[SwitchEnd, list[tuple[SwitchEnd, str]]] = {start: []}
        """Where each may be come from, by which link."""
        self._ways = {start: 1}
        """How many shortest ways lead to each."""
        frontier = deque([start])
        while frontier:
            at = frontier.popleft()
            for neighbour, link in fabric.get(at, ()):
                if neighbour not in self._distance:
                    self._distance[neighbour] = self._distance[at] + 1
                    self._before[neighbour] = []
                    self._ways[neighbour] = 0
                    frontier.append(neighbour)
                if self._distance[neighbour] == self._distance[at] + 1:
                    self._before[neighbour].append((at, link))
                    self._ways[neighbour] += self._ways[at]

    def reaches(self, end: InterfaceEnd | SwitchEnd) -> bool:
        """Say whether a switch is reached."""
        return end in self._distance

    def first_ways(self) -> Iterator[tuple[SwitchEnd, tuple[str, ...]]]:
        """Yield every switch and the first of the ways to it."""
        for switch in self._distance:
            yield switch, self.way(switch, 0)

    def way(self, end: SwitchEnd, turn: int) -> tuple[str, ...]:
        """Return the links of a shortest way; ``turn`` counts through all that there are."""
        links = []
        turn %= self._ways[end]
        while self._before[end]:
            end, link, turn = self._step_back(end, turn)
            links.append(link)
        return tuple(reversed(links))

    def _step_back(self, at: SwitchEnd, turn: int) -> tuple[SwitchEnd, str, int]:
        """Return where the way number ``turn`` to ``at`` comes from, and its number there."""
        for before, link in self._before[at]:
            if turn < self._ways[before]:
                return before, link, turn
            turn -= self._ways[before]
        raise AssertionError("unreachable: the numbers of the ways before add up")
