"""Made-up facts of a laptop with two accesses, and of a connection of its own."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from mptcplab.hosts.facts import (
    Address,
    Came,
    Facts,
    HostAddress,
    HostInterface,
    Lookup,
    Probe,
    RouteEntry,
    SubflowSeen,
)
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, Limits

WIFI, MOBILE = ip_address("10.0.1.1"), ip_address("10.0.2.1")
PEER, SECOND = ip_address("10.0.8.2"), ip_address("10.0.9.2")
SUBFLOW = Endpoint(MOBILE, Flags.SUBFLOW, 1, interface_index=3)


def lookups(remote: Address, *, rule: bool = True) -> tuple[Lookup, ...]:
    """Return the ways to a remote address, with or without a rule for the second access."""
    one, two = ip_address("10.0.1.254"), ip_address("10.0.2.254")
    way = ("mobile", two) if rule else ("wifi", one)
    return (
        Lookup(remote, None, "", "wifi", one, WIFI),
        Lookup(remote, WIFI, "", "wifi", one, WIFI),
        Lookup(remote, WIFI, "wifi", "wifi", one, WIFI),
        Lookup(remote, MOBILE, "", *way, MOBILE),
        Lookup(remote, MOBILE, "mobile", "mobile", two, MOBILE),
    )


def laptop(**changes: Any) -> Facts:
    """Return a host on which all is well, changed as told."""
    anywhere = ip_network("0.0.0.0/0")
    facts = Facts(
        kernel="6.18.1",
        sysctls={"net.mptcp.enabled": "1", "net.mptcp.path_manager": "kernel"},
        endpoints=(SUBFLOW,),
        limits=Limits(2, 0),
        interfaces=(
            HostInterface("lo", 1, True, True, True),
            HostInterface("wifi", 2, True, True, False, rp_filter=2),
            HostInterface("mobile", 3, True, True, False, rp_filter=2),
        ),
        addresses=(
            HostAddress(ip_address("127.0.0.1"), 8, "lo", "host"),
            HostAddress(WIFI, 24, "wifi"),
            HostAddress(MOBILE, 24, "mobile"),
        ),
        routes=(
            RouteEntry(anywhere, 254, "wifi", ip_address("10.0.1.254")),
            RouteEntry(anywhere, 2, "mobile", ip_address("10.0.2.254")),
            RouteEntry(ip_network("10.0.1.0/24"), 254, "wifi", None),
            RouteEntry(ip_network("10.0.2.0/24"), 254, "mobile", None),
        ),
        rules=("0: from all to table 255 (IPv4)", "1002: from 10.0.2.1/32 to table 2 (IPv4)"),
        lookups=lookups(PEER) + lookups(SECOND),
        chains=(),
    )
    return replace(facts, **changes)


def probed(*subflows: SubflowSeen, **changes: Any) -> Probe:
    """Return a probe whose first subflow stands, with further ones."""
    first = SubflowSeen(WIFI, PEER, Came.ESTABLISHED)
    probe = Probe(PEER, 5201, WIFI, "mptcp", subflows=(first, *subflows), announced=())
    return replace(probe, **{"denies_initial_address": False, **changes})
