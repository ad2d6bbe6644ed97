"""Which NICs have less rate than their interfaces may ask for, each way."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from mptcplab.network.topology import Host, InterfaceEnd, Topology

Way = Literal["out", "in"]
QUEUE_PACKETS = 1000
"""DEFAULT_TX_QUEUE_LEN, net/ethernet/eth.c: what waits where a NIC is the bottleneck."""


@dataclass(frozen=True, slots=True)
class SharedNic:
    """One way of a NIC that is to be shared by its interfaces."""

    name: str
    rate_bps: int
    interfaces: tuple[str, ...]
    mtu: int
    way: Way


def shared_nics(topology: Topology, host: Host) -> list[SharedNic]:
    """Return the ways of a host's NICs that their links may ask more of than the NIC's rate.

    What comes in counts for no more than the NIC that sends it can send; a link without a rate may
    ask for anything.
    """
    shared = []
    for nic in host.nics:
        members = [interface for interface in host.interfaces if interface.nic == nic.name]
        if nic.rate_bps is None or not members:
            continue
        ends = [InterfaceEnd(host.name, interface.name) for interface in members]
        mtu = max(interface.mtu for interface in members)
        names = tuple(interface.name for interface in members)
        ways: tuple[tuple[Way, float], ...] = (
            ("out", _outward_bps(topology, ends, nic.rate_bps)),
            ("in", _inward_bps(topology, ends, nic.rate_bps)),
        )
        shared += [
            SharedNic(nic.name, nic.rate_bps, names, mtu, way)
            for way, rate_bps in ways
            if rate_bps > nic.rate_bps
        ]
    return shared


def _outward_bps(topology: Topology, ends: list[InterfaceEnd], nic_bps: int) -> float:
    """Return what a NIC's interfaces may ask for; a switch's port asks for the NIC's rate."""
    total = 0.0
    for end in ends:
        link = topology.link_at(end)
        if link is None:
            total += nic_bps
        else:
            rate = (link.forward if link.a == end else link.backward).rate_bps
            total += inf if rate is None else rate
    return total


def _inward_bps(topology: Topology, ends: list[InterfaceEnd], nic_bps: int) -> float:
    """Return what may arrive at a NIC, by the NIC or the switch that it comes from."""
    by_source: dict[object, float] = {}
    for end in ends:
        link = topology.link_at(end)
        if link is None:  # a switch's port, at this NIC's rate
            by_source[end] = nic_bps
            continue
        far = link.b if link.a == end else link.a
        rate = (link.backward if link.a == end else link.forward).rate_bps
        asked = inf if rate is None else float(rate)
        if isinstance(far, InterfaceEnd):
            source = topology.nic_at(far)
            limit = inf if source.rate_bps is None else source.rate_bps
            key = (far.host, source.name)
            by_source[key] = min(by_source.get(key, 0.0) + asked, limit)
        else:
            by_source[end] = asked
    return sum(by_source.values())
