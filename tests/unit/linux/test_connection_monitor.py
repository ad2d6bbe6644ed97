"""Readings of MPTCP connections: what happened between two looks at a host's sockets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mptcplab.linux.connection_monitor import ConnectionMonitor, Sockets
from mptcplab.linux.monitor_run import MonitorRun
from mptcplab.linux.probes.diag import MptcpInfo, SocketSample, TcpInfo
from mptcplab.results.run import Run

MIB = 1 << 20
INFO = MptcpInfo(7, False, 1, 10 * MIB, 8 * MIB, 1, 0, 9 * MIB, 0, 8 * MIB)
TCP = TcpInfo(
    cwnd_bytes=MIB,
    ssthresh_bytes=None,
    srtt_ns=20_000_000,
    rttvar_ns=1,
    rto_ns=220_000_000,
    mss_bytes=1448,
    in_flight_bytes=MIB,
    send_window_bytes=4 * MIB,
    receive_window_bytes=MIB,
    bytes_sent=9 * MIB,
    bytes_acked=8 * MIB,
    bytes_received=0,
    bytes_retransmitted=0,
    retransmissions=3,
    lost_packets=0,
)
ENDS = ("ESTABLISHED", "10.0.0.1", 40000, "10.0.0.2", 443)
CONNECTION = SocketSample(
    *ENDS, outstanding_bytes=0, receive_buffer_bytes=MIB, send_buffer_bytes=MIB, mptcp=INFO
)
SUBFLOW = SocketSample(
    *ENDS,
    outstanding_bytes=MIB,
    receive_buffer_bytes=MIB,
    send_buffer_bytes=MIB,
    tcp=TCP,
    token=7,
)


def later(seconds: float) -> Sockets:
    """Return what a second look finds: 2 MiB more, over one subflow, with two segments again."""
    info = replace(INFO, bytes_acked=10 * MIB, bytes_sent=11 * MIB, write_seq=12 * MIB)
    tcp = replace(TCP, bytes_acked=10 * MIB, bytes_sent=11 * MIB, retransmissions=5)
    return Sockets(
        round(seconds * 1e9), [replace(SUBFLOW, tcp=tcp)], [replace(CONNECTION, mptcp=info)]
    )


def test_rates_are_of_the_time_between_two_looks() -> None:
    monitor = ConnectionMonitor()
    assert monitor.take(Sockets(1_000_000_000, [SUBFLOW], [CONNECTION])) == []
    (reading,) = monitor.take(later(1.5))
    assert reading.tx_bps == 2 * MIB * 8 / 0.5
    assert reading.unacked_bytes == MIB
    (subflow,) = reading.subflows
    assert subflow.tx_bps == reading.tx_bps
    assert subflow.retransmissions == 2
    text = "\n".join(reading.lines())
    assert "10.0.0.1:40000 - 10.0.0.2:443" in text
    assert "RTT 20 ms" in text


def test_a_connection_that_has_just_come_waits_for_its_second_look() -> None:
    monitor = ConnectionMonitor()
    monitor.take(Sockets(1_000_000_000, [], []))
    assert monitor.take(later(1.5)) == []
    assert len(monitor.take(later(2.0))) == 1


def test_what_was_watched_is_a_run(tmp_path: Path) -> None:
    monitor = ConnectionMonitor()
    monitor.take(Sockets(1_000_000_000, [SUBFLOW], [CONNECTION]))
    record = MonitorRun(tmp_path / "run", "a host", 500_000_000)
    sockets = later(1.5)
    record.take(sockets, monitor.take(sockets))
    run = Run(record.finish({"TcpRetransSegs": 3}, {"TcpRetransSegs": 5}))
    run.check()
    (row,) = run.rows("flows")
    assert (row["flow"], row["bytes"], row["time_ns"]) == ("00000007", 2 * MIB, 500_000_000)
    assert [row["link"] for row in run.rows("subflows")] == [None]
    assert [row["counter"] for row in run.rows("counters")] == ["TcpRetransSegs"]
