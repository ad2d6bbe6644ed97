"""Labs on the running kernel: what is built, what it carries, what is left afterwards."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Interface
from typing import Any

import pytest

from mptcplab.linux.kernel.capabilities import vlan_works
from mptcplab.linux.lab.lab import Lab, open_lab, open_scenario
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.network.topology import Topology
from mptcplab.scenario.load import load
from mptcplab.scenario.model import Flow, Scenario, Tunables

pytestmark = pytest.mark.kernel

_RECEIVE = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
s.bind(("0.0.0.0", 5001)); s.listen(); print("ready", flush=True)
c, _ = s.accept(); n = 0
while data := c.recv(1 << 20): n += len(data)
print(n)
"""
_SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
s.connect((sys.argv[1], 5001))
for _ in range(int(sys.argv[2])): s.sendall(bytes(1 << 20))
print(s.getsockopt(284, 1, 96)[0])
"""


def in_lab(
    network: Topology | Scenario,
    work: Callable[[Lab], Any],
    tunables: dict[str, Tunables] | None = None,
) -> Any:
    """Run ``work`` on a lab in a supervisor of its own."""

    def run(send: object) -> Any:
        lab = (
            open_scenario(network) if isinstance(network, Scenario) else open_lab(network, tunables)
        )
        with lab:
            return work(lab)

    return run_supervised(run)


def output(lab: Lab, host: str, *argv: str) -> str:
    """Run a program on a host and return what it says."""
    process = lab.spawn(host, argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return process.communicate(timeout=60)[0].decode()


def transfer(lab: Lab, source: str, destination: str, address: str, mebibytes: int) -> int:
    """Send over MPTCP, check what arrived, return how many subflows there were beyond the first."""
    receiver = lab.spawn(destination, [sys.executable, "-c", _RECEIVE], stdout=subprocess.PIPE)
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == b"ready\n"
    sent = output(lab, source, sys.executable, "-c", _SEND, address, str(mebibytes))
    assert receiver.communicate(timeout=60)[0] == b"%d\n" % (mebibytes << 20)
    return int(sent)


def test_the_reports_testbed_stands_with_its_names(report_topology: Topology) -> None:
    def look(lab: Lab) -> tuple[bool, list[str], str, dict[str, str]]:
        names = output(lab, "bliksem", "ls", "/sys/class/net").split()
        name = output(lab, "donder", "uname", "-n").strip()
        tagged = vlan_works(lab.namespace("bliksem"))
        return tagged, names, name, {link.name: link.driver for link in lab.links.values()}

    tagged, names, name, drivers = in_lab(report_topology, look)
    bliksem = report_topology.host("bliksem")
    expected = {i.name for i in bliksem.interfaces}
    if tagged:  # each NIC is there as well, as the trunk of its VLANs
        expected |= {nic.name for nic in bliksem.nics}
    assert set(names) == expected | {"lo"}
    assert name == "donder"
    assert drivers == {link.name: "kernel" for link in report_topology.links}


def test_exactly_the_subflows_of_the_flow_come_up(report_topology: Topology) -> None:
    flow = Flow("main", "bliksem", "donder", client="bliksem", links=("link5", "link6"))
    scenario = Scenario("s", "", "", 1_000_000_000, report_topology, (flow,))

    def work(lab: Lab) -> tuple[int, list[str]]:
        extra = transfer(lab, "bliksem", "donder", "192.168.21.2", 8)
        carried = [
            name
            for name, link in lab.links.items()
            if link.readings()["forward"].tx_bytes > 1 << 20
        ]
        return extra, carried

    extra, carried = in_lab(scenario, work)
    assert extra == 1
    assert carried == ["link5", "link6"]


def test_mss_is_what_the_tunable_says(two_links: Topology) -> None:
    tunables = {"left": Tunables(mss=1000), "right": Tunables(mss=1000)}

    def work(lab: Lab) -> tuple[int, int]:
        transfer(lab, "left", "right", "10.0.1.2", 1)
        reading = lab.link("lan1").readings()["forward"]
        return reading.tx_bytes, reading.tx_packets

    tx_bytes, tx_packets = in_lab(two_links, work, tunables)
    assert tx_bytes / tx_packets < 1000 + 14 + 20 + 20 + 1


@pytest.mark.parametrize("name", ["A", "B", "E", "F", "G", "H"])
def test_every_experiment_of_the_report_can_be_built(name: str) -> None:
    scenario = load(name)

    def look(lab: Lab) -> dict[str, str]:
        for link in lab.links.values():
            for direction in ("forward", "backward"):
                assert link.configured(direction) == link.channel(direction)
        return {link.name: link.driver for link in lab.links.values()}

    drivers = in_lab(scenario, look)
    for link in scenario.topology.links:
        delayed = bool(link.rtt_ns)
        assert drivers[link.name] in (("netem", "tap") if delayed else ("kernel",))


def test_ndiffports_opens_subflows_on_the_first_pair_of_addresses() -> None:
    scenario = load("A", overrides=("tunables.ndiffports=3",))

    def work(lab: Lab) -> tuple[int, list[str]]:
        extra = transfer(lab, "bliksem", "donder", "192.168.22.2", 8)
        carried = [
            name
            for name, link in lab.links.items()
            if link.readings()["forward"].tx_bytes > 1 << 20
        ]
        return extra, carried

    assert in_lab(scenario, work) == (2, ["link6"])


def test_ipv6_addresses_are_usable_at_once_and_survive_their_nic(two_links: Topology) -> None:
    hosts = []
    for last, machine in enumerate(two_links.hosts, 1):
        first, *rest = machine.interfaces
        both = replace(first, addresses=(*first.addresses, IPv6Interface(f"fd00::{last}/64")))
        hosts.append(replace(machine, interfaces=(both, *rest)))

    def work(lab: Lab) -> list[bytes]:
        with lab.enter("right"):
            receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            receiver.bind(("fd00::2", 7000))
            receiver.settimeout(5)
        with lab.enter("left"):
            sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            sender.connect(("fd00::2", 7000))
        sender.send(b"one")
        found = [receiver.recv(10)]
        lab.set_nic("left", "eth1", up=False)
        lab.set_nic("left", "eth1", up=True)
        sender.send(b"two")
        return [*found, receiver.recv(10)]

    network = replace(two_links, hosts=tuple(hosts))
    assert in_lab(network, work) == [b"one", b"two"]
