"""Testbed 1 on a real kernel: builds a scenario's network, verifies it, runs and measures it."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, Limits
from mptcplab.linux.lab.lab import Lab, open_scenario
from mptcplab.linux.lab.supervisor import run_supervised
from mptcplab.linux.measure import validity
from mptcplab.linux.measure.measurement import Measurement
from mptcplab.linux.measure.observer_pipe import Relay, tell
from mptcplab.linux.measure.precheck import Precheck
from mptcplab.linux.measure.unsupported import check_supported
from mptcplab.linux.measure.verify import LATENESS_QUANTILE
from mptcplab.results.observer import Observer, Silent
from mptcplab.results.recording import Recording
from mptcplab.scenario.box_states import idle_boxes, report_boxes
from mptcplab.scenario.flow_limits import flow_limits
from mptcplab.scenario.model import Scenario, Tunables
from mptcplab.scenario.to_json import as_plain
from mptcplab.tuning.config import receive_window


def run(scenario: Scenario, folder: Path, observer: Observer | None = None) -> Path:
    """Run a scenario on this machine's kernel and return the folder of the finished run.

    A stop signal (SIGINT, SIGTERM, SIGHUP) from the first packet on ends it in order, with what was
    measured, as an invalid run; before that Stopped is raised and nothing is left.  Raises
    MachineCannotError and FlowError where this machine cannot do what is asked, UnsupportedError
    where no kernel could.
    """
    check_supported(scenario)
    listener = observer or Silent()
    written: Path = run_supervised(
        lambda send: _run_inside(scenario, folder, Relay(send)), partial(tell, listener)
    )
    return written


def _run_inside(scenario: Scenario, folder: Path, observer: Observer) -> Path:
    """Do the whole run in the supervisor's process, which holds everything that is built."""
    with Recording(folder, "linux", platform.release()) as recording:
        observer.phase("building")
        with open_scenario(scenario) as lab:
            reasons, metadata = _run_on(lab, scenario, recording, observer)
        return recording.finish(as_plain(scenario), metadata, reasons)


def _run_on(
    lab: Lab, scenario: Scenario, recording: Recording, observer: Observer
) -> tuple[list[str], dict[str, Any]]:
    """Verify, measure and judge; return why the run is invalid, and its metadata.

    From the moment at which it measures until it is recorded, a stop signal ends that alone.
    """
    observer.phase("verifying")
    precheck = Precheck(scenario, lab)
    verified = precheck.reasons()
    for reason in verified:  # said before it starts; the run may be stopped
        observer.event(0, reason)
    observer.phase("starting")
    with closing(Measurement(scenario, lab, recording.writer, observer)) as measurement:
        measurement.prepare()
        observer.phase("measuring")
        recording.stop_by(measurement.stop)
        measurement.run()
        reasons, remarks = validity.judge(scenario, measurement, verified)
        boxes = report_boxes(scenario, measurement.apparatus.links.box_tallies())
        notes = [*precheck.notes, *remarks, *idle_boxes(boxes)]
        fabric = [] if lab.fabric is None else [asdict(each) for each in lab.fabric.taken()]
        flows = measurement.apparatus.flows.summary(
            measurement.origin_ns, measurement.samples.watches.stalled_since_ns()
        )
    usage = measurement.usage
    metadata = {
        "measured_ns": measurement.measured_ns,
        "origin_unix_ns": measurement.origin_unix_ns,
        "drivers": {link.name: lab.link(link.name).driver for link in scenario.topology.links},
        "offload": {host.name: host.offload for host in scenario.topology.hosts},
        "trains_per_window": 0,
        "flows": flows,
        "flow_limits": flow_limits(
            scenario,
            {
                flow.name: receive_window(scenario, flow)
                for flow in scenario.flows
                if scenario.topology.host(flow.destination).stack == "ours"
            },
        ),
        "path_manager": {
            host: scenario.tunables.get(host, Tunables()).path_manager
            for host in measurement.apparatus.hosts
        },
        "endpoints": {host: _endpoints(lab, host) for host in measurement.apparatus.hosts},
        "switches": measurement.switches,
        "middleboxes": boxes,
        "fabric": fabric,
        "verified": precheck.results,
        "cpu_busy": [
            [interval.end_ns, round(interval.busy, 4)] for interval in measurement.samples.busy
        ],
        "cpu_s": {name: round(used_ns / 1e9, 3) for name, used_ns in usage.cpu_ns.items()},
        "lateness_max_ns": measurement.samples.late_max_ns,
        "emulator_lateness_p99_ns": {
            link: lateness.quantile_ns(LATENESS_QUANTILE)
            for link, lateness in usage.lateness.items()
        },
        "emulator_lateness_max_ns": {
            link: lateness.max_ns for link, lateness in usage.lateness.items()
        },
        "notes": notes,
    }
    return reasons, metadata


def _endpoints(lab: Lab, host: str) -> dict[str, Any]:
    """Return what ``run.json`` says of a host's endpoints: as given, and as its kernel had them."""
    wanted = lab.plans[host]
    result = _as_plain(wanted.endpoints, wanted.limits)
    read_back = None if wanted.read_back is None else _as_plain(*wanted.read_back)
    return result | {"read_back": read_back}


def _as_plain(endpoints: Iterable[Endpoint], limits: Limits) -> dict[str, Any]:
    return {
        "endpoints": [
            {
                "address": str(each.address),
                "flags": [flag.name.lower() for flag in Flags if flag in each.flags and flag.name],
                "port": each.port or None,
            }
            for each in endpoints
        ],
        "limits": {
            "subflows": limits.subflows,
            "add_addr_accepted": limits.add_addr_accepted,
        },
    }
