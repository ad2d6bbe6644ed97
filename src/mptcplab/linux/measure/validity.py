"""Whether a finished run is what was asked for: the reasons why not, and notes for its reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from mptcplab.linux.drivers.driver import DIRECTIONS
from mptcplab.linux.measure import verify
from mptcplab.linux.measure.measurement import Measurement
from mptcplab.linux.traffic.flow import Connection
from mptcplab.results.liveness import patience_ns
from mptcplab.scenario.backup_watch import ever_backup
from mptcplab.scenario.box_states import interfering
from mptcplab.scenario.model import Expectation, Flow, Scenario, Tunables
from mptcplab.scenario.path_states import PathStates
from mptcplab.stack.plugin import is_reference

_LATENESS_TOLERANCE: Final = 0.5  # of an interval: a sampler later than this has lost its rhythm
_SETTLED_NS: Final = 1_000_000_000
"""How long a path must be up, beside four round trips, for its subflow to be missed."""


def reasons(scenario: Scenario, measurement: Measurement, verified: Sequence[str]) -> list[str]:
    """Return every reason why a run is invalid, in the order in which they are shown.

    ``verified`` are those that were found before it was measured.
    """
    boxes = _interfering(scenario)
    return [
        *_dead_connections(measurement, boxes),
        *verified,
        *_stopped(measurement),
        *_dead_emulators(measurement),
        *_stopped_processes(measurement),
        *_lost_captures(measurement),
        *measurement.readback.reasons,
        *(text for flow, text in _shortcomings(scenario, measurement) if not boxes[flow]),
        *verify.check_overshoot(measurement.samples.rows["links"]),
        *_late_sampler(scenario, measurement),
        *_late_timeline(scenario, measurement),
        *_failed_actions(measurement),
        *_late_emulators(scenario, measurement),
        *_limited_links(measurement, _behind(scenario, boxes)),
        *_busy_cpu(scenario, measurement),
    ]


def notes(scenario: Scenario, measurement: Measurement) -> list[str]:
    """Return what a reader of a run should know besides."""
    return [
        *measurement.apparatus.lab.notes,
        *_behind_boxes(scenario, measurement),
        *_cut_off_connections(measurement),
        *_unfinished_connections(measurement),
        *_sometimes_limited_links(measurement, _behind(scenario, _interfering(scenario))),
        *_dropped_data(measurement),
        *_ordinary_emulators(measurement),
    ]


def _interfering(scenario: Scenario) -> dict[str, tuple[str, ...]]:
    """Return the middleboxes by flow that may keep it from being what it should."""
    return {flow.name: interfering(scenario, scenario.paths(flow)) for flow in scenario.flows}


def _shortcomings(scenario: Scenario, measurement: Measurement) -> Iterator[tuple[str, str]]:
    """Yield what connections lacked that came up, each with its flow."""
    yield from _broken_connections(measurement)
    yield from _other_congestion(measurement)
    yield from _missing_subflows(scenario, measurement)


def _behind_boxes(scenario: Scenario, measurement: Measurement) -> Iterator[str]:
    """Yield what would make a run invalid, had middleboxes not been asked for."""
    boxes = _interfering(scenario)
    judgements = measurement.samples.watches.judgements()
    dead = [(flow, each.reason) for flow, each in judgements if each.reason]
    for flow, text in (*dead, *_shortcomings(scenario, measurement)):
        if boxes[flow]:
            yield f"{text} (it passes {', '.join(boxes[flow])})"


def _dead_connections(
    measurement: Measurement, boxes: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
    if not measurement.stop_reason:
        for flow, judgement in measurement.samples.watches.judgements():
            if judgement.reason and not boxes[flow]:
                yield judgement.reason


def _cut_off_connections(measurement: Measurement) -> Iterator[str]:
    yield from (each.note for _, each in measurement.samples.watches.judgements() if each.note)


def _stopped(measurement: Measurement) -> Iterator[str]:
    if measurement.stop_reason:
        at_s = measurement.measured_ns / 1e9
        yield f"stopped by {measurement.stop_reason} at {at_s:.1f} s"


def _dead_emulators(measurement: Measurement) -> Iterator[str]:
    for link, (when_ns, how) in measurement.apparatus.links.dead.items():
        at_s = (when_ns - measurement.origin_ns) / 1e9
        yield f"{link}: its emulator is gone ({how}) since {at_s:.1f} s at least, and the link too"


def _stopped_processes(measurement: Measurement) -> Iterator[str]:
    for process in measurement.usage.stopped:
        yield f"{process} was stopped (SIGSTOP) during the run"


def _lost_captures(measurement: Measurement) -> Iterator[str]:
    for interface in measurement.lost_captures():
        yield f"the capture on {interface} ended before the run did"


def _broken_connections(measurement: Measurement) -> Iterator[tuple[str, str]]:
    watches = measurement.samples.watches
    for connection in measurement.apparatus.flows.connections():
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


def _other_congestion(measurement: Measurement) -> Iterator[tuple[str, str]]:
    """Yield which connections had subflows with another congestion control than was asked for.

    Programs choose their own, and iperf3 has a connection besides for control.
    """
    for connection in measurement.apparatus.flows.connections():
        flow = connection.flow
        others = connection.congestion_seen - {flow.congestion}
        if others and flow.application not in ("iperf3", "command"):
            name, seen = _name(connection), ", ".join(sorted(others))
            yield flow.name, f"{name}: congestion control {seen}, not {flow.congestion}"


def _unfinished_connections(measurement: Measurement) -> Iterator[str]:
    if measurement.stop_reason:
        return
    for connection in measurement.apparatus.flows.connections():
        connected = connection.protocol not in (None, "fallback")
        died = measurement.samples.watches.has_died(connection)
        if connected and connection.intact is None and connection.checked and not died:
            name = _name(connection)
            yield f"{name}: what it had sent did not all arrive before the run was over"


def _name(connection: Connection) -> str:
    return f"flow {connection.flow.name} connection {connection.index}"


def _missing_subflows(scenario: Scenario, measurement: Measurement) -> Iterator[tuple[str, str]]:
    states = PathStates(scenario)
    for flow in scenario.flows:
        traffic = measurement.apparatus.flows.of(flow.name)
        came_up = [
            each
            for each in traffic.connections
            if each.is_sampled and measurement.samples.watches.came_up(each)
        ]
        if not came_up:
            continue
        for problem in verify.check_subflows(
            flow,
            [] if flow.application == "striped" else [each.index for each in came_up],
            _expected_subflows(scenario, measurement, flow, states),
            measurement.samples.rows["subflows"],
            _idle_links(scenario, measurement, flow),
        ):
            yield flow.name, problem


def _idle_links(scenario: Scenario, measurement: Measurement, flow: Flow) -> frozenset[str]:
    """Return the links whose subflows may carry nothing: backups."""
    backups = ever_backup(scenario)
    return frozenset(
        measurement.apparatus.identities.link_of(path)
        for path in scenario.expected_subflows(flow)
        if backups.intersection(path.passed)
    )


def _expected_subflows(
    scenario: Scenario, measurement: Measurement, flow: Flow, states: PathStates
) -> dict[str, int]:
    """Return how many subflows a connection of a flow should have had, by link: those of the paths
    that were up for long enough while it ran.
    """
    manager = scenario.tunables.get(flow.client, Tunables()).path_manager
    if is_reference(manager):
        return {}
    ends_ns = [
        each.end_monotonic_ns - measurement.origin_ns
        for each in measurement.apparatus.flows.of(flow.name).connections
        if each.end_monotonic_ns is not None
    ]
    until_ns = min([flow.stop_ns or scenario.duration_ns, measurement.measured_ns, *ends_ns])
    expected: dict[str, int] = {}
    for path, wanted in Counter(scenario.expected_subflows(flow)).items():
        needed_ns = _SETTLED_NS + 4 * states.round_trip_ns(path)
        if loss := states.loss(path):
            needed_ns += patience_ns(states.round_trip_ns(path), loss)
        if states.longest_up_ns(path, flow.start_ns, until_ns) >= needed_ns:
            link = measurement.apparatus.identities.link_of(path)
            expected[link] = expected.get(link, 0) + wanted
    return expected


def _late_sampler(scenario: Scenario, measurement: Measurement) -> Iterator[str]:
    late_ns = measurement.samples.late_max_ns
    if late_ns > scenario.interval_ns * _LATENESS_TOLERANCE:
        yield (
            f"the sampler was late by up to {late_ns / 1e6:.0f} ms, of an interval of "
            f"{scenario.interval_ns / 1e6:g} ms"
        )


def _late_timeline(scenario: Scenario, measurement: Measurement) -> Iterator[str]:
    late_ns = measurement.timeline.late_max_ns
    if late_ns > scenario.interval_ns * _LATENESS_TOLERANCE:
        yield (
            f"the timeline was late by up to {late_ns / 1e6:.0f} ms, of an interval of "
            f"{scenario.interval_ns / 1e6:g} ms"
        )


def _failed_actions(measurement: Measurement) -> Iterator[str]:
    for failure in measurement.timeline.failures:
        yield f"an action of the timeline failed: {failure}"


def _late_emulators(scenario: Scenario, measurement: Measurement) -> Iterator[str]:
    for link, lateness in measurement.usage.lateness.items():
        reason = verify.check_lateness(scenario.topology.link(link), lateness)
        if reason is not None:
            yield reason


def _busy_cpu(scenario: Scenario, measurement: Measurement) -> Iterator[str]:
    stages = scenario.stages()
    rates = {
        expectation: rate
        for expectation in scenario.expectations
        if (rate := _measured_bps(measurement, expectation, stages)) is not None
    }
    yield from verify.check_cpu(measurement.samples.busy, scenario.expectations, stages, rates)


def _measured_bps(
    measurement: Measurement, expectation: Expectation, stages: Sequence[tuple[int, int]]
) -> float | None:
    """Return what was measured of what an expectation is about: "total", a flow or a link."""
    rows: dict[str, list[dict[str, Any]]] = measurement.samples.rows
    start_ns, end_ns = verify.extent(expectation, stages)
    of = expectation.of
    flows = [row for row in rows["flows"] if of in ("total", row["flow"])]
    if flows:
        return verify.mean_bps(flows, "bytes", start_ns, end_ns)
    rates = [
        verify.mean_bps(
            (row for row in rows["links"] if (row["link"], row["direction"]) == (of, direction)),
            "tx_bytes",
            start_ns,
            end_ns,
        )
        for direction in DIRECTIONS
    ]
    return max((rate for rate in rates if rate is not None), default=None)


def _behind(scenario: Scenario, boxes: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Return the links of flows that boxes may keep from filling them."""
    return {
        link
        for flow in scenario.flows
        if boxes[flow.name]
        for path in scenario.paths(flow)
        for link in path.possible
    }


def _unfilled(
    measurement: Measurement, suspects: Mapping[int, Collection[str]], behind: Collection[str]
) -> dict[str, int]:
    samples = measurement.samples
    backups = ever_backup(measurement.apparatus.scenario)
    due = {time_ns: set(links) - backups for time_ns, links in suspects.items()}
    unfilled = verify.unfilled_intervals(due, samples.rows["links"], samples.cpu.most_bps)
    return {link: count for link, count in unfilled.items() if link not in behind}


def _limited_links(measurement: Measurement, behind: Collection[str]) -> Iterator[str]:
    """Yield the links that carried less than they should have, for want of CPU time.

    Those of ``behind`` may have carried less for another reason, unless their emulators had none.
    """
    samples = measurement.samples
    intervals = len(samples.busy)
    full = _unfilled(measurement, samples.cpu.full_emulators, ())
    for link, count in _unfilled(measurement, samples.cpu.starved, behind).items():
        reason = verify.check_emulator(link, full.pop(link, 0), intervals)
        reason = reason or verify.check_starved(link, count, intervals)
        if reason is not None:
            yield reason
    for link, count in full.items():  # of no path of its own: between switches
        reason = verify.check_emulator(link, count, intervals)
        if reason is not None:
            yield reason


def _sometimes_limited_links(measurement: Measurement, behind: Collection[str]) -> Iterator[str]:
    samples = measurement.samples
    starved = _unfilled(measurement, samples.cpu.starved, behind)
    for link, count in starved.items():
        if not verify.is_limited(count, len(samples.busy)):
            yield verify.limited_by_cpu(link, count, len(samples.busy))


def _dropped_data(measurement: Measurement) -> Iterator[str]:
    for host, moved in measurement.usage.counters.items():
        note = verify.note_dropped_data(host, moved)
        if note is not None:
            yield note


def _ordinary_emulators(measurement: Measurement) -> Iterator[str]:
    emulators = measurement.apparatus.links.emulators()
    ordinary = [link for link, emulator in emulators.items() if not emulator.realtime]
    if ordinary:
        yield (
            f"{', '.join(ordinary)}: the emulator had no real-time priority (SCHED_FIFO needs "
            "CAP_SYS_NICE, and cpu.rt_runtime_us in its control group), so other programs make it "
            "late"
        )
