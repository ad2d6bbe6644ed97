"""What would be changed on a host, worked out from what its agent says: no host is needed."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.unit.remote.honest import facts

from mptcplab.linux.kernel.mptcp_endpoints import ENDPOINTS_MAX
from mptcplab.linux.lab import endpoint_plan
from mptcplab.remote.set_up import HostSetUp, set_up
from mptcplab.scenario import load
from mptcplab.scenario.model import Scenario

TWO_LINKS = """
duration = "2s"

[hosts.client.interfaces]
a0 = "10.1.0.1/24"
b0 = "10.2.0.1/24"

[hosts.server.interfaces]
a0 = "10.1.0.2/24"
b0 = "10.2.0.2/24"

[links.a]
between = ["client:a0", "server:a0"]
rate = "50Mb/s"

[links.b]
between = ["client:b0", "server:b0"]
rate = "50Mb/s"

[flows.main]
from = "client"
to = "server"
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    return loaded(tmp_path)


def loaded(folder: Path, more: str = "") -> Scenario:
    file = folder / "two.toml"
    file.write_text(textwrap.dedent(TWO_LINKS + more))
    return load(file)


def planned(scenario: Scenario, **changed: Any) -> HostSetUp:
    plans = endpoint_plan.plan(
        scenario.topology,
        scenario.tunables,
        endpoint_plan.scenario_traffic(scenario),
        ENDPOINTS_MAX,
        endpoint_plan.scenario_wishes(scenario),
    )
    host = scenario.topology.host("client")
    return set_up(scenario, host, plans["client"], facts(**changed))


def test_each_address_has_a_table_by_its_real_interface(scenario: Scenario) -> None:
    plan = planned(scenario)
    assert plan.problems == []
    assert plan.interfaces == {"a0": "enp1s0", "b0": "enp2s0"}
    assert "ip -4 route add 10.1.0.0/24 dev enp1s0 src 10.1.0.1 table 7101" in map(str, plan.steps)
    assert "ip -4 rule add from 10.2.0.1 lookup 7102 priority 7102" in map(str, plan.steps)


def test_tables_priorities_and_identifiers_in_use_are_left_alone(scenario: Scenario) -> None:
    own = {"id": 101, "address": "10.2.0.1", "flags": ["subflow"], "port": 0, "dev": "enp2s0"}
    plan = planned(scenario, tables=[7101, 254], priorities=[7101, 7102], endpoints=[own])
    texts = list(map(str, plan.steps))
    assert "ip -4 rule add from 10.1.0.1 lookup 7102 priority 7103" in texts
    (deleting,) = [step for step in plan.steps if "delete" in step.command]
    assert deleting.undo == (
        ["ip", "mptcp", "endpoint", "add", "10.2.0.1", "id", "101", "dev", "enp2s0", "subflow"],
    )


@pytest.mark.parametrize("kept", ["management", "defaults"])
def test_an_interface_of_ssh_or_of_the_default_route_is_not_touched(
    scenario: Scenario, kept: str
) -> None:
    plan = planned(scenario, **{"management": ["mgmt0"], "defaults": []} | {kept: ["enp1s0"]})
    assert plan.problems == []
    assert not any("enp1s0" in str(step) or "10.1.0.1" in str(step) for step in plan.steps)
    assert any("enp1s0" in note for note in plan.notes)


@pytest.mark.parametrize("kept", ["management", "defaults"])
@pytest.mark.parametrize(
    "more",
    [
        '\n[[timeline]]\nat = "1s"\ndown = "a"\n',
        '\n[[timeline]]\nat = "1s"\ndown = "client:a0"\n',
    ],
)
def test_nor_is_it_ever_set_down(tmp_path: Path, kept: str, more: str) -> None:
    scenario = loaded(tmp_path, more)
    plan = planned(scenario, **{"management": ["mgmt0"], "defaults": []} | {kept: ["enp1s0"]})
    assert any("is to be set down" in problem for problem in plan.problems)
    assert plan.steps == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"root": False}, "not root"),
        ({"management": []}, "over which interface SSH came"),
        ({"limits": None}, "no MPTCP"),
        ({"interfaces": []}, "no interface has 10.1.0.1/24"),
    ],
)
def test_what_stands_in_the_way_is_said(
    scenario: Scenario, changed: dict[str, Any], says: str
) -> None:
    plan = planned(scenario, **changed)
    assert any(says in problem for problem in plan.problems)
    assert plan.steps == []


def test_a_sysctl_that_is_as_it_should_be_is_no_change(scenario: Scenario) -> None:
    plan = planned(scenario, sysctls={"net/mptcp/enabled": "0", "net/mptcp/checksum_enabled": "0"})
    written = [step for step in plan.steps if step.command[0] == "write"]
    assert [str(step) for step in written] == ["sysctl -w net.mptcp.enabled='1'"]
    assert written[0].undo == (["write", "/proc/sys/net/mptcp/enabled", "0"],)


def test_every_change_can_be_undone(scenario: Scenario) -> None:
    assert all(step.undo for step in planned(scenario).steps)


def test_programs_are_looked_for_and_shown(tmp_path: Path) -> None:
    file = tmp_path / "programs.toml"
    flows = """
[flows.iperf]
from = "client"
to = "server"
application = "iperf3"

[flows.own]
from = "client"
to = "server"
application = "command"
command = "wget -q http://{server}:{port}/"
"""
    file.write_text(textwrap.dedent(TWO_LINKS + flows))
    scenario = load(file, plugins=True)
    lacking = planned(scenario)
    assert any("there is no program wget" in problem for problem in lacking.problems)
    assert any("flows.iperf needs iperf3" in problem for problem in lacking.problems)
    old = planned(scenario, programs=["wget", "iperf3"])
    assert any("its iperf3 has no --mptcp" in problem for problem in old.problems)
    for found in (
        {"programs": ["wget", "iperf3", "mptcpize"]},
        {"programs": ["wget", "iperf3"], "iperf3_has_mptcp": True},
    ):
        plan = planned(scenario, **found)
        assert plan.problems == []
        assert plan.programs == [
            "wget -q http://{server}:{port}/ (as root)",
            "iperf3, the client of iperf (as root)",
        ]
