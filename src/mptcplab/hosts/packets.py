"""What packets show of a connection's subflows: the C flag, options stripped, SYNs unanswered."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeVar

from mptcplab.hosts.facts import Address, HandshakeSeen, PacketsSeen
from mptcplab.trace import CaptureError
from mptcplab.trace.files.sources import Source
from mptcplab.wire.error import WireError
from mptcplab.wire.keys import token_and_idsn
from mptcplab.wire.mptcp import (
    CAPABLE_NO_JOIN,
    AddAddr,
    MpCapable,
    MpJoinSyn,
    MpJoinSynAck,
    MptcpOption,
    MpTcpRst,
)
from mptcplab.wire.packet import decode_packet
from mptcplab.wire.pcap_read import read_capture
from mptcplab.wire.segment import ACK, RST, SYN, Segment

CAPTURE_MAX_BYTES: Final = 256 << 20
"""The largest capture that is read: the handshakes are wanted, at the start of a connection."""

Packet = tuple[str, Segment]
"""The interface that a segment was seen on, "" where that is not known, and the segment."""
_Flow = tuple[bytes, int, bytes, int]
_Kind = TypeVar("_Kind", bound=MptcpOption)


def read_packets(path: Path) -> Iterator[Packet]:
    """Yield the TCP segments of a capture, compressed or not; CaptureError where it is none."""
    source = Source(path)
    try:
        contents = bytearray()
        buffer = memoryview(bytearray(1 << 20))
        while (got := source.stream.readinto(buffer)) and len(contents) <= CAPTURE_MAX_BYTES:
            contents += buffer[:got]
    finally:
        source.close()
    if len(contents) > CAPTURE_MAX_BYTES:
        raise CaptureError(
            f"{path}: more than {CAPTURE_MAX_BYTES >> 20} MiB; expected a capture of the start of "
            "a connection (tcpdump -c 10000)"
        )
    try:
        for packet in read_capture(bytes(contents)):
            data = packet.ip_packet()
            segment = None if data is None else decoded(data)
            if segment is not None:
                yield packet.interface, segment
    except WireError as error:
        raise CaptureError(f"{path}: {error}") from error


def decoded(data: bytes | memoryview) -> Segment | None:
    """Return the TCP segment in an IP packet, None where there is none that can be read."""
    try:
        return decode_packet(data, truncated=True)
    except WireError:
        return None


def digest(
    packets: Iterable[Packet],
    peers: Iterable[Address] = (),
    client: tuple[Address, int] | None = None,
) -> PacketsSeen | None:
    """Return what packets show of the last connection that was opened to one of ``peers``.

    ``client`` says which connection by the address and port of its initial subflow; without it and
    without peers, it is the last one of all.  None where its first SYN is not among the packets.
    """
    seen = list(packets)
    wanted = {peer.packed for peer in peers}
    opening: _Flow | None = None
    for _, segment in seen:
        flow = segment.src, segment.src_port, segment.dst, segment.dst_port
        if segment.flags & (SYN | ACK) != SYN:
            continue
        if client is not None:
            is_it = (client[0].packed, client[1]) == flow[:2]
        else:
            is_it = _option(segment, MpCapable) is not None
            is_it = is_it and (not wanted or segment.dst in wanted)
        if is_it:
            opening = flow
    return None if opening is None else _of_connection(seen, opening)


def _of_connection(seen: list[Packet], opening: _Flow) -> PacketsSeen:
    token: int | None = None
    denies: bool | None = None
    announced: dict[bytes, None] = {}
    joins: dict[_Flow, HandshakeSeen] = {}
    for interface, segment in seen:
        sent: _Flow = (segment.src, segment.src_port, segment.dst, segment.dst_port)
        back: _Flow = (segment.dst, segment.dst_port, segment.src, segment.src_port)
        capable = _option(segment, MpCapable) if back == opening else None
        if capable is not None:
            denies = bool(capable.flags & CAPABLE_NO_JOIN)
            if capable.sender_key is not None:
                token = token_and_idsn(capable.sender_key, capable.version)[0]
        join = _option(segment, MpJoinSyn)
        is_join = join is not None and segment.flags & (SYN | ACK) == SYN and join.token == token
        if sent == opening or is_join or sent in joins:
            joins[sent] = _outgoing(
                joins.get(sent) or _opened(sent, initial=sent == opening), interface, segment
            )
        elif back in joins:
            joins[back] = _incoming(joins[back], segment)
            add = _option(segment, AddAddr)
            if add is not None and not add.echo:
                announced[add.address] = None
    return PacketsSeen(
        tuple(joins.values()), denies, tuple(ip_address(address) for address in announced)
    )


def _opened(flow: _Flow, *, initial: bool) -> HandshakeSeen:
    return HandshakeSeen(ip_address(flow[0]), ip_address(flow[2]), initial)


def _outgoing(seen: HandshakeSeen, interface: str, segment: Segment) -> HandshakeSeen:
    if segment.flags & SYN:
        known = seen.syn_interfaces
        if interface and interface not in known:
            known += (interface,)
        return replace(seen, syns=seen.syns + 1, syn_interfaces=known)
    if segment.flags & ACK and not segment.flags & RST and seen.answer == "syn-ack":
        return replace(seen, established=True)
    return seen


def _incoming(seen: HandshakeSeen, segment: Segment) -> HandshakeSeen:
    if segment.flags & SYN and segment.flags & ACK:
        kind = MpCapable if seen.initial else MpJoinSynAck
        has_option = _option(segment, kind) is not None
        return replace(seen, answer="syn-ack" if has_option else "syn-ack without option")
    if segment.flags & RST:
        reason = _option(segment, MpTcpRst)
        seen = replace(seen, reset_reason=None if reason is None else reason.reason)
        return replace(seen, reset_after=True) if seen.answer else replace(seen, answer="reset")
    return seen


def _option(segment: Segment, kind: type[_Kind]) -> _Kind | None:
    return next((each for each in segment.mptcp if isinstance(each, kind)), None)


_ETH_P_ALL: Final = 3  # include/uapi/linux/if_ether.h
_SO_ATTACH_FILTER: Final = 26  # include/uapi/asm-generic/socket.h
_SNAP_BYTES: Final = 256
_PACKETS_MAX: Final = 10_000


def _port_filter(port: int) -> bytes:
    """Return a socket filter that lets pass TCP from or to a port (struct sock_filter)."""
    load_byte, load_half, load_half_behind, load_header = 0x30, 0x28, 0x48, 0xB1
    mask, if_equal, if_any, give_back = 0x54, 0x15, 0x45, 0x06
    tcp = socket.IPPROTO_TCP
    steps = [
        (load_byte, 0, 0, 0),  # 0: the IP version
        (mask, 0, 0, 0xF0),
        (if_equal, 10, 0, 0x60),  # to 13
        (if_equal, 0, 16, 0x40),  # else to 20
        (load_byte, 0, 0, 9),
        (if_equal, 0, 14, tcp),
        (load_half, 0, 0, 6),
        (if_any, 12, 0, 0x1FFF),  # no later fragments
        (load_header, 0, 0, 0),
        (load_half_behind, 0, 0, 0),
        (if_equal, 8, 0, port),
        (load_half_behind, 0, 0, 2),
        (if_equal, 6, 7, port),
        (load_byte, 0, 0, 6),  # 13: IPv6
        (if_equal, 0, 5, tcp),
        (load_half, 0, 0, 40),
        (if_equal, 2, 0, port),
        (load_half, 0, 0, 42),
        (if_equal, 0, 1, port),
        (give_back, 0, 0, _SNAP_BYTES),  # 19
        (give_back, 0, 0, 0),  # 20
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


class PacketWatch:
    """Collects the TCP segments of one port, on all interfaces of this network namespace.

    Only its start needs CAP_NET_RAW; PermissionError without.  Outgoing packets are seen behind the
    rules of netfilter, incoming ones before them.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL)
        )
        program = ctypes.create_string_buffer(_port_filter(port))
        described = struct.pack("@HP", (len(program) - 1) // 8, ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        self._packets: list[Packet] = []

    def fileno(self) -> int:
        """The descriptor, readable when packets are there."""
        return self._socket.fileno()

    def read(self) -> list[Packet]:
        """Return all segments that were seen so far."""
        while len(self._packets) < _PACKETS_MAX:
            try:
                data, place = self._socket.recvfrom(_SNAP_BYTES)
            except BlockingIOError:
                break
            segment = decoded(data)
            if segment is not None:
                self._packets.append((str(place[0]), segment))
        return self._packets

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
