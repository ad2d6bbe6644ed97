"""What a connection and its subflows are doing, in the columns of a run's tables.

The columns are those of ``docs/reference/tables.md``; sizes are in bytes, times in nanoseconds.
"""

from __future__ import annotations

from typing import Any, Final

from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.mptcp.send_limits import NAMES, NOBODY, SendLimits
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.wire.ip import format_address

_INFINITE_SSTHRESH_BYTES: Final = 1 << 40
"""Above any window that a path could fill: still infinite."""


def subflow_columns(connection: Connection, subflow: MptcpSubflow) -> dict[str, Any]:
    """Return a subflow's row but for time, names of the scenario, number and link."""
    tcp = subflow.tcp
    sender, receiver, counters = tcp.sender, tcp.receiver, tcp.sender.counters
    congestion, rtt = sender.congestion, sender.rtt
    ssthresh = congestion.ssthresh_bytes
    acked = sender.snd_una if tcp.fin_seq < 0 else min(sender.snd_una, tcp.fin_seq)
    return {
        "local": socket_name(tcp.local, tcp.local_port),
        "remote": socket_name(tcp.remote, tcp.remote_port),
        "state": tcp.state.value,
        "backup": subflow.backup,
        "cwnd_bytes": int(congestion.cwnd_bytes),
        "ssthresh_bytes": None if ssthresh >= _INFINITE_SSTHRESH_BYTES else int(ssthresh),
        "srtt_ns": rtt.srtt_ns or None,
        "rttvar_ns": rtt.rttvar_ns or None,
        "rto_ns": rtt.rto_ns,
        "mss_bytes": sender.mss_bytes,
        "in_flight_bytes": sender.snd_nxt - sender.snd_una,
        "send_window_bytes": connection.send.window_end - connection.send.sent_offset,
        "receive_window_bytes": connection.receive_buffer.edge_offset
        - connection.receive_buffer.rcv_nxt,
        "bytes_sent": counters.sent_bytes + counters.resent_bytes,
        "bytes_acked": max(acked - 1, 0),  # the SYN is number 0
        "bytes_received": receiver.received_bytes,
        "bytes_retransmitted": counters.resent_bytes,
        "retransmissions": counters.resent_segments,
        "lost_packets": None,
        "unsent_bytes": subflow.backlog.waiting_bytes,
    }


def connection_columns(connection: Connection) -> dict[str, Any]:
    """Return a connection's row but for time, names of the scenario and protocol."""
    buffer, send = connection.receive_buffer, connection.send
    return {
        "token": connection.local_token,
        "subflows": len(connection.subflows),
        "send_buffer_bytes": send.size_bytes,
        "receive_buffer_bytes": buffer.size_bytes,
        "unacked_bytes": send.sent_offset - connection.data_acked_bytes(),
        "out_of_order_bytes": connection.out_of_order_bytes(),
        "bytes_sent": send.sent_offset,
        "bytes_acked": connection.data_acked_bytes(),
        "bytes_received": buffer.rcv_nxt,
        "bytes_reinjected": send.reinjected_bytes,
        "bytes_duplicate": buffer.duplicate_bytes,
        "receive_window_bytes": buffer.edge_offset - buffer.rcv_nxt,
        "unread_bytes": buffer.readable_bytes(),
    }


def limit_rows(limits: SendLimits, now_ns: int) -> list[dict[str, Any]]:
    """Return what has held a connection's sender back until now, and how long in all."""
    return [
        {
            "limited_by": NAMES[reason],
            "subflow": None if subflow == NOBODY else subflow,
            "duration_ns": duration_ns,
        }
        for (reason, subflow), duration_ns in sorted(limits.totals_ns(now_ns).items())
    ]


def socket_name(address: bytes, port: int) -> str:
    """Return "ADDRESS:PORT", or "[ADDRESS]:PORT" for IPv6."""
    text = format_address(address)
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"
