"""Reading a host's facts from the kernel and from files; nothing is changed.

Everything is of the network namespace that the calling thread is in.  Root is needed for the rules
of netfilter, for the programs of other users, and for some of what namespaces hide.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeVar

from mptcplab.hosts.facts import (
    Address,
    Facts,
    HostAddress,
    HostInterface,
    Lookup,
    ProgramSocket,
    RouteEntry,
)
from mptcplab.hosts.services import running_services
from mptcplab.linux.kernel import nftables, rtnl
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Limits, PathManager
from mptcplab.linux.kernel.netlink import NETLINK_GENERIC, NetlinkError, NetlinkSocket
from mptcplab.linux.probes.diag import DiagSocket, SocketSample
from mptcplab.linux.probes.mib import read_counters

_SYSCTLS: Final = Path("/proc/sys/net")
_LEGACY_TABLES: Final = ("ip_tables_names", "ip6_tables_names")
_SCOPES: Final = {253: "link", 254: "host"}  # RT_SCOPE_*; include/uapi/linux/rtnetlink.h

_Value = TypeVar("_Value")


def read_facts(destinations: Iterable[Address] = ()) -> Facts:
    """Return what this host is like, with the ways to some destinations from each address."""
    unread: list[str] = []
    with NetlinkSocket() as routing, NetlinkSocket(NETLINK_GENERIC) as generic:
        devices = list(rtnl.devices(routing).values())
        names = {device.index: device.name for device in devices}
        addresses = [_address(each, names) for each in rtnl.assigned_addresses(routing)]
        manager = PathManager(lambda: generic)
        endpoints: list[Endpoint] | None = _or_unread(manager.endpoints, "MPTCP endpoints", unread)
        limits: Limits | None = _or_unread(manager.limits, "MPTCP limits", unread)
        lookups = list(_lookups(routing, tuple(destinations), addresses, endpoints or [], names))
        return Facts(
            kernel=platform.release(),
            sysctls=_mptcp_sysctls(),
            endpoints=None if endpoints is None else tuple(endpoints),
            limits=limits,
            interfaces=tuple(_interface(device) for device in devices),
            addresses=tuple(addresses),
            routes=tuple(_routes(routing, names)),
            rules=tuple(_or_unread(lambda: rtnl.rules(routing), "rules", unread) or ()),
            lookups=tuple(lookups),
            chains=_chains(unread),
            sockets=tuple(_sockets(unread)),
            services=running_services(),
            counters=read_counters(),
            unread=tuple(unread),
        )


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, those that the resolver prefers first; OSError for none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(each[4][0]).partition("%")[0]) for each in found))


def _or_unread(read: Callable[[], _Value], what: str, unread: list[str]) -> _Value | None:
    try:
        return read()
    except OSError as error:
        unread.append(f"{what}: {_why_not(error)}")
    return None


def _why_not(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "reading needs root (CAP_NET_ADMIN)"
    return os.strerror(error.errno) if error.errno else str(error)


def _mptcp_sysctls() -> dict[str, str]:
    values = {}
    with suppress(OSError):
        for path in sorted((_SYSCTLS / "mptcp").iterdir()):
            values[f"net.mptcp.{path.name}"] = path.read_text().strip()
    return values


def _interface(device: rtnl.Device) -> HostInterface:
    filters = [
        _number(_SYSCTLS / "ipv4" / "conf" / name / "rp_filter") for name in ("all", device.name)
    ]
    known = [each for each in filters if each is not None]
    return HostInterface(
        device.name,
        device.index,
        device.up,
        device.carrier,
        bool(device.flags & rtnl.IFF_LOOPBACK),
        device.mtu,
        max(known) if len(known) == len(filters) else None,
    )


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _address(each: rtnl.AssignedAddress, names: dict[int, str]) -> HostAddress:
    return HostAddress(
        each.address.ip,
        each.address.network.prefixlen,
        names.get(each.index, ""),
        _SCOPES.get(each.scope, "global"),
        bool(each.flags & (rtnl.IFA_F_TENTATIVE | rtnl.IFA_F_DADFAILED)),
        bool(each.flags & rtnl.IFA_F_DEPRECATED),
        bool(each.flags & rtnl.IFA_F_SECONDARY),
    )


def _routes(routing: NetlinkSocket, names: dict[int, str]) -> Iterator[RouteEntry]:
    for route in rtnl.routes(routing):
        for index, gateway in route.hops if route.unicast else ():
            yield RouteEntry(route.network, route.table, names.get(index, ""), gateway)


def _lookups(
    routing: NetlinkSocket,
    destinations: Sequence[Address],
    addresses: Iterable[HostAddress],
    endpoints: Iterable[Endpoint],
    names: dict[int, str],
) -> Iterator[Lookup]:
    indices = {name: index for index, name in names.items()}
    sources = {each.address: each.interface for each in addresses if each.scope != "host"}
    bound = {(each.address, names.get(each.interface_index, "")) for each in endpoints}
    for destination in destinations:
        questions: dict[tuple[Address | None, str], None] = {(None, ""): None}
        for source, interface in [*sources.items(), *bound]:
            if source.version == destination.version and source in sources:
                questions |= {(source, ""): None, (source, interface): None}
        for asked, device in questions:
            yield _lookup(routing, destination, asked, device, indices, names)


def _lookup(
    routing: NetlinkSocket,
    destination: Address,
    source: Address | None,
    device: str,
    indices: dict[str, int],
    names: dict[int, str],
) -> Lookup:
    try:
        answer = rtnl.look_up_route(routing, destination, source, indices.get(device, 0))
    except NetlinkError as error:
        return Lookup(destination, source, device, error=os.strerror(error.errno or 0))
    return Lookup(
        destination,
        source,
        device,
        names.get(answer.index, ""),
        answer.gateway,
        answer.source,
    )


def _chains(unread: list[str]) -> tuple[nftables.Chain, ...] | None:
    """Return the rules of nf_tables, None where they cannot be read; say so of iptables' own."""
    try:
        with NetlinkSocket(nftables.NETLINK_NETFILTER) as channel:
            chains = tuple(nftables.chains(channel))
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            unread.append(f"filter rules (nftables, iptables): {_why_not(error)}")
            return None
        chains = ()  # a kernel without nf_tables has no rules there
    for name in _LEGACY_TABLES:
        with suppress(OSError):
            tables = Path("/proc/thread-self/net", name).read_text().split()
            if tables:
                unread.append(
                    f"rules of {name.removesuffix('_names')} in {', '.join(tables)}: only those of "
                    "nf_tables are read; see iptables-legacy-save"
                )
    return chains


def _sockets(unread: list[str]) -> Iterator[ProgramSocket]:
    """Yield the connections and listeners that programs hold: subflows are none of their own."""
    diag = DiagSocket()
    try:
        mptcp, tcp = diag.mptcp(), diag.tcp()
        tcp_listeners, mptcp_listeners = diag.listeners()
    except OSError as error:
        unread.append(f"sockets: {_why_not(error)}")
        return
    finally:
        diag.close()
    programs, hidden = _programs()
    if hidden:
        unread.append("sockets of other users' programs: reading needs root")
    of_mptcp = {sample.inode for sample in (*mptcp, *mptcp_listeners)}
    for sample in (*mptcp, *mptcp_listeners):
        is_fallback = sample.mptcp is not None and sample.mptcp.fallback
        yield _program_socket(sample, "fallback" if is_fallback else "mptcp", programs)
    for sample in (*tcp, *tcp_listeners):
        if sample.token is None and sample.inode in programs and sample.inode not in of_mptcp:
            yield _program_socket(sample, "tcp", programs)


def _program_socket(
    sample: SocketSample, kind: str, programs: dict[int, tuple[int, str]]
) -> ProgramSocket:
    process, program = programs.get(sample.inode, (0, ""))
    is_listener = sample.state == "LISTEN"
    return ProgramSocket(
        program,
        process,
        kind,
        ip_address(sample.local_address),
        sample.local_port,
        None if is_listener else ip_address(sample.remote_address),
        sample.remote_port,
        sample.mptcp.subflows if sample.mptcp is not None else 0,
    )


def _programs() -> tuple[dict[int, tuple[int, str]], bool]:
    """Return (process, program) by the inode of each socket, and whether some may not be read."""
    found: dict[int, tuple[int, str]] = {}
    hidden = False
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            opened = list((process / "fd").iterdir())
        except PermissionError:
            hidden = True
            continue
        except OSError:  # it has ended
            continue
        for each in opened:
            with suppress(OSError):
                target = str(each.readlink())
                if target.startswith("socket:["):
                    name = (process / "comm").read_text().strip()
                    found.setdefault(int(target[8:-1]), (int(process.name), name))
    return found, hidden
