"""Whether the testbed is what the scenario says, before, while and after it measures.

Every check gives reasons: sentences for the run's metadata, each naming what was asked for and what
was found.  No reason means nothing was found wrong.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mptcplab.linux.emulator.reading import Lateness
from mptcplab.network.topology import (
    ETHERNET_HEADER_BYTES,
    Channel,
    Link,
    Path,
    Queue,
    Topology,
)
from mptcplab.scenario.model import Expectation, Flow
from mptcplab.units import format_duration, format_rate

_RTT_TOLERANCE_NS: Final = 500_000
_NAMED_SHARE: Final = 0.1  # of the tolerance: a shorter sending time is not worth a word
_RTT_TOLERANCE: Final = 0.02  # of the configured round trip, where that is more
RATE_TOLERANCE: Final = 0.03  # of a check that lasts a tenth of a second
_OVERSHOOT_TOLERANCE: Final = 0.01  # a link that delivers more than this above its rate is broken
_OVERSHOOT_BURST_BYTES: Final = 150_000  # a shaper's burst, two offloaded frames of 64 KiB
_LOSS_RESOLUTION: Final = 1e-6  # finer than any run can tell
LATENESS_QUANTILE: Final = 0.99
_TAIL_TOLERANCE_NS: Final = 1_000_000
_TAIL_TOLERANCE: Final = 0.1
_MOST_OF_TAIL_NS: Final = 5_000_000
"""How late one packet in a hundred may be: a millisecond, or where that is more a tenth of the
round trip (of which the mean then has a thousandth), up to 5 ms, since what waits for longer comes
as a burst; or ``_RTT_TOLERANCE``, where that is more still."""
_WORST_LATENESS_NS: Final = 100_000_000
"""Half of Linux's least retransmission timeout (TCP_RTO_MIN): no single packet may be later than
that, however long the run, because a connection may take it for lost."""
PROBES: Final = 5
_UNESTABLISHED: Final = ("SYN-SENT", "SYN-RECEIVED", "CLOSED")
BUSY: Final = 0.97  # of all CPUs together: from here on a machine has nothing left to give
EMULATOR_SATURATED: Final = 0.95  # of the one CPU on which an emulator runs
_EXPECTED_FILL: Final = 0.9  # of its rate: a link carrying less while the CPU is busy is marked
_LIMITED_SHARE: Final = 0.1  # of the intervals, from which on a run shows the CPU, not the link


@dataclass(frozen=True, slots=True)
class PathCheck:
    """The round trips (ns) of the echoes that came back on one path before the run.

    ``sending_ns`` is what :func:`sending_ns` says of an echo on the links that send every packet
    at their rate, ``burst_ns`` on those that let a first one pass at once (a token bucket).
    """

    flow: str
    path: Path
    rtts_ns: tuple[int, ...]
    sending_ns: int = 0
    burst_ns: int = 0


def configured_rtt_ns(topology: Topology, path: Path) -> tuple[int, int]:
    """Return the round trip that a path's links are set to, and how far jitter may move it (ns)."""
    links = [topology.link(name) for name in path.passed]
    jitter = sum(link.forward.jitter_most_ns + link.backward.jitter_most_ns for link in links)
    return topology.rtt_ns(path), jitter


def sending_ns(topology: Topology, links: Iterable[str], frame_bytes: int) -> int:
    """Return how long a frame and its echo are being sent on links (ns): what adds to the delay."""
    return sum(
        (frame_bytes + channel.overhead_bytes) * 8_000_000_000 // channel.rate_bps
        for name in links
        for channel in (topology.link(name).forward, topology.link(name).backward)
        if channel.rate_bps
    )


def check_rtt(topology: Topology, check: PathCheck) -> str | None:
    """Return what is wrong with a path's round trip, None if it is as configured."""
    asked_ns, jitter_ns = configured_rtt_ns(topology, check.path)
    where = (
        f"{'+'.join(check.path.links) or 'the path'} ({check.path.local} to {check.path.remote})"
    )
    if not check.rtts_ns:
        return (
            f"{where}: nothing answers {check.path.remote_address.ip} from "
            f"{check.path.local_address.ip}, so flow {check.flow} cannot use it"
        )
    if check.path.candidates and (check.path.by_ports or check.path.local_address.version == 6):
        return None  # a hash may lead the echo another way than TCP
    early_ns = sum(
        channel.delay_ns
        for name in check.path.passed
        for channel in (topology.link(name).forward, topology.link(name).backward)
        if channel.reorder
    )
    # without jitter the fastest echo is the link and what is above it is this machine's scheduling
    found_ns = statistics.median(check.rtts_ns) if jitter_ns else min(check.rtts_ns)
    tolerance_ns = max(_RTT_TOLERANCE_NS, asked_ns * _RTT_TOLERANCE) + jitter_ns
    over_ns = found_ns - asked_ns - check.sending_ns
    if -tolerance_ns - early_ns <= over_ns <= tolerance_ns + check.burst_ns:
        return None
    sent = ""
    if check.sending_ns > tolerance_ns * _NAMED_SHARE:
        sent = f" and {format_duration(check.sending_ns)} to send the echo both ways"
    return (
        f"{where}: round trip {format_duration(found_ns)}, {format_duration(asked_ns)} asked for"
        f"{sent} (tolerance {format_duration(tolerance_ns)})"
    )


def check_rate(link: str, direction: str, asked_bps: int, found_bps: float) -> str | None:
    """Return what is wrong with the rate that a burst got through a link, None if it is right."""
    if abs(found_bps - asked_bps) <= asked_bps * RATE_TOLERANCE:
        return None
    return (
        f"{link} {direction}: {format_rate(found_bps)} went through, {format_rate(asked_bps)} "
        f"asked for (tolerance {RATE_TOLERANCE:.0%})"
    )


def check_emulator_cpu(
    link: str, direction: str, rate_bps: int, needed: float, found_bps: float
) -> str | None:
    """Return what is wrong with a link whose emulator needs so many CPUs at its rate."""
    if needed <= EMULATOR_SATURATED:
        return None
    return (
        f"{link} {direction}: its emulator needs {needed:.1f} CPUs at {format_rate(rate_bps)}, "
        f"more than the one CPU that it runs on; {format_rate(found_bps)} went through"
    )


def check_emulators_cpu(needs: Mapping[str, float], usable: float) -> list[str]:
    """Return what is wrong where emulators need so many CPUs, by link, and can get ``usable``."""
    needed = sum(needs.values())
    if needed <= usable:
        return []
    return [
        f"the emulators of {len(needs)} links need {needed:.1f} CPUs for what may go through them, "
        f"more than the {usable:g} CPUs that this run may use"
    ]


_SETTINGS: Final = (
    *("rate_bps", "trace", "delay_ns", "jitter_ns", "jitter_distribution", "jitter_reorders"),
    *("reorder", "burst_loss", "duplicate", "corrupt", "queue"),
)


def check_channel(link: str, direction: str, asked: Channel, found: Channel) -> list[str]:
    """Return how a driver's settings, read back, differ from what the scenario asks for."""
    reasons = [
        f"{link} {direction}: {name} is {_shown(getattr(found, name))}, "
        f"{_shown(getattr(asked, name))} asked for"
        for name in _SETTINGS
        if getattr(asked, name) != getattr(found, name)
    ]
    if abs(found.loss - asked.loss) > _LOSS_RESOLUTION:
        reasons.append(f"{link} {direction}: loss is {found.loss:.6f}, {asked.loss:.6f} asked for")
    return reasons


def _shown(value: object) -> str:
    """Return a setting as text; of a queue, what limits it."""
    if not isinstance(value, Queue):
        return str(value)
    limits = ((value.limit_bytes, "bytes"), (value.limit_packets, "packets"))
    text = " and ".join(f"{limit} {unit}" for limit, unit in limits if limit is not None)
    return f"{value.discipline} of {text or 'any length'}"


def check_lateness(link: Link, lateness: Lateness) -> str | None:
    """Return what is wrong with how late an emulator was: at worst, one time in a hundred, or in
    the mean, by which all round trips are longer.  What is late is held against the round trip,
    with what a full packet takes on the link and the jitter that was asked for.
    """
    ways = (link.forward, link.backward)
    rates = [way.rate_bps for way in ways if way.rate_bps]
    frame_bits = (link.mtu + ETHERNET_HEADER_BYTES) * 8
    sent_ns = frame_bits * 1_000_000_000 // min(rates) if rates else 0
    rtt_ns = link.rtt_ns + sent_ns + sum(way.jitter_ns for way in ways)
    tail_ns = max(
        _TAIL_TOLERANCE_NS,
        min(rtt_ns * _TAIL_TOLERANCE, _MOST_OF_TAIL_NS),
        rtt_ns * _RTT_TOLERANCE,
    )
    mean_ns = max(_RTT_TOLERANCE_NS, rtt_ns * _RTT_TOLERANCE)
    worst_ns, late_ns = lateness.max_ns, lateness.quantile_ns(LATENESS_QUANTILE)
    if worst_ns > _WORST_LATENESS_NS:
        return (
            f"{link.name}: its emulator was late by up to {format_duration(worst_ns)} (tolerance "
            f"{format_duration(_WORST_LATENESS_NS)}); it was stopped, or the machine is too busy"
        )
    if late_ns > tail_ns:
        return (
            f"{link.name}: its emulator was late by {format_duration(late_ns)} or more for one "
            f"packet in a hundred (tolerance {format_duration(tail_ns)}); the machine is too busy"
        )
    if lateness.mean_ns > mean_ns:
        return (
            f"{link.name}: its emulator was late by {format_duration(lateness.mean_ns)} in the "
            f"mean (tolerance {format_duration(mean_ns)}); the machine is too busy"
        )
    return None


def note_dropped_data(host: str, moved: Mapping[str, tuple[int, int]]) -> str | None:
    """Return what data dropped above TCP did to a host's connections, None where none was.

    ``moved`` holds the counters that moved in a run (before, after).  Linux drops what TCP has
    acknowledged and the connection's window does not cover (net/mptcp/protocol.c,
    mptcp_data_queue_ofo); the sender repeats it by one fragment for each MPTCP-level timeout.  It
    happens where the receiver is late and its buffer fills: an ACK with a new DATA_ACK and a
    smaller window moves the one and, where it acknowledges nothing new on its subflow, not the
    other (tcp_may_update_window), so that their sum lies beyond what was granted.
    """
    before, after = moved.get("MPTcpExtNoDSSInWindow", (0, 0))
    if after == before:
        return None
    return (
        f"{host} dropped data {after - before} times that was beyond the connection's window "
        "(MPTcpExtNoDSSInWindow); the kernel repeats it a fragment each 200 ms or more, and the "
        "connection stands still; a receive_buffer well above the send_buffer makes it rare"
    )


def check_overshoot(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the links that delivered more than their rate over a second or more."""
    worst: dict[tuple[str, str], tuple[float, int]] = {}
    window: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["rate_bps"] is None:
            continue
        key = (row["link"], row["direction"])
        recent = window.setdefault(key, [])
        if recent and recent[-1]["rate_bps"] != row["rate_bps"]:
            recent.clear()
            continue  # the interval holds a change of rate
        recent.append(row)
        length_ns = sum(past["interval_ns"] for past in recent)
        while len(recent) > 1 and length_ns - recent[0]["interval_ns"] >= 1_000_000_000:
            length_ns -= recent.pop(0)["interval_ns"]
        if length_ns < 900_000_000:
            continue
        found_bps = sum(past["bps"] * past["interval_ns"] for past in recent) / length_ns
        allowed_bps = row["rate_bps"] * (1 + _OVERSHOOT_TOLERANCE)
        allowed_bps += _OVERSHOOT_BURST_BYTES * 8e9 / length_ns
        if found_bps > max(allowed_bps, worst.get(key, (0.0, 0))[0]):
            worst[key] = (found_bps, row["rate_bps"])
    return [
        f"{link} {direction}: delivered {format_rate(found)} over a second, above its rate of "
        f"{format_rate(asked)}"
        for (link, direction), (found, asked) in worst.items()
    ]


def check_subflows(
    flow: Flow,
    connections: Iterable[int],
    expected: Mapping[str, int],
    rows: Sequence[Mapping[str, Any]],
    idle: Collection[str] = (),
) -> list[str]:
    """Return the links on which connections should have had subflows that carried bytes and did
    not.

    ``expected`` says how many, by link; ``rows`` are those of the ``subflows`` table. Those on the
    links in ``idle`` need not carry any.
    """
    carried: dict[str | None, int] = {}
    stood: dict[tuple[int, str | None], set[int]] = {}
    for row in rows:
        if row["flow"] == flow.name:
            moved = max(row["bytes_acked"], row["bytes_received"])
            if row["link"] is not None or row["state"] not in _UNESTABLISHED:
                carried[row["link"]] = max(carried.get(row["link"], 0), moved)
            if row["state"] not in _UNESTABLISHED:
                subflows = stood.setdefault((row["connection"], row["link"]), set())
                subflows.add(row["subflow"])
    reasons = []
    for link, wanted in expected.items():
        if not any(link == where for _, where in stood):
            reasons.append(f"flow {flow.name}: no subflow on {link}, where one should be")
            continue
        for connection in connections:
            number = len(stood.get((connection, link), ()))
            if number < wanted:
                reasons.append(
                    f"flow {flow.name} connection {connection}: {number} of {wanted} subflows "
                    f"stood on {link}"
                )
        # few bytes need not be on each
        due = (flow.workload is None or flow.application == "gridftp") and link not in idle
        if due and not carried[link]:
            reasons.append(f"flow {flow.name}: its subflow on {link} carried no data")
    if None in carried:
        reasons.append(f"flow {flow.name}: a subflow is on an address pair that is no path")
    return reasons


@dataclass(frozen=True, slots=True)
class BusyInterval:
    """How busy the machine was in one interval of the run (0 to 1, all CPUs together)."""

    start_ns: int
    end_ns: int
    busy: float


def unfilled_intervals(
    suspects: Mapping[int, Collection[str]],
    rows: Iterable[Mapping[str, Any]],
    most_bps: Mapping[tuple[str, str], float],
) -> dict[str, int]:
    """Return, by link, in how many intervals it was a suspect and carried less than it should have.

    That is its rate, or the most that flows can send over it, by link and direction.
    ``suspects`` holds links by the end of the interval (ns); ``rows`` are those of ``links``.
    """
    best: dict[tuple[str, int], float] = {}
    for row in rows:
        if row["link"] in suspects.get(row["time_ns"], ()) and row["up"] and row["rate_bps"]:
            key = (row["link"], row["time_ns"])
            due_bps = min(row["rate_bps"], most_bps.get((row["link"], row["direction"]), math.inf))
            best[key] = max(best.get(key, 0.0), row["bps"] / due_bps)
    unfilled: dict[str, int] = {}
    for (link, _), fill in best.items():
        if fill < _EXPECTED_FILL:
            unfilled[link] = unfilled.get(link, 0) + 1
    return unfilled


def check_emulator(link: str, full: int, intervals: int) -> str | None:
    """Return what is wrong with an emulator that had no time left in ``full`` of the intervals in
    which its link carried less than its rate.
    """
    if not is_limited(full, intervals):
        return None
    return (
        f"{link}: its emulator was the limit in {full} of {intervals} intervals: it had no more "
        "CPU time, and the link carried less than its rate"
    )


def check_starved(link: str, starved: int, intervals: int) -> str | None:
    """Return what is wrong with a link whose flows were short of CPU time in ``starved`` of the
    intervals in which it carried less than its rate.
    """
    if not is_limited(starved, intervals):
        return None
    return (
        f"{limited_by_cpu(link, starved, intervals)}: the processes that carry its traffic had no "
        "more CPU time, and the link carried less than its rate"
    )


def is_limited(count: int, intervals: int) -> bool:
    """Say whether the CPU was the limit in so many of the intervals that the run is its doing."""
    return count >= max(1, intervals * _LIMITED_SHARE)


def limited_by_cpu(link: str, count: int, intervals: int) -> str:
    """Return in how many of the intervals the CPU was a link's limit, as text."""
    return f"{link}: the CPU was the limit in {count} of {intervals} intervals"


def check_cpu(
    busy: Sequence[BusyInterval],
    expectations: Iterable[Expectation],
    stages: Sequence[tuple[int, int]],
    rates: Mapping[Expectation, float],
) -> list[str]:
    """Return the expectations that were missed where the machine was the limit.

    ``rates`` holds what was found (bit/s) for each expectation.
    """
    reasons = []
    for expectation in expectations:
        found = rates.get(expectation)
        low = expectation.value_bps * (1 if expectation.at_least else 1 - expectation.tolerance)
        if found is None or found >= low:
            continue
        start_ns, end_ns = extent(expectation, stages)
        inside = [each for each in busy if each.start_ns >= start_ns and each.end_ns <= end_ns]
        full = sum(interval.busy >= BUSY for interval in inside)
        if inside and full * 10 >= len(inside):
            stage = "" if expectation.stage is None else f" in stage {expectation.stage}"
            reasons.append(
                f"the CPU was the limit{stage}: fully busy in {full} of {len(inside)} intervals, "
                f"{format_rate(found)} where {format_rate(expectation.value_bps)} is expected"
            )
    return reasons


def extent(expectation: Expectation, stages: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the start and end (ns) of the stretch that an expectation is about, settling left out.

    Times of a stage that was not reached are empty.
    """
    if expectation.stage is None:
        start_ns, end_ns = stages[0][0], stages[-1][1]
    elif expectation.stage < len(stages):
        start_ns, end_ns = stages[expectation.stage]
    else:
        return 0, 0
    return min(start_ns + expectation.settle_ns, end_ns), end_ns


def mean_bps(
    rows: Iterable[Mapping[str, Any]], column: str, start_ns: int, end_ns: int
) -> float | None:
    """Return the mean rate of a byte column over the intervals inside a stretch, None for none."""
    total, covered = 0, {}
    for row in rows:
        if row["time_ns"] - row["interval_ns"] >= start_ns and row["time_ns"] <= end_ns:
            total += row[column]
            covered[row["time_ns"]] = row["interval_ns"]
    length_ns = sum(covered.values())
    return total * 8e9 / length_ns if length_ns else None
