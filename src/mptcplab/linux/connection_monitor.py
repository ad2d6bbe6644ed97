"""The MPTCP connections of a host from interval to interval: rates, round trips, windows, waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mptcplab.linux.measure.limit_probe import mptcp_reason
from mptcplab.linux.measure.sampler import socket_name
from mptcplab.linux.probes.diag import SocketSample
from mptcplab.stack.mptcp.send_limits import NAMES
from mptcplab.units import NANOSECONDS, format_duration, format_rate, format_size


@dataclass(frozen=True, slots=True)
class Sockets:
    """A host's TCP sockets, of which subflows have a token, and its MPTCP connections.

    ``at_ns`` is on the host's monotonic clock.
    """

    at_ns: int
    tcp: Sequence[SocketSample]
    mptcp: Sequence[SocketSample]


Look = Callable[[], Sockets]
"""Asks a host for its sockets."""


@dataclass(frozen=True, slots=True)
class SubflowReading:
    """A subflow over one interval; rates are of acknowledged and of received payload (bit/s)."""

    local: str
    remote: str
    state: str
    backup: bool
    tx_bps: float
    rx_bps: float
    srtt_ns: int
    cwnd_bytes: int
    send_window_bytes: int | None
    retransmissions: int
    """Segments sent again in the interval."""


@dataclass(frozen=True, slots=True)
class ConnectionReading:
    """A connection over one interval; ``waits_for`` is what its sender waited for at the end."""

    token: int
    local: str
    remote: str
    tx_bps: float
    rx_bps: float
    waits_for: str
    unacked_bytes: int
    reinjected_bytes: int
    subflows: tuple[SubflowReading, ...]

    def lines(self) -> Iterator[str]:
        """Yield the reading as text: the connection, then each subflow."""
        again = (
            f", {format_size(self.reinjected_bytes)} reinjected" if self.reinjected_bytes else ""
        )
        yield (
            f"{self.local} - {self.remote}  tx {format_rate(self.tx_bps)}  "
            f"rx {format_rate(self.rx_bps)}  waits for {self.waits_for}, "
            f"{format_size(self.unacked_bytes)} unacknowledged{again}"
        )
        for each in self.subflows:
            window = (
                "" if each.send_window_bytes is None else f"{format_size(each.send_window_bytes)}"
            )
            backup = " backup" if each.backup else ""
            yield (
                f"    {each.local} - {each.remote}{backup}  {each.state}  "
                f"tx {format_rate(each.tx_bps)}  rx {format_rate(each.rx_bps)}  "
                f"RTT {format_duration(each.srtt_ns)}  cwnd {format_size(each.cwnd_bytes)}  "
                f"window {window or 'unknown'}  {each.retransmissions} sent again"
            )


def watch_connections(
    look: Look, interval_ns: int, count: int | None = None
) -> Iterator[tuple[Sockets, list[ConnectionReading]]]:
    """Yield what there is and what it did every interval, ``count`` times or for ever."""
    monitor = ConnectionMonitor()
    monitor.take(look())
    due_ns = time.monotonic_ns()
    done = 0
    while count is None or done < count:
        due_ns += interval_ns
        time.sleep(max(0, due_ns - time.monotonic_ns()) / NANOSECONDS)
        sockets = look()
        yield sockets, monitor.take(sockets)
        done += 1


class ConnectionMonitor:
    """Turns what a host says of its sockets into readings; the first only sets counters."""

    def __init__(self) -> None:
        self._before: Sockets | None = None

    def take(self, sockets: Sockets) -> list[ConnectionReading]:
        """Return a reading of each connection that was there before as well."""
        before, self._before = self._before, sockets
        if before is None or sockets.at_ns <= before.at_ns:
            return []
        seconds = (sockets.at_ns - before.at_ns) / NANOSECONDS
        known = {_token(each): each for each in before.mptcp}
        subflows = {_name(each): each for each in before.tcp}
        readings = []
        for connection in sockets.mptcp:
            last = known.get(_token(connection))
            if last is None or last.mptcp is None or connection.mptcp is None:
                continue
            own = [each for each in sockets.tcp if each.token == connection.mptcp.token]
            readings.append(_reading(connection, last, own, subflows, seconds))
        return readings


def _reading(
    connection: SocketSample,
    last: SocketSample,
    own: Sequence[SocketSample],
    before: Mapping[tuple[object, ...], SocketSample],
    seconds: float,
) -> ConnectionReading:
    info, was = connection.mptcp, last.mptcp
    assert info is not None
    assert was is not None
    reason, _ = mptcp_reason(connection, list(own))
    return ConnectionReading(
        token=info.token,
        local=socket_name(connection.local_address, connection.local_port),
        remote=socket_name(connection.remote_address, connection.remote_port),
        tx_bps=(info.bytes_acked - was.bytes_acked) * 8 / seconds,
        rx_bps=(info.bytes_received - was.bytes_received) * 8 / seconds,
        waits_for=NAMES[reason],
        unacked_bytes=max(0, info.bytes_sent - info.bytes_acked),
        reinjected_bytes=info.bytes_retransmitted - was.bytes_retransmitted,
        subflows=tuple(_subflow(each, before.get(_name(each)), seconds) for each in own),
    )


def _subflow(sample: SocketSample, last: SocketSample | None, seconds: float) -> SubflowReading:
    tcp, was = sample.tcp, last.tcp if last is not None else None
    assert tcp is not None
    acked, received, again = (
        (tcp.bytes_acked, tcp.bytes_received, tcp.retransmissions)
        if was is None
        else (
            tcp.bytes_acked - was.bytes_acked,
            tcp.bytes_received - was.bytes_received,
            tcp.retransmissions - was.retransmissions,
        )
    )
    return SubflowReading(
        local=socket_name(sample.local_address, sample.local_port),
        remote=socket_name(sample.remote_address, sample.remote_port),
        state=sample.state,
        backup=sample.backup,
        tx_bps=acked * 8 / seconds,
        rx_bps=received * 8 / seconds,
        srtt_ns=tcp.srtt_ns,
        cwnd_bytes=tcp.cwnd_bytes,
        send_window_bytes=tcp.send_window_bytes,
        retransmissions=again,
    )


def _token(sample: SocketSample) -> int | None:
    return None if sample.mptcp is None else sample.mptcp.token


def _name(sample: SocketSample) -> tuple[object, ...]:
    local = sample.local_address, sample.local_port
    return *local, sample.remote_address, sample.remote_port
