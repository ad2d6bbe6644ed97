"""The two directions of a link: rates, delays and queues in integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mptcplab.network.disciplines.codel import INTERVAL_NS, TARGET_NS
from mptcplab.network.impairments import GilbertElliott, JitterDistribution
from mptcplab.network.topology import (
    DEFAULT_RED,
    DROP_TAIL,
    ETHERNET_HEADER_BYTES,
    VLAN_TAG_BYTES,
    Channel,
    Queue,
    RedThresholds,
)
from mptcplab.scenario.errors import Path, Problems, one_of
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


class _Values:
    """The values of one direction: its own where it has them, else the link's."""

    def __init__(self, path: Path, common: dict[str, Any], own: dict[str, Any] | None) -> None:
        self._path = path
        self._common = common
        self._own = own or {}

    def value(self, key: str) -> Any:
        """Return a key's value."""
        own = self._own.get(key)
        return self._common[key] if own is None else own

    def path(self, key: str) -> Path:
        """Return where a key has its value."""
        inner = self._own.get(key) is not None
        return (*self._path, key) if inner else (*self._path[:-1], key)

    def one_of(self, key: str, other: str) -> tuple[Any, Any]:
        """Return the values of two keys of which each takes the place of the other."""
        for table in (self._own, self._common):
            if table.get(key) is not None or table.get(other) is not None:
                return table.get(key), table.get(other)
        return None, None


def _channel(
    path: Path,
    common: dict[str, Any],
    own: dict[str, Any] | None,
    delay_ns: int,
    rtt_ns: int,
    problems: Problems,
) -> Channel:
    values = _Values(path, common, own)
    rate_bps, trace = values.one_of("rate", "trace")
    if trace is not None:
        rate_bps = trace.mean_bps
    burst, loss = values.one_of("burst_loss", "loss")
    channel = Channel(
        rate_bps,
        delay_ns,
        values.value("jitter"),
        0.0 if burst else loss or 0.0,
        overhead_bytes=values.value("overhead"),
        trace=trace,
        jitter_distribution=JitterDistribution(values.value("jitter_distribution")),
        jitter_reorders=values.value("jitter_reorders"),
        reorder=values.value("reorder"),
        burst_loss=burst_loss(burst),
        duplicate=values.value("duplicate"),
        corrupt=values.value("corrupt"),
    )
    check_delays(channel, values.path, problems)
    return replace(channel, queue=_managed(values, rate_bps, rtt_ns, common["mtu"], problems))


def burst_loss(values: dict[str, Any] | None) -> GilbertElliott | None:
    """Return the loss in bursts that a parsed table describes; None for none, or a broken one."""
    if values is None or None in values.values():
        return None
    return GilbertElliott(**values)


def check_delays(channel: Channel, path: Callable[[str], Path], problems: Problems) -> None:
    """Note what needs a delay or a jitter that a direction does not have.

    ``path`` returns where a key has its value.
    """
    if channel.jitter_ns > channel.delay_ns:
        problems.add(
            path("jitter"),
            f"{format_duration(channel.jitter_ns)} of jitter around a delay of "
            f"{format_duration(channel.delay_ns)}",
            "a jitter no larger than the delay",
        )
    if channel.reorder and not channel.delay_ns:
        problems.add(path("reorder"), "the link has no delay to leave out", "a delay too")
    if channel.jitter_ns:
        return
    if channel.jitter_reorders:
        problems.add(path("jitter_reorders"), "the link has no jitter", "a jitter too")
    if channel.jitter_distribution is not JitterDistribution.UNIFORM:
        problems.add(path("jitter_distribution"), "the link has no jitter", "a jitter too")


_USED_BY = {
    "red_min": ("red",),
    "red_max": ("red",),
    "red_probability": ("red",),
    "target": ("codel", "fq_codel", "pie"),
    "interval": ("codel", "fq_codel"),
    "quantum": ("fq_codel",),
}
"""Which disciplines a key is for."""


def _managed(
    values: _Values, rate_bps: int | None, rtt_ns: int, mtu: int, problems: Problems
) -> Queue:
    """Return the queue of one direction, with its discipline and the settings of that."""
    limits, discipline, ecn = (values.value(key) for key in ("queue", "discipline", "ecn"))
    queue = _queue(limits, rate_bps, rtt_ns, mtu, values.path("queue"), problems)
    if discipline != queue.discipline:
        if rate_bps is None:
            where = values.path("discipline")
            problems.add(where, "the link has no rate, and so no queue", "a rate too")
        if not limits and discipline in KERNEL_LIMITS:
            queue = Queue(limit_packets=KERNEL_LIMITS[discipline])
        queue = replace(queue, discipline=discipline)
    if ecn and discipline == DROP_TAIL:
        problems.add(
            values.path("ecn"),
            "a drop-tail queue marks nothing",
            'discipline = "fq_codel", or another one',
        )
    for key, disciplines in _USED_BY.items():
        if values.value(key) is not None and discipline not in disciplines:
            problems.add(
                values.path(key),
                f'is given with discipline = "{discipline}", which does not use it',
                f"discipline = {one_of(disciplines)}",
            )
    target_ns, interval_ns = values.value("target"), values.value("interval")
    if discipline in ("codel", "fq_codel"):
        least_ns = TARGET_NS if target_ns is None else target_ns
        if least_ns >= (INTERVAL_NS if interval_ns is None else interval_ns):
            problems.add(
                values.path("target" if interval_ns is None else "interval"),
                f"packets may wait {format_duration(least_ns)}, which is no less than the interval",
                "a target well below the interval, such as a twentieth of it",
            )
    queue = replace(
        queue,
        ecn=discipline == "fq_codel" if ecn is None else ecn,
        target_ns=target_ns,
        interval_ns=interval_ns,
        quantum_bytes=values.value("quantum"),
    )
    if discipline == "red" and rate_bps is not None:
        amounts = (rate_bps, rtt_ns, mtu + FRAME_HEADER_BYTES)
        queue = replace(queue, red=_thresholds(values, queue, amounts, problems))
    return queue


def _thresholds(
    values: _Values, queue: Queue, amounts: tuple[int, int, int], problems: Problems
) -> RedThresholds:
    """Return where early detection begins; ``amounts`` are rate, round trip and a full frame."""
    lowest, highest = values.value("red_min"), values.value("red_max")
    upper = DEFAULT_RED.upper if highest is None else _part(highest, queue, amounts)
    lower = upper / 3 if lowest is None else _part(lowest, queue, amounts)
    if upper > 1:
        problems.add(
            values.path("red_max"), "is beyond the limit of the queue", "a part of the queue"
        )
    if lower >= upper:
        problems.add(
            values.path("red_max" if lowest is None else "red_min"),
            "leaves nothing between `red_min` and `red_max`",
            "a smaller value",
        )
    probability = values.value("red_probability")
    return RedThresholds(
        lower, upper, DEFAULT_RED.probability if probability is None else probability
    )


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
