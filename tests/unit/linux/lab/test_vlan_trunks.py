"""Which NICs become trunks, and which VLANs cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mptcplab.linux.lab.vlan_trunks import find_trunks
from mptcplab.network.topology import Channel, Host, Interface, InterfaceEnd, Link, Nic, Topology


@pytest.fixture
def shared_nic() -> Topology:
    """Two VLANs on one NIC of "left", each with a link of its own to a NIC of "right"."""
    left = Host(
        "left",
        (Nic("eth8"),),
        (
            Interface("eth8.520", "eth8", 520, mtu=1400),
            Interface("eth8.516", "eth8", 516, mtu=9000),
        ),
    )
    right = Host(
        "right", (Nic("em1"), Nic("em2")), (Interface("em1", "em1"), Interface("em2", "em2"))
    )
    links = tuple(
        Link(
            name, InterfaceEnd("left", vlan), InterfaceEnd("right", nic), Channel(), Channel(), mtu
        )
        for name, vlan, nic, mtu in (
            ("one", "eth8.520", "em1", 1500),
            ("two", "eth8.516", "em2", 9000),
        )
    )
    return Topology("shared", (left, right), (), links)


def test_the_vlans_of_a_nic_are_on_one_trunk_as_wide_as_the_widest(shared_nic: Topology) -> None:
    (trunk,), notes = find_trunks(shared_nic, {"one": "kernel", "two": "netem"})
    assert (trunk.host, trunk.nic, trunk.mtu) == ("left", "eth8", 9000)
    assert [vlan.name for vlan in trunk.vlans] == ["eth8.520", "eth8.516"]
    assert notes == []


def test_a_vlan_that_the_emulator_carries_stays_apart_and_is_named(shared_nic: Topology) -> None:
    (trunk,), (note,) = find_trunks(shared_nic, {"one": "kernel", "two": "tap"})
    assert [vlan.name for vlan in trunk.vlans] == ["eth8.520"]
    assert trunk.mtu == 1500
    assert note.startswith("left: eth8.516: ")
    assert "TAP" in note


def test_a_nic_with_a_link_of_its_own_is_no_trunk(shared_nic: Topology) -> None:
    left, right = shared_nic.hosts
    left = replace(left, interfaces=(Interface("eth8", "eth8"), *left.interfaces))
    trunks, (note,) = find_trunks(
        replace(shared_nic, hosts=(left, right)), {"one": "kernel", "two": "kernel"}
    )
    assert trunks == []
    assert "eth8 has a link of its own" in note
