"""Ways between switches: the fewest links, and which of several such ways frames take.

Learning switches leave one way to each pair of addresses. A *fabric* spreads flows instead: each of
its switches chooses among the links that lead on by a hash of its own, as routers do among next
hops (:mod:`mptcplab.network.ecmp`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from mptcplab.network.ecmp import Fields, chosen

S = TypeVar("S", bound=Hashable)
"""A switch."""


@dataclass(frozen=True, slots=True)
class Spreading:
    """How a switch of a fabric spreads flows: its hash's seed, and whether that covers ports."""

    seed: int
    by_ports: bool


@dataclass(frozen=True, slots=True)
class Ways:
    """All that a hash may choose from: links of any way, and whether ports matter."""

    links: frozenset[str]
    several: bool
    by_ports: bool


@dataclass(frozen=True, slots=True, order=True)
class Taken:
    """The link by which a switch has sent on the packets of a TCP flow, one direction of it."""

    switch: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    link: str


class Walk(Generic[S]):
    """The shortest ways from one switch to all others, found breadth first."""

    def __init__(self, joints: Mapping[S, Sequence[tuple[S, str]]], start: S) -> None:
        """Take the switches that each switch has links to, and which links."""
        self._distance = {start: 0}
        self._before: dict[S, list[tuple[S, str]]] = {start: []}
        """Where each may be come from, by which link."""
        self._ways = {start: 1}
        """How many shortest ways lead to each."""
        frontier = deque([start])
        while frontier:
            at = frontier.popleft()
            for neighbour, link in joints.get(at, ()):
                if neighbour not in self._distance:
                    self._distance[neighbour] = self._distance[at] + 1
                    self._before[neighbour] = []
                    self._ways[neighbour] = 0
                    frontier.append(neighbour)
                if self._distance[neighbour] == self._distance[at] + 1:
                    self._before[neighbour].append((at, link))
                    self._ways[neighbour] += self._ways[at]

    @property
    def reached(self) -> tuple[S, ...]:
        """All switches that are reached, the nearest first."""
        return tuple(self._distance)

    def reaches(self, end: object) -> bool:
        """Say whether a switch is reached."""
        return end in self._distance

    def steps(self, at: S) -> Sequence[tuple[S, str]]:
        """Return the switches next to ``at`` that are nearer to the start, and the links there."""
        return self._before[at]

    def way(self, end: S, turn: int) -> tuple[str, ...]:
        """Return the links of a shortest way; ``turn`` counts through all that there are."""
        links = []
        turn %= self._ways[end]
        while self._before[end]:
            end, link, turn = self._step_back(end, turn)
            links.append(link)
        return tuple(reversed(links))

    def _step_back(self, at: S, turn: int) -> tuple[S, str, int]:
        """Return where the way number ``turn`` to ``at`` comes from, and its number there."""
        for before, link in self._before[at]:
            if turn < self._ways[before]:
                return before, link, turn
            turn -= self._ways[before]
        raise AssertionError("unreachable: the numbers of the ways before add up")


class Switching(Generic[S]):
    """The ways among switches, worked out as they are asked for."""

    def __init__(
        self, joints: Mapping[S, Sequence[tuple[S, str]]], fabric: Mapping[S, Spreading]
    ) -> None:
        """Take what each switch has links to, and those switches that spread flows."""
        self._joints: Final = joints
        self._fabric: Final = fabric
        self._walks: dict[S, Walk[S]] = {}

    def walk(self, start: S) -> Walk[S]:
        """Return the shortest ways from a switch."""
        if start not in self._walks:
            self._walks[start] = Walk(self._joints, start)
        return self._walks[start]

    def taken(self, near: S, far: S, fields: Fields) -> tuple[str, ...]:
        """Return the links that a packet takes from one switch to another.

        In the ways of a fabric, learning switches hand on by their first link.
        """
        walk = self.walk(far)
        links = []
        while steps := walk.steps(near):
            near, link = steps[self._choice(near, len(steps), fields)]
            links.append(link)
        return tuple(links)

    def _choice(self, switch: S, count: int, fields: Fields) -> int:
        spreading = self._fabric.get(switch)
        if count == 1 or spreading is None:
            return 0
        return chosen(fields.hash(spreading.seed, spreading.by_ports), count)

    def ways(self, near: S, far: S) -> Ways:
        """Return all links that packets from one switch to another may take, by any hash."""
        walk = self.walk(far)
        links: set[str] = set()
        several = by_ports = False
        seen, waiting = {near}, [near]
        while waiting:
            at = waiting.pop()
            steps = walk.steps(at)
            spreading = self._fabric.get(at)
            if spreading is None:
                steps = steps[:1]
            elif len(steps) > 1:
                several = True
                by_ports = by_ports or spreading.by_ports
            links.update(link for _, link in steps)
            waiting += [switch for switch, _ in steps if switch not in seen]
            seen.update(switch for switch, _ in steps)
        return Ways(frozenset(links), several, by_ports)
