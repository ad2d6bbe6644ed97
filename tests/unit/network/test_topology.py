"""Which links join which addresses: ways through switches, and how they are shared out."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_interface

from mptcplab.network.topology import (
    Channel,
    Host,
    Interface,
    InterfaceEnd,
    Link,
    Nic,
    Path,
    Switch,
    SwitchEnd,
    Topology,
)

End = InterfaceEnd | SwitchEnd


def host(name: str, *addresses: str) -> Host:
    interfaces = tuple(
        Interface(f"eth{n}", f"eth{n}", addresses=(ip_interface(address),))
        for n, address in enumerate(addresses)
    )
    return Host(name, tuple(Nic(each.name) for each in interfaces), interfaces)


def link(name: str, a: End, b: End) -> Link:
    return Link(name, a, b, Channel(), Channel())


def fabric(hosts: int, addresses: int, ways: int) -> Topology:
    """Return two edge switches with so many core switches between them."""
    machines, links = [], []
    for number in range(hosts):
        for side, letter in enumerate("ab"):
            name = f"{letter}{number}"
            machines.append(
                host(name, *(f"10.{place}.{side}.{number + 1}/8" for place in range(addresses)))
            )
            links += [
                link(f"{name}-{place}", InterfaceEnd(name, f"eth{place}"), SwitchEnd(letter))
                for place in range(addresses)
            ]
    for way in range(ways):
        core = SwitchEnd(f"c{way}")
        links += [link(f"a{way}", SwitchEnd("a"), core), link(f"b{way}", core, SwitchEnd("b"))]
    switches = ("a", "b", *(f"c{way}" for way in range(ways)))
    return Topology("fabric", tuple(machines), tuple(map(Switch, switches)), tuple(links))


def cores(paths: tuple[Path, ...]) -> Counter[str]:
    return Counter(path.links[1] for path in paths)


def test_address_pairs_take_the_ways_between_switches_in_turn() -> None:
    paths = fabric(1, 2, 4).paths("a0", "b0")
    assert len(paths) == 4
    assert cores(paths) == {"a0": 1, "a1": 1, "a2": 1, "a3": 1}
    for path in paths:
        assert path.links[1].removeprefix("a") == path.links[2].removeprefix("b")


def test_the_way_back_is_the_way_there() -> None:
    topology = fabric(1, 2, 3)
    there = {
        (path.local_address, path.remote_address): path.links for path in topology.paths("a0", "b0")
    }
    back = topology.paths("b0", "a0")
    assert len(back) == len(there)
    for path in back:
        assert there[path.remote_address, path.local_address] == path.links[::-1]


def test_hosts_with_one_address_are_spread_over_the_ways_and_always_alike() -> None:
    topology, again = fabric(40, 1, 4), fabric(40, 1, 4)
    used: Counter[str] = Counter()
    for number in range(40):
        pair = (f"a{number}", f"b{number}")
        used += cores(topology.paths(*pair))
        assert topology.paths(*pair) == again.paths(*pair)
    assert set(used) == {"a0", "a1", "a2", "a3"}
    assert max(used.values()) < 20


def test_a_longer_way_is_not_taken() -> None:
    topology = fabric(1, 2, 1)
    detour = (
        link("long1", SwitchEnd("a"), SwitchEnd("d")),
        link("long2", SwitchEnd("d"), SwitchEnd("e")),
        link("long3", SwitchEnd("e"), SwitchEnd("b")),
    )
    longer = Topology(
        "longer",
        topology.hosts,
        (*topology.switches, Switch("d"), Switch("e")),
        (*topology.links, *detour),
    )
    assert longer.paths("a0", "b0") == topology.paths("a0", "b0")
    assert topology.ring_links() == ()
    assert longer.ring_links() == ("long3",)


def test_parallel_links_between_two_switches_are_two_ways() -> None:
    machines = (host("a", "10.0.0.1/24", "10.0.0.2/24"), host("b", "10.0.0.3/24"))
    links = (
        link("a0", InterfaceEnd("a", "eth0"), SwitchEnd("s")),
        link("a1", InterfaceEnd("a", "eth1"), SwitchEnd("s")),
        link("x", SwitchEnd("s"), SwitchEnd("t")),
        link("y", SwitchEnd("s"), SwitchEnd("t")),
        link("b0", InterfaceEnd("b", "eth0"), SwitchEnd("t")),
    )
    topology = Topology("parallel", machines, (Switch("s"), Switch("t")), links)
    assert cores(topology.paths("a", "b")) == {"x": 1, "y": 1}
    assert topology.ring_links() == ("y",)
    assert topology.directions(topology.paths("b", "a")[0])[1][1] == "backward"


def test_ports_of_a_switch_and_hosts_without_links() -> None:
    machines = (host("a", "10.0.0.1/24"), host("b", "10.0.0.2/24"), host("alone"))
    ports = (InterfaceEnd("a", "eth0"),)
    links = (link("b0", SwitchEnd("s"), InterfaceEnd("b", "eth0")),)
    topology = Topology("ports", machines, (Switch("s", ports),), links)
    (path,) = topology.paths("a", "b")
    assert path.links == ("b0",)
    assert topology.directions(path) == (("b0", "forward"),)
    assert topology.reachable(ports[0]) == {InterfaceEnd("b", "eth0"): ("b0",)}
    assert topology.paths("a", "alone") == ()
