"""What switches of a fabric are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.network.test_switching import BY_ADDRESSES, PARALLEL, loaded

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.lab import fabric
from mptcplab.linux.lab.openflow import OpenFlow, Programme
from mptcplab.network.topology import InterfaceEnd, Topology

MACS = {
    InterfaceEnd("a", "eth0"): "02:00:00:00:00:0a",
    InterfaceEnd("b", "eth0"): "02:00:00:00:00:0b",
}
PORTS: dict[str, dict[str | InterfaceEnd, int]] = {
    "west": {"left": 1, "p1": 2, "p2": 3, "p3": 4},
    "east": {"p1": 1, "p2": 2, "p3": 3, "right": 4},
}


def programme(topology: Topology, name: str) -> Programme:
    switch = next(each for each in topology.switches if each.name == name)
    return OpenFlow(topology, MACS).programme(switch, PORTS[name])


def test_one_group_chooses_among_the_links_that_lead_on(tmp_path: Path) -> None:
    west = programme(loaded(tmp_path, PARALLEL).topology, "west")
    (group,) = west.groups
    assert group.startswith("group_id=1,type=select,selection_method=hash,")
    assert [each.split(",")[0] for each in group.split("actions=")[1:]] == [
        "output:2",
        "output:3",
        "output:4",
    ]
    assert "priority=300,dl_dst=02:00:00:00:00:0a,actions=output:1" in west.flows
    assert "priority=300,dl_dst=02:00:00:00:00:0b,actions=group:1" in west.flows


def test_what_is_for_all_goes_once_round_no_ring(tmp_path: Path) -> None:
    topology = loaded(tmp_path, PARALLEL).topology
    to_all = "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"
    west, east = (programme(topology, name).flows for name in ("west", "east"))
    assert f"priority=100,{to_all},actions=output:1,output:2" in west
    assert f"priority=100,{to_all},actions=output:1,output:4" in east
    assert [f"priority=200,in_port={port},{to_all},actions=drop" in west for port in (2, 3, 4)] == [
        False,
        True,
        True,
    ]


def test_pairs_of_addresses_have_the_link_that_the_topology_says(tmp_path: Path) -> None:
    topology = loaded(tmp_path, BY_ADDRESSES).topology
    (path,) = topology.paths("a", "b")
    west = programme(topology, "west")
    port = PORTS["west"][path.links[1]]
    assert not west.groups
    assert (
        f"priority=400,dl_dst=02:00:00:00:00:0b,ip,nw_src={path.local_address.ip},"
        f"nw_dst={path.remote_address.ip},actions=output:{port}"
    ) in west.flows


def test_interfaces_of_one_mac_address_are_refused(tmp_path: Path) -> None:
    topology = loaded(tmp_path, PARALLEL).topology
    with pytest.raises(MachineCannotError, match="a:eth0 and b:eth0 have one MAC address"):
        OpenFlow(topology, dict.fromkeys(MACS, "02:00:00:00:00:0a"))


def test_a_machine_without_open_vswitch_is_told_which_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology = loaded(tmp_path, PARALLEL).topology
    monkeypatch.setattr(fabric, "missing_programs", lambda: ["ovs-vswitchd"])
    with pytest.raises(MachineCannotError) as caught:
        fabric.check_programs(topology)
    assert "\n" not in str(caught.value)
    assert 'switches.west.fabric: "openvswitch" needs Open vSwitch' in str(caught.value)
    assert "apt install openvswitch-switch" in str(caught.value)
