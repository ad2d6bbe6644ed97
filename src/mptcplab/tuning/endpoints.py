"""A host's endpoints and priorities as our stack's path managers have them, while they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from mptcplab.scenario import endpoints as wanted
from mptcplab.scenario.model import Action, Flow, Scenario
from mptcplab.stack.path_managers import (
    Endpoint,
    EndpointFlag,
    Endpoints,
    Limits,
    LinkAwareEndpoints,
    PathManager,
)
from mptcplab.stack.path_managers.base import Command, OpenSubflow, PathView, RemoteAddress
from mptcplab.stack.path_managers.endpoints import with_priority

Change = Callable[[PathManager, PathView], list[Command]]
"""What the path manager of each connection is to act upon."""

_FLAGS: Final = {flag.name.lower(): flag for flag in EndpointFlag if flag.name}
_MOST_IDS: Final = 255


class EndpointTable:
    """What a host wants of its path managers at present; those of new connections ask here.

    ``backups`` are the addresses from which subflows are backups; ``endpoints`` are those that the
    scenario gives, in order, where it gives any host some.
    """

    def __init__(
        self, scenario: Scenario, host: str, ids: Mapping[bytes, int] | None = None
    ) -> None:
        """Take the state of the start; ``ids`` are the identifiers that the host's stack has."""
        self._scenario = scenario
        self.backups = {address.packed for address in scenario.backups(host)}
        self.endpoints: list[Endpoint] = []
        self.limits = Limits()
        self._known: dict[str, list[Endpoint]] = {}
        if host not in scenario.endpoints:
            return
        own = scenario.endpoints[host]
        self.limits = Limits(own.subflows, own.add_addr_accepted)
        numbers = dict(address_ids(scenario, host) if ids is None else ids)
        for endpoint, number in zip(
            own.endpoints, _identifiers(own.endpoints, numbers), strict=True
        ):
            made = _endpoint(endpoint, number)
            self._known.setdefault(f"{host}:{endpoint.name}", []).append(made)
            if endpoint.present:
                self.endpoints.append(made)

    def act(self, action: Action) -> list[Change]:
        """Do what an action says to an endpoint; return what it is to the connections there are."""
        if action.verb == "set_priority":
            backup = bool(dict(action.changes)["backup"])
            return [
                self._set_priority(address, backup)
                for address in self._scenario.addresses_of(action.target)
            ]
        changes: list[Change] = []
        for known in self._known[action.target]:
            # with the priority that it has by now
            endpoint = with_priority(known, known.address in self.backups)
            if action.verb == "add_address":
                self.endpoints.append(endpoint)
                changes.append(_addition(endpoint))
            else:
                self.endpoints = [
                    each for each in self.endpoints if each.address_id != endpoint.address_id
                ]
                changes.append(_removal(endpoint.address_id))
        return changes

    def _set_priority(self, address: IPv4Address | IPv6Address, backup: bool) -> Change:
        packed = address.packed
        (self.backups.add if backup else self.backups.discard)(packed)
        self.endpoints = [
            with_priority(each, backup) if each.address == packed else each
            for each in self.endpoints
        ]
        return lambda manager, view: manager.on_priority_changed(view, packed, backup)


def _addition(endpoint: Endpoint) -> Change:
    def change(manager: PathManager, view: PathView) -> list[Command]:
        return manager.add_endpoint(view, endpoint) if isinstance(manager, Endpoints) else []

    return change


def _removal(address_id: int) -> Change:
    def change(manager: PathManager, view: PathView) -> list[Command]:
        return manager.remove_endpoint(view, address_id) if isinstance(manager, Endpoints) else []

    return change


def address_ids(scenario: Scenario, host: str) -> dict[bytes, int]:
    """Return the identifiers of a host's addresses that take part in MPTCP, from 1 on."""
    addresses = [
        address.ip.packed
        for interface in scenario.topology.host(host).interfaces
        if interface.multipath
        for address in interface.addresses
    ]
    return {address: number for number, address in enumerate(addresses, 1)}


def _identifiers(
    endpoints: Iterable[wanted.Endpoint], numbers: Mapping[bytes, int]
) -> Iterator[int]:
    """Yield an identifier for each endpoint: its address's, or a free one where it has a port."""
    free = iter(number for number in range(_MOST_IDS, 0, -1) if number not in numbers.values())
    for endpoint in endpoints:
        yield next(free) if endpoint.port else numbers[endpoint.address.packed]


def _endpoint(endpoint: wanted.Endpoint, number: int) -> Endpoint:
    flags = EndpointFlag(0)
    for name in endpoint.flags:
        flags |= _FLAGS[name]
    return Endpoint(number, endpoint.address.packed, flags, endpoint.port)


Sources = Mapping[bytes, bytes]
"""By remote address, the local one that routing chooses."""


def sources_of(scenario: Scenario, flow: Flow, host: str) -> Sources:
    """Return from where a host of a flow reaches the addresses of the other."""
    topology = scenario.topology
    peer = flow.destination if host == flow.source else flow.source
    sources = {}
    for path in topology.paths(host, peer):
        remote = path.remote_address.ip
        chosen = topology.source_for(host, path.remote, remote)
        if chosen is not None:
            sources[remote.packed] = chosen.packed
    for end in topology.places(peer) if topology.routers else ():
        address = end[1].ip.packed
        for start in topology.places(host):
            if address not in sources and topology.refusal(start, end) is not None:
                sources[address] = start[1].ip.packed  # as a default route leads there
    return sources


class _Routing(Endpoints):
    """Endpoints of a host of a scenario: routing is the topology's.

    A server opens no subflow to the port of its client's initial subflow, on which nobody listens:
    a kernel tries, and is refused.
    """

    sources: Sources

    def from_routing(self, view: PathView, remote: RemoteAddress) -> list[Command]:
        """Open from the address that the host's routes choose; nothing where none leads there."""
        local = self.sources.get(remote.address)
        for one in view.local_addresses:
            if one.address == local:
                return [OpenSubflow(view.local_id(one), one.address, remote)]
        return []

    def may_connect(self, view: PathView, remote: RemoteAddress) -> bool:
        """Say whether anybody listens there."""
        return view.is_client or remote.port != view.initial_remote.port


class RoutedEndpoints(_Routing):
    """As Linux's path manager: it does not see links."""


class RoutedLinkAwareEndpoints(_Routing, LinkAwareEndpoints):
    """Those that follow their links."""


def endpoints_manager(table: EndpointTable, link_aware: bool, sources: Sources) -> PathManager:
    """Return a path manager with the endpoints of the present."""
    kind = RoutedLinkAwareEndpoints if link_aware else RoutedEndpoints
    manager = kind(list(table.endpoints), table.limits)
    manager.sources = sources
    return manager
