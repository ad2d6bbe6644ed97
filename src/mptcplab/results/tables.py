"""The tables of a run: names, columns, units.

Tables are tidy (one observation a row) and the same from every testbed and from a capture.  Columns
that a source cannot fill stay null; nothing is guessed.  ``time_ns`` counts from the start of the
run; in ``flows`` and ``links`` it is the *end* of the interval that the row describes.  Byte and
packet counts are per interval in ``flows`` and ``links``, cumulative in ``subflows``,
``connections`` and ``limits``.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION: Final = 1

# column -> Arrow type name; the order is the file's.
TABLES: Final[dict[str, dict[str, str]]] = {
    "flows": {  # one row per interval, flow and parallel connection
        "time_ns": "int64",
        "interval_ns": "int64",
        "flow": "string",
        "connection": "int32",  # 0, 1, ... within the flow
        "protocol": "string",  # what it really was: "mptcp", "tcp", "fallback", "sctp"
        "bytes": "int64",  # delivered to the receiving application
        "goodput_bps": "float64",
    },
    "links": {  # one row per interval, link and direction; counted on the link, offload-aware
        "time_ns": "int64",
        "interval_ns": "int64",
        "link": "string",
        "direction": "string",  # "forward" (a to b) or "backward"
        "up": "bool",
        "rate_bps": "int64",  # configured at the end of the interval; the mean of a trace in it
        "tx_bytes": "int64",  # frames that left the queue onto the wire, with their headers
        "tx_packets": "int64",
        "bps": "float64",  # tx_bytes as a rate
        "queue_bytes": "int64",  # waiting at the end of the interval
        "queue_packets": "int64",
        "drops_queue": "int64",  # packets refused by a full queue, or taken out by its discipline
        "marks": "int64",  # packets marked (ECN) in place of being dropped
        "drops_loss": "int64",  # packets lost by the configured loss
        "drops_down": "int64",  # packets that met a link that was down
        "duplicates": "int64",  # packets that arrived a second time
        "corrupted": "int64",  # packets that arrived damaged, which no host takes
        "rtt_ns": "int64",  # to the far side, on the forward row; null where not probed
    },
    "subflows": {  # one row per sample and subflow, as its host sees it
        "time_ns": "int64",
        "host": "string",
        "flow": "string",
        "connection": "int32",
        "subflow": "int32",  # 0, 1, ... in order of establishment
        "local": "string",  # "ADDRESS:PORT" or "[ADDRESS]:PORT"
        "remote": "string",
        "link": "string",
        "state": "string",  # RFC 9293 names: "ESTABLISHED", ...
        "backup": "bool",
        "cwnd_bytes": "int64",
        "ssthresh_bytes": "int64",  # null while it is still infinite
        "srtt_ns": "int64",
        "rttvar_ns": "int64",
        "rto_ns": "int64",
        "mss_bytes": "int32",
        "in_flight_bytes": "int64",
        "send_window_bytes": "int64",  # offered by the peer
        "receive_window_bytes": "int64",  # offered by this host
        "bytes_sent": "int64",  # payload, with retransmissions
        "bytes_acked": "int64",  # payload; neither SYN nor FIN counts
        "bytes_received": "int64",
        "bytes_retransmitted": "int64",
        "retransmissions": "int64",  # segments
        "lost_packets": "int64",
        "busy_ns": "int64",  # had something to send or unacknowledged (tcp_info); a kernel's alone
        "receive_window_limited_ns": "int64",
        "send_buffer_limited_ns": "int64",
        "unsent_bytes": "int64",  # given to the subflow, and not yet sent
    },
    "connections": {  # one row per sample and connection, as its host sees it
        "time_ns": "int64",
        "host": "string",
        "flow": "string",
        "connection": "int32",
        "token": "uint32",  # the local token
        "protocol": "string",
        "subflows": "int32",
        "send_buffer_bytes": "int64",  # size of the buffer
        "receive_buffer_bytes": "int64",
        "unacked_bytes": "int64",  # sent, not yet DATA_ACKed
        "out_of_order_bytes": "int64",  # held for a gap in the data sequence
        "bytes_sent": "int64",
        "bytes_acked": "int64",  # by DATA_ACK
        "bytes_received": "int64",
        "bytes_reinjected": "int64",
        "bytes_duplicate": "int64",
        "receive_window_bytes": "int64",
        "unread_bytes": "int64",  # in order, and not yet read by the application
        "cpu_ns": "int64",  # its processor was busy with, or waited for, what serves this end
    },
    "limits": {  # one row per sample, connection and what has held its sender back so far
        "time_ns": "int64",
        "host": "string",
        "flow": "string",
        "connection": "int32",
        "limited_by": "string",  # what the sender waits for, see "What a sender waits for"
        "subflow": "int32",  # of "head-of-line": which carries what is missing; else null
        "duration_ns": "int64",  # in all, since the connection began
    },
    "requests": {  # one row per request of an application, with its response
        "flow": "string",
        "connection": "int32",  # of the flow; where each request has its own, they share numbers
        "number": "int64",  # 0, 1, ... within the flow, in the order in which they were wanted
        "start_ns": "int64",  # wanted: before its connection is opened, or others are answered
        "first_byte_ns": "int64",  # of the response, at the client; null where none came
        "end_ns": "int64",  # the last byte of the response; null where it was not answered
        "request_bytes": "int64",  # of the request, with its header
        "bytes": "int64",  # of the response
        "page": "int32",  # of the web page that it is part of
        "bitrate_bps": "int64",  # of this chunk of video
        "buffer_ns": "int64",  # playing time in the player's buffer, with this chunk
        "stall_ns": "int64",  # for which playing stood still until this chunk came
    },
    "messages": {  # one row per message or datagram, one way
        "flow": "string",
        "connection": "int32",
        "number": "int64",  # 0, 1, ... within the flow, in the order in which they were due
        "start_ns": "int64",  # due: before it was written
        "end_ns": "int64",  # its last byte was read at the other end; null where it was not
        "bytes": "int64",  # of the message, with its header
    },
    "events": {  # what happened, when, on whom
        "time_ns": "int64",
        "source": "string",  # "timeline", "path-manager", "tcp", "mptcp", "sctp", "testbed"
        "event": "string",
        "host": "string",
        "flow": "string",
        "connection": "int32",
        "subflow": "int32",
        "link": "string",
        "detail": "string",
    },
    "counters": {  # the host's MIB counters before and after the run, those that moved
        "host": "string",
        "counter": "string",
        "before": "int64",
        "after": "int64",
    },
}

ADDED: Final = {
    "subflows": (
        "busy_ns",
        "receive_window_limited_ns",
        "send_buffer_limited_ns",
        "unsent_bytes",
    ),
    "connections": ("unread_bytes", "cpu_ns"),
    "limits": tuple(TABLES["limits"]),
    "requests": tuple(TABLES["requests"]),
    "messages": tuple(TABLES["messages"]),
}
"""Columns that runs of earlier versions lack: there they read as null, and a table as empty."""


@cache
def arrow_schema(table: str) -> pa.Schema:
    """Return the Arrow schema of a table; KeyError for a name that is not in ``TABLES``."""
    import pyarrow as pa

    columns = [
        (name, getattr(pa, kind + "_" if kind == "bool" else kind)())
        for name, kind in TABLES[table].items()
    ]
    return pa.schema(columns, metadata={"mptcplab.schema": str(SCHEMA_VERSION)})
