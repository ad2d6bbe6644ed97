"""What differs between runs of one scenario with different seeds.

Seeds are observations only where something is random.  Losses and jitter of links are, where a
scenario has them.  Without them a simulation would give the same with every seed, exact to the
nanosecond, and that one result may hang on a coincidence: that packets meet a full queue in the
same order again and again is a phase effect (S. Floyd, V. Jacobson, "On Traffic Phase Effects in
Packet-Switched Gateways", Internetworking: Research and Experience 3, 1992), and two schedulers
whose packets fall into other places by it look different by a margin of nothing.  So two things
are random in every scenario that does not say otherwise, and both leave alone what it is about:

``processing_jitter``
    Hosts handle packets a random time after their arrival.  Floyd and Jacobson found the phases
    gone where that time is drawn evenly from 0 up to the packet's time at the bottleneck.  So each
    direction of a link varies its delay within half the time of a full frame, which is that much
    in a round trip: a quarter more or a quarter less, so that the mean stays the delay that the
    scenario gives.  The span is 0.5 ms at most, since a host that is late by more than a tick of
    its clock (1 ms, Linux with HZ=1000) is no longer a normal one, and a packet at 300 kb/s takes
    40 ms.  At 1 Gb/s it is 6 us; network cards alone add more, with interrupts 10 us apart at the
    lowest latency (IXGBE_100K_ITR of the Linux driver of Intel's 10 Gb/s cards, ixgbe.h).
``start_jitter``
    Flows start at random up to 10 ms late, the time of eight packets at 10 Mb/s, so that flows
    which start together meet in another order with every seed.

A seed gives the same starts in every variant of a scenario.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.applications.workloads import has_draws
from mptcplab.network.topology import ETHERNET_HEADER_BYTES, Channel, Link
from mptcplab.units import NANOSECONDS, format_duration

if TYPE_CHECKING:
    from mptcplab.scenario.model import Flow, Scenario

DEFAULT_START_JITTER_NS: Final = 10_000_000
LONGEST_PROCESSING_NS: Final = 500_000

MOST_OF_FLOW: Final = 0.02
"""A start moves by no more than this part of a flow's time."""


def with_drawn_starts(scenario: Scenario) -> Scenario:
    """Return the scenario with the start of each flow as its seed draws it: what a testbed runs."""
    random = Random(scenario.seed)
    flows = []
    for flow in scenario.flows:
        most_ns = min(scenario.start_jitter_ns, round(_active_ns(flow, scenario) * MOST_OF_FLOW))
        late_ns = round(random.random() * most_ns)
        flows.append(replace(flow, start_ns=flow.start_ns + late_ns))
    return replace(scenario, flows=tuple(flows))


def _active_ns(flow: Flow, scenario: Scenario) -> int:
    return (flow.stop_ns or scenario.duration_ns) - flow.start_ns


def processing_jitter_ns(scenario: Scenario, link: Link, channel: Channel) -> int:
    """Return the span within which one direction of a simulated link varies its delay (ns).

    ``channel`` is that direction; 0 where it has no rate, so that packets take no time on it.
    """
    if scenario.processing_jitter_ns is not None:
        return scenario.processing_jitter_ns
    if not channel.rate_bps:
        return 0
    frame_bits = (link.mtu + ETHERNET_HEADER_BYTES) * 8
    return min(frame_bits * NANOSECONDS // channel.rate_bps // 2, LONGEST_PROCESSING_NS)


_AT_RANDOM: Final = {
    "losses": ("loss", "burst_loss"),
    "damage of packets": ("corrupt",),
    "duplicates": ("duplicate",),
    "reordering": ("reorder",),
    "jitter of links": ("jitter_ns",),
}
"""What is drawn for packets on a link, and the fields of a channel that ask for it."""


def random_sources(scenario: Scenario) -> list[str]:
    """Return what a seed decides in simulation, in words; empty where every seed gives the same.

    Keys, nonces and initial sequence numbers are drawn as well, and change no time.
    """
    ways = [
        (way, processing_jitter_ns(scenario, link, way))
        for link in scenario.topology.links
        for way in (link.forward, link.backward)
    ]
    changed = {key for action in scenario.timeline for key, value in action.changes if value}
    sources = []
    for source, fields in _AT_RANDOM.items():
        if changed & set(fields) or any(getattr(way, key) for way, _ in ways for key in fields):
            sources.append(source)
    at_random = {way.queue.discipline for way, _ in ways} & {"red", "pie"}
    if at_random:
        sources.append(f"early drops ({', '.join(sorted(at_random))})")
    longest_ns = max((processing_ns for _, processing_ns in ways), default=0)
    if longest_ns:
        sources.append(f"processing times of hosts (within {format_duration(longest_ns)})")
    drawing = [flow.name for flow in scenario.flows if has_draws(flow.workload)]
    if drawing:
        sources.append(f"what the applications of {', '.join(drawing)} draw")
    if scenario.start_jitter_ns and (len(scenario.flows) > 1 or scenario.timeline):
        # the start of a single flow moves everything alike
        sources.append(f"starts of flows (up to {format_duration(scenario.start_jitter_ns)} late)")
    if any(":" in name for name in _policies(scenario)):
        sources.append("what a class of yours draws")
    return sources


def _policies(scenario: Scenario) -> list[str]:
    names = [flow.congestion for flow in scenario.flows]
    for tunables in scenario.tunables.values():
        names += [tunables.scheduler, tunables.path_manager]
    return names
