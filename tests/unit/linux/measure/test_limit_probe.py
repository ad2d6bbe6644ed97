"""What a kernel's sockets show that a sender waits for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mptcplab.linux.measure.limit_probe import mptcp_reason, probe_interval_ns, tcp_reason
from mptcplab.linux.probes.diag import CA_LOSS, CA_RECOVERY, MptcpInfo, SocketSample, TcpInfo
from mptcplab.stack.mptcp.send_limits import (
    APPLICATION,
    AVOIDANCE,
    BACKUP,
    DATA_ACK,
    HANDSHAKE,
    HEAD_OF_LINE_LOST,
    HEAD_OF_LINE_SLOW,
    NO_SUBFLOW,
    OVER,
    RECEIVE_WINDOW,
    RECOVERY,
    SCHEDULER,
    SEND_BUFFER,
    SLOW_START,
    TAIL,
    TIMEOUT,
    UNKNOWN,
    WINDOW_DATA_ACK,
)

MSS = 1000
ZEROES: dict[str, Any] = dict.fromkeys(TcpInfo.__slots__, 0)
IDLE = replace(
    TcpInfo(**ZEROES),
    mss_bytes=MSS,
    cwnd_bytes=10 * MSS,
    ssthresh_bytes=5 * MSS,
    send_window_bytes=100 * MSS,
    srtt_ns=10_000_000,
    has_room=True,
    bytes_sent=1,
)


def subflow(
    port: int = 1, *, sent: int = 0, unsent: int = 0, backup: bool = False, **values: object
) -> SocketSample:
    """A subflow with so many packets on their way and so many bytes waiting."""
    tcp = replace(
        IDLE,
        unacked_packets=sent,
        in_flight_bytes=sent * MSS,
        unsent_bytes=unsent,
        has_room=sent < 10,
    )
    tcp = replace(tcp, **values)  # type: ignore[arg-type]
    return SocketSample(
        "ESTABLISHED",
        "10.0.0.1",
        port,
        "10.0.0.2",
        5001,
        outstanding_bytes=sent * MSS + unsent,
        receive_buffer_bytes=0,
        send_buffer_bytes=100 * MSS,
        tcp=tcp,
        token=7,
        backup=backup,
        queued_bytes=sent * MSS + unsent,
    )


def connection(
    *, sent: int, unsent: int, state: str = "ESTABLISHED", queued: int = 0
) -> SocketSample:
    """A connection with so many bytes sent and unacknowledged, and so many not sent."""
    info = MptcpInfo(7, False, 2, sent + unsent, 0, 0, 0, sent, 0, 0)
    return SocketSample(
        state,
        "10.0.0.1",
        1,
        "10.0.0.2",
        5001,
        outstanding_bytes=0,
        receive_buffer_bytes=0,
        send_buffer_bytes=100 * MSS,
        mptcp=info,
        queued_bytes=queued,
    )


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (subflow(), APPLICATION),
        (subflow(sent=70), SEND_BUFFER),
        (subflow(sent=10, unsent=9000), AVOIDANCE),
        (subflow(sent=10, unsent=9000, ssthresh_bytes=None), SLOW_START),
        (subflow(sent=10, unsent=9000, ca_state=CA_RECOVERY), RECOVERY),
        (subflow(sent=10, unsent=9000, ca_state=CA_LOSS), TIMEOUT),
        (subflow(sent=5, unsent=9000, send_window_bytes=5 * MSS), RECEIVE_WINDOW),
        (subflow(sent=5, unsent=9000, send_window_bytes=7 * MSS), RECEIVE_WINDOW),
        (subflow(unsent=1, send_window_bytes=0), RECEIVE_WINDOW),
        (subflow(sent=5, unsent=500), APPLICATION),  # waits to be filled up
        (replace(subflow(), state="SYN-SENT"), HANDSHAKE),
        (replace(subflow(sent=5), state="FIN-WAIT-1"), TAIL),
        (replace(subflow(sent=5, ca_state=CA_LOSS), state="FIN-WAIT-1"), TIMEOUT),
        (replace(subflow(), state="FIN-WAIT-2"), OVER),
    ],
)
def test_plain_tcp(sample: SocketSample, reason: int) -> None:
    assert tcp_reason(sample) == (reason, None)


FULL = subflow(1, sent=10, unsent=9000)
SLOW = subflow(2, sent=10, srtt_ns=100_000_000)


@pytest.mark.parametrize(
    ("end", "subflows", "reason"),
    [
        (connection(sent=0, unsent=0), [subflow()], APPLICATION),
        (connection(sent=5000, unsent=0, queued=70 * MSS), [subflow(sent=5)], SEND_BUFFER),
        (connection(sent=5000, unsent=0, queued=70 * MSS), [subflow()], DATA_ACK),
        (connection(sent=5000, unsent=0, queued=70 * MSS), [subflow(), subflow(2)], DATA_ACK),
        (connection(sent=19000, unsent=9000), [FULL, subflow(2, sent=10, unsent=1)], AVOIDANCE),
        (connection(sent=19000, unsent=9000), [FULL, subflow(2)], SCHEDULER),
        (connection(sent=19000, unsent=9000), [FULL, subflow(2, backup=True)], BACKUP),
        (
            connection(sent=5000, unsent=9000),
            [subflow(sent=5, send_window_bytes=5 * MSS), subflow(2, send_window_bytes=5 * MSS)],
            RECEIVE_WINDOW,
        ),
        (
            connection(sent=5000, unsent=9000),
            [subflow(send_window_bytes=5 * MSS, last_ack_ms=20)],
            WINDOW_DATA_ACK,
        ),
        (
            connection(sent=5000, unsent=9000),
            [
                subflow(send_window_bytes=5 * MSS, last_ack_ms=30),
                subflow(2, send_window_bytes=5 * MSS, last_ack_ms=19),
            ],
            RECEIVE_WINDOW,
        ),
        (connection(sent=0, unsent=9000), [], NO_SUBFLOW),
        (connection(sent=0, unsent=9000), [subflow(bytes_sent=9)], UNKNOWN),
        (connection(sent=0, unsent=0, state="SYN-SENT"), [], HANDSHAKE),
        (connection(sent=0, unsent=0, state="FIN-WAIT-2"), [subflow()], OVER),
        (connection(sent=5000, unsent=1, state="FIN-WAIT-1"), [subflow(sent=5)], TAIL),
    ],
)
def test_mptcp(end: SocketSample, subflows: list[SocketSample], reason: int) -> None:
    assert mptcp_reason(end, subflows) == (reason, None)


def test_a_slow_subflow_that_fills_the_window_is_named() -> None:
    fast = subflow(1, send_window_bytes=10 * MSS)
    slow = replace(SLOW, tcp=replace(SLOW.tcp, send_window_bytes=10 * MSS))  # type: ignore[type-var]
    end = connection(sent=10 * MSS, unsent=9000)
    assert mptcp_reason(end, [fast, slow]) == (HEAD_OF_LINE_SLOW, slow)


def test_a_subflow_that_repairs_a_loss_is_named_before_a_slower_one() -> None:
    window = 20 * MSS
    repairing = subflow(1, sent=3, ca_state=CA_RECOVERY, send_window_bytes=window)
    slow = subflow(2, sent=3, srtt_ns=100_000_000, send_window_bytes=window)
    end = connection(sent=20 * MSS, unsent=9000)
    assert mptcp_reason(end, [repairing, slow]) == (HEAD_OF_LINE_LOST, repairing)


def test_looks_are_close_to_one_another_at_first() -> None:
    times = [probe_interval_ns(since) for since in (0, 160_000_000, 10_000_000_000)]
    assert times == [5_000_000, 10_000_000, 20_000_000]
