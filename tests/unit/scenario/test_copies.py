"""Hosts with a count, and links and flows for each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptcplab.scenario import Scenario, ScenarioError, load

MANY = """
duration = "5s"
[hosts.client]
count = 3
cpu = "modern"
[hosts.server]
[hosts.sink]
count = 3
[routers.r]
[links.access]
for = "client"
between = ["client", "r"]
rate = "10Mb/s"
[links.out]
for = "sink"
between = ["sink:eth7", "r"]
rate = "10Mb/s"
[links.core]
between = ["r", "server"]
rate = "100Mb/s"
[flows.down]
for = "client"
from = "server"
to = "client"
client = "client"
links = ["access", "core"]
[flows.across]
for = ["client", "sink"]
from = "client"
to = "sink"
"""


def loaded(tmp_path: Path, text: str, *overrides: str) -> Scenario:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    return load(file, overrides=overrides)


def test_each_copy_has_its_link_and_its_flows(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, MANY)
    topology = scenario.topology
    assert [host.name for host in topology.hosts] == [
        *("client1", "client2", "client3", "server", "sink1", "sink2", "sink3"),
    ]
    assert [host.cpu for host in topology.hosts[:4]] == ["modern"] * 3 + ["none"]
    assert [str(link.a) for link in topology.links][:4] == [
        *("client1:eth0", "client2:eth0", "client3:eth0", "sink1:eth7"),
    ]
    flows = {flow.name: flow for flow in scenario.flows}
    assert flows["down2"].destination == flows["down2"].client == "client2"
    assert flows["down2"].links == ("access2", "core")
    assert [(flows[f"across{n}"].source, flows[f"across{n}"].destination) for n in (1, 3)] == [
        ("client1", "sink1"),
        ("client3", "sink3"),
    ]


def test_set_changes_all_copies_and_how_many(tmp_path: Path) -> None:
    scenario = loaded(
        tmp_path, MANY, "hosts.client.count=4", "hosts.sink.count=4", "links.access.rate=1Mb/s"
    )
    assert len(scenario.flows) == 8
    assert scenario.topology.link("access4").forward.rate_bps == 10**6


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("count = 3", "count = 0", "hosts.client.count", "0 is out of range"),
        ("count = 3", 'count = "3"', "hosts.client.count", "is not a whole number"),
        (
            'for = "client"',
            'for = "server"',
            "links.access.for",
            '"server" is no host with a count',
        ),
        ('for = "client"', "for = 3", "links.access.for", "3 is not a name or a list of names"),
        ("[hosts.sink]\ncount = 3", "[hosts.sink]\ncount = 2", "flows.across.for", "3 of client"),
        ("[hosts.server]", "[hosts.server]\n[hosts.client2]", "hosts.client2", "is also number 2"),
        ("[links.core]", "[links.access1]", "links.access1", "is also number 1 of access"),
        ('for = "sink"\n', "", "links.out.between", 'there is no host, router or switch "sink"'),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, old: str, new: str, key: str, says: str
) -> None:
    assert old in MANY
    with pytest.raises(ScenarioError) as caught:
        loaded(tmp_path, MANY.replace(old, new, 1))
    assert caught.value.errors[0].key == key
    assert says in str(caught.value)
