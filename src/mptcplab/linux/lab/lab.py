"""A lab: a topology built in namespaces of the process that opened it.

Everything hangs on that process; :mod:`mptcplab.linux.lab.supervisor` gives it one of its own, so
that nothing outlives it.  A lab is used from the thread that opened it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from mptcplab.linux.drivers.driver import LinkDriver, LinkReading
from mptcplab.linux.drivers.tap import TapDriver
from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.mptcp_endpoints import PathManager
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.kernel.netlink import NetlinkSocket, Request
from mptcplab.linux.lab import addressing, forwarding
from mptcplab.linux.lab.build import Plumbing, build
from mptcplab.linux.lab.congestion import Controls, imposed_congestion
from mptcplab.linux.lab.endpoint_plan import HostPlan, scenario_traffic, scenario_wishes
from mptcplab.linux.lab.names import hosts_file
from mptcplab.linux.lab.processes import start_on
from mptcplab.network.topology import Channel, Host, InterfaceEnd, Link, Topology
from mptcplab.scenario.model import Scenario, Tunables


class LabLink:
    """An emulated link of a lab."""

    def __init__(self, link: Link, driver: LinkDriver, on_carrier: Callable[[Link], None]) -> None:
        self.link = link
        self.up = link.up
        self._driver = driver
        self._on_carrier = on_carrier
        self._asked = {"forward": link.forward, "backward": link.backward}

    @property
    def name(self) -> str:
        """The link's name."""
        return self.link.name

    @property
    def driver(self) -> str:
        """What carries it: "kernel", "netem" or "tap"."""
        return self._driver.name

    @property
    def carrier(self) -> LinkDriver:
        """The driver itself."""
        return self._driver

    def set_up(self, up: bool) -> None:
        """Plug the cable in or pull it: the interfaces at both ends gain or lose their carrier."""
        self._driver.set_carrier(up)
        self.up = up
        if up:
            self._on_carrier(self.link)

    def configure(self, direction: str, channel: Channel) -> None:
        """Change one direction, "forward" or "backward", in place.

        ValueError for what the link's driver cannot do, OSError where the kernel refuses.
        """
        self._driver.configure(direction, channel)
        self._asked[direction] = channel

    def channel(self, direction: str) -> Channel:
        """Return one direction as it was last asked for."""
        return self._asked[direction]

    def configured(self, direction: str) -> Channel:
        """Return one direction as it is, read back from what carries it."""
        return self._driver.configured(direction)

    def readings(self) -> dict[str, LinkReading]:
        """Return the counters of both directions."""
        return self._driver.readings()

    def switch_box(self, target: str, enabled: bool) -> None:
        """Switch middleboxes of the link on or off; EmulatorError where the emulator is gone."""
        if isinstance(self._driver, TapDriver):
            self._driver.emulator.switch_box(target, enabled)

    def start_boxes(self) -> None:
        """Switch on the middleboxes that are on from the start."""
        for box in self.link.boxes:
            if box.enabled:
                self.switch_box(box.target, True)


def _generic_channel(space: NetNamespace) -> NetlinkSocket:
    return space.generic


class Lab:
    """A standing topology; a context manager that takes it down."""

    WIRE: Final = "the wire"

    def __init__(
        self, topology: Topology, tunables: Mapping[str, Tunables], plumbing: Plumbing
    ) -> None:
        self.topology = topology
        self.names = hosts_file(topology)
        """What /etc/hosts holds for the programs on its hosts."""
        self.plans: Mapping[str, HostPlan] = plumbing.plans
        self.notes: Sequence[str] = plumbing.notes
        """What is not as it was asked for, in sentences."""
        self.congestion: Mapping[str, str] = {}
        """The kernel's names of the congestion controls that it has by BPF, by the scenario's."""
        self._tunables = tunables
        self._plumbing = plumbing
        self._controls: Controls | None = None
        self._links = {
            link.name: LabLink(link, plumbing.drivers[link.name], self._restore_link_routes)
            for link in topology.links
        }
        self._path_managers = {
            name: PathManager(partial(_generic_channel, space))
            for name, space in plumbing.hosts.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take everything down; programs still running hold their namespaces until they end."""
        self._plumbing.close()
        if self._controls is not None:
            self._controls.close()

    def hold(self, controls: Controls) -> None:
        """Keep congestion controls registered for as long as the lab stands."""
        self._controls, self.congestion = controls, controls.names

    @property
    def tunables(self) -> dict[str, Tunables]:
        """The tunables of every host, by name."""
        return {
            host.name: self._tunables.get(host.name, Tunables()) for host in self.topology.hosts
        }

    @property
    def links(self) -> dict[str, LabLink]:
        """The links by name."""
        return self._links

    def link(self, name: str) -> LabLink:
        """Return a link; KeyError where there is none of that name."""
        return self._links[name]

    def namespace(self, host: str) -> NetNamespace:
        """Return the network namespace of a host or router; KeyError where there is none such."""
        return self._plumbing.node(host)

    @property
    def spaces(self) -> dict[str, NetNamespace]:
        """All network namespaces: of hosts, routers and switches by name, and of the wire."""
        return {
            self.WIRE: self._plumbing.wire,
            **{f"switch {name}": space for name, space in self._plumbing.switches.items()},
            **self._plumbing.routers,
            **self._plumbing.hosts,
        }

    @contextmanager
    def enter(self, host: str) -> Iterator[None]:
        """Run the block on a host: sockets made there belong to it, and stay so."""
        with self.namespace(host).entered():
            yield

    def spawn(self, host: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program on a host; ``options`` are those of subprocess.Popen."""
        return start_on(host, self.namespace(host).descriptor, self.names, argv, **options)

    def pm(self, host: str) -> PathManager:
        """Return the MPTCP path manager of a host."""
        return self._path_managers[host]

    def set_nic(self, host: str, nic: str, *, up: bool) -> None:
        """Do what ``ifconfig NIC up`` or ``down`` did: the card and its VLANs go up or down."""
        machine = self.topology.host(host)
        machines = [i for i in machine.interfaces if i.nic == nic]
        channel = self.namespace(host).routing
        devices = rtnl.devices(channel)
        indices = [devices[i.name].index for i in machines]
        if nic in devices and devices[nic].index not in indices:
            indices.insert(0, devices[nic].index)
        word = "up" if up else "down"
        channel.batch(
            rtnl.set_link(index, up=up, what=f"set {nic} of {host} {word}") for index in indices
        )
        if up:
            for interface in machines:
                self._restore_routes(machine, interface.name, devices)

    def set_interface(self, host: str, interface: str, *, up: bool) -> None:
        """Do what ``ifconfig INTERFACE up`` or ``down`` did; what went with it returns with it."""
        channel = self.namespace(host).routing
        devices = rtnl.devices(channel)
        nic = self.topology.host(host).interface(interface).nic
        if up and nic in devices and not devices[nic].up:  # no VLAN is up on a NIC that is down
            channel.request(rtnl.set_link(devices[nic].index, up=True, what=f"set {nic} up"))
        what = f"set {interface} of {host} {'up' if up else 'down'}"
        channel.request(rtnl.set_link(devices[interface].index, up=up, what=what))
        if up:
            self.restore_routes(host, interface)

    def restore_routes(self, host: str, interface: str) -> None:
        """Give an interface the routes that it lost when it was set down."""
        devices = rtnl.devices(self.namespace(host).routing)
        self._restore_routes(self.topology.host(host), interface, devices)

    def interface_is_set_up(self, end: InterfaceEnd) -> bool:
        """Return whether an interface is set up, whatever its carrier, by whoever did it."""
        return rtnl.devices(self.namespace(end.host).routing)[end.interface].up

    def _restore_link_routes(self, link: Link) -> None:
        for end in (link.a, link.b):
            if isinstance(end, InterfaceEnd) and self.topology.has_host(end.host):
                devices = rtnl.devices(self.namespace(end.host).routing)
                if devices[end.interface].up:  # one that is set down gets its routes with its NIC
                    self._restore_routes(self.topology.host(end.host), end.interface, devices)

    def _restore_routes(self, host: Host, name: str, devices: dict[str, rtnl.Device]) -> None:
        mss = self._tunables.get(host.name, Tunables()).mss
        interface = host.interface(name)
        gateways = forwarding.gateways(self.topology, host, interface)
        requests: list[Request] = list(
            addressing.route_requests(
                host,
                interface,
                devices[name].index,
                mss,
                gateways,
                self._plumbing.congestion.get(host.name),
            )
        )
        self.namespace(host.name).routing.batch(requests)


def open_lab(
    topology: Topology, tunables: Mapping[str, Tunables] | None = None, *, seed: int = 1
) -> Lab:
    """Build a topology and return it standing, every host ready to talk MPTCP to every other.

    Raises MachineCannotError, before anything is made, where this machine lacks something, and
    OSError where the kernel refuses.
    """
    settings = dict(tunables or {})
    lab = Lab(topology, settings, build(topology, settings, None, (), seed))
    for link in lab.links.values():
        link.start_boxes()
    return lab


def open_scenario(scenario: Scenario) -> Lab:
    """Build what a scenario needs: its flows decide who announces which addresses, its timeline
    what a link must be able to become.  Its congestion controls by BPF come first.  Raises as
    :func:`open_lab` does.
    """
    controls = Controls(scenario)
    try:
        plumbing = build(
            scenario.topology,
            scenario.tunables,
            scenario_traffic(scenario),
            scenario.timeline,
            scenario.seed,
            scenario_wishes(scenario),
            imposed_congestion(scenario, controls.names),
        )
    except BaseException:
        controls.close()
        raise
    lab = Lab(scenario.topology, scenario.tunables, plumbing)
    lab.hold(controls)
    return lab
