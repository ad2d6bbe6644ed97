"""Which links are backups while the timeline goes on, and how long they take to be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mptcplab.network.return_watch import ReturnWatch
from mptcplab.network.topology import Host, InterfaceEnd, Link
from mptcplab.scenario.model import Action, Scenario

_TAKES_AWAY: Final = ("down", "set", "remove_address")
_GIVES_BACK: Final = ("up", "add_address")
_LOW_BPS: Final = 10_000_000
"""A link that carries a tenth of this is in use: handshakes and signals are less."""


class BackupLinks:
    """The links at the hosts' interfaces from which subflows are backups."""

    def __init__(self, scenario: Scenario) -> None:
        """Begin with the start of a run."""
        self._scenario = scenario
        self._addresses = {host.name: set(scenario.backups(host.name)) for host in _hosts(scenario)}

    def take(self, action: Action) -> None:
        """Take in what an action says of priorities."""
        if action.verb != "set_priority" or action.host is None:
            return
        addresses = set(self._scenario.addresses_of(action.target))
        if dict(action.changes)["backup"]:
            self._addresses[action.host] |= addresses
        else:
            self._addresses[action.host] -= addresses

    def links(self) -> list[Link]:
        """Return those of now, in the order of the hosts."""
        found: dict[str, Link] = {}
        for host in _hosts(self._scenario):
            for interface in host.interfaces:
                link = self._scenario.topology.link_at(InterfaceEnd(host.name, interface.name))
                own = {address.ip for address in interface.addresses}
                if link is not None and own & self._addresses[host.name]:
                    found[link.name] = link
        return list(found.values())


def ever_backup(scenario: Scenario) -> frozenset[str]:
    """Return the names of the links that are backups at any time: they may well carry nothing."""
    links = BackupLinks(scenario)
    names = {link.name for link in links.links()}
    for action in scenario.timeline:
        links.take(action)
        names |= {link.name for link in links.links()}
    return frozenset(names)


def _hosts(scenario: Scenario) -> tuple[Host, ...]:
    return scenario.topology.hosts


class BackupWatch:
    """Sees how long after an action of the timeline a backup carries data."""

    def __init__(
        self,
        scenario: Scenario,
        watch_with: Callable[[Callable[[str, int, int], None]], ReturnWatch],
        note: Callable[[dict[str, Any]], None],
    ) -> None:
        """``watch_with`` makes a watch that calls what it is given; ``note`` takes each switch as
        ``run.json`` has it, with the time (ns) on the watch's loop at which it was seen.
        """
        self.switches: list[dict[str, Any]] = []
        self._scenario = scenario
        self._backups = BackupLinks(scenario)
        self._note = note
        self._cause = ""
        self._at_ns = 0
        self._watch = watch_with(self._carries)

    def follow(self, action: Action) -> None:
        """Take in an action that was just done."""
        backups_before = {link.name for link in self._backups.links()}
        self._backups.take(action)
        becomes_backup = dict(action.changes).get("backup")
        if action.verb in _GIVES_BACK or becomes_backup is False:
            for name in list(self._watch.waiting):
                self._watch.went_down(name)
        elif action.verb in _TAKES_AWAY or becomes_backup:
            self._cause = action.label or f"{action.target} {action.verb}"
            self._at_ns = action.at_ns
            passed_over = self._links_of(action) | set(self._watch.waiting)
            for link in self._backups.links():
                if link.name in backups_before - passed_over:
                    rates = [way.rate_bps or _LOW_BPS for way in (link.forward, link.backward)]
                    self._watch.came_up(link.name, min(_LOW_BPS, *rates))

    def _links_of(self, action: Action) -> set[str]:
        """Return the links that an action is done to, or at whose ends its addresses are."""
        if action.target_kind != "endpoint" or action.host is None:
            return {action.target}
        topology = self._scenario.topology
        own = set(self._scenario.addresses_of(action.target))
        links = (
            topology.link_at(InterfaceEnd(action.host, interface.name))
            for interface in topology.host(action.host).interfaces
            if own.intersection(address.ip for address in interface.addresses)
        )
        return {link.name for link in links if link is not None}

    def _carries(self, link: str, up_ns: int, since_ns: int) -> None:
        switch = {
            "at_ns": self._at_ns,
            "cause": self._cause,
            "link": link,
            "after_ns": since_ns - up_ns,
        }
        self.switches.append(switch)
        self._note(switch | {"seen_ns": since_ns})


def switch_text(switch: dict[str, Any]) -> str:
    """Return a switch as an event says it."""
    return f"{switch['after_ns'] / 1e9:.2f} s after {switch['cause']}"
