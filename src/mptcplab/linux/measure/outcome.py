"""What is to be said of a run's connections, on whatever hosts they ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mptcplab.linux.measure import verify
from mptcplab.linux.measure.sampler import Rows
from mptcplab.linux.measure.watches import Watches
from mptcplab.linux.traffic.flow import Connection
from mptcplab.linux.traffic.flows import Flows
from mptcplab.results.liveness import patience_ns
from mptcplab.scenario.backup_watch import ever_backup
from mptcplab.scenario.model import Flow, Scenario, Tunables
from mptcplab.scenario.path_states import PathStates
from mptcplab.stack.plugin import is_reference

_SETTLED_NS: Final = 1_000_000_000
"""How long a path must be up, beside four round trips, for its subflow to be missed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has come to: its flows, what was watched and sampled of them, and for how long.

    Monotonic times are in ns; ``subflows`` are the rows of that table.
    """

    scenario: Scenario
    flows: Flows
    watches: Watches
    subflows: Rows
    origin_ns: int
    measured_ns: int


def broken_connections(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Yield what went wrong with connections, each with its flow."""
    watches = outcome.watches
    for connection in outcome.flows.connections():
        name, flow = _name(connection), connection.flow.name
        if watches.came_up(connection) or not watches.has_died(connection):
            yield from ((flow, f"{name}: {error}") for error in connection.errors)
        if connection.protocol == "fallback":
            yield flow, f"{name}: fell back to TCP"
        elif connection.errors:
            continue
        elif connection.intact is False:
            sent, received = connection.bytes_sent, connection.bytes_received
            yield flow, f"{name}: {sent} bytes sent, {received} received"


def other_congestion(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Yield which connections had subflows with another congestion control than was asked for.

    Programs choose their own, and iperf3 has a connection besides for control.
    """
    for connection in outcome.flows.connections():
        flow = connection.flow
        others = connection.congestion_seen - {flow.congestion}
        if others and flow.application not in ("iperf3", "command"):
            name, seen = _name(connection), ", ".join(sorted(others))
            yield flow.name, f"{name}: congestion control {seen}, not {flow.congestion}"


def unfinished_connections(outcome: Outcome) -> Iterator[str]:
    """Yield the connections that were not done when the run was over."""
    for connection in outcome.flows.connections():
        connected = connection.protocol not in (None, "fallback")
        died = outcome.watches.has_died(connection)
        if connected and connection.intact is None and connection.checked and not died:
            name = _name(connection)
            yield f"{name}: what it had sent did not all arrive before the run was over"


def _name(connection: Connection) -> str:
    return f"flow {connection.flow.name} connection {connection.index}"


def missing_subflows(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Yield the subflows that there should have been, each with its flow."""
    states = PathStates(outcome.scenario)
    for flow in outcome.scenario.flows:
        traffic = outcome.flows.of(flow.name)
        came_up = [
            each
            for each in traffic.connections
            if each.is_sampled and outcome.watches.came_up(each)
        ]
        if not came_up:
            continue
        for problem in verify.check_subflows(
            flow,
            [] if flow.is_striped else [each.index for each in came_up],
            _expected_subflows(outcome, flow, states),
            outcome.subflows,
            _idle_links(outcome.scenario, flow),
        ):
            yield flow.name, problem


def _idle_links(scenario: Scenario, flow: Flow) -> frozenset[str]:
    """Return the links whose subflows may carry nothing: backups."""
    backups = ever_backup(scenario)
    return frozenset(
        scenario.topology.bottleneck(path)
        for path in scenario.expected_subflows(flow)
        if backups.intersection(path.passed)
    )


def _expected_subflows(outcome: Outcome, flow: Flow, states: PathStates) -> dict[str, int]:
    """Return how many subflows a connection of a flow should have had, by link: those of the paths
    that were up for long enough while it ran.
    """
    scenario = outcome.scenario
    manager = scenario.tunables.get(flow.client, Tunables()).path_manager
    if is_reference(manager):
        return {}
    ends_ns = [
        each.end_monotonic_ns - outcome.origin_ns
        for each in outcome.flows.of(flow.name).connections
        if each.end_monotonic_ns is not None
    ]
    until_ns = min([flow.stop_ns or scenario.duration_ns, outcome.measured_ns, *ends_ns])
    expected: dict[str, int] = {}
    for path, wanted in Counter(scenario.expected_subflows(flow)).items():
        needed_ns = _SETTLED_NS + 4 * states.round_trip_ns(path)
        if loss := states.loss(path):
            needed_ns += patience_ns(states.round_trip_ns(path), loss)
        if states.longest_up_ns(path, flow.start_ns, until_ns) >= needed_ns:
            link = scenario.topology.bottleneck(path)
            expected[link] = expected.get(link, 0) + wanted
    return expected
