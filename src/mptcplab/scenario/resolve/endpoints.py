"""From the tables of endpoints and limits to those of every host, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final

from mptcplab.network.topology import Address, Host, Interface
from mptcplab.scenario.endpoints import Endpoint, HostEndpoints
from mptcplab.scenario.errors import Path, Problems, nearest
from mptcplab.scenario.model import Action, Flow, Scenario, Tunables
from mptcplab.scenario.schema.keys import LIMITS

Values = dict[str, Any]

_FLAGS: Final = ("subflow", "signal", "backup", "fullmesh", "laminar")
_MOST: Final = 8  # MPTCP_PM_ADDR_MAX of Linux up to 6.18


def build_endpoints(
    scenario: Scenario, values: Values, problems: Problems
) -> dict[str, HostEndpoints]:
    """Return every host's endpoints and limits where the file gives any host some; else nothing."""
    _check_interfaces(scenario, problems)
    tables = {host.name: values["hosts"][host.name] for host in scenario.topology.hosts}
    given = [name for name, table in tables.items() if table["endpoints"] or table["limits"]]
    if not given:
        return {}
    for host in given:
        _check_tunables(host, tables[host], scenario.tunables[host], problems)
    return {
        host.name: _host(host, tables[host.name], scenario, problems)
        for host in scenario.topology.hosts
    }


def check_links(scenario: Scenario, problems: Problems) -> None:
    """Note a flow whose `links` leave out some over which endpoints open subflows."""
    for flow in scenario.flows:
        if not scenario.endpoints or flow.protocol != "mptcp":
            continue
        used = [link for path in scenario.expected_subflows(flow) for link in path.possible]
        missing = [link for link in dict.fromkeys(used) if link not in flow.links]
        if missing:
            problems.add(
                ("flows", flow.name, "links"),
                f"leaves out {', '.join(missing)}, over which endpoints of its hosts open subflows",
                "all links in whatever order, or fewer endpoints",
            )


def _check_interfaces(scenario: Scenario, problems: Problems) -> None:
    for host in scenario.topology.hosts:
        for interface in host.interfaces:
            if interface.backup and not interface.multipath:
                problems.add(
                    ("hosts", host.name, "interfaces", interface.name, "backup"),
                    "MPTCP does not use the interface, whose multipath is false",
                    "one of the two",
                )


def _check_tunables(host: str, table: Values, tunables: Tunables, problems: Problems) -> None:
    key = "endpoints" if table["endpoints"] else "limits"
    for name, given, wanted in (
        ("ndiffports", tunables.ndiffports != 1, "1"),
        ("path_manager", ":" in tunables.path_manager, '"link-aware" or "kernel"'),
    ):
        if given:
            problems.add(
                ("hosts", host, key),
                f"is given together with {name} = {getattr(tunables, name)!r}, which decides on "
                "subflows itself",
                f"{name} = {wanted}, or no {key}",
            )


def _host(host: Host, table: Values, scenario: Scenario, problems: Problems) -> HostEndpoints:
    limits = table["limits"] or {name: key.default for name, key in LIMITS.keys.items()}
    endpoints = [
        endpoint
        for name, flags in table["endpoints"].items()
        for endpoint in _endpoints(host, name, flags, problems)
    ]
    if not table["endpoints"]:
        endpoints = list(_announced_to_clients(host, scenario.flows, scenario))
    for interface, address in _backup_addresses(host, scenario):
        if all(each.address != address for each in endpoints):
            endpoints.append(
                Endpoint(interface.name, interface.name, address, backup=interface.backup)
            )
    actions = [each for each in scenario.timeline if each.target_kind == "endpoint"]
    endpoints = [
        replace(each, present=_is_present(f"{host.name}:{each.name}", actions))
        for each in endpoints
    ]
    if len(endpoints) > _MOST:
        problems.add(
            ("hosts", host.name, "endpoints"),
            f"{len(endpoints)} endpoints",
            f"{_MOST} at most, which is what Linux up to 6.18 holds",
        )
    return HostEndpoints(tuple(endpoints), limits["subflows"], limits["add_addr_accepted"])


def _backup_addresses(host: Host, scenario: Scenario) -> Iterator[tuple[Interface, Address]]:
    """Yield the addresses that need an endpoint for their priority alone, now or later."""
    prioritised = {
        address
        for action in scenario.timeline
        if action.verb == "set_priority" and action.target.partition(":")[0] == host.name
        for address in scenario.addresses_of(action.target)
    }
    for interface in host.interfaces:
        for address in interface.addresses:
            if interface.backup or address.ip in prioritised:
                yield interface, address.ip


def _announced_to_clients(
    host: Host, flows: Iterable[Flow], scenario: Scenario
) -> Iterator[Endpoint]:
    """Yield the endpoints of a host without any: as a server it announces what clients reach."""
    clients = {
        flow.client
        for flow in flows
        if flow.protocol == "mptcp" and host.name in (flow.source, flow.destination)
    } - {host.name}
    reached: dict[Address, Interface] = {}
    for client in sorted(clients):
        for path in scenario.topology.paths(client, host.name):
            if path.links:
                reached[path.remote_address.ip] = host.interface(path.remote.interface)
    if len(reached) > 1:
        for address, interface in reached.items():
            yield Endpoint(
                interface.name, interface.name, address, signal=True, backup=interface.backup
            )


def _endpoints(host: Host, name: str, flags: Values, problems: Problems) -> Iterator[Endpoint]:
    """Yield the endpoints of one table: of an address, or of each of an interface."""
    path = ("hosts", host.name, "endpoints", name)
    _check_flags(path, flags, problems)
    places = [
        (interface, address.ip)
        for interface in host.interfaces
        for address in interface.addresses
        if name == interface.name or _is_address(name, address.ip)
    ]
    if not places:
        known = [interface.name for interface in host.interfaces]
        addresses = [str(one.ip) for each in host.interfaces for one in each.addresses]
        problems.add(
            path,
            f'{host.name} has no interface or address "{name}" among those built',
            f"one of {', '.join([*known, *addresses])}",
            nearest(name, [*known, *addresses]),
        )
    for interface, address in places:
        if not interface.multipath:
            problems.add(
                path,
                f"MPTCP does not use {interface.name}, whose multipath is false",
                "an interface that takes part",
            )
        yield Endpoint(
            name,
            interface.name,
            address,
            flags["subflow"],
            flags["signal"],
            interface.backup if flags["backup"] is None else flags["backup"],
            flags["fullmesh"],
            flags["laminar"],
            flags["port"] or 0,
        )


def _is_address(name: str, address: Address) -> bool:
    try:
        return ip_address(name) == address
    except ValueError:
        return False


def _check_flags(path: Path, flags: Values, problems: Problems) -> None:
    if not any(flags[name] for name in _FLAGS):
        problems.add(path, "has no flag", f"one of {', '.join(_FLAGS)} = true")
    if flags["signal"] and flags["fullmesh"]:
        problems.add(
            (*path, "fullmesh"), "is given together with signal", "one of fullmesh, signal"
        )
    if flags["port"] and (not flags["signal"] or flags["subflow"]):
        problems.add(
            (*path, "port"),
            "is given with subflow" if flags["subflow"] else "is given without signal",
            "signal = true, without subflow",
        )


# The timeline.


def _is_present(target: str, actions: Iterable[Action]) -> bool:
    """Say whether an endpoint is there at the start: not where the first action adds it."""
    verbs = [
        each.verb
        for each in actions
        if each.target == target and each.verb in ("add_address", "remove_address")
    ]
    return not verbs or verbs[0] == "remove_address"
