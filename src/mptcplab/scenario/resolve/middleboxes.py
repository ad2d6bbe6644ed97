"""From parsed tables to the boxes of links: where they stand, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import Any, Final

from mptcplab.network.middlebox import ICMP, MiddleboxPlan
from mptcplab.network.topology import InterfaceEnd, Link, SwitchEnd, Topology
from mptcplab.scenario.errors import Path, Problems, nearest
from mptcplab.scenario.schema.value_kinds import NAME

Values = dict[str, Any]

_SELECTIVE: Final = ("direction", "options", "segments", "after", "times")
_USES: Final = {
    "nat": ("timeout", "udp_timeout", "address"),
    "firewall": ("timeout", "udp_timeout"),
    "strip": _SELECTIVE,
    "drop": _SELECTIVE,
    "blackhole": ("direction",),
    "rewrite": ("direction", "after", "times"),
    "split": ("direction", "size"),
    "merge": ("direction", "size", "hold", "blind"),
    "randomise-sequence": ("direction",),
}
"""The keys of each kind, beside those of all."""
_OF_ALL: Final = ("kind", "name", "enabled", "outside")
_FIELDS: Final = {
    "direction": "direction",
    "options": "options",
    "segments": "segments",
    "after": "after_bytes",
    "times": "times",
    "size": "size_bytes",
    "hold": "hold_ns",
    "blind": "blind",
    "timeout": "timeout_ns",
    "udp_timeout": "udp_timeout_ns",
    "address": "outside",
}
_HEADERS_BYTES: Final = 100
"""IPv6 and TCP headers with all options: what a packet may have beside its payload."""


def resolve_middleboxes(
    topology: Topology, links: Values, routers: Values, problems: Problems
) -> Topology:
    """Return the topology with the boxes that the tables of links and routers declare."""
    near: dict[str, list[MiddleboxPlan]] = {}
    far: dict[str, list[MiddleboxPlan]] = {}
    place = _Placing(topology, problems)
    for name, table in routers.items():
        for path, values, plan in _plans(("routers", name), table["middleboxes"], problems):
            for link in _outside(topology, name, values, path, problems):
                at_a = isinstance(link.a, InterfaceEnd) and link.a.host == name
                if link.driver in ("kernel", "netem"):
                    problems.add(
                        ("links", link.name, "driver"),
                        f'"{link.driver}" carries no middleboxes, such as those of {name}',
                        'driver = "tap", or none',
                    )
                box = place.at(link, plan, link.a if at_a else link.b, path)
                (near if at_a else far).setdefault(link.name, []).append(box)
    for link in topology.links:
        table = links[link.name]
        if table["middleboxes"] and link.driver in ("kernel", "netem"):
            problems.add(
                ("links", link.name, "driver"),
                f'"{link.driver}" carries no middleboxes',
                'driver = "tap", or none',
            )
        for path, _, plan in _plans(("links", link.name), table["middleboxes"], problems):
            near.setdefault(link.name, []).append(place.at(link, plan, link.a, path))
    problems.raise_any()
    if not near and not far:
        return topology
    changed = tuple(
        replace(
            link,
            near_boxes=tuple(near.get(link.name, ())),
            far_boxes=tuple(far.get(link.name, ())),
        )
        for link in topology.links
    )
    return replace(topology, links=changed)


def _plans(
    owner: Path, rows: list[Values], problems: Problems
) -> Iterator[tuple[Path, Values, MiddleboxPlan]]:
    """Yield the boxes of a link or router, each with its path and values."""
    names: set[str] = set()
    for index, values in enumerate(rows):
        path = (*owner, "middleboxes", str(index))
        kind = values["kind"]
        if kind is None:
            continue
        name = values["name"] or kind
        if not re.fullmatch(NAME, name):
            problems.add(
                (*path, "name"),
                f'"{name}" cannot be the name of a middlebox',
                "a letter or digit, then letters, digits, '.', '_' or '-', 32 in all",
            )
        if name in names:
            problems.add(
                (*path, "name"),
                f'another middlebox of {owner[1]} is called "{name}"',
                "a name of its own",
            )
        names.add(name)
        _check_keys(kind, values, path, problems)
        given = {field: values[key] for key, field in _FIELDS.items() if values[key] is not None}
        yield path, values, MiddleboxPlan(kind, name, owner[1], enabled=values["enabled"], **given)


def _check_keys(kind: str, values: Values, path: Path, problems: Problems) -> None:
    """Note keys that a kind does not use, and those that it needs."""
    for key, value in values.items():
        if value is None or key in _OF_ALL or key in _USES[kind]:
            continue
        users = [each for each, keys in _USES.items() if key in keys]
        problems.add(
            (*path, key),
            f'is given with kind = "{kind}", which does not use it',
            f"one of the keys {', '.join(_USES[kind])}; {key} is for {', '.join(users)}",
        )
    if kind == "strip" and not values["options"]:
        problems.add((*path, "options"), "is missing", 'such as options = "MP_JOIN"')
    if ICMP in (values["segments"] or ()) and (
        kind != "drop" or values["options"] or values["after"] or values["times"]
    ):
        problems.add(
            (*path, "segments"),
            f'"{ICMP}" is no TCP segment, so that options, after and times say nothing of it',
            f'kind = "drop" with segments = "{ICMP}", and another box for TCP segments',
        )
    if kind == "drop" and not (values["options"] or values["segments"]):
        problems.add(
            path,
            "says neither which options nor which segments to drop",
            'options = "MP_JOIN", segments = "SYN", or kind = "blackhole" for everything',
        )
    if kind == "split" and values["size"] is None:
        problems.add((*path, "size"), "is missing", "the longest payload, such as size = 500")


def _outside(
    topology: Topology, router: str, values: Values, path: Path, problems: Problems
) -> list[Link]:
    """Return the links at whose beginning a router's box stands."""
    own = {
        link.name: link
        for link in topology.links
        for end in (link.a, link.b)
        if isinstance(end, InterfaceEnd) and end.host == router
    }
    if values["outside"] is None:
        to_routers = [
            link
            for link in own.values()
            if all(
                isinstance(e, InterfaceEnd) and topology.is_router(e.host) for e in (link.a, link.b)
            )
        ]
        if len(to_routers) == 1:
            return to_routers
        what = f"{len(to_routers)} of its links lead" if to_routers else "none of its links leads"
        problems.add(
            (*path, "outside"),
            f"is missing, and {what} to another router",
            f"the link that leads outside, of {', '.join(own)}",
        )
        return []
    for name in values["outside"]:
        if name not in own:
            problems.add(
                (*path, "outside"),
                f'{router} has no link "{name}"',
                f"one of {', '.join(own)}",
                nearest(name, own),
            )
    return [own[name] for name in values["outside"] if name in own]


class _Placing:
    """Completes boxes by what the ends are that they stand at."""

    def __init__(self, topology: Topology, problems: Problems) -> None:
        self._topology = topology
        self._problems = problems
        self._nats: set[tuple[str, object]] = set()
        self._taken = {
            address.ip
            for node in topology.nodes
            for interface in node.interfaces
            for address in interface.addresses
        }

    def at(
        self, link: Link, plan: MiddleboxPlan, end: InterfaceEnd | SwitchEnd, path: Path
    ) -> MiddleboxPlan:
        """Return a box with what follows from its link and end."""
        if plan.kind == "nat":
            return self._nat(link, plan, end, path)
        if plan.kind == "merge":
            most = link.mtu - _HEADERS_BYTES
            if plan.size_bytes > most:
                self._problems.add(
                    (*path, "size"),
                    f"{plan.size_bytes} bytes and the headers may not fit a packet of the link's "
                    f"MTU of {link.mtu}",
                    f"{most} bytes at most",
                )
            return replace(plan, size_bytes=plan.size_bytes or most)
        return plan

    def _nat(
        self, link: Link, plan: MiddleboxPlan, end: InterfaceEnd | SwitchEnd, path: Path
    ) -> MiddleboxPlan:
        if (link.name, end) in self._nats:
            self._problems.add(path, f"is a second NAT at {end} of {link.name}", "one NAT there")
        self._nats.add((link.name, end))
        if isinstance(end, SwitchEnd):
            self._problems.add(
                path,
                f"stands at the switch {end}, and a NAT hides what is behind a host or router",
                f"a router in the place of {end}, or the link's other end first in `between`",
            )
            return plan
        own = [
            address
            for address in self._topology.interface_at(end).addresses
            if isinstance(address, IPv4Interface)
        ]
        if not own:
            self._problems.add(path, f"{end} has no IPv4 address to translate", "IPv4 on the link")
            return plan
        if plan.outside is not None:
            self._check_address(plan.outside, own[0], path)
            outside = plan.outside
        elif self._topology.is_router(end.host):
            outside = own[0].ip
        else:
            found = self._last_free(own[0])
            if found is None:
                self._problems.add(
                    path, f"the subnet {own[0].network} has no free address", "a larger subnet"
                )
                return plan
            outside = found
        self._taken.add(outside)
        return replace(plan, outside=outside)

    def _check_address(self, address: IPv4Address, own: IPv4Interface, path: Path) -> None:
        network = own.network
        ends = (network.network_address, network.broadcast_address)
        if address not in network or (network.prefixlen < 31 and address in ends):
            self._problems.add(
                (*path, "address"),
                f"{address} is no address of the subnet {network}",
                f"one of those between {network[1]} and {network[-2]}",
            )
        elif address in self._taken:
            self._problems.add(
                (*path, "address"), f"{address} is in use already", "a free address of the subnet"
            )

    def _last_free(self, own: IPv4Interface) -> IPv4Address | None:
        network = own.network
        for number in range(2, min(network.num_addresses, 1 << 16)):
            candidate = network[-number]
            if candidate not in self._taken:
                return candidate
        return None
