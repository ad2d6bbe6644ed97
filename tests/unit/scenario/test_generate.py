"""Networks by rule: how many parts they have, who sends to whom, and what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.scenario import Scenario, ScenarioError, load
from mptcplab.scenario.generate import permuted
from mptcplab.scenario.load import load_topology


def loaded(tmp_path: Path, generate: str, more: str = "", *overrides: str) -> Scenario:
    file = tmp_path / "scenario.toml"
    file.write_text(f'duration = "5s"\n[generate]\n{generate}\n{more}')
    return load(file, overrides=overrides)


def sizes(scenario: Scenario) -> tuple[int, int, int, int]:
    topology = scenario.topology
    return (
        len(topology.hosts),
        len(topology.routers),
        len(topology.links),
        len(scenario.flows),
    )


@pytest.mark.parametrize(
    ("generate", "expected"),
    [
        ('kind = "dumbbell"', (4, 2, 5, 2)),
        ('kind = "dumbbell"\nhosts = 7', (14, 2, 15, 7)),
        ('kind = "leaf-spine"', (16, 6, 24, 16)),
        ('kind = "leaf-spine"\nleaves = 3\nspines = 5\nhosts = 2', (6, 8, 21, 6)),
        ('kind = "fat-tree"', (16, 20, 48, 16)),
        ('kind = "fat-tree"\nk = 6\ntraffic = "permutation"', (54, 45, 162, 54)),
        ('kind = "torus"', (10, 10, 25, 5)),
        ('kind = "parking-lot"\nhops = 4', (10, 5, 14, 5)),
    ],
)
def test_each_kind_has_the_parts_that_its_sizes_ask_for(
    tmp_path: Path, generate: str, expected: tuple[int, int, int, int]
) -> None:
    assert sizes(loaded(tmp_path, generate)) == expected


def test_the_flows_of_a_torus_share_each_link_with_a_neighbour(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, 'kind = "torus"')
    middle = [
        [path.links[1] for path in scenario.expected_subflows(flow)] for flow in scenario.flows
    ]
    assert middle == [["l1", "l2"], ["l2", "l3"], ["l3", "l4"], ["l4", "l5"], ["l5", "l1"]]


def test_hosts_of_different_pods_have_k_squared_over_four_ways(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, 'kind = "fat-tree"\nk = 4\necmp = "ports"')
    topology = scenario.topology
    (path,) = topology.paths("h0-0-0", "h3-1-1")
    taken = {topology.on_ports(path, (port, 5001)).links for port in range(200)}
    assert len(taken) == 4
    assert {len(links) for links in taken} == {6}
    assert len(topology.paths("h0-0-0", "h0-0-1")[0].links) == 2


def test_the_long_flow_of_a_parking_lot_passes_every_link(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, 'kind = "parking-lot"')
    links = {flow.name: scenario.expected_subflows(flow)[0].links for flow in scenario.flows}
    assert links["long"] == ("a0-r0", "l1", "l2", "l3", "b0-r3")
    assert links["f2"] == ("a2-r1", "l2", "b2-r2")


def test_links_and_flows_have_what_is_said_of_them(tmp_path: Path) -> None:
    scenario = loaded(
        tmp_path,
        'kind = "dumbbell"\nlink = { rate = "10Mb/s", rtt = "20ms" }\n'
        'access = { rate = "1Gb/s" }\nflow = { protocol = "tcp", congestion = "reno" }',
        '[links.bottleneck]\nloss = "1%"\n[flows.f2]\nprotocol = "mptcp"\n[hosts.extra]\n'
        '[links.more]\nbetween = ["extra", "left"]\n[flows.third]\nfrom = "extra"\nto = "b1"\n',
    )
    bottleneck = scenario.topology.link("bottleneck").forward
    assert (bottleneck.rate_bps, bottleneck.delay_ns, bottleneck.loss) == (10**7, 10**7, 0.01)
    assert scenario.topology.link("a1-left").forward.rate_bps == 10**9
    assert [flow.protocol for flow in scenario.flows] == ["tcp", "mptcp", "mptcp"]
    assert [flow.name for flow in scenario.flows] == ["f1", "f2", "third"]


def test_set_changes_what_generates_and_what_is_generated(tmp_path: Path) -> None:
    kind = 'kind = "dumbbell"'
    scenario = loaded(tmp_path, kind, "", "generate.hosts=3", "links.*.rate=5Mb/s")
    assert len(scenario.flows) == 3
    assert {link.forward.rate_bps for link in scenario.topology.links} == {5 * 10**6}
    with pytest.raises(ScenarioError, match=r"comes after a --set of what it generates"):
        loaded(tmp_path, kind, "", "links.*.rate=5Mb/s", "generate.hosts=3")


def test_a_topology_file_may_generate(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text('[generate]\nkind = "dumbbell"\n')
    assert [host.name for host in load_topology(tmp_path / "net.toml").hosts] == [
        "a1",
        "b1",
        "a2",
        "b2",
    ]


@pytest.mark.parametrize("count", [2, 3, 16, 129])
def test_a_permutation_leaves_none_at_its_place(count: int) -> None:
    hosts = [f"h{number}" for number in range(count)]
    order = permuted(hosts, 1)
    assert sorted(order) == sorted(hosts)
    assert all(one != other for one, other in zip(hosts, order, strict=True))
    assert order == permuted(hosts, 1)
    assert count < 4 or order != permuted(hosts, 2)


@pytest.mark.parametrize(
    ("generate", "key", "says"),
    [
        ('kind = "tree"', "generate.kind", "'tree' is not known"),
        ("k = 4", "generate.kind", "is missing"),
        ('kind = "fat-tree"\nk = 5', "generate.k", "5 is odd"),
        ('kind = "fat-tree"\nk = 100', "generate.k", "100 is out of range"),
        ('kind = "fat-tree"\nhops = 5', "generate.hops", "is not for fat-tree"),
        ('kind = "torus"\nsize = 2', "generate.size", "2 is out of range"),
        ('kind = "dumbbell"\nhosts = 0', "generate.hosts", "0 is out of range"),
        ('kind = "dumbbell"\nlink = { rat = "1Mb/s" }', "generate.link.rat", 'unknown key "rat"'),
        ('kind = "dumbbell"\nlink = { rate = "fast" }', "generate.link.rate", "'fast'"),
        (
            'kind = "dumbbell"\naccess = { between = ["a", "b"] }',
            "generate.access.between",
            'unknown key "between"',
        ),
        ('kind = "dumbbell"\nflow = { from = "a1" }', "generate.flow.from", 'unknown key "from"'),
        ('kind = "dumbbell"\ntraffic = "all"', "generate.traffic", "'all' is not known"),
        ('kind = "dumbbell"\necmp = "port"', "generate.ecmp", "'port' is not known"),
        ('kind = "leaf-spine"\nleaves = 500\nhosts = 1000', "hosts", "500000 of them"),
        ('kind = "dumbbell"\nleaves = 3', "generate.leaves", "is not for dumbbell"),
        ('kind = "dumbbell"\nspines = 3', "generate.spines", "is not for dumbbell"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, generate: str, key: str, says: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        loaded(tmp_path, generate)
    assert caught.value.errors[0].key == key
    assert says in str(caught.value)
