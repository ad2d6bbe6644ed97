"""Middleboxes in a file: where they stand, what they come to, and what is said of them."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from mptcplab.network.translation import outsides, seen_as
from mptcplab.scenario import Scenario, load
from mptcplab.scenario.box_states import idle_boxes, interfering, report_boxes
from mptcplab.scenario.describe import describe
from mptcplab.scenario.path_states import PathStates

SECOND = 1_000_000_000
HOME = """
duration = "10s"
hosts = ["phone", "server"]
[routers.home]
middleboxes = ["nat", { kind = "strip", options = ["mp_join", "SACK"], direction = "backward" }]
[routers.isp]
[links]
wlan = { between = ["phone", "home"], rate = "20Mb/s", rtt = "10ms" }
dsl = { between = ["isp", "home"], rate = "20Mb/s" }
last = { between = ["isp", "server"], rate = "20Mb/s" }
[flows]
main = { from = "phone", to = "server" }
"""
DIRECT = """
duration = "10s"
hosts = ["phone", "server"]
[links.lte]
between = ["phone", "server"]
rate = "20Mb/s"
middleboxes = ["nat", { kind = "blackhole", name = "hole", enabled = false }]
[flows]
main = { from = "phone", to = "server" }
[[timeline]]
at = 4
enable = "lte:hole"
[[timeline]]
at = 6
disable = "lte:hole"
"""


def loaded(tmp_path: Path, text: str, *overrides: str) -> Scenario:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    return load(file, overrides=overrides)


def test_a_routers_boxes_stand_where_its_link_to_another_router_begins(tmp_path: Path) -> None:
    link = loaded(tmp_path, HOME).topology.link("dsl")
    assert link.near_boxes == ()
    nat, strip = link.far_boxes
    assert (nat.target, nat.outside) == ("home:nat", IPv4Address("10.0.2.3"))
    assert (strip.options, strip.direction) == (("MP_JOIN", "SACK"), "backward")


def test_a_hosts_nat_shows_the_last_free_address(tmp_path: Path) -> None:
    topology = loaded(tmp_path, DIRECT).topology
    (nat, _) = topology.link("lte").near_boxes
    assert nat.outside == IPv4Address("10.0.1.254")
    given = loaded(tmp_path, DIRECT.replace('"nat"', '{ kind = "nat", address = "10.0.1.7" }'))
    assert given.topology.link("lte").near_boxes[0].outside == IPv4Address("10.0.1.7")


def test_the_server_sees_what_the_nat_shows(tmp_path: Path) -> None:
    topology = loaded(tmp_path, HOME).topology
    (there,) = topology.paths("phone", "server")
    (back,) = topology.paths("server", "phone")
    assert [str(outside) for outside in outsides(topology).values()] == ["10.0.2.3/24"]
    seen = seen_as(topology, there)
    assert seen is not None
    assert (str(seen[0]), str(seen[1])) == ("home:eth1", "10.0.2.3/24")
    assert seen_as(topology, back) is None
    assert topology.way((back.local, back.local_address), seen) == (
        ("last", "backward"),
        ("dsl", "forward"),
    )
    assert topology.way(seen, (there.local, there.local_address)) == (("wlan", "backward"),)


def test_check_tells_of_boxes_and_what_they_may_do(tmp_path: Path) -> None:
    text = describe(loaded(tmp_path, HOME))
    assert "home:nat    on dsl at home:eth1  nat to 10.0.2.3" in text
    assert "home:strip  on dsl at home:eth1  strip MP_JOIN, SACK, backward" in text
    assert "main passes home:strip: subflows, MPTCP or bytes may not come" in text
    scenario = loaded(tmp_path, HOME, "flows.main.client=server")
    assert interfering(scenario, scenario.paths(scenario.flows[0])) == ("home:nat", "home:strip")
    inward = describe(scenario)
    assert "home:nat lets no connection in that begins outside" in " ".join(inward.split())


def test_check_tells_of_the_timeline(tmp_path: Path) -> None:
    text = describe(loaded(tmp_path, DIRECT))
    assert "enable lte:hole" in text
    assert "blackhole, off at first" in text


def test_no_packets_pass_while_a_black_hole_is_on(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, DIRECT)
    states = PathStates(scenario)
    (path,) = scenario.paths(scenario.flows[0])
    assert [states.carries(path, at * SECOND) for at in (0, 4, 5, 6)] == [True, False, False, True]
    assert states.is_up(path, 5 * SECOND), "the link itself is up"


def test_boxes_that_change_no_stream_interfere_with_nothing(tmp_path: Path) -> None:
    harmless = '["nat", "randomise-sequence", { kind = "split", size = 500 }, "merge"]'
    scenario = loaded(tmp_path, HOME, f"routers.home.middleboxes={harmless}")
    assert interfering(scenario, scenario.paths(scenario.flows[0])) == ()
    switched = HOME + '[[timeline]]\nat = 1\ndisable = "home:nat"\n'
    scenario = loaded(tmp_path, switched, f"routers.home.middleboxes={harmless}")
    assert interfering(scenario, scenario.paths(scenario.flows[0])) == ("home:nat",)


def test_a_box_that_did_nothing_is_told_of_by_name(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, HOME)
    nothing = {"seen": 9, "changed": 0, "dropped": 0, "stripped": 0}
    something = nothing | {"changed": 3}
    rows = report_boxes(
        scenario,
        {
            ("dsl", "far", 0): {"enabled": True, "forward": something, "backward": nothing},
            ("dsl", "far", 1): {"enabled": True, "forward": nothing, "backward": nothing},
        },
    )
    assert [(row["name"], row["end"]) for row in rows] == [
        ("home:nat", "home:eth1"),
        ("home:strip", "home:eth1"),
    ]
    (note,) = idle_boxes(rows)
    assert note.startswith("home:strip: the middlebox (strip on dsl) changed and dropped nothing")
