"""Which endpoints and limits a scenario's flows lead to."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, Limits
from mptcplab.linux.lab.endpoint_plan import HostPlan, plan, scenario_traffic
from mptcplab.scenario.load import load, load_topology


def test_the_server_announces_and_the_client_accepts() -> None:
    scenario = load("A")
    plans = plan(scenario.topology, scenario.tunables, scenario_traffic(scenario), 8)
    assert plans["donder"].endpoints == [
        Endpoint(ip_address("192.168.22.2"), Flags.SIGNAL),
        Endpoint(ip_address("192.168.21.2"), Flags.SIGNAL),
    ]
    assert plans["bliksem"].endpoints == []
    assert plans["bliksem"].limits == Limits(1, 1)
    assert plans["donder"].limits == Limits(1, 0)


def test_ndiffports_listens_on_further_ports() -> None:
    scenario = load("A", overrides=("tunables.ndiffports=3",))
    plans = plan(scenario.topology, scenario.tunables, scenario_traffic(scenario), 8)
    (server,) = [p for p in plans.values() if p.endpoints]
    assert [(str(e.address), e.port) for e in server.endpoints] == [
        ("192.168.22.2", 40001),
        ("192.168.22.2", 40002),
    ]
    assert server.limits == Limits(2, 0)


def test_ndiffports_0_and_disabled_hosts_want_no_endpoint() -> None:
    for override in ("tunables.ndiffports=0", "tunables.enabled=false"):
        scenario = load("A", overrides=(override,))
        plans = plan(scenario.topology, scenario.tunables, scenario_traffic(scenario), 8)
        assert not any(p.endpoints or p.subflows for p in plans.values())


def test_more_than_the_kernel_takes_is_refused_before_anything_is_made() -> None:
    topology = load_topology("report")
    plan(topology, {}, None, 8)
    with pytest.raises(MachineCannotError, match=r"8 MPTCP endpoints, and this kernel takes 7"):
        plan(topology, {}, None, 7)


ROUTED = """
duration = "5s"
hosts = ["a", "b"]
routers = ["r"]
[links]
a0 = { between = ["a", "r"] }
a1 = { between = ["a", "r"] }
b0 = { between = ["b", "r"] }
b1 = { between = ["b", "r"] }
[flows]
main = { from = "a", to = "b" }
"""


def plans_of(tmp_path: Path, text: str) -> dict[str, HostPlan]:
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    scenario = load(file)
    return plan(scenario.topology, scenario.tunables, scenario_traffic(scenario), 8)


def test_several_addresses_that_routers_join_are_a_full_mesh(tmp_path: Path) -> None:
    plans = plans_of(tmp_path, ROUTED)
    mesh = Flags.SUBFLOW | Flags.FULLMESH
    assert [each.flags for each in plans["a"].endpoints] == [mesh, mesh]
    assert [each.flags for each in plans["b"].endpoints] == [Flags.SIGNAL, Flags.SIGNAL]
    assert plans["a"].limits == Limits(3, 1)
    assert plans["b"].limits == Limits(3, 0)


ONE_SERVER_ADDRESS = ROUTED.replace('b1 = { between = ["b", "r"] }\n', "")


def test_both_accesses_to_a_server_with_one_address_are_subflows(tmp_path: Path) -> None:
    """The initial one as well, so that a path manager that follows links can bring it back."""
    plans = plans_of(tmp_path, ONE_SERVER_ADDRESS)
    assert [each.flags for each in plans["a"].endpoints] == [Flags.SUBFLOW, Flags.SUBFLOW]
    assert plans["b"].endpoints == []
    assert plans["a"].limits == Limits(1, 0)


def test_what_a_full_mesh_cannot_say_is_refused(tmp_path: Path) -> None:
    both_ways = ROUTED + 'back = { from = "b", to = "a" }\n'
    with pytest.raises(MachineCannotError, match=r"the client of one flow and the server of"):
        plans_of(tmp_path, both_ways)
    torus = """
duration = "5s"
hosts = ["a", "b"]
routers = ["i", "o", "p", "q"]
[links]
a0 = { between = ["a", "i"] }
a1 = { between = ["a", "p"] }
l0 = { between = ["i", "o"] }
l1 = { between = ["p", "q"] }
b0 = { between = ["o", "b"] }
b1 = { between = ["q", "b"] }
[flows]
main = { from = "a", to = "b" }
"""
    joined = torus.replace("[flows]", 'x = { between = ["i", "p"] }\n[flows]')
    left_out = joined.replace(
        'to = "b" }', 'to = "b", links = ["a0", "a1", "l0", "l1", "b0", "b1"] }'
    )
    with pytest.raises(MachineCannotError, match=r"the flow leaves out \S+ to \S+, which the"):
        plans_of(tmp_path, left_out)
    assert plans_of(tmp_path, torus)["a"].limits == Limits(3, 1)  # two of four pairs lead nowhere


def test_a_persistent_testbed_has_no_full_mesh_where_hosts_are_both(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(ROUTED)
    plans = plan(load(file).topology, {}, None, 8)
    both = Flags.SUBFLOW | Flags.SIGNAL
    assert [each.flags for host in plans.values() for each in host.endpoints] == [both] * 4
