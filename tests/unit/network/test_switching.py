"""Fabrics: which of several links flows take, and what is known of that before."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mptcplab.network.topology import Topology
from mptcplab.scenario import load
from mptcplab.scenario.model import Scenario

PARALLEL = """
duration = "2s"
hosts = ["a", "b"]
tunables = { ndiffports = 4 }
[switches]
west = { fabric = "openvswitch" }
east = { fabric = "openvswitch" }
[links]
left = { between = ["a", "west"], rate = "100Mb/s" }
p1 = { between = ["west", "east"], rate = "10Mb/s" }
p2 = { between = ["west", "east"], rate = "10Mb/s" }
p3 = { between = ["west", "east"], rate = "10Mb/s" }
right = { between = ["east", "b"], rate = "100Mb/s" }
[flows]
main = { from = "a", to = "b" }
"""
BY_ADDRESSES = PARALLEL.replace('"openvswitch" }', '"openvswitch", ecmp = "addresses" }')
ROUTED = """
duration = "2s"
hosts = ["a", "b"]
routers = ["r"]
[switches]
west = { fabric = "openvswitch" }
east = { fabric = "openvswitch" }
[links]
left = { between = ["a", "west"], rate = "100Mb/s" }
p1 = { between = ["west", "east"], rate = "10Mb/s" }
p2 = { between = ["west", "east"], rate = "10Mb/s" }
door = { between = ["east", "r"], rate = "100Mb/s" }
right = { between = ["r", "b"], rate = "100Mb/s" }
[flows]
main = { from = "a", to = "b" }
"""


def loaded(tmp_path: Path, text: str, **options: object) -> Scenario:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    return load(file, **options)  # type: ignore[arg-type]


def middles(topology: Topology, ports: range) -> Counter[str]:
    (path,) = topology.paths("a", "b")
    return Counter(topology.on_ports(path, (port, 5001)).links[1] for port in ports)


def test_ports_spread_over_all_ways(tmp_path: Path) -> None:
    topology = loaded(tmp_path, PARALLEL).topology
    (path,) = topology.paths("a", "b")
    assert path.by_ports
    assert path.candidates == ("left", "p1", "p2", "p3", "right")
    taken = middles(topology, range(40000, 40900))
    assert set(taken) == {"p1", "p2", "p3"}
    assert all(250 < count < 350 for count in taken.values())
    assert topology.own_links(path) == ("left",)


def test_the_way_back_is_chosen_by_the_other_switch(tmp_path: Path) -> None:
    topology = loaded(tmp_path, PARALLEL).topology
    (there,), (back,) = topology.paths("a", "b"), topology.paths("b", "a")
    for port in range(40000, 40020):
        one = topology.on_ports(there, (port, 5001))
        other = topology.on_ports(back, (5001, port))
        assert (one.back or one.links[::-1]) == other.links
        (choice,) = topology.choices(one)
        assert choice == ("west", one.links[1])
        assert topology.choices(other) == (("east", other.links[1]),)


def test_addresses_have_one_way_that_the_seed_decides(tmp_path: Path) -> None:
    seen = set()
    for seed in range(1, 12):
        topology = loaded(tmp_path, BY_ADDRESSES, seed=seed).topology
        (path,) = topology.paths("a", "b")
        assert not path.by_ports
        assert topology.on_ports(path, (1, 2)) == path
        seen.add(path.links[1])
    assert seen == {"p1", "p2", "p3"}


def test_a_fabric_before_a_router_spreads_as_well(tmp_path: Path) -> None:
    topology = loaded(tmp_path, ROUTED).topology
    (path,) = topology.paths("a", "b")
    assert path.routed
    assert path.by_ports
    assert path.candidates == ("left", "p1", "p2", "door", "right")
    taken = middles(topology, range(40000, 40200))
    assert all(70 < taken[name] < 130 for name in ("p1", "p2"))
    chosen = topology.choices(topology.on_ports(path, (40000, 5001)))
    assert [switch for switch, _ in chosen] == ["west"]


def test_rings_are_closed_by_bridges_alone(tmp_path: Path) -> None:
    assert loaded(tmp_path, PARALLEL).topology.ring_links() == ()
    one_bridge = PARALLEL.replace('east = { fabric = "openvswitch" }', "east = {}")
    assert loaded(tmp_path, one_bridge).topology.ring_links() == ("p2", "p3")
