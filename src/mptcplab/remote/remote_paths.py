"""What a run does to the links and endpoints of real hosts while it is measured."""

from __future__ import annotations

from collections.abc import Callable

from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, Limits
from mptcplab.linux.measure.endpoint_actions import EndpointActions
from mptcplab.linux.path_management.link_aware import Change, LinkAwarePathManager, LinkStates
from mptcplab.linux.path_management.rejoin import Rejoining
from mptcplab.loop import Loop
from mptcplab.remote import netem
from mptcplab.remote.errors import HostsError
from mptcplab.remote.fleet import Fleet
from mptcplab.remote.set_up import HostSetUp, Step, ends_of, link_steps
from mptcplab.scenario.model import Action, Tunables


class RemoteEndpoints:
    """One host's endpoints, changed by its agent; what there is follows from what was asked."""

    def __init__(self, fleet: Fleet, host: HostSetUp) -> None:
        self._fleet = fleet
        self._host = host
        self._present = list(host.wanted)

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints that there are."""
        return list(self._present)

    def limits(self) -> Limits:
        """Return no limits: they are not changed while a run lasts."""
        return Limits(0, 0)

    def set_limits(self, limits: Limits) -> None:
        """Do nothing."""

    def add(self, endpoint: Endpoint) -> None:
        """Add an endpoint; OSError where the host refuses."""
        self._change(self._host.endpoint_step(endpoint, add=True))
        self._present.append(endpoint)

    def delete(self, endpoint: Endpoint) -> None:
        """Delete an endpoint; OSError where the host refuses."""
        self._change(self._host.endpoint_step(endpoint, add=False))
        self._present = [each for each in self._present if not _same(each, endpoint)]

    def set_flags(self, endpoint: Endpoint) -> None:
        """Make an endpoint a backup or a regular one; OSError where the host refuses."""
        self._change(self._host.priority_step(endpoint, Flags.BACKUP in endpoint.flags))
        self._present = [endpoint if _same(each, endpoint) else each for each in self._present]

    def _change(self, step: Step) -> None:
        try:
            self._fleet.change(self._host.host, [step])
        except HostsError as error:
            raise OSError(str(error)) from error


def _same(one: Endpoint, other: Endpoint) -> bool:
    return (one.address, one.port) == (other.address, other.port)


class RemotePaths:
    """Carries out the timeline on links, NICs and endpoints; endpoints follow their links."""

    def __init__(
        self,
        fleet: Fleet,
        loop: Loop,
        is_missing: Callable[[str], bool],
        on_change: Callable[[Change], None],
        before_delete: Callable[[], object],
    ) -> None:
        self._fleet = fleet
        scenario = self._scenario = fleet.scenario
        self.states = LinkStates(scenario.topology)
        settings = [scenario.tunables.get(name, Tunables()) for name in fleet.set_ups]
        tables = {name: RemoteEndpoints(fleet, host) for name, host in fleet.set_ups.items()}
        self._endpoints = LinkAwarePathManager(
            scenario.topology,
            self.states,
            tables,
            on_change,
            follow=any(each.enabled and each.path_manager == "link-aware" for each in settings),
            before_delete=before_delete,
            exact=tuple(tables),
        )
        self._channels = {
            (link.name, direction): channel
            for link in scenario.topology.links
            for direction, channel in (("forward", link.forward), ("backward", link.backward))
        }
        self._actions = EndpointActions(scenario, {}, self._endpoints)
        self._rejoining = Rejoining(
            loop, is_missing, self._endpoints.withdraw, self._endpoints.update
        )

    def update(self) -> None:
        """Bring endpoints into step with the state of the links."""
        self._endpoints.update()

    def perform(self, action: Action) -> None:
        """Carry out an action; HostsError or OSError where a host refuses."""
        if action.target_kind == "endpoint":
            self._actions.perform(action)
            return
        if action.verb == "set":
            self._change_netem(action)
            return
        up = action.verb == "up"
        ends = ends_of(self._scenario, action.target, action.target_kind)
        self._fleet.change_all(
            {
                name: [
                    step
                    for end in ends
                    if end.host == name
                    for step in link_steps(host, end.interface, up=up)
                ]
                for name, host in self._fleet.set_ups.items()
            }
        )
        for link in self._note(action, up):
            if up:
                rtt_ns = self._scenario.topology.link(link).rtt_ns
                self._rejoining.came_up(link, rtt_ns)
            else:
                self._rejoining.went_down(link)
        self.update()

    def _change_netem(self, action: Action) -> None:
        """Change what netem makes of a link, where that is made."""
        steps: dict[str, list[Step]] = {}
        for direction in action.directions:
            key = (action.target, direction)
            self._channels[key] = netem.changed(self._channels[key], action)
            for name, host in self._fleet.set_ups.items():
                for link, made, end in netem.netem_ends(self._scenario, name):
                    if (link.name, made) == key and end.interface in host.interfaces:
                        step = host.netem_step(end.interface, self._channels[key], change=True)
                        steps.setdefault(name, []).append(step)
        self._fleet.change_all(steps)

    def _note(self, action: Action, up: bool) -> list[str]:
        """Note the new state, and return the links that have it."""
        if action.target_kind == "link":
            self.states.set_link(action.target, up)
            return [action.target]
        ends = ends_of(self._scenario, action.target, action.target_kind)
        for end in ends:
            self.states.set_interface(end.host, end.interface, up)
        topology = self._scenario.topology
        return [link.name for link in topology.links if link.a in ends or link.b in ends]
