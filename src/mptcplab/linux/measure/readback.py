"""Whether a lab is at the end of a measurement what it was at its beginning.

Anybody with the rights to can reach into a running lab: lower a shaper's rate, remove an address, a
route, an endpoint.  What the timeline changes is known; any other difference makes a run another
one than was asked for.  What was put back in time shows as well: the kernel announces each change
with the socket that asked for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mptcplab.linux.drivers.driver import DIRECTIONS
from mptcplab.linux.kernel import netlink, rtnl, tc
from mptcplab.linux.kernel.mptcp_endpoints import Flags, PathManager
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.linux.kernel.netlink import NetlinkSocket
from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.measure.verify import check_channel
from mptcplab.linux.probes.multicast import datagrams, subscribe
from mptcplab.network.topology import Channel, InterfaceEnd
from mptcplab.scenario.model import Scenario
from mptcplab.scenario.resolve.timeline import LinkStates

_SHOWN: Final = 3
_EVERYWHERE: Final = ""
_GROUPS: Final = (1, 4, 5, 7, 8, 9, 11, 19)
"""Of links, traffic control, and addresses, routes and rules of both IP versions
(include/uapi/linux/rtnetlink.h, rtnetlink_groups)."""
_KINDS: Final = {
    16: "an interface",
    20: "an address",
    24: "a route",
    32: "a rule",
    36: "a qdisc",
    40: "a class",
    44: "a filter",
}
"""By the number of the message that announces a new one; that of one removed is the next."""
_ONE_EACH: Final = ("MTU", "qdisc")
"""Of what an interface has one, as a rule."""
_PLURALS: Final = {"address": "addresses"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How a network namespace is set up: by what, a set of (interface, text).

    What belongs to no interface has "" for one.
    """

    up: frozenset[tuple[str, str]]
    parts: Mapping[str, frozenset[tuple[str, str]]]


def read_settings(space: NetNamespace, endpoints: PathManager | None = None) -> Settings:
    """Read interfaces, addresses, routes, rules, qdiscs and MPTCP endpoints of a namespace."""
    channel = space.routing
    devices = rtnl.devices(channel).values()
    names = {device.index: device.name for device in devices}
    parts = {
        "MTU": frozenset((device.name, str(device.mtu)) for device in devices),
        "address": frozenset(
            (names.get(index, "?"), str(address)) for index, address in rtnl.addresses(channel)
        ),
        "route": frozenset(
            (names.get(route.index, _EVERYWHERE), str(route)) for route in rtnl.routes(channel)
        ),
        "rule": frozenset((_EVERYWHERE, text) for text in rtnl.rules(channel)),
        "qdisc": frozenset(
            (names.get(qdisc.index, "?"), str(qdisc)) for qdisc in tc.qdiscs(channel)
        ),
    }
    if endpoints is not None:
        by_address = {
            str(address.ip): names.get(index, _EVERYWHERE)
            for index, address in rtnl.addresses(channel)
        }
        parts["MPTCP endpoint"] = frozenset(
            (by_address.get(str(each.address), _EVERYWHERE), str(each))
            for each in endpoints.endpoints()
            if Flags.IMPLICIT not in each.flags
        )
    up = frozenset(
        (device.name, "with a carrier" if device.carrier else "without a carrier")
        for device in devices
        if device.up
    )
    return Settings(up, parts)


class Witness:
    """Listens to the changes that others than ourselves ask for in a network namespace."""

    def __init__(self, space: NetNamespace) -> None:
        self._ours = space.routing.port
        with space.entered():
            self._socket = NetlinkSocket()
        for group in _GROUPS:
            subscribe(self._socket, group)

    def seen(self) -> list[str]:
        """Return what was changed since the last call, by kind, each once."""
        return list(
            dict.fromkeys(
                _KINDS[message.kind & ~3]
                for data in datagrams(self._socket)
                for message in netlink.messages(data)
                if message.port not in (0, self._ours) and message.kind & ~3 in _KINDS
            )
        )

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def differences(
    place: str,
    before: Settings,
    after: Settings,
    *,
    down: Collection[str] = (),
    touched: Collection[str] = (),
    free: Collection[str] = (),
) -> list[str]:
    """Return what is not any more as it was, a sentence for each kind of setting.

    ``down`` are the interfaces that should be down by now, of which nothing is said; ``touched``
    those that have been down, whose endpoints and further routes come and go with them; ``free``
    are kinds of settings of which the timeline has changed some itself.
    """
    reasons = []
    fallen = []
    for name, carrier in sorted(before.up - after.up):
        if name not in down and carrier == "with a carrier":
            is_up = any(name == other for other, _ in after.up)
            state = "has lost its carrier" if is_up else "is down or gone"
            reasons.append(f"{place}: {name} {state}, which nobody asked for")
            fallen.append(name)
    passed_over = {*down, *fallen}
    for kind, was in before.parts.items():
        if kind in free:
            continue
        now = after.parts[kind]
        gone = [each for each in was - now if each[0] not in passed_over]
        come = [each for each in now - was if each[0] not in passed_over]
        if kind == "MPTCP endpoint":
            gone = [each for each in gone if each[0] not in touched]
        if kind in ("MPTCP endpoint", "route"):
            come = [each for each in come if each[0] not in touched]
        for name, text in list(gone) if kind in _ONE_EACH else ():
            for other in [each for each in come if each[0] == name]:
                reasons.append(
                    f"{place}: the {kind} of {name} is {other[1]}, was {text} when the run began"
                )
                come.remove(other)
                gone.remove((name, text))
                break
        for verb, which in (("gone", gone), ("new", come)):
            if which:
                word = kind if len(which) == 1 else _PLURALS.get(kind, f"{kind}s")
                reasons.append(
                    f"{place}: {len(which)} {word} {verb} since the run began, which "
                    f"nobody asked for: {_listed(which)}"
                )
    return reasons


def _listed(which: Iterable[tuple[str, str]]) -> str:
    texts = [f"{text} on {name}" if name else text for name, text in sorted(which)]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


class Readback:
    """Reads a lab's settings at the start of a measurement, and again at its end."""

    def __init__(self, scenario: Scenario, lab: Lab) -> None:
        self._scenario = scenario
        self._lab = lab
        self._before: dict[str, Settings] = {}
        self._witnesses: dict[str, Witness] = {}
        self.reasons: list[str] = []
        """Why the lab is not what it was, once :meth:`finish` was called."""

    def start(self) -> None:
        """Read everything, and listen from now on; see :meth:`close`."""
        self._witnesses = {name: Witness(space) for name, space in self._lab.spaces.items()}
        self._before = self._read()

    def close(self) -> None:
        """Give the sockets back."""
        for witness in self._witnesses.values():
            witness.close()
        self._witnesses = {}

    def finish(
        self,
        measured_ns: int,
        channels: Mapping[tuple[str, str], Channel],
        dead: Collection[str],
    ) -> None:
        """Read everything again, of a run that measured for so long.

        ``channels`` are the links' settings by now, by link and direction; ``dead`` are the links
        whose emulators are, of which nothing can be read.
        """
        after = self._read()
        for link in self._scenario.topology.links:
            for direction in DIRECTIONS if link.name not in dead else ():
                is_set = self._lab.link(link.name).configured(direction)
                asked = channels[link.name, direction]
                self.reasons += [
                    f"{reason}, at the end of the run"
                    for reason in check_channel(link.name, direction, asked, is_set)
                ]
        down, touched = set(self._down(measured_ns)), set(self._touched())
        for name in dead:
            link = self._scenario.topology.link(name)
            down |= {end for end in (link.a, link.b) if isinstance(end, InterfaceEnd)}
        is_reshaped = any(action.verb == "set" for action in self._scenario.timeline)
        for place, before in self._before.items():
            found = differences(
                place,
                before,
                after[place],
                down=_on(place, down),
                touched=_on(place, touched),
                free=("qdisc",) if is_reshaped and place == self._lab.WIRE else (),
            )
            changed = self._witnesses[place].seen()
            if changed and not found:
                found = [
                    f"{place}: {', '.join(changed)} changed by somebody else during the run, and "
                    "put back"
                ]
            self.reasons += found

    def _read(self) -> dict[str, Settings]:
        hosts = {host.name for host in self._scenario.topology.hosts}
        return {
            name: read_settings(space, self._lab.pm(name) if name in hosts else None)
            for name, space in self._lab.spaces.items()
        }

    def _ends(self) -> Iterator[tuple[InterfaceEnd, str]]:
        """Yield each interface at a link's end, with the link."""
        for link in self._scenario.topology.links:
            for end in (link.a, link.b):
                if isinstance(end, InterfaceEnd):
                    yield end, link.name

    def _down(self, at_ns: int) -> Iterator[InterfaceEnd]:
        """Yield the interfaces that the timeline has down at an instant."""
        topology = self._scenario.topology
        states = LinkStates(topology, self._scenario.timeline)
        for host in topology.hosts:
            for interface in host.interfaces:
                end = InterfaceEnd(host.name, interface.name)
                if not states.interface_is_up(end, at_ns):
                    yield end
        for end, link in self._ends():
            if not states.is_up(topology.link(link), at_ns):
                yield end

    def _touched(self) -> Iterator[InterfaceEnd]:
        """Yield the interfaces that the timeline sets up or down at any time, or whose endpoints it
        changes.
        """
        topology = self._scenario.topology
        targets = {action.target for action in self._scenario.timeline if action.verb != "set"}
        changed = {
            address
            for action in self._scenario.timeline
            if action.target_kind == "endpoint"
            for address in self._scenario.addresses_of(action.target)
        }
        for host in topology.hosts:
            for interface in host.interfaces:
                is_changed = any(address.ip in changed for address in interface.addresses)
                if is_changed or f"{host.name}:{interface.nic}" in targets:
                    yield InterfaceEnd(host.name, interface.name)
        for end, link in self._ends():
            if link in targets or not topology.link(link).up:
                yield end


def _on(host: str, ends: Iterable[InterfaceEnd]) -> set[str]:
    return {end.interface for end in ends if end.host == host}
