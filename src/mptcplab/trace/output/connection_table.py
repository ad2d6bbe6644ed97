"""Many connections at a glance: what a capture holds, a table of connections, floods summed up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from mptcplab.trace.columns.sorting import median
from mptcplab.trace.connections.model import Connection
from mptcplab.trace.files.batch import Damage
from mptcplab.trace.files.sources import source_name
from mptcplab.trace.trace import Trace
from mptcplab.units import format_duration, format_rate, format_size

MOST_EXPLAINED: Final = 10
"""Captures with more connections get a table instead of an explanation of each."""
DEFAULT_ROWS: Final = 50
_LISTED_REASONS: Final = 5

_KEYS: Final[dict[str, Callable[[Connection], Any]]] = {
    "connection": lambda connection: connection.number,
    "start": lambda connection: connection.start_ns,
    "duration": lambda connection: connection.start_ns - connection.end_ns,
    "subflows": lambda connection: -len(connection.subflows),
    "uploaded": lambda connection: -connection.side_bytes(0),
    "downloaded": lambda connection: -connection.side_bytes(1),
    "bytes": lambda connection: -connection.bytes,
    "rate": lambda connection: -_bps(connection),
    "reinjected": lambda connection: -_reinjected(connection),
    "retransmitted": lambda connection: -_retransmitted(connection),
    "handshake": lambda connection: -connection.subflows[0].handshake_ns,
    "rtt": lambda connection: -_rtt_ns(connection),
}
SORT_KEYS: Final = tuple(_KEYS)
"""What the table may be sorted by; all but the first two from the largest on."""


def capture_lines(trace: Trace) -> Iterator[str]:
    """Yield what the capture is, how much of it there is and what was left out."""
    names = [source_name(path) if path.name == "-" else path.name for path in trace.paths]
    if len(names) > 4:
        names = [names[0], f"... {len(names) - 2} more ...", names[-1]]
    duration = format_duration(max(0, trace.last_ns - trace.first_ns), 3)
    yield f"{', '.join(names)}: {trace.packets:,} packets in {duration}"
    yield (
        f"{count(len(trace.connections), 'MPTCP connection')}, "
        f"{count(len(trace.subflows), 'subflow')}; "
        f"{trace.reading.tcp_segments:,} TCP segments in all"
    )
    ignored = trace.reading.placer.table.ignored_segments
    if ignored:
        yield f"{ignored:,} segments of further subflows were not followed: there are too many"
    copies = trace.reading.placer.copies
    if copies.count:
        between = ", with a router between them" if copies.across_hops else ""
        yield f"{copies.count:,} packets were captured twice{between}: each counts once"
    cut_off = trace.reading.decoder.cut_off
    if cut_off:
        yield f"{cut_off:,} TCP segments end within their header: the snap length is too short"
    for kind, packets in sorted(trace.reading.decoder.unknown_links.items()):
        yield (
            f"{count(packets, 'packet')} left out: LINKTYPE {kind}, a link layer that is not read "
            "(tcpdump.org/linktypes.html has its name)"
        )
    yield from malformed_lines(trace.malformed)


def count(number: int, what: str) -> str:
    """Return a number of things, in the plural unless it is one."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def malformed_lines(malformed: list[Damage]) -> Iterator[str]:
    """Yield the reasons why packets were left out, one line a reason, however many there are.

    Reasons that differ in their numbers alone are one.
    """
    if not malformed:
        return
    kinds: dict[str, list[Damage]] = {}
    for damage in malformed:
        kinds.setdefault(re.sub(r"\d[\dxa-f]*", "#", damage.reason), []).append(damage)
    yield f"{count(len(malformed), 'malformed packet')}:"
    ordered = sorted(kinds.values(), key=lambda each: (-len(each), each[0].number))
    for each in ordered[:_LISTED_REASONS]:
        if len(each) == 1:
            yield f"  packet {each[0].number}: {each[0].reason}"
            continue
        alike = len({damage.reason for damage in each}) == 1
        text = each[0].reason if alike else f"such as: {each[0].reason}"
        yield f"  {len(each):,} packets, {each[0].number} to {each[-1].number}: {text}"
    rest = sum(len(each) for each in ordered[_LISTED_REASONS:])
    if rest:
        yield f"  {rest:,} for other reasons; --json lists them all"


def summary_line(trace: Trace) -> str:
    """Return one line over all connections: how many there are of which kind, and their data."""
    connections = trace.connections
    parts = [count(len(connections), "connection")]
    for number, what in (
        (sum(connection.complete_handshake for connection in connections), "complete"),
        (sum(not connection.saw_syn for connection in connections), "without their start"),
        (
            sum(
                connection.saw_syn and not connection.complete_handshake
                for connection in connections
            ),
            "with an incomplete handshake",
        ),
        (sum(connection.fallback for connection in connections), "fell back to TCP"),
        (sum(len(connection.subflows) > 1 for connection in connections), "with several subflows"),
    ):
        if number:
            parts.append(f"{number:,} {what}")
    data = sum(connection.bytes for connection in connections)
    return f"{', '.join(parts)}; {format_size(data, 3)} of data"


def connection_lines(
    trace: Trace, sort: str = "connection", limit: int = DEFAULT_ROWS
) -> Iterator[str]:
    """Yield a table of the connections, one a row, after the line that sums them up."""
    yield summary_line(trace)
    if not trace.connections:
        return
    yield ""
    ordered = sorted(trace.connections, key=_KEYS[sort])
    rows: list[tuple[str, ...]] = [
        (
            "", "client", "server", "version", "state", "start", "duration", "subflows",
            "uploaded", "downloaded", "rate", "reinj.", "retr.", "handshake", "RTT",
        )
    ]  # fmt: skip
    rows += [_row(trace, connection) for connection in ordered[:limit]]
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if 1 <= k <= 4 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    rest = len(ordered) - limit
    if rest > 0:
        yield f"and {rest:,} more; --limit {len(ordered)} shows all"


def _row(trace: Trace, connection: Connection) -> tuple[str, ...]:
    first = connection.subflows[0]
    reinjected, again = _reinjected(connection), _retransmitted(connection)
    rtt = _rtt_ns(connection)
    return (
        str(connection.number),
        *first.ends,
        "?" if connection.version is None else str(connection.version),
        _state(connection),
        f"{trace.seconds(connection.start_ns):.3f} s",
        format_duration(connection.end_ns - connection.start_ns, 3),
        str(len(connection.subflows)),
        format_size(connection.side_bytes(0), 3),
        format_size(connection.side_bytes(1), 3),
        format_rate(_bps(connection), 3),
        format_size(reinjected, 3) if reinjected else "-",
        format_size(again, 3) if again else "-",
        format_duration(first.handshake_ns, 3) if first.handshake_ns else "-",
        format_duration(rtt, 3) if rtt else "-",
    )


def _state(connection: Connection) -> str:
    if connection.fallback:
        return "fallback"
    if connection.complete_handshake:
        return "complete"
    return "incomplete" if connection.saw_syn else "no start"


def _bps(connection: Connection) -> float:
    return connection.bytes * 8e9 / max(connection.end_ns - connection.start_ns, 1)


def _reinjected(connection: Connection) -> int:
    return sum(subflow.reinjected_bytes for subflow in connection.subflows)


def _retransmitted(connection: Connection) -> int:
    return sum(half.retransmitted_bytes for sub in connection.subflows for half in sub.halves)


def _rtt_ns(connection: Connection) -> int:
    """Return the median round trip of the busier side's data over all subflows, 0 for none."""
    side = connection.busier_side
    samples = [subflow.half(side).rtt_ns for subflow in connection.subflows]
    every = np.concatenate(samples)
    return int(median(every)) if every.size else 0
