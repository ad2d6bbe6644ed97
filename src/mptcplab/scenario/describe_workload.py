"""What an application does, in words."""

from __future__ import annotations

from collections.abc import Callable

from mptcplab.applications.distributions import Distribution
from mptcplab.applications.workloads import (
    Command,
    GridFtp,
    Messages,
    RequestResponse,
    Video,
    Web,
    Workload,
)
from mptcplab.units import format_duration, format_rate, format_size


def workload_text(workload: Workload) -> str:
    """Return one phrase on an application: its sizes, its times, its connections."""
    if isinstance(workload, Command):
        served = f", served by {workload.server_command!r}" if workload.server_command else ""
        return f"{workload.command!r}{served}"
    if isinstance(workload, GridFtp):
        how = "a download" if workload.download else "an upload"
        streams = f"{workload.streams} streams" if workload.streams > 1 else "one stream"
        return f"{how} by {streams}{' for each stripe, striped' if workload.striped else ''}"
    if isinstance(workload, Messages):
        parts = [f"messages of {_sizes(workload.message)} at {format_rate(workload.rate_bps)}"]
        if workload.on is not None and workload.off is not None:
            parts.append(f"on for {_times(workload.on)}, off for {_times(workload.off)}")
    elif isinstance(workload, Video):
        rates = ", ".join(map(format_rate, workload.ladder_bps))
        parts = [
            f"chunks of {format_duration(workload.chunk_ns)} at {rates}",
            f"a playout buffer of {format_duration(workload.playout_buffer_ns)}",
        ]
    elif isinstance(workload, Web):
        parts = [
            f"pages of {_sizes(workload.response)} and {workload.objects} objects of "
            f"{_sizes(workload.object_size)}",
            f"{_times(workload.think)} between them",
            _kept(workload.persistent),
        ]
    else:
        parts = _requests(workload)
    if workload.count is not None:
        parts.append(f"{workload.count} in all")
    return ", ".join(parts)


def _requests(workload: RequestResponse) -> list[str]:
    parts = [
        f"requests of {_sizes(workload.request)}, responses of {_sizes(workload.response)}",
        _kept(workload.persistent),
    ]
    if workload.arrivals is not None:
        parts.append(f"{_times(workload.arrivals)} from one to the next")
    elif workload.arrival_times:
        parts.append(f"{len(workload.arrival_times)} times of arrival")
    else:
        parts.append(f"thinks for {_times(workload.think)}")
    return parts


def _kept(persistent: bool) -> str:
    return "connections kept" if persistent else "a new connection for each"


def _sizes(sizes: Distribution) -> str:
    return _text(sizes, format_size)


def _times(times: Distribution) -> str:
    return _text(times, format_duration)


def _text(values: Distribution, shown: Callable[[int], str]) -> str:
    first = shown(round(values.first))
    if values.kind == "uniform":
        return f"{first} to {shown(round(values.second))}"
    if values.kind == "exponential":
        return f"{first} in the mean (exponential)"
    if values.kind == "pareto":
        return f"{first} at least (pareto, shape {values.second:g})"
    if values.kind == "lognormal":
        return f"{first} in the median (lognormal, sigma {values.second:g})"
    if values.kind == "values":
        return f"a file of {len(values.values)}"
    return first
