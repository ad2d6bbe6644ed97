"""Addresses: check those that are given, derive the others, always alike and without overlap.

Interfaces that links and switches join form a *segment* (a broadcast domain).  Each segment gets
one subnet per family: that of an address given on it, or 10.0.N.0/24 and fd6d:7074:6370:N::/64 for
the N-th segment in the order of the links, skipping what is taken (10.N.0.0 in larger steps where
there are more hosts than a /24 holds).  The host part is the host's
position in the file, where routers come after the hosts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)

from mptcplab.network.topology import InterfaceEnd
from mptcplab.scenario.errors import Path, Problems

Address = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network
Paths = Mapping[InterfaceEnd, Path]
"""The key that holds an interface's addresses."""
MAX_ADDRESS = (1 << 128) - 1


@dataclass(slots=True)
class Segment:
    """Interfaces of one broadcast domain and the families its links ask for."""

    name: str
    ends: list[InterfaceEnd]
    families: tuple[int, ...] = ()  # that every interface gets; empty where the file names none


def resolve_addresses(
    segments: list[Segment],
    given: dict[InterfaceEnd, tuple[Address, ...]],
    hosts: list[str],
    paths: Paths,
    problems: Problems,
) -> dict[InterfaceEnd, tuple[Address, ...]]:
    """Return every interface's addresses; errors of the given ones are noted at their ``paths``.

    ``hosts`` are the hosts and routers, in their order.
    """
    _check_unique(given, paths, problems)
    _check_subnets(segments, given, paths, problems)
    free = {
        family: _FreeNetworks(
            family,
            len(hosts),
            {each.network for all_ in given.values() for each in all_ if each.version == family},
        )
        for family in (4, 6)
    }
    position = {host: number for number, host in enumerate(hosts, 1)}
    result = {end: list(addresses) for end, addresses in given.items()}
    for segment in segments:
        for family in (4, 6):
            if segment.families and family not in segment.families:
                _refuse_family(segment, family, result, paths, problems)
        for family, wanting in _wanting(segment, given):
            _derive(segment, wanting, result, free[family], position, paths, problems)
    return {
        end: tuple(sorted(addresses, key=lambda address: address.version))
        for end, addresses in result.items()
    }


def _check_unique(
    given: dict[InterfaceEnd, tuple[Address, ...]], paths: Paths, problems: Problems
) -> None:
    owner: dict[str, InterfaceEnd] = {}
    for end, addresses in given.items():
        for address in addresses:
            other = owner.setdefault(str(address.ip), end)
            if other != end:
                problems.add(
                    paths[end],
                    f"{address.ip} is also the address of {other}",
                    "an address that no other interface has",
                )
        if len({address.ip for address in addresses}) < len(addresses):
            problems.add(paths[end], "holds an address twice", "each address once")


def _check_subnets(
    segments: list[Segment],
    given: dict[InterfaceEnd, tuple[Address, ...]],
    paths: Paths,
    problems: Problems,
) -> None:
    by_segment = [
        (segment, {(address.network, end) for end in segment.ends for address in given[end]})
        for segment in segments
    ]
    for number, other in _overlapping(by_segment):
        (one, ones), (two, twos) = by_segment[number], by_segment[other]
        here, there, end = next(
            (here, there, end)
            for here, _ in sorted(ones, key=str)
            for there, end in sorted(twos, key=str)
            if here.version == there.version and here.overlaps(there)
        )
        problems.add(
            paths[end],
            f"subnet {there} on {two.name} overlaps {here} on {one.name}",
            "a subnet of its own for each link",
        )
    for segment, _ in by_segment:
        _check_neighbours(segment, given, paths, problems)


def _overlapping(
    by_segment: list[tuple[Segment, set[tuple[Network, InterfaceEnd]]]],
) -> list[tuple[int, int]]:
    """Return the pairs of segments, by number, that have overlapping subnets."""
    spans = sorted(
        {
            (network.version, int(network[0]), int(network[-1]), number)
            for number, (_, networks) in enumerate(by_segment)
            for network, _ in networks
        }
    )
    pairs = set()
    open_spans: list[tuple[int, int, int]] = []
    for version, first, last, number in spans:
        open_spans = [each for each in open_spans if each[0] == version and each[1] >= first]
        for _, _, other in open_spans:
            if other != number:
                pairs.add((min(number, other), max(number, other)))
        open_spans.append((version, last, number))
    return sorted(pairs)


def _check_neighbours(
    segment: Segment,
    given: dict[InterfaceEnd, tuple[Address, ...]],
    paths: Paths,
    problems: Problems,
) -> None:
    """Note an interface, if not the first, that shares no subnet with any other on its segment."""
    members: dict[Network, set[InterfaceEnd]] = {}
    for end in segment.ends:
        for address in given[end]:
            members.setdefault(address.network, set()).add(end)
    before: set[int] = set()
    for end in segment.ends:
        for address in given[end]:
            if address.version in before and members[address.network] == {end}:
                others = sorted(
                    str(network)
                    for network, ends in members.items()
                    if network.version == address.version and ends != {end}
                )
                problems.add(
                    paths[end],
                    f"{address} shares no subnet with the others on {segment.name}",
                    f"an address in {', '.join(others)}",
                )
        before |= {address.version for address in given[end]}


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
    wanting: list[InterfaceEnd],
    result: dict[InterfaceEnd, list[Address]],
    free: _FreeNetworks,
    position: dict[str, int],
    paths: Paths,
    problems: Problems,
) -> None:
    if not wanting:
        return
    family = free.family
    present = [
        address for end in segment.ends for address in result[end] if address.version == family
    ]
    network = present[0].network if present else free.take()
    used = {address.ip for address in present}
    last = network.num_addresses - (1 if family == 4 else 0)  # IPv4's last one is broadcast
    following: dict[str, int] = {}  # by host: below that, it has taken all that it could have
    for end in wanting:
        numbers = range(following.get(end.host, position[end.host]), last)
        number = next((number for number in numbers if network[number] not in used), None)
        if number is None:
            problems.add(
                paths[end],
                f"subnet {network} has no address left for {end}",
                "a larger subnet on this link",
            )
            return
        address = ip_interface(f"{network[number]}/{network.prefixlen}")
        used.add(address.ip)
        following[end.host] = number + 1
        result[end].append(address)


def _refuse_family(
    segment: Segment,
    family: int,
    result: dict[InterfaceEnd, list[Address]],
    paths: Paths,
    problems: Problems,
) -> None:
    for end in segment.ends:
        for address in result[end]:
            if address.version == family:
                problems.add(
                    paths[end],
                    f"{address} is IPv{family}, which families leaves out",
                    f'"ipv{family}" in families, or no such address',
                )


class _FreeNetworks:
    """The subnets of a family that are left for links without addresses, in order."""

    def __init__(self, family: int, hosts: int, given: set[Network]) -> None:
        """Take how many hosts a subnet should hold, and the subnets that the file gives."""
        self.family = family
        self._hosts = hosts
        self._given: list[tuple[int, int]] = []
        for first, last in sorted((int(network[0]), int(network[-1])) for network in given):
            if self._given and first <= self._given[-1][1]:
                self._given[-1] = (self._given[-1][0], max(last, self._given[-1][1]))
            else:
                self._given.append((first, last))
        self._number = 0

    def take(self) -> Network:
        """Return the next one that overlaps none that the file gives."""
        while True:
            self._number += 1
            network = self._numbered(self._number)
            place = bisect_right(self._given, (int(network[-1]), MAX_ADDRESS))
            if place == 0 or self._given[place - 1][1] < int(network[0]):
                return network

    def _numbered(self, number: int) -> Network:
        """Return 10.0.N.0/24, or larger where the file has more hosts than that holds."""
        if self.family == 6:
            return ip_network(f"fd6d:7074:6370:{number:x}::/64")
        host_bits = max(8, (self._hosts + 1).bit_length())  # neither network nor broadcast address
        return ip_network((int(ip_address("10.0.0.0")) + (number << host_bits), 32 - host_bits))
