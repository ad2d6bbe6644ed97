"""The two directions of a link: rates, delays and queues in integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mptcplab.network.topology import (
    DEFAULT_RED,
    DROP_TAIL,
    ETHERNET_HEADER_BYTES,
    VLAN_TAG_BYTES,
    Channel,
    Queue,
    RedThresholds,
)
from mptcplab.scenario.errors import Path, Problems
from mptcplab.scenario.schema.value_kinds import QueueLimit
from mptcplab.units import format_duration, format_rate

KERNEL_LIMITS = {"codel": 1000, "fq_codel": 10_240, "pie": 1000}
"""Packets that the kernel's disciplines hold where nothing else is said (net/sched)."""

NANOSECONDS = 1_000_000_000
DEFAULT_QUEUE_FRAMES = 100  # a switch port's worth; ns-3 and most emulators default to the same
FRAME_HEADER_BYTES = ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES


def bdp_bytes(rate_bps: int, rtt_ns: int) -> int:
    """Return the bandwidth-delay product in bytes."""
    return rate_bps * rtt_ns // (8 * NANOSECONDS)


def resolve_channels(
    name: str, values: dict[str, Any], problems: Problems
) -> tuple[Channel, Channel]:
    """Return a link's forward and backward channel from its parsed table."""
    path = ("links", name)
    half = (values["rtt"] or 0) // 2
    delays = []
    for direction, share in (("forward", (values["rtt"] or 0) - half), ("backward", half)):
        own = values[direction] or {}
        delay = own.get("delay")
        if delay is None:
            delay = values["delay"]
        delays.append(share if delay is None else delay)
    rtt_ns = sum(delays)
    channels = [
        _channel((*path, direction), values, values[direction], delay, rtt_ns, problems)
        for direction, delay in zip(("forward", "backward"), delays, strict=True)
    ]
    return channels[0], channels[1]


def _channel(
    path: Path,
    common: dict[str, Any],
    own: dict[str, Any] | None,
    delay_ns: int,
    rtt_ns: int,
    problems: Problems,
) -> Channel:
    def value(key: str) -> tuple[Any, Path]:
        if own is not None and own[key] is not None:
            return own[key], (*path, key)
        return common[key], (*path[:-1], key)

    rate_bps, _ = value("rate")
    jitter_ns, jitter_path = value("jitter")
    loss, _ = value("loss")
    overhead, _ = value("overhead")
    limits, queue_path = value("queue")
    discipline, discipline_path = value("discipline")
    if jitter_ns > delay_ns:
        problems.add(
            jitter_path,
            f"{format_duration(jitter_ns)} of jitter around a delay of {format_duration(delay_ns)}",
            "a jitter no larger than the delay",
        )
    ecn, ecn_path = value("ecn")
    queue = _queue(limits, rate_bps, rtt_ns, common["mtu"], queue_path, problems)
    if discipline != queue.discipline:
        if rate_bps is None:
            problems.add(discipline_path, "the link has no rate, and so no queue", "a rate too")
        if not limits and discipline in KERNEL_LIMITS:
            queue = Queue(limit_packets=KERNEL_LIMITS[discipline])
        queue = replace(queue, discipline=discipline)
    if ecn and discipline == DROP_TAIL:
        problems.add(
            ecn_path, "a drop-tail queue marks nothing", 'discipline = "fq_codel", or another one'
        )
    queue = replace(queue, ecn=discipline == "fq_codel" if ecn is None else ecn)
    if discipline == "red" and rate_bps is not None:
        lowest, lowest_path = value("red_min")
        highest, highest_path = value("red_max")
        probability, _ = value("red_probability")
        amounts = (rate_bps, rtt_ns, common["mtu"] + FRAME_HEADER_BYTES)
        upper = DEFAULT_RED.upper if highest is None else _part(highest, queue, amounts)
        lower = upper / 3 if lowest is None else _part(lowest, queue, amounts)
        if upper > 1:
            problems.add(highest_path, "is beyond the limit of the queue", "a part of the queue")
        if lower >= upper:
            where = highest_path if lowest is None else lowest_path
            problems.add(where, "leaves nothing between `red_min` and `red_max`", "a smaller value")
        queue = replace(queue, red=RedThresholds(lower, upper, probability))
    return Channel(rate_bps, delay_ns, jitter_ns, loss, queue, overhead)


def _part(thresholds: tuple[QueueLimit, ...], queue: Queue, amounts: tuple[int, int, int]) -> float:
    """Return a threshold as a part of the queue's limit; the nearest of several."""
    rate_bps, rtt_ns, frame_bytes = amounts
    parts = []
    for threshold in thresholds:
        if threshold.unit == "packets" and queue.limit_packets is not None:
            parts.append(threshold.amount / queue.limit_packets)
            continue
        size = _bytes_of(threshold, rate_bps, rtt_ns, frame_bytes)
        if queue.limit_bytes is not None:
            parts.append(size / queue.limit_bytes)
        elif queue.limit_packets is not None:
            parts.append(size / frame_bytes / queue.limit_packets)
    return min(parts)


def _bytes_of(limit: QueueLimit, rate_bps: int, rtt_ns: int, frame_bytes: int) -> float:
    if limit.unit == "packets":
        return limit.amount * frame_bytes
    if limit.unit == "ns":
        return bdp_bytes(rate_bps, int(limit.amount))
    if limit.unit == "bdp":
        return limit.amount * bdp_bytes(rate_bps, rtt_ns)
    return limit.amount


def _queue(
    limits: tuple[QueueLimit, ...] | None,
    rate_bps: int | None,
    rtt_ns: int,
    mtu: int,
    path: Path,
    problems: Problems,
) -> Queue:
    if rate_bps is None:
        if limits:
            problems.add(path, "the link has no rate, and so no queue", "a rate too")
        return Queue()
    frame = mtu + FRAME_HEADER_BYTES
    if not limits:
        return Queue(limit_bytes=max(bdp_bytes(rate_bps, rtt_ns), DEFAULT_QUEUE_FRAMES * frame))
    packets = next((int(limit.amount) for limit in limits if limit.unit == "packets"), None)
    size = None
    for limit in limits:
        if limit.unit != "packets":
            size = int(_bytes_of(limit, rate_bps, rtt_ns, frame))
    if size is not None and size < frame:
        bdp = f" (rate {format_rate(rate_bps)}, RTT {format_duration(rtt_ns)})"
        problems.add(
            path,
            f"comes to {size} bytes{bdp}, less than one full frame",
            f"{frame} bytes at least",
        )
    return Queue(limit_bytes=size, limit_packets=packets)
