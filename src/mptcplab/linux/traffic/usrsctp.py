"""SCTP in user space: libusrsctp through ctypes, as much of it as one association needs.

The library (https://github.com/sctplab/usrsctp) is FreeBSD's SCTP for programs.  It is loaded when
a flow asks for it and needs no compiler.  What is declared here is of ``usrsctp.h`` of 0.9.5.0,
whose calls, structures and constants keep their names.  It calls nothing of ours back: its own
threads receive and keep time, and calls that wait let other Python threads run.

The library sends each packet in a UDP datagram (RFC 6951), from one socket for all addresses, so
that the kernel needs no SCTP, several associations share a host, and routes by destination say
which interface a packet leaves by.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
from collections.abc import Sequence
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_ssize_t,
    c_uint,
    c_uint16,
    c_uint32,
    c_void_p,
)
from typing import Any, Final

from mptcplab.linux.traffic.sockets import SO_RCVBUFFORCE

LIBRARY: Final = "libusrsctp.so.2"
PACKAGE: Final = "libusrsctp2"
"""Debian's package of it."""

_IPPROTO_SCTP: Final = 132
_UDP_BUFFER_BYTES: Final = 8 << 20
"""For datagrams that wait for the library's thread; it asks for 128 KiB itself."""

# usrsctp.h, "Socket options" and the flags of messages
_SCTP_NODELAY: Final = 0x0004
_SCTP_PEER_ADDR_PARAMS: Final = 0x000A
_SCTP_EVENT: Final = 0x001E
_SCTP_RECVRCVINFO: Final = 0x001F
_SCTP_REMOTE_UDP_ENCAPS_PORT: Final = 0x0024
_SCTP_GET_PEER_ADDR_INFO: Final = 0x0101
_SCTP_BINDX_ADD_ADDR: Final = 0x8001
_SCTP_SENDV_SNDINFO: Final = 1
_SCTP_RECVV_RCVINFO: Final = 1
_SPP_PMTUD_DISABLE: Final = 0x0010
_MSG_NOTIFICATION: Final = 0x2000
_SCTP_ASSOC_CHANGE: Final = 1
_SCTP_PEER_ADDR_CHANGE: Final = 2
_SCTP_COMM_LOST: Final = 2
_SCTP_CANT_STR_ASSOC: Final = 5
_ADDRESS_STATES: Final = {1: "available", 2: "unreachable", 5: "made primary", 6: "confirmed"}

# native byte order and alignment, as the compiler lays them out; addresses are in network order
_SOCKADDR_IN: Final = struct.Struct("=H2s4s8x")
_STORAGE_BYTES: Final = 128  # struct sockaddr_storage
_SNDINFO: Final = struct.Struct("@HHIII")  # sid, flags, ppid, context, assoc_id
_RCVINFO: Final = struct.Struct("@HHHIIIII")  # sid, ssn, flags, ppid, tsn, cumtsn, context, assoc
_UDPENCAPS: Final = struct.Struct("@128sI2s2x")  # address, assoc_id, port
_PADDRPARAMS: Final = struct.Struct("@128sIIIIIHB1x")
_PADDRINFO: Final = struct.Struct("@128sIiIIII")  # address, assoc_id, state, cwnd, srtt, rto, mtu
_EVENT: Final = struct.Struct("@IHBx")  # assoc_id, type, on
_NOTIFICATION: Final = struct.Struct("@HHI")  # type, flags, length
_ASSOC_CHANGE: Final = struct.Struct("@HHIHHHHI")
_PADDR_CHANGE: Final = struct.Struct("@HHI128sIII")

CMT_OFF: Final = 0  # SCTP_CMT_OFF
CMT_PLAIN: Final = 1  # SCTP_CMT_BASE: each path has its own congestion control
CMT_COUPLED: Final = 4  # SCTP_CMT_MPTCP: paths are coupled as MPTCP's LIA couples subflows

CONGESTION_MODULES: Final = {"reno": 0, "highspeed": 1, "htcp": 2}
"""Congestion controls of the library, by Linux's names: SCTP_CC_RFC2581, _HSTCP and _HTCP."""


class SctpError(RuntimeError):
    """SCTP that this machine cannot have, or a call of the library's that failed; says which."""


class Library:
    """The library, with the types of its calls declared."""

    def __init__(self) -> None:
        """Load it; SctpError where it is not installed."""
        try:
            self._calls = ctypes.CDLL(LIBRARY, use_errno=True)
        except OSError as error:
            raise SctpError(
                f"{LIBRARY} is not on this machine ({error}); install Debian's package {PACKAGE}"
            ) from None
        for name, (result, arguments) in _CALLS.items():
            call = getattr(self._calls, name)
            call.restype, call.argtypes = result, arguments

    def start(self, udp_port: int, settings: dict[str, int]) -> None:
        """Start its threads, which receive on a UDP port; ``settings`` are its sysctls by name.

        SctpError where it does not get the port, or refuses a setting.
        """
        before = _sockets()
        self._calls.usrsctp_init(udp_port, None, None)
        ours = _sockets() - before
        if not any(_is_bound(descriptor, udp_port) for descriptor in ours):
            raise SctpError(f"libusrsctp did not get UDP port {udp_port} for SCTP")
        for descriptor in ours:
            _enlarge(descriptor)
        for name, value in settings.items():
            setter = getattr(self._calls, f"usrsctp_sysctl_set_{name}")
            setter.restype, setter.argtypes = c_int, (c_uint32,)
            if setter(value) != 0:
                raise SctpError(f"libusrsctp refuses {name} = {value}")

    def call(self, name: str, *arguments: Any) -> int:
        """Make a call that returns a negative number on failure; SctpError then."""
        result: int = getattr(self._calls, name)(*arguments)
        if result < 0:
            raise failure(name, ctypes.get_errno())
        return result

    def pointer(self, name: str, *arguments: Any) -> int:
        """Make a call that returns a pointer, NULL on failure; SctpError then."""
        result: int | None = getattr(self._calls, name)(*arguments)
        if result is None:
            raise failure(name, ctypes.get_errno())
        return result

    def close(self, handle: int) -> None:
        """Close one of its sockets."""
        self._calls.usrsctp_close(handle)


def failure(call: str, number: int) -> SctpError:
    """Return the error of a failed call."""
    return SctpError(f"{call}: {os.strerror(number)}")


_CALLS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "usrsctp_init": (None, (c_uint16, c_void_p, c_void_p)),
    "usrsctp_socket": (c_void_p, (c_int, c_int, c_int, c_void_p, c_void_p, c_uint32, c_void_p)),
    "usrsctp_setsockopt": (c_int, (c_void_p, c_int, c_int, c_char_p, c_uint32)),
    "usrsctp_getsockopt": (c_int, (c_void_p, c_int, c_int, c_void_p, POINTER(c_uint32))),
    "usrsctp_bindx": (c_int, (c_void_p, c_char_p, c_int, c_int)),
    "usrsctp_listen": (c_int, (c_void_p, c_int)),
    "usrsctp_accept": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "usrsctp_connectx": (c_int, (c_void_p, c_char_p, c_int, POINTER(c_uint32))),
    "usrsctp_close": (None, (c_void_p,)),
    "usrsctp_sendv": (
        c_ssize_t,
        (c_void_p, c_char_p, c_size_t, c_void_p, c_int, c_char_p, c_uint32, c_uint, c_int),
    ),
    "usrsctp_recvv": (
        c_ssize_t,
        (
            c_void_p,
            c_void_p,
            c_size_t,
            c_void_p,
            POINTER(c_uint32),
            c_void_p,
            POINTER(c_uint32),
            POINTER(c_uint),
            POINTER(c_int),
        ),
    ),
}


class Message:
    """What :meth:`Association.receive` returned: a message, a part of one, or a notification.

    ``protocol`` is its payload protocol identifier.  Where ``path`` is set, it says of a peer's
    address what has become of it, in ``state``.  ``lost`` says why the association is no more.
    """

    __slots__ = ("lost", "path", "protocol", "size_bytes", "state")

    def __init__(self, size_bytes: int, protocol: int = 0) -> None:
        self.size_bytes = size_bytes
        self.protocol = protocol
        self.path = self.state = self.lost = ""


class Association:
    """One end of an association between two multihomed hosts, in the manner of one socket."""

    def __init__(self, library: Library, handle: int | None = None) -> None:
        """Open a socket, or take one that was accepted."""
        self._library = library
        if handle is None:
            handle = library.pointer(
                "usrsctp_socket",
                socket.AF_INET,
                socket.SOCK_STREAM,
                _IPPROTO_SCTP,
                None,
                None,
                0,
                None,
            )
        self._handle = handle
        self._info = ctypes.create_string_buffer(_RCVINFO.size)

    def prepare(self, locals_: Sequence[str], port: int, udp_port: int, path_mtu: int) -> None:
        """Bind to addresses; packets of at most ``path_mtu`` bytes go to the peer's UDP port.

        ``path_mtu`` includes IP's header.
        """
        self._set(_SCTP_NODELAY, struct.pack("@i", 1))
        self._set(_SCTP_RECVRCVINFO, struct.pack("@i", 1))
        nowhere = bytes(_STORAGE_BYTES)
        udp = struct.pack("!H", udp_port)
        self._set(_SCTP_REMOTE_UDP_ENCAPS_PORT, _UDPENCAPS.pack(nowhere, 0, udp))
        parameters = (nowhere, 0, 0, path_mtu, _SPP_PMTUD_DISABLE, 0, 0, 0)
        self._set(_SCTP_PEER_ADDR_PARAMS, _PADDRPARAMS.pack(*parameters))
        for kind in (_SCTP_ASSOC_CHANGE, _SCTP_PEER_ADDR_CHANGE):
            self._set(_SCTP_EVENT, _EVENT.pack(0, kind, 1))
        for number, address in enumerate(locals_):
            try:
                self._library.call(
                    "usrsctp_bindx",
                    self._handle,
                    sockaddr(address, 0 if number else port),
                    1,
                    _SCTP_BINDX_ADD_ADDR,
                )
            except SctpError as error:
                raise SctpError(f"SCTP cannot bind to {address}: {error}") from None

    def listen(self) -> Association:
        """Wait for the peer's association and return it."""
        self._library.call("usrsctp_listen", self._handle, 1)
        return Association(
            self._library, self._library.pointer("usrsctp_accept", self._handle, None, None)
        )

    def connect(self, remotes: Sequence[str], port: int) -> None:
        """Set an association up with a peer, by all its addresses; SctpError where none answers."""
        addresses = b"".join(sockaddr(address, port) for address in remotes)
        identifier = c_uint32()
        try:
            self._library.call(
                "usrsctp_connectx", self._handle, addresses, len(remotes), byref(identifier)
            )
        except SctpError as error:
            raise SctpError(f"SCTP cannot connect to {', '.join(remotes)}: {error}") from None

    def send(self, data: bytes, protocol: int) -> None:
        """Send one message, waiting until there is room for all of it."""
        info = _SNDINFO.pack(0, 0, protocol, 0, 0)
        self._library.call(
            "usrsctp_sendv",
            self._handle,
            data,
            len(data),
            None,
            0,
            info,
            len(info),
            _SCTP_SENDV_SNDINFO,
            0,
        )

    def receive(self, buffer: ctypes.Array[ctypes.c_char]) -> Message:
        """Wait for a message, or a part of one that is larger than the buffer; zero bytes: the end.

        SctpError where the association has failed.
        """
        info_bytes, kind, flags = c_uint32(_RCVINFO.size), c_uint(), c_int()
        size = self._library.call(
            "usrsctp_recvv",
            self._handle,
            buffer,
            len(buffer),
            None,
            byref(c_uint32(0)),
            self._info,
            byref(info_bytes),
            byref(kind),
            byref(flags),
        )
        if flags.value & _MSG_NOTIFICATION:
            return notification(buffer.raw[:size])
        protocol = 0
        if kind.value == _SCTP_RECVV_RCVINFO:
            protocol = _RCVINFO.unpack(self._info.raw)[3]
        return Message(size, protocol)

    def path(self, remote: str, port: int) -> dict[str, int]:
        """Return what the library knows of the path to one of the peer's addresses.

        ``cwnd_bytes``, ``srtt_ms``, ``rto_ms``, ``mtu_bytes`` and its ``state``, one of
        ``SCTP_ACTIVE`` (1), ``SCTP_INACTIVE`` (2) and ``SCTP_UNCONFIRMED`` (0x200).
        """
        address = sockaddr(remote, port).ljust(_STORAGE_BYTES, b"\0")
        data = ctypes.create_string_buffer(_PADDRINFO.pack(address, 0, 0, 0, 0, 0, 0))
        size = c_uint32(_PADDRINFO.size)
        self._library.call(
            "usrsctp_getsockopt",
            self._handle,
            _IPPROTO_SCTP,
            _SCTP_GET_PEER_ADDR_INFO,
            data,
            byref(size),
        )
        _, _, state, cwnd, srtt, rto, mtu = _PADDRINFO.unpack(data.raw[: _PADDRINFO.size])
        names = ("state", "cwnd_bytes", "srtt_ms", "rto_ms", "mtu_bytes")
        return dict(zip(names, (state, cwnd, srtt, rto, mtu), strict=True))

    def close(self) -> None:
        """Close the socket; the library says goodbye to the peer if there still is one."""
        self._library.close(self._handle)

    def _set(self, option: int, value: bytes) -> None:
        self._library.call(
            "usrsctp_setsockopt", self._handle, _IPPROTO_SCTP, option, value, len(value)
        )


def sockaddr(address: str, port: int) -> bytes:
    """Return a struct sockaddr_in."""
    return _SOCKADDR_IN.pack(
        socket.AF_INET, struct.pack("!H", port), socket.inet_pton(socket.AF_INET, address)
    )


def notification(data: bytes) -> Message:
    """Return what a notification of the library's says (union sctp_notification)."""
    message = Message(0)
    kind, _, _ = _NOTIFICATION.unpack_from(data)
    message.protocol = -1
    if kind == _SCTP_ASSOC_CHANGE:
        state, error = _ASSOC_CHANGE.unpack_from(data)[3:5]
        if state == _SCTP_COMM_LOST:
            message.lost = f"the association was lost (error {error})"
        elif state == _SCTP_CANT_STR_ASSOC:
            message.lost = "the peer did not answer to INIT"
    elif kind == _SCTP_PEER_ADDR_CHANGE:
        _, _, _, address, state, _, _ = _PADDR_CHANGE.unpack_from(data)
        message.path = socket.inet_ntop(socket.AF_INET, address[4:8])
        message.state = _ADDRESS_STATES.get(state, "")
    return message


def _sockets() -> set[int]:
    """Return this process's descriptors of sockets."""
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names alone
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found.add(int(name))
        except OSError:  # that of the listing itself
            continue
    return found


def _is_bound(descriptor: int, port: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        return sock.type == socket.SOCK_DGRAM and sock.getsockname()[1] == port


def _enlarge(descriptor: int) -> None:
    """Let a socket of the library's keep more datagrams until its thread comes to them."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _UDP_BUFFER_BYTES)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UDP_BUFFER_BYTES)
