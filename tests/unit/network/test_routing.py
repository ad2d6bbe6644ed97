"""Where packets end that no router has a route for, and which routers hand on to which links."""

from __future__ import annotations

from pathlib import Path

from tests.path_mtu_cases import NARROW, UNREACHABLE

from mptcplab.network.topology import InterfaceEnd, Topology
from mptcplab.scenario import load


def topology(tmp_path: Path, text: str) -> Topology:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    return load(str(file)).topology


def test_packets_to_an_unreachable_subnet_end_at_the_router_that_has_no_route(
    tmp_path: Path,
) -> None:
    net = topology(tmp_path, UNREACHABLE)
    (start,), (reached, refused) = net.places("a"), net.places("b")
    assert net.refusal(start, refused) == ((("left", "forward"),), "r1")
    assert net.refusal(start, reached) is None
    assert net.way(start, refused) is None


def test_routers_are_found_before_the_links_that_they_hand_packets_to(tmp_path: Path) -> None:
    net = topology(tmp_path, NARROW)
    (path,) = net.paths("a", "b")
    steps = net.directions(path)
    assert net.forwarders("a", steps) == (
        None,
        InterfaceEnd("r1", "eth1"),
        InterfaceEnd("r2", "eth1"),
    )
    assert net.narrow_ends == {InterfaceEnd("r1", "eth1"), InterfaceEnd("r2", "eth0")}


def test_a_router_plugged_into_a_switch_hands_on_by_its_port(tmp_path: Path) -> None:
    text = """
duration = "1s"
hosts = ["a", "b"]
routers = ["r"]
switches = { s = { ports = ["r:lan"] } }
[links]
one = { between = ["a", "r"], rate = "10Mb/s" }
two = { between = ["s", "b"], rate = "10Mb/s", mtu = 1400 }
[flows]
main = { from = "a", to = "b" }
"""
    net = topology(tmp_path, text)
    (path,) = net.paths("a", "b")
    assert net.forwarders("a", net.directions(path)) == (None, InterfaceEnd("r", "lan"))
    assert InterfaceEnd("r", "lan") in net.narrow_ends
