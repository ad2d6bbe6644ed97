"""Routes as they are read back: where they lead, and by which next hops."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address, ip_network

from mptcplab.linux.kernel.netlink import attribute
from mptcplab.linux.kernel.rtnl import Route

_DESTINATION, _GATEWAY, _MULTIPATH = 1, 5, 9


def route(prefix: int, *values: tuple[int, bytes], kind: int = 1) -> Route:
    """Return an IPv4 route of the main table, by interface 3."""
    return Route(3, socket.AF_INET, 254, kind, prefix, values)


def test_a_route_on_the_link_and_one_by_a_gateway() -> None:
    connected = route(24, (_DESTINATION, ip_address("10.0.1.0").packed))
    assert connected.network == ip_network("10.0.1.0/24")
    assert connected.hops == [(3, None)]
    gateway = ip_address("10.0.1.254")
    anywhere = route(0, (_GATEWAY, gateway.packed))
    assert anywhere.network == ip_network("0.0.0.0/0")
    assert anywhere.hops == [(3, gateway)]
    assert anywhere.unicast
    assert not route(0, kind=7).unicast


def test_a_route_by_several_gateways() -> None:
    gateways = [ip_address("10.0.1.254"), ip_address("10.0.2.254")]
    hops = b""
    for index, gateway in enumerate(gateways, 4):
        via = attribute(_GATEWAY, gateway.packed)
        hops += struct.pack("=HBBi", 8 + len(via), 0, 0, index) + via
    assert route(0, (_MULTIPATH, hops)).hops == [(4, gateways[0]), (5, gateways[1])]


def test_a_next_hop_of_no_length_ends_the_list() -> None:
    assert route(0, (_MULTIPATH, bytes(16))).hops == [(0, None), (0, None)]
