"""Small labs for `mptcplab host`: two hosts joined by two links, or by two accesses and a router.

Built with netlink alone and without shaping, since what is looked at is whether subflows come.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Any, Final

from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, Limits, PathManager
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.kernel.netlink import NetlinkSocket
from mptcplab.linux.kernel.syscalls import CLONE_NEWNET, setns
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.linux.probes.diag import DiagSocket

Address = IPv4Address | IPv6Address

PORT: Final = 5201
_PREFIX: Final = {4: "10.0.{}.{}", 6: "fd00:0:0:{}::{}"}
_BITS: Final = {4: 24, 6: 64}
_ANY: Final = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass
class HostLab:
    """The namespaces of a lab: "client", "server" and perhaps "router", and its IP version."""

    version: int
    spaces: dict[str, NetNamespace]

    def address(self, network: int, host: int) -> Address:
        """Return the address of a host (1 client, 2 server, 3 router) on a network."""
        return ip_address(_PREFIX[self.version].format(network, host))

    def pm(self, host: str) -> PathManager:
        """Return a host's MPTCP path manager."""
        space = self.spaces[host]

        def channel() -> NetlinkSocket:
            return space.generic

        return PathManager(channel)

    def index(self, host: str, interface: str) -> int:
        """Return an interface's index."""
        return rtnl.devices(self.spaces[host].routing)[interface].index

    def endpoint(
        self, host: str, network: int, flags: Flags, interface: str = "", *, last: int = 0
    ) -> None:
        """Add an endpoint for a host's address on a network, or for another one there."""
        number = last or (1 if host == "client" else 2)
        index = self.index(host, interface) if interface else 0
        address = self.address(network, number)
        self.pm(host).add(Endpoint(address, flags, interface_index=index))

    def limits(self, host: str, subflows: int, add_addr_accepted: int) -> None:
        """Set a host's limits."""
        self.pm(host).set_limits(Limits(subflows, add_addr_accepted))

    def run(self, host: str, *argv: str) -> str:
        """Run a program on a host and return what it printed; it must succeed."""
        done = subprocess.run(
            list(argv),
            preexec_fn=partial(setns, self.spaces[host].descriptor, CLONE_NEWNET),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def ip(self, host: str, command: str) -> None:
        """Run one command of iproute2 on a host."""
        self.run(host, "ip", f"-{self.version}", *command.split())

    def start(self, host: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program on a host."""
        return subprocess.Popen(
            list(argv), preexec_fn=partial(setns, self.spaces[host].descriptor, CLONE_NEWNET)
        )

    def wait_for_socket(self, host: str) -> None:
        """Wait until a program on a host is connected, and had time for a second subflow."""
        with self.spaces[host].entered():
            diag = DiagSocket()
        deadline = time.monotonic() + 10
        while not any(each.state == "ESTABLISHED" for each in diag.tcp()):
            assert time.monotonic() < deadline, "no connection came up"
            time.sleep(0.05)
        time.sleep(0.5)
        diag.close()


def _join(lab: HostLab, one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Make a veth pair between two ends, each a host, an interface and an address."""
    ends = [rtnl.VethEnd(name, lab.spaces[host].descriptor) for host, name, _ in (one, other)]
    lab.spaces[one[0]].routing.request(rtnl.add_veth(ends[0], ends[1]))
    for host, name, address in (one, other):
        channel = lab.spaces[host].routing
        index = rtnl.devices(channel)[name].index
        channel.request(rtnl.set_link(index, up=True))
        with_prefix = ip_interface(f"{address}/{_BITS[lab.version]}")
        channel.request(rtnl.add_address(index, with_prefix))


def _spaces(names: Sequence[str]) -> dict[str, NetNamespace]:
    spaces = {}
    for name in names:
        space = spaces[name] = NetNamespace.create(name)
        space.write_sysctls(
            {
                "net.ipv6.conf.all.accept_dad": "0",
                "net.ipv6.conf.default.accept_dad": "0",
                "net.ipv6.conf.all.keep_addr_on_down": "1",
                "net.mptcp.enabled": "1",
            }
        )
        space.routing.request(rtnl.set_link(1, up=True))
    return spaces


@contextmanager
def direct(version: int) -> Iterator[HostLab]:
    """Client and server joined by two links, networks 1 and 2; the server announces its second.

    The client accepts that, so that a second subflow comes.
    """
    lab = HostLab(version, _spaces(("client", "server")))
    for network in (1, 2):
        name = f"eth{network}"
        _join(
            lab,
            ("client", name, str(lab.address(network, 1))),
            ("server", name, str(lab.address(network, 2))),
        )
    lab.endpoint("server", 2, Flags.SIGNAL)
    lab.limits("client", 2, 2)
    try:
        yield lab
    finally:
        for space in lab.spaces.values():
            space.close()


@contextmanager
def routed(version: int) -> Iterator[HostLab]:
    """A client with two accesses, networks 1 and 2, and a server on network 8 behind the router.

    As access networks do, the router drops what does not come from its access's own addresses. The
    client has a table for its second address, and an endpoint, so that a second subflow comes.
    """
    lab = HostLab(version, _spaces(("client", "router", "server")))
    at = lab.address
    for network in (1, 2):
        near = ("client", f"eth{network}", str(at(network, 1)))
        _join(lab, near, ("router", f"r{network}", str(at(network, 3))))
    _join(lab, ("server", "eth1", str(at(8, 2))), ("router", "s1", str(at(8, 3))))
    which = {4: "ipv4.ip_forward", 6: "ipv6.conf.all.forwarding"}[version]
    lab.spaces["router"].write_sysctls({f"net.{which}": "1"})
    for network, other in ((1, 2), (2, 1)):
        source = f"{at(network, 0)}/{_BITS[version]}"
        lab.ip("router", f"rule add from {source} iif r{other} blackhole pref {100 + network}")
    lab.ip("server", f"route add default via {at(8, 3)}")
    lab.ip("client", f"route add default via {at(1, 3)} dev eth1 metric 100")
    lab.ip("client", f"route add default via {at(2, 3)} dev eth2 metric 200")
    lab.ip("client", f"route add default via {at(2, 3)} dev eth2 table 2")
    lab.ip("client", f"rule add from {at(2, 1)} table 2 pref 1002")
    lab.endpoint("client", 2, Flags.SUBFLOW, "eth2")
    try:
        yield lab
    finally:
        for space in lab.spaces.values():
            space.close()


def in_lab(make: Callable[[int], Any], version: int, work: Callable[[HostLab], Any]) -> Any:
    """Run ``work`` on a lab in a supervisor of its own and return what it returns."""

    def run(_send: object) -> Any:
        with make(version) as lab:
            return work(lab)

    return run_supervised(run)
