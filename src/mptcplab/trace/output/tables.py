"""A reconstruction as the tables of a run: the same names, columns and units.

``time_ns`` counts from the capture's first packet; ``host`` is an address of the side that the row
is about; ``flow`` names the connection as ``connection N``.  Columns that packets do not show are
null.  Two tables exist for captures alone: ``packets`` (one row per TCP segment) and ``mappings``
(one row per extent of data).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mptcplab.results.tables import arrow_schema
from mptcplab.trace.connections.model import Connection, Subflow
from mptcplab.trace.findings.series import direction
from mptcplab.trace.findings.throughput import bins
from mptcplab.trace.packets import PacketBatch, packet_batches
from mptcplab.trace.trace import Trace

_INTERVAL_NS = 100_000_000
_MOST_INTERVALS = 1_000_000
"""Captures that would have more intervals of 100 ms get intervals of 1 s, 10 s, ..."""

MAPPING_COLUMNS = {
    "time_ns": "int64",
    "connection": "int32",
    "subflow": "int32",
    "side": "int8",
    "packet": "int64",
    "dsn": "int64",  # relative: the first byte is 1
    "seq": "int64",
    "bytes": "int64",
}

_PACKET_FIELDS = (
    "packet", "connection", "subflow", "side", "sport", "dport", "seq", "ack", "len", "window",
    "dsn", "data_ack", "ssn", "dlen", "in_flight",
)  # fmt: skip
_PACKET_FLAGS = ("retransmission", "out_of_order", "duplicate_ack", "data_fin")

Rows = dict[str, Any]


def write_tables(trace: Trace, folder: Path) -> list[Path]:
    """Write all tables as Parquet files into ``folder``; returns their paths.

    Raises ``OSError`` where they cannot be written; none of them is there then.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for name, table in tables(trace).items():
            written.append(folder / f"{name}.parquet")
            with written[-1].open("wb") as file:  # whatever its folder's name is
                pq.write_table(table, file, compression="zstd")
        written.append(folder / "packets.parquet")
        _write_packets(trace, written[-1])
    except OSError:
        for path in written:
            path.unlink(missing_ok=True)
        if is_new:
            folder.rmdir()
        raise
    return written


def tables(trace: Trace) -> dict[str, pa.Table]:
    """Return the tables as Arrow tables, ``packets`` excepted: it may not fit in memory."""
    return {
        "flows": _table("flows", _flows(trace)),
        "subflows": _table("subflows", _subflows(trace)),
        "connections": _table("connections", _connections(trace)),
        "events": _table("events", _events(trace)),
        "mappings": _mappings(trace),
    }


def _table(name: str, parts: Iterator[Rows]) -> pa.Table:
    """Join chunks of columns into a table of a run; columns that are not given are null."""
    schema = arrow_schema(name)
    chunks = []
    for part in parts:
        size = len(part["time_ns"])
        columns = []
        for field in schema:
            value = part.get(field.name)
            if value is None:
                columns.append(pa.nulls(size, field.type))
            elif isinstance(value, str | int | bool):
                columns.append(pa.repeat(pa.scalar(value, field.type), size))
            else:
                columns.append(pa.array(value, field.type))
        chunks.append(pa.table(columns, schema=schema))
    return pa.concat_tables(chunks) if chunks else schema.empty_table()


def _protocol(connection: Connection) -> str:
    return "fallback" if connection.fallback else "mptcp"


def _flow(connection: Connection) -> str:
    return f"connection {connection.number}"


def _flows(trace: Trace) -> Iterator[Rows]:
    """Data delivered per interval: what arrived on all subflows, each byte once."""
    for connection in trace.connections:
        for side in (0, 1):
            series = direction(connection, side)
            if series is None:
                continue
            start, end = connection.start_ns, connection.end_ns
            interval = _interval_ns(end - start)
            count = max(1, -(-(end - start) // interval))
            step = np.diff(series.data_ack, prepend=1)
            amount = bins(series.time_ns, step, start, interval, count)
            index = np.arange(1, count + 1)
            yield {
                "time_ns": start - trace.first_ns + index * interval,
                "interval_ns": interval,
                "flow": _flow(connection) + (" backward" if side else ""),
                "connection": 0,
                "protocol": _protocol(connection),
                "bytes": amount,
                "goodput_bps": amount * 8e9 / interval,
            }


def _interval_ns(duration_ns: int) -> int:
    interval = _INTERVAL_NS
    while duration_ns > interval * _MOST_INTERVALS:
        interval *= 10
    return interval


def _subflows(trace: Trace) -> Iterator[Rows]:
    for connection in trace.connections:
        for subflow in connection.subflows:
            for side in (0, 1):
                yield from _half(trace, connection, subflow, side)


def _half(trace: Trace, connection: Connection, subflow: Subflow, side: int) -> Iterator[Rows]:
    """Yield one side's view of a subflow, with a row for each slot in which it sent."""
    half, other = subflow.half(side), subflow.half(side ^ 1)
    rows = half.samples
    if rows.size == 0:
        return
    place = np.searchsorted(other.samples["time_ns"], rows["time_ns"], side="right")
    peer = other.samples
    window = np.append(0, peer["window_bytes"])[place]
    acked = np.append(0, np.maximum(np.maximum.accumulate(peer["ack"]) - 1, 0))[place]
    received = np.append(0, np.cumsum(peer["new_bytes"]))[place]
    yield {
        "time_ns": rows["time_ns"] - trace.first_ns,
        "host": subflow.address(side),
        "flow": _flow(connection),
        "connection": 0,
        "subflow": subflow.number,
        "local": subflow.end(side),
        "remote": subflow.end(side ^ 1),
        "backup": any(subflow.backup),
        "srtt_ns": _rtt(rows["time_ns"], peer),
        "mss_bytes": half.mss_bytes or None,
        "in_flight_bytes": rows["in_flight_bytes"],
        "send_window_bytes": window,
        "receive_window_bytes": rows["window_bytes"],
        "bytes_sent": np.cumsum(rows["payload_bytes"]),
        "bytes_acked": np.minimum(acked, half.bytes),
        "bytes_received": received,
        "bytes_retransmitted": np.cumsum(rows["retransmitted_bytes"]),
        "retransmissions": np.cumsum(rows["retransmissions"]),
    }


def _rtt(time: Any, peer: Any) -> pa.Array:
    """Return the latest round trip measured at each time, null before the first."""
    measured = peer[peer["rtts"] > 0]
    place = np.searchsorted(measured["time_ns"], time, side="right")
    value = np.append(0, measured["rtt_ns"] // np.maximum(measured["rtts"], 1))[place]
    return pa.array(value, pa.int64(), mask=place == 0)


def _connections(trace: Trace) -> Iterator[Rows]:
    for connection in trace.connections:
        for side in (0, 1):
            series = direction(connection, side)
            if series is None:
                continue
            token = connection.tokens[side]
            yield {
                "time_ns": series.time_ns - trace.first_ns,
                "host": connection.subflows[0].address(side),
                "flow": _flow(connection),
                "connection": 0,
                "token": token,
                "protocol": _protocol(connection),
                "subflows": len(connection.subflows),
                "unacked_bytes": series.outstanding_bytes,
                "out_of_order_bytes": series.held_bytes,
                "bytes_sent": series.sent - 1,
                "bytes_acked": np.maximum(series.data_ack - 1, 0),
                "receive_window_bytes": series.window_bytes,
            }


def _events(trace: Trace) -> Iterator[Rows]:
    for connection in trace.connections:
        events = connection.events
        if not events:
            continue
        first = connection.subflows[0]
        yield {
            "time_ns": [event.time_ns - trace.first_ns for event in events],
            "source": "mptcp",
            "event": [event.kind for event in events],
            "host": [None if event.side is None else first.address(event.side) for event in events],
            "flow": _flow(connection),
            "connection": 0,
            "subflow": [event.subflow for event in events],
            "detail": [
                event.text + (f" (packet {event.number})" if event.number else "")
                for event in events
            ],
        }


def _mappings(trace: Trace) -> pa.Table:
    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in MAPPING_COLUMNS.items()])
    chunks = []
    for connection in trace.connections:
        for subflow in connection.subflows:
            for side in (0, 1):
                half = subflow.half(side)
                extents, size = half.extents, half.extents.size
                columns = (
                    extents["first_ns"] - trace.first_ns,
                    np.full(size, connection.number),
                    np.full(size, subflow.number),
                    np.full(size, side),
                    extents["first_number"],
                    half.data_rel,
                    extents["seq"],
                    extents["bytes"],
                )
                chunks.append(
                    pa.table(
                        [
                            pa.array(column, field.type)
                            for column, field in zip(columns, schema, strict=True)
                        ],
                        schema=schema,
                    )
                )
    return pa.concat_tables(chunks) if chunks else schema.empty_table()


def _write_packets(trace: Trace, path: Path) -> None:
    """Write the packets batch by batch, so that memory stays bounded."""
    names = ["time_ns", "src", "dst", *_PACKET_FIELDS, *_PACKET_FLAGS]
    kinds = [pa.int64(), pa.string(), pa.string()]
    kinds += [pa.int64()] * len(_PACKET_FIELDS) + [pa.bool_()] * len(_PACKET_FLAGS)
    schema = pa.schema(list(zip(names, kinds, strict=True)))
    with (
        path.open("wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for batch in packet_batches(trace):
            writer.write_table(pa.table(_packet_columns(trace, batch), schema=schema))


def _packet_columns(trace: Trace, batch: PacketBatch) -> list[pa.Array]:
    book = trace.reading.decoder.book
    columns = [pa.array(batch.segments.time_ns - trace.first_ns)]
    for name in ("src", "dst"):
        codes, inverse = np.unique(batch.values(name)[1], return_inverse=True)
        texts = pa.array([book.text(int(code)) for code in codes])
        columns.append(texts.take(pa.array(inverse)))
    for name in _PACKET_FIELDS:
        rows, values = batch.values(name)
        whole = np.zeros(len(batch), dtype=np.int64)
        whole[rows] = values
        missing = np.ones(len(batch), dtype=bool)
        missing[rows] = False
        columns.append(pa.array(whole, pa.int64(), mask=missing))
    columns += [pa.array(batch.flag(name)) for name in _PACKET_FLAGS]
    return columns
