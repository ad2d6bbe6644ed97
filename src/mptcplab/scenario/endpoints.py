"""The endpoints and limits of hosts' path managers, and which subflows they lead to.

The rules are those of Linux 6.18 (net/mptcp/pm_kernel.c), looked at from outside: which subflows a
connection has once its path managers have done what they do by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mptcplab.network.topology import Address

Pair = tuple[Address, Address]
"""The addresses of a subflow: of who opens it, and of its peer."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address for a path manager to use, with the flags of ``ip mptcp endpoint``.

    ``name`` is what the file calls it by, an interface or an address; ``present`` says whether it
    is there when the run starts.
    """

    name: str
    interface: str
    address: Address
    subflow: bool = False
    signal: bool = False
    backup: bool = False
    fullmesh: bool = False
    laminar: bool = False
    port: int = 0
    present: bool = True

    @property
    def flags(self) -> tuple[str, ...]:
        """The names of its flags, in the order of ``ip mptcp``."""
        names = ("signal", "subflow", "backup", "fullmesh", "laminar")
        return tuple(name for name in names if getattr(self, name))

    def __str__(self) -> str:
        port = f" port {self.port}" if self.port else ""
        return f"{self.address}{port} {'+'.join(self.flags)}".rstrip()


@dataclass(frozen=True, slots=True)
class HostEndpoints:
    """The endpoints of one host, in the order in which they are used, and its limits.

    ``subflows`` are those of a connection beside the initial one, ``add_addr_accepted`` the
    announced addresses that it uses.
    """

    endpoints: tuple[Endpoint, ...] = ()
    subflows: int = 8
    add_addr_accepted: int = 8

    def present(self) -> tuple[Endpoint, ...]:
        """Return the endpoints that are there when the run starts."""
        return tuple(endpoint for endpoint in self.endpoints if endpoint.present)

    def backups(self) -> frozenset[Address]:
        """Return the addresses from which subflows are backups when the run starts."""
        return frozenset(each.address for each in self.present() if each.backup)


Source = Callable[[Address], Address | None]
"""From which address routing leads to another."""


def opened_by_client(
    client: HostEndpoints, server: HostEndpoints, initial: Pair, source: Source
) -> list[Pair]:
    """Return the subflows beside the ``initial`` one that a client tries to open, in order."""
    opener = _Opener(client, initial, source)
    announced = list(_announced(server, initial[1]))
    for address, port in announced[:1]:  # which is what establishes the connection at the client
        opener.use_announced(address, port)
    opener.use_subflow_endpoints()
    for address, port in announced[1:]:
        opener.use_announced(address, port)
    return [pair for pair, _ in opener.subflows[1:]]


def opened_by_server(
    client: HostEndpoints, server: HostEndpoints, initial: Pair, source: Source
) -> list[Pair]:
    """Return the subflows that a server opens: to ports that its client announces, since nobody
    listens on that of the initial subflow.  ``initial`` and the pairs are the server's.
    """
    opener = _Opener(server, initial, source)
    for address, port in _announced(client, initial[1]):
        if port:
            opener.use_announced(address, port)
    return [pair for pair, _ in opener.subflows[1:]]


def _announced(host: HostEndpoints, initial: Address) -> Iterator[tuple[Address, int]]:
    """Yield the addresses and ports that a host announces: not that of the initial subflow."""
    for endpoint in host.present():
        if endpoint.signal and (endpoint.port or endpoint.address != initial):
            yield endpoint.address, endpoint.port


@dataclass
class _Opener:
    """A path manager that opens subflows, by its host's endpoints and limits."""

    host: HostEndpoints
    initial: Pair
    source: Source
    subflows: list[tuple[Pair, int]] = field(default_factory=list)
    """With the port that was announced, 0 for that of the initial subflow."""
    used: set[Address] = field(default_factory=set)
    accepted: int = 0
    accepts: bool = False

    def __post_init__(self) -> None:
        self.subflows.append((self.initial, 0))
        self.used.add(self.initial[0])
        self.accepts = self.host.subflows > 0 and self.host.add_addr_accepted > 0

    @property
    def room(self) -> int:
        """How many more the limit allows."""
        return self.host.subflows - (len(self.subflows) - 1)

    def use_subflow_endpoints(self) -> None:
        for endpoint in self.host.present():
            if not endpoint.subflow or endpoint.address in self.used or self.room <= 0:
                continue
            self.used.add(endpoint.address)
            remotes = [(self.initial[1], 0)]
            if endpoint.fullmesh:
                remotes += [(pair[1], port) for pair, port in self.subflows[1:]]
            for remote, port in dict.fromkeys(remotes):
                known = ((endpoint.address, remote), port) in self.subflows
                if remote.version == endpoint.address.version and not known and self.room > 0:
                    self.subflows.append(((endpoint.address, remote), port))

    def use_announced(self, remote: Address, port: int) -> None:
        reached = any(pair[1] == remote and known == port for pair, known in self.subflows)
        if not self.accepts or reached:
            return
        locals_ = self._locals(remote)
        for place, local in enumerate(locals_):
            if place and self.room <= 0:
                break  # the limit is looked at after each
            self.subflows.append(((local, remote), port))
        if locals_:
            self.accepted += 1
            self.accepts = self.accepted < self.host.add_addr_accepted and self.room > 0

    def _locals(self, remote: Address) -> list[Address]:
        """Return the addresses from which an announced one is joined."""
        endpoints = self.host.present()
        same = [each for each in endpoints if each.address.version == remote.version]
        if any(each.fullmesh for each in endpoints):
            return [each.address for each in same if each.fullmesh]
        if any(each.laminar for each in endpoints):
            free = [each for each in same if each.laminar and each.address not in self.used]
            self.used.update(each.address for each in free[:1])
            return [each.address for each in free[:1]]
        local = self.source(remote)
        return [] if local is None else [local]
