"""What a kernel's sender waits for, asked fifty times a second: the same reasons as our stack's.

A kernel counts for each subflow how long it was busy, and of that, how long it waited for its
peer's window or for its send buffer (struct tcp_info). It does not count what a connection waits
for: the data level's window, a scheduler that leaves a subflow unused, bytes that one subflow has
not delivered. So the sockets of the sending host are looked at, and until the next look the
connection is taken to wait for what was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mptcplab.linux.measure.identity import Identities
from mptcplab.linux.probes.diag import CA_LOSS, CA_RECOVERY, DiagSocket, SocketSample, TcpInfo
from mptcplab.linux.traffic.flow import Connection
from mptcplab.stack.mptcp.data_sender import HELD_DIVISOR, SLOWER_FACTOR
from mptcplab.stack.mptcp.send_limits import (
    APPLICATION,
    AVOIDANCE,
    BACKUP,
    DATA_ACK,
    HANDSHAKE,
    HEAD_OF_LINE_LOST,
    HEAD_OF_LINE_SLOW,
    NO_SUBFLOW,
    NOBODY,
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
    SendLimits,
)
from mptcplab.stack.readings import limit_rows

_LEAST_PROBE_NS: Final = 5_000_000
_MOST_PROBE_NS: Final = 20_000_000
_PROBE_SHARE: Final = 16
"""Sockets are looked at each time after this part of the time since a flow began, within these
bounds: a look takes some hundreds of microseconds."""

_SEARCH_NS: Final = 100_000_000
"""Sockets that are not known yet are searched for again after this, and then less and less often:
it takes milliseconds."""
_SEARCH_SHARE: Final = 8
"""While a connection is not up, a search comes after this part of the time since it began."""

Reason = tuple[int, SocketSample | None]
"""One of ``send_limits``, and the subflow that carries missing bytes."""

_QUIET_MS: Final = 20
"""Without an ACK for so long, what an ACK has said at the one level and not yet at the other is no
moment between two of them."""

_OPEN: Final = ("ESTABLISHED", "CLOSE-WAIT")
"""States in which an application may write (RFC 9293 section 3.3.2)."""


def probe_interval_ns(since_begin_ns: int) -> int:
    """Return when to look next, so long after the last flow began."""
    return min(max(since_begin_ns // _PROBE_SHARE, _LEAST_PROBE_NS), _MOST_PROBE_NS)


class LimitProbe:
    """What the connections of a host wait for on which it sends."""

    def __init__(self, host: str, diag: DiagSocket, identities: Identities) -> None:
        self._host = host
        self._diag = diag
        self._identities = identities
        self._connections: dict[int, Connection] = {}
        self._limits: dict[int, SendLimits] = {}
        self._up: set[int] = set()
        """Ports of the connections that have been seen established."""
        self._known: list[SocketSample] = []
        self._begun_ns = self._search_ns = 0
        self._wait_ns = _SEARCH_NS

    def begin(self, connection: Connection, time_ns: int) -> None:
        """A connection begins: from now on it waits for something, where this host sends."""
        flow = connection.flow
        if flow.source == self._host and flow.workload is None:  # else it waits for its answers
            self._connections[connection.port] = connection
            limits = self._limits[connection.port] = SendLimits()
            limits.note(HANDSHAKE, time_ns)
            self._begun_ns = self._search_ns = time_ns

    def rows(self, time_ns: int) -> list[dict[str, Any]]:
        """Return the rows of ``limits``: what each connection has waited for so far."""
        rows = []
        for port, limits in self._limits.items():
            connection = self._connections[port]
            shared = {
                "time_ns": time_ns,
                "host": self._host,
                "flow": connection.flow.name,
                "connection": connection.index,
            }
            rows += [shared | row for row in limit_rows(limits, time_ns)]
        return rows

    def probe(self, time_ns: int) -> None:
        """Look what they wait for now."""
        if not self._limits:
            return
        if time_ns >= self._search_ns:
            subflows_and_tcp = self._diag.tcp()
            self._identities.remember_tokens(self._host, subflows_and_tcp)
            everything = [*subflows_and_tcp, *self._diag.mptcp()]
            self._known = [each for each in everything if self._port(each) in self._limits]
        else:
            self._known = self._diag.look(self._known)
        subflows: dict[int, list[SocketSample]] = {}
        ends: dict[int, SocketSample] = {}
        for sample in self._known:
            port = self._port(sample)
            if sample.tcp is not None and sample.token is not None:
                subflows.setdefault(port, []).append(sample)
            else:
                ends[port] = sample
        for port, limits in self._limits.items():
            self._note(port, limits, ends.get(port), subflows.get(port, []), time_ns)
        self._plan_search(ends, subflows, time_ns)

    def _note(
        self,
        port: int,
        limits: SendLimits,
        end: SocketSample | None,
        subflows: list[SocketSample],
        time_ns: int,
    ) -> None:
        if end is None:
            if port in self._up and not subflows:
                limits.note(OVER, time_ns)
            return
        if end.mptcp is None:
            reason, blocking = tcp_reason(end)
        else:
            reason, blocking = mptcp_reason(end, subflows)
        if reason != HANDSHAKE:
            self._up.add(port)
        limits.note(reason, time_ns, self._number(blocking))

    def _plan_search(
        self,
        ends: dict[int, SocketSample],
        subflows: dict[int, list[SocketSample]],
        time_ns: int,
    ) -> None:
        """Say when to look for sockets that are not known, if any are missing."""
        missing = any(
            end.mptcp is not None and end.mptcp.subflows != len(subflows.get(port, ()))
            for port, end in ends.items()
        )
        if not missing:
            self._wait_ns = _SEARCH_NS
        elif time_ns >= self._search_ns:
            self._wait_ns = min(2 * self._wait_ns, 10 * _SEARCH_NS)
        search_ns = time_ns + (self._wait_ns if missing else 10 * _SEARCH_NS)
        if len(self._up) < len(self._limits):
            search_ns = time_ns + (time_ns - self._begun_ns) // _SEARCH_SHARE
        if time_ns >= self._search_ns or search_ns < self._search_ns:
            self._search_ns = search_ns

    def _port(self, sample: SocketSample) -> int:
        """Return the port that names the connection of a socket; 0 for one of no flow."""
        known = self._identities.of_socket(self._host, sample)
        return (
            0 if known is None or (sample.tcp is None and sample.mptcp is None) else known[0].port
        )

    def _number(self, sample: SocketSample | None) -> int:
        """Return the number of a subflow in its connection."""
        if sample is None:
            return NOBODY
        known = self._identities.of_socket(self._host, sample)
        assert known is not None
        local = (sample.local_address, sample.local_port)
        remote = (sample.remote_address, sample.remote_port)
        return self._identities.subflow(*known, local, remote).index


def tcp_reason(sample: SocketSample) -> Reason:
    """Return what the sender of a plain TCP connection waits for."""
    tcp = sample.tcp
    if tcp is None or sample.state.startswith("SYN"):
        return HANDSHAKE, None
    if _waiting_bytes(tcp) == 0:
        if sample.state not in _OPEN:
            return _ending(sample.outstanding_bytes - tcp.unsent_bytes, [tcp]), None
        return (SEND_BUFFER if _is_full(sample) else APPLICATION), None
    if _window_holds(sample):
        return RECEIVE_WINDOW, None
    return _congestion([tcp]), None


def mptcp_reason(sample: SocketSample, subflows: Sequence[SocketSample]) -> Reason:
    """Return what the sender of an MPTCP connection waits for, of its socket and its subflows."""
    info = sample.mptcp
    if info is None or sample.state.startswith("SYN"):
        return HANDSHAKE, None
    usable = [each for each in subflows if each.state in _OPEN and each.tcp is not None]
    tcps = [each.tcp for each in usable if each.tcp is not None]
    held_bytes = info.write_seq - info.snd_una
    sent_bytes = info.bytes_sent - info.bytes_acked
    if held_bytes > 1 and info.bytes_sent == 0 and any(tcp.bytes_sent for tcp in tcps):
        return UNKNOWN, None  # kernels before 6.5 do not count at the data level
    writes = sample.state in _OPEN
    unsent_bytes = held_bytes - sent_bytes - (not writes)  # a DATA_FIN counts as one
    if unsent_bytes <= 0 and not any(map(_waiting_bytes, tcps)):
        if not writes:
            return _ending(held_bytes, tcps), None
        return _full(SEND_BUFFER, sent_bytes, usable) if _is_full(sample) else (APPLICATION, None)
    if not usable:
        return NO_SUBFLOW, None
    free = [
        each
        for each in usable
        if each.tcp is not None and each.tcp.has_room and not _waiting_bytes(each.tcp)
    ]
    waiting = [each for each in usable if each.tcp is not None and _waiting_bytes(each.tcp)]
    if (free and _data_window_holds(sent_bytes, unsent_bytes, tcps)) or (
        waiting and all(map(_window_holds, waiting))
    ):
        return _full(RECEIVE_WINDOW, sent_bytes, usable)
    return _why_no_room(usable, free), None


def _waiting_bytes(tcp: TcpInfo) -> int:
    """Return what waits to be sent on a subflow.

    Less than a segment, with room for it, waits to be filled up (tcp_nagle_check), not for anybody;
    a byte beyond a closed window is a probe.
    """
    sliver = tcp.unsent_bytes < tcp.mss_bytes and tcp.has_room and tcp.send_window_bytes != 0
    return 0 if sliver else tcp.unsent_bytes


def _window_holds(sample: SocketSample) -> bool:
    """Say whether it is the peer's window that keeps a subflow's data from being sent.

    It has no room for the next segment, or less than the congestion window has, so that a segment
    of more than one packet waits for it (tcp_tso_should_defer).
    """
    tcp = sample.tcp
    if tcp is None or tcp.send_window_bytes is None:
        return False
    room = tcp.send_window_bytes - (sample.outstanding_bytes - tcp.unsent_bytes)
    if room < min(tcp.mss_bytes, tcp.unsent_bytes):
        return True
    return tcp.has_room and room < min(tcp.unsent_bytes, tcp.cwnd_bytes - tcp.in_flight_bytes)


def _data_window_holds(sent_bytes: int, unsent_bytes: int, tcps: Sequence[TcpInfo]) -> bool:
    """Say whether the connection's window has no room for the next segment.

    Each subflow knows the window of its own last ACK; the latest of these counts.
    """
    latest = min(tcps, key=lambda tcp: (tcp.last_ack_ms, -(tcp.send_window_bytes or 0)))
    window = latest.send_window_bytes
    next_bytes = min(latest.mss_bytes, unsent_bytes)
    return unsent_bytes > 0 and window is not None and sent_bytes + next_bytes > window


def _is_full(sample: SocketSample) -> bool:
    """Say whether an application that writes is kept waiting (sk_stream_is_writeable)."""
    queued, size = sample.queued_bytes, sample.send_buffer_bytes
    return queued is not None and size is not None and 3 * queued > 2 * size


def _ending(unacked_bytes: int, tcps: Sequence[TcpInfo]) -> int:
    """The application writes no more, and everything was sent: return what goes on."""
    if unacked_bytes <= 0:
        return OVER
    reason = _congestion(tcps)
    return reason if reason in (RECOVERY, TIMEOUT) else TAIL


def _congestion(tcps: Sequence[TcpInfo]) -> int:
    """Return in what state the congestion control is that limits these subflows."""
    if any(tcp.ca_state == CA_LOSS for tcp in tcps):
        return TIMEOUT
    if any(tcp.ca_state == CA_RECOVERY for tcp in tcps):
        return RECOVERY
    slow = any(tcp.ssthresh_bytes is None or tcp.cwnd_bytes < tcp.ssthresh_bytes for tcp in tcps)
    return SLOW_START if slow else AVOIDANCE


def _on_way_bytes(tcp: TcpInfo) -> int:
    """Return what a subflow has sent and its peer has not said to have."""
    return (tcp.unacked_packets - tcp.sacked_packets) * tcp.mss_bytes


def _full(reason: int, sent_bytes: int, usable: Sequence[SocketSample]) -> Reason:
    """A window or buffer is full: see whether by what one subflow has not delivered yet.

    As our stack does (``DataSender._note_full``), but that a kernel does not tell which subflow has
    the oldest bytes: it is one that repairs a loss, or else the slowest that has any on the way.
    """
    tcps = [(each, each.tcp) for each in usable if each.tcp is not None]
    carrying = [(each, tcp) for each, tcp in tcps if _on_way_bytes(tcp) or tcp.unsent_bytes]
    on_way = any(tcp.unacked_packets or tcp.unsent_bytes for _, tcp in tcps)
    if tcps and not on_way and sent_bytes > 0:
        if reason == SEND_BUFFER:
            return DATA_ACK, None
        if min(tcp.last_ack_ms for _, tcp in tcps) >= _QUIET_MS:
            return WINDOW_DATA_ACK, None
    if len(tcps) < 2 or not carrying:
        return reason, None
    blocking, slow = max(
        carrying, key=lambda pair: (pair[1].ca_state >= CA_RECOVERY, pair[1].srtt_ns)
    )
    repairs = slow.ca_state >= CA_RECOVERY
    carried_bytes = sum(_on_way_bytes(tcp) + tcp.unsent_bytes for _, tcp in tcps)
    idle_ns = min(
        (
            tcp.srtt_ns
            for each, tcp in tcps
            if not each.backup and not tcp.unacked_packets and not tcp.unsent_bytes
        ),
        default=None,
    )
    if HELD_DIVISOR * (sent_bytes - carried_bytes) >= sent_bytes or (
        idle_ns is not None and (repairs or slow.srtt_ns >= SLOWER_FACTOR * idle_ns)
    ):
        return (HEAD_OF_LINE_LOST if repairs else HEAD_OF_LINE_SLOW), blocking
    return reason, None


def _why_no_room(usable: Sequence[SocketSample], free: Sequence[SocketSample]) -> int:
    """There are data and a window for them: return why no subflow carries them.

    Those that are ``free`` have room in their congestion windows, and nothing to send.
    """
    if free and all(map(_is_full, free)):
        return SEND_BUFFER
    if any(not each.backup for each in free):
        return SCHEDULER
    if free:
        return BACKUP
    return _congestion([each.tcp for each in usable if each.tcp is not None])
