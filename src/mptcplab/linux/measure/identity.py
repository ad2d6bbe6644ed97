"""Which flow, connection, subflow and link a socket of the kernel's belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mptcplab.linux.probes.diag import SocketSample
from mptcplab.linux.traffic.flow import Connection
from mptcplab.linux.traffic.plan import client_and_server
from mptcplab.network.topology import Path, Topology
from mptcplab.network.translation import seen_as

FourTuple = tuple[str, int, str, int]
"""Client address and port, server address and port; of the client what the server sees, except
that the port is the client's own on its side."""


@dataclass(frozen=True, slots=True)
class Subflow:
    """A subflow, by the names that the run's tables use; ``link`` None is on no declared path."""

    flow: str
    connection: int
    index: int
    link: str | None


class Identities:
    """Remembers every subflow seen, so that samples and events of both hosts agree on its number.

    Every connection listens on a port of its own, which is how its sockets are told apart; those of
    subflows to further ports, which a server announces, by the token of their connection.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._connections: dict[int, Connection] = {}
        self._hosts: dict[int, tuple[str, str]] = {}
        self._links: dict[tuple[str, str, str], str | None] = {}
        """The link of a path by client, its address (its own or a NAT's) and the server's address.

        None where one address of a NAT stands for several of the client's links.
        """
        self._seen_as: dict[tuple[str, str], str] = {}
        """What servers see of a client's address where a NAT translates it, by both addresses."""
        self._subflows: dict[FourTuple, Subflow] = {}
        self._tokens: dict[tuple[str, int], int] = {}

    def add(self, connections: Iterable[Connection]) -> None:
        """Make connections known."""
        for connection in connections:
            client, server = client_and_server(connection.flow)
            for port in (connection.port, *connection.further_ports):
                self._connections[port] = connection
                self._hosts[port] = (client, server)
            for path in self._topology.paths(client, server, multipath=False):
                local, remote = str(path.local_address.ip), str(path.remote_address.ip)
                link = self._topology.bottleneck(path)
                self._links[client, local, remote] = link
                if seen := seen_as(self._topology, path):
                    self._seen_as[local, remote] = shown = str(seen[1].ip)
                    same = self._links.setdefault((client, shown, remote), link) == link
                    self._links[client, shown, remote] = link if same else None

    def connection(
        self, host: str, local_port: int, remote_port: int, token: int | None = None
    ) -> tuple[Connection, bool] | None:
        """Return the connection that a socket on a host is part of, and whether it is the client.

        ``token`` is that of the socket's MPTCP connection on this host. None for sockets that are
        no flow's.
        """
        for port, is_client in ((remote_port, True), (local_port, False)):
            hosts = self._hosts.get(port)
            if hosts is not None and host == hosts[0 if is_client else 1]:
                return self._connections[port], is_client
        known = None if token is None else self.by_token(host, token)
        return None if known is None else (known, self.is_client(host, known))

    def of_socket(self, host: str, sample: SocketSample) -> tuple[Connection, bool] | None:
        """Return the same of a sampled socket."""
        return self.connection(host, sample.local_port, sample.remote_port, sample.token)

    def is_client(self, host: str, connection: Connection) -> bool:
        """Say whether a host opened a connection."""
        return self._hosts[connection.port][0] == host

    def subflow(
        self,
        connection: Connection,
        is_client: bool,
        local: tuple[str, int],
        remote: tuple[str, int],
    ) -> Subflow:
        """Return the subflow between two socket names, numbered when it is first seen.

        Where a server's name for it stands for several links of the client, it is remembered only
        when the client has named it.
        """
        client, server = (local, remote) if is_client else (remote, local)
        shown = self._seen_as.get((client[0], server[0]), client[0])
        key: FourTuple = (shown, client[1], *server)
        known = self._subflows.get(key)
        if known is None:
            name = (connection.flow.name, connection.index)
            index = sum((other.flow, other.connection) == name for other in self._subflows.values())
            addresses = (self._hosts[connection.port][0], client[0], server[0])
            link = self._links.get(addresses)
            known = Subflow(connection.flow.name, connection.index, index, link)
            if link is not None or addresses not in self._links:
                self._subflows[key] = known
        return known

    def link_of(self, path: Path) -> str:
        """Return the link that a path is named by."""
        return self._topology.bottleneck(path)

    def remember_tokens(self, host: str, subflows: Iterable[SocketSample]) -> None:
        """Note the tokens of subflows whose ports say which connection is theirs."""
        for sample in subflows:
            if sample.token is not None and (host, sample.token) not in self._tokens:
                known = self.connection(host, sample.local_port, sample.remote_port)
                if known is not None:
                    self.remember_token(host, sample.token, known[0].port)

    def remember_token(self, host: str, token: int, port: int) -> None:
        """Note which connection a host's token stands for."""
        self._tokens[host, token] = port

    def by_token(self, host: str, token: int) -> Connection | None:
        """Return the connection that a host's token stands for, where it is known."""
        port = self._tokens.get((host, token))
        return None if port is None else self._connections[port]
