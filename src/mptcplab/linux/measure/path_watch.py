"""What a run hears of its paths, and what it does about endpoints and links that return."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any

from mptcplab.linux.measure.apparatus import Apparatus
from mptcplab.linux.measure.endpoint_actions import EndpointActions
from mptcplab.linux.measure.samples import Samples
from mptcplab.linux.path_management.link_aware import Change
from mptcplab.linux.path_management.link_awareness import LinkAwareness
from mptcplab.linux.path_management.rejoin import Rejoining
from mptcplab.linux.probes.pm_events import PathManagerEvents
from mptcplab.linux.traffic.flow import Connection
from mptcplab.linux.traffic.plan import client_and_server
from mptcplab.network.return_watch import ReturnWatch
from mptcplab.scenario.backup_watch import BackupWatch, switch_text
from mptcplab.scenario.model import Action, Flow, Scenario, Tunables


class PathWatch:
    """Lets endpoints follow their links, and writes down what becomes of subflows and links."""

    def __init__(self, apparatus: Apparatus, samples: Samples) -> None:
        """Open each host's sockets and let the loop read them; see :meth:`close`."""
        self._apparatus = apparatus
        self._samples = samples
        loop, links = apparatus.loop, apparatus.links
        with ExitStack() as opened:
            self._awareness = LinkAwareness(
                apparatus.lab,
                links.states,
                apparatus.hosts,
                self._endpoint_changed,
                follow=_link_aware(apparatus),
                before_delete=samples.sample_sockets_now,
                exact=apparatus.scenario.endpoints,
            )
            opened.callback(self._awareness.close)
            for descriptor, read in self._awareness.readers().items():
                loop.add_reader(descriptor, read)
            for host in apparatus.hosts:
                if host not in apparatus.stacks:
                    with apparatus.lab.enter(host):
                        events = PathManagerEvents()
                    opened.callback(events.close)
                    loop.add_reader(events.fileno(), partial(self._read_events, host, events))
            self._opened = opened.pop_all()
        self._endpoints = EndpointActions(
            apparatus.scenario, apparatus.stacks, self._awareness.endpoints
        )
        self._backups = BackupWatch(
            apparatus.scenario, partial(ReturnWatch, loop, links.sent_bytes), self._switched
        )
        self._returns = ReturnWatch(loop, links.sent_bytes, self._returned)
        self._rejoining = Rejoining(
            loop, self._lacks_subflow, self._awareness.withdraw, self._awareness.update
        )

    def update(self) -> None:
        """Bring endpoints into step with the present state of the links."""
        self._awareness.update()

    def follow(self, action: Action) -> None:
        """Take in what an action has done to links, or do what it says to endpoints."""
        self._backups.follow(action)
        if action.target_kind == "endpoint":
            self._endpoints.perform(action)
            return
        links = self._apparatus.links
        for link in links.touched_by(action):
            if action.verb == "down":
                self._returns.went_down(link)
                self._rejoining.went_down(link)
            elif links.states.is_ordered_up(link):
                self._returns.came_up(link, links.rate_bps(link))
                self._rejoining.came_up(link, self._apparatus.scenario.topology.link(link).rtt_ns)
        self.update()

    def note_idle_links(self, end_ns: int) -> None:
        """Write down the links that have carried nothing since they came up."""
        for link, up_ns in self._returns.waiting.items():
            waited_s = (end_ns - up_ns) / 1e9
            self._apparatus.log.add(
                end_ns,
                "testbed",
                "link-idle",
                link=link,
                detail=f"has carried nothing in the {waited_s:.2f} s since it came up",
                announce=f"{link} has carried nothing in the {waited_s:.2f} s since it came up",
            )

    @property
    def switches(self) -> list[dict[str, Any]]:
        """When backups began to carry data, after which action."""
        return self._backups.switches

    def close(self) -> None:
        """Close every socket."""
        self._opened.close()

    def _read_events(self, host: str, events: PathManagerEvents) -> None:
        for event in events.read():
            self._apparatus.log.path_manager_event(host, event)

    def _endpoint_changed(self, change: Change) -> None:
        self._apparatus.log.endpoint(time.monotonic_ns(), change)

    def _returned(self, link: str, up_ns: int, since_ns: int) -> None:
        waited_s = max(0, since_ns - up_ns) / 1e9
        self._apparatus.log.add(
            time.monotonic_ns(),
            "testbed",
            "link-carries",
            link=link,
            detail=f"{waited_s:.2f} s after it came up",
            announce=f"{link} carries data {waited_s:.2f} s after it came up",
        )

    def _switched(self, switch: dict[str, Any]) -> None:
        text = switch_text(switch)
        self._apparatus.log.add(
            switch["seen_ns"],
            "testbed",
            "backup-carries",
            link=switch["link"],
            detail=text,
            announce=f"{switch['link']}, a backup, carries data {text}",
        )

    def _lacks_subflow(self, link: str) -> bool:
        """Return whether a running MPTCP connection has no subflow on a link that is up, at one of
        its ends, where its scenario wants one.
        """
        if not self._apparatus.links.is_up(link):
            return False
        return lacks_subflow(
            self._apparatus.scenario,
            self._apparatus.flows.connections(),
            link,
            self._samples.subflows_on(link),
        )


def lacks_subflow(
    scenario: Scenario,
    connections: Iterable[Connection],
    link: str,
    present: Collection[tuple[str, str, int]],
) -> bool:
    """Return whether a running MPTCP connection has no subflow on a link, at one of its ends, where
    its scenario wants one.

    ``present`` has (host, flow, connection) of each end of a subflow that is established there.
    """
    return any(
        (host, connection.flow.name, connection.index) not in present
        for connection in connections
        if _is_running(connection) and _wants(scenario, connection.flow, link)
        for host in client_and_server(connection.flow)
    )


def _wants(scenario: Scenario, flow: Flow, link: str) -> bool:
    paths = scenario.expected_subflows(flow)
    return any(scenario.topology.bottleneck(path) == link for path in paths)


def _link_aware(apparatus: Apparatus) -> bool:
    """Return whether any host's endpoints follow their links."""
    tunables = (apparatus.scenario.tunables.get(host, Tunables()) for host in apparatus.hosts)
    return any(each.enabled and each.path_manager == "link-aware" for each in tunables)


def _is_running(connection: Connection) -> bool:
    return (
        connection.protocol == "mptcp" and connection.bytes_sent is None and not connection.errors
    )
