"""What this machine's kernel can do for a lab, found out by trying it in a throw-away namespace."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from mptcplab.linux.kernel import rtnl, tc
from mptcplab.linux.kernel.mptcp_endpoints import ENDPOINTS_MAX
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.kernel.netlink import Request, resolve_family
from mptcplab.linux.traffic.sockets import SO_SNDBUFFORCE

_ENDPOINTS_MAX_7: Final = 255
_LOOPBACK: Final = 1  # the interface index of lo in every namespace
_NO_INTERFACE: Final = 0x7FFFFFFF
_OVS_DATAPATH_VERSION: Final = 2  # include/uapi/linux/openvswitch.h
_HUGE_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a lab may use here."""

    kernel: str
    mptcp: bool
    veth: bool
    bridge: bool
    tbf: bool
    redirect: bool
    """clsact, u32 and mirred: what joins the two halves of a shaped link."""
    netem: bool
    vlan: bool
    """802.1Q interfaces on a NIC."""
    ifb: bool
    openvswitch: bool
    """The datapath in the kernel; Open vSwitch also has one without it."""
    sctp: bool
    tap: bool
    congestion_control_by_name: bool
    """Whether a namespace may make cubic its default."""
    realtime: bool
    """Whether emulators may run before all ordinary processes."""
    buffer_max_bytes: int | None
    """The largest buffer that a socket may be given, None for any."""
    endpoints_max: int


def _works(space: NetNamespace, *requests: Request) -> bool:
    try:
        for request in requests:
            space.routing.request(request)
    except OSError:
        return False
    return True


@cache
def netem_works() -> bool:
    """Return whether the kernel has netem."""
    return _probe(_netem_works)


@cache
def tap_works() -> bool:
    """Return whether TAP devices can be made: /dev/net/tun is there and may be opened.

    No device is made: to remove one takes the kernel longer than all the rest of a lab's set-up.
    """
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _netem_works(space: NetNamespace) -> bool:
    return _works(space, tc.impairment(_LOOPBACK, tc.Impairment(1_000_000, 0, 0.0, 10)))


def vlan_works(space: NetNamespace) -> bool:
    """Return whether the kernel has 8021q; nothing is made.

    Asked for a VLAN on an interface that is not there, it misses the interface where it knows
    VLANs, and the kind where it does not.
    """
    try:
        space.routing.request(rtnl.add_vlan(rtnl.Vlan("probe.1", 1, _NO_INTERFACE, 1500)))
    except OSError as error:
        return error.errno == errno.ENODEV
    return True


def openvswitch_works(space: NetNamespace) -> bool:
    """Return whether the kernel has Open vSwitch's datapath (net/openvswitch/datapath.c)."""
    return resolve_family(space.generic, "ovs_datapath", _OVS_DATAPATH_VERSION) is not None


def sctp_works() -> bool:
    """Return whether the kernel has SCTP (net/sctp/protocol.c)."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


def _probe(test: Callable[[NetNamespace], bool]) -> bool:
    space = NetNamespace.create("a probe")
    try:
        return test(space)
    finally:
        space.close()


def probe() -> Capabilities:
    """Try everything; to be called where namespaces may be made, in a supervisor."""
    space = NetNamespace.create("a probe")
    try:
        veth = _works(
            space,
            rtnl.add_veth(
                rtnl.VethEnd("probe0", space.descriptor), rtnl.VethEnd("probe1", space.descriptor)
            ),
        )
        index = rtnl.devices(space.routing)["probe0"].index if veth else _LOOPBACK
        return Capabilities(
            kernel=platform.release(),
            mptcp=Path("/proc/sys/net/mptcp/enabled").exists(),
            veth=veth,
            bridge=_works(space, rtnl.add_bridge("probe-br")),
            tbf=_works(space, tc.token_bucket(index, tc.TokenBucket(10**6, 10**5, 10**5))),
            redirect=_works(space, tc.classifier_hooks(index), tc.forward_copies(index, _LOOPBACK)),
            netem=netem_works(),
            vlan=vlan_works(space),
            ifb=_works(space, rtnl.add_ifb("probe-ifb", 1500)),
            openvswitch=openvswitch_works(space),
            sctp=sctp_works(),
            tap=tap_works(),
            congestion_control_by_name=_may_choose_cubic(space),
            realtime=_realtime_works(),
            buffer_max_bytes=_buffer_max_bytes(),
            endpoints_max=endpoints_max(),
        )
    finally:
        space.close()


def _may_choose_cubic(space: NetNamespace) -> bool:
    try:
        space.write_sysctls({"net.ipv4.tcp_congestion_control": "cubic"})
    except OSError:
        return False
    return True


def _realtime_works() -> bool:
    """Try SCHED_FIFO in a process of its own, which ends with it."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _buffer_max_bytes() -> int | None:
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, _HUGE_BYTES)
        except PermissionError:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _HUGE_BYTES)
            return probe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return None


def endpoints_max() -> int:
    """Return how many endpoints a namespace takes (255 from Linux 7.0 on)."""
    major = platform.release().split(".", 1)[0]
    return _ENDPOINTS_MAX_7 if major.isdigit() and int(major) >= 7 else ENDPOINTS_MAX
