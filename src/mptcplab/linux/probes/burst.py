"""What a link really lets through: a tenth of a second of UDP at more than its rate."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from ipaddress import ip_address
from typing import Final

from mptcplab.network.topology import ETHERNET_HEADER_BYTES

_UDP_SEGMENT: Final = 103  # include/uapi/linux/udp.h
_UDP_GRO: Final = 104
_HEADERS: Final = {4: 20 + 8, 6: 40 + 8}
_SETTLE_NS: Final = 40_000_000  # the shaper's burst and the queue's filling pass
_MEASURE_NS: Final = 100_000_000
_BURST_BYTES: Final = 60_000
_BUFFER_BYTES: Final = 8 << 20
Entered = Callable[[], AbstractContextManager[None]]


def measure_rate(
    sender: Entered,
    receiver: Entered,
    interface: str,
    local: str,
    remote: str,
    mtu: int,
    overhead_bytes: int,
    rtt_ns: int,
    rate_bps: int,
) -> float:
    """Return the rate (bit/s, frames with Ethernet header) that arrives at the far end.

    ``sender`` and ``receiver`` enter the two hosts' namespaces.  Sends a quarter more than
    ``rate_bps``, so that the queue stays full and the link, not the sender, sets the pace.
    """
    version = ip_address(remote).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with receiver():
        sink = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with sender():
        source = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with sink, source:
        with contextlib.suppress(OSError):
            sink.setsockopt(socket.SOL_SOCKET, 33, _BUFFER_BYTES)  # SO_RCVBUFFORCE
        sink.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        sink.bind((remote, 0))
        source.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        source.bind((local, 0))
        payload = mtu - _HEADERS[version]
        source.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, payload)
        segments = max(1, min(_BURST_BYTES // payload, rate_bps // 8 // 500 // payload))
        received, passed_ns = _flood(
            source, sink, bytes(payload * segments), rate_bps * 5 // 4, rtt_ns
        )
    frame = mtu + ETHERNET_HEADER_BYTES + overhead_bytes
    return received / payload * frame * 8e9 / passed_ns if passed_ns else 0.0


def _flood(
    source: socket.socket, sink: socket.socket, data: bytes, rate_bps: int, rtt_ns: int
) -> tuple[int, int]:
    """Send at a pace and count what arrives; return (payload bytes, ns) of the measured stretch."""
    to = sink.getsockname()[:2]
    poll = select.poll()
    poll.register(sink, select.POLLIN)
    buffer = bytearray(1 << 16)
    start_ns = time.monotonic_ns()
    measure_from_ns = start_ns + rtt_ns + _SETTLE_NS
    end_ns = measure_from_ns + _MEASURE_NS
    sent = received = 0
    first_ns = last_ns = 0
    while (now_ns := time.monotonic_ns()) < end_ns:
        if sent * 8 * 1_000_000_000 < (now_ns - start_ns) * rate_bps:
            with contextlib.suppress(BlockingIOError):
                sent += source.sendto(data, to)
        try:
            count = sink.recv_into(buffer)
        except BlockingIOError:
            if sent * 8 * 1_000_000_000 >= (time.monotonic_ns() - start_ns) * rate_bps:
                poll.poll(1)
            continue
        arrived_ns = time.monotonic_ns()
        if arrived_ns < measure_from_ns:
            continue
        if not first_ns:
            first_ns = arrived_ns  # what came with the first arrival came before it
        else:
            received += count
            last_ns = arrived_ns
    return received, last_ns - first_ns
