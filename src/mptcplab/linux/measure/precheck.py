"""Measures every path and every shaped link before a run, and says what is not as configured."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final

from mptcplab.linux.kernel import offloads, rtnl
from mptcplab.linux.lab.lab import Lab
from mptcplab.linux.measure.identity import bottleneck
from mptcplab.linux.measure.verify import (
    PROBES,
    RATE_TOLERANCE,
    PathCheck,
    check_channel,
    check_rate,
    check_rtt,
    configured_rtt_ns,
)
from mptcplab.linux.probes.burst import measure_rate
from mptcplab.linux.probes.rtt import RttProber
from mptcplab.network.topology import Channel, InterfaceEnd, Link, Path
from mptcplab.scenario.model import Flow, Scenario

_AFFORDABLE_BPS: Final = 1_200_000_000  # up to here a tenth of a second of UDP fits on one CPU
_ECHO_EVERY_S: Final = 0.004
_GRACE_NS: Final = 300_000_000
_LOOK_EVERY_S: Final = 0.001
_ATTEMPTS: Final = 3


class Precheck:
    """Checks the paths of a scenario's flows on a lab whose links are all up."""

    def __init__(self, scenario: Scenario, lab: Lab) -> None:
        self._scenario = scenario
        self._lab = lab
        self.results: list[dict[str, Any]] = []

    def reasons(self) -> list[str]:
        """Measure everything and return what is wrong, one sentence each."""
        paths = list(self._paths())
        used = dict.fromkeys(name for _, path in paths for name in path.links)
        down = [name for name in used if not self._scenario.topology.link(name).up]
        for name in down:
            self._lab.link(name).set_up(True)
        try:
            return self._settings(used) + self._measured(paths)
        finally:
            for name in down:
                self._lab.link(name).set_up(False)

    def _settings(self, links: Iterable[str]) -> list[str]:
        """Compare what each link's driver says that it is set to with what it should be."""
        reasons = []
        for name in links:
            link = self._scenario.topology.link(name)
            reasons += self._interfaces(link)
            for direction, asked in (("forward", link.forward), ("backward", link.backward)):
                found = self._lab.link(name).configured(direction)
                reasons += check_channel(name, direction, asked, found)
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
            if topology.host(end.host).offload:
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
        """Send echoes on all paths at once and wait for the slowest."""
        probers = []
        for _, path in paths:
            with self._lab.enter(path.local.host):
                probers.append(
                    RttProber(
                        path.local.interface,
                        str(path.local_address.ip),
                        str(path.remote_address.ip),
                    )
                )
        answers: list[list[int]] = [[] for _ in paths]
        longest_ns = max(
            (sum(configured_rtt_ns(self._scenario.topology, path)) for _, path in paths), default=0
        )
        try:
            for attempt in range(2):  # the first echo of each path waits for neighbour discovery
                for _ in range(1 if attempt == 0 else PROBES):
                    for prober in probers:
                        prober.send()
                    time.sleep(_ECHO_EVERY_S)
                deadline_ns = time.monotonic_ns() + 2 * longest_ns + _GRACE_NS
                wanted = 1 if attempt == 0 else PROBES
                answers = [[] for _ in paths]
                while time.monotonic_ns() < deadline_ns:
                    for prober, got in zip(probers, answers, strict=True):
                        got += prober.collect()
                    if all(len(got) >= wanted for got in answers):
                        break
                    time.sleep(_LOOK_EVERY_S)
        finally:
            for prober in probers:
                prober.close()
        return [
            PathCheck(flow.name, path, tuple(got))
            for (flow, path), got in zip(paths, answers, strict=True)
        ]

    def _rates(self, paths: list[tuple[Flow, Path]]) -> list[str]:
        """Flood each shaped link that is affordable, in the direction that data will take."""
        reasons = []
        done: set[str] = set()
        for flow, path in paths:
            name = bottleneck(self._scenario.topology, path)
            if name in done or len(path.links) != 1:
                continue
            done.add(name)
            link = self._scenario.topology.link(name)
            outward = flow.source == path.local.host
            here, there = (path.local, path.remote) if outward else (path.remote, path.local)
            forward = (here == link.a) or (there == link.b)
            channel = link.forward if forward else link.backward
            if channel.rate_bps is None or channel.rate_bps > _AFFORDABLE_BPS or channel.loss:
                continue
            mtu = self._mtu(path)
            found_bps = self._rate(path, outward, channel, link.rtt_ns, min(mtu, link.mtu))
            direction = "forward" if forward else "backward"
            self.results.append({"link": name, "direction": direction, "bps": round(found_bps)})
            problem = check_rate(name, direction, channel.rate_bps, found_bps)
            if problem is not None:
                reasons.append(problem)
        return reasons

    def _rate(self, path: Path, outward: bool, channel: Channel, rtt_ns: int, mtu: int) -> float:
        """Return the rate of a link; one that seems off is asked again: the machine may be it."""
        assert channel.rate_bps is not None
        ends = (path.local, path.remote) if outward else (path.remote, path.local)
        addresses = (str(path.local_address.ip), str(path.remote_address.ip))
        local, remote = addresses if outward else addresses[::-1]
        best_bps = 0.0
        for _ in range(_ATTEMPTS):
            found_bps = measure_rate(
                partial(self._lab.enter, ends[0].host),
                partial(self._lab.enter, ends[1].host),
                ends[0].interface,
                local,
                remote,
                mtu,
                channel.overhead_bytes,
                rtt_ns,
                channel.rate_bps,
            )
            if abs(found_bps - channel.rate_bps) < abs(best_bps - channel.rate_bps):
                best_bps = found_bps
            if abs(best_bps - channel.rate_bps) <= channel.rate_bps * RATE_TOLERANCE:
                break
        return best_bps

    def _mtu(self, path: Path) -> int:
        topology = self._scenario.topology
        return min(topology.interface_at(end).mtu for end in (path.local, path.remote))
