"""Netlink: messages as bytes, sockets that send them in batches, errors that say what was asked.

A `Request` is a finished message without its sequence number, so whatever builds one is a pure
function and can be compared byte for byte.  Layouts: include/uapi/linux/netlink.h and genetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

NETLINK_ROUTE: Final = 0
NETLINK_GENERIC: Final = 16

NLM_F_REQUEST: Final = 0x01
NLM_F_ACK: Final = 0x04
NLM_F_ECHO: Final = 0x08
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
_NLM_F_CAPPED: Final = 0x100
_NLM_F_ACK_TLVS: Final = 0x200
_NLM_F_MULTI: Final = 0x02

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

NLA_F_NESTED: Final = 0x8000
_NLA_TYPE_MASK: Final = 0x3FFF

_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NLMSGERR_ATTR_MSG: Final = 1

_GENL_ID_CTRL: Final = 16
_CTRL_CMD_GETFAMILY: Final = 3
_CTRL_ATTR_FAMILY_ID: Final = 1
_CTRL_ATTR_FAMILY_NAME: Final = 2
_CTRL_ATTR_MCAST_GROUPS: Final = 7

HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_ATTRIBUTE: Final = struct.Struct("=HH")
_GENL: Final = struct.Struct("=BBH")
_ERROR: Final = struct.Struct("=i")

_BATCH: Final = 64
"""Requests in one datagram: their answers must fit the socket's receive buffer together."""


class NetlinkError(OSError):
    """The kernel refused a request.

    ``what`` says which one; ``reason`` is the kernel's own explanation (extended ACK), or empty.
    """

    exit_status = 3

    def __init__(self, code: int, what: str, reason: str = "") -> None:
        self.what = what
        self.reason = reason
        text = f"{what}: {os.strerror(code)}"
        if reason:
            text += f" ({reason})"
        super().__init__(code, text)

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[type[NetlinkError], tuple[int | None, str, str]]:
        return NetlinkError, (self.errno, self.what, self.reason)


@dataclass(frozen=True, slots=True)
class Request:
    """One message: its type, flags (NLM_F_REQUEST is added) and body, and what it is for."""

    kind: int
    flags: int
    body: bytes
    what: str

    def encode(self, sequence: int, extra_flags: int = 0) -> bytes:
        """Return the message as the kernel reads it, padded to four bytes."""
        length = HEADER.size + len(self.body)
        flags = self.flags | NLM_F_REQUEST | extra_flags
        return HEADER.pack(length, self.kind, flags, sequence, 0) + padded(self.body)


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the kernel; ``port`` is that of the socket whose request caused it, or 0."""

    kind: int
    flags: int
    sequence: int
    body: bytes
    port: int = 0


def padded(data: bytes) -> bytes:
    """Return the bytes, filled up to a multiple of four (NLMSG_ALIGN, NLA_ALIGN)."""
    return data + b"\0" * (-len(data) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + padded(value)


def nested(kind: int, *attributes: bytes, flag: bool = False) -> bytes:
    """Return an attribute that holds attributes; ``flag`` sets NLA_F_NESTED, as genetlink wants."""
    return attribute(kind | (NLA_F_NESTED if flag else 0), b"".join(attributes))


def u8(kind: int, value: int) -> bytes:
    """Return an attribute of one byte."""
    return attribute(kind, struct.pack("=B", value))


def u16(kind: int, value: int) -> bytes:
    """Return an attribute of 16 bits in host order."""
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """Return an attribute of 32 bits in host order."""
    return attribute(kind, struct.pack("=I", value))


def s32(kind: int, value: int) -> bytes:
    """Return an attribute of 32 signed bits in host order."""
    return attribute(kind, struct.pack("=i", value))


def u64(kind: int, value: int) -> bytes:
    """Return an attribute of 64 bits in host order."""
    return attribute(kind, struct.pack("=Q", value))


def string(kind: int, value: str) -> bytes:
    """Return an attribute of text with its terminating zero."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes in a stretch of bytes by type; of a repeated type, the last one."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> list[tuple[int, bytes]]:
    """Return (type, value) of each attribute; the flags in the type are taken off.

    Raises ValueError for a length that cannot be.
    """
    pairs = []
    unpack, size, end = _ATTRIBUTE.unpack_from, _ATTRIBUTE.size, len(data)
    at = 0
    while at + size <= end:
        length, kind = unpack(data, at)
        if length < size or at + length > end:
            raise ValueError(f"netlink attribute of {length} bytes with {end - at} left")
        pairs.append((kind & _NLA_TYPE_MASK, data[at + size : at + length]))
        at += (length + 3) & ~3
    return pairs


def messages(data: bytes) -> Iterator[Message]:
    """Yield the messages in one datagram; ValueError for a length that cannot be."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, port = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > len(data):
            raise ValueError(f"netlink message of {length} bytes with {len(data) - at} left")
        yield Message(kind, flags, sequence, data[at + HEADER.size : at + length], port)
        at += (length + 3) & ~3


def error_of(message: Message, what: str) -> NetlinkError | None:
    """Return the error in an NLMSG_ERROR or NLMSG_DONE message, None where it says success."""
    if len(message.body) < _ERROR.size:
        return None
    (code,) = _ERROR.unpack_from(message.body)
    if code >= 0:
        return None
    reason = ""
    if message.flags & _NLM_F_ACK_TLVS and message.kind == NLMSG_ERROR:
        (length,) = struct.unpack_from("=I", message.body, _ERROR.size)
        echoed = HEADER.size if message.flags & _NLM_F_CAPPED else (length + 3) & ~3
        extended = attributes(message.body[_ERROR.size + echoed :])
        reason = extended.get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
    return NetlinkError(-code, what, reason)


class NetlinkSocket:
    """A netlink socket of the network namespace in which it is created."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    @property
    def port(self) -> int:
        """The number by which the kernel knows this socket in its namespace."""
        return int(self._socket.getsockname()[0])

    def fileno(self) -> int:
        """The descriptor, readable when multicast messages have come."""
        return self._socket.fileno()

    def request(self, request: Request) -> None:
        """Send one request and wait for its acknowledgement; NetlinkError where it is refused."""
        self.batch([request])

    def batch(self, requests: Iterable[Request]) -> None:
        """Send requests in order, many to a datagram; NetlinkError names the first one refused.

        The kernel carries out what follows a refused request of the same datagram all the same.
        """
        waiting = list(requests)
        for start in range(0, len(waiting), _BATCH):
            self._send_batch(waiting[start : start + _BATCH])

    def _send_batch(self, batch: Sequence[Request]) -> None:
        # only the last one asks for an ACK: errors come unasked, and in order
        first = self._sequence + 1
        self._sequence += len(batch)
        last = len(batch) - 1
        self._socket.send(
            b"".join(
                request.encode(first + index, NLM_F_ACK if index == last else 0)
                for index, request in enumerate(batch)
            )
        )
        failure: NetlinkError | None = None
        while True:
            for message in messages(self._receive()):
                index = message.sequence - first
                if message.kind != NLMSG_ERROR or not 0 <= index <= last:
                    continue
                failure = failure or error_of(message, batch[index].what)
                if index == last:
                    if failure is not None:
                        raise failure
                    return

    def query(self, request: Request) -> list[Message]:
        """Send one request and return the messages that answer it; NetlinkError if refused."""
        self._sequence += 1
        sequence = self._sequence
        dump = request.flags & NLM_F_DUMP == NLM_F_DUMP
        self._socket.send(request.encode(sequence, 0 if dump else NLM_F_ACK))
        found: list[Message] = []
        while True:
            for message in messages(self._receive()):
                if message.sequence != sequence:
                    continue
                if message.kind in (NLMSG_ERROR, NLMSG_DONE):
                    failure = error_of(message, request.what)
                    if failure is not None:
                        raise failure
                    return found
                found.append(message)

    def ask(self, requests: Sequence[Request]) -> list[Message | None]:
        """Send requests that have one answer each, in one datagram; None for those refused."""
        first = self._sequence + 1
        self._sequence += len(requests)
        last = len(requests) - 1
        answers: list[Message | None] = [None] * len(requests)
        self._socket.send(
            b"".join(
                request.encode(first + index, NLM_F_ACK if index == last else 0)
                for index, request in enumerate(requests)
            )
        )
        while True:
            for message in messages(self._receive()):
                index = message.sequence - first
                if not 0 <= index <= last:
                    continue
                if message.kind != NLMSG_ERROR:
                    answers[index] = message
                elif index == last:
                    return answers

    def join(self, group: int) -> None:
        """Subscribe to a multicast group; the socket should then serve nothing else."""
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def _receive(self) -> bytes:
        return self._socket.recv(1 << 18)


@dataclass(frozen=True, slots=True)
class GenericFamily:
    """A generic netlink family: its message type and its multicast groups by name."""

    name: str
    kind: int
    version: int
    groups: dict[str, int]

    def request(self, command: int, body: bytes, what: str, flags: int = 0) -> Request:
        """Return a request to the family."""
        return Request(self.kind, flags, _GENL.pack(command, self.version, 0) + body, what)

    @staticmethod
    def payload(message: Message) -> tuple[int, bytes]:
        """Return a message's command and its attributes' bytes."""
        return message.body[0], message.body[_GENL.size :]


def resolve_family(channel: NetlinkSocket, name: str, version: int) -> GenericFamily | None:
    """Look a generic netlink family up; None where the kernel does not have it."""
    body = _GENL.pack(_CTRL_CMD_GETFAMILY, 1, 0) + string(_CTRL_ATTR_FAMILY_NAME, name)
    try:
        answer = channel.query(Request(_GENL_ID_CTRL, 0, body, f"look up {name}"))
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    values = attributes(answer[0].body[_GENL.size :])
    groups = {}
    for _, group in attribute_list(values.get(_CTRL_ATTR_MCAST_GROUPS, b"")):
        parts = attributes(group)
        groups[parts[1].rstrip(b"\0").decode()] = struct.unpack("=I", parts[2])[0]
    return GenericFamily(
        name, struct.unpack("=H", values[_CTRL_ATTR_FAMILY_ID])[0], version, groups
    )
