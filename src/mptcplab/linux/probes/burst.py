"""What a link really lets through: a short flood of UDP at more than its rate.

The datagrams are full ones, or on a slow link so short that a hundred milliseconds hold several of
them.  They are offered in bursts that its queue has room for.
"""

from __future__ import annotations

import contextlib
import select
import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from mptcplab.network.topology import ETHERNET_HEADER_BYTES, Channel

_UDP_SEGMENT: Final = 103  # include/uapi/linux/udp.h
_UDP_GRO: Final = 104
_SEGMENTS_MAX: Final = 64  # UDP_MAX_SEGMENTS before Linux 6.9
_HEADERS: Final = {4: 20 + 8, 6: 40 + 8}
_PAYLOAD_LEAST_BYTES: Final = 18  # Ethernet's shortest frame
_SETTLE_NS: Final = 40_000_000  # the shaper's burst and the queue's filling pass
_MEASURE_NS: Final = 100_000_000
_SETTLE_FRAMES: Final = 4
_MEASURE_FRAMES: Final = 16
_WINDOW_NS: Final = 10_000_000
_WINDOW_FRAMES: Final = 8
"""The stretches whose median counts: in one of them a sender that does not get the CPU lets the
queue run empty, and the emulator that was late catches up."""
_HEAD_START_NS: Final = 5_000_000
_FRAME_NS: Final = 5_000_000
"""How long a datagram may be sent, as long as it can be shorter."""
_BURST_BYTES: Final = 60_000
_BURST_NS: Final = 2_000_000
_QUEUE_SHARE: Final = 4
"""A burst fills one part in so many of the queue: where each filled most of it, the queue would be
empty while the next is on its way, or drop it."""
_READS_PER_BURST: Final = 256
_BUFFER_BYTES: Final = 8 << 20
Entered = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """One way over a link: ``sender`` and ``receiver`` enter the two hosts' namespaces."""

    sender: Entered
    receiver: Entered
    interface: str
    local: str
    remote: str


@dataclass(frozen=True, slots=True)
class Flood:
    """What is sent: datagrams of ``payload`` bytes, ``segments`` at a time; how long (ns).

    ``head_bytes`` are sent at once, which use up a shaper's burst.
    """

    payload: int
    frame_bytes: int
    segments: int
    head_bytes: int
    settle_ns: int
    measure_ns: int

    @property
    def length_ns(self) -> int:
        """How long it takes, without the link's delay."""
        return self.settle_ns + self.measure_ns


@dataclass(frozen=True, slots=True)
class Throughput:
    """What came out of a link's far end, and what was offered to it (bit/s, as it counts).

    Where less was offered than the link's rate, this machine was the limit, not the link.
    """

    bps: float
    offered_bps: float


def plan_flood(channel: Channel, mtu: int, version: int) -> Flood:
    """Return the flood that measures a channel, which has a rate."""
    rate_bps = channel.rate_bps
    assert rate_bps is not None
    headers = _HEADERS[version] + ETHERNET_HEADER_BYTES
    on_the_wire = headers + channel.overhead_bytes
    payload = rate_bps * _FRAME_NS // 8_000_000_000 - on_the_wire
    payload = min(max(payload, _PAYLOAD_LEAST_BYTES), mtu - _HEADERS[version])
    frame_bytes = payload + on_the_wire
    frame_ns = frame_bytes * 8_000_000_000 // rate_bps
    packets = min(_SEGMENTS_MAX, _BURST_BYTES // payload, _BURST_NS // max(frame_ns, 1))
    queue = channel.queue
    if queue.limit_packets is not None:
        packets = min(packets, queue.limit_packets // _QUEUE_SHARE)
    if queue.limit_bytes is not None:
        packets = min(packets, queue.limit_bytes // _QUEUE_SHARE // (payload + headers))
    return Flood(
        payload,
        frame_bytes,
        max(packets, 1),
        mtu + ETHERNET_HEADER_BYTES + rate_bps * _HEAD_START_NS // 8_000_000_000,
        max(_SETTLE_NS, _SETTLE_FRAMES * frame_ns),
        max(_MEASURE_NS, _MEASURE_FRAMES * frame_ns),
    )


def measure_rate(route: Route, flood: Flood, rtt_ns: int, rate_bps: int) -> Throughput:
    """Return what a link lets through.

    Sends a quarter more than ``rate_bps``, so that the queue stays full and the link, not the
    sender, sets the pace; returns when the queue is empty again.
    """
    family = socket.AF_INET if ip_address(route.remote).version == 4 else socket.AF_INET6
    with route.receiver():
        sink = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with route.sender():
        source = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with sink, source:
        with contextlib.suppress(OSError):
            sink.setsockopt(socket.SOL_SOCKET, 33, _BUFFER_BYTES)  # SO_RCVBUFFORCE
        sink.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        sink.bind((route.remote, 0))
        name = route.interface.encode() + b"\0"
        source.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
        source.bind((route.local, 0))
        source.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, flood.payload)
        arrivals, offered_bps = _flood(source, sink, flood, rate_bps, rtt_ns)
    window_ns = max(_WINDOW_NS, _WINDOW_FRAMES * flood.frame_bytes * 8_000_000_000 // rate_bps)
    scale = flood.frame_bytes / flood.payload * 8e9
    return Throughput(median_rate(arrivals, window_ns) * scale, offered_bps)


def median_rate(arrivals: Sequence[tuple[int, int]], window_ns: int) -> float:
    """Return the median rate (bytes per ns) of successive windows of arrivals (ns, bytes).

    A window begins and ends with an arrival; 0 where there are not two.
    """
    rates: list[float] = []
    if not arrivals:
        return 0.0
    start_ns, count = arrivals[0][0], 0  # what came with the first arrival came before it
    for arrived_ns, size in arrivals[1:]:
        count += size
        if arrived_ns - start_ns >= window_ns:
            rates.append(count / (arrived_ns - start_ns))
            start_ns, count = arrived_ns, 0
    if not rates and count:
        rates.append(count / (arrivals[-1][0] - start_ns))
    return statistics.median(rates) if rates else 0.0


def _flood(
    source: socket.socket, sink: socket.socket, flood: Flood, rate_bps: int, rtt_ns: int
) -> tuple[list[tuple[int, int]], float]:
    """Send at a pace; return what arrives in the measured stretch: when (ns), payload bytes; and
    the rate that was offered (bit/s).
    """
    to = sink.getsockname()[:2]
    data = bytes(flood.payload * flood.segments)
    offered_bps = rate_bps * 5 // 4
    frame_share = flood.frame_bytes / flood.payload
    poll = select.poll()
    poll.register(sink, select.POLLIN)
    buffer = bytearray(1 << 16)
    start_ns = time.monotonic_ns()
    measure_from_ns = start_ns + rtt_ns + flood.settle_ns
    end_ns = measure_from_ns + flood.measure_ns
    sent = arrived = 0
    arrivals: list[tuple[int, int]] = []
    while (now_ns := time.monotonic_ns()) < end_ns:
        paced_bytes = (now_ns - start_ns) * offered_bps / 8e9
        due = sent * frame_share < flood.head_bytes + paced_bytes
        if due:
            with contextlib.suppress(BlockingIOError):
                sent += source.sendto(data, to)
        for _ in range(_READS_PER_BURST):
            try:
                count = sink.recv_into(buffer)
            except BlockingIOError:
                break
            arrived += count
            arrived_ns = time.monotonic_ns()
            if arrived_ns >= measure_from_ns:
                arrivals.append((arrived_ns, count))
        if not due:
            poll.poll(1)
    offered = sent
    left_ns = (sent - arrived) * frame_share * 8e9 / rate_bps + rtt_ns
    _wait_until_empty(sink, poll, left_ns, idle_ms=10 + 2 * flood.frame_bytes * 8000 // rate_bps)
    return arrivals, offered * frame_share * 8e9 / (now_ns - start_ns)


def _wait_until_empty(
    sink: socket.socket, poll: select.poll, within_ns: float, idle_ms: int
) -> None:
    """Let what is still queued arrive: the run's first packets are not to wait behind it."""
    deadline_ns = time.monotonic_ns() + within_ns
    while time.monotonic_ns() < deadline_ns and poll.poll(idle_ms):
        with contextlib.suppress(BlockingIOError):
            while sink.recv(1 << 16):
                pass
