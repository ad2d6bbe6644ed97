"""A NIC's rate, shared by its VLANs, where they could ask for more than it has.

What the VLANs of such a NIC send passes through one intermediate device (ifb) with the NIC's rate
and queue, and what they receive through another, before it goes on; so the links' own queues stay
where they are.  In the sending host this queue holds the sockets back, as a real NIC's does.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Final

from mptcplab.linux import rtnl, tc
from mptcplab.linux.drivers.kernel import shaper
from mptcplab.linux.netlink import Request
from mptcplab.network.topology import (
    ETHERNET_HEADER_BYTES,
    Channel,
    Host,
    InterfaceEnd,
    Link,
    Nic,
    Queue,
    Topology,
)

_QUEUE_PACKETS: Final = 1000  # DEFAULT_TX_QUEUE_LEN, net/ethernet/eth.c


@dataclass(frozen=True, slots=True)
class SharedNic:
    """One direction of a NIC that is to be shared: hook and device to shape it with."""

    name: str
    rate_bps: int
    interfaces: tuple[str, ...]
    mtu: int
    hook: int
    device: str


def shared_nics(topology: Topology, host: Host, taken: Container[str]) -> list[SharedNic]:
    """Return the directions of a host's NICs whose links add up to more than the NIC's rate.

    What comes in counts for no more than the NIC that sends it can send.  The device for what goes
    out has the NIC's name, unless that is among those ``taken``.
    """
    found = []
    for nic in host.nics:
        members = [interface for interface in host.interfaces if interface.nic == nic.name]
        if nic.rate_bps is None or len(members) < 2:
            continue
        ends = [InterfaceEnd(host.name, interface.name) for interface in members]
        mtu = max(interface.mtu for interface in members)
        names = tuple(interface.name for interface in members)
        out = "-out" if nic.name in taken else ""
        for hook, rate, suffix in (
            (tc.EGRESS_HOOK, _outward_bps(topology, ends, nic.rate_bps), out),
            (tc.INGRESS_HOOK, _inward_bps(topology, ends, nic.rate_bps), "-in"),
        ):
            if rate > nic.rate_bps:
                device = nic.name[: rtnl.INTERFACE_NAME_MAX - len(suffix)] + suffix
                found.append(SharedNic(nic.name, nic.rate_bps, names, mtu, hook, device))
    return found


def _outward_bps(topology: Topology, ends: list[InterfaceEnd], nic_bps: int) -> int:
    """Return what a NIC's interfaces may ask for; one without a rate asks for the NIC's."""
    total = 0
    for end in ends:
        link = _link_at(topology, end)
        rate = None
        if link is not None:
            rate = (link.forward if link.a == end else link.backward).rate_bps
        total += nic_bps if rate is None else rate
    return total


def _inward_bps(topology: Topology, ends: list[InterfaceEnd], nic_bps: int) -> int:
    """Return what may arrive at a NIC, by the NIC or the switch that it comes from."""
    by_source: dict[object, int] = {}
    for end in ends:
        link = _link_at(topology, end)
        if link is None:  # a switch's port, at this NIC's rate
            by_source[end] = nic_bps
            continue
        far = link.b if link.a == end else link.a
        rate = (link.backward if link.a == end else link.forward).rate_bps
        rate = nic_bps if rate is None else rate
        if isinstance(far, InterfaceEnd):
            source = _nic_of(topology, far)
            limit = nic_bps if source.rate_bps is None else source.rate_bps
            key = (far.host, source.name)
            by_source[key] = min(by_source.get(key, 0) + rate, limit)
        else:
            by_source[end] = rate
    return sum(by_source.values())


def _link_at(topology: Topology, end: InterfaceEnd) -> Link | None:
    return next((link for link in topology.links if end in (link.a, link.b)), None)


def _nic_of(topology: Topology, end: InterfaceEnd) -> Nic:
    name = topology.interface_at(end).nic
    return next(nic for nic in topology.host(end.host).nics if nic.name == name)


def device_requests(shared: list[SharedNic]) -> Iterator[Request]:
    """Yield what makes the intermediate devices."""
    for nic in shared:
        yield rtnl.add_ifb(nic.device, nic.mtu)


def sharing_requests(shared: list[SharedNic], devices: dict[str, rtnl.Device]) -> Iterator[Request]:
    """Yield what shapes the devices and leads the interfaces' frames through them."""
    hooked: set[str] = set()
    for nic in shared:
        index = devices[nic.device].index
        frame = nic.mtu + ETHERNET_HEADER_BYTES
        queue = Queue(limit_bytes=max(_QUEUE_PACKETS * frame, 2 * nic.rate_bps // 8 // 1000))
        yield tc.token_bucket(index, shaper(Channel(nic.rate_bps, queue=queue), nic.mtu))
        yield rtnl.set_link(index, up=True)
        for name in nic.interfaces:
            if name not in hooked:
                hooked.add(name)
                yield tc.classifier_hooks(devices[name].index)
            yield tc.redirect(devices[name].index, nic.hook, index)
