"""Sockets as the kernel sees them: TCP_INFO of every subflow, MPTCP_INFO of every connection.

Asked through sock_diag(7) from outside, so that the processes that carry the traffic are not
disturbed; a dump of a dozen sockets costs some tens of microseconds.  A subflow names the
connection that it belongs to by its local token, in the ULP attributes (net/mptcp/diag.c).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from mptcplab.linux.kernel import netlink
from mptcplab.linux.kernel.netlink import NLM_F_DUMP, NetlinkSocket, Request

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20

# include/uapi/linux/inet_diag.h
_REQUEST_PROTOCOL: Final = 3
_DIAG_INFO: Final = 2
_DIAG_CONG: Final = 4
_DIAG_SKMEMINFO: Final = 7
_DIAG_ULP_INFO: Final = 19
_EXTENSIONS: Final = 1 << (_DIAG_INFO - 1) | 1 << (_DIAG_CONG - 1) | 1 << (_DIAG_SKMEMINFO - 1)
_ULP_MPTCP: Final = 3
_SUBFLOW_TOKEN_LOC: Final = 2
_SUBFLOW_FLAGS: Final = 8
_SUBFLOW_ID_LOC: Final = 10
_FLAG_BACKUP: Final = 1 << 4 | 1 << 5  # BKUP_REM, BKUP_LOC
_MESSAGE_BYTES: Final = 72  # struct inet_diag_msg
_IPPROTO_MPTCP: Final = 262

# include/net/tcp_states.h, by the names of RFC 9293 section 3.3.2
STATES: Final = {
    1: "ESTABLISHED",
    2: "SYN-SENT",
    3: "SYN-RECEIVED",
    4: "FIN-WAIT-1",
    5: "FIN-WAIT-2",
    6: "TIME-WAIT",
    7: "CLOSED",
    8: "CLOSE-WAIT",
    9: "LAST-ACK",
    10: "LISTEN",
    11: "CLOSING",
    12: "SYN-RECEIVED",
}
_AT_ONCE: Final = 32
"""Sockets asked for at a time: their answers must fit the netlink socket's receive buffer."""
_LISTENERS: Final = 1 << 10
_STATE_MASK: Final = 0xFFF & ~_LISTENERS
_INFINITE_SSTHRESH: Final = 0x7FFFFFFF  # include/net/tcp.h, TCP_INFINITE_SSTHRESH


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What struct tcp_info says, in the units of the run's tables.

    ``bytes_acked`` counts an active opener's SYN, and it and ``bytes_received`` count a FIN.
    """

    cwnd_bytes: int
    ssthresh_bytes: int | None
    srtt_ns: int
    rttvar_ns: int
    rto_ns: int
    mss_bytes: int
    in_flight_bytes: int
    send_window_bytes: int | None
    receive_window_bytes: int | None
    bytes_sent: int
    bytes_acked: int
    bytes_received: int
    bytes_retransmitted: int
    retransmissions: int
    lost_packets: int
    ca_state: int = 0
    unacked_packets: int = 0
    sacked_packets: int = 0
    has_room: bool = False
    """Less is in flight than the congestion window allows."""
    unsent_bytes: int = 0
    last_ack_ms: int = 0
    """How long ago the last ACK came."""
    busy_ns: int | None = None
    receive_window_limited_ns: int | None = None
    send_buffer_limited_ns: int | None = None


CA_RECOVERY: Final = 3
CA_LOSS: Final = 4
"""Values of ``ca_state``, enum tcp_ca_state: in fast recovery, and after a timeout."""


@dataclass(frozen=True, slots=True)
class MptcpInfo:
    """What struct mptcp_info says (include/uapi/linux/mptcp.h).

    ``bytes_acked`` counts a DATA_FIN.
    """

    token: int
    fallback: bool
    subflows: int
    write_seq: int
    snd_una: int
    rcv_nxt: int
    bytes_retransmitted: int
    bytes_sent: int
    bytes_received: int
    bytes_acked: int


@dataclass(frozen=True, slots=True)
class SocketSample:
    """One socket: a subflow or plain TCP (``tcp``), or an MPTCP connection (``mptcp``).

    ``token`` is the local token of the connection that a subflow belongs to, None for plain TCP.
    ``outstanding_bytes`` is what a TCP socket holds that its peer has not acknowledged, sent or
    not; a FIN counts as one.  ``unread_bytes`` is what a TCP socket's application has not read;
    ``queued_bytes`` is the memory that its send queue takes, as the send buffer counts it.
    ``key`` is what :meth:`DiagSocket.look` finds the socket by.
    """

    state: str
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    outstanding_bytes: int
    receive_buffer_bytes: int | None
    send_buffer_bytes: int | None
    tcp: TcpInfo | None = None
    mptcp: MptcpInfo | None = None
    token: int | None = None
    backup: bool = False
    local_id: int | None = None
    unread_bytes: int = 0
    queued_bytes: int | None = None
    key: bytes = b""
    inode: int = 0
    """By which /proc/PID/fd names it; 0 where no process has it open any more."""
    congestion: str = ""
    """The name of a TCP socket's congestion control; empty where it has none any more."""


class DiagSocket:
    """Asks one network namespace for its sockets: the one it is created in."""

    def __init__(self) -> None:
        self._channel = NetlinkSocket(_NETLINK_SOCK_DIAG)

    def close(self) -> None:
        """Give the netlink socket back."""
        self._channel.close()

    def tcp(self) -> list[SocketSample]:
        """Return every TCP socket but listeners: subflows and plain TCP.

        Raises NetlinkError where the kernel refuses.
        """
        return self._both_families(socket.IPPROTO_TCP)

    def mptcp(self) -> list[SocketSample]:
        """Return every MPTCP connection; NetlinkError where the kernel refuses."""
        return self._both_families(_IPPROTO_MPTCP)

    def listeners(self) -> tuple[list[SocketSample], list[SocketSample]]:
        """Return the listening sockets: all of TCP, and those of MPTCP, which TCP's list has too.

        Raises NetlinkError where the kernel refuses.
        """
        tcp = self._both_families(socket.IPPROTO_TCP, _LISTENERS)
        return tcp, self._both_families(_IPPROTO_MPTCP, _LISTENERS)

    def look(self, samples: Sequence[SocketSample]) -> list[SocketSample]:
        """Return what has become of sockets that were sampled before, but of those that are gone.

        A dump walks through all sockets that the kernel has room for, in milliseconds; this finds
        each at once.
        """
        found = []
        for start in range(0, len(samples), _AT_ONCE):
            some = samples[start : start + _AT_ONCE]
            answers = self._channel.ask([_look_request(sample) for sample in some])
            for sample, answer in zip(some, answers, strict=True):
                if answer is not None:
                    found.append(parse_message(answer.body, sample.mptcp is not None))
        return found

    def _both_families(self, protocol: int, states: int = _STATE_MASK) -> list[SocketSample]:
        return [
            parse_message(message.body, protocol == _IPPROTO_MPTCP)
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in self._channel.query(_dump_request(family, protocol, states))
        ]


def _look_request(sample: SocketSample) -> Request:
    """Return the request for one socket: by its addresses, of a connection by its token."""
    family, identity = sample.key[0], sample.key[1:]
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, _EXTENSIONS, 0, _STATE_MASK)
    if sample.mptcp is None:
        body += identity
    else:  # net/mptcp/mptcp_diag.c takes the token in the place of the cookie
        body += identity[:-8] + struct.pack("=II", sample.mptcp.token, 0)
        body += netlink.u32(_REQUEST_PROTOCOL, _IPPROTO_MPTCP)
    return Request(_SOCK_DIAG_BY_FAMILY, 0, body, "look at a socket")


def _dump_request(family: int, protocol: int, states: int) -> Request:
    """Return the dump request; a protocol above 255 does not fit sdiag_protocol."""
    small = protocol if protocol < 256 else socket.IPPROTO_TCP
    body = struct.pack("=BBBBI", family, small, _EXTENSIONS, 0, states) + bytes(48)
    if protocol != small:
        body += netlink.u32(_REQUEST_PROTOCOL, protocol)
    return Request(_SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, body, "dump of sockets")


def parse_message(payload: bytes, is_mptcp: bool) -> SocketSample:
    """Return the sample that one struct inet_diag_msg and its attributes describe."""
    family, state = payload[0], payload[1]
    local_port, remote_port = struct.unpack_from("!HH", payload, 4)
    unread, outstanding = struct.unpack_from("=II", payload, 56)  # idiag_rqueue, idiag_wqueue
    (inode,) = struct.unpack_from("=I", payload, 68)
    attributes = netlink.attributes(payload[_MESSAGE_BYTES:])
    memory = attributes.get(_DIAG_SKMEMINFO)
    receive_buffer, send_buffer, queued = None, None, None
    if memory is not None:  # SK_MEMINFO_RCVBUF 1, SK_MEMINFO_SNDBUF 3, SK_MEMINFO_WMEM_QUEUED 5
        _, receive_buffer, _, send_buffer, _, queued = struct.unpack_from("=6I", memory)
    info = attributes.get(_DIAG_INFO)
    token, flags, local_id = _ulp(attributes.get(_DIAG_ULP_INFO))
    return SocketSample(
        state=STATES.get(state, str(state)),
        local_address=address_text(family, payload[8:24]),
        local_port=local_port,
        remote_address=address_text(family, payload[24:40]),
        remote_port=remote_port,
        outstanding_bytes=outstanding,
        receive_buffer_bytes=receive_buffer,
        send_buffer_bytes=send_buffer,
        tcp=_parse_tcp_info(info) if info and not is_mptcp else None,
        mptcp=_parse_mptcp_info(info) if info and is_mptcp else None,
        token=token,
        backup=bool(flags & _FLAG_BACKUP),
        local_id=local_id,
        unread_bytes=unread,
        queued_bytes=queued,
        key=payload[:1] + payload[4:52],
        inode=inode,
        congestion=attributes.get(_DIAG_CONG, b"").rstrip(b"\0").decode(errors="replace"),
    )


def _parse_tcp_info(info: bytes) -> TcpInfo:
    """Read struct tcp_info (include/uapi/linux/tcp.h); fields that a kernel lacks become None."""
    rto_us, _, mss = struct.unpack_from("=III", info, 8)
    unacked, sacked, lost, retrans = struct.unpack_from("=IIII", info, 24)
    rtt_us, rttvar_us, ssthresh, cwnd = struct.unpack_from("=IIII", info, 68)
    (total_retrans,) = struct.unpack_from("=I", info, 100)
    acked, received = struct.unpack_from("=QQ", info, 120)
    sent, retransmitted = struct.unpack_from("=QQ", info, 200)
    (last_ack,) = struct.unpack_from("=I", info, 56)
    (unsent,) = struct.unpack_from("=I", info, 144)
    busy_us, window_us, buffer_us = struct.unpack_from("=QQQ", info, 168)
    has_windows = len(info) >= 236  # tcpi_rcv_wnd came with 6.2
    send_window, receive_window = struct.unpack_from("=II", info, 228) if has_windows else (0, 0)
    in_flight = max(0, unacked - sacked - lost + retrans)
    return TcpInfo(
        cwnd_bytes=cwnd * mss,
        ssthresh_bytes=None if ssthresh >= _INFINITE_SSTHRESH else ssthresh * mss,
        srtt_ns=rtt_us * 1000,
        rttvar_ns=rttvar_us * 1000,
        rto_ns=rto_us * 1000,
        mss_bytes=mss,
        in_flight_bytes=in_flight * mss,
        send_window_bytes=send_window if has_windows else None,
        receive_window_bytes=receive_window if has_windows else None,
        bytes_sent=sent,
        bytes_acked=acked,
        bytes_received=received,
        bytes_retransmitted=retransmitted,
        retransmissions=total_retrans,
        lost_packets=lost,
        ca_state=info[1],
        unacked_packets=unacked,
        sacked_packets=sacked,
        has_room=in_flight < cwnd,
        unsent_bytes=unsent,
        last_ack_ms=last_ack,
        busy_ns=busy_us * 1000,
        receive_window_limited_ns=window_us * 1000,
        send_buffer_limited_ns=buffer_us * 1000,
    )


def _parse_mptcp_info(info: bytes) -> MptcpInfo:
    """Read struct mptcp_info (include/uapi/linux/mptcp.h); kernels before 6.5 lack its counters."""
    info = info.ljust(96, b"\0")
    flags, token, write_seq, snd_una, rcv_nxt = struct.unpack_from("=IIQQQ", info, 8)
    bytes_retrans, bytes_sent, bytes_received, bytes_acked = struct.unpack_from("=QQQQ", info, 48)
    return MptcpInfo(
        token=token,
        fallback=bool(flags & 1),
        subflows=info[80] or info[0] + 1,
        write_seq=write_seq,
        snd_una=snd_una,
        rcv_nxt=rcv_nxt,
        bytes_retransmitted=bytes_retrans,
        bytes_sent=bytes_sent,
        bytes_received=bytes_received,
        bytes_acked=bytes_acked,
    )


def _ulp(data: bytes | None) -> tuple[int | None, int, int | None]:
    """Return (local token, flags, local address id) of a subflow."""
    nested = netlink.attributes(data).get(_ULP_MPTCP) if data is not None else None
    if nested is None:
        return None, 0, None
    values = netlink.attributes(nested)
    token = values.get(_SUBFLOW_TOKEN_LOC)
    flags = values.get(_SUBFLOW_FLAGS, bytes(4))
    local_id = values.get(_SUBFLOW_ID_LOC)
    return (
        struct.unpack("=I", token)[0] if token is not None else None,
        struct.unpack("=I", flags[:4].ljust(4, b"\0"))[0],
        local_id[0] if local_id else None,
    )


@lru_cache(maxsize=1024)  # the same few addresses, fifty times a second
def address_text(family: int, raw: bytes) -> str:
    """Return an address from its bytes; IPv4 mapped into IPv6 reads as IPv4."""
    if family == socket.AF_INET:
        return str(ip_address(raw[:4]))
    address = IPv6Address(raw)
    return str(address.ipv4_mapped or address)
