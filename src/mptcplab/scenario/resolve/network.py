"""From parsed tables to a Topology: find ends, derive NICs and interfaces, note errors."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, TypeVar

from mptcplab.network.topology import (
    DisjointSets,
    Host,
    Interface,
    InterfaceEnd,
    Link,
    Nic,
    Router,
    Switch,
    SwitchEnd,
    Topology,
)
from mptcplab.scenario.errors import Path, Problems, nearest
from mptcplab.scenario.resolve.addresses import Segment, resolve_addresses
from mptcplab.scenario.resolve.channels import resolve_channels
from mptcplab.scenario.resolve.middleboxes import resolve_middleboxes
from mptcplab.scenario.resolve.names import unknown_name
from mptcplab.scenario.resolve.routes import resolve_routes
from mptcplab.scenario.schema.value_kinds import INTERFACE_NAME

Values = dict[str, Any]
End = InterfaceEnd | SwitchEnd
N = TypeVar("N", Host, Router)

RESERVED_NAMES = ("lo", "all", "default")  # loopback, and two folders of net.ipv4.conf
IPV6_MIN_MTU = 1280  # RFC 8200 section 5
_NEW_INTERFACE: Values = {
    "addresses": (),
    "nic": None,
    "vlan": None,
    "mtu": None,
    "multipath": True,
    "backup": None,
}


def build_topology(name: str, values: Values, problems: Problems) -> Topology:
    """Return the topology that the parsed tables describe, with all its links.

    ``values`` holds hosts, switches, routers, links and families as ``read_section`` returns them.
    Raises ScenarioError, for several independent errors at once.
    """
    plan = _Plan(values, problems)
    plan.find_ends()
    problems.raise_any()
    plan.complete_interfaces()
    problems.raise_any()
    return plan.topology(name)


def chosen(
    topology: Topology, use: tuple[str, ...] | None, path: Path, problems: Problems
) -> Topology:
    """Return the part of a topology with the links in ``use``, in that order; None is all."""
    if use is None:
        return topology
    known = {link.name: None for link in topology.links}
    for name in use:
        if name not in known:
            problems.add(
                path,
                f'there is no link "{name}"',
                f"one of {', '.join(known)}",
                nearest(name, known),
            )
    problems.raise_any()
    links = tuple(topology.link(name) for name in use)
    ends = {end for link in links for end in (link.a, link.b)}
    switches = tuple(switch for switch in topology.switches if SwitchEnd(switch.name) in ends)
    ends |= {port for switch in switches for port in switch.ports}
    return Topology(
        topology.name,
        _used(topology.hosts, ends),
        switches,
        links,
        _used(topology.routers, ends),
        topology.seed,
    )


def _used(nodes: tuple[N, ...], ends: set[End]) -> tuple[N, ...]:
    """Return hosts or routers with those of their interfaces that are used; those that have any."""
    used = []
    for node in nodes:
        interfaces = tuple(
            each for each in node.interfaces if InterfaceEnd(node.name, each.name) in ends
        )
        nics = tuple(nic for nic in node.nics if any(each.nic == nic.name for each in interfaces))
        if interfaces:
            used.append(replace(node, nics=nics, interfaces=interfaces))
    return tuple(used)


class _Plan:
    """The network while it is being built."""

    def __init__(self, values: Values, problems: Problems) -> None:
        self.values = values
        self.problems = problems
        self.hosts: Values = values["hosts"]
        self.routers: Values = values["routers"]
        self.nodes: Values = {**self.hosts, **self.routers}
        self.interfaces: dict[InterfaceEnd, Values] = {
            InterfaceEnd(node, name): {**_NEW_INTERFACE, **interface}
            for node, table in self.nodes.items()
            for name, interface in table["interfaces"].items()
        }
        self.declared = {
            node: node in self.hosts and bool(table["interfaces"])
            for node, table in self.nodes.items()
        }
        self.link_ends: dict[str, tuple[End, End]] = {}
        self.ports: dict[str, list[InterfaceEnd]] = {}
        self.used: dict[InterfaceEnd, Path] = {}
        self.next_number: dict[str, int] = {}

    # Ends

    def find_ends(self) -> None:
        """Resolve every link's two ends and every switch's ports."""
        self._check_names()
        named = [end for link in self.values["links"].values() for end in link["between"] or ()]
        named += [end for switch in self.values["switches"].values() for end in switch["ports"]]
        reserved = {end for end in named if ":" in end}
        for name, link in self.values["links"].items():
            path = ("links", name, "between")
            ends = [self._end(end, path, reserved) for end in link["between"] or ()]
            if len(ends) == 2 and ends[0] and ends[1]:
                self._connect(name, path, ends[0], ends[1])
        for name, switch in self.values["switches"].items():
            path = ("switches", name, "ports")
            self.ports[name] = []
            for text in switch["ports"]:
                end = self._end(text, path, reserved)
                if isinstance(end, InterfaceEnd):
                    self._claim(end, path)
                    self.ports[name].append(end)
                elif end is not None:
                    self.problems.add(
                        path,
                        f'"{text}" is a switch',
                        "host:interface; two switches are joined by a link",
                    )

    def _check_names(self) -> None:
        kinds = {"switches": self.hosts, "routers": {**self.hosts, **self.values["switches"]}}
        for kind, others in kinds.items():
            for name in self.values[kind]:
                if name in others:
                    what = "host" if name in self.hosts else "switch"
                    self.problems.add(
                        (kind, name), f"is the name of a {what} too", "a name of its own"
                    )

    def _path(self, end: InterfaceEnd) -> Path:
        """Return the key of an interface."""
        kind = "routers" if end.host in self.routers else "hosts"
        return (kind, end.host, "interfaces", end.interface)

    def _end(self, text: str, path: Path, reserved: set[str]) -> End | None:
        host, colon, interface = text.partition(":")
        if not colon and host in self.values["switches"]:
            return SwitchEnd(host)
        if host not in self.nodes:
            names = [*self.nodes, *self.values["switches"]]
            self.problems.add(path, *unknown_name("host, router or switch", host, names))
            return None
        if not colon:
            return self._free_interface(host, reserved)
        end = InterfaceEnd(host, interface)
        if end not in self.interfaces:
            if self.declared[host]:
                names = list(self.hosts[host]["interfaces"])
                self.problems.add(
                    path,
                    f'{host} has no interface "{interface}"',
                    f"one of {', '.join(names)}",
                    nearest(interface, names),
                )
                return None
            if not re.fullmatch(INTERFACE_NAME, interface):
                self.problems.add(
                    path,
                    f'"{interface}" cannot be the name of an interface',
                    "a letter or digit, then letters, digits, '.', '_' or '-', 15 in all",
                )
                return None
            self._add_interface(end)
        return end

    def _free_interface(self, host: str, reserved: set[str]) -> InterfaceEnd:
        number = self.next_number.get(host, 0)
        while (
            InterfaceEnd(host, f"eth{number}") in self.interfaces
            or f"{host}:eth{number}" in reserved
        ):
            number += 1
        self.next_number[host] = number + 1
        end = InterfaceEnd(host, f"eth{number}")
        self._add_interface(end)
        return end

    def _add_interface(self, end: InterfaceEnd) -> None:
        self.interfaces[end] = dict(_NEW_INTERFACE)

    def _connect(self, name: str, path: Path, a: End, b: End) -> None:
        if isinstance(a, InterfaceEnd) and isinstance(b, InterfaceEnd) and a.host == b.host:
            self.problems.add(path, f"both ends are at {a.host}", "two different hosts or routers")
            return
        if a == b:
            self.problems.add(path, f"both ends are {a}", "two different ends")
            return
        for end in (a, b):
            if isinstance(end, InterfaceEnd):
                self._claim(end, path)
        self.link_ends[name] = (a, b)

    def _claim(self, end: InterfaceEnd, path: Path) -> None:
        other = self.used.setdefault(end, path)
        if other != path:
            self.problems.add(
                path,
                f"{end} is already on {other[0].removesuffix('s')} {other[1]}",
                "an interface on one link or switch only",
            )

    # NICs, VLANs, MTU

    def complete_interfaces(self) -> None:
        """Find every interface's NIC, VLAN and MTU, and check what links and NICs allow."""
        links_mtu = self._segment_mtu()
        vlans: dict[tuple[str, str, int | None], InterfaceEnd] = {}
        for end, interface in self.interfaces.items():
            path = self._path(end)
            self._place(end, interface, path)
            place = (end.host, interface["nic"], interface["vlan"])
            other = vlans.setdefault(place, end)
            if other != end:
                what = f"VLAN {place[2]}" if place[2] else "the NIC itself"
                self.problems.add(
                    (*path, "vlan"),
                    f"{what} on {place[1]} is {other.interface} already",
                    "each VLAN of a NIC once",
                )
            if end not in self.used:
                self.problems.add(
                    path,
                    "no link and no switch is attached to it",
                    f'a link between "{end}" and another end',
                )
            largest = links_mtu.get(end, 1500)
            if interface["mtu"] is None:
                interface["mtu"] = largest
            elif interface["mtu"] > largest:
                self.problems.add(
                    (*path, "mtu"),
                    f"{interface['mtu']} is more than its link's {largest}",
                    "an MTU that the link carries",
                )

    def _place(self, end: InterfaceEnd, interface: Values, path: Path) -> None:
        if end.interface in RESERVED_NAMES:
            self.problems.add(path, f'"{end.interface}" is reserved by Linux', "another name")
        base, dot, suffix = end.interface.rpartition(".")
        tagged = bool(dot) and suffix.isdigit()
        if tagged and interface["vlan"] is None and interface["nic"] in (None, base):
            interface["vlan"] = int(suffix)
            if not 1 <= int(suffix) <= 4094:
                self.problems.add((*path, "vlan"), f"{suffix} is not a VLAN ID", "1 to 4094")
        elif tagged and interface["vlan"] not in (None, int(suffix)):
            self.problems.add(
                (*path, "vlan"),
                f"{interface['vlan']} contradicts the name {end.interface}",
                f"{suffix}, or another name",
            )
        if interface["nic"] is None:
            interface["nic"] = base if tagged else end.interface
        nics = self.hosts[end.host]["nics"] if end.host in self.hosts else {}
        if nics and interface["nic"] not in nics:
            self.problems.add(
                (*path, "nic"),
                f'{end.host} has no NIC "{interface["nic"]}"',
                f"one of {', '.join(nics)}",
                nearest(interface["nic"], nics),
            )

    def _segment_mtu(self) -> dict[InterfaceEnd, int]:
        mtu_at = {}
        for segment, links in self._segments():
            mtus = [self.values["links"][name]["mtu"] for name in links]
            for end in segment.ends:
                mtu_at[end] = min(mtus, default=1500)
        return mtu_at

    # Segments

    def _segments(self) -> list[tuple[Segment, list[str]]]:
        """Return broadcast domains, in the order of their first link, with their links."""
        joined = DisjointSets()
        links: list[tuple[str, tuple[End, ...]]] = list(self.link_ends.items())
        links += [
            ("", (SwitchEnd(switch), *ports)) for switch, ports in self.ports.items() if ports
        ]
        for _, ends in links:
            for end in ends[1:]:
                joined.join(ends[0], end)
        names: dict[object, list[str]] = {}
        labels: dict[object, str] = {}
        for name, ends in links:
            group = joined.find(ends[0])
            named = names.setdefault(group, [])
            labels.setdefault(group, str(ends[0]))
            if name:
                named.append(name)
        members: dict[object, list[InterfaceEnd]] = {group: [] for group in names}
        for end in self.interfaces:
            if end in self.used:
                members[joined.find(end)].append(end)
        return [
            (
                Segment(
                    " and ".join(named) or labels[group], members[group], self._families(named)
                ),
                named,
            )
            for group, named in names.items()
        ]

    def _families(self, links: list[str]) -> tuple[int, ...]:
        own = [self.values["links"][name]["families"] for name in links]
        asked = tuple(family for families in own if families for family in families)
        return tuple(dict.fromkeys(asked)) or self.values["families"] or ()

    # The result

    def topology(self, name: str) -> Topology:
        """Return the finished topology; raises ScenarioError where addresses or links are wrong."""
        segments = [segment for segment, _ in self._segments()]
        given = {end: tuple(values["addresses"]) for end, values in self.interfaces.items()}
        paths = {end: (*self._path(end), "addresses") for end in self.interfaces}
        addresses = resolve_addresses(segments, given, list(self.nodes), paths, self.problems)
        for end, own_addresses in addresses.items():
            mtu = self.interfaces[end]["mtu"]
            if mtu < IPV6_MIN_MTU and any(address.version == 6 for address in own_addresses):
                self.problems.add(
                    (*self._path(end), "mtu"),
                    f"{mtu} is too small for the IPv6 address of {end}",
                    f"{IPV6_MIN_MTU} at least (RFC 8200 section 5)",
                )
        links = []
        for link, (a, b) in self.link_ends.items():
            values = self.values["links"][link]
            self._mark_backup(link, (a, b))
            forward, backward = resolve_channels(link, values, self.problems)
            links.append(
                Link(
                    link,
                    a,
                    b,
                    forward,
                    backward,
                    values["mtu"],
                    values["environment"],
                    values["driver"],
                    values["up"],
                    values["spare"],
                )
            )
        self.problems.raise_any()
        own: dict[str, list[tuple[InterfaceEnd, Values]]] = {node: [] for node in self.nodes}
        for end, values in self.interfaces.items():
            own[end.host].append((end, values))
        hosts = tuple(self._host(host, own[host], addresses) for host in self.hosts)
        routers = tuple(self._router(router, own[router], addresses) for router in self.routers)
        switches = tuple(self._switch(name) for name in self.ports)
        topology = Topology(name, hosts, switches, tuple(links), routers)
        topology = resolve_middleboxes(topology, self.values["links"], self.routers, self.problems)
        return resolve_routes(topology, self.hosts, self.routers, self.problems)

    def _mark_backup(self, link: str, ends: tuple[End, End]) -> None:
        """Let the hosts' interfaces at the ends of a backup link be backups."""
        if not self.values["links"][link]["backup"]:
            return
        mine = [end for end in ends if isinstance(end, InterfaceEnd) and end.host in self.hosts]
        for end in mine:
            if self.interfaces[end]["backup"] is None:
                self.interfaces[end]["backup"] = True
        if not mine:
            self.problems.add(
                ("links", link, "backup"),
                "no host is at either end of it",
                "backup on a link of a host, or on its interface",
            )

    def _switch(self, name: str) -> Switch:
        table = self.values["switches"][name]
        fabric, ecmp = table["fabric"], table["ecmp"]
        if ecmp is not None and fabric == "bridge":
            self.problems.add(
                ("switches", name, "ecmp"),
                "is for switches that spread flows, and this one is a bridge",
                'fabric = "openvswitch" with it, or no ecmp',
            )
        return Switch(name, tuple(self.ports[name]), fabric, ecmp or "ports")

    def _router(
        self,
        name: str,
        mine: list[tuple[InterfaceEnd, Values]],
        addresses: dict[InterfaceEnd, Any],
    ) -> Router:
        nics = dict.fromkeys(values["nic"] for _, values in mine)
        return Router(
            name,
            tuple(map(Nic, nics)),
            _interfaces(mine, addresses),
            self.routers[name]["ecmp"],
        )

    def _host(
        self,
        name: str,
        mine: list[tuple[InterfaceEnd, Values]],
        addresses: dict[InterfaceEnd, Any],
    ) -> Host:
        table = self.hosts[name]
        nics = dict.fromkeys([*table["nics"], *(values["nic"] for _, values in mine)])
        return Host(
            name,
            tuple(Nic(nic, (table["nics"].get(nic) or {}).get("rate")) for nic in nics),
            _interfaces(mine, addresses),
            table["stack"],
            table["cpu"],
            table["offload"],
        )


def _interfaces(
    mine: list[tuple[InterfaceEnd, Values]], addresses: dict[InterfaceEnd, Any]
) -> tuple[Interface, ...]:
    return tuple(
        Interface(
            end.interface,
            values["nic"],
            values["vlan"],
            addresses[end],
            values["mtu"],
            values["multipath"],
            bool(values.get("backup")),
        )
        for end, values in mine
    )
