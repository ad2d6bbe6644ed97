"""Recorded capacities: from the files that links name to rates over time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any, Final

from mptcplab.network.impairments import CapacityTrace
from mptcplab.network.topology import ETHERNET_HEADER_BYTES
from mptcplab.scenario.errors import Path, Problems
from mptcplab.scenario.schema.source_files import Source, is_file
from mptcplab.scenario.schema.value_kinds import MAX_DURATION_NS, MAX_RATE_BPS
from mptcplab.units import (
    UnitError,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
)

MAX_TRACE_BYTES: Final = 16 << 20
MAX_STEPS: Final = 1_000_000
LEAST_STEP_NS: Final = 1_000_000
"""Between two changes of a rate; mahimahi's files have whole milliseconds."""
OPPORTUNITY_BYTES: Final = 1500 + ETHERNET_HEADER_BYTES
"""What a line of mahimahi's stands for: a packet of 1,500 bytes, here in its frame."""
_LONGEST_NUMBER: Final = 20

Values = dict[str, Any]


class TraceError(ValueError):
    """A file that is no trace; ``expected`` says what it should be."""

    exit_status = 2  # bad input

    def __init__(self, problem: str, expected: str) -> None:
        super().__init__(problem)
        self.expected = expected


def read_traces(values: Values, source: Source, problems: Problems) -> None:
    """Put the trace that each ``trace`` names in its place, or None and an error.

    A name is relative to the file that it stands in; one given by ``--set``, to the scenario.
    """
    for table, path in _with_traces(values):
        name = table["trace"]
        if not isinstance(name, str):
            continue
        table["trace"] = None
        if table.get("rate") is not None:
            continue  # an error of its own
        origin = source.origin(path)
        if origin not in (source.file, source.topology_file):
            origin = source.file
        file = FilePath(origin).parent / name
        try:
            if not is_file(file):
                raise TraceError("there is no such file", f"a trace relative to {file.parent}")
            stamp = file.stat()
            table["trace"] = _read(file, name, stamp.st_mtime_ns, stamp.st_size)
        except OSError as error:
            problems.add(path, f'"{name}" cannot be read: {error.strerror}', "a trace")
        except TraceError as error:
            problems.add(path, f'"{name}": {error}', error.expected)


def _with_traces(values: Values) -> Iterator[tuple[Values, Path]]:
    """Yield every table that may have a trace, and the path of that key."""
    for name, link in values["links"].items():
        for place in ((), ("forward",), ("backward",)):
            table = link[place[0]] if place else link
            if table is not None:
                yield table, ("links", name, *place, "trace")
    for number, row in enumerate(values.get("timeline", ())):
        yield row, ("timeline", str(number), "trace")


@lru_cache(maxsize=32)
def _read(file: FilePath, name: str, _changed_ns: int, _size: int) -> CapacityTrace:
    """Return a file's trace; read again where it has changed. Raises TraceError and OSError.

    Errors say where the file is wrong and not what it holds: a scenario may name any file.
    """
    with file.open("rb") as opened:
        content = opened.read(MAX_TRACE_BYTES + 1)
    if len(content) > MAX_TRACE_BYTES:
        raise TraceError(f"is larger than {format_size(MAX_TRACE_BYTES)}", "a shorter trace")
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        raise TraceError(f"byte {error.start} is not ASCII text", _FORMATS) from error
    steps, period_ns = parse_trace(text)
    digest = hashlib.sha256(content).hexdigest()
    # A rate that stays the same has no period that matters.
    return CapacityTrace(steps, period_ns if len(steps) > 1 else None, name, digest)


_FORMATS: Final = (
    "a line for each packet, with its time in whole ms (mahimahi), or lines TIME,RATE (CSV)"
)


def parse_trace(text: str) -> tuple[tuple[tuple[int, int], ...], int]:
    """Return the steps and the period (ns) of a trace; raises TraceError."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise TraceError("is empty", _FORMATS)
    steps, period_ns = _rows(lines) if "," in lines[0][1] else _opportunities(lines)
    if period_ns > MAX_DURATION_NS:
        raise TraceError(f"lasts {format_duration(period_ns)}", "1000 hours at most")
    if not any(rate_bps for _, rate_bps in steps):
        raise TraceError("has no rate above 0", "a rate above 0 at some time")
    if len(steps) > MAX_STEPS:
        raise TraceError(f"has {len(steps)} changes of the rate", f"{MAX_STEPS} at most")
    fastest = max(rate_bps for _, rate_bps in steps)
    if fastest > MAX_RATE_BPS:
        raise TraceError(f"has a rate of {format_rate(fastest)}", "100 Tb/s at most")
    return tuple(steps), period_ns


def _opportunities(lines: list[tuple[int, str]]) -> tuple[list[tuple[int, int]], int]:
    """Return steps and period of mahimahi's format: the times at which a packet may leave (ms).

    Between two times the rate is such that as many packets as leave at the later one are sent just
    then. The file starts over at its last time, so a packet at 0 is one of that time.
    """
    packets: dict[int, int] = {}
    before = 0
    for number, line in lines:
        if len(line) > _LONGEST_NUMBER or not line.isdigit():
            raise TraceError(f"line {number} is no whole number of ms", _FORMATS)
        at_ms = int(line)
        if at_ms < before:
            raise TraceError(
                f"the time in line {number} is before that of the line before", "times in order"
            )
        packets[at_ms] = packets.get(at_ms, 0) + 1
        before = at_ms
    at_start = packets.pop(0, 0)
    if not packets:
        raise TraceError("ends at 0 ms", "a time above 0 in the last line")
    packets[before] += at_start
    steps: list[tuple[int, int]] = []
    since_ms = 0
    for at_ms, count in packets.items():
        rate_bps = round(count * OPPORTUNITY_BYTES * 8 * 1000 / (at_ms - since_ms))
        _add(steps, since_ms * 1_000_000, rate_bps)
        since_ms = at_ms
    return steps, before * 1_000_000


def _rows(lines: list[tuple[int, str]]) -> tuple[list[tuple[int, int]], int]:
    """Return steps and period of a CSV file: times, and the rate from each on.

    The last row lasts as long as the one before it, unless it has no rate: then it is the end.
    """
    if [cell.strip().lower() for cell in lines[0][1].split(",")] == ["time", "rate"]:
        lines = lines[1:]
    steps: list[tuple[int, int]] = []
    before_ns, lasts_ns = -LEAST_STEP_NS, 0
    for place, (number, line) in enumerate(lines):
        cells = [cell.strip() for cell in line.split(",")]
        is_end = place > 0 and place == len(lines) - 1 and cells[1:] in ([], [""])
        try:
            if len(cells) != 2 and not is_end:
                raise UnitError
            at_ns = parse_duration(cells[0])
            rate_bps = 0 if is_end else parse_rate(cells[1])
        except UnitError:
            raise TraceError(
                f"line {number} is no time and rate", 'TIME,RATE such as "1.5s,20Mb/s" or "1.5,2e7"'
            ) from None
        if place == 0 and at_ns:
            raise TraceError(f"begins at {format_duration(at_ns)}", "0 as the first time")
        lasts_ns = at_ns - before_ns
        if lasts_ns < LEAST_STEP_NS:
            raise TraceError(
                f"the time in line {number} is not after that of the line before by 1 ms or more",
                "times in order, 1 ms apart at least",
            )
        before_ns = at_ns
        if is_end:
            return steps, at_ns
        _add(steps, at_ns, rate_bps)
    if not steps:
        raise TraceError("has no row", _FORMATS)
    return steps, before_ns + lasts_ns


def _add(steps: list[tuple[int, int]], at_ns: int, rate_bps: int) -> None:
    """Add a step, unless the rate stays what it is."""
    if not steps or steps[-1][1] != rate_bps:
        steps.append((at_ns, rate_bps))
