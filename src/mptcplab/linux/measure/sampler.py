"""The rows of a run's tables, taken at one instant after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from mptcplab.linux.drivers.driver import LinkReading
from mptcplab.linux.measure.identity import Identities
from mptcplab.linux.measure.limit_probe import LimitProbe
from mptcplab.linux.probes.diag import DiagSocket, SocketSample, TcpInfo
from mptcplab.linux.probes.rtt import RttProber
from mptcplab.linux.traffic.flow import Connection, Traffic
from mptcplab.linux.traffic.plan import client_and_server
from mptcplab.units import NANOSECONDS

Rows = list[dict[str, Any]]

_SUMMED: Final = (
    "subflows",
    "send_buffer_bytes",
    "receive_buffer_bytes",
    "receive_window_bytes",
    "unacked_bytes",
    "bytes_sent",
    "bytes_acked",
    "bytes_received",
    "bytes_reinjected",
    "unread_bytes",
)
"""Columns of ``connections`` that are added where several sockets make up a connection."""

_FIN_RECEIVED: Final = ("CLOSE-WAIT", "CLOSING", "LAST-ACK")  # RFC 9293 section 3.3.2


class FlowSampler:
    """Goodput: what the receiving applications got since the last look."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], int] = {}
        self._time_ns: dict[str, int] = {}

    def sample(
        self, time_ns: int, traffic: Traffic, delivered: list[int], start_ns: int
    ) -> tuple[Rows, float]:
        """Return one row for each connection, and the flow's goodput (bit/s)."""
        rows: Rows = []
        total = 0.0
        for connection, received in zip(traffic.connections, delivered, strict=True):
            key = (connection.flow.name, connection.port)
            since_ns = self._time_ns.get(str(key), start_ns)
            interval_ns = time_ns - since_ns
            if interval_ns <= 0:
                continue
            count = received - self._seen.get(key, 0)
            self._seen[key] = received
            self._time_ns[str(key)] = time_ns
            goodput_bps = count * 8 * NANOSECONDS / interval_ns
            total += goodput_bps
            rows.append(
                {
                    "time_ns": time_ns,
                    "interval_ns": interval_ns,
                    "flow": connection.flow.name,
                    "connection": connection.index,
                    "protocol": connection.protocol or connection.flow.protocol,
                    "bytes": count,
                    "goodput_bps": goodput_bps,
                }
            )
        return rows, total


class LinkSampler:
    """What went over each link since the last look, and the RTT of the probe sent then."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], LinkReading] = {}
        self._time_ns: dict[tuple[str, str], int] = {}

    def sample(
        self,
        time_ns: int,
        link: str,
        direction: str,
        reading: LinkReading,
        up: bool,
        rate_bps: int | None,
    ) -> dict[str, Any] | None:
        """Return the row of one direction; None at the first look, which only sets the counters."""
        key = (link, direction)
        before = self._seen.get(key)
        self._seen[key] = reading
        since_ns = self._time_ns.get(key, time_ns)
        self._time_ns[key] = time_ns
        if before is None or time_ns <= since_ns:
            return None
        tx_bytes = reading.tx_bytes - before.tx_bytes
        counted_ns = max(1, reading.at_ns - before.at_ns)  # drivers answer a little after the tick
        return {
            "time_ns": time_ns,
            "interval_ns": time_ns - since_ns,
            "link": link,
            "direction": direction,
            "up": up,
            "rate_bps": rate_bps,
            "tx_bytes": tx_bytes,
            "tx_packets": reading.tx_packets - before.tx_packets,
            "bps": tx_bytes * 8 * NANOSECONDS / counted_ns,
            "queue_bytes": reading.queue_bytes,
            "queue_packets": reading.queue_packets,
            "drops_queue": _difference(reading.drops_queue, before.drops_queue),
            "marks": _difference(reading.marks, before.marks),
            "drops_loss": _difference(reading.drops_loss, before.drops_loss),
            "drops_down": _difference(reading.drops_down, before.drops_down),
            "duplicates": _difference(reading.duplicates, before.duplicates),
            "corrupted": _difference(reading.corrupted, before.corrupted),
        }


class RttSampler:
    """One echo an interval on each link; an answer counts for the interval in which it arrives.

    A link that is down gets none: the kernel would begin to look for the neighbour, give up a few
    seconds later, and with that fail whatever was sent in between, after the link's return too.
    """

    def __init__(self, probers: Mapping[str, RttProber], is_up: Callable[[str], bool]) -> None:
        self._probers = probers
        self._is_up = is_up

    def sample(self) -> dict[str, int | None]:
        """Return the last RTT (ns) that arrived on each link since the last call; send the next."""
        rtts: dict[str, int | None] = {}
        for link, prober in self._probers.items():
            answers = prober.collect()
            rtts[link] = answers[-1] if answers else None
            if self._is_up(link):
                prober.send()
        return rtts


class SocketSampler:
    """The state of subflows and connections, as one host's kernel shows it."""

    def __init__(self, host: str, diag: DiagSocket, identities: Identities) -> None:
        self.host = host
        self._diag = diag
        self._identities = identities
        self._sampled_ns = -1
        self._outstanding: dict[int, set[str | None]] = {}
        self.limits = LimitProbe(host, diag, identities)

    def sample(self, time_ns: int) -> tuple[Rows, Rows, dict[int, int]]:
        """Return the rows of subflows and connections, and bytes received by port."""
        self._sampled_ns = time_ns
        return self._take(time_ns)

    def present_subflows(self) -> Rows:
        """Return the rows of the subflows that there are now."""
        return self._take(0)[0]

    def outstanding(self, connection: Connection, since_ns: int) -> set[str | None] | None:
        """Return the links of the subflows that held something unacknowledged at the last sample.

        None where that was before ``since_ns``.
        """
        if self._sampled_ns < since_ns:
            return None
        return self._outstanding.get(connection.port, set())

    def _take(self, time_ns: int) -> tuple[Rows, Rows, dict[int, int]]:
        self._outstanding.clear()
        subflows: Rows = []
        connections: Rows = []
        received: dict[int, int] = {}
        plain: list[tuple[Connection, SocketSample, dict[str, Any]]] = []
        sockets = self._diag.tcp()
        self._identities.remember_tokens(self.host, sockets)
        for sample in sockets:
            known = self._identities.of_socket(self.host, sample)
            if known is None or sample.tcp is None or not known[0].is_sampled:
                continue
            connection, is_client = known
            row = self._subflow_row(time_ns, sample, connection, is_client)
            subflows.append(row)
            if sample.outstanding_bytes:
                self._outstanding.setdefault(connection.port, set()).add(row["link"])
            if sample.token is None:
                plain.append((connection, sample, row))
        for sample in self._diag.mptcp():
            known = self._identities.connection(self.host, sample.local_port, sample.remote_port)
            if known is None or sample.mptcp is None or not known[0].is_sampled:
                continue
            connections.append(self._mptcp_row(time_ns, sample, known[0]))
            port = known[0].port
            received[port] = received.get(port, 0) + sample.mptcp.bytes_received
        for connection, sample, row in plain:
            connections.append(self._tcp_row(sample, connection, row))
            count = received.get(connection.port, 0) + row["bytes_received"]
            received[connection.port] = count
        return subflows, _together(connections), received

    def _subflow_row(
        self, time_ns: int, sample: SocketSample, connection: Connection, is_client: bool
    ) -> dict[str, Any]:
        tcp = sample.tcp
        assert tcp is not None
        local = (sample.local_address, sample.local_port)
        remote = (sample.remote_address, sample.remote_port)
        subflow = self._identities.subflow(connection, is_client, local, remote)
        if self.host == connection.flow.source and sample.congestion:
            connection.congestion_seen.add(sample.congestion)
        # The kernel counts SYN and FIN among the bytes; the opener's SYN is acknowledged first.
        acked = tcp.bytes_acked - is_client - (sample.state == "FIN-WAIT-2")
        received = tcp.bytes_received - (sample.state in _FIN_RECEIVED)
        return {
            "time_ns": time_ns,
            "host": self.host,
            "flow": subflow.flow,
            "connection": subflow.connection,
            "subflow": subflow.index,
            "local": socket_name(*local),
            "remote": socket_name(*remote),
            "link": subflow.link,
            "state": sample.state,
            "backup": sample.backup,
            **tcp_columns(tcp),
            "bytes_acked": max(acked, 0),
            "bytes_received": received,
        }

    def _mptcp_row(
        self, time_ns: int, sample: SocketSample, connection: Connection
    ) -> dict[str, Any]:
        info = sample.mptcp
        assert info is not None
        self._identities.remember_token(self.host, info.token, connection.port)
        protocol = "fallback" if info.fallback else "mptcp"
        connection.protocol = connection.protocol or protocol
        acked = min(info.bytes_acked, info.bytes_sent)  # a DATA_FIN, acknowledged last, adds one
        return {
            "time_ns": time_ns,
            "host": self.host,
            "flow": connection.flow.name,
            "connection": connection.index,
            "token": info.token,
            "protocol": protocol,
            "subflows": info.subflows,
            "send_buffer_bytes": sample.send_buffer_bytes,
            "receive_buffer_bytes": sample.receive_buffer_bytes,
            "unacked_bytes": max(0, info.bytes_sent - acked),
            "bytes_sent": info.bytes_sent,
            "bytes_acked": acked,
            "bytes_received": info.bytes_received,
            "bytes_reinjected": info.bytes_retransmitted,
        }

    def _tcp_row(
        self, sample: SocketSample, connection: Connection, row: dict[str, Any]
    ) -> dict[str, Any]:
        protocol = "tcp" if connection.flow.protocol == "tcp" else "fallback"
        if sample.state == "ESTABLISHED":
            connection.protocol = connection.protocol or protocol
        same = ("time_ns", "host", "flow", "connection", "bytes_acked", "bytes_received")
        return {
            **{name: row[name] for name in (*same, "receive_window_bytes")},
            "protocol": protocol,
            "subflows": 1,
            "send_buffer_bytes": sample.send_buffer_bytes,
            "receive_buffer_bytes": sample.receive_buffer_bytes,
            "unacked_bytes": row["in_flight_bytes"],
            "bytes_sent": row["bytes_sent"] - row["bytes_retransmitted"],
            "unread_bytes": sample.unread_bytes,
        }


def _together(rows: Rows) -> Rows:
    """Return one row for each connection: the sum, where a program has several sockets for it."""
    whole: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        first = whole.setdefault((row["flow"], row["connection"]), row)
        if first is row:
            continue
        first["token"] = None
        if row["protocol"] == "fallback":
            first["protocol"] = "fallback"
        for name in _SUMMED:
            if name in row and name in first:
                both = (first[name], row[name])
                first[name] = None if None in both else sum(both)
    return list(whole.values())


def tcp_columns(tcp: TcpInfo) -> dict[str, Any]:
    """Return the columns of a subflow that TCP_INFO has as they are."""
    return {
        "cwnd_bytes": tcp.cwnd_bytes,
        "ssthresh_bytes": tcp.ssthresh_bytes,
        "srtt_ns": tcp.srtt_ns,
        "rttvar_ns": tcp.rttvar_ns,
        "rto_ns": tcp.rto_ns,
        "mss_bytes": tcp.mss_bytes,
        "in_flight_bytes": tcp.in_flight_bytes,
        "send_window_bytes": tcp.send_window_bytes,
        "receive_window_bytes": tcp.receive_window_bytes,
        "bytes_sent": tcp.bytes_sent,
        "bytes_acked": tcp.bytes_acked,
        "bytes_received": tcp.bytes_received,
        "bytes_retransmitted": tcp.bytes_retransmitted,
        "retransmissions": tcp.retransmissions,
        "lost_packets": tcp.lost_packets,
        "busy_ns": tcp.busy_ns,
        "receive_window_limited_ns": tcp.receive_window_limited_ns,
        "send_buffer_limited_ns": tcp.send_buffer_limited_ns,
        "unsent_bytes": tcp.unsent_bytes,
    }


def receiving_host(connection: Connection) -> str:
    """Return the host whose kernel knows what a connection has received."""
    return connection.flow.destination


def hosts_of(connections: Iterable[Connection]) -> list[str]:
    """Return the hosts that any of the connections ends at, in order of first mention."""
    hosts: dict[str, None] = {}
    for connection in connections:
        hosts.update(dict.fromkeys(client_and_server(connection.flow)))
    return list(hosts)


def socket_name(address: str, port: int) -> str:
    """Return "ADDRESS:PORT", or "[ADDRESS]:PORT" for IPv6."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _difference(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before
