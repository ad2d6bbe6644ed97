"""A reconstruction as text: what ``mptcplab inspect`` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mptcplab.limits.causes import Cause
from mptcplab.trace.columns.sorting import median
from mptcplab.trace.connections.model import Connection, Event, Half, Held, Subflow
from mptcplab.trace.decode.segments import ACK
from mptcplab.trace.decode.truncated_options import option_text
from mptcplab.trace.findings.completeness import completeness
from mptcplab.trace.findings.dips import Dip, find_dips
from mptcplab.trace.findings.events import (
    ADDRESS,
    IDLE,
    LOST,
    RESUMED,
    STAGES,
    SUBFLOW_CLOSED,
    USED_AGAIN,
)
from mptcplab.trace.findings.limits import DIRECTIONS, longest_kind, phrase
from mptcplab.trace.findings.series import Series, direction
from mptcplab.trace.findings.stalls import Stall, find_stalls
from mptcplab.trace.findings.vantage import vantage
from mptcplab.trace.output.connection_table import (
    MOST_EXPLAINED,
    capture_lines,
    connection_lines,
    count,
)
from mptcplab.trace.trace import Trace
from mptcplab.units import format_duration, format_rate, format_size
from mptcplab.wire.text import format_flags

if TYPE_CHECKING:
    from mptcplab.trace.testbed_run import RunEvent
    from mptcplab.trace.two_captures import Ends

_MOST_STALLS: Final = 6
_MOST_DIPS: Final = 8
_MOST_SUBFLOWS: Final = 50
_MOST_EVENTS: Final = 200
_MOST_LIMITS: Final = 8
_MOST_SPANS: Final = 4
_LEAST_SHARE: Final = 0.005
_NAMED_SHARE: Final = 0.8
"""Of the time of a cause, what one kind of it must have taken to stand for it."""
_LEAST_WAIT_NS: Final = 20_000_000
_FLOOD: Final = 20
"""More events of one kind are told in one line."""
_NO_WAITS: Final = (Cause.APPLICATION, Cause.HANDSHAKE, Cause.UNKNOWN, Cause.LINK)


def explanation(trace: Trace) -> Iterator[str]:
    """Yield the lines of the explanation of a whole capture."""
    yield from capture_lines(trace)
    if len(trace.connections) > MOST_EXPLAINED:
        yield ""
        yield from connection_lines(trace)
        return
    for connection in trace.connections:
        yield ""
        yield from explain_connection(trace, connection)


def explain_connection(trace: Trace, connection: Connection) -> Iterator[str]:
    """Yield the lines about one connection."""
    first = connection.subflows[0]
    source, destination = first.ends
    version = "version unknown" if connection.version is None else f"version {connection.version}"
    notes = [version]
    if not connection.saw_syn:
        notes.append("start not captured")
    elif not connection.complete_handshake:
        notes.append("handshake incomplete")
    if connection.fallback:
        notes.append("fell back to TCP")
    notes += _checksums(connection)
    yield f"Connection {connection.number}: {source} to {destination} ({', '.join(notes)})"
    duration = max(connection.end_ns - connection.start_ns, 1)
    for side in (connection.busier_side, connection.busier_side ^ 1):
        amount = connection.side_bytes(side)
        if amount:
            size, rate = format_size(amount, 3), format_rate(amount * 8e9 / duration, 3)
            way = "downloaded" if side else "uploaded"
            text = f"  {way} {size} of data, {rate} over {format_duration(duration, 3)}"
            yield text + _overhead(connection, side)
    halves = [half for subflow in connection.subflows for half in subflow.halves]
    unplaced = sum(half.unplaced_bytes for half in halves)
    if unplaced:
        yield (
            f"  {format_size(unplaced, 3)} have mappings too many to keep: "
            "what was sent twice among them is not counted"
        )
    yield from limit_lines(trace, connection)
    yield from place_lines(connection)
    yield ""
    yield from _subflow_table(connection)
    yield ""
    yield "  What happened"
    yield from _timeline(trace, connection)
    for side in (0, 1):
        series = direction(connection, side)
        if series is not None:
            yield from _held_up(trace, connection, series)
    lines = list(last_words(trace, connection))
    if lines:
        yield ""
        yield from lines


def _checksums(connection: Connection) -> Iterator[str]:
    """Yield how many DSS checksums were right, wrong and not verifiable, where there are any."""
    checks = [subflow.checksums for subflow in connection.subflows if subflow.checksums is not None]
    parts = [
        f"{total:,} {what}"
        for what, name in (
            ("right", "verified"),
            ("WRONG", "wrong"),
            ("not verifiable", "unverifiable"),
        )
        if (total := sum(getattr(checked, name) for checked in checks))
    ]
    if parts:
        yield f"DSS checksums: {', '.join(parts)}"
    elif connection.checksums:
        yield "DSS checksums in use"


def _overhead(connection: Connection, side: int) -> str:
    """Return what was reinjected and retransmitted, as text."""
    halves = [subflow.half(side) for subflow in connection.subflows]
    parts = [
        f"{format_size(amount, 3)} {what}"
        for what, amount in (
            ("reinjected", sum(half.reinjected_bytes for half in halves)),
            ("retransmitted", sum(half.retransmitted_bytes for half in halves)),
        )
        if amount
    ]
    return f" (and {' and '.join(parts)})" if parts else ""


def _timeline(trace: Trace, connection: Connection) -> Iterator[str]:
    events = _told(connection)
    kinds = Counter(event.kind for event in events)
    floods = {kind: count for kind, count in kinds.items() if count > _FLOOD}
    lines = []
    told: set[str] = set()
    for event in events:
        mark = "*" if event.kind in STAGES else " "
        text = event.text
        if event.kind in floods:
            if event.kind in told:
                continue
            told.add(event.kind)
            last = max(other.time_ns for other in events if other.kind == event.kind)
            over = format_duration(last - event.time_ns, 3)
            text = f"{floods[event.kind]:,} times within {over}: {event.kind}; the first: {text}"
        lines.append(f"  {mark}{trace.seconds(event.time_ns):12.6f} s  {text}")
    left_out = max(0, len(lines) - _MOST_EVENTS)
    yield from lines[: _MOST_EVENTS // 2] if left_out else lines
    if left_out:
        yield f"   ... {left_out:,} more; --events lists them all"
        yield from lines[_MOST_EVENTS // 2 + left_out :]


def _told(connection: Connection) -> list[Event]:
    """Return the events without repetitions: echoes of addresses, FINs after the data's end."""
    return [
        event
        for event in connection.events
        if not (event.kind == ADDRESS and " confirms " in event.text)
        and not (event.kind == SUBFLOW_CLOSED and "(FIN)" in event.text)
    ]


def _subflow_table(connection: Connection) -> Iterator[str]:
    header = (
        "", "source", "destination", "by", "ids", "bytes", "rate", "share", "reinj.", "in vain",
        "retr.", "ooo", "RTT",
    )  # fmt: skip
    rows = [header]
    total = max(connection.bytes, 1)
    for subflow in connection.subflows[:_MOST_SUBFLOWS]:
        mark = "".join(
            ("b" if any(subflow.backup) else "", "!" if subflow.hmac_ok is False else "")
        )
        ids = "/".join("-" if number is None else str(number) for number in subflow.address_ids)
        again, late, vain = (
            sum(getattr(half, name) for half in subflow.halves)
            for name in ("retransmissions", "out_of_order", "duplicate_bytes")
        )
        rows.append(
            (
                f"{subflow.number}{mark}",
                *subflow.ends,
                subflow.joined_by,
                ids,
                format_size(subflow.bytes, 3),
                format_rate(subflow.bytes * 8e9 / max(subflow.end_ns - subflow.start_ns, 1), 3),
                f"{(subflow.bytes - subflow.reinjected_bytes) / total:.0%}",
                format_size(subflow.reinjected_bytes, 3) if subflow.reinjected_bytes else "-",
                format_size(vain, 3) if vain else "-",
                f"{again:,}" if again else "-",
                f"{late:,}" if late else "-",
                rtt_text(subflow),
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    for row in rows:
        cells = [
            cell.ljust(width) if k < 5 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()
    if len(connection.subflows) > _MOST_SUBFLOWS:
        yield f"  and {len(connection.subflows) - _MOST_SUBFLOWS:,} more; --json lists them all"


def rtt_text(subflow: Subflow) -> str:
    """Return the round trip of the busier side's data, else that of the handshake, as text."""
    half = max(subflow.halves, key=lambda direction: direction.bytes)
    if half.rtt_ns.size:
        usual = format_duration(float(median(half.rtt_ns)), 3)
        return f"{usual} (min {format_duration(half.least_rtt_ns, 3)})"
    return format_duration(subflow.handshake_ns, 3) if subflow.handshake_ns else "-"


def _held_up(trace: Trace, connection: Connection, series: Series) -> Iterator[str]:
    sender = connection.subflows[0].end(series.side)
    stalls = find_stalls(connection, series)
    if stalls:
        yield ""
        yield f"  What was held back of the data of {sender}"
        yield from _stall_lines(trace, stalls)
    dips = find_dips(connection, series)
    if dips:
        yield ""
        yield f"  Dips in the throughput of {sender}"
        yield from _dip_lines(trace, dips)


def limit_lines(trace: Trace, connection: Connection) -> Iterator[str]:
    """Yield what held back each direction that carried data, the longest cause first."""
    for held in connection.held:
        shown = [limit for limit in held.limits if limit.share >= _LEAST_SHARE]
        if not shown:
            continue
        total: dict[Cause, float] = {}
        for limit in held.limits:
            total[limit.cause] = total.get(limit.cause, 0.0) + limit.share
        cause = max(total, key=lambda each: total[each])
        first = next(limit for limit in held.limits if limit.cause is cause)
        kind = longest_kind(held, cause) if _NAMED_SHARE * total[cause] <= first.share else None
        advice = f": {first.advice}" if first.advice else ""
        name = DIRECTIONS[held.side]
        yield f"  {name}: {total[cause]:.0%} of the time {phrase(cause, kind)}{advice}"
        for limit in shown[:_MOST_LIMITS]:
            seconds = format_duration(limit.seconds * 1e9, 3)
            detail = f"  {limit.detail}" if limit.detail else ""
            yield f"    {limit.share:4.0%} {limit.cause.value:17} {seconds:>8}{detail}"
        yield from _longest_spans(trace, held)


def _longest_spans(trace: Trace, held: Held) -> Iterator[str]:
    """Yield when the longest of the waits were."""
    waits = [
        span
        for span in held.spans
        if span.cause not in _NO_WAITS and span.end_ns - span.start_ns >= _LEAST_WAIT_NS
    ]
    for span in sorted(waits, key=lambda span: span.start_ns - span.end_ns)[:_MOST_SPANS]:
        yield (
            f"      at {trace.seconds(span.start_ns):.3f} s for "
            f"{format_duration(span.end_ns - span.start_ns, 3)}: {phrase(span.cause, span.kind)}"
        )


def place_lines(connection: Connection) -> Iterator[str]:
    """Yield where a capture was taken, and what it does not hold."""
    where = vantage(connection)
    if where.place is not None:
        client, server = (format_duration(loop or 0, 3) for loop in where.loops_ns)
        yield (
            f"  captured {where.place}: of a round trip, {client} are towards the client and "
            f"{server} towards the server"
        )
    state = completeness(connection)
    sides = ("client", "server")
    if state.only_side is not None:
        yield f"  only packets of the {sides[state.only_side]} were captured"
    for side, amount in enumerate(state.uncaptured_bytes):
        if amount:
            yield (
                f"  {format_size(amount, 3)} of the {sides[side]}'s data were acknowledged that no "
                "subflow of this capture carried: other subflows (interfaces) were not captured"
            )
    for side, amount in enumerate(state.dropped_bytes):
        if amount:
            yield (
                f"  {format_size(amount, 3)} of the {sides[side]}'s data were acknowledged on "
                "subflows of this capture that does not hold them: packets are missing from it"
            )
    if not state.scale_known and connection.bytes and state.only_side is None:
        yield "  window scale unknown: SYNs were not captured, so windows may be larger than stated"


def _stall_lines(trace: Trace, stalls: list[Stall]) -> Iterator[str]:
    for kind in dict.fromkeys(stall.kind for stall in stalls):
        those = [stall for stall in stalls if stall.kind == kind]
        total = format_duration(sum(stall.duration_ns for stall in those), 3)
        yield f"  {kind}: {count(len(those), 'time')}, {total} in all; the longest:"
        for stall in sorted(those, key=lambda stall: -stall.duration_ns)[:_MOST_STALLS]:
            held = (
                f", {format_size(stall.bytes, 3)} held back"
                if stall.kind.startswith("head")
                else ""
            )
            yield (
                f"   {trace.seconds(stall.start_ns):10.3f} s  for "
                f"{format_duration(stall.duration_ns, 3)}{held}: {stall.cause}"
            )


def _dip_lines(trace: Trace, dips: list[Dip]) -> Iterator[str]:
    for dip in sorted(dips, key=lambda dip: dip.bps / dip.usual_bps)[:_MOST_DIPS]:
        low, usual = format_rate(dip.bps, 3), format_rate(dip.usual_bps, 3)
        yield (
            f"   {trace.seconds(dip.start_ns):10.3f} s  {low} instead of {usual} for "
            f"{format_duration(dip.duration_ns, 3)}: {dip.cause}"
        )
    if len(dips) > _MOST_DIPS:
        yield f"  and {len(dips) - _MOST_DIPS} more"


def last_words(trace: Trace, connection: Connection) -> Iterator[str]:
    """Yield one line per subflow that stopped carrying data before the connection did."""
    for event in connection.events:
        if event.kind not in (LOST, IDLE) or event.subflow is None or event.side is None:
            continue
        subflow = connection.subflows[event.subflow]
        back = any(
            later.subflow == event.subflow
            and later.side == event.side
            and later.time_ns > event.time_ns
            and later.kind in (RESUMED, USED_AGAIN)
            for later in connection.events
        )
        if back:
            continue
        half = subflow.half(event.side)
        answer = subflow.half(event.side ^ 1)
        last = max((half, answer), key=lambda each: each.seen.last_ns)
        who = subflow.ends[0 if last is subflow.halves[0] else 1]
        said = said_text(trace, connection, last)
        yield (
            f"  Subflow {subflow.number} ({' to '.join(subflow.ends)}) stopped carrying data at "
            f"{trace.seconds(event.time_ns):.3f} s (packet {event.number}); the last thing said on "
            f"it, at {trace.seconds(last.seen.last_ns):.3f} s by {who}: {said}"
        )


def said_text(trace: Trace, connection: Connection, half: Half) -> str:
    """Return the last packet of a half in tcpdump's manner."""
    row = trace.reading.follower.halves[half.number]
    seq, size = int(row["last_seq"]), int(row["last_payload_bytes"])
    text = f"[{format_flags(int(row['last_flags']))}] seq {seq}"
    text += f":{seq + size}, length {size}" if size else ""
    if int(row["last_flags"]) & ACK:
        text += f", ack {int(row['last_ack'])}"
    rows = half.samples[half.samples["data_ack_bits"] > 0]
    if rows.size and int(rows["time_ns"][-1]) == half.seen.last_ns:
        text += f", data ack {int(rows['data_ack'][-1])}"
    options = [
        option_text(option)
        for number, _, _, option in connection.options
        if number == half.seen.last_number
    ]
    return ", ".join([text, *options])


def event_lines(trace: Trace, connections: list[Connection]) -> Iterator[str]:
    """Yield all events in order of time, one a line."""
    events = [
        (event.time_ns, event.number, connection.number, event)
        for connection in connections
        for event in connection.events
    ]
    for time_ns, number, connection_number, event in sorted(events, key=lambda entry: entry[:3]):
        subflow = "-" if event.subflow is None else str(event.subflow)
        packet = str(number) if number else "-"
        yield (
            f"{trace.seconds(time_ns):.6f} packet {packet} connection {connection_number} "
            f"subflow {subflow} {event.kind}: {event.text}"
        )


def explain_ends(ends: Ends) -> Iterator[str]:
    """Yield the lines about what lies between the two ends."""
    near, far = (" and ".join(path.name for path in trace.paths) for trace in (ends.near, ends.far))
    yield f"{near}: nearer to the side that opened the connections; {far}: nearer to the other"
    ahead = "ahead of" if ends.offset_ns >= 0 else "behind"
    bound = "with the delay between them, since both hold packets of one direction only"
    if ends.both_ways:
        bound = (
            f"within {format_duration(ends.uncertainty_ns, 3)}, if the fastest packets took as "
            "long in both directions"
        )
    yield (
        f"the clock of {far} is {format_duration(abs(ends.offset_ns), 3)} {ahead} that of {near} "
        f"({bound})"
    )
    for path in ends.between:
        yield f"{path.name}: between the two ends, left out"
    yield from (f"  {text}" for text in ends.removed)
    for passage in ends.passages:
        if not passage.sent_packets:
            continue
        source, destination = passage.subflow.ends
        if passage.side != passage.subflow.opened_by:
            source, destination = destination, source
        text = f"  subflow {passage.subflow.number}, {source} to {destination}: "
        if passage.delay_ns.size:
            text += (
                f"one-way delay {format_duration(float(median(passage.delay_ns)), 3)} "
                f"(min {format_duration(int(passage.delay_ns.min()), 3)}, "
                f"max {format_duration(int(passage.delay_ns.max()), 3)}); "
            )
        share = passage.lost_packets / passage.sent_packets
        text += f"{passage.lost_packets:,} of {passage.sent_packets:,} packets lost ({share:.2%}"
        yield text + (f", {format_size(passage.lost_bytes, 3)})" if passage.lost_bytes else ")")


def joined_lines(trace: Trace, events: list[RunEvent]) -> Iterator[str]:
    """Yield what the capture shows and what the run recorded, in one order of time."""
    told = [
        (event.time_ns, 1, f"capture, connection {connection.number}", event.text)
        for connection in trace.connections
        for event in connection.events
    ]
    told += [(event.time_ns, 0, event.source, event.text) for event in events]
    width = max((len(source) for _, _, source, _ in told), default=0)
    for time_ns, _, source, text in sorted(told):
        yield f"  {trace.seconds(time_ns):10.3f} s  {source:{width}}  {text}"
