"""When a path of a scenario carries anything, and the worst that it does to a packet."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace

from mptcplab.network.impairments import with_implied
from mptcplab.network.topology import (
    ETHERNET_HEADER_BYTES,
    VLAN_TAG_BYTES,
    Channel,
    Link,
    Path,
)
from mptcplab.scenario.box_states import BoxStates
from mptcplab.scenario.model import Scenario
from mptcplab.scenario.resolve.timeline import LinkStates
from mptcplab.units import NANOSECONDS

DIRECTIONS = ("forward", "backward")
_SMALL_BYTES = 128
"""About the frame of a SYN with all its options."""


class PathStates:
    """A scenario's paths over the time of the run, timeline included."""

    def __init__(self, scenario: Scenario) -> None:
        """Work out what each link is from each action on."""
        self._topology = scenario.topology
        self._stages = scenario.steady_stretches()
        self._starts = [start_ns for start_ns, _ in self._stages]
        self._links = LinkStates(scenario.topology, scenario.timeline)
        self._changes: dict[tuple[str, str], list[tuple[int, Channel]]] = {}
        self._holes = BoxStates(scenario, "blackhole")
        for link in scenario.topology.links:
            self._changes[link.name, "forward"] = [(0, link.forward)]
            self._changes[link.name, "backward"] = [(0, link.backward)]
        for action in scenario.timeline:
            if action.verb != "set":
                continue
            values = with_implied(action.changes)
            for direction in DIRECTIONS:
                if action.direction in ("both", direction):
                    states = self._changes[action.target, direction]
                    states.append((action.at_ns, replace(states[-1][1], **values)))

    def stage(self, at_ns: int) -> int:
        """Return the number of the stage at an instant: within one, no link changes."""
        return max(bisect_right(self._starts, at_ns) - 1, 0)

    def is_up(self, path: Path, at_ns: int) -> bool:
        """Say whether links and NICs of a path are up."""
        return all(
            self._links.interface_is_up(end, at_ns) for end in (path.local, path.remote)
        ) and all(self._links.is_up(self._topology.link(name), at_ns) for name in path.passed)

    def carries(self, path: Path, at_ns: int) -> bool:
        """Say whether packets can pass both ways: it is up, without a rate of 0, loss of all or a
        black hole.
        """
        return self.is_open(path, at_ns) and all(
            self._passes(name, direction, at_ns) for name, direction in self._round_trip(path)
        )

    def is_open(self, path: Path, at_ns: int) -> bool:
        """Say whether a path is up and no black hole is on it."""
        return self.is_up(path, at_ns) and not self._holes.any_enabled(path, at_ns)

    def _passes(self, link: str, direction: str, at_ns: int) -> bool:
        channel = self._channel(link, direction, at_ns)
        return channel.rate_bps != 0 and channel.missing < 1

    def _channel(self, link: str, direction: str, at_ns: int) -> Channel:
        states = self._changes[link, direction]
        return next(channel for since_ns, channel in reversed(states) if since_ns <= at_ns)

    def longest_up_ns(self, path: Path, start_ns: int, end_ns: int) -> int:
        """Return the longest stretch, between two instants, in which a path is up throughout."""
        longest_ns = stretch_ns = 0
        for since_ns, until_ns in self._stages:
            part_ns = min(until_ns, end_ns) - max(since_ns, start_ns)
            if part_ns <= 0:
                continue
            stretch_ns = stretch_ns + part_ns if self.is_up(path, since_ns) else 0
            longest_ns = max(longest_ns, stretch_ns)
        return longest_ns

    def handshake_ns(self, path: Path) -> int:
        """Return the longest round trip of a path for a packet that finds no queue (ns)."""
        total_ns = 0
        for _, channels in self._both_ways(path):
            total_ns += max(
                channel.delay_ns + channel.jitter_most_ns + _sending_ns(channel, _SMALL_BYTES)
                for channel in channels
            )
        return total_ns

    def round_trip_ns(self, path: Path) -> int:
        """Return the longest round trip of a path, with all its queues full (ns)."""
        return sum(
            max(_passage_ns(channel, link.mtu) for channel in channels)
            for link, channels in self._both_ways(path)
        )

    def loss(self, path: Path) -> float:
        """Return the largest share of round trips that links lose or damage (below 1).

        A loss of all packets counts as a link that is down, and not here.
        """
        arrives = 1.0
        for _, channels in self._both_ways(path):
            shares = [each.missing for each in channels]
            arrives *= 1 - max((share for share in shares if share < 1), default=0.0)
        return 1 - arrives

    def _both_ways(self, path: Path) -> Iterator[tuple[Link, list[Channel]]]:
        for name, direction in self._round_trip(path):
            channels = [channel for _, channel in self._changes[name, direction]]
            yield self._topology.link(name), channels

    def _round_trip(self, path: Path) -> tuple[tuple[str, str], ...]:
        """Return the links of the way there and of that back, each with its direction."""
        return self._topology.directions(path) + self._topology.directions_back(path)


def _passage_ns(channel: Channel, mtu: int) -> int:
    """Return how long a frame takes that finds the queue of a channel full."""
    delay_ns = channel.delay_ns + channel.jitter_most_ns
    frame_bytes = mtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES + channel.overhead_bytes
    limits = [frame_bytes]
    if channel.queue.limit_packets is not None:
        limits.append(channel.queue.limit_packets * frame_bytes)
    if channel.queue.limit_bytes is not None:
        limits.append(channel.queue.limit_bytes)
    waiting_bytes = max(limits) if len(limits) < 3 else max(frame_bytes, min(limits[1:]))
    return delay_ns + _sending_ns(channel, waiting_bytes)


def _sending_ns(channel: Channel, size_bytes: int) -> int:
    """Return how long a channel takes to send so much, at the worst time of a trace (ns)."""
    if channel.trace is not None:
        return channel.trace.longest_ns(size_bytes)
    return size_bytes * 8 * NANOSECONDS // channel.rate_bps if channel.rate_bps else 0
