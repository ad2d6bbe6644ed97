"""Routers in a file: addresses, ways through them, what is promised of flows, and what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mptcplab.scenario import Scenario, ScenarioError, load
from mptcplab.scenario.describe import describe

PHONE = """
duration = "5s"
hosts = ["phone", "server", "other"]
routers = ["isp", "cell", "core"]
[links]
wifi = { between = ["phone", "isp"], rate = "20Mb/s", rtt = "20ms" }
lte = { between = ["phone", "cell"], rate = "10Mb/s", rtt = "50ms" }
isp-core = { between = ["isp", "core"], rate = "100Mb/s" }
cell-core = { between = ["cell", "core"], rate = "100Mb/s" }
dc = { between = ["core", "server"], rate = "1Gb/s" }
other = { between = ["other", "isp"], rate = "1Gb/s" }
[flows]
main = { from = "server", to = "phone", client = "phone" }
"""
RING = """
duration = "5s"
hosts = ["a", "b"]
[routers]
r1 = {}
r2 = {}
r3 = {}
r4 = {}
[links]
a = { between = ["a", "r1"], rate = "1Gb/s" }
b = { between = ["b", "r3"], rate = "1Gb/s" }
l12 = { between = ["r1", "r2"], rate = "10Mb/s", rtt = "10ms" }
l23 = { between = ["r2", "r3"], rate = "10Mb/s" }
l34 = { between = ["r3", "r4"], rate = "10Mb/s" }
l41 = { between = ["r4", "r1"], rate = "10Mb/s", rtt = "30ms" }
[flows]
main = { from = "a", to = "b" }
"""


def loaded(tmp_path: Path, text: str, *overrides: str) -> Scenario:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    return load(file, overrides=overrides)


def ways(scenario: Scenario, flow: int = 0) -> list[tuple[str, ...]]:
    return [path.links for path in scenario.expected_subflows(scenario.flows[flow])]


def test_a_client_with_two_addresses_has_two_subflows_to_a_server_with_one(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, PHONE)
    assert ways(scenario) == [("wifi", "isp-core", "dc"), ("lte", "cell-core", "dc")]
    first = scenario.expected_subflows(scenario.flows[0])[0]
    topology = scenario.topology
    assert topology.directions(first) == (
        ("wifi", "forward"),
        ("isp-core", "forward"),
        ("dc", "forward"),
    )
    assert topology.directions_back(first)[0] == ("dc", "backward")
    assert topology.routers_on(first) == ("isp", "core")
    assert topology.rtt_ns(first) == 20_000_000
    assert topology.bottleneck(first) == "wifi"
    assert topology.own_links(first) == ("wifi",)


def test_the_links_of_a_flow_choose_among_its_ways(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, PHONE, 'flows.main.links=["lte", "cell-core", "dc"]')
    assert ways(scenario) == [("lte", "cell-core", "dc")]
    both = loaded(tmp_path, PHONE, 'flows.main.links=["lte","cell-core","dc","wifi","isp-core"]')
    assert ways(both) == [("lte", "cell-core", "dc"), ("wifi", "isp-core", "dc")]


def test_several_clients_reach_one_server(tmp_path: Path) -> None:
    text = PHONE + 'second = { from = "other", to = "server" }\n'
    assert ways(loaded(tmp_path, text), 1) == [("other", "isp-core", "dc")]


def test_interfaces_of_routers_have_derived_addresses_or_their_own(tmp_path: Path) -> None:
    text = PHONE.replace(
        'routers = ["isp", "cell", "core"]',
        'routers = { isp = { interfaces = { down = "192.168.0.1/24" } }, cell = {}, core = {} }',
    ).replace('["phone", "isp"]', '["phone", "isp:down"]')
    topology = loaded(tmp_path, text).topology
    isp = topology.node("isp")
    assert str(isp.interfaces[0].addresses[0]) == "192.168.0.1/24"
    assert str(topology.host("phone").interfaces[0].addresses[0]) == "192.168.0.1/24".replace(
        ".1/", ".2/"
    )
    core = topology.node("core")
    assert [str(each.addresses[0].ip)[-2:] for each in core.interfaces] == [".6", ".6", ".6"]


def test_both_families_are_routed(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, 'families = ["ipv4", "ipv6"]\n' + PHONE)
    paths = scenario.expected_subflows(scenario.flows[0])
    assert [path.local_address.version for path in paths] == [4, 6, 4, 6]
    assert {path.links for path in paths} == {
        ("wifi", "isp-core", "dc"),
        ("lte", "cell-core", "dc"),
    }


def test_the_seed_chooses_among_equal_ways_and_both_are_chosen(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, RING)
    chosen = {ways(replace(scenario, seed=seed))[0] for seed in range(30)}
    assert chosen == {("a", "l12", "l23", "b"), ("a", "l41", "l34", "b")}
    assert scenario.flows[0].links == ("a", "b", "l12", "l23", "l34", "l41")
    assert ways(scenario) == ways(loaded(tmp_path, RING))
    backs = {
        replace(scenario, seed=seed).expected_subflows(scenario.flows[0])[0].back
        for seed in range(30)
    }
    assert () in backs  # the way back is often the same
    assert len(backs) == 3  # and else another, as each router hashes for itself


def test_ports_choose_the_way_where_a_router_hashes_them(tmp_path: Path) -> None:
    scenario = loaded(
        tmp_path, RING.replace("r1 = {}", 'r1 = { ecmp = "ports" }'), "tunables.ndiffports=4"
    )
    subflows = scenario.expected_subflows(scenario.flows[0])
    assert len(subflows) == 4
    path = subflows[0]
    assert path.by_ports
    assert set(path.passed) == {"a", "b", "l12", "l23", "l34", "l41"}
    taken = {scenario.topology.on_ports(path, (port, 5001)).links for port in range(4000, 4040)}
    assert taken == {("a", "l12", "l23", "b"), ("a", "l41", "l34", "b")}
    again = scenario.topology.on_ports(path, (4000, 5001))
    assert again == scenario.topology.on_ports(path, (4000, 5001))
    assert "by its ports" in describe(scenario)


def test_explicit_routes_win(tmp_path: Path) -> None:
    text = RING.replace("r1 = {}", 'r1 = { routes = { b = "r4" } }')
    scenario = loaded(tmp_path, text)
    for seed in range(8):
        assert ways(replace(scenario, seed=seed)) == [("a", "l41", "l34", "b")]
    by_link = RING.replace("r1 = {}", 'r1 = { routes = { default = "l12" } }')
    assert ways(loaded(tmp_path, by_link)) == [("a", "l12", "l23", "b")]
    assert "route to 0.0.0.0/0 by l12" in describe(loaded(tmp_path, by_link))


def test_a_host_may_choose_its_router(tmp_path: Path) -> None:
    text = """
duration = "5s"
hosts = { a = { routes = { b = "r2" } }, b = {} }
routers = ["r1", "r2"]
switches = ["lan"]
[links]
a = { between = ["a", "lan"], rate = "10Mb/s" }
one = { between = ["lan", "r1"], rate = "10Mb/s" }
two = { between = ["lan", "r2"], rate = "10Mb/s" }
b1 = { between = ["r1", "b"], rate = "10Mb/s" }
b2 = { between = ["r2", "b"], rate = "10Mb/s" }
[flows]
main = { from = "a", to = "b" }
"""
    assert set(ways(loaded(tmp_path, text))) == {
        ("a", "two", "b2"),
        ("a", "two", "two", "one", "b1"),  # each address of b lies behind one router
    }
    assert set(ways(loaded(tmp_path, text.replace('routes = { b = "r2" }', "")))) == {
        ("a", "two", "b2"),
        ("a", "one", "b1"),
    }


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        (
            PHONE.replace('routers = ["isp", "cell", "core"]', 'routers = ["isp", "cell", "cor"]'),
            "links.isp-core.between",
            'there is no host, router or switch "core"',
        ),
        (
            PHONE.replace('"core"]\n[links]', '"core", "phone"]\n[links]'),
            "routers.phone",
            "is the name of a host too",
        ),
        (
            RING.replace("r1 = {}", 'r1 = { ecmp = "port" }'),
            "routers.r1.ecmp",
            "'port' is not known",
        ),
        (
            RING.replace("r1 = {}", 'r1 = { routes = { nobody = "r2" } }'),
            "routers.r1.routes.nobody",
            'there is no host "nobody"',
        ),
        (
            RING.replace("r1 = {}", 'r1 = { routes = { b = "r3" } }'),
            "routers.r1.routes.b",
            '"r3" is no router beside r1',
        ),
        (
            RING.replace("r1 = {}", 'r1 = { routes = { "10.0.0.1/8" = "r2" } }'),
            'routers.r1.routes."10.0.0.1/8"',
            "is no subnet",
        ),
        (
            RING.replace("r1 = {}", 'r1 = { routes = { "fd00::/8" = "r2" } }'),
            "routers.r1.routes",
            "has no address of the family of fd00::/8",
        ),
        (
            RING.replace("r1 = {}", 'r1 = { routes = { b = ["unreachable", "r2"] } }'),
            "routers.r1.routes.b",
            '"unreachable" is named with next hops',
        ),
        (
            RING.replace("r1 = {}", "r1 = { routes = { b = 3 } }"),
            "routers.r1.routes.b",
            "3 is not a name or a list of names",
        ),
        (
            RING.replace("r1 = {}", 'r1 = { routes = { "to b" = "r2" } }'),
            'routers.r1.routes."to b"',
            '"to b" is no destination',
        ),
        (
            RING.replace("r1 = {}", 'r1 = { routes = { b = "unreachable" } }'),
            "flows.main",
            "nothing that carries mptcp joins a and b",
        ),
        (
            RING.replace("r1 = {}", 'r1 = { routes = { b = "r2" } }').replace(
                "r2 = {}", 'r2 = { routes = { b = "r1" } }'
            ),
            "flows.main",
            "explicit routes lead in a circle, r1 > r2 > r1",
        ),
        (
            PHONE.replace("routers = [", 'routers = { isp = { stack = "ours" } }\n#'),
            "routers.isp.stack",
            'unknown key "stack"',
        ),
        (
            PHONE.replace("other = { between", "#").replace(
                "[flows]", '[flows]\nlone = { from = "other", to = "server" }'
            ),
            "flows.lone",
            "nothing that carries mptcp joins other and server",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, key: str, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        loaded(tmp_path, text)
    assert key in caught.value.errors[0].key
    assert says in str(caught.value)
