"""What the switches of a fabric are told, in the words of ovs-ofctl(8).

Each switch knows where every interface of its subnet is: frames for it leave by the link that leads
there by the fewest links. Where several do, a select group chooses by OVS's hash of addresses and
ports; with ``ecmp = "addresses"`` there is a rule for each pair of addresses instead, and the way
is the one that :mod:`mptcplab.network.switching` says. What is for all (ARP, neighbour discovery)
follows a spanning tree. Rules stay as they are when links fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mptcplab.linux.errors import MachineCannotError
from mptcplab.network.ecmp import Fields, chosen
from mptcplab.network.routing import Address, InterfaceAddress
from mptcplab.network.topology import InterfaceEnd, Switch, SwitchEnd, Topology

_HASHED: Final = "ip_src,ip_dst,ipv6_src,ipv6_dst,tcp_src,tcp_dst,udp_src,udp_dst"
_TO_ALL: Final = "01:00:00:00:00:00/01:00:00:00:00:00"  # the group bit (IEEE 802, section 8.2.2)
_PAIR, _HOST, _OFF_TREE, _TREE = 400, 300, 200, 100  # priorities


@dataclass(frozen=True, slots=True)
class Programme:
    """The groups and rules of one switch, a line each."""

    groups: list[str] = field(default_factory=list)
    flows: list[str] = field(default_factory=list)


class OpenFlow:
    """Programmes for the switches of a topology that spread flows."""

    def __init__(self, topology: Topology, macs: Mapping[InterfaceEnd, str]) -> None:
        """Take the MAC address of every interface.

        MachineCannotError where two interfaces of a subnet have one.
        """
        self._topology = topology
        self._macs = macs
        for switch in topology.fabric:
            self._check(self._members(switch))

    def _members(self, switch: SwitchEnd) -> list[InterfaceEnd]:
        """Return the interfaces that a switch can reach."""
        reached = self._topology.walk(switch).reached
        return [end for each in reached for end, _ in self._topology.hanging.get(each, ())]

    def _check(self, members: Sequence[InterfaceEnd]) -> None:
        owners: dict[str, InterfaceEnd] = {}
        for end in members:
            other = owners.setdefault(self._macs[end], end)
            if other != end:
                raise MachineCannotError(
                    f"{other} and {end} have one MAC address, and a fabric cannot tell them "
                    "apart; expected interfaces of different NICs, or --on simulated"
                )

    def programme(self, switch: Switch, ports: Mapping[str | InterfaceEnd, int]) -> Programme:
        """Return what a switch is told whose ports have these numbers, by link or interface."""
        programme = Programme()
        here = SwitchEnd(switch.name)
        for end in self._members(here):
            to = f"dl_dst={self._macs[end]}"
            leaving = [ports[way] for way in self._ways(here, end)]
            if len(leaving) == 1:
                programme.flows.append(_rule(_HOST, to, f"output:{leaving[0]}"))
            elif switch.ecmp == "ports":
                group = self._group(programme, leaving, self._topology.fabric[here].seed)
                programme.flows.append(_rule(_HOST, to, f"group:{group}"))
            else:
                programme.flows.append(_rule(_HOST, to, f"output:{leaving[0]}"))
                programme.flows.extend(self._pairs(here, end, leaving))
        programme.flows.extend(self._to_all(here, ports))
        return programme

    def _ways(self, here: SwitchEnd, end: InterfaceEnd) -> list[str | InterfaceEnd]:
        """Return the links that lead from a switch to an interface, or the interface plugged in."""
        switch, link = self._topology.attached[end]
        assert isinstance(switch, SwitchEnd)
        if switch == here:
            return [end if link is None else link]
        return [name for _, name in self._topology.walk(switch).steps(here)]

    def _group(self, programme: Programme, leaving: Sequence[int], seed: int) -> int:
        """Return the number of the select group of some ports."""
        buckets = ",".join(
            f"bucket=bucket_id:{number},actions=output:{port}"
            for number, port in enumerate(leaving)
        )
        rest = (
            f",type=select,selection_method=hash,selection_method_param={seed},"
            f"fields({_HASHED}),{buckets}"
        )
        for number, line in enumerate(programme.groups, 1):
            if line == f"group_id={number}{rest}":
                return number
        number = len(programme.groups) + 1
        programme.groups.append(f"group_id={number}{rest}")
        return number

    def _pairs(self, here: SwitchEnd, end: InterfaceEnd, leaving: Sequence[int]) -> Iterator[str]:
        """Yield a rule for each pair of addresses whose packets go to an interface."""
        spreading = self._topology.fabric[here]
        hosts = [
            (InterfaceEnd(host.name, interface.name), address)
            for host in self._topology.hosts
            for interface in host.interfaces
            for address in interface.addresses
        ]
        own = self._topology.interface_at(end).addresses
        for target, destination in hosts:
            if target != end and not self._is_beyond(end, destination, own):
                continue
            for source, address in hosts:
                if source == target or address.version != destination.version:
                    continue
                value = Fields(address.ip, destination.ip).hash(spreading.seed, by_ports=False)
                to = f"dl_dst={self._macs[end]},{_addresses(address.ip, destination.ip)}"
                yield _rule(_PAIR, to, f"output:{leaving[chosen(value, len(leaving))]}")

    def _is_beyond(
        self, end: InterfaceEnd, destination: InterfaceAddress, own: Sequence[InterfaceAddress]
    ) -> bool:
        """Say whether packets for an address may be handed to an interface of a router."""
        return self._topology.is_router(end.host) and all(
            destination.network != address.network for address in own
        )

    def _to_all(self, here: SwitchEnd, ports: Mapping[str | InterfaceEnd, int]) -> Iterator[str]:
        """Yield the rules for what is for all: by a spanning tree."""
        walks = (self._topology.walk(SwitchEnd(each.name)) for each in self._topology.switches)
        walk = next(walk for walk in walks if walk.reaches(here))
        tree = {steps[0][1] for each in walk.reached if (steps := walk.steps(each))}
        off = [
            number
            for way, number in ports.items()
            if isinstance(way, str)
            and way not in tree
            and all(isinstance(end, SwitchEnd) for end in self._ends(way))
        ]
        for number in off:
            yield _rule(_OFF_TREE, f"in_port={number},dl_dst={_TO_ALL}", "drop")
        outputs = ",".join(f"output:{each}" for each in ports.values() if each not in off)
        yield _rule(_TREE, f"dl_dst={_TO_ALL}", outputs or "drop")

    def _ends(self, name: str) -> tuple[InterfaceEnd | SwitchEnd, InterfaceEnd | SwitchEnd]:
        link = self._topology.link(name)
        return link.a, link.b


def _rule(priority: int, match: str, actions: str) -> str:
    return f"priority={priority},{match},actions={actions}"


def _addresses(source: Address, destination: Address) -> str:
    if source.version == 4:
        return f"ip,nw_src={source},nw_dst={destination}"
    return f"ipv6,ipv6_src={source},ipv6_dst={destination}"
