"""A reconstruction as JSON: everything that the explanation says, as values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mptcplab.trace.connections.model import Connection, Event, Half, Subflow
from mptcplab.trace.files.sources import source_name
from mptcplab.trace.findings.dips import Dip, find_dips
from mptcplab.trace.findings.series import direction
from mptcplab.trace.findings.stalls import Stall, find_stalls
from mptcplab.trace.output.explain import place_lines
from mptcplab.trace.trace import Trace

if TYPE_CHECKING:
    from mptcplab.trace.two_captures import Ends, Passage


def to_json(
    trace: Trace, ends: Ends | None = None, listed: Callable[[Iterator[Any]], list[Any]] = list
) -> dict[str, Any]:
    """Return the reconstruction as one JSON object, with what lies between two ends.

    ``listed`` makes the lists that may be long.

    Times are seconds since the capture's first packet, bytes are payload, tokens and address IDs
    are numbers (of the side that opened the connection or subflow, then of the other); sides are 0
    for who opened the connection, and 1; what the capture does not show is null.
    """
    reading = trace.reading
    return {
        "files": [source_name(path) for path in trace.paths],
        "packets": trace.packets,
        "tcp_segments": reading.tcp_segments,
        "first_unix_ns": trace.first_ns,
        "duration_s": max(0, trace.last_ns - trace.first_ns) / 1e9,
        "packets_captured_twice": reading.placer.copies.count,
        "segments_cut_in_header": reading.decoder.cut_off,
        "packets_of_unread_link_types": {
            str(kind): packets for kind, packets in sorted(reading.decoder.unknown_links.items())
        },
        "segments_of_too_many_subflows": reading.placer.table.ignored_segments,
        "malformed": listed(
            {"packet": damage.number, "reason": damage.reason} for damage in trace.malformed
        ),
        "connections": listed(_connection(trace, connection) for connection in trace.connections),
        "limits": listed(
            limit.to_json() for connection in trace.connections for limit in connection.limits
        ),
        "ends": None if ends is None else _ends(ends),
    }


def _ends(ends: Ends) -> dict[str, Any]:
    """Return what two captures of the same connections, one at each end, say together."""
    number = {
        id(subflow): connection.number
        for pair in ends.pairs
        for connection in pair
        for subflow in connection.subflows
    }
    return {
        "client_files": [source_name(path) for path in ends.near.paths],
        "server_files": [source_name(path) for path in ends.far.paths],
        "server_clock_ahead_s": ends.offset_ns / 1e9,
        "uncertainty_s": ends.uncertainty_ns / 1e9,
        "removed_options": list(ends.removed),
        "passages": [
            {
                "connection": number.get(id(passage.subflow)),
                "subflow": passage.subflow.number,
                "side": passage.side,
                "sent_packets": passage.sent_packets,
                "lost_packets": passage.lost_packets,
                "lost_bytes": passage.lost_bytes,
                "delay": _delay(passage),
            }
            for passage in ends.passages
        ],
    }


def _delay(passage: Passage) -> dict[str, float] | None:
    if not passage.delay_ns.size:
        return None
    least, median, most = np.percentile(passage.delay_ns, (0, 50, 100)).tolist()
    return {"min_s": least / 1e9, "median_s": median / 1e9, "max_s": most / 1e9}


def _connection(trace: Trace, connection: Connection) -> dict[str, Any]:
    first = connection.subflows[0]
    fell_back = trace.seconds(connection.fallback_ns) if connection.fallback else None
    return {
        "number": connection.number,
        "version": connection.version,
        "client": first.end(0),
        "server": first.end(1),
        "tokens": connection.tokens,
        "start_s": trace.seconds(connection.start_ns),
        "end_s": trace.seconds(connection.end_ns),
        "bytes": connection.bytes,
        "saw_start": connection.saw_syn,
        "complete_handshake": connection.complete_handshake,
        "checksums_in_use": connection.checksums,
        "fallback": connection.fallback,
        "fallback_s": fell_back,
        "fallback_reason": connection.fallback_reason,
        "notes": [line.strip() for line in place_lines(connection)],
        "directions": [_direction(trace, connection, side) for side in (0, 1)],
        "events": [_event(trace, event) for event in connection.events],
        "subflows": [_subflow(trace, connection, subflow) for subflow in connection.subflows],
    }


def _direction(trace: Trace, connection: Connection, side: int) -> dict[str, Any]:
    """Return what one side sent, and what held it up."""
    halves = [subflow.half(side) for subflow in connection.subflows]
    amount = connection.side_bytes(side)
    duration_ns = max(connection.end_ns - connection.start_ns, 1)
    series = direction(connection, side)
    stalls = find_stalls(connection, series) if series is not None else []
    dips = find_dips(connection, series) if series is not None else []
    return {
        "side": side,
        "bytes": amount,
        "rate_bps": amount * 8e9 / duration_ns,
        "reinjected_bytes": sum(half.reinjected_bytes for half in halves),
        "retransmitted_bytes": sum(half.retransmitted_bytes for half in halves),
        "retransmissions": sum(half.retransmissions for half in halves),
        "unplaced_bytes": sum(half.unplaced_bytes for half in halves),
        "stalls": [_stall(trace, stall) for stall in stalls],
        "dips": [_dip(trace, dip) for dip in dips],
    }


def _stall(trace: Trace, stall: Stall) -> dict[str, Any]:
    return {
        "kind": stall.kind,
        "start_s": trace.seconds(stall.start_ns),
        "duration_s": stall.duration_ns / 1e9,
        "bytes": stall.bytes,
        "subflow": stall.subflow,
        "cause": stall.cause,
    }


def _dip(trace: Trace, dip: Dip) -> dict[str, Any]:
    return {
        "start_s": trace.seconds(dip.start_ns),
        "duration_s": dip.duration_ns / 1e9,
        "rate_bps": dip.bps,
        "usual_rate_bps": dip.usual_bps,
        "cause": dip.cause,
    }


def _event(trace: Trace, event: Event) -> dict[str, Any]:
    return {
        "time_s": trace.seconds(event.time_ns),
        "packet": event.number or None,
        "kind": event.kind,
        "text": event.text,
        "subflow": event.subflow,
        "side": event.side,
    }


def _checksums(subflow: Subflow) -> dict[str, int] | None:
    checks = subflow.checksums
    if checks is None:
        return None
    return {name: getattr(checks, name) for name in ("verified", "wrong", "unverifiable")}


def _subflow(trace: Trace, connection: Connection, subflow: Subflow) -> dict[str, Any]:
    source, destination = subflow.ends
    data = max(connection.bytes, 1)
    checks = subflow.checksums
    return {
        "number": subflow.number,
        "src": source,
        "dst": destination,
        "opened_by_side": subflow.opened_by,
        "address_ids": subflow.address_ids,
        "backup": subflow.backup,
        "joined_by": subflow.joined_by,
        "hmac_ok": subflow.hmac_ok,
        "handshake_s": subflow.handshake_ns / 1e9 if subflow.handshake_ns else None,
        "bytes": subflow.bytes,
        "share": (subflow.bytes - subflow.reinjected_bytes) / data,
        "reinjected_bytes": subflow.reinjected_bytes,
        "checksums": _checksums(subflow),
        "wrong_checksum_packets": [number for _, number in checks.wrong_at] if checks else [],
        "start_s": trace.seconds(subflow.start_ns),
        "end_s": trace.seconds(subflow.end_ns),
        "directions": [_half(side, subflow.half(side)) for side in (0, 1)],
    }


def _half(side: int, half: Half) -> dict[str, Any]:
    """Return what one side sent on a subflow; its round trips are those of its data."""
    rtt = None
    if half.rtt_ns.size:
        low, median, high = np.percentile(half.rtt_ns, (5, 50, 95)).tolist()
        rtt = {
            "min_s": half.least_rtt_ns / 1e9,
            "p5_s": low / 1e9,
            "median_s": median / 1e9,
            "p95_s": high / 1e9,
        }
    return {
        "side": side,
        "packets": half.packets,
        "bytes": half.bytes,
        "acked_bytes": half.acked_bytes,
        "missing_bytes": half.missing_bytes,
        "unmapped_bytes": half.unmapped_bytes,
        "reinjected_bytes": half.reinjected_bytes,
        "in_vain_bytes": half.duplicate_bytes,
        "retransmitted_bytes": half.retransmitted_bytes,
        "retransmissions": half.retransmissions,
        "out_of_order": half.out_of_order,
        "duplicate_acks": half.duplicate_acks,
        "mss_bytes": half.mss_bytes or None,
        "window_shift": half.window_shift,
        "rtt": rtt,
    }
