"""Measures every path and every shaped link before a run, and says what is not as configured."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

from mptcplab.linux.drivers.tap import TapDriver
from mptcplab.linux.kernel import offloads, rtnl
from mptcplab.linux.kernel.namespaces import read_sysctl
from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.lab.sysctls import kernel_scheduler
from mptcplab.linux.measure.verify import (
    PROBES,
    RATE_TOLERANCE,
    PathCheck,
    check_channel,
    check_emulator_cpu,
    check_emulators_cpu,
    check_rate,
    check_rtt,
    configured_rtt_ns,
    sending_ns,
)
from mptcplab.linux.probes import cgroups, cpu
from mptcplab.linux.probes.burst import Flood, Route, Throughput, measure_rate, plan_flood
from mptcplab.linux.probes.rtt import ECHO_BYTES, RttProber
from mptcplab.network.topology import ETHERNET_HEADER_BYTES, Channel, InterfaceEnd, Link, Path
from mptcplab.scenario.flow_limits import most_bps
from mptcplab.scenario.model import Flow, Scenario
from mptcplab.units import format_duration, format_rate

_ECHO_EVERY_S: Final = 0.004
_GRACE_NS: Final = 300_000_000
_LOOK_EVERY_S: Final = 0.001
_ATTEMPTS: Final = 3
_NEIGHBOURS_NS: Final = 4_000_000_000
"""For how long a path may stay silent at first: the kernel asks for a neighbour three times, a
second apart."""
_SLOW_ECHO_NS: Final = 1_000_000_000  # one that takes as long to send is sent once
_FLOOD_MOST_NS: Final = 10_000_000_000
_IP_HEADER_BYTES: Final = {4: 20, 6: 40}


class Precheck:
    """Checks the paths of a scenario's flows on a lab whose links are all up."""

    def __init__(self, scenario: Scenario, lab: Lab) -> None:
        self._scenario = scenario
        self._lab = lab
        self.results: list[dict[str, Any]] = []
        self.notes: list[str] = []
        """What a reader should know of how it was verified."""

    def reasons(self) -> list[str]:
        """Measure everything and return what is wrong, one sentence each."""
        paths = list(self._paths())
        used = dict.fromkeys(name for _, path in paths for name in path.passed)
        down = [name for name in used if not self._scenario.topology.link(name).up]
        for name in down:
            self._lab.link(name).set_up(True)
        try:
            return self._schedulers() + self._settings(used) + self._measured(paths)
        finally:
            for name in down:
                self._lab.link(name).set_up(False)

    def _schedulers(self) -> list[str]:
        """Compare each kernel's packet scheduler with what it should be."""
        reasons = []
        for host, tunables in self._lab.tunables.items():
            asked = kernel_scheduler(tunables)
            if self._scenario.topology.host(host).stack == "kernel" and tunables.enabled:
                with self._lab.enter(host):
                    found = read_sysctl("net.mptcp.scheduler")
                if found not in (asked, None):
                    reasons.append(f"{host}: the packet scheduler is {found}, {asked} asked for")
        return reasons

    def _settings(self, links: Iterable[str]) -> list[str]:
        """Compare what each link's driver says that it is set to with what it should be."""
        reasons = []
        for name in links:
            link = self._scenario.topology.link(name)
            reasons += self._interfaces(link)
            for direction, asked in (("forward", link.forward), ("backward", link.backward)):
                found = self._lab.link(name).configured(direction)
                reasons += check_channel(name, direction, replace(asked, trace=None), found)
        return reasons

    def _interfaces(self, link: Link) -> list[str]:
        """Compare MTU and offloads of the interfaces at a link's ends with what they should be."""
        topology = self._scenario.topology
        reasons = []
        for end in (link.a, link.b):
            if not isinstance(end, InterfaceEnd):
                continue
            asked = topology.interface_at(end).mtu
            found = rtnl.devices(self._lab.namespace(end.host).routing)[end.interface].mtu
            if found != asked:
                reasons.append(f"{end}: the MTU is {found}, {asked} asked for")
            if topology.offloads(end.host):
                continue
            with self._lab.enter(end.host):
                if on := offloads.switched_on(end.interface):
                    reasons.append(f"{end}: {', '.join(on)} on, a host without offload asked for")
        return reasons

    def _measured(self, paths: list[tuple[Flow, Path]]) -> list[str]:
        """Measure round trips, then rates."""
        checks = self._echo(paths)
        reasons = []
        for check in checks:
            problem = check_rtt(self._scenario.topology, check)
            if problem is not None:
                reasons.append(problem)
            self.results.append(
                {
                    "links": list(check.path.links),
                    "local": str(check.path.local_address.ip),
                    "remote": str(check.path.remote_address.ip),
                    "configured_rtt_ns": configured_rtt_ns(self._scenario.topology, check.path)[0],
                    "rtt_ns": min(check.rtts_ns, default=None),
                }
            )
        # what does not answer lets nothing through either
        return reasons or self._rates(paths)

    def _paths(self) -> Iterator[tuple[Flow, Path]]:
        """Yield every path that a flow may use, once."""
        seen: set[tuple[str, str]] = set()
        for flow in self._scenario.flows:
            for path in self._scenario.paths(flow):
                key = (str(path.local_address), str(path.remote_address))
                if key not in seen:
                    seen.add(key)
                    yield flow, path

    def _echo(self, paths: list[tuple[Flow, Path]]) -> list[PathCheck]:
        """Send echoes on all paths and wait for the slowest."""
        topology = self._scenario.topology
        probers: list[RttProber] = []
        try:
            for _, path in paths:
                with self._lab.enter(path.local.host):
                    probers.append(
                        RttProber(
                            path.local.interface,
                            str(path.local_address.ip),
                            str(path.remote_address.ip),
                        )
                    )
            sending = [self._sending(path) for _, path in paths]
            patience_ns = _GRACE_NS + 2 * max(
                (
                    sum(configured_rtt_ns(topology, path)) + sum(sent_ns)
                    for (_, path), sent_ns in zip(paths, sending, strict=True)
                ),
                default=0,
            )
            answered = _find_neighbours(probers, patience_ns)
            for prober in probers:
                prober.begin()
            slow = any(sum(sent_ns) >= _SLOW_ECHO_NS for sent_ns in sending)
            probes = 1 if slow else PROBES
            answers: list[list[int]] = [[] for _ in paths]
            for _ in range(probes):
                for prober, sent_ns in zip(probers, sending, strict=True):
                    prober.send()
                    # none is to wait behind another where their paths share a link
                    time.sleep(sum(sent_ns) / 1e9)
                time.sleep(_ECHO_EVERY_S)
            _collect(probers, answers, probes, patience_ns, answered)
        finally:
            for prober in probers:
                prober.close()
        return [
            PathCheck(flow.name, path, tuple(got), *sent_ns)
            for (flow, path), got, sent_ns in zip(paths, answers, sending, strict=True)
        ]

    def _sending(self, path: Path) -> tuple[int, int]:
        """Return how long an echo is being sent (ns): by emulators, and by shapers with a burst."""
        frame_bytes = _echo_frame_bytes(path.local_address.version)
        emulated = [name for name in path.links if self._lab.link(name).driver == "tap"]
        shaped = [name for name in path.links if name not in emulated]
        topology = self._scenario.topology
        return (
            sending_ns(topology, emulated, frame_bytes),
            sending_ns(topology, shaped, frame_bytes),
        )

    def _rates(self, paths: list[tuple[Flow, Path]]) -> list[str]:
        """Flood each shaped link that is affordable, in the direction that data will take."""
        reasons = []
        needs: dict[str, float] = {}
        most = most_bps(self._scenario)
        done: set[str] = set()
        for flow, path in paths:
            name = self._scenario.topology.bottleneck(path)
            if name in done or len(path.links) != 1:
                continue
            done.add(name)
            link = self._scenario.topology.link(name)
            outward = flow.source == path.local.host
            here, there = (path.local, path.remote) if outward else (path.remote, path.local)
            forward = (here == link.a) or (there == link.b)
            channel = link.forward if forward else link.backward
            if channel.rate_bps is None or channel.missing or channel.duplicate:
                continue
            mtu = min(self._mtu(path), link.mtu)
            flood = plan_flood(channel, mtu, path.local_address.version)
            direction = "forward" if forward else "backward"
            if flood.length_ns > _FLOOD_MOST_NS:
                self.notes.append(
                    f"{name} {direction}: its rate was not measured before the run, which takes "
                    f"{format_duration(flood.length_ns)} at {format_rate(channel.rate_bps)}"
                )
                continue
            cost = _Cost(self._lab, name, direction)
            found = self._rate(path, outward, channel, flood, link.rtt_ns)
            used_bps = round(min(channel.rate_bps, most.get((name, direction), channel.rate_bps)))
            needed = cost.at(used_bps)
            self.results.append(
                {
                    "link": name,
                    "direction": direction,
                    "bps": round(found.bps),
                    "emulator_cpus": None if needed is None else round(needed, 3),
                }
            )
            needs[name] = needed or 0.0
            if problem := check_emulator_cpu(name, direction, used_bps, needs[name], found.bps):
                reasons.append(problem)
            elif found.offered_bps < channel.rate_bps:
                self.notes.append(
                    f"{name} {direction}: its rate was not measured before the run: this machine "
                    f"could offer no more than {format_rate(found.offered_bps)} of "
                    f"{format_rate(channel.rate_bps)}"
                )
            elif problem := check_rate(name, direction, channel.rate_bps, found.bps):
                reasons.append(problem)
        return reasons + check_emulators_cpu(needs, _usable_cpus())

    def _rate(
        self, path: Path, outward: bool, channel: Channel, flood: Flood, rtt_ns: int
    ) -> Throughput:
        """Return the rate of a link; one that seems off is asked again: the machine may be it."""
        asked_bps = channel.rate_bps
        assert asked_bps is not None
        ends = (path.local, path.remote) if outward else (path.remote, path.local)
        addresses = (str(path.local_address.ip), str(path.remote_address.ip))
        route = Route(
            partial(self._lab.enter, ends[0].host),
            partial(self._lab.enter, ends[1].host),
            ends[0].interface,
            *(addresses if outward else addresses[::-1]),
        )
        best = Throughput(0.0, 0.0)
        for _ in range(_ATTEMPTS):
            found = measure_rate(route, flood, rtt_ns, asked_bps)
            if abs(found.bps - asked_bps) <= abs(best.bps - asked_bps):
                best = found
            if abs(best.bps - asked_bps) <= asked_bps * RATE_TOLERANCE:
                break
        return best

    def _mtu(self, path: Path) -> int:
        topology = self._scenario.topology
        return min(topology.interface_at(end).mtu for end in (path.local, path.remote))


class _Cost:
    """What the emulator of a link costs from now on; nothing where there is none."""

    def __init__(self, lab: Lab, link: str, direction: str) -> None:
        carrier = lab.link(link).carrier
        self._emulator = carrier.emulator if isinstance(carrier, TapDriver) else None
        self._direction = direction
        self._before = self._read()

    def at(self, rate_bps: int) -> float | None:
        """Return how many CPUs it needs at a rate, by its CPU time for what it has carried."""
        cpu_ns, sent_bytes = (
            now - before for now, before in zip(self._read(), self._before, strict=True)
        )
        return cpu_ns / sent_bytes * rate_bps / 8e9 if sent_bytes else None

    def _read(self) -> tuple[int, int]:
        if self._emulator is None:
            return 0, 0
        reading = self._emulator.read()
        return reading.cpu_ns, getattr(reading, self._direction).counters["sent_bytes"]


def _echo_frame_bytes(version: int) -> int:
    """Return the length of an echo's frame, with its Ethernet header."""
    return ETHERNET_HEADER_BYTES + _IP_HEADER_BYTES[version] + ECHO_BYTES


def _usable_cpus() -> float:
    """Return how many CPUs this process and its children may use, by affinity and quota."""
    allowed = len(cpu.allowed_cpus(os.getpid()))
    quota = cgroups.quota_cpus(os.getpid())
    return allowed if quota is None else min(allowed, quota)


def _find_neighbours(probers: list[RttProber], patience_ns: int) -> list[bool]:
    """Send echoes until each path has answered once; return which of them have.

    The first echo of a path waits for neighbour discovery, whose first question may be lost: a port
    of a switch that has only just come up forwards nothing yet.
    """
    answered = [False] * len(probers)
    deadline_ns = time.monotonic_ns() + _NEIGHBOURS_NS + patience_ns
    again_ns = 0
    while not all(answered) and time.monotonic_ns() < deadline_ns:
        if time.monotonic_ns() >= again_ns:
            again_ns = time.monotonic_ns() + max(patience_ns, _GRACE_NS)
            for prober, has in zip(probers, answered, strict=True):
                if not has:
                    prober.send()
        time.sleep(_LOOK_EVERY_S)
        answered = [
            has or bool(prober.collect()) for prober, has in zip(probers, answered, strict=True)
        ]
    return answered


def _collect(
    probers: list[RttProber],
    answers: list[list[int]],
    wanted: int,
    patience_ns: int,
    expected: list[bool],
) -> None:
    """Take the answers in, until those that are ``expected`` have all come."""
    deadline_ns = time.monotonic_ns() + patience_ns
    while time.monotonic_ns() < deadline_ns:
        for prober, got in zip(probers, answers, strict=True):
            got += prober.collect()
        if all(len(got) >= wanted or not due for got, due in zip(answers, expected, strict=True)):
            return
        time.sleep(_LOOK_EVERY_S)
