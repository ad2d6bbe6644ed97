"""Testbed 1 on a real kernel: builds a scenario's network, verifies it, runs and measures it."""

from __future__ import annotations

import platform
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

from mptcplab import __version__
from mptcplab.linux.drivers.driver import DIRECTIONS
from mptcplab.linux.lab.lab import Lab, open_scenario
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.linux.measure import verify
from mptcplab.linux.measure.measurement import Measurement
from mptcplab.linux.measure.observer_pipe import Relay, tell
from mptcplab.linux.measure.precheck import Precheck
from mptcplab.linux.measure.unsupported import check_supported
from mptcplab.results.observer import Observer, Silent
from mptcplab.results.writer import RunWriter
from mptcplab.scenario.model import Expectation, Scenario, Tunables
from mptcplab.scenario.to_json import as_plain

LATENESS_TOLERANCE: Final = 0.5  # of an interval: a sampler later than this has lost its rhythm
_SETTLED_NS: Final = 2_000_000_000


def run(scenario: Scenario, folder: Path, observer: Observer | None = None) -> Path:
    """Run a scenario on this machine's kernel and return the folder of the finished run.

    SIGINT and SIGTERM while it measures end it in order, with what was measured, as an invalid
    run; before that KeyboardInterrupt is raised and nothing is left.  Raises MachineCannotError and
    FlowError where this machine cannot do what is asked, UnsupportedError where no kernel could.
    """
    check_supported(scenario)
    listener = observer or Silent()
    written: Path = run_supervised(
        lambda send: _run_inside(scenario, folder, Relay(send)), partial(tell, listener)
    )
    return written


def _run_inside(scenario: Scenario, folder: Path, observer: Observer) -> Path:
    """Do the whole run in the supervisor's process, which holds everything that is built."""
    started, clock_ns = datetime.now(UTC), time.monotonic_ns()
    writer = RunWriter(folder)
    try:
        observer.phase("building")
        with open_scenario(scenario) as lab:
            reasons, metadata = _run_on(lab, scenario, writer, observer)
        metadata |= {
            "scenario": as_plain(scenario),
            "testbed": "linux",
            "started": started.isoformat(timespec="seconds"),
            "wall_s": (time.monotonic_ns() - clock_ns) / 1e9,
            "versions": {
                "mptcplab": __version__,
                "python": platform.python_version(),
                "kernel": platform.release(),
            },
        }
        writer.metadata(metadata)
        return writer.finish(valid=not reasons, reasons=reasons)
    except BaseException:
        writer.abandon()
        raise


def _run_on(
    lab: Lab,
    scenario: Scenario,
    writer: RunWriter,
    observer: Observer,
) -> tuple[list[str], dict[str, Any]]:
    """Verify, measure and judge; return why the run is invalid, and its metadata."""
    observer.phase("verifying")
    precheck = Precheck(scenario, lab)
    reasons = precheck.reasons()
    measurement = Measurement(scenario, lab, writer, observer)
    try:
        observer.phase("starting")
        measurement.prepare()
        observer.phase("measuring")
        with _stopping(measurement.stop):
            measurement.run()
        more, notes = judge(scenario, measurement)
        flows = measurement.flows.summary(measurement.origin_ns)
    finally:
        measurement.close()
    metadata = {
        "measured_ns": measurement.measured_ns,
        "origin_unix_ns": measurement.origin_unix_ns,
        "drivers": {link.name: lab.link(link.name).driver for link in scenario.topology.links},
        "flows": flows,
        "path_manager": {
            host: scenario.tunables.get(host, Tunables()).path_manager for host in measurement.hosts
        },
        "verified": precheck.found,
        "cpu_busy": [[each.end_ns, round(each.busy, 4)] for each in measurement.busy],
        "cpu_s": {name: round(used / 1e9, 3) for name, used in measurement.cpu_ns.items()},
        "lateness_max_ns": measurement.loop.lateness_max_ns,
        "emulator_lateness_p99_ns": {
            name: lateness.quantile_ns(verify.LATENESS_QUANTILE)
            for name, lateness in measurement.lateness.items()
        },
        "notes": [*lab.notes, *notes],
    }
    return reasons + more, metadata


def judge(scenario: Scenario, measurement: Measurement) -> tuple[list[str], list[str]]:
    """Return why a finished measurement is not what was asked for, and what else to know of it."""
    reasons: list[str] = []
    notes: list[str] = []
    if measurement.stop_reason:
        at_s = measurement.measured_ns / 1e9
        reasons.append(f"stopped by {measurement.stop_reason} at {at_s:.1f} s")
    for connection in measurement.flows.connections():
        name = f"flow {connection.flow.name} connection {connection.index}"
        reasons += [f"{name}: {error}" for error in connection.errors]
        if connection.protocol == "fallback":
            reasons.append(f"{name}: fell back to TCP")
        elif connection.protocol is None and not connection.errors:
            reasons.append(f"{name}: never connected")
        elif connection.checked and connection.intact is None and not measurement.stop_reason:
            notes.append(f"{name}: what it had sent did not all arrive before the run was over")
        elif connection.intact is False and not connection.errors:
            reasons.append(
                f"{name}: {connection.bytes_sent} bytes sent, {connection.bytes_received} received"
            )
    rows = measurement.rows
    for flow in scenario.flows:
        expected = _expected_links(scenario, measurement, flow.name)
        reasons += verify.check_subflows(flow, expected, rows["subflows"])
    reasons += verify.check_overshoot(rows["links"])
    late_ns = measurement.loop.lateness_max_ns
    if late_ns > scenario.interval_ns * LATENESS_TOLERANCE:
        reasons.append(
            f"the sampler was late by up to {late_ns / 1e6:.0f} ms, of an interval of "
            f"{scenario.interval_ns / 1e6:g} ms"
        )
    topology = scenario.topology
    for name, lateness in measurement.lateness.items():
        late = verify.check_lateness(
            topology.link(name), lateness.quantile_ns(verify.LATENESS_QUANTILE)
        )
        reasons += [late] if late else []
    stages = scenario.stages()
    rates = {each: _found_bps(rows, each, stages) for each in scenario.expectations}
    known = {each: rate for each, rate in rates.items() if rate is not None}
    reasons += verify.check_cpu(measurement.busy, scenario.expectations, stages, known)
    used = {link for flow in scenario.flows for each in scenario.paths(flow) for link in each.links}
    filled = [row for row in rows["links"] if row["link"] in used]
    for link, count in verify.cpu_limited_links(measurement.busy, filled).items():
        notes.append(
            f"{link}: the CPU was the limit in {count} of {len(measurement.busy)} intervals"
        )
    dropped = (verify.note_dropped_data(*each) for each in measurement.counters.items())
    notes += [note for note in dropped if note is not None]
    ordinary = [name for name, each in measurement.links.emulators().items() if not each.realtime]
    if ordinary:
        notes.append(
            f"{', '.join(ordinary)}: the emulator had no real-time priority (SCHED_FIFO needs "
            "CAP_SYS_NICE, and cpu.rt_runtime_us in its control group), so other programs make it "
            "late"
        )
    return reasons, notes


def _found_bps(
    rows: Mapping[str, list[dict[str, Any]]],
    expectation: Expectation,
    stages: Sequence[tuple[int, int]],
) -> float | None:
    """Return what was measured of what an expectation is about: "total", a flow or a link."""
    start_ns, end_ns = verify.extent(expectation, stages)
    of = expectation.of
    flows = [row for row in rows["flows"] if of in ("total", row["flow"])]
    if flows:
        return verify.mean_bps(flows, "bytes", start_ns, end_ns)
    found = [
        verify.mean_bps(
            (row for row in rows["links"] if (row["link"], row["direction"]) == (of, direction)),
            "tx_bytes",
            start_ns,
            end_ns,
        )
        for direction in DIRECTIONS
    ]
    return max((rate for rate in found if rate is not None), default=None)


def _expected_links(scenario: Scenario, measurement: Measurement, flow_name: str) -> list[str]:
    """Return the links that were up long enough, while a flow ran, for its subflow to be there."""
    flow = next(each for each in scenario.flows if each.name == flow_name)
    stop_ns = min(flow.stop_ns or scenario.duration_ns, measurement.measured_ns)
    needed_ns = _SETTLED_NS
    longest: dict[str, int] = {}
    current: dict[str, int] = {}
    for row in measurement.rows["links"]:
        if row["direction"] != "forward" or not flow.start_ns < row["time_ns"] <= stop_ns:
            continue
        link = row["link"]
        current[link] = current.get(link, 0) + row["interval_ns"] if row["up"] else 0
        longest[link] = max(longest.get(link, 0), current[link])
    found: dict[str, None] = {}
    for path in scenario.expected_subflows(flow):
        link = measurement.identities.link_of(path)
        rtt_ns = verify.configured_rtt_ns(scenario.topology, path)[0]
        if longest.get(link, 0) >= needed_ns + 4 * rtt_ns:
            found[link] = None
    return list(found)


@contextmanager
def _stopping(stop: Callable[[str], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM ask for an end in order instead of raising."""

    def handle(number: int, _frame: FrameType | None) -> None:
        stop(signal.Signals(number).name)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
