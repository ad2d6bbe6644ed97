"""Which MPTCP endpoints and limits let exactly the scenario's subflows come up.

The server announces its addresses (``signal``) and the client, which accepts them, joins each from
the address that routing chooses: the one of the same network.  So there is one subflow for each of
the server's addresses, on the pair of addresses that share a network, and none across networks, as
``subflow`` and ``fullmesh`` endpoints would try.  A further address of the client in the network of
the initial subflow is a ``subflow`` endpoint, and so is each from which routers lead to the server.
Where they lead from several addresses to several, all of the client's are ``fullmesh``; attempts
between two that nothing leads between end with a router's error.  Addresses
on a backup interface have a ``backup`` endpoint, of that flag alone where they need no other.

A scenario that gives endpoints itself gets these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.kernel.mptcp_endpoints import Address, Endpoint, Flags, Limits
from mptcplab.network.topology import Path, Topology
from mptcplab.scenario import endpoints as wanted_by_file
from mptcplab.scenario.endpoints import HostEndpoints
from mptcplab.scenario.model import Flow, Scenario, Tunables

_NDIFFPORTS_FIRST_PORT: Final = 40001
"""Where the kernel listens for the further subflows of ndiffports."""


@dataclass
class HostPlan:
    """One host's endpoints, in the order in which they are added, and limits.

    They are ``given`` where the scenario has them; else they follow from its flows.
    """

    endpoints: list[Endpoint] = field(default_factory=list)
    subflows: int = 0
    add_addr_accepted: int = 0
    given: bool = False
    read_back: tuple[list[Endpoint], Limits] | None = None
    """What the kernel had of them, before the first connection."""

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint, once; the flags of one address add up."""
        for index, known in enumerate(self.endpoints):
            if (known.address, known.port) == (endpoint.address, endpoint.port):
                self.endpoints[index] = Endpoint(
                    known.address, known.flags | endpoint.flags, port=known.port
                )
                return
        self.endpoints.append(endpoint)

    def allow(self, *, subflows: int, addresses: int) -> None:
        """Raise the limits to at least these."""
        self.subflows = max(self.subflows, subflows)
        self.add_addr_accepted = max(self.add_addr_accepted, addresses)

    @property
    def limits(self) -> Limits:
        """The limits as the kernel takes them."""
        return Limits(self.subflows, self.add_addr_accepted)


@dataclass(frozen=True)
class Wishes:
    """What a scenario says of endpoints itself: all of each host's, or nothing of any; and the
    addresses whose priority its timeline changes, by host.
    """

    endpoints: Mapping[str, HostEndpoints] = field(default_factory=dict)
    prioritised: Mapping[str, Collection[Address]] = field(default_factory=dict)


NO_WISHES: Final = Wishes()


def scenario_wishes(scenario: Scenario) -> Wishes:
    """Return what a scenario says of endpoints."""
    prioritised: dict[str, list[Address]] = {}
    for action in scenario.timeline:
        if action.verb == "set_priority" and action.host is not None:
            prioritised.setdefault(action.host, []).extend(scenario.addresses_of(action.target))
    return Wishes(scenario.endpoints, prioritised)


Traffic = Sequence[tuple[Flow, tuple[Path, ...]]]
"""The flows of a scenario and the paths that each may use, from its client's side."""


def scenario_traffic(scenario: Scenario) -> Traffic:
    """Return the flows of a scenario with their paths."""
    return [(flow, scenario.paths(flow)) for flow in scenario.flows]


def plan(
    topology: Topology,
    tunables: Mapping[str, Tunables],
    traffic: Traffic | None,
    endpoints_max: int,
    wishes: Wishes = NO_WISHES,
) -> dict[str, HostPlan]:
    """Return every host's plan; without traffic each host may be the other's client or server.

    Raises MachineCannotError, before anything is made, where the kernel has no room for it, or one
    set of endpoints a host cannot express it.
    """
    if wishes.endpoints:
        given = {host: _as_given(own) for host, own in wishes.endpoints.items()}
        _check(given, endpoints_max)
        return given
    plans = {host.name: HostPlan() for host in topology.hosts}
    if traffic is None:
        for client in plans:
            for server in plans:
                if client != server:
                    paths = topology.paths(client, server)
                    _multipath(topology, plans, client, server, paths)
    else:
        _plan_flows(topology, plans, tunables, traffic)
    for host, addresses in wishes.prioritised.items():
        for address in addresses:
            plans[host].add(Endpoint(address))
    for host, wanted in plans.items():
        _keep_apart(host, wanted, standing=traffic is None)
    _check(plans, endpoints_max)
    return plans


def kernel_endpoint(endpoint: wanted_by_file.Endpoint) -> Endpoint:
    """Return an endpoint of a scenario as the kernel has it."""
    flags = Flags(0)
    for name in endpoint.flags:
        flags |= Flags[name.upper()]
    return Endpoint(endpoint.address, flags, port=endpoint.port)


def _as_given(own: HostEndpoints) -> HostPlan:
    endpoints = [kernel_endpoint(each) for each in own.present()]
    return HostPlan(endpoints, own.subflows, own.add_addr_accepted, given=True)


def _plan_flows(
    topology: Topology,
    plans: dict[str, HostPlan],
    tunables: Mapping[str, Tunables],
    traffic: Traffic,
) -> None:
    wanted: dict[tuple[str, str], tuple[str, set[Path]]] = {}
    for flow, paths in traffic:
        client = flow.client or flow.source
        server = flow.destination if client == flow.source else flow.source
        settings = tunables.get(client, Tunables())
        ends = [tunables.get(host, Tunables()) for host in (client, server)]
        if flow.protocol != "mptcp" or not all(end.enabled for end in ends):
            continue
        if settings.ndiffports == 0:
            continue
        if settings.ndiffports > 1:
            _different_ports(plans, client, server, paths, settings.ndiffports)
            continue
        first, known = wanted.setdefault((client, server), (flow.name, set(paths)))
        if known != set(paths):
            raise MachineCannotError(
                f"flows {first} and {flow.name}, both from {client} to {server}, may use "
                "different links, but the kernel's path manager has one set of endpoints for all "
                "connections of a host; give both the same links, or use other hosts"
            )
        _multipath(topology, plans, client, server, paths)


def _multipath(
    topology: Topology,
    plans: dict[str, HostPlan],
    client: str,
    server: str,
    paths: Sequence[Path],
) -> None:
    if len(paths) < 2:
        return
    _open_each(plans, client, server, paths, topology.paths(client, server))
    for path in paths:
        for end, address in ((path.local, path.local_address), (path.remote, path.remote_address)):
            if topology.interface_at(end).backup:
                plans[end.host].add(Endpoint(address.ip, Flags.BACKUP))


def _open_each(
    plans: dict[str, HostPlan],
    client: str,
    server: str,
    paths: Sequence[Path],
    leading: Collection[Path],
) -> None:
    """Let a subflow come up on each of two or more paths, of all that are ``leading`` there."""
    extra = len(paths) - 1
    by_remote: dict[Address, list[Address]] = {}
    for path in paths:
        by_remote.setdefault(path.remote_address.ip, []).append(path.local_address.ip)
    if len(by_remote) > 1:
        for remote in by_remote:
            plans[server].add(Endpoint(remote, Flags.SIGNAL))
    if len(by_remote) > 1 and any(path.routed for path in paths):
        tried = _mesh(plans, client, server, paths, leading)
        plans[client].allow(subflows=tried - 1, addresses=len(by_remote) - 1)
        plans[server].allow(subflows=extra, addresses=0)
        return
    routed = any(path.routed for path in paths)
    for locals_ in by_remote.values():
        # behind routers the initial one too, which a path manager that follows links brings back
        for local in locals_ if routed else locals_[1:]:
            plans[client].add(Endpoint(local, Flags.SUBFLOW))
    plans[client].allow(subflows=extra, addresses=len(by_remote) - 1)
    plans[server].allow(subflows=extra, addresses=0)


def _mesh(
    plans: dict[str, HostPlan],
    client: str,
    server: str,
    paths: Sequence[Path],
    leading: Collection[Path],
) -> int:
    """Let each address of the client join each of the server's; return how many pairs that are.

    What nothing leads to is tried as well, and a router answers that it has no route. Refused is to
    leave out what something leads to.
    """
    pairs = _pairs(paths)
    left_out = _pairs(leading) - pairs
    locals_ = dict.fromkeys(path.local_address.ip for path in paths)
    remotes = dict.fromkeys(path.remote_address.ip for path in paths)
    tried = 0
    for local in locals_:
        for remote in remotes:
            tried += local.version == remote.version
            if (local, remote) in left_out:
                raise MachineCannotError(
                    f"routers lead from {client} to {server}, and the flow leaves out {local} to "
                    f"{remote}, which the kernel's path manager would use, as any pair of "
                    "addresses; expected all links for the flow, fewer, or --on simulated"
                )
        plans[client].add(Endpoint(local, Flags.SUBFLOW | Flags.FULLMESH))
    return tried


def _pairs(paths: Iterable[Path]) -> set[tuple[Address, Address]]:
    return {(path.local_address.ip, path.remote_address.ip) for path in paths}


_BOTH: Final = Flags.SIGNAL | Flags.FULLMESH


def _keep_apart(host: str, wanted: HostPlan, *, standing: bool) -> None:
    """Let no address be announced and full mesh, which the kernel refuses: one excludes the other.

    A persistent testbed, where each host may be client and server, has no full mesh then.
    """
    for index, endpoint in enumerate(wanted.endpoints):
        if endpoint.flags & _BOTH != _BOTH:
            continue
        if not standing:
            raise MachineCannotError(
                f"{host} is the client of one flow and the server of another, with several "
                f"addresses at both ends that routers join: {endpoint.address} would be a full "
                "mesh endpoint and announced, which the kernel refuses; expected flows opened from "
                "one side (`client`), or --on simulated"
            )
        wanted.endpoints[index] = Endpoint(
            endpoint.address, endpoint.flags & ~Flags.FULLMESH, port=endpoint.port
        )


def _different_ports(
    plans: dict[str, HostPlan], client: str, server: str, paths: Sequence[Path], count: int
) -> None:
    """n subflows on the initial pair of addresses: the server listens on n - 1 more ports."""
    if not paths:
        return
    remote = paths[0].remote_address.ip
    for port in range(_NDIFFPORTS_FIRST_PORT, _NDIFFPORTS_FIRST_PORT + count - 1):
        plans[server].add(Endpoint(remote, Flags.SIGNAL, port=port))
    plans[client].allow(subflows=count - 1, addresses=count - 1)
    plans[server].allow(subflows=count - 1, addresses=0)


def _check(plans: Mapping[str, HostPlan], endpoints_max: int) -> None:
    for host, wanted in plans.items():
        for needed, what in (
            (len(wanted.endpoints), "MPTCP endpoints"),
            (wanted.subflows, "subflows beyond the first in a connection"),
        ):
            if needed > endpoints_max:
                raise MachineCannotError(
                    f"{host} needs {needed} {what}, and this kernel takes {endpoints_max} at most; "
                    'leave links out of the flow, or set "multipath" to false on interfaces'
                )
