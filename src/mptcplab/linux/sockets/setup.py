"""What trying our stack out begins with: a stack with sensible settings, and a TUN device.

Everything is made in the network namespace of the calling thread; make one of your own first
(``mptcplab.linux.kernel.namespaces``, ``unshare -rn``), so that nothing of the machine changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface
from random import Random, SystemRandom

from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from mptcplab.linux.sockets.tun_device import TunDevice
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion import CONGESTION_CONTROLS
from mptcplab.stack.path_managers import FullMesh, PathManager
from mptcplab.stack.schedulers import SCHEDULERS
from mptcplab.stack.stack import Stack


def new_stack(
    *,
    congestion: str = "cubic",
    scheduler: str = "lowest-rtt",
    path_manager: Callable[[], PathManager] = FullMesh,
    seed: int | None = None,
    **settings: object,
) -> Stack:
    """Return a stack; ``settings`` are fields of ``StackConfig``.

    Without a ``seed`` its keys and ports cannot be guessed; with one a run can be repeated.
    Raises ``KeyError`` for an unknown congestion control or scheduler, ``TypeError`` for a setting
    that does not exist.
    """
    config = StackConfig(CONGESTION_CONTROLS[congestion], SCHEDULERS[scheduler], path_manager)
    config = replace(config, **settings)  # type: ignore[arg-type]  # checked by replace itself
    return Stack(config, SystemRandom() if seed is None else Random(seed))


def open_tun(name: str, *kernel_addresses: str, mtu_bytes: int = 1500) -> TunDevice:
    """Make a TUN device that is up and give the kernel's side of it these addresses.

    Addresses have prefix lengths (``10.77.0.1/24``); our stack takes others of the same networks.
    Raises ``ValueError`` for what is no address, ``OSError`` where the kernel refuses.
    """
    interfaces = [ip_interface(address) for address in kernel_addresses]
    device = TunDevice(name)
    try:
        with NetlinkSocket(NETLINK_ROUTE) as channel:
            index = rtnl.devices(channel)[name].index
            requests = [rtnl.add_address(index, interface) for interface in interfaces]
            requests.append(rtnl.set_link(index, up=True, mtu=mtu_bytes))
            channel.batch(requests)
    except BaseException:
        device.close()
        raise
    return device
