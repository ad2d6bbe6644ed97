"""TCP packets of a network interface of this machine, as the bytes of a pcap file.

Linux's packet sockets (packet(7)) deliver them from their IP header on, whatever the link.  A
thread of its own empties the socket; what it cannot keep up with the kernel drops and counts.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from typing import Final

from mptcplab.trace.files.batch import CaptureError
from mptcplab.trace.files.sources import MoreComes, Source

ANY: Final = "any"
"""All interfaces."""

_ETH_P_ALL: Final = 3
_SO_RCVBUFFORCE: Final = 33
_SO_TIMESTAMPNS: Final = 35
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_PACKET_OUTGOING: Final = 4
_ARPHRD_LOOPBACK: Final = 772
_SO_ATTACH_FILTER: Final = 26
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION_3: Final = 0x20080522
_SYS_CAPSET: Final = {"x86_64": 126, "aarch64": 91, "riscv64": 91}

_SNAP_BYTES: Final = 1 << 18
_BUFFER_BYTES: Final = 64 << 20
_MOST_WAITING_BYTES: Final = 256 << 20
_CHUNK_BYTES: Final = 1 << 20
_LOOK_S: Final = 0.2
_RAW_IP: Final = 101  # LINKTYPE_RAW
_FILE_HEADER: Final = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, _SNAP_BYTES, _RAW_IP)

_LOAD_PROTOCOL: Final = (0x28, 0, 0, 0xFFFFF000)  # the EtherType, from the socket buffer
_TCP_ONLY: Final = (
    _LOAD_PROTOCOL,
    (0x15, 1, 0, 0x0800),  # IPv4: 3, else 2
    (0x15, 2, 11, 0x86DD),  # IPv6: 5, else 14
    (0x30, 0, 0, 9),  # its protocol
    (0x15, 8, 9, 6),  # TCP: 13, else 14
    (0x30, 0, 0, 6),  # the next header: TCP, or what may stand between (RFC 8200 section 4)
    (0x15, 6, 0, 6),
    (0x15, 5, 0, 0),
    (0x15, 4, 0, 43),
    (0x15, 3, 0, 44),
    (0x15, 2, 0, 60),
    (0x15, 1, 0, 51),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, _SNAP_BYTES),
    (0x06, 0, 0, 0),
)
"""A classic BPF program (bpf(4)): (code, jump if true, jump if false, operand)."""


class NoRightError(CaptureError):
    """This user may not capture."""

    exit_status = 3


class InterfaceSource(Source):
    """The packets that an interface sends and receives from now on."""

    def __init__(self, name: str, more_comes: MoreComes) -> None:
        """Start to capture on interface ``name``, or on ``any``.

        Raises ``CaptureError`` where there is no such interface or where the right is missing.
        """
        self.name = f"interface {name}"
        self.size = 0
        self.is_growing = True
        self.dropped = 0
        """Packets that the kernel dropped because nobody took them in time."""
        self._more_comes = more_comes
        self._socket = _opened(name)
        self._chunks: deque[bytes] = deque([_FILE_HEADER])
        self._waiting_bytes = 0
        self._error: OSError | None = None
        self._ended = threading.Event()
        self.stream = self
        self._thread = threading.Thread(target=self._empty, name="capture", daemon=True)

    def start(self) -> None:
        """Take packets from now on; the rights to capture are no longer needed."""
        self._thread.start()

    def position(self) -> int:
        """Return 0: there is no file."""
        return 0

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill some of the buffer; 0 is the end."""
        while not self._chunks:
            if self._error is not None:
                raise CaptureError(f"{self.name}: {self._error.strerror or self._error}")
            if not self._more_comes():
                return 0
        chunk = self._chunks.popleft()
        count = min(len(chunk), len(buffer))
        buffer[:count] = chunk[:count]
        if count < len(chunk):
            self._chunks.appendleft(chunk[count:])
        self._waiting_bytes = max(0, self._waiting_bytes - count)
        return count

    def close(self) -> None:
        """Stop capturing; ``dropped`` is known then."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        counted = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self.dropped = struct.unpack("II", counted)[1]
        self._socket.close()

    def _empty(self) -> None:
        """Take packets from the socket, in the thread."""
        space = bytearray(_SNAP_BYTES)
        view = memoryview(space)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        try:
            while not self._ended.is_set():
                if self._waiting_bytes > _MOST_WAITING_BYTES:
                    self._ended.wait(_LOOK_S)
                elif poll.poll(1000 * _LOOK_S):
                    self._take(view)
        except OSError as error:  # the interface is gone
            self._error = error

    def _take(self, view: memoryview) -> None:
        """Take what is there, as the records of one chunk."""
        chunk = bytearray()
        receive = self._socket.recvmsg_into
        while len(chunk) < _CHUNK_BYTES:
            try:
                size, extra, _, origin = receive([view], 64, socket.MSG_TRUNC)
            except BlockingIOError:
                break
            if origin[2] == _PACKET_OUTGOING and origin[3] == _ARPHRD_LOOPBACK:
                continue  # the loopback interface delivers each packet a second time
            seconds, nanoseconds = struct.unpack("qq", extra[0][2])
            captured = min(size, _SNAP_BYTES)
            chunk += struct.pack("=IIII", seconds, nanoseconds, captured, size)
            chunk += view[:captured]
        if chunk:
            self._waiting_bytes += len(chunk)
            self._chunks.append(bytes(chunk))


def _opened(name: str) -> socket.socket:
    if not hasattr(socket, "AF_PACKET"):
        raise NoRightError(f"-i {name}: capturing needs Linux; pipe a capture in instead")
    there = [known for _, known in socket.if_nameindex()]
    if name != ANY and name not in there:
        raise CaptureError(
            f"-i {name}: there is no such interface; expected one of {', '.join([*there, ANY])}"
        )
    # Bound to an interface, a socket gets packets only once its filter is there; without, at once.
    protocol = socket.htons(_ETH_P_ALL) if name == ANY else 0
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    try:
        packets = socket.socket(socket.AF_PACKET, kind, protocol)
    except PermissionError:
        raise NoRightError(
            f"-i {name}: you may not capture here (CAP_NET_RAW is missing); run it as root, or "
            f"'sudo tcpdump -i {name} -s 128 -U -w - tcp | mptcplab inspect --follow -'"
        ) from None
    try:
        program = b"".join(struct.pack("HBBI", *step) for step in _TCP_ONLY)
        place = ctypes.create_string_buffer(program, len(program))
        fprog = struct.pack("HP", len(_TCP_ONLY), ctypes.addressof(place))
        packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
        packets.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            packets.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        if name == ANY:
            with suppress(BlockingIOError):
                while packets.recv(1):
                    pass  # came before the filter
        else:
            packets.bind((name, _ETH_P_ALL))
    except OSError as error:
        packets.close()
        raise CaptureError(f"-i {name}: {error.strerror or error}") from None
    return packets


def drop_rights() -> None:
    """Give up what root may do: all later work needs none of it.

    Under sudo, become the user who called it; otherwise keep the user, without capabilities.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and user.isdigit() and group.isdigit():
        os.setgroups([])
        os.setresgid(int(group), int(group), int(group))
        os.setresuid(int(user), int(user), int(user))
    number = _SYS_CAPSET.get(os.uname().machine)
    if number is not None:
        header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
        libc.syscall(number, header, bytes(24))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
