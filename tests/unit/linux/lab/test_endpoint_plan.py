"""Which endpoints and limits a scenario's flows lead to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, Limits
from mptcplab.linux.lab.endpoint_plan import plan, scenario_traffic
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
