"""The testbed of real hosts: sets them up over SSH, runs and measures a scenario, and undoes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from mptcplab.applications.workloads import Messages
from mptcplab.linux.measure import outcome, verify
from mptcplab.linux.traffic.iperf3 import check_buffers
from mptcplab.linux.traffic.plan import FlowError
from mptcplab.network.topology import InterfaceEnd
from mptcplab.remote.clocks import Clock, compare_clocks
from mptcplab.remote.errors import HostsInputError
from mptcplab.remote.fleet import Fleet, hosts_of
from mptcplab.remote.measurement import RemoteMeasurement
from mptcplab.remote.netem import is_made, netem_problems
from mptcplab.remote.set_up import ends_of
from mptcplab.results.observer import Observer, Silent
from mptcplab.results.recording import Recording
from mptcplab.scenario.flow_limits import flow_limits
from mptcplab.scenario.kernel_limits import beyond_kernels
from mptcplab.scenario.model import Scenario, Tunables
from mptcplab.scenario.schema.keys import COUPLED, SIMULATED_CONGESTION
from mptcplab.scenario.to_json import as_plain

_LATENESS_TOLERANCE: Final = 0.5  # of an interval: a sampler later than this has lost its rhythm
_INSTEAD: Final = "or another testbed"


def run(scenario: Scenario, folder: Path, observer: Observer | None = None) -> Path:
    """Run a scenario on its real hosts and return the folder of the finished run.

    A stop signal from the first packet on ends it in order, with what was measured, as an invalid
    run.  Whatever happens, the hosts are as they were at the end.  Raises HostsInputError for what
    real hosts cannot do, HostsError where a host cannot be used or refuses.
    """
    check_supported(scenario)
    listener = observer or Silent()
    with Recording(folder, "hosts") as recording:  # kernels are told with their hosts
        listener.phase("connecting")
        with Fleet(scenario) as fleet:
            listener.phase("building")
            fleet.look()
            fleet.set_up()
            reasons, metadata = _run_on(fleet, recording, listener)
        return recording.finish(as_plain(scenario), metadata, reasons)


def check_supported(scenario: Scenario) -> None:
    """Raise HostsInputError, a line for each thing, where real hosts cannot do what is asked."""
    hosts_of(scenario)
    problems = [f"{scenario.source}: {problem}" for problem in _problems(scenario)]
    if problems:
        raise HostsInputError("\n".join(dict.fromkeys(problems)))


def _problems(scenario: Scenario) -> Iterator[str]:
    yield from (f"{problem}, {_INSTEAD}" for problem in beyond_kernels(scenario))
    for flow in scenario.flows:
        if flow.application == "gridftp":
            yield (
                f'flows.{flow.name}.application: "gridftp" runs on hosts of a lab, where its '
                'servers share a file in memory; expected "striped", a command of your own '
                '(application = "command"), or --on linux'
            )
        if flow.application == "iperf3":
            try:
                check_buffers(flow)
            except FlowError as error:
                yield str(error)
        if flow.protocol == "sctp":
            yield (
                f'flows.{flow.name}.protocol: "sctp" runs on hosts of a lab; expected "mptcp" or '
                '"tcp", or --on linux'
            )
        if ":" in flow.congestion or flow.congestion in (*COUPLED, *SIMULATED_CONGESTION):
            yield (
                f'flows.{flow.name}.congestion: "{flow.congestion}" is none of real hosts\' '
                f'kernels; expected one of theirs, such as "cubic", {_INSTEAD}'
            )
        if not scenario.paths(flow):
            yield f"flows.{flow.name}: no path between its hosts over the links it may use"
    for host in hosts_of(scenario):
        settings = scenario.tunables.get(host.name, Tunables())
        if host.stack != "kernel":
            yield f'hosts.{host.name}.stack: real hosts use their own kernel; expected "kernel"'
        if settings.enabled and settings.version != 1:
            yield f"tunables.version: kernels speak version 1 (RFC 8684) alone, {_INSTEAD}"
        if ":" in settings.path_manager:
            yield (
                f'tunables.path_manager: "{settings.path_manager}" is a class for mptcplab\'s own '
                f'stack; expected "link-aware" or "kernel", {_INSTEAD}'
            )
    yield from netem_problems(scenario, {host.name for host in hosts_of(scenario)})
    yield from _impossible_actions(scenario)
    for link in scenario.topology.links:
        if link.boxes:
            yield f"links.{link.name}.middleboxes: what real links do is theirs, {_INSTEAD}"


def _impossible_actions(scenario: Scenario) -> Iterator[str]:
    real = {host.name for host in hosts_of(scenario)}
    for action in scenario.timeline:
        if is_made(scenario, action):
            continue
        if action.verb == "set" or action.target_kind == "middlebox":
            yield (
                f"timeline: {action.verb} of {action.target}: a real link is what it is; expected "
                "up and down, flows and endpoints; delay, jitter and loss of a link with driver = "
                f'"netem"; {_INSTEAD[3:]}'
            )
        elif action.target_kind in ("link", "nic"):
            ends = ends_of(scenario, action.target, action.target_kind)
            yield from _unreachable(f"timeline: {action.verb} of {action.target}", ends, real)
    for each in scenario.topology.links:
        if not each.up:
            ends = ends_of(scenario, each.name, "link")
            yield from _unreachable(f"links.{each.name}.up: false", ends, real)


def _unreachable(what: str, ends: list[InterfaceEnd], real: set[str]) -> Iterator[str]:
    if not any(end.host in real for end in ends):
        yield f"{what}: no interface of a host with `ssh` is at its ends, {_INSTEAD}"


def _run_on(
    fleet: Fleet, recording: Recording, observer: Observer
) -> tuple[list[str], dict[str, Any]]:
    """Measure and judge; return why the run is invalid, and its metadata."""
    scenario = fleet.scenario
    clocks = {name: compare_clocks(line) for name, line in fleet.lines.items()}
    observer.phase("starting")
    with closing(RemoteMeasurement(fleet, clocks, recording.writer, observer)) as measurement:
        measurement.prepare()
        observer.phase("measuring")
        recording.stop_by(measurement.stop)
        measurement.run()
        after = {} if measurement.lost else {n: compare_clocks(i) for n, i in fleet.lines.items()}
        reasons = list(_reasons(scenario, measurement))
        flows = measurement.flows.summary(
            measurement.origin_ns, measurement.samples.watches.stalled_since_ns()
        )
        notes = [
            *fleet.notes(),
            *_unanswered(scenario, measurement),
            *_notes(scenario, measurement, clocks, after),
        ]
    metadata = {
        "measured_ns": measurement.measured_ns,
        "origin_unix_ns": measurement.origin_unix_ns,
        "drivers": {
            link.name: "netem" if link.driver == "netem" else "real"
            for link in scenario.topology.links
        },
        "trains_per_window": 0,
        "flows": flows,
        "verified": [
            {"links": [link], "rtt_ns": rtt_ns} for link, rtt_ns in measurement.rtt_ns.items()
        ],
        "flow_limits": flow_limits(scenario, {}),
        "hosts": {
            name: {key: facts[key] for key in ("hostname", "kernel", "python")}
            | {
                "ssh": scenario.ssh[name],
                "interfaces": fleet.set_ups[name].interfaces,
                "changes": [str(step) for step in fleet.set_ups[name].steps],
                "clock": clocks[name].plain(),
                "clock_at_end": after[name].plain() if name in after else None,
            }
            for name, facts in fleet.facts.items()
        },
        "path_manager": {
            name: scenario.tunables.get(name, Tunables()).path_manager for name in fleet.set_ups
        },
        "cpu_busy": [
            [interval.end_ns, round(interval.busy, 4)] for interval in measurement.samples.busy
        ],
        "lateness_max_ns": measurement.late_max_ns,
        "notes": notes,
    }
    return reasons, metadata


def _reasons(scenario: Scenario, measurement: RemoteMeasurement) -> Iterator[str]:
    yield from measurement.lost
    if measurement.stop_reason:
        yield f"stopped by {measurement.stop_reason} at {measurement.measured_ns / 1e9:.1f} s"
    elif not measurement.lost:
        for _, judgement in measurement.samples.watches.judgements():
            if judgement.reason:
                yield judgement.reason
    for interface in measurement.lost_captures():
        yield f"the capture on {interface} ended before the run did"
    yield from (text for _, text in outcome.broken_connections(measurement.outcome))
    yield from (text for _, text in outcome.missing_subflows(measurement.outcome))
    late_ns = max(measurement.late_max_ns, measurement.timeline.late_max_ns)
    if late_ns > scenario.interval_ns * _LATENESS_TOLERANCE:
        yield (
            f"samples or the timeline were late by up to {late_ns / 1e6:.0f} ms, of an interval of "
            f"{scenario.interval_ns / 1e6:g} ms"
        )
    for failure in measurement.timeline.failures:
        yield f"an action of the timeline failed: {failure}"


def _unanswered(scenario: Scenario, measurement: RemoteMeasurement) -> Iterator[str]:
    links = {
        scenario.topology.bottleneck(path)
        for flow in scenario.flows
        for path in scenario.paths(flow)
    }
    for link in sorted(links - measurement.rtt_ns.keys()):
        if scenario.topology.link(link).up:
            yield f"{link}: no echo was answered before the run, so it has no round trips"


def _notes(
    scenario: Scenario,
    measurement: RemoteMeasurement,
    before: Mapping[str, Clock],
    after: Mapping[str, Clock],
) -> Iterator[str]:
    if not measurement.stop_reason and not measurement.lost:
        yield from outcome.unfinished_connections(measurement.outcome)
    if any(isinstance(flow.workload, Messages) for flow in scenario.flows):
        error_ns = max((clock.error_ns for clock in before.values()), default=0)
        yield (
            "delays of messages are from one host's clock to another's, which are compared to "
            f"{2 * error_ns / 1e6:.3f} ms"
        )
    for name, clock in after.items():
        drift_ns = abs(clock.offset_ns - before[name].offset_ns)
        error_ns = clock.error_ns + before[name].error_ns
        if drift_ns > error_ns:
            yield (
                f"{name}: its clock moved by {drift_ns / 1e6:.3f} ms against this machine's during "
                "the run; times of its rows are by the clock of the beginning"
            )
    busy = [interval for interval in measurement.samples.busy if interval.busy >= verify.BUSY]
    if busy:
        count = len(measurement.samples.busy)
        yield f"a host's processors were all busy in {len(busy)} of {count} intervals"
