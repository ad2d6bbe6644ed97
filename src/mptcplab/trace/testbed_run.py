"""A run of mptcplab: its captures, and the events that it recorded, on one clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mptcplab.results.run import Run
from mptcplab.trace.files.batch import CaptureError
from mptcplab.trace.trace import Trace

_SUFFIXES: Final = (".pcap", ".pcapng", ".pcap.gz", ".pcapng.gz", ".pcap.zst", ".pcapng.zst")
_SIMULATED_BEFORE_NS: Final = 10**9 * 86_400 * 365
"""Captures whose clock starts at 1970 are of simulated time."""


@dataclass(slots=True)
class RunEvent:
    """A row of a run's events, on the capture's clock."""

    time_ns: int
    source: str
    text: str


def is_run(path: Path) -> bool:
    """Tell whether a path is a run's folder."""
    return path.is_dir() and (path / "run.json").exists()


def run_captures(folder: Path) -> dict[str, list[Path]]:
    """Return a run's captures by host; raises ``CaptureError`` where there are none.

    The simulated testbed writes a file for each host, the Linux testbed one for each interface.
    """
    captures = sorted(path for path in folder.iterdir() if path.name.endswith(_SUFFIXES))
    if not captures:
        raise CaptureError(
            f"{folder}: the run has no captures; name interfaces to capture on in the scenario, "
            'as in captures = ["client:eth1"], and run it again'
        )
    scenario = Run(folder).metadata.get("scenario")
    asked = scenario.get("captures") if isinstance(scenario, dict) else None
    ends = [end for end in asked if isinstance(end, str)] if isinstance(asked, list) else []
    host_of = {end.replace(":", "-"): end.partition(":")[0] for end in ends}
    hosts: dict[str, list[Path]] = {}
    for path in captures:
        suffix = next(suffix for suffix in _SUFFIXES if path.name.endswith(suffix))
        stem = path.name.removesuffix(suffix)
        hosts.setdefault(host_of.get(stem, stem), []).append(path)
    return hosts


def run_events(folder: Path, trace: Trace) -> list[RunEvent]:
    """Return the run's events on the clock of a capture of it.

    The clock of a simulation is the run's own.  A real run says in ``run.json`` when its time was 0
    (``origin_unix_ns``); without that, its first MPTCP event is taken to be the first connection.
    """
    run = Run(folder)
    rows = run.rows("events")
    origin = _origin_ns(run, rows, trace)
    return [RunEvent(origin + int(row["time_ns"]), str(row["source"]), _text(row)) for row in rows]


def _origin_ns(run: Run, rows: list[dict[str, Any]], trace: Trace) -> int:
    stated = run.metadata.get("origin_unix_ns")
    if isinstance(stated, int):
        return stated
    if trace.first_ns < _SIMULATED_BEFORE_NS:
        return 0
    firsts = [int(row["time_ns"]) for row in rows if row["source"] in ("path-manager", "mptcp")]
    if firsts and trace.connections:
        return trace.connections[0].start_ns - min(firsts)
    return trace.first_ns


def _text(row: dict[str, Any]) -> str:
    words = [str(row["event"])]
    for name in ("host", "flow", "connection", "subflow", "link"):
        value = row[name]
        if value is not None and not (name == "connection" and value == 0):
            words.append(f"{name} {value}")
    return " ".join(words) + (f": {row['detail']}" if row["detail"] else "")
