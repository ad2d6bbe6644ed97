"""Routers in namespaces: the ways that the kernel takes are those that the topology says."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mptcplab.linux.lab.forwarding import has_seeds
from mptcplab.linux.lab.lab import Lab, open_lab, open_scenario
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.network.topology import Topology
from mptcplab.scenario.load import load
from mptcplab.scenario.model import Scenario

pytestmark = pytest.mark.kernel

RING = """
duration = "5s"
hosts = ["a", "b"]
routers = { r1 = {}, r2 = {}, r3 = {}, r4 = {} }
[links]
a = { between = ["a", "r1"], rate = "1Gb/s" }
b = { between = ["b", "r3"], rate = "1Gb/s" }
l12 = { between = ["r1", "r2"], rate = "1Gb/s" }
l23 = { between = ["r2", "r3"], rate = "1Gb/s" }
l34 = { between = ["r3", "r4"], rate = "1Gb/s" }
l41 = { between = ["r4", "r1"], rate = "1Gb/s" }
[flows]
main = { from = "a", to = "b" }
"""
PHONE = """
duration = "5s"
hosts = ["phone", "server"]
routers = ["isp", "cell", "core"]
[links]
wifi = { between = ["phone", "isp"], rate = "1Gb/s" }
lte = { between = ["phone", "cell"], rate = "1Gb/s" }
isp-core = { between = ["isp", "core"], rate = "1Gb/s" }
cell-core = { between = ["cell", "core"], rate = "1Gb/s" }
dc = { between = ["core", "server"], rate = "1Gb/s" }
[flows]
main = { from = "phone", to = "server" }
"""
_PORT = 5001
_ENOUGH_BYTES = 100_000


def loaded(tmp_path: Path, text: str) -> Scenario:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    return load(file)


def in_lab(network: Scenario | Topology, work: Callable[[Lab], Any]) -> Any:
    def run(send: object) -> Any:
        lab = open_scenario(network) if isinstance(network, Scenario) else open_lab(network)
        with lab:
            return work(lab)

    return run_supervised(run)


def links_of_transfer(lab: Lab, ends: tuple[str, str], ports: tuple[int, int]) -> set[str]:
    """Send some bytes by TCP from the first host's address to the second's; say by which links."""
    (here, there), family = ends, socket.AF_INET6 if ":" in ends[0] else socket.AF_INET
    before = {name: link.readings()["forward"].tx_bytes for name, link in lab.links.items()}
    back = {name: link.readings()["backward"].tx_bytes for name, link in lab.links.items()}
    with lab.enter("b"), socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((there, ports[1]))
        listener.listen()
        with lab.enter("a"), socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(10)
            client.bind((here, ports[0]))
            client.connect((there, ports[1]))
            accepted, _ = listener.accept()
            client.sendall(bytes(2 * _ENOUGH_BYTES))
            left = 2 * _ENOUGH_BYTES
            while left:
                left -= len(accepted.recv(left))
            accepted.close()
    return {
        name
        for name, link in lab.links.items()
        if link.readings()["forward"].tx_bytes - before[name] > _ENOUGH_BYTES
        or link.readings()["backward"].tx_bytes - back[name] > _ENOUGH_BYTES
    }


@pytest.mark.skipif(not has_seeds(), reason="the hash has no seed to choose before Linux 6.11")
@pytest.mark.parametrize("family", [4, 6])
def test_ports_lead_where_the_topology_says(tmp_path: Path, family: int) -> None:
    text = f'families = ["ipv{family}"]\n' + RING.replace("r1 = {}", 'r1 = { ecmp = "ports" }')
    scenario = loaded(tmp_path, text)
    (path,) = scenario.paths(scenario.flows[0])
    ends = (str(path.local_address.ip), str(path.remote_address.ip))

    def work(lab: Lab) -> list[set[str]]:
        return [links_of_transfer(lab, ends, (port, _PORT)) for port in range(40000, 40008)]

    taken = in_lab(scenario, work)
    assert taken == [
        set(scenario.topology.on_ports(path, (port, _PORT)).links) for port in range(40000, 40008)
    ]
    assert {"a", "l12", "l23", "b"} in taken
    assert {"a", "l41", "l34", "b"} in taken


@pytest.mark.skipif(not has_seeds(), reason="the hash has no seed to choose before Linux 6.11")
@pytest.mark.parametrize("family", [4, 6])
def test_addresses_lead_where_the_topology_says(tmp_path: Path, family: int) -> None:
    scenario = loaded(tmp_path, f'families = ["ipv{family}"]\n' + RING)
    seen = set()
    for seed in range(3, 7):
        seeded = replace(scenario, seed=seed)
        (path,) = seeded.paths(seeded.flows[0])
        ends = (str(path.local_address.ip), str(path.remote_address.ip))

        def work(lab: Lab, ends: tuple[str, str] = ends) -> set[str]:
            return links_of_transfer(lab, ends, (40000, _PORT))

        assert in_lab(seeded, work) == set(path.links)
        seen.add(path.links)
    assert len(seen) == 2


def test_an_explicit_route_wins_and_an_unreachable_one_is_told_at_once(tmp_path: Path) -> None:
    text = RING.replace(
        "r1 = {}", 'r1 = { routes = { b = "l41", "192.0.2.0/24" = "unreachable" } }'
    )
    scenario = loaded(tmp_path, text)
    (path,) = scenario.paths(scenario.flows[0])
    ends = (str(path.local_address.ip), str(path.remote_address.ip))

    def work(lab: Lab) -> tuple[set[str], str]:
        taken = links_of_transfer(lab, ends, (40000, _PORT))
        with lab.enter("a"), socket.socket() as client:
            client.settimeout(5)
            try:
                client.connect(("192.0.2.1", 80))
            except OSError as error:
                return taken, type(error).__name__ + f" {error.errno}"
        return taken, ""

    taken, error = in_lab(scenario, work)
    assert taken == {"a", "l41", "l34", "b"}
    assert error == "OSError 113"  # EHOSTUNREACH


def test_the_phone_has_an_endpoint_for_each_way(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, PHONE)
    paths = scenario.paths(scenario.flows[0])
    assert [path.links[0] for path in paths] == ["wifi", "lte"]

    def work(lab: Lab) -> list[str]:
        return [str(each.address) for each in lab.plans["phone"].endpoints]

    assert in_lab(scenario, work) == [str(path.local_address.ip) for path in paths]


def test_routes_survive_a_link_that_goes_and_returns(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, RING)
    (path,) = scenario.paths(scenario.flows[0])
    ends = (str(path.local_address.ip), str(path.remote_address.ip))

    def work(lab: Lab) -> set[str]:
        for name in ("a", path.links[1]):
            lab.link(name).set_up(False)
            lab.link(name).set_up(True)
        return links_of_transfer(lab, ends, (40000, _PORT))

    taken = in_lab(scenario, work)
    assert {"a", "b"} < taken
    assert len(taken) == 4


def test_a_persistent_testbed_routes_what_has_chosen_no_address(tmp_path: Path) -> None:
    topology = loaded(tmp_path, PHONE).topology
    server = topology.host("server").interfaces[0].addresses[0].ip

    def work(lab: Lab) -> str:
        with lab.enter("phone"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((str(server), 9))
            return str(probe.getsockname()[0])

    chosen = ip_address(in_lab(topology, work))
    assert chosen == topology.host("phone").interfaces[0].addresses[0].ip


def test_the_kernel_finds_the_mtu_of_a_way_beyond_a_router(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, RING.replace('["r1", "r2"],', '["r1", "r2"], mtu = 1280,'))
    (path,) = scenario.paths(scenario.flows[0])
    through = next(s for s in range(1, 20) if "l12" in ways(replace(scenario, seed=s)))
    seeded = replace(scenario, seed=through)
    ends = (str(path.local_address.ip), str(path.remote_address.ip))

    def work(lab: Lab) -> set[str]:
        return links_of_transfer(lab, ends, (40000, _PORT))

    assert "l12" in in_lab(seeded, work)


def test_routers_without_ipv6_have_no_addresses_that_come_late(tmp_path: Path) -> None:
    def work(lab: Lab) -> str:
        with lab.enter("isp"):
            return Path("/proc/thread-self/net/if_inet6").read_text()

    assert "fe80" not in in_lab(loaded(tmp_path, PHONE), work)


def ways(scenario: Scenario) -> tuple[str, ...]:
    return scenario.paths(scenario.flows[0])[0].links
