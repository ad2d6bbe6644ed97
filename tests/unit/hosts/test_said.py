"""A judgement as text, commands, JSON and a scenario."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from tests.unit.hosts.made_up import MOBILE, PEER, SUBFLOW, WIFI, laptop, lookups, probed

from mptcplab.hosts.as_scenario import scenario_text
from mptcplab.hosts.examine import Examination
from mptcplab.hosts.explain import explained, fix_script
from mptcplab.hosts.facts import Came, Facts, HostAddress, HostInterface, SubflowSeen
from mptcplab.hosts.judge import ANYWHERE, judge
from mptcplab.hosts.judgement import Fix
from mptcplab.hosts.to_json import as_json
from mptcplab.linux.kernel.mptcp_endpoints import Limits
from mptcplab.scenario import load


def examined(facts: Facts) -> Examination:
    """Return an examination without a probe."""
    return Examination(facts, judge(facts, [PEER]))


def test_the_text_has_a_row_for_each_pair_and_a_sum() -> None:
    probe = probed(SubflowSeen(MOBILE, PEER, Came.ESTABLISHED), waited_ms=250)
    lines = list(explained(Examination(laptop(), judge(laptop(), [PEER], probe))))
    assert lines == [
        "Linux 6.18.1: MPTCP is on, path manager kernel",
        "limits: 2 subflows beyond the first, 0 announced addresses joined",
        "endpoint 1: 10.0.2.1 subflow dev mobile",
        "one connection to 10.0.8.2 port 5201: MPTCP, 2 subflows after 0.2 s",
        "",
        "from      interface  to        subflow",
        "10.0.1.1  wifi       10.0.8.2  opens first",
        "10.0.2.1  mobile     10.0.8.2  joined",
        "",
        "2 subflows for 2 usable addresses came: healthy.",
    ]


def test_a_failure_names_its_step_and_no_line_is_too_long() -> None:
    facts = laptop(
        endpoints=(replace(SUBFLOW, interface_index=0),), lookups=lookups(PEER, rule=False)
    )
    probe = probed(SubflowSeen(MOBILE, PEER, Came.UNANSWERED))
    lines = list(explained(Examination(facts, judge(facts, [PEER], probe))))
    assert "10.0.2.1  mobile     10.0.8.2  tried and failed: route" in lines
    assert max(map(len, lines)) <= 100


def test_commands_for_the_peer_and_incomplete_ones_are_comments() -> None:
    fixes = [
        Fix("ip a"),
        Fix("ip b via GATEWAY", complete=False),
        Fix("sysctl c", "peer"),
    ]
    assert [line for line in fix_script(fixes) if not line.startswith("#")] == ["ip a"]
    assert list(fix_script(fixes))[-1] == "# sysctl c"
    assert list(fix_script([])) == []


def test_json_has_what_was_said_and_read() -> None:
    said = json.loads(json.dumps(as_json(examined(laptop(limits=Limits(0, 0))))))
    assert said["healthy"] is False
    assert said["rows"][1]["obstacles"][0]["code"] == "limits-subflows"
    assert said["rows"][1]["obstacles"][0]["step"] == "limits"
    assert said["fixes"][0]["command"] == "ip mptcp limits set subflows 1"
    assert said["facts"]["endpoints"][0]["flags"] == ["subflow"]
    assert said["expected"] == ["10.0.1.1", "10.0.2.1"]
    assert said["facts"]["filter_chains"] == 0


def test_json_names_any_destination_so() -> None:
    facts = laptop(lookups=lookups(ANYWHERE[0]))
    said = as_json(Examination(facts, judge(facts, [ANYWHERE[0]])))
    assert {row["remote"] for row in said["rows"]} == {"any"}


def test_the_scenario_is_one_that_loads(tmp_path: Path) -> None:
    path = tmp_path / "laptop.toml"
    path.write_text(scenario_text(examined(laptop())))
    scenario = load(path)
    client = scenario.topology.host("client")
    assert [str(a) for i in client.interfaces for a in i.addresses] == [
        f"{WIFI}/24",
        f"{MOBILE}/24",
    ]
    assert len(scenario.paths(scenario.flows[0])) == 2


def test_addresses_that_leave_no_room_for_a_peer_are_derived(tmp_path: Path) -> None:
    tunnel = ip_address("10.9.9.9")
    facts = laptop(
        interfaces=(*laptop().interfaces, HostInterface("wg0", 4, True, True, False, 1420)),
        addresses=(
            *(replace(a, prefix=8) for a in laptop().addresses),
            HostAddress(tunnel, 32, "wg0"),
        ),
        routes=(*laptop().routes, replace(laptop().routes[1], interface="wg0", gateway=None)),
    )
    path = tmp_path / "laptop.toml"
    path.write_text(scenario_text(examined(facts)))
    scenario = load(path)
    wg0 = scenario.topology.host("client").interface("wg0")
    assert wg0.mtu == 1420
    assert len(scenario.topology.links) == 3
