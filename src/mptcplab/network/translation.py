"""The addresses that NATs on links show, and whom a path's far host sees."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface

from mptcplab.network.topology import InterfaceEnd, Link, Path, Topology


def outside_at(link: Link, *, near: bool) -> tuple[InterfaceEnd, IPv4Interface] | None:
    """Return where a NAT stands at one end of a link, ``a`` where ``near``, and what it shows."""
    end = link.a if near else link.b
    for box in link.near_boxes if near else link.far_boxes:
        if box.outside is not None and isinstance(end, InterfaceEnd):
            return end, IPv4Interface(box.outside)
    return None


def outsides(topology: Topology) -> dict[InterfaceEnd, IPv4Interface]:
    """Return the address that each NAT shows, in its subnet, by where it stands."""
    return {
        found[0]: _in_subnet(topology, *found)
        for link in topology.links
        for near in (True, False)
        if (found := outside_at(link, near=near)) is not None
    }


def seen_as(topology: Topology, path: Path) -> tuple[InterfaceEnd, IPv4Interface] | None:
    """Return the address that the remote host of a path sees, and where it is.

    None where no NAT translates it; of several, the last one counts.
    """
    seen = None
    if path.local_address.version == 4:
        for name, direction in topology.directions(path):
            link = topology.link(name)
            found = outside_at(link, near=direction == "forward")
            if found is not None:
                seen = found[0], _in_subnet(topology, *found)
    return seen


def _in_subnet(topology: Topology, end: InterfaceEnd, outside: IPv4Interface) -> IPv4Interface:
    """Return an address with the prefix of the subnet that it is of."""
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = topology.interface_at(end).addresses
    for own in addresses:
        if own.version == 4 and outside.ip in own.network:
            return IPv4Interface(f"{outside.ip}/{own.network.prefixlen}")
    return outside
