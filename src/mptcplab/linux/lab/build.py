"""From a topology to namespaces, interfaces, links, addresses and endpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Final

from mptcplab.linux.drivers.choose import choose_driver, traces_of
from mptcplab.linux.drivers.driver import Attachment, LinkDriver, Tagging
from mptcplab.linux.drivers.kernel import KernelDriver, host_vlan
from mptcplab.linux.drivers.tap import TapDriver
from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.kernel import offloads, rtnl
from mptcplab.linux.kernel.capabilities import endpoints_max, vlan_works
from mptcplab.linux.kernel.mptcp_endpoints import Flags, PathManager, flag_names
from mptcplab.linux.kernel.namespaces import NetNamespace, write_sysctl
from mptcplab.linux.kernel.netlink import Request
from mptcplab.linux.lab import addressing, forwarding, steering
from mptcplab.linux.lab.endpoint_plan import NO_WISHES, HostPlan, Traffic, Wishes, plan
from mptcplab.linux.lab.fabric import Bridge, Fabric, check_programs
from mptcplab.linux.lab.nic_sharing import device_requests, sharing_devices, sharing_requests
from mptcplab.linux.lab.openflow import OpenFlow
from mptcplab.linux.lab.sysctls import host_sysctls, optional_sysctls
from mptcplab.linux.lab.vlan_trunks import find_trunks, make_trunks
from mptcplab.network.impairments import CapacityTrace
from mptcplab.network.nic_sharing import shared_nics
from mptcplab.network.topology import (
    ETHERNET_HEADER_BYTES,
    Channel,
    Host,
    InterfaceEnd,
    Link,
    Queue,
    Router,
    Switch,
    SwitchEnd,
    Topology,
)
from mptcplab.network.translation import outsides
from mptcplab.scenario.model import Action, Tunables

_PORT_QUEUE_PACKETS: Final = 1000  # of a switch's port: Linux's own txqueuelen


@dataclass
class Plumbing:
    """All that a lab is made of."""

    wire: NetNamespace
    hosts: dict[str, NetNamespace] = field(default_factory=dict)
    switches: dict[str, NetNamespace] = field(default_factory=dict)
    routers: dict[str, NetNamespace] = field(default_factory=dict)
    drivers: dict[str, LinkDriver] = field(default_factory=dict)
    ports: list[KernelDriver] = field(default_factory=list)
    fabric: Fabric | None = None
    """What forwards in the switches that spread flows, which share a namespace."""
    tagging: dict[InterfaceEnd, Tagging] = field(default_factory=dict)
    plans: dict[str, HostPlan] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    congestion: Mapping[str, str] = field(default_factory=dict)
    """The congestion control of all that a host sends, where its programs choose none."""

    def node(self, name: str) -> NetNamespace:
        """Return the namespace of a host or router; KeyError where there is none."""
        return self.routers.get(name) or self.hosts[name]

    def close(self) -> None:
        """Take it down; what is already gone is passed over."""
        if self.fabric is not None:
            self.fabric.close()
            self.fabric = None
        for driver in self.drivers.values():
            driver.interrupt()
        for driver in self.drivers.values():
            with contextlib.suppress(OSError):
                driver.close()
        spaces = (*self.hosts.values(), *self.switches.values(), *self.routers.values(), self.wire)
        for space in dict.fromkeys(spaces):
            with contextlib.suppress(OSError):
                space.close()
        self.drivers, self.hosts, self.switches, self.routers = {}, {}, {}, {}


def build(
    topology: Topology,
    tunables: Mapping[str, Tunables],
    traffic: Traffic | None,
    timeline: Sequence[Action],
    seed: int,
    wishes: Wishes = NO_WISHES,
    congestion: Mapping[str, str] | None = None,
) -> Plumbing:
    """Build a topology; whatever was made is taken down again where something fails.

    ``congestion`` has the congestion control of all that a host sends, of those where it is set.
    """
    _check_names(topology)
    check_programs(topology)
    plans = plan(topology, tunables, traffic, endpoints_max(), wishes)
    kinds = {link.name: choose_driver(link, timeline) for link in topology.links}
    wire = NetNamespace.create("the wire")
    plumbing = Plumbing(wire, plans=plans, congestion=congestion or {})
    try:
        standing = traffic is None
        traces = {link.name: traces_of(link, timeline) for link in topology.links}
        _make_namespaces(plumbing, topology, tunables, standing=standing)
        _make_trunks(plumbing, topology, kinds)
        _make_devices(plumbing, topology, kinds, seed, traces, traces_run=standing)
        _make_switches(plumbing, topology)
        _make_fabric(plumbing, topology)
        for host in topology.hosts:
            _share_nics(plumbing, topology, host)
            _limit_frames(plumbing, topology, host)
            _configure_host(plumbing, topology, host, tunables.get(host.name, Tunables()))
        for router in topology.routers:
            _limit_frames(plumbing, topology, router)
            _configure_router(plumbing, topology, router)
        for driver in (*plumbing.drivers.values(), *plumbing.ports):
            driver.start()
    except BaseException:
        plumbing.close()
        raise
    return plumbing


def _check_names(topology: Topology) -> None:
    for host in topology.nodes:
        for interface in host.interfaces:
            if len(interface.name.encode()) > rtnl.INTERFACE_NAME_MAX:
                raise MachineCannotError(
                    f"interface {interface.name} of {host.name}: Linux takes names of at most "
                    f"{rtnl.INTERFACE_NAME_MAX} bytes"
                )


def _make_namespaces(
    plumbing: Plumbing, topology: Topology, tunables: Mapping[str, Tunables], *, standing: bool
) -> None:
    plumbing.wire.write_sysctls(_NO_IPV6)
    if topology.fabric:
        plumbing.fabric = Fabric(NetNamespace.create("the fabric"))
    for switch in topology.switches:
        if switch.spreads and plumbing.fabric is not None:
            space = plumbing.switches[switch.name] = plumbing.fabric.space
        else:
            space = plumbing.switches[switch.name] = NetNamespace.create(switch.name)
        space.write_sysctls(_NO_IPV6)
    for router in topology.routers:
        space = plumbing.routers[router.name] = NetNamespace.create(router.name)
        sysctls = forwarding.router_sysctls(topology, router)
        if Path("/proc/sys/net/ipv6").exists() and not addressing.has_ipv6(router):
            sysctls |= addressing.NO_LINK_LOCAL  # they would come late, when the run has begun
        space.write_sysctls(sysctls)
    if topology.routers and not forwarding.has_seeds():
        plumbing.notes.append(forwarding.SEEDLESS_NOTE)
    for host in topology.hosts:
        space = plumbing.hosts[host.name] = NetNamespace.create(host.name)
        settings = tunables.get(host.name, Tunables())
        with space.entered():
            for name, value in host_sysctls(host, settings).items():
                write_sysctl(name, value)
            for name, value in optional_sysctls().items():
                try:
                    write_sysctl(name, value)
                except OSError as error:
                    if not standing:
                        continue  # a scenario's flows choose their own
                    note = (
                        "programs that choose no congestion control get this machine's default "
                        f"({error.strerror}; see net.ipv4.tcp_allowed_congestion_control)"
                    )
                    if note not in plumbing.notes:
                        plumbing.notes.append(note)


_NO_IPV6: Final = {"net.ipv6.conf.default.disable_ipv6": "1"}


def _make_trunks(plumbing: Plumbing, topology: Topology, kinds: Mapping[str, str]) -> None:
    trunks, notes = find_trunks(topology, kinds)
    if (trunks or notes) and vlan_works(plumbing.wire):
        plumbing.tagging = make_trunks(trunks, plumbing.wire, plumbing.hosts)
        plumbing.notes += notes


def _make_devices(
    plumbing: Plumbing,
    topology: Topology,
    kinds: Mapping[str, str],
    seed: int,
    traces: Mapping[str, tuple[CapacityTrace, ...]],
    *,
    traces_run: bool,
) -> None:
    """Make both ends of every link and of every port of a switch; shape what lies between.

    Unless traces of capacities run at once, links have their mean rates.
    """
    shaped: list[KernelDriver] = []
    for number, link in enumerate(topology.links):
        ends = (_attach(plumbing, topology, link, 0), _attach(plumbing, topology, link, 1))
        channels = (link.forward, link.backward)
        if not traces_run:
            channels = (replace(link.forward, trace=None), replace(link.backward, trace=None))
        if kinds[link.name] == "tap":
            plumbing.drivers[link.name] = TapDriver(
                link.name,
                ends,
                channels,
                seed=seed + number,
                up=link.up,
                traces=traces[link.name],
                boxes=(link.near_boxes, link.far_boxes),
            )
            continue
        driver = KernelDriver(
            plumbing.wire,
            f"w{number}",
            ends,
            channels,
            link.mtu,
            netem=kinds[link.name] == "netem",
            up=link.up,
        )
        plumbing.drivers[link.name] = driver
        shaped.append(driver)
    for number, (switch, end) in enumerate(_ports(topology)):
        driver = _port_driver(plumbing, topology, switch, end, number)
        plumbing.ports.append(driver)
        shaped.append(driver)
    wanted: dict[NetNamespace, list[Request]] = {}
    for driver in shaped:
        for space, request in driver.device_requests():
            wanted.setdefault(space, []).append(request)
    for space, request in _unplugged(plumbing, topology):
        wanted.setdefault(space, []).append(request)
    for space, requests in wanted.items():
        space.routing.batch(requests)
    routing = plumbing.wire.routing
    devices = rtnl.devices(routing)
    routing.batch(request for driver in shaped for request in driver.wire_requests(devices))


def _unplugged(plumbing: Plumbing, topology: Topology) -> Iterator[tuple[NetNamespace, Request]]:
    """Yield what makes the interfaces that no cable goes to: they never get a carrier."""
    plugged = {end for link in topology.links for end in (link.a, link.b)}
    plugged |= {end for _, end in _ports(topology)}
    number = 0
    for host in topology.hosts:
        for interface in host.interfaces:
            place = InterfaceEnd(host.name, interface.name)
            if place in plugged:
                continue
            end = _host_end(plumbing, topology, place)
            if end.tagging is not None:
                yield end.namespace, host_vlan(end, end.tagging, dormant=True)
                continue
            here = rtnl.VethEnd(f"u{number}", plumbing.wire.descriptor)
            there = rtnl.VethEnd(end.interface, end.namespace.descriptor, end.mtu)
            yield plumbing.wire, rtnl.add_veth(here, there)
            number += 1


def _ports(topology: Topology) -> Iterator[tuple[Switch, InterfaceEnd]]:
    for switch in topology.switches:
        for end in switch.ports:
            yield switch, end


def _port_driver(
    plumbing: Plumbing, topology: Topology, switch: Switch, end: InterfaceEnd, number: int
) -> KernelDriver:
    """A cable from a host's interface straight into a switch: at its NIC's rate, without delay."""
    interface = topology.interface_at(end)
    rate = topology.nic_at(end).rate_bps
    frame = interface.mtu + ETHERNET_HEADER_BYTES
    channel = Channel(rate_bps=rate, queue=Queue(limit_bytes=_PORT_QUEUE_PACKETS * frame))
    here = _host_end(plumbing, topology, end)
    there = Attachment(
        plumbing.switches[switch.name], f"p{number}", interface.mtu, offload=not switch.spreads
    )
    return KernelDriver(
        plumbing.wire, f"p{number}", (here, there), (channel, channel), interface.mtu
    )


def _attach(plumbing: Plumbing, topology: Topology, link: Link, which: int) -> Attachment:
    end = (link.a, link.b)[which]
    if isinstance(end, SwitchEnd):
        number = topology.links.index(link)
        whole = end not in topology.fabric
        return Attachment(
            plumbing.switches[end.switch], _port_name(number, which), link.mtu, offload=whole
        )
    return _host_end(plumbing, topology, end)


def _host_end(plumbing: Plumbing, topology: Topology, end: InterfaceEnd) -> Attachment:
    interface = topology.interface_at(end)
    return Attachment(
        plumbing.node(end.host),
        interface.name,
        interface.mtu,
        plumbing.tagging.get(end),
        topology.offloads(end.host),
    )


def _port_name(number: int, which: int) -> str:
    return f"l{number}{'ab'[which]}"


def _ends_at(topology: Topology, switch: Switch) -> Iterator[tuple[int, int, Link]]:
    for number, link in enumerate(topology.links):
        for which, end in enumerate((link.a, link.b)):
            if end == SwitchEnd(switch.name):
                yield number, which, link


def _make_fabric(plumbing: Plumbing, topology: Topology) -> None:
    """Let the switches of the fabric know where every interface is, and forward."""
    if plumbing.fabric is None:
        return
    openflow = OpenFlow(topology, _macs(plumbing, topology))
    bridges = []
    for number, switch in enumerate(topology.switches):
        if not switch.spreads:
            continue
        devices: dict[str | InterfaceEnd, str] = {
            link.name: _port_name(place, which) for place, which, link in _ends_at(topology, switch)
        }
        devices |= {
            end: f"p{place}"
            for place, (other, end) in enumerate(_ports(topology))
            if other == switch
        }
        links = {device: way if isinstance(way, str) else None for way, device in devices.items()}
        programme = openflow.programme(switch, {way: port for port, way in enumerate(devices, 1)})
        bridges.append(Bridge(f"br{number}", switch.name, links, programme))
    plumbing.fabric.add(bridges)


def _macs(plumbing: Plumbing, topology: Topology) -> dict[InterfaceEnd, str]:
    return {
        InterfaceEnd(node.name, device.name): device.mac
        for node in topology.nodes
        for device in rtnl.devices(plumbing.node(node.name).routing).values()
    }


def _make_switches(plumbing: Plumbing, topology: Topology) -> None:
    for switch in topology.switches:
        if switch.spreads:
            continue
        channel = plumbing.switches[switch.name].routing
        name = switch.name[: rtnl.INTERFACE_NAME_MAX]
        channel.request(rtnl.add_bridge(name))
        devices = rtnl.devices(channel)
        bridge = devices[name].index
        ports = [(d.name, d.index) for d in devices.values() if d.name not in ("lo", name)]
        # veth ends have their MTU from the start, TAP devices get it here
        mtus = {_port_name(n, which): link.mtu for n, which, link in _ends_at(topology, switch)}
        channel.batch(
            [
                *(
                    rtnl.set_link(index, up=True, master=bridge, mtu=mtus.get(name))
                    for name, index in ports
                ),
                rtnl.set_link(bridge, up=True),
            ]
        )


def _share_nics(plumbing: Plumbing, topology: Topology, host: Host) -> None:
    channel = plumbing.hosts[host.name].routing
    shared = sharing_devices(shared_nics(topology, host), rtnl.devices(channel))
    if not shared:
        return
    try:
        channel.batch(device_requests(shared))
    except OSError:  # before any of them stands in for the NIC
        names = ", ".join(sorted({each.nic.name for each in shared}))
        plumbing.notes.append(
            f"{host.name}: the rate of {names} is not enforced on the sum of its links, because "
            "this kernel has no ifb (CONFIG_IFB)"
        )
        return
    channel.batch(sharing_requests(shared, rtnl.devices(channel)))


def _limit_frames(plumbing: Plumbing, topology: Topology, host: Host | Router) -> None:
    """Keep what a host or router hands over in one piece to what the kernel's links that it
    reaches pass whole, where that is more than a packet.
    """
    space = plumbing.node(host.name)
    devices = rtnl.devices(space.routing)
    for interface in host.interfaces:
        reached = topology.reachable(InterfaceEnd(host.name, interface.name)).values()
        names = {name for links in reached for name in links}
        limits = [
            driver.frame_limit_bytes(channel)
            for name in names
            if isinstance(driver := plumbing.drivers[name], KernelDriver)
            for channel in (topology.link(name).forward, topology.link(name).backward)
        ]
        handed_bytes = min(limits, default=0) * 4 // 5  # tbf adds each packet's headers to it
        if handed_bytes > interface.mtu + ETHERNET_HEADER_BYTES:
            index = devices[interface.name].index
            space.routing.request(rtnl.set_link(index, gso_max_bytes=handed_bytes))


def _switch_offloads_off(
    space: NetNamespace, devices: Mapping[str, rtnl.Device]
) -> Iterator[Request]:
    """Make a host's interfaces send and take single packets; yield what makes its TCP do so.

    With the offloads off the kernel still cuts what a connection hands over in one piece, one step
    before the interface: the packets would leave in bursts that were decided on as one.
    """
    names = [name for name in devices if name != "lo"]
    with space.entered():
        offloads.switch(names, offloads.OFFLOADS, on=False)
    for name in names:
        yield rtnl.set_link(devices[name].index, gso_max_packets=1)


def _shown_address(topology: Topology, end: InterfaceEnd, index: int) -> Iterator[Request]:
    """Yield what lets an interface answer for the address that a NAT before it shows."""
    outside = outsides(topology).get(end)
    if outside is None:
        return
    if all(outside.ip != own.ip for own in topology.interface_at(end).addresses):
        yield rtnl.add_address(index, IPv4Interface(f"{outside.ip}/32"))


def _configure_router(plumbing: Plumbing, topology: Topology, router: Router) -> None:
    space = plumbing.routers[router.name]
    devices = rtnl.devices(space.routing)
    requests: list[Request] = [rtnl.set_link(devices["lo"].index, up=True)]
    for interface in router.interfaces:
        device = devices[interface.name]
        requests += [rtnl.add_address(device.index, each) for each in interface.addresses]
        requests += _shown_address(
            topology, InterfaceEnd(router.name, interface.name), device.index
        )
        mtu = None if device.mtu == interface.mtu else interface.mtu
        requests.append(rtnl.set_link(device.index, up=True, mtu=mtu))
    requests += forwarding.router_requests(topology, router, devices)
    space.write_sysctls(addressing.neighbour_sysctls(router))
    space.routing.batch(requests)


def _configure_host(plumbing: Plumbing, topology: Topology, host: Host, settings: Tunables) -> None:
    space = plumbing.hosts[host.name]
    devices = rtnl.devices(space.routing)
    requests: list[Request] = [rtnl.set_link(devices["lo"].index, up=True)]
    if not host.offload:
        requests += _switch_offloads_off(space, devices)
    requests += addressing.address_requests(host, devices)
    for interface in host.interfaces:
        index = devices[interface.name].index
        mtu = None if devices[interface.name].mtu == interface.mtu else interface.mtu
        requests.append(rtnl.set_link(index, up=True, mtu=mtu))
        requests += _shown_address(topology, InterfaceEnd(host.name, interface.name), index)
        requests += addressing.route_requests(
            host,
            interface,
            index,
            settings.mss,
            forwarding.gateways(topology, host, interface),
            plumbing.congestion.get(host.name),
        )
    space.write_sysctls(addressing.neighbour_sysctls(host))
    if host.stack == "ours":  # which has path managers of its own
        space.routing.batch([*requests, *steering.rule_requests(host)])
        return
    space.routing.batch(requests)
    wanted = plumbing.plans[host.name]
    if wanted.endpoints or wanted.subflows or wanted.given:
        manager = PathManager(lambda: space.generic)
        manager.set_limits(wanted.limits)
        manager.add_all(wanted.endpoints)
        wanted.read_back = (manager.endpoints(), manager.limits())
        _check_endpoints(host.name, wanted)


def _check_endpoints(host: str, wanted: HostPlan) -> None:
    """Raise MachineCannotError where the kernel has not taken endpoints as they were given.

    It drops the flags that it does not know, and says nothing.
    """
    assert wanted.read_back is not None
    taken = {(each.address, each.port): each.flags for each in wanted.read_back[0]}
    for endpoint in wanted.endpoints:
        flags = taken.get((endpoint.address, endpoint.port), Flags(0))
        if flags != endpoint.flags:
            raise MachineCannotError(
                f"hosts.{host}.endpoints: of endpoint {endpoint} this kernel has taken "
                f"{flag_names(flags) or 'no flag'}; expected flags that it knows (laminar came "
                "with Linux 6.18), or --on simulated"
            )
