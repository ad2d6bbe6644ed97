"""Rules, routes and sysctls that put our stack on a host in the place of the kernel's TCP.

A rule before that of the local table sends TCP that arrives on an interface into a table of that
interface's addresses, each a route to the TUN device; everything else finds the local table, one
rule later.  Nothing needs to be said for the way out: a packet from an address obeys the rule of
that address (:mod:`mptcplab.linux.lab.addressing`), whoever made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.namespaces import write_sysctl
from mptcplab.linux.kernel.netlink import NETLINK_ROUTE, NetlinkSocket, Request
from mptcplab.linux.lab.addressing import has_ipv6
from mptcplab.linux.sockets.tun_device import TunDevice
from mptcplab.network.topology import Host, Interface
from mptcplab.wire.segment import MAX_TRAIN_BYTES

_TUN_NAME: Final = "own-stack"

_HEADERS_BYTES: Final = 119
"""Ethernet with a VLAN tag, IPv6 and TCP with all its options, and the byte by which a packet stays
below the limit (net/core/dev.c, gso_features_check)."""
_FIRST_TABLE: Final = 10_000  # above those of the addresses
_TCP_PRIORITY: Final = 1
_LOCAL_PRIORITY: Final = 2
_QUEUE_PACKETS: Final = 10_000
"""What waits for our stack is bounded by the peers' windows, as it is before a socket of the
kernel's; the default of 500 packets would lose a burst whenever the process is not scheduled."""


def sysctls(host: Host) -> dict[str, str]:
    """Return what lets a host forward between its interfaces and the TUN device.

    Packets of the TUN device come from addresses of the host itself (accept_local), and their way
    back is not the TUN device: rp_filter stays on for interfaces, which are made after this, alone.
    """
    values = {
        "net.ipv4.conf.all.forwarding": "1",
        "net.ipv4.conf.all.accept_local": "1",
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.default.rp_filter": "1",
    }
    return values | ({"net.ipv6.conf.all.forwarding": "1"} if has_ipv6(host) else {})


def rule_requests(host: Host) -> Iterator[Request]:
    """Yield what makes the rules; the rule of the local table moves to make room before it."""
    for version in _versions(host):
        yield rtnl.add_table_rule(version, rtnl.LOCAL_TABLE, _LOCAL_PRIORITY)
        for number, interface in enumerate(host.interfaces):
            if any(address.version == version for address in interface.addresses):
                yield rtnl.add_tcp_rule(
                    version, interface.name, _FIRST_TABLE + number, _TCP_PRIORITY
                )
        yield rtnl.delete_table_rule(version, rtnl.LOCAL_TABLE, 0)


def open_device(host: Host) -> TunDevice:
    """Make the TUN device in the present network namespace, and the routes to it.

    OSError where the kernel refuses.
    """
    device = TunDevice(_TUN_NAME, offload=host.offload)
    try:
        write_sysctl(f"net.ipv4.conf.{_TUN_NAME}.rp_filter", "0")
        mtu = max(interface.mtu for interface in host.interfaces)
        with NetlinkSocket(NETLINK_ROUTE) as channel:
            index = rtnl.devices(channel)[_TUN_NAME].index
            channel.batch([rtnl.set_link(index, up=True, mtu=mtu, queue_frames=_QUEUE_PACKETS)])
            channel.batch(_route_requests(host, index))
    except BaseException:
        device.close()
        raise
    return device


def longest_train_bytes(host: Host, mss: int | None) -> int:
    """Return the payload of the longest train that every interface of a host takes in one piece.

    Without offload that is one segment: of the MSS that the scenario sets, or what the MTU leaves.

    A longer one would be cut into packets that nothing joins again, each pair of them acknowledged
    by itself. Asks the present network namespace.
    """
    mtu = min(interface.mtu for interface in host.interfaces)
    if not host.offload:
        return min(mtu, mss or mtu)  # the stack rounds down to whole segments
    with NetlinkSocket(NETLINK_ROUTE) as channel:
        devices = rtnl.devices(channel)
    least = min(devices[interface.name].gso_max_bytes for interface in host.interfaces)
    return min(max(least - _HEADERS_BYTES, mtu), MAX_TRAIN_BYTES)


def _route_requests(host: Host, index: int) -> Iterator[Request]:
    for number, interface in enumerate(host.interfaces):
        for address in interface.addresses:
            yield rtnl.add_route(ip_network(address.ip), index, table=_FIRST_TABLE + number)


def _versions(host: Host) -> list[int]:
    interfaces: tuple[Interface, ...] = host.interfaces
    return sorted({address.version for each in interfaces for address in each.addresses})
