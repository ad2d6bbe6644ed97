from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, Limits
from mptcplab.linux.path_management.link_aware import Change, LinkAwarePathManager, LinkStates
from mptcplab.network.topology import (
    Channel,
    Host,
    Interface,
    InterfaceEnd,
    Link,
    Nic,
    Topology,
)


def topology(links: int = 2) -> Topology:
    hosts = tuple(
        Host(
            name,
            tuple(Nic(f"eth{k}") for k in range(links)),
            tuple(
                Interface(f"eth{k}", f"eth{k}", addresses=(ip_interface(f"10.0.{k}.{number}/24"),))
                for k in range(links)
            ),
        )
        for number, name in ((1, "client"), (2, "server"))
    )
    return Topology(
        "two",
        hosts,
        (),
        tuple(
            Link(
                f"link{k}",
                InterfaceEnd("client", f"eth{k}"),
                InterfaceEnd("server", f"eth{k}"),
                Channel(),
                Channel(),
            )
            for k in range(links)
        ),
    )


class Kernel:
    """One host's endpoints, and the calls that changed them."""

    def __init__(self, *addresses: str) -> None:
        self.present = [
            Endpoint(ip_address(address), Flags.SIGNAL, number)
            for number, address in enumerate(addresses, 1)
        ]
        self.calls: list[str] = []
        self.refuses = False
        self.is_deaf = False
        self.present_limits = Limits(1, 0)

    def endpoints(self) -> list[Endpoint]:
        return list(self.present)

    def limits(self) -> Limits:
        return self.present_limits

    def set_limits(self, limits: Limits) -> None:
        self.present_limits = limits

    def add(self, endpoint: Endpoint) -> None:
        if self.refuses:
            raise OSError(17, "File exists")
        self.calls.append(f"add {endpoint.address} id {endpoint.identifier}")
        self.present.append(endpoint)

    def delete(self, endpoint: Endpoint) -> None:
        self.calls.append(f"delete {endpoint.address} id {endpoint.identifier}")
        self.present.remove(endpoint)

    def set_flags(self, endpoint: Endpoint) -> None:
        self.calls.append(f"set {endpoint}")
        if not self.is_deaf:
            places = [each.address for each in self.present]
            self.present[places.index(endpoint.address)] = endpoint


def managed(links: int = 2) -> tuple[Kernel, LinkStates, LinkAwarePathManager, list[Change]]:
    server = Kernel(*(f"10.0.{k}.2" for k in range(links)))
    net = topology(links)
    states = LinkStates(net)
    changes: list[Change] = []
    manager = LinkAwarePathManager(
        net, states, {"client": Kernel(), "server": server}, changes.append
    )
    return server, states, manager, changes


def test_an_endpoint_goes_and_returns_with_its_link() -> None:
    server, states, manager, changes = managed()
    states.set_link("link0", up=False)
    manager.update()
    assert server.calls == ["delete 10.0.0.2 id 1"]
    manager.update()
    assert len(server.calls) == 1
    states.set_link("link0", up=True)
    manager.update()
    assert server.calls[1:] == ["add 10.0.0.2 id 1"]
    assert [(each.address, each.added) for each in changes] == [
        ("10.0.0.2", False),
        ("10.0.0.2", True),
    ]


def test_before_an_endpoint_goes_its_subflows_can_be_looked_at() -> None:
    net, server = topology(), Kernel("10.0.0.2", "10.0.1.2")
    states, seen = LinkStates(net), list[list[str]]()
    manager = LinkAwarePathManager(
        net,
        states,
        {"client": Kernel(), "server": server},
        lambda _: None,
        before_delete=lambda: seen.append(list(server.calls)),
    )
    for up in (False, True):
        states.set_link("link0", up=up)
        manager.update()
    assert seen == [[]]
    assert server.calls == ["delete 10.0.0.2 id 1", "add 10.0.0.2 id 1"]


def test_an_interface_at_either_end_counts() -> None:
    for host in ("client", "server"):
        server, states, manager, _ = managed()
        assert states.set_interface(host, "eth1", up=False)
        manager.update()
        assert server.calls == ["delete 10.0.1.2 id 2"]


def test_the_last_endpoint_is_left_alone() -> None:
    server, states, manager, _ = managed()
    states.set_link("link0", up=False)
    manager.update()
    states.set_link("link1", up=False)
    manager.update()
    assert server.calls == ["delete 10.0.0.2 id 1"]
    states.set_link("link0", up=True)
    manager.update()
    assert server.calls[1:] == ["delete 10.0.1.2 id 2", "add 10.0.0.2 id 1"]


def test_a_refusal_is_reported_and_tried_again() -> None:
    server, states, manager, changes = managed()
    states.set_link("link0", up=False)
    manager.update()
    server.refuses = True
    states.set_link("link0", up=True)
    manager.update()
    assert "File exists" in changes[-1].problem
    server.refuses = False
    manager.update()
    assert server.calls[-1] == "add 10.0.0.2 id 1"


def test_what_is_withdrawn_is_added_at_the_next_update() -> None:
    server, _, manager, _ = managed()
    assert manager.withdraw("link1")
    assert server.calls == ["delete 10.0.1.2 id 2"]
    assert not manager.withdraw("link1")
    manager.update()
    assert server.calls[1:] == ["add 10.0.1.2 id 2"]


def test_the_last_endpoint_is_not_withdrawn() -> None:
    server, _, manager, _ = managed(links=1)
    assert not manager.withdraw("link0")
    assert server.calls == []


def test_endpoints_that_the_kernel_made_itself_are_not_touched() -> None:
    server, states, _, _ = managed()
    implicit = Endpoint(ip_address("10.0.0.1"), Flags.IMPLICIT, 1)
    client = Kernel()
    client.present = [implicit]
    manager = LinkAwarePathManager(
        topology(), states, {"client": client, "server": server}, lambda _: None
    )
    states.set_link("link0", up=False)
    manager.update()
    assert client.calls == []


def test_there_is_room_for_the_subflow_that_replaces_the_initial_one() -> None:
    server, _, _, _ = managed()
    assert server.limits() == Limits(2, 0)


def test_without_following_a_link_only_its_first_time_up_counts() -> None:
    server, net = Kernel("10.0.0.2", "10.0.1.2"), topology()
    states = LinkStates(net)
    states.set_link("link1", up=False)
    manager = LinkAwarePathManager(
        net, states, {"client": Kernel(), "server": server}, lambda _: None, follow=False
    )
    manager.update()
    states.set_link("link1", up=True)
    manager.update()
    assert server.calls == ["delete 10.0.1.2 id 2", "add 10.0.1.2 id 2"]
    states.set_link("link0", up=False)
    manager.update()
    assert len(server.calls) == 2


SECOND = ip_address("10.0.1.2")


def test_a_priority_survives_the_link() -> None:
    server, states, manager, _ = managed()
    manager.set_priority("server", SECOND, True)
    assert server.calls == ["set 10.0.1.2 signal+backup"]
    states.set_link("link1", up=False)
    manager.update()
    manager.set_priority("server", SECOND, False)  # of an endpoint that is not there
    assert server.calls[1:] == ["delete 10.0.1.2 id 2"]
    states.set_link("link1", up=True)
    manager.update()
    assert [each.flags for each in server.present] == [Flags.SIGNAL, Flags.SIGNAL]


def test_a_priority_that_the_kernel_does_not_take_is_told() -> None:
    server, _, manager, _ = managed()
    server.is_deaf = True
    with pytest.raises(RuntimeError, match=r"has left endpoint 10\.0\.1\.2 signal as it was"):
        manager.set_priority("server", SECOND, True)


def test_endpoints_that_are_removed_do_not_return_with_their_link() -> None:
    server, states, manager, _ = managed()
    endpoint = Endpoint(SECOND, Flags.SIGNAL)
    manager.remove("server", endpoint)
    for up in (False, True):
        states.set_link("link1", up=up)
        manager.update()
    assert server.calls == ["delete 10.0.1.2 id 2"]
    states.set_link("link1", up=False)
    manager.update()
    manager.add("server", endpoint)
    assert len(server.calls) == 1, "it waits for its link"
    states.set_link("link1", up=True)
    manager.update()
    assert server.calls[1:] == ["add 10.0.1.2 id 0"]


def test_limits_that_were_given_stay() -> None:
    server = Kernel("10.0.0.2", "10.0.1.2")
    net = topology()
    LinkAwarePathManager(
        net,
        LinkStates(net),
        {"client": Kernel(), "server": server},
        lambda _: None,
        exact={"server"},
    )
    assert server.limits() == Limits(1, 0)
