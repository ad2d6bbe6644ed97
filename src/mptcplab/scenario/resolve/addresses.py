"""Addresses: check those that are given, derive the others, always alike and without overlap.

Interfaces that links and switches join form a *segment* (a broadcast domain).  Each segment gets
one subnet per family: that of an address given on it, or 10.0.N.0/24 and fd6d:7074:6370:N::/64 for
the N-th segment in the order of the links, skipping what is taken.  The host part is the host's
position in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)
from itertools import combinations, count

from mptcplab.network.topology import InterfaceEnd
from mptcplab.scenario.errors import Path, Problems

Address = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


@dataclass(slots=True)
class Segment:
    """Interfaces of one broadcast domain and the families its links ask for."""

    name: str
    ends: list[InterfaceEnd]
    families: tuple[int, ...] = ()  # that every interface gets; empty where the file names none


def address_path(end: InterfaceEnd) -> Path:
    """Return the key that holds an interface's addresses."""
    return ("hosts", end.host, "interfaces", end.interface, "addresses")


def resolve_addresses(
    segments: list[Segment],
    given: dict[InterfaceEnd, tuple[Address, ...]],
    hosts: list[str],
    problems: Problems,
) -> dict[InterfaceEnd, tuple[Address, ...]]:
    """Return every interface's addresses; errors of the given ones are noted."""
    _check_unique(given, problems)
    _check_subnets(segments, given, problems)
    taken: list[Network] = [address.network for all_ in given.values() for address in all_]
    result = {end: list(addresses) for end, addresses in given.items()}
    for segment in segments:
        for family in (4, 6):
            if segment.families and family not in segment.families:
                _refuse_family(segment, family, result, problems)
        for family, wanting in _wanting(segment, given):
            _derive(segment, family, wanting, result, taken, hosts, problems)
    return {
        end: tuple(sorted(addresses, key=lambda address: address.version))
        for end, addresses in result.items()
    }


def _check_unique(given: dict[InterfaceEnd, tuple[Address, ...]], problems: Problems) -> None:
    owner: dict[str, InterfaceEnd] = {}
    for end, addresses in given.items():
        for address in addresses:
            other = owner.setdefault(str(address.ip), end)
            if other != end:
                problems.add(
                    address_path(end),
                    f"{address.ip} is also the address of {other}",
                    "an address that no other interface has",
                )
        if len({address.ip for address in addresses}) < len(addresses):
            problems.add(address_path(end), "holds an address twice", "each address once")


def _check_subnets(
    segments: list[Segment], given: dict[InterfaceEnd, tuple[Address, ...]], problems: Problems
) -> None:
    by_segment = [
        (segment, {(address.network, end) for end in segment.ends for address in given[end]})
        for segment in segments
    ]
    for (one, ones), (two, twos) in combinations(by_segment, 2):
        clash = next(
            (
                (here, there, end)
                for here, _ in sorted(ones, key=str)
                for there, end in sorted(twos, key=str)
                if here.version == there.version and here.overlaps(there)
            ),
            None,
        )
        if clash:
            here, there, end = clash
            problems.add(
                address_path(end),
                f"subnet {there} on {two.name} overlaps {here} on {one.name}",
                "a subnet of its own for each link",
            )
    for segment, networks in by_segment:
        _check_neighbours(segment, networks, given, problems)


def _check_neighbours(
    segment: Segment,
    networks: set[tuple[Network, InterfaceEnd]],
    given: dict[InterfaceEnd, tuple[Address, ...]],
    problems: Problems,
) -> None:
    """Note an interface, if not the first, that shares no subnet with any other on its segment."""
    for position, end in enumerate(segment.ends):
        for address in given[end]:
            others = {
                network
                for network, other in networks
                if other != end and network.version == address.version
            }
            before = {each.version for other in segment.ends[:position] for each in given[other]}
            if address.version in before and address.network not in others:
                nearest_network = ", ".join(sorted(map(str, others)))
                problems.add(
                    address_path(end),
                    f"{address} shares no subnet with the others on {segment.name}",
                    f"an address in {nearest_network}",
                )


def _wanting(
    segment: Segment, given: dict[InterfaceEnd, tuple[Address, ...]]
) -> list[tuple[int, list[InterfaceEnd]]]:
    """Return for each family the interfaces that need a derived address of it."""

    def has(end: InterfaceEnd, family: int) -> bool:
        return any(address.version == family for address in given[end])

    if segment.families:
        return [
            (family, [end for end in segment.ends if not has(end, family)])
            for family in segment.families
        ]
    bare = [end for end in segment.ends if not given[end]]
    present = [family for family in (4, 6) if any(has(end, family) for end in segment.ends)]
    return [(family, bare) for family in present or [4]]


def _derive(
    segment: Segment,
    family: int,
    wanting: list[InterfaceEnd],
    result: dict[InterfaceEnd, list[Address]],
    taken: list[Network],
    hosts: list[str],
    problems: Problems,
) -> None:
    if not wanting:
        return
    present = [
        address for end in segment.ends for address in result[end] if address.version == family
    ]
    network = present[0].network if present else _free_network(family, taken)
    if not present:
        taken.append(network)
    used = {address.ip for address in present}
    last = network.num_addresses - (1 if family == 4 else 0)  # IPv4's last one is broadcast
    for end in wanting:
        numbers = range(hosts.index(end.host) + 1, last)
        free = next((number for number in numbers if network[number] not in used), None)
        if free is None:
            problems.add(
                address_path(end),
                f"subnet {network} has no address left for {end}",
                "a larger subnet on this link",
            )
            return
        address = ip_interface(f"{network[free]}/{network.prefixlen}")
        used.add(address.ip)
        result[end].append(address)


def _refuse_family(
    segment: Segment, family: int, result: dict[InterfaceEnd, list[Address]], problems: Problems
) -> None:
    for end in segment.ends:
        for address in result[end]:
            if address.version == family:
                problems.add(
                    address_path(end),
                    f"{address} is IPv{family}, which families leaves out",
                    f'"ipv{family}" in families, or no such address',
                )


def _free_network(family: int, taken: list[Network]) -> Network:
    for number in count(1):
        text = (
            f"10.{number >> 8}.{number & 255}.0/24"
            if family == 4
            else f"fd6d:7074:6370:{number:x}::/64"
        )
        network = ip_network(text)
        if not any(network.version == other.version and network.overlaps(other) for other in taken):
            return network
    raise AssertionError("unreachable: count() does not end")
