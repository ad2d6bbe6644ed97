"""NICs that are trunks: all VLANs of such a NIC are 802.1Q interfaces on one veth pair.

    eth8 ==================== t0
     +- eth8.520               +- w5a   (VLANs of the same tag, one for each link)
     +- eth8.516               +- w7a

The pair's other end is in the wire's namespace, where each VLAN on it is a link's end like any
other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mptcplab.linux.drivers.driver import Tagging
from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.network.topology import Host, Interface, InterfaceEnd, Topology


@dataclass(frozen=True, slots=True)
class Trunk:
    """A host's NIC and the VLANs on it; ``far`` is the name of its other end."""

    host: str
    nic: str
    far: str
    mtu: int
    vlans: tuple[Interface, ...]


def find_trunks(topology: Topology, kinds: Mapping[str, str]) -> tuple[list[Trunk], list[str]]:
    """Return the trunks of a topology, and in sentences which VLANs cannot be on one and why.

    ``kinds`` names each link's driver.
    """
    emulated = {
        end
        for link in topology.links
        if kinds[link.name] == "tap"
        for end in (link.a, link.b)
        if isinstance(end, InterfaceEnd)
    }
    trunks: list[Trunk] = []
    notes: list[str] = []
    for host in topology.hosts:
        for nic in host.nics:
            members = [i for i in host.interfaces if i.nic == nic.name and i.vlan is not None]
            apart = [i for i in members if InterfaceEnd(host.name, i.name) in emulated]
            reason = "the TAP emulator carries their links"
            if any(i.nic == nic.name and i.vlan is None for i in host.interfaces):
                apart, reason = members, f"{nic.name} has a link of its own"
            if apart:
                names = ", ".join(i.name for i in apart)
                notes.append(f"{host.name}: {names}: separate interfaces without tags: {reason}")
            tagged = tuple(i for i in members if i not in apart)
            if tagged:
                mtu = max(_segment_mtu(topology, host, i) for i in tagged)
                trunks.append(Trunk(host.name, nic.name, f"t{len(trunks)}", mtu, tagged))
    return trunks, notes


def _segment_mtu(topology: Topology, host: Host, interface: Interface) -> int:
    end = InterfaceEnd(host.name, interface.name)
    return max(interface.mtu, *(link.mtu for link in topology.links if end in (link.a, link.b)), 0)


def make_trunks(
    trunks: list[Trunk], wire: NetNamespace, hosts: Mapping[str, NetNamespace]
) -> dict[InterfaceEnd, Tagging]:
    """Make the trunks and set them up; return what makes each interface on them a VLAN."""
    if not trunks:
        return {}
    wire.routing.batch(
        rtnl.add_veth(
            rtnl.VethEnd(trunk.far, wire.descriptor, trunk.mtu),
            rtnl.VethEnd(trunk.nic, hosts[trunk.host].descriptor, trunk.mtu),
        )
        for trunk in trunks
    )
    far = rtnl.devices(wire.routing)
    near = {name: rtnl.devices(hosts[name].routing) for name in {t.host for t in trunks}}
    tagging = {}
    for trunk in trunks:
        ends = near[trunk.host][trunk.nic].index, far[trunk.far].index
        for space, index in zip((hosts[trunk.host], wire), ends, strict=True):
            space.routing.request(rtnl.set_link(index, up=True, what=f"set {trunk.nic} up"))
        for interface, tag in _tags(trunk):
            tagging[InterfaceEnd(trunk.host, interface)] = Tagging(tag, *ends)
    return tagging


def _tags(trunk: Trunk) -> Iterator[tuple[str, int]]:
    for interface in trunk.vlans:
        if interface.vlan is not None:
            yield interface.name, interface.vlan
