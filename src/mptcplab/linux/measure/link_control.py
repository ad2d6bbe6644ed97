"""The links of a run: their state, what the timeline does to them and what their drivers count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mptcplab.linux.drivers.driver import DIRECTIONS, LinkReading
from mptcplab.linux.drivers.tap import TapDriver
from mptcplab.linux.emulator import EmulatedLink
from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.path_management.link_aware import LinkStates
from mptcplab.network.topology import Channel, InterfaceEnd, Topology
from mptcplab.scenario.model import Action


class Links:
    """Carries out actions on links and NICs, and remembers how each link is set."""

    def __init__(self, lab: Lab, topology: Topology) -> None:
        self._lab = lab
        self._topology = topology
        self.states = LinkStates(topology)
        self.channels: dict[tuple[str, str], Channel] = {}
        for link in topology.links:
            self.channels[link.name, "forward"] = link.forward
            self.channels[link.name, "backward"] = link.backward

    def perform(self, action: Action) -> None:
        """Carry out an action on a link or NIC; OSError where the kernel refuses."""
        if action.target_kind == "link" and action.verb == "set":
            self._set(action)
        elif action.target_kind == "link":
            self.set_up(action.target, action.verb == "up")
        elif action.target_kind == "nic":
            host, _, nic = action.target.partition(":")
            self._lab.set_nic(host, nic, up=action.verb == "up")

    def set_up(self, name: str, up: bool) -> None:
        """Set a link up or down."""
        self._lab.link(name).set_up(up)
        self.states.set_link(name, up)

    def touched_by(self, action: Action) -> list[str]:
        """Return the links that an action sets up or down, its own or those on its NIC."""
        if action.verb not in ("up", "down"):
            return []
        if action.target_kind == "link":
            return [action.target]
        host, _, nic = action.target.partition(":")
        return [
            link.name
            for link in self._topology.links
            for end in (link.a, link.b)
            if isinstance(end, InterfaceEnd)
            and end.host == host
            and self._topology.interface_at(end).nic == nic
        ]

    def is_up(self, name: str) -> bool:
        """Return whether a link is up, as far as is known."""
        return self.states.is_up(self._topology.link(name))

    def rate_bps(self, name: str) -> int | None:
        """Return the present rate of a link's faster direction, None where it has none."""
        rates = [self.channels[name, direction].rate_bps for direction in DIRECTIONS]
        known = [rate for rate in rates if rate is not None]
        return max(known) if len(known) == len(rates) else None

    def readings(self, name: str) -> dict[str, LinkReading]:
        """Return what the link's driver counted so far, by direction."""
        return self._lab.link(name).readings()

    def sent_bytes(self, name: str) -> int:
        """Return the bytes that went over a link so far, both directions together."""
        return sum(reading.tx_bytes for reading in self.readings(name).values())

    def emulators(self) -> dict[str, EmulatedLink]:
        """Return the emulators among the links' drivers."""
        carriers = {name: link.carrier for name, link in self._lab.links.items()}
        return {
            name: carrier.emulator
            for name, carrier in carriers.items()
            if isinstance(carrier, TapDriver)
        }

    def _set(self, action: Action) -> None:
        directions = DIRECTIONS if action.direction == "both" else (action.direction,)
        for direction in directions:
            changes: dict[str, Any] = dict(action.changes)
            channel = replace(self.channels[action.target, direction], **changes)
            self._lab.link(action.target).configure(direction, channel)
            self.channels[action.target, direction] = channel
