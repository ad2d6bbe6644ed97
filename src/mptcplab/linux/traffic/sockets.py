"""Opening the generator's sockets exactly as a scenario asks, or saying why that cannot be."""

from __future__ import annotations

import socket
import struct
from dataclasses import asdict, dataclass
from typing import Any, Final

IPPROTO_MPTCP: Final = 262  # include/uapi/linux/in.h
SOL_MPTCP: Final = 284  # include/uapi/linux/mptcp.h
MPTCP_INFO: Final = 1
_INFO_FLAGS_OFFSET: Final = 8  # struct mptcp_info.mptcpi_flags
_INFO_FALLBACK: Final = 1  # MPTCP_INFO_FLAG_FALLBACK
_TCP_IS_MPTCP: Final = 43  # include/uapi/linux/tcp.h
_TCP_FASTOPEN_CONNECT: Final = 30
_SYN_RECV: Final = 3  # include/net/tcp_states.h
SO_SNDBUFFORCE: Final = 32  # include/uapi/asm-generic/socket.h
SO_RCVBUFFORCE: Final = 33
_BACKLOG: Final = 128
_DATAGRAM_BUFFER_BYTES: Final = 4 << 20  # or what net.core.rmem_max allows


class SocketError(RuntimeError):
    """The kernel would not give the socket that was asked for; the text says what it gave."""


@dataclass(frozen=True, slots=True)
class SocketPlan:
    """One end of a connection.

    ``role`` is "listen" or "connect".  A listener binds to the wildcard of ``family`` (AF_INET6
    takes IPv4 too), because joins go to announced addresses too.  ``local`` and ``remote``
    are the addresses of the initial subflow.  Buffer sizes are what getsockopt is to return, that
    is the doubled value (socket(7), SO_RCVBUF); None leaves them to autotuning.
    """

    role: str
    protocol: str
    family: int
    port: int
    local: str = ""
    remote: str = ""
    congestion: str = "cubic"
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None
    fast_open: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SocketPlan:
        """Return the plan that :meth:`to_json` described."""
        return cls(**values)


def open_socket(plan: SocketPlan) -> socket.socket:
    """Return a listening socket, or one bound and ready to connect; SocketError otherwise."""
    protocol = IPPROTO_MPTCP if plan.protocol == "mptcp" else socket.IPPROTO_TCP
    try:
        sock = socket.socket(plan.family, socket.SOCK_STREAM, protocol)
    except OSError as error:
        raise SocketError(f"no {plan.protocol} socket: {error.strerror}") from error
    try:
        _prepare(sock, plan)
    except BaseException:
        sock.close()
        raise
    return sock


def connect(sock: socket.socket, plan: SocketPlan) -> None:
    """Connect to the plan's remote address; SocketError where nothing answers."""
    try:
        sock.connect((in_family(plan.remote, plan.family), plan.port))
    except OSError as error:
        raise SocketError(
            f"{plan.local} cannot connect to {plan.remote} port {plan.port}: {error}"
        ) from error


def protocol_in_use(sock: socket.socket, asked: str) -> str:
    """Return "mptcp", "tcp", or "fallback" where MPTCP was asked for and the connection is TCP."""
    if asked != "mptcp":
        return "tcp"
    try:
        if not sock.getsockopt(socket.IPPROTO_TCP, _TCP_IS_MPTCP):
            return "fallback"
        info = sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 96)
    except OSError:
        return "fallback"  # the options answer on MPTCP sockets only
    (flags,) = struct.unpack_from("=I", info, _INFO_FLAGS_OFFSET)
    return "fallback" if flags & _INFO_FALLBACK else "mptcp"


def is_half_open(sock: socket.socket) -> bool:
    """Say whether the handshake of a connection is not done: TCP Fast Open returns it before."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _SYN_RECV


def name_of(address: Any) -> str:
    """Return "ADDRESS:PORT" or "[ADDRESS]:PORT" for a socket name; mapped IPv4 reads as IPv4."""
    host, port = str(address[0]), int(address[1])
    host = host.removeprefix("::ffff:") if "." in host else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _prepare(sock: socket.socket, plan: SocketPlan) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _set_buffer(sock, socket.SO_SNDBUF, SO_SNDBUFFORCE, plan.send_buffer_bytes, "wmem_max")
    _set_buffer(sock, socket.SO_RCVBUF, SO_RCVBUFFORCE, plan.receive_buffer_bytes, "rmem_max")
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, plan.congestion.encode())
    except OSError as error:
        raise SocketError(
            f'congestion control "{plan.congestion}" refused: {error.strerror}; '
            "see /proc/sys/net/ipv4/tcp_available_congestion_control"
        ) from error
    if plan.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if plan.fast_open:
        _open_fast(sock, plan)
    if plan.role == "listen":
        sock.bind(("::" if plan.family == socket.AF_INET6 else "0.0.0.0", plan.port))  # noqa: S104 - joins to announced addresses need the wildcard
        sock.listen(_BACKLOG)
    else:
        sock.bind((in_family(plan.local, plan.family), 0))


def _open_fast(sock: socket.socket, plan: SocketPlan) -> None:
    """Ask for TCP Fast Open: then connect() waits for the first write if there is a cookie."""
    try:
        if plan.role == "listen":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, _BACKLOG)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_CONNECT, 1)
    except OSError as error:
        raise SocketError(
            f"TCP Fast Open refused on a {plan.protocol} socket: {error.strerror}; it needs "
            "net.ipv4.tcp_fastopen = 3, and of MPTCP Linux 6.2 (November 2022) or later"
        ) from error


def open_datagram_socket(plan: SocketPlan) -> socket.socket:
    """Return a UDP socket: one that listens, or one that is bound and connected."""
    sock = socket.socket(plan.family, socket.SOCK_DGRAM)
    try:
        if plan.role == "listen":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DATAGRAM_BUFFER_BYTES)
            sock.bind(("::" if plan.family == socket.AF_INET6 else "0.0.0.0", plan.port))  # noqa: S104 - as for connections
        else:
            sock.bind((in_family(plan.local, plan.family), 0))
            sock.connect((in_family(plan.remote, plan.family), plan.port))
    except OSError as error:
        sock.close()
        raise SocketError(f"no UDP socket on {plan.local}: {error.strerror}") from error
    return sock


def _set_buffer(
    sock: socket.socket, option: int, force: int, size_bytes: int | None, limit: str
) -> None:
    if size_bytes is None:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size_bytes // 2)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, option, size_bytes // 2)
    got = sock.getsockopt(socket.SOL_SOCKET, option)
    if got != size_bytes - size_bytes % 2:  # the kernel doubles what it is given
        which = "send" if option == socket.SO_SNDBUF else "receive"
        if got < size_bytes:  # SO_SNDBUFFORCE and SO_RCVBUFFORCE are for the machine's root alone
            why = f"run as root, or raise net.core.{limit} to {size_bytes // 2} at least"
        else:
            why = "sizes are from 4608 (send) or 2304 (receive) bytes up"
        raise SocketError(
            f"a {which} buffer of {size_bytes} bytes was asked for and {got} granted; {why}"
        )


def in_family(address: str, family: int) -> str:
    """Return an address as a socket of a family takes it: IPv4 mapped in one of IPv6."""
    return f"::ffff:{address}" if family == socket.AF_INET6 and ":" not in address else address
