"""Addresses, routes and rules of a host: one table for each source address, as the report did it.

What an address sends leaves by its own interface, whatever the destination (appendix C of the
report: ``ip rule add from ADDRESS table N``, and in table N the address's network and a default
route over its interface).  The kernel's weak host model is switched off, so that a path is what
:meth:`mptcplab.network.topology.Topology.paths` says and nothing else: an address is answered
for on its own interface alone (arp_ignore 1), a host asks from an address of the interface it asks
on (arp_announce 2), and what arrives for an address elsewhere is dropped (rp_filter 1, which looks
the way back up by the rules above).  Where a router is on an address's network, the default route
of its table leads there, and so does one of the main table, for what has chosen no address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.netlink import Request
from mptcplab.linux.lab.forwarding import Gateway
from mptcplab.network.topology import Host, Interface, Router

_ANYWHERE: Final[dict[int, rtnl.Network]] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
_RULE_PRIORITY: Final = 1000

HOST_SYSCTLS: Final = {
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.all.arp_announce": "2",
    "net.ipv4.conf.all.rp_filter": "1",
    # what one flow learned of a path is not to shape the next one
    "net.ipv4.tcp_no_metrics_save": "1",
}
HOST_SYSCTLS_IPV6: Final = {
    # routers that hash addresses hash the label too, which is to be the same for all subflows
    "net.ipv6.auto_flowlabels": "0",
    "net.ipv6.conf.default.accept_redirects": "0",
    "net.ipv6.conf.all.keep_addr_on_down": "1",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv6.conf.default.router_solicitations": "0",
}
NO_LINK_LOCAL: Final = {"net.ipv6.conf.default.addr_gen_mode": "1"}  # IN6_ADDR_GEN_MODE_NONE


def neighbour_sysctls(host: Host | Router) -> dict[str, str]:
    """Return what lets a link that returns be used at once, for each interface of a host.

    The first request for a neighbour may meet an end that is not up yet.  By default the kernel
    asks again after a second, three times in all; here after 100 ms, for the same three seconds.
    """
    families = ("ipv4", "ipv6") if has_ipv6(host) else ("ipv4",)
    return {
        f"net.{family}.neigh.{interface.name.replace('.', '/')}.{name}": value
        for family in families
        for interface in host.interfaces
        for name, value in (("retrans_time_ms", "100"), ("mcast_solicit", "30"))
    }


def has_ipv6(host: Host | Router) -> bool:
    """Return whether any interface of a host has an IPv6 address."""
    return any(address.version == 6 for i in host.interfaces for address in i.addresses)


def tables(host: Host) -> dict[rtnl.InterfaceAddress, int]:
    """Return the routing table of each of a host's addresses: 1, 2, ... in their order."""
    addresses = [address for interface in host.interfaces for address in interface.addresses]
    # 253 to 255 are default, main and local
    return {address: n if n < 253 else n + 1000 for n, address in enumerate(addresses, 1)}


def address_requests(host: Host, devices: dict[str, rtnl.Device]) -> Iterator[Request]:
    """Yield what gives a host's interfaces their addresses and makes the rules."""
    numbers = tables(host)
    for interface in host.interfaces:
        for address in interface.addresses:
            yield rtnl.add_address(devices[interface.name].index, address)
            table = numbers[address]
            yield rtnl.add_rule(address, table, _RULE_PRIORITY + table)


def route_requests(
    host: Host,
    interface: Interface,
    index: int,
    advertised_mss: int | None,
    gateways: Iterable[Gateway] = (),
    congestion: str | None = None,
) -> Iterator[Request]:
    """Yield what makes the routes over one interface, which is up.

    They vanish when the interface goes down, all but the connected one of the main table.
    ``congestion`` is for hosts whose programs choose none.
    """
    numbers = tables(host)
    beyond = list(gateways)
    for address in interface.addresses:
        table = numbers[address]
        ways: list[tuple[rtnl.Network, rtnl.InterfaceAddress | None]] = [(address.network, None)]
        behind = [each for each in beyond if each.source == address]
        ways += [(each.network, each.gateway) for each in behind]
        if not behind:
            ways.append((_ANYWHERE[address.version], None))
        for network, gateway in ways:
            yield rtnl.add_route(
                network,
                index,
                table=table,
                source=address,
                advertised_mss=advertised_mss,
                congestion=congestion,
                gateway=gateway,
            )
        for each in behind:
            yield rtnl.add_route(
                each.network,
                index,
                source=address,
                advertised_mss=advertised_mss,
                congestion=congestion,
                gateway=each.gateway,
                metric=table,
            )
        if advertised_mss is not None or congestion is not None:
            yield rtnl.add_route(
                address.network,
                index,
                source=address,
                advertised_mss=advertised_mss,
                congestion=congestion,
                kernel=True,
            )
