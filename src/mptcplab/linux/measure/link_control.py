"""The links of a run: their state, what the timeline does to them and what their drivers count."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from mptcplab.linux.drivers.driver import DIRECTIONS, LinkReading
from mptcplab.linux.drivers.tap import TapDriver
from mptcplab.linux.emulator import EmulatedLink, EmulatorError
from mptcplab.linux.emulator import LinkReading as EmulatorReading
from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.path_management.link_aware import LinkStates
from mptcplab.network.impairments import with_implied
from mptcplab.network.topology import Channel, InterfaceEnd, Topology
from mptcplab.scenario.model import Action

_ENDS_WITHIN_S: Final = 0.5  # a process that has closed its descriptors is about to end


class Links:
    """Carries out actions on links and NICs, and remembers how each link is set."""

    def __init__(self, lab: Lab, topology: Topology) -> None:
        self._lab = lab
        self._topology = topology
        self.states = LinkStates(topology)
        self.channels: dict[tuple[str, str], Channel] = {}
        self._trace_start_ns: dict[tuple[str, str], int] = defaultdict(int)
        self.dead: dict[str, tuple[int, str]] = {}
        """By link, when its emulator was found dead or silent (monotonic ns), and what is known of
        that; it is not asked for anything from then on."""
        self._last: dict[str, dict[str, LinkReading]] = {}
        for link in topology.links:
            self.channels[link.name, "forward"] = link.forward
            self.channels[link.name, "backward"] = link.backward

    def perform(self, action: Action) -> None:
        """Carry out an action on a link or NIC; OSError where the kernel refuses.

        What is to be done to a link whose emulator is dead is left out, and to its interfaces,
        which have gone with it.
        """
        try:
            self._perform(action)
        except (EmulatorError, OSError, KeyError) as error:
            if not self._find_dead(error):
                raise

    def _perform(self, action: Action) -> None:
        if action.target_kind == "link" and action.verb == "set":
            self._set(action)
        elif action.target_kind == "link":
            self.set_up(action.target, action.verb == "up")
        elif action.target_kind == "middlebox":
            self._switch_box(action.target, action.verb == "enable")
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

    def mean_rate_bps(self, name: str, direction: str, since_ns: int, until_ns: int) -> int | None:
        """Return the present rate of one direction; of a trace, the mean between two times of the
        run, as far as it ran.
        """
        channel = self.channels[name, direction]
        if channel.trace is None:
            return channel.rate_bps
        start_ns = self._trace_start_ns[name, direction]
        since_ns = max(since_ns - start_ns, 0)
        return channel.trace.mean_between_bps(since_ns, max(until_ns - start_ns, since_ns + 1))

    def start_traces(self) -> None:
        """Let the recorded capacities begin: before the run, links have the mean of theirs."""
        for (name, direction), channel in self.channels.items():
            if channel.trace is not None:
                self._lab.link(name).configure(direction, channel)

    def start_boxes(self) -> None:
        """Let the middleboxes begin: before the run, everything passes them."""
        for name in self.boxed:
            self._lab.link(name).start_boxes()

    def _switch_box(self, target: str, enabled: bool) -> None:
        for name in self.boxed:
            if any(box.target == target for box in self._topology.link(name).boxes):
                self._lab.link(name).switch_box(target, enabled)

    @property
    def boxed(self) -> list[str]:
        """The links with middleboxes."""
        return [link.name for link in self._topology.links if link.boxes]

    def box_tallies(self) -> dict[tuple[str, str, int], Mapping[str, object]]:
        """Return what each middlebox did, by link, end ("near" or "far") and place there."""
        tallies: dict[tuple[str, str, int], Mapping[str, object]] = {}
        emulators = self.emulators()
        for name in self.boxed:
            if name in self.dead:
                continue
            try:
                near, far = emulators[name].read_boxes()
            except EmulatorError as error:
                self._find_dead(error)
                continue
            for end, boxes in (("near", near), ("far", far)):
                for place, box in enumerate(boxes):
                    tallies[name, end, place] = box
        return tallies

    def readings(self, name: str) -> dict[str, LinkReading]:
        """Return what the link's driver counted so far, by direction; of one whose emulator is
        dead, what it had counted at the last time.
        """
        if name not in self.dead:
            try:
                self._last[name] = self._lab.link(name).readings()
            except EmulatorError as error:
                self._find_dead(error)
        if name not in self._last:
            self._last[name] = {way: LinkReading(time.monotonic_ns(), 0, 0) for way in DIRECTIONS}
        return self._last[name]

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

    def emulator_readings(self, *, reset_peak: bool = False) -> dict[str, EmulatorReading]:
        """Return what the emulators that live say of themselves."""
        readings = {}
        for name, emulator in self.emulators().items():
            if name not in self.dead:
                try:
                    readings[name] = emulator.read(reset_peak=reset_peak)
                except EmulatorError as error:
                    self._find_dead(error)
        return readings

    def _find_dead(self, error: Exception) -> bool:
        """Take note of the emulators that have ended, or do not answer; whether there are any."""
        for name, emulator in self.emulators().items():
            is_meant = isinstance(error, EmulatorError) and error.link == name
            how = emulator.ending(_ENDS_WITHIN_S if is_meant else 0.0)
            if is_meant:
                how = how or "it does not answer"
            if how and name not in self.dead:
                self.dead[name] = (time.monotonic_ns(), how)
        return bool(self.dead)

    def _set(self, action: Action) -> None:
        for direction in action.directions:
            changes = with_implied(action.changes)
            channel = replace(self.channels[action.target, direction], **changes)
            self._lab.link(action.target).configure(direction, channel)
            if channel.trace != self.channels[action.target, direction].trace:
                self._trace_start_ns[action.target, direction] = action.at_ns
            self.channels[action.target, direction] = channel
