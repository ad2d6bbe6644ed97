"""Whether a finished run is what was asked for: the reasons why not, and notes for its reader."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from mptcplab.linux.drivers.driver import DIRECTIONS
from mptcplab.linux.measure import outcome, verify
from mptcplab.linux.measure.measurement import Measurement
from mptcplab.scenario.backup_watch import ever_backup
from mptcplab.scenario.box_states import interfering
from mptcplab.scenario.model import Expectation, Scenario

_LATENESS_TOLERANCE: Final = 0.5  # of an interval: a sampler later than this has lost its rhythm


def judge(
    scenario: Scenario, measurement: Measurement, verified: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return every reason why a run is invalid, and what its reader should know besides.

    Both are in the order in which they are shown; ``verified`` are the reasons that were found
    before it was measured.
    """
    boxes = {flow.name: interfering(scenario, scenario.paths(flow)) for flow in scenario.flows}
    judgements = measurement.samples.watches.judgements()
    dead = [(flow, each.reason) for flow, each in judgements if each.reason]
    shortcomings = list(_shortcomings(measurement))
    starved = _unfilled(measurement, measurement.samples.cpu.starved, _behind(scenario, boxes))
    reasons = [
        *(text for flow, text in dead if not boxes[flow] and not measurement.stop_reason),
        *verified,
        *_stopped(measurement),
        *_dead_emulators(measurement),
        *_dead_fabric(measurement),
        *_stopped_processes(measurement),
        *_lost_captures(measurement),
        *measurement.readback.reasons,
        *(text for flow, text in shortcomings if not boxes[flow]),
        *verify.check_overshoot(measurement.samples.rows["links"]),
        *_late_sampler(scenario, measurement),
        *_late_timeline(scenario, measurement),
        *_failed_actions(measurement),
        *_late_emulators(scenario, measurement),
        *_limited_links(measurement, starved),
        *_full_fabric(scenario, measurement),
        *_busy_cpu(scenario, measurement),
    ]
    notes = [
        *measurement.apparatus.lab.notes,
        *_excused([*dead, *shortcomings], boxes),
        *(each.note for _, each in judgements if each.note),
        *_unfinished_connections(measurement),
        *_sometimes_limited_links(measurement, starved),
        *_dropped_data(measurement),
        *_ordinary_emulators(measurement),
    ]
    return reasons, notes


def _shortcomings(measurement: Measurement) -> Iterator[tuple[str, str]]:
    """Yield what connections lacked that came up, each with its flow."""
    yield from outcome.broken_connections(measurement.outcome)
    yield from outcome.other_congestion(measurement.outcome)
    yield from outcome.missing_subflows(measurement.outcome)


def _excused(
    told: Sequence[tuple[str, str]], boxes: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
    """Yield what would make a run invalid, had middleboxes not been asked for that interfere."""
    for flow, text in told:
        if boxes[flow]:
            yield f"{text} (it passes {', '.join(boxes[flow])})"


def _stopped(measurement: Measurement) -> Iterator[str]:
    if measurement.stop_reason:
        at_s = measurement.measured_ns / 1e9
        yield f"stopped by {measurement.stop_reason} at {at_s:.1f} s"


def _dead_emulators(measurement: Measurement) -> Iterator[str]:
    for link, (when_ns, how) in measurement.apparatus.links.dead.items():
        at_s = (when_ns - measurement.origin_ns) / 1e9
        yield f"{link}: its emulator is gone ({how}) since {at_s:.1f} s at least, and the link too"


def _dead_fabric(measurement: Measurement) -> Iterator[str]:
    fabric = measurement.apparatus.lab.fabric
    if fabric is not None and not fabric.is_alive:
        yield "the lab's Open vSwitch is gone, and its switches forward nothing since"


def _stopped_processes(measurement: Measurement) -> Iterator[str]:
    for process in measurement.usage.stopped:
        yield f"{process} was stopped (SIGSTOP) during the run"


def _lost_captures(measurement: Measurement) -> Iterator[str]:
    for interface in measurement.lost_captures():
        yield f"the capture on {interface} ended before the run did"


def _unfinished_connections(measurement: Measurement) -> Iterator[str]:
    if not measurement.stop_reason:
        yield from outcome.unfinished_connections(measurement.outcome)


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


def _limited_links(measurement: Measurement, starved: Mapping[str, int]) -> Iterator[str]:
    """Yield the links that carried less than they should have, for want of CPU time.

    ``starved`` has intervals by link, without links that may have carried less for another reason;
    those are limited where their emulators had none left.
    """
    samples = measurement.samples
    intervals = len(samples.busy)
    full = _unfilled(measurement, samples.cpu.full_emulators, ())
    for link, count in starved.items():
        reason = verify.check_emulator(link, full.pop(link, 0), intervals)
        reason = reason or verify.check_starved(link, count, intervals)
        if reason is not None:
            yield reason
    for link, count in full.items():  # of no path of its own: between switches
        reason = verify.check_emulator(link, count, intervals)
        if reason is not None:
            yield reason


def _full_fabric(scenario: Scenario, measurement: Measurement) -> Iterator[str]:
    """Yield that the fabric was short of CPU time while none of the flows' links was full."""
    samples = measurement.samples
    paths = [path for flow in scenario.flows for path in scenario.paths(flow)]
    shaped = {
        link.name
        for link in (scenario.topology.link(name) for path in paths for name in path.possible)
        if link.forward.rate_bps and link.backward.rate_bps
    }
    full = 0
    for end_ns in samples.cpu.full_fabric:
        rows = samples.rows["links"]
        unfilled = verify.unfilled_intervals({end_ns: shaped}, rows, samples.cpu.most_bps)
        full += shaped <= unfilled.keys()
    reason = verify.check_fabric(full, len(samples.busy))
    if reason is not None:
        yield reason


def _sometimes_limited_links(measurement: Measurement, starved: Mapping[str, int]) -> Iterator[str]:
    intervals = len(measurement.samples.busy)
    for link, count in starved.items():
        if not verify.is_limited(count, intervals):
            yield verify.limited_by_cpu(link, count, intervals)


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
