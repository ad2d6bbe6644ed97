"""What a network is made of: hosts, NICs, VLAN interfaces, switches and links.

These are plain descriptions, resolved and validated before any testbed sees them; nothing here
computes when a packet arrives (see :mod:`mptcplab.network.link`) or creates a device.

A *link* is an emulated wire between two ends.  An end is an interface of a host, or a switch.  A
switch also takes interfaces plugged straight into it, at their NIC's rate and without delay.  A
*path* is a pair of addresses, one at each host, with the links that lie between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

ETHERNET_HEADER_BYTES = 14  # IEEE 802.3: two addresses and the type; what tc charges a frame for
VLAN_TAG_BYTES = 4  # IEEE 802.1Q


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's limit; where both are given, the first one reached drops.

    ``discipline`` is "drop-tail", or "red" for random early detection below the limit.
    """

    limit_bytes: int | None = None
    limit_packets: int | None = None
    discipline: str = "drop-tail"


@dataclass(frozen=True, slots=True)
class Channel:
    """One direction of a link.

    ``rate_bps`` counts frames as tc does: with the Ethernet header and VLAN tag, without preamble,
    FCS and inter-frame gap, unless ``overhead_bytes`` adds them.  None is unlimited.  ``delay_ns``
    is one way.  ``jitter_ns`` is the half-width of a uniform distribution around the delay; frames
    stay in order.  ``loss`` is the probability for each packet, 0 to 1.
    """

    rate_bps: int | None = None
    delay_ns: int = 0
    jitter_ns: int = 0
    loss: float = 0.0
    queue: Queue = Queue()
    overhead_bytes: int = 0


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


@dataclass(frozen=True, slots=True)
class Topology:
    """Hosts, switches and the links between them; names are unique within each kind."""

    name: str
    hosts: tuple[Host, ...]
    switches: tuple[Switch, ...]
    links: tuple[Link, ...]

    def host(self, name: str) -> Host:
        """Return the host of that name; KeyError where there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def link(self, name: str) -> Link:
        """Return the link of that name; KeyError where there is none."""
        for link in self.links:
            if link.name == name:
                return link
        raise KeyError(name)

    def interface_at(self, end: InterfaceEnd) -> Interface:
        """Return the interface an end names; KeyError where there is none."""
        return self.host(end.host).interface(end.interface)

    def paths(
        self, local_host: str, remote_host: str, *, multipath: bool = True
    ) -> tuple[Path, ...]:
        """Return every path between two hosts, in the order of the local interfaces.

        Two addresses make a path when they share a subnet and links and switches (no host forwards)
        join the interfaces; with ``multipath``, when both also take part in MPTCP.
        """
        paths = []
        for local in self.host(local_host).interfaces:
            start = InterfaceEnd(local_host, local.name)
            reached = self.reachable(start)
            for remote in self.host(remote_host).interfaces:
                end = InterfaceEnd(remote_host, remote.name)
                if end not in reached:
                    continue
                if multipath and not (local.multipath and remote.multipath):
                    continue
                for here in local.addresses:
                    for there in remote.addresses:
                        if here.network == there.network:
                            paths.append(Path(start, here, end, there, reached[end]))
        return tuple(paths)

    def directions(self, path: Path) -> tuple[tuple[str, str], ...]:
        """Return (link, "forward" or "backward") for each link of a path, from local to remote."""
        at: InterfaceEnd | SwitchEnd = path.local
        directions = []
        for name in path.links:
            link = self.link(name)
            if at not in (link.a, link.b):  # plugged straight into the switch at the link's end
                at = self._switch_of(at)
            directions.append((name, "forward" if at == link.a else "backward"))
            at = link.b if at == link.a else link.a
        return tuple(directions)

    def _switch_of(self, end: InterfaceEnd | SwitchEnd) -> SwitchEnd:
        return next(SwitchEnd(switch.name) for switch in self.switches if end in switch.ports)

    def reachable(self, start: InterfaceEnd) -> dict[InterfaceEnd, tuple[str, ...]]:
        """Walk links and switches breadth first: interface end -> names of the links on the way."""
        reached: dict[InterfaceEnd, tuple[str, ...]] = {}
        seen: set[InterfaceEnd | SwitchEnd] = {start}
        frontier: list[tuple[InterfaceEnd | SwitchEnd, tuple[str, ...]]] = [(start, ())]
        while frontier:
            at, links = frontier.pop(0)
            if isinstance(at, InterfaceEnd) and at != start:
                reached[at] = links
                continue
            for neighbour, name in self._neighbours(at):
                if neighbour not in seen:
                    seen.add(neighbour)
                    frontier.append((neighbour, links if name is None else (*links, name)))
        return reached

    def _neighbours(
        self, at: InterfaceEnd | SwitchEnd
    ) -> list[tuple[InterfaceEnd | SwitchEnd, str | None]]:
        neighbours: list[tuple[InterfaceEnd | SwitchEnd, str | None]] = []
        for link in self.links:
            if link.a == at:
                neighbours.append((link.b, link.name))
            elif link.b == at:
                neighbours.append((link.a, link.name))
        for switch in self.switches:
            if isinstance(at, SwitchEnd) and at.switch == switch.name:
                neighbours.extend((port, None) for port in switch.ports)
            elif at in switch.ports:
                neighbours.append((SwitchEnd(switch.name), None))
        return neighbours
