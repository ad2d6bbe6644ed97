"""A reconstruction as JSON."""

from __future__ import annotations

from typing import Any

from mptcplab.trace.connections.model import Connection, Subflow
from mptcplab.trace.trace import Trace


def to_json(trace: Trace) -> dict[str, Any]:
    """Return the reconstruction as one JSON object.

    Times are seconds since the capture's first packet, bytes are payload, tokens and address IDs
    are numbers (of the side that opened the connection or subflow, then of the other); what the
    capture does not show is null.
    """
    return {
        "packets": trace.packets,
        "malformed": [
            {"packet": damage.number, "reason": damage.reason} for damage in trace.malformed
        ],
        "connections": [_connection(trace, connection) for connection in trace.connections],
    }


def _connection(trace: Trace, connection: Connection) -> dict[str, Any]:
    return {
        "version": connection.version,
        "tokens": connection.tokens,
        "start_s": trace.seconds(connection.start_ns),
        "bytes": connection.bytes,
        "complete_handshake": connection.complete_handshake,
        "fallback": connection.fallback,
        "subflows": [_subflow(trace, subflow) for subflow in connection.subflows],
    }


def _checksums(subflow: Subflow) -> dict[str, int] | None:
    checks = subflow.checksums
    if checks is None:
        return None
    return {name: getattr(checks, name) for name in ("verified", "wrong", "unverifiable")}


def _subflow(trace: Trace, subflow: Subflow) -> dict[str, Any]:
    source, destination = subflow.ends
    return {
        "src": source,
        "dst": destination,
        "address_ids": subflow.address_ids,
        "joined_by": subflow.joined_by,
        "hmac_ok": subflow.hmac_ok,
        "bytes": subflow.bytes,
        "reinjected_bytes": subflow.reinjected_bytes,
        "checksums": _checksums(subflow),
        "start_s": trace.seconds(subflow.start_ns),
        "end_s": trace.seconds(subflow.end_ns),
    }
