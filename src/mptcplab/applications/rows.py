"""What was noted of requests and messages, as rows of a run's tables."""

from __future__ import annotations

from typing import Any

from mptcplab.applications.exchange import Exchange


def request_row(flow: str, exchange: Exchange, origin_ns: int = 0) -> dict[str, Any]:
    """Return the row of a request; its times are to count from ``origin_ns``."""
    return {
        "flow": flow,
        "connection": exchange.slot or 0,
        "number": exchange.number,
        "start_ns": exchange.start_ns - origin_ns,
        "first_byte_ns": None if exchange.first_ns is None else exchange.first_ns - origin_ns,
        "end_ns": None if exchange.end_ns is None else exchange.end_ns - origin_ns,
        "request_bytes": exchange.request_bytes,
        "bytes": exchange.response_bytes,
        "page": exchange.page,
        "bitrate_bps": exchange.bitrate_bps,
        "buffer_ns": exchange.buffer_ns,
        "stall_ns": exchange.stall_ns,
    }


def message_row(flow: str, message: Exchange, origin_ns: int = 0) -> dict[str, Any]:
    """Return the row of a message; its times are to count from ``origin_ns``."""
    return {
        "flow": flow,
        "connection": message.slot or 0,
        "number": message.number,
        "start_ns": message.start_ns - origin_ns,
        "end_ns": None if message.end_ns is None else message.end_ns - origin_ns,
        "bytes": message.request_bytes,
    }
