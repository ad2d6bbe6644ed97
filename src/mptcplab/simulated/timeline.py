"""The scenario's timeline in virtual time: links and NICs go and return, links change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from mptcplab.network.impairments import with_implied
from mptcplab.network.topology import InterfaceEnd, Link
from mptcplab.scenario.model import Action, Scenario, Tunables
from mptcplab.simulated.build import Network
from mptcplab.tuning.endpoints import EndpointTable


class Timeline:
    """Carries out each action at its time and reports it."""

    def __init__(
        self,
        network: Network,
        scenario: Scenario,
        endpoints: Mapping[str, EndpointTable],
        before: Callable[[], None],
        note: Callable[[Action], None],
    ) -> None:
        """``before`` is called ahead of each action, ``note`` with each that was carried out."""
        self._network = network
        self._scenario = scenario
        self._endpoints = endpoints
        self._before, self._note = before, note
        self._cable_up = {link.name: link.up for link in scenario.topology.links}
        self._nics_down: set[tuple[str, str]] = set()

    def arm(self) -> None:
        """Set every action's timer, and begin with the links that start down."""
        self._settle()
        for action in self._scenario.timeline:
            self._network.loop.call_at(action.at_ns, partial(self._do, action))

    def _do(self, action: Action) -> None:
        self._before()
        if action.verb == "set":
            self._change(action)
        elif action.target_kind == "middlebox":
            for station in self._network.stations.values():
                station.chain.set_enabled(action.target, action.verb == "enable")
                station.settle()
        elif action.target_kind == "nic":
            host, _, nic = action.target.partition(":")
            change = self._nics_down.discard if action.verb == "up" else self._nics_down.add
            change((host, nic))
            self._settle(action.target)
        elif action.target_kind == "endpoint":
            self._change_endpoint(action)
        elif action.target_kind == "link":
            self._cable_up[action.target] = action.verb == "up"
            self._settle()
        self._note(action)

    def _change_endpoint(self, action: Action) -> None:
        assert action.host is not None
        host = self._network.hosts[action.host]
        for change in self._endpoints[action.host].act(action):
            host.stack.change_paths(change, self._network.loop.now_ns)
        host.wake()

    def _change(self, action: Action) -> None:
        for direction in ("forward", "backward"):
            if action.direction in ("both", direction):
                conduit = self._network.conduits[action.target, direction]
                changes = with_implied(action.changes)
                conduit.configure(replace(conduit.channel.parameters, **changes))

    def _settle(self, changed_nic: str = "") -> None:
        """Bring every link, and what hosts see of it, to the state that cables and NICs give it.

        ``changed_nic`` ("host:nic") is the NIC that has been set up or down.
        """
        for link in self._scenario.topology.links:
            ends = [end for end in (link.a, link.b) if isinstance(end, InterfaceEnd)]
            works = self._cable_up[link.name] and not any(map(self._nic_is_down, ends))
            if works and not self._network.conduits[link.name, "forward"].channel.parameters.up:
                for end in ends:
                    if f"{end.host}:{self._scenario.topology.interface_at(end).nic}" != changed_nic:
                        self._resolve_again(link, end)
            for direction in ("forward", "backward"):
                conduit = self._network.conduits[link.name, direction]
                if conduit.channel.parameters.up != works:
                    conduit.configure(replace(conduit.channel.parameters, up=works))
            for end in ends:
                self._tell_host(end, self._cable_up[link.name] and not self._nic_is_down(end))
        for switch in self._scenario.topology.switches:
            for port in switch.ports:
                self._tell_host(port, not self._nic_is_down(port))

    def _resolve_again(self, link: Link, end: InterfaceEnd) -> None:
        """A host's interface has its carrier back: what waited there leaves.

        As in Linux: with the carrier went what the interface knew of its neighbours
        (arp_evict_nocarrier), so that the last retransmission waits for the neighbour's address,
        which takes a round trip of the link now. Of a NIC that was set down, routes went as well,
        and nothing waits.
        """
        if self._scenario.topology.is_router(end.host):
            return
        host, loop = self._network.hosts[end.host], self._network.loop

        def leave() -> None:
            for address in self._scenario.topology.interface_at(end).addresses:
                host.stack.resend_waiting(address.ip.packed, loop.now_ns)
            host.wake()

        loop.call_at(loop.now_ns + link.rtt_ns, leave)

    def _nic_is_down(self, end: InterfaceEnd) -> bool:
        nic = self._scenario.topology.interface_at(end).nic
        return (end.host, nic) in self._nics_down

    def _tell_host(self, end: InterfaceEnd, up: bool) -> None:
        """Tell a host's stack of its interface, where its path manager watches links."""
        if self._scenario.topology.is_router(end.host):
            return
        tunables = self._scenario.tunables.get(end.host, Tunables())
        if tunables.path_manager == "kernel":
            return
        host = self._network.hosts[end.host]
        now_ns = self._network.loop.now_ns
        for address in self._scenario.topology.interface_at(end).addresses:
            if up:
                host.stack.address_up(address.ip.packed, now_ns)
            else:
                host.stack.address_down(address.ip.packed, now_ns)
        host.wake()
