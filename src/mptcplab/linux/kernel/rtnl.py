"""Routing netlink: interfaces, addresses, routes and rules as requests, and reading them back.

Layouts and numbers: include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h, fib_rules.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Final

from mptcplab.linux.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkSocket,
    Request,
    attribute,
    attributes,
    nested,
    string,
    u32,
)

Network = IPv4Network | IPv6Network
InterfaceAddress = IPv4Interface | IPv6Interface
Address = IPv4Address | IPv6Address

RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26
_RTM_NEWRULE: Final = 32
_RTM_DELRULE: Final = 33
_RTM_GETRULE: Final = 34

IFF_UP: Final = 1
IFF_LOOPBACK: Final = 8

_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINK: Final = 5
_IFLA_MASTER: Final = 10
_IFLA_TXQLEN: Final = 13
_IFLA_OPERSTATE: Final = 16
_IFLA_LINKMODE: Final = 17
_IFLA_LINKINFO: Final = 18
_IFLA_EXT_MASK: Final = 29
_IFLA_GSO_MAX_SEGS: Final = 40
_RTEXT_FILTER_SKIP_STATS: Final = 8
_IFLA_NET_NS_FD: Final = 28
_IFLA_GSO_MAX_SIZE: Final = 41
_IFLA_CARRIER: Final = 33
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_VETH_INFO_PEER: Final = 1
_IFLA_VLAN_ID: Final = 1
_IF_OPER_DORMANT: Final = 5  # RFC 2863; include/uapi/linux/if.h
_IF_OPER_UP: Final = 6
_IFLA_BR_FORWARD_DELAY: Final = 1
_IFLA_BR_STP_STATE: Final = 5
_IFLA_BR_MCAST_SNOOPING: Final = 23

_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_FLAGS: Final = 8
IFA_F_SECONDARY: Final = 0x01
"""Of IPv6: a temporary address (RFC 8981)."""
_IFA_F_NODAD: Final = 0x02
IFA_F_DADFAILED: Final = 0x08
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40

_RTA_DST: Final = 1
_RTA_SRC: Final = 2
_RTA_GATEWAY: Final = 5
_RTA_CACHEINFO: Final = 12
_RTA_OIF: Final = 4
_RTA_PRIORITY: Final = 6
_RTA_MULTIPATH: Final = 9
_RTA_PREFSRC: Final = 7
_RTA_METRICS: Final = 8
_RTA_TABLE: Final = 15
_RTAX_ADVMSS: Final = 8
_RTAX_CC_ALGO: Final = 16
_RTPROT_STATIC: Final = 4
_RTPROT_KERNEL: Final = 2
_RT_SCOPE_LINK: Final = 253
_RT_SCOPE_UNIVERSE: Final = 0
_RTN_UNICAST: Final = 1
_RTN_UNREACHABLE: Final = 7
_RTN_LOCAL_TO_MULTICAST: Final = range(2, 6)  # what the kernel makes by itself of an address
_RTM_F_CLONED: Final = 0x200
_RTM_F_LOOKUP_TABLE: Final = 0x1000
_MAIN_TABLE: Final = 254
LOCAL_TABLE: Final = 255

_FRA_SRC: Final = 2
_FRA_IIFNAME: Final = 3
_FRA_PRIORITY: Final = 6
_FRA_TABLE: Final = 15
_FRA_PROTOCOL: Final = 21
_FRA_IP_PROTO: Final = 22
_FR_ACT_TO_TBL: Final = 1

_IFINFO: Final = struct.Struct("=BxHiII")
_IFADDR: Final = struct.Struct("=BBBBI")
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_RTNEXTHOP: Final = struct.Struct("=HBBi")

INTERFACE_NAME_MAX: Final = 15  # IFNAMSIZ less the terminating zero


@dataclass(frozen=True, slots=True)
class VethEnd:
    """One end of a veth pair: its name and the namespace (a descriptor) it is made in."""

    name: str
    namespace: int
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class Device:
    """An interface as the kernel describes it."""

    index: int
    name: str
    flags: int
    mtu: int
    carrier: bool
    """Whether a cable is plugged in, as :func:`set_carrier` and :func:`set_dormant` have it."""
    gso_max_bytes: int
    """What it takes in one piece, with headers; larger packets are cut before they reach it."""

    @property
    def up(self) -> bool:
        """Whether it is set up, whatever its carrier."""
        return bool(self.flags & IFF_UP)


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, flags, change)


def _link_info(kind: str, *data: bytes) -> bytes:
    parts = [string(_IFLA_INFO_KIND, kind)]
    if data:
        parts.append(nested(_IFLA_INFO_DATA, *data))
    return nested(_IFLA_LINKINFO, *parts)


def _veth_end(end: VethEnd) -> bytes:
    parts = [string(_IFLA_IFNAME, end.name), u32(_IFLA_MTU, end.mtu)]
    parts.append(u32(_IFLA_NET_NS_FD, end.namespace))
    return b"".join(parts)


def add_veth(one: VethEnd, other: VethEnd) -> Request:
    """Make a veth pair, each end in its namespace from the start (drivers/net/veth.c)."""
    peer = attribute(_VETH_INFO_PEER, _ifinfo() + _veth_end(other))
    return Request(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _ifinfo() + _veth_end(one) + _link_info("veth", peer),
        f"make interface {one.name}",
    )


@dataclass(frozen=True, slots=True)
class Vlan:
    """An 802.1Q interface: its name and tag, and the index of the interface that it stands on."""

    name: str
    tag: int
    trunk: int
    mtu: int
    dormant: bool = False
    """Whether it is made as :func:`set_dormant` would leave it."""


def add_vlan(vlan: Vlan) -> Request:
    """Make a VLAN on an interface of the same namespace (net/8021q/vlan_netlink.c)."""
    body = _ifinfo() + string(_IFLA_IFNAME, vlan.name) + u32(_IFLA_LINK, vlan.trunk)
    body += u32(_IFLA_MTU, vlan.mtu)
    if vlan.dormant:
        body += attribute(_IFLA_LINKMODE, b"\1")
    body += _link_info("vlan", attribute(_IFLA_VLAN_ID, struct.pack("=H", vlan.tag)))
    return Request(
        RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"make VLAN {vlan.name} (CONFIG_VLAN_8021Q)"
    )


def add_bridge(name: str) -> Request:
    """Make a learning bridge that forwards at once: no spanning tree, no multicast snooping."""
    data = (
        u32(_IFLA_BR_FORWARD_DELAY, 0),
        u32(_IFLA_BR_STP_STATE, 0),
        attribute(_IFLA_BR_MCAST_SNOOPING, b"\0"),
    )
    return Request(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _ifinfo() + string(_IFLA_IFNAME, name) + _link_info("bridge", *data),
        f"make switch {name}",
    )


def add_ifb(name: str, mtu: int) -> Request:
    """Make an intermediate functional block device (drivers/net/ifb.c)."""
    body = _ifinfo() + string(_IFLA_IFNAME, name) + u32(_IFLA_MTU, mtu) + _link_info("ifb")
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"make interface {name}")


def set_link(
    index: int,
    *,
    up: bool | None = None,
    master: int | None = None,
    mtu: int | None = None,
    queue_frames: int | None = None,
    gso_max_packets: int | None = None,
    gso_max_bytes: int | None = None,
    what: str = "",
) -> Request:
    """Change an interface: administrative state, bridge it belongs to, MTU, txqueuelen, and how
    much a connection hands over in one piece.
    """
    change = 0 if up is None else IFF_UP
    body = _ifinfo(index, IFF_UP if up else 0, change)
    if master is not None:
        body += u32(_IFLA_MASTER, master)
    if mtu is not None:
        body += u32(_IFLA_MTU, mtu)
    if queue_frames is not None:
        body += u32(_IFLA_TXQLEN, queue_frames)
    if gso_max_packets is not None:
        body += u32(_IFLA_GSO_MAX_SEGS, gso_max_packets)
    if gso_max_bytes is not None:
        body += u32(_IFLA_GSO_MAX_SIZE, gso_max_bytes)
    return Request(RTM_SETLINK, 0, body, what or f"change interface {index}")


def set_carrier(index: int, up: bool) -> Request:
    """Give a TAP interface a carrier or take it away (tun_net_change_carrier)."""
    body = _ifinfo(index) + attribute(_IFLA_CARRIER, bytes([up]))
    return Request(RTM_SETLINK, 0, body, f"set the carrier of interface {index}")


def set_dormant(index: int, dormant: bool) -> Request:
    """Make a VLAN lose what it has for a carrier, or give it back (net/core/rtnetlink.c).

    Its carrier proper is its trunk's.  Dormant, it is up and not running, its listeners are told,
    and it stays so while its trunk goes down and up.
    """
    state = _IF_OPER_DORMANT if dormant else _IF_OPER_UP
    body = (
        _ifinfo(index)
        + attribute(_IFLA_LINKMODE, bytes([dormant]))
        + attribute(_IFLA_OPERSTATE, bytes([state]))
    )
    return Request(RTM_NEWLINK, 0, body, f"set the state of interface {index}")


def devices(channel: NetlinkSocket) -> dict[str, Device]:
    """Return every interface of the socket's namespace by name."""
    brief = u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    dump = Request(RTM_GETLINK, NLM_F_DUMP, _ifinfo() + brief, "list interfaces")
    described = (_parse_device(message.body) for message in channel.query(dump))
    return {device.name: device for device in described}


def _parse_device(body: bytes) -> Device:
    """Return the interface that an RTM_NEWLINK message describes."""
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    values = attributes(body[_IFINFO.size :])
    return Device(
        index=index,
        name=values[_IFLA_IFNAME].rstrip(b"\0").decode(),
        flags=flags,
        mtu=struct.unpack("=I", values[_IFLA_MTU])[0],
        carrier=values.get(_IFLA_CARRIER, b"\0") != b"\0"
        and values.get(_IFLA_LINKMODE, b"\0") == b"\0",
        gso_max_bytes=struct.unpack("=I", values[_IFLA_GSO_MAX_SIZE])[0],
    )


def _family(version: int) -> int:
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def add_address(index: int, address: InterfaceAddress) -> Request:
    """Give an interface an address; an IPv6 one is usable at once (no duplicate detection)."""
    flags = _IFA_F_NODAD if address.version == 6 else 0
    packed = address.ip.packed
    body = (
        _IFADDR.pack(_family(address.version), address.network.prefixlen, flags, 0, index)
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed)
    )
    return Request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body, f"add address {address}")


def add_route(
    network: Network,
    index: int,
    *,
    table: int = _MAIN_TABLE,
    source: InterfaceAddress | None = None,
    advertised_mss: int | None = None,
    congestion: str | None = None,
    kernel: bool = False,
    gateway: InterfaceAddress | None = None,
    metric: int = 0,
) -> Request:
    """Make (or replace) the route to an on-link network, or to everything, over an interface.

    ``advertised_mss`` is what our SYNs put into their MSS option, ``congestion`` the congestion
    control of every connection on the route, whatever its socket has; ``kernel`` marks a route as
    one that came with its address, which this one then replaces.  With a ``gateway`` the network is
    not on the link but behind that.  Of routes to one network the least ``metric`` counts.
    """
    on_link = network.version == 4 and gateway is None
    scope = _RT_SCOPE_LINK if on_link else _RT_SCOPE_UNIVERSE
    body = _RTMSG.pack(
        _family(network.version),
        network.prefixlen,
        0,
        0,
        table if table < 256 else 0,
        _RTPROT_KERNEL if kernel else _RTPROT_STATIC,
        scope,
        _RTN_UNICAST,
        0,
    )
    if network.prefixlen:
        body += attribute(_RTA_DST, network.network_address.packed)
    body += u32(_RTA_OIF, index)
    if gateway is not None:
        body += attribute(_RTA_GATEWAY, gateway.ip.packed)
    if metric:
        body += u32(_RTA_PRIORITY, metric)
    if table >= 256:  # more than the header's field can hold
        body += u32(_RTA_TABLE, table)
    if source is not None:
        body += attribute(_RTA_PREFSRC, source.ip.packed)
    metrics = []
    if advertised_mss is not None:
        metrics.append(u32(_RTAX_ADVMSS, advertised_mss))
    if congestion is not None:
        metrics.append(attribute(_RTAX_CC_ALGO, congestion.encode() + b"\0"))
    if metrics:
        body += nested(_RTA_METRICS, *metrics)
    what = f"route {network} in table {table}"
    return Request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, what)


def add_shared_route(network: Network, hops: Sequence[tuple[int, InterfaceAddress]]) -> Request:
    """Make the route to a network behind one of several gateways, or behind none at all.

    ``hops`` are interfaces and gateways, which share the flows in equal parts.  Without any the
    network is unreachable, which is said to whoever sends there.
    """
    kind = _RTN_UNICAST if hops else _RTN_UNREACHABLE
    body = _RTMSG.pack(
        _family(network.version),
        network.prefixlen,
        0,
        0,
        _MAIN_TABLE,
        _RTPROT_STATIC,
        _RT_SCOPE_UNIVERSE,
        kind,
        0,
    )
    if network.prefixlen:
        body += attribute(_RTA_DST, network.network_address.packed)
    if len(hops) == 1:
        index, gateway = hops[0]
        body += u32(_RTA_OIF, index) + attribute(_RTA_GATEWAY, gateway.ip.packed)
    elif hops:
        parts = []
        for index, gateway in hops:
            via = attribute(_RTA_GATEWAY, gateway.ip.packed)
            parts.append(_RTNEXTHOP.pack(_RTNEXTHOP.size + len(via), 0, 0, index) + via)
        body += attribute(_RTA_MULTIPATH, b"".join(parts))
    what = f"route {network} by {len(hops)} gateways"
    return Request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body, what)


def add_rule(source: InterfaceAddress, table: int, priority: int) -> Request:
    """Make what comes from an address look into a table: ``ip rule add from ADDRESS table N``."""
    body = (
        _RTMSG.pack(
            _family(source.version),
            0,
            source.ip.max_prefixlen,
            0,
            table if table < 256 else 0,
            0,
            0,
            _FR_ACT_TO_TBL,
            0,
        )
        + attribute(_FRA_SRC, source.ip.packed)
        + u32(_FRA_PRIORITY, priority)
    )
    if table >= 256:
        body += u32(_FRA_TABLE, table)
    return Request(
        _RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, body, f"rule from {source.ip} table {table}"
    )


def add_table_rule(version: int, table: int, priority: int) -> Request:
    """Make everything of an IP version look into a table: ``ip rule add lookup TABLE``."""
    flags = NLM_F_CREATE | NLM_F_EXCL
    what = f"rule for table {table}"
    return Request(_RTM_NEWRULE, flags, _rule(version, table, priority), what)


def delete_table_rule(version: int, table: int, priority: int) -> Request:
    """Take such a rule away."""
    what = f"removing the rule for table {table}"
    return Request(_RTM_DELRULE, 0, _rule(version, table, priority), what)


def add_tcp_rule(version: int, interface: str, table: int, priority: int) -> Request:
    """Make TCP that arrives on an interface look into a table.

    ``ip rule add iif INTERFACE ipproto tcp lookup TABLE``.
    """
    body = _rule(version, table, priority)
    body += string(_FRA_IIFNAME, interface) + attribute(_FRA_IP_PROTO, bytes((socket.IPPROTO_TCP,)))
    what = f"rule for TCP on {interface}"
    return Request(_RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, body, what)


def _rule(version: int, table: int, priority: int) -> bytes:
    small = table if table < 256 else 0
    header = _RTMSG.pack(_family(version), 0, 0, 0, small, 0, 0, _FR_ACT_TO_TBL, 0)
    return header + u32(_FRA_PRIORITY, priority) + u32(_FRA_TABLE, table)


@dataclass(frozen=True, slots=True)
class AssignedAddress:
    """An address of an interface; ``scope`` is RT_SCOPE_*, ``flags`` are IFA_F_*."""

    index: int
    address: InterfaceAddress
    scope: int
    flags: int


def assigned_addresses(channel: NetlinkSocket) -> list[AssignedAddress]:
    """Return every address of the socket's namespace as the kernel describes it."""
    dump = Request(_RTM_GETADDR, NLM_F_DUMP, _IFADDR.pack(0, 0, 0, 0, 0), "list addresses")
    found = []
    for message in channel.query(dump):
        _, prefix, flags, scope, index = _IFADDR.unpack_from(message.body)
        values = attributes(message.body[_IFADDR.size :])
        packed = values.get(_IFA_LOCAL) or values[_IFA_ADDRESS]
        (flags,) = struct.unpack("=I", values.get(_IFA_FLAGS, bytes([flags, 0, 0, 0])))
        found.append(AssignedAddress(index, ip_interface((packed, prefix)), scope, flags))
    return found


def addresses(channel: NetlinkSocket) -> list[tuple[int, InterfaceAddress]]:
    """Return every address of the socket's namespace, with the index of its interface."""
    return [(each.index, each.address) for each in assigned_addresses(channel)]


@dataclass(frozen=True, slots=True)
class Route:
    """A route: its interface (0 for none), and all that the kernel decides by."""

    index: int
    family: int
    table: int
    kind: int
    prefix: int
    values: tuple[tuple[int, bytes], ...]

    @property
    def unicast(self) -> bool:
        """Whether it leads anywhere, and is none of type unreachable, prohibit or blackhole."""
        return self.kind == _RTN_UNICAST

    @property
    def network(self) -> Network:
        """Where it leads."""
        empty = bytes(16 if self.family == socket.AF_INET6 else 4)
        return ip_network((dict(self.values).get(_RTA_DST, empty), self.prefix))

    @property
    def hops(self) -> list[tuple[int, Address | None]]:
        """The interface and the gateway of each of its next hops; None where it is on the link."""
        values = dict(self.values)
        if _RTA_MULTIPATH not in values:
            return [(self.index, _gateway(values))]
        found, rest = [], values[_RTA_MULTIPATH]
        while len(rest) >= _RTNEXTHOP.size:
            length, _, _, index = _RTNEXTHOP.unpack_from(rest)
            found.append((index, _gateway(attributes(rest[_RTNEXTHOP.size : length]))))
            rest = rest[max(length, _RTNEXTHOP.size) :]
        return found

    def __str__(self) -> str:
        values = dict(self.values)
        network = ip_address(values[_RTA_DST]) if _RTA_DST in values else None
        text = f"{network}/{self.prefix}" if network else "default"
        if _RTA_GATEWAY in values:
            text += f" via {ip_address(values[_RTA_GATEWAY])}"
        if _RTA_PREFSRC in values:
            text += f" from {ip_address(values[_RTA_PREFSRC])}"
        if _RTA_METRICS in values:
            text += f" with metrics {values[_RTA_METRICS].hex()}"
        kind = "" if self.kind == _RTN_UNICAST else f" of type {self.kind}"
        return f"{text} in table {self.table}{kind}"


def _gateway(values: dict[int, bytes]) -> Address | None:
    return ip_address(values[_RTA_GATEWAY]) if _RTA_GATEWAY in values else None


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """Which way the kernel would send: what ``ip route get`` prints.

    ``source`` is the address that it would choose where none is given.
    """

    index: int
    gateway: Address | None
    source: Address | None
    table: int


def look_up_route(
    channel: NetlinkSocket, destination: Address, source: Address | None = None, index: int = 0
) -> RouteAnswer:
    """Return the way to a destination, from a source and out of an interface where given.

    Raises NetlinkError where there is none, or where the source is no address of this host.
    """
    bits = destination.max_prefixlen
    family = _family(destination.version)
    from_bits = bits if source is not None else 0
    body = _RTMSG.pack(family, bits, from_bits, 0, 0, 0, 0, 0, _RTM_F_LOOKUP_TABLE)
    body += attribute(_RTA_DST, destination.packed)
    if source is not None:
        body += attribute(_RTA_SRC, source.packed)
    if index:
        body += u32(_RTA_OIF, index)
    (answer,) = channel.query(Request(_RTM_GETROUTE, 0, body, f"look up a route to {destination}"))
    table = answer.body[4]
    values = attributes(answer.body[_RTMSG.size :])
    preferred = values.get(_RTA_PREFSRC)
    return RouteAnswer(
        index=struct.unpack("=I", values.get(_RTA_OIF, bytes(4)))[0],
        gateway=_gateway(values),
        source=ip_address(preferred) if preferred else source,
        table=struct.unpack("=I", values.get(_RTA_TABLE, bytes([table, 0, 0, 0])))[0],
    )


def routes(channel: NetlinkSocket) -> list[Route]:
    """Return the routes of all tables of the socket's namespace, but for those that the kernel
    makes of each address (local, broadcast, multicast).
    """
    dump = Request(_RTM_GETROUTE, NLM_F_DUMP, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "list routes")
    found = []
    for message in channel.query(dump):
        family, prefix, _, _, table, _, _, kind, flags = _RTMSG.unpack_from(message.body)
        if kind in _RTN_LOCAL_TO_MULTICAST or flags & _RTM_F_CLONED:
            continue
        values = attributes(message.body[_RTMSG.size :])
        values.pop(_RTA_CACHEINFO, None)
        found.append(
            Route(
                index=struct.unpack("=I", values.pop(_RTA_OIF, bytes(4)))[0],
                family=family,
                table=struct.unpack("=I", values.pop(_RTA_TABLE, bytes([table, 0, 0, 0])))[0],
                kind=kind,
                prefix=prefix,
                values=tuple(sorted(values.items())),
            )
        )
    return found


def rules(channel: NetlinkSocket) -> list[str]:
    """Return the rules of the socket's namespace that say which table is looked into, as text."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for message in channel.query(Request(_RTM_GETRULE, NLM_F_DUMP, body, "list rules")):
            _, _, prefix, _, table, _, _, action, _ = _RTMSG.unpack_from(message.body)
            values = attributes(message.body[_RTMSG.size :])
            values.pop(_FRA_PROTOCOL, None)
            priority = struct.unpack("=I", values.pop(_FRA_PRIORITY, bytes(4)))[0]
            number = struct.unpack("=I", values.pop(_FRA_TABLE, bytes([table, 0, 0, 0])))[0]
            source = values.pop(_FRA_SRC, None)
            text = f"{priority}: from {f'{ip_address(source)}/{prefix}' if source else 'all'}"
            text += f" to table {number}" if action == _FR_ACT_TO_TBL else f" action {action}"
            if rest := {kind: value for kind, value in values.items() if value.strip(b"\xff\0")}:
                text += f" where {', '.join(f'{k}={v.hex()}' for k, v in sorted(rest.items()))}"
            found.append(f"{text} (IPv{4 if family == socket.AF_INET else 6})")
    return found
