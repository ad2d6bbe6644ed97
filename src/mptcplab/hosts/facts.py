"""What is known of a host: everything that :mod:`mptcplab.hosts.judge` may go by.

Plain values, so that they can be made up in a test, and come from another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Limits
from mptcplab.linux.kernel.nftables import Chain

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class HostInterface:
    """An interface; ``rp_filter`` is what counts for it (0 off, 1 strict, 2 loose, IPv4 alone)."""

    name: str
    index: int
    up: bool
    carrier: bool
    loopback: bool
    mtu: int = 1500
    rp_filter: int | None = None


@dataclass(frozen=True, slots=True)
class HostAddress:
    """An address of an interface."""

    address: Address
    prefix: int
    interface: str
    scope: str = "global"
    """"global", "link" or "host"; what the kernel calls "site" counts as global."""
    tentative: bool = False
    """Not yet, or not at all, found to be unique on its link (RFC 4862)."""
    deprecated: bool = False
    secondary: bool = False
    """Of IPv4, not the first of its network; of IPv6, a temporary address."""


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One next hop of a route of any table."""

    network: Network
    table: int
    interface: str
    gateway: Address | None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the kernel answered when asked for the way from a source to a destination.

    ``source`` None leaves its choice to the kernel, which made it ``chosen``; ``device`` is the
    interface that was asked for, or "". Where there is no way ``error`` says why.
    """

    destination: Address
    source: Address | None
    device: str
    interface: str = ""
    gateway: Address | None = None
    chosen: Address | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class ProgramSocket:
    """A connection or listener of a program; ``kind`` is "mptcp", "fallback" or "tcp".

    ``program`` is empty where that could not be read. A listener has no remote address.
    """

    program: str
    process: int
    kind: str
    local: Address
    local_port: int
    remote: Address | None = None
    remote_port: int = 0
    subflows: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A program that sets up addresses, routes or endpoints, and what its configuration says."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """A host as it was read, at one moment.

    What could not be read is named in ``unread``, with the reason, and its field is None or empty.
    """

    kernel: str
    sysctls: Mapping[str, str]
    """By dotted name: of net.mptcp all that this kernel has."""
    endpoints: tuple[Endpoint, ...] | None
    limits: Limits | None
    interfaces: tuple[HostInterface, ...]
    addresses: tuple[HostAddress, ...]
    routes: tuple[RouteEntry, ...]
    rules: tuple[str, ...]
    lookups: tuple[Lookup, ...]
    chains: tuple[Chain, ...] | None
    sockets: tuple[ProgramSocket, ...] = ()
    services: tuple[Service, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def interface(self, name: str) -> HostInterface | None:
        """Return an interface by its name, None where there is none."""
        return next((each for each in self.interfaces if each.name == name), None)

    def interface_name(self, index: int) -> str:
        """Return the name of an interface, "" where there is none of that index."""
        return next((each.name for each in self.interfaces if each.index == index), "")

    def assigned(self, address: Address) -> HostAddress | None:
        """Return where an address is, None where this host has no such address."""
        return next((each for each in self.addresses if each.address == address), None)

    def lookup(
        self, destination: Address, source: Address | None = None, device: str = ""
    ) -> Lookup | None:
        """Return what the kernel answered to such a question, None where it was not asked."""
        wanted = destination, source, device
        return next(
            (a for a in self.lookups if (a.destination, a.source, a.device) == wanted), None
        )


class Came(StrEnum):
    """What became of a subflow by the end of a probe."""

    ESTABLISHED = "established"
    UNANSWERED = "unanswered"
    """Its SYN was sent and nothing came back: SYN-SENT."""
    CLOSED = "closed"
    """It was established, and closed by either end."""


@dataclass(frozen=True, slots=True)
class SubflowSeen:
    """A subflow that the probe's connection made or tried to make."""

    local: Address
    remote: Address
    came: Came
    error: int = 0
    """The errno that it died of, 0 where none is known."""
    reset_reason: int | None = None
    remote_port: int = 0


@dataclass(frozen=True, slots=True)
class HandshakeSeen:
    """What packets show of one subflow, this host being the client.

    ``syn_interfaces`` are those by which its SYNs left.  ``answer`` is "", or what came: "syn-ack",
    "syn-ack without option" or "reset"; ``reset_reason`` is that of MP_TCPRST (RFC 8684 section
    3.6), None where none came.
    """

    local: Address
    remote: Address
    initial: bool
    syns: int = 0
    syn_interfaces: tuple[str, ...] = ()
    answer: str = ""
    established: bool = False
    reset_after: bool = False
    reset_reason: int | None = None


@dataclass(frozen=True, slots=True)
class PacketsSeen:
    """What packets show of a connection to a peer.

    ``denies_initial_address`` is the C flag of the peer's MP_CAPABLE, None where none was seen;
    ``announced`` are the addresses in its ADD_ADDRs.
    """

    handshakes: tuple[HandshakeSeen, ...]
    denies_initial_address: bool | None = None
    announced: tuple[Address, ...] = ()

    def handshake(self, local: Address, remote: Address) -> HandshakeSeen | None:
        """Return what was seen between two addresses, None where nothing was."""
        return next(
            (each for each in self.handshakes if (each.local, each.remote) == (local, remote)), None
        )


@dataclass(frozen=True, slots=True)
class Probe:
    """One connection to a peer, and what came of it.

    ``protocol`` is "mptcp", "fallback" (asked for MPTCP, got TCP), or "" where there was no
    connection, and then ``error`` says why.  ``counters`` are differences, of the whole host.
    ``plain`` is what a plain TCP connection came to, from addresses whose join got no answer:
    "connected", "refused", "no answer" or the error.
    """

    remote: Address
    port: int
    local: Address | None
    protocol: str
    error: str = ""
    subflows: tuple[SubflowSeen, ...] = ()
    announced: tuple[Address, ...] | None = None
    """The addresses that the peer announced; None where that could not be heard."""
    denies_initial_address: bool | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    packets: PacketsSeen | None = None
    plain: Mapping[Address, str] = field(default_factory=dict)
    waited_ms: int = 0

    def subflow(self, local: Address, remote: Address) -> SubflowSeen | None:
        """Return the subflow between two addresses, the best of several, None without one."""
        order = list(Came)
        some = [s for s in self.subflows if (s.local, s.remote) == (local, remote)]
        return min(some, key=lambda each: order.index(each.came), default=None)

    @property
    def established(self) -> tuple[SubflowSeen, ...]:
        """The subflows that stood at the end, the initial one among them."""
        return tuple(each for each in self.subflows if each.came is Came.ESTABLISHED)
