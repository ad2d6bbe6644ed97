"""Topologies that the tests build: the report's whole testbed, and two hosts with two links."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from mptcplab.network.topology import (
    Channel,
    Host,
    Interface,
    InterfaceEnd,
    Link,
    Nic,
    Queue,
    Switch,
    SwitchEnd,
    Topology,
)

# link, bliksem's and donder's interface, network, their last bytes, rate, environment
_REPORT_LINKS = (
    ("link1", "eth8.1001", "eth3.1001", "192.168.11", (1, 2), 10_000_000_000, "lan"),
    ("link2", "eth5.514", "eth2.515", "192.168.138", (2, 18), 10_000_000_000, "wan"),
    ("link3", "eth5.1000", "eth2.1000", "192.168.12", (1, 2), 10_000_000_000, "lan"),
    ("link4", "eth2.2000", "eth1.2000", "192.168.13", (1, 2), 10_000_000_000, "lan"),
    ("link5", "eth8.520", "eth3.521", "192.168.21", (1, 2), 1_000_000_000, "lan"),
    ("link6", "eth2.522", "eth1.523", "192.168.22", (1, 2), 1_000_000_000, "lan"),
    ("link7", "eth8.516", "eth3.517", "192.168.23", (1, 2), 1_000_000_000, "wan"),
    ("link8", "eth2.518", "eth1.519", "192.168.24", (1, 2), 300_000_000, "wan"),
)


def channel(rate_bps: int | None, limit_bytes: int | None = 500_000) -> Channel:
    """A direction without delay."""
    return Channel(rate_bps=rate_bps, queue=Queue(limit_bytes=limit_bytes))


def interface(name: str, address: str, *, multipath: bool = True) -> Interface:
    """An interface with one address; a name with a dot is a VLAN of a NIC."""
    nic, _, vlan = name.partition(".")
    number = int(vlan) if vlan else None
    return Interface(name, nic, number, (ip_interface(address),), multipath=multipath)


def host(name: str, interfaces: list[Interface], nic_bps: int | None = None) -> Host:
    """A host whose NICs follow from its interfaces."""
    nics = tuple(Nic(nic, nic_bps) for nic in dict.fromkeys(i.nic for i in interfaces))
    return Host(name, nics, tuple(interfaces))


@pytest.fixture
def report_topology() -> Topology:
    """Table 1 of the report, without its delays: three hosts, nine links, management apart."""
    bliksem, donder, links = [], [], []
    for name, here, there, net, (a, b), rate, environment in _REPORT_LINKS:
        bliksem.append(interface(here, f"{net}.{a}/24"))
        donder.append(interface(there, f"{net}.{b}/24"))
        far: InterfaceEnd | SwitchEnd = InterfaceEnd("donder", there)
        if name == "link6":  # rainbow joins in at the switch
            far = SwitchEnd("switch2")
        both = channel(rate)
        ends = (InterfaceEnd("bliksem", here), far)
        links.append(Link(name, *ends, both, both, environment=environment))
    both = channel(1_000_000_000)
    ends9 = (InterfaceEnd("rainbow", "em2"), SwitchEnd("switch2"))
    links.append(Link("link9", *ends9, both, both, environment="lan"))
    machines = []
    for name, interfaces, last in (("bliksem", bliksem, 131), ("donder", donder, 132)):
        management = interface("eth0", f"145.100.37.{last}/27", multipath=False)
        machines.append(host(name, [management, *interfaces]))
    em2 = interface("em2", "192.168.22.3/24")
    em1 = interface("em1", "145.100.37.133/27", multipath=False)
    machines.append(host("rainbow", [em1, em2]))
    management_ports = tuple(
        InterfaceEnd(machine, nic)
        for machine, nic in (("bliksem", "eth0"), ("donder", "eth0"), ("rainbow", "em1"))
    )
    switches = (
        Switch("switch", management_ports),
        Switch("switch2", (InterfaceEnd("donder", "eth1.523"),)),
    )
    return Topology("report", tuple(machines), switches, tuple(links))


@pytest.fixture
def two_links() -> Topology:
    """Two hosts with a link of 100 Mb/s and one of 50 Mb/s."""
    links = []
    left, right = [], []
    for number, rate in ((1, 100_000_000), (2, 50_000_000)):
        left.append(interface(f"eth{number}", f"10.0.{number}.1/24"))
        right.append(interface(f"eth{number}", f"10.0.{number}.2/24"))
        ends = (InterfaceEnd("left", f"eth{number}"), InterfaceEnd("right", f"eth{number}"))
        both = channel(rate, 100_000)
        links.append(Link(f"lan{number}", *ends, both, both))
    return Topology("two", (host("left", left), host("right", right)), (), tuple(links))
