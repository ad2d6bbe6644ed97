"""What reading does for the sender: the buffer is tuned, and the window opened where that tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.tcp.state import CAN_RECEIVE

if TYPE_CHECKING:
    from mypy_extensions import i64

    from mptcplab.stack.mptcp.connection import Connection


def open_window(connection: Connection) -> None:
    """The application has read: tune the receive buffer, and tell the peer of a wider window.

    The buffer is tuned as by Linux's mptcp_rcv_space_adjust, by the slowest subflow. The window
    opens in steps worth a segment (RFC 9293 section 3.8.6.2.2), and, as by tcp_cleanup_rbuf and
    mptcp_cleanup_rbuf, without data to acknowledge only where that at least doubles what the peer
    has left of it.
    """
    buffer = connection.receive_buffer
    first: MptcpSubflow | None = None
    rtt_ns = 0
    last_receive_ns: i64 = 0
    for subflow in connection.subflows:
        if subflow.state not in CAN_RECEIVE:
            continue
        if first is None:
            first = subflow
        if subflow.sender.rtt.srtt_ns > rtt_ns:
            rtt_ns = subflow.sender.rtt.srtt_ns
        if subflow.last_receive_ns > last_receive_ns:
            last_receive_ns = subflow.last_receive_ns
    if first is None:
        return
    mss = first.receiver.mss_bytes
    buffer.adjust(rtt_ns, mss, last_receive_ns)
    size = buffer.size_bytes
    left = buffer.edge_offset - buffer.rcv_nxt
    gained = buffer.read_offset + size - buffer.edge_offset
    if gained >= left and gained >= min(size // 2, 2 * mss):
        for subflow in connection.subflows:
            if subflow is first or (left <= mss and subflow.state in CAN_RECEIVE):
                subflow.receiver.ack_now = True
        connection.stack.touch(connection)
