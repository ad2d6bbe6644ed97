"""A NIC's rate, shared by its VLANs, where they could ask for more than it has.

What the VLANs of such a NIC send passes through one intermediate device (ifb) with the NIC's rate
and queue, and what they receive through another, before it goes on; so the links' own queues stay
where they are.  In the sending host this queue holds the sockets back, as a real NIC's does.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from mptcplab.linux.drivers.kernel import shaper
from mptcplab.linux.kernel import rtnl, tc
from mptcplab.linux.kernel.netlink import Request
from mptcplab.network.nic_sharing import QUEUE_PACKETS, SharedNic
from mptcplab.network.topology import ETHERNET_HEADER_BYTES, Channel, Queue


@dataclass(frozen=True, slots=True)
class SharingDevice:
    """One way of a shared NIC, and the ifb that shapes it."""

    nic: SharedNic
    device: str

    @property
    def hook(self) -> int:
        """Where its interfaces' frames are led into the device."""
        return tc.EGRESS_HOOK if self.nic.way == "out" else tc.INGRESS_HOOK


def sharing_devices(shared: Iterable[SharedNic], taken: Container[str]) -> list[SharingDevice]:
    """Name the devices: what goes out as the NIC, unless that is ``taken``; else with a suffix."""
    sharing = []
    for nic in shared:
        suffix = "-in" if nic.way == "in" else "-out" if nic.name in taken else ""
        name = nic.name[: rtnl.INTERFACE_NAME_MAX - len(suffix)] + suffix
        sharing.append(SharingDevice(nic, name))
    return sharing


def device_requests(shared: list[SharingDevice]) -> Iterator[Request]:
    """Yield what makes the intermediate devices."""
    for each in shared:
        yield rtnl.add_ifb(each.device, each.nic.mtu)


def sharing_requests(
    shared: list[SharingDevice], devices: dict[str, rtnl.Device]
) -> Iterator[Request]:
    """Yield what shapes the devices and leads the interfaces' frames through them."""
    hooked: set[str] = set()
    for each in shared:
        nic, index = each.nic, devices[each.device].index
        frame = nic.mtu + ETHERNET_HEADER_BYTES
        queue = Queue(limit_bytes=max(QUEUE_PACKETS * frame, 2 * nic.rate_bps // 8 // 1000))
        yield tc.token_bucket(index, shaper(Channel(nic.rate_bps, queue=queue), nic.mtu))
        yield rtnl.set_link(index, up=True)
        for name in nic.interfaces:
            if name not in hooked:
                hooked.add(name)
                yield tc.classifier_hooks(devices[name].index)
            yield tc.redirect(devices[name].index, each.hook, index)
