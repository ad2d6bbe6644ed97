"""What a sender waited for after each send, as a division of time among causes.

Every moment from one send to the next is judged by what ended it and by what had room:

- The window had no room for what came next, and it came as soon as there was: the window.  Where
  the byte that it waits for is missing on one of several subflows, that subflow (head of line).
- The subflows had everything acknowledged, much was not at the data level, and the next data left
  as soon as a DATA_ACK came: the send buffer, which holds data until then.
- An acknowledgement arrived, the flight was well below what it had been since the last loss, and
  nothing was sent: there was nothing to send.  So too where data left without an acknowledgement.
- Otherwise acknowledgements clock what is sent: congestion windows, a link or the send buffer bound
  it.  Which, is judged over bins of a few round trips (``clocked``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mptcplab.limits.causes import Cause
from mptcplab.limits.partition import Claim
from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.columns.sorting import median
from mptcplab.trace.connections.model import Connection
from mptcplab.trace.findings.sender_view import TICK_NS, Carrier, SenderView, within

CLOSED: Final = "closed"
SLOW_READER: Final = "slow reader"
SMALL: Final = "small"
GROWING: Final = "growing"
ENDED: Final = "ended"
DATA_ACKS: Final = "DATA_ACKs missing"

_PROMPT_NS: Final = 2_000_000
"""Within which a host has answered; longer, and it had no reason to."""
_LEAST_GAP_NS: Final = 3_000_000
_HOST_NS: Final = 200_000
"""What a host may take longer to answer a SYN, from which loops are known, than data."""
_ROOM_SHARE: Final = 0.4
"""Of the flight that the congestion window has allowed: below it, more could have been sent.  A
sender that gathers a large segment waits while two thirds of it are in flight, or half."""
_BURST_SEGMENTS: Final = 4
"""More at once, after a pause, are no longer what a sender that paces its data sends."""
_RECENT_ROUND_TRIPS: Final = 8
_LONGEST_NS: Final = 1 << 60
"""36 years: in 64 bits, there is room for sums of such times."""
_SLACK_PARTS: Final = 4
"""Within this part of a round trip, a sender may gather acknowledgements, or spread its data."""
_RETRANSMISSION_NS: Final = 200_000_000
"""Linux's least retransmission timeout, after which an idle congestion window decays (RFC 2861)."""
_STALL_NS: Final = 1_000_000_000
_SHRUNK: Final = 0.6
"""A window this much below its largest is filled with data that was not read."""
_GROWN: Final = 1.2
_LEAST_SPAN_NS: Final = 50_000_000
_MOST_ASKED: Final = 1 << 15
"""Bytes that are looked up to see whether they were missing."""
_DEAD_NS: Final = 1_000_000_000
_SLOWER: Final = 1.2
_FULL_SHARE: Final = 0.6
"""Of the most that was ever unacknowledged at the data level: a full send buffer holds as much, but
for what is free when its application is told of room."""
_SLOWER_NS: Final = 1_000_000
"""A path is slower where its round trip is longer by more than hosts take."""


@dataclass(slots=True, eq=False, repr=False)
class Sends:
    """Every send with what bounded the wait after it; times in ns."""

    at: Ints
    until: Ints
    """The next send, or the end."""
    sent: Ints
    """One past the highest number sent."""
    closes: Ints
    opens: Ints
    """From when the window had no room for what was sent next, and when it had."""
    emptied: Ints
    """When all was acknowledged."""
    tight: Mask
    """Whether the next send waited for the window."""
    idle: tuple[Ints, Ints]
    """Starts and ends of the times in which no subflow had anything to send."""
    ended: bool
    """Whether the stream had ended with the last one."""


def examine(connection: Connection, view: SenderView) -> Sends:
    """Return what bounded the wait after each send of ``view``, of which there is one at least."""
    times = view.sends_ns
    at = times[np.append(np.diff(times) > 0, True)]
    place = np.searchsorted(view.firsts_ns, at, side="right")
    until = np.append(view.firsts_ns, view.end_ns)[place]
    sent = view.sent.at(at)
    following = np.append(np.diff(sent), 0)
    need = np.where(following > 0, np.minimum(following, view.mss), view.mss)
    if not view.near:  # a segment is on its way to the capture point
        need = need + view.mss
    closes, opens = _without_room(view, at, until, sent + need)
    slack = max(_PROMPT_NS, 2 * view.resolution_ns, (view.loop_ns or 0) // _SLACK_PARTS)
    tight = (opens > closes) & (until - opens <= slack)
    return Sends(
        at=at,
        until=until,
        sent=sent,
        closes=closes,
        opens=opens,
        emptied=np.clip(view.acked.reached(sent, view.end_ns), at, until),
        tight=tight,
        idle=_idle(view),
        ended=_ended(connection, view),
    )


def _idle(view: SenderView) -> tuple[Ints, Ints]:
    """Return when no subflow had anything to send."""
    spans = [_idle_on(view, carrier) for carrier in view.carriers]
    starts = np.concatenate([span[0] for span in spans])
    ends = np.concatenate([span[1] for span in spans])
    borders = np.concatenate((starts, ends))
    change = np.concatenate((np.ones(starts.size, "i8"), -np.ones(ends.size, "i8")))
    order = np.lexsort((change, borders))
    borders, idle = borders[order], np.cumsum(change[order])
    chosen = np.flatnonzero(idle[:-1] == len(view.carriers))
    return borders[chosen], borders[chosen + 1]


def _idle_on(view: SenderView, carrier: Carrier) -> tuple[Ints, Ints]:
    """Return when one subflow could have sent and had nothing to send; the spans do not touch."""
    at, until = carrier.sent_ns, np.append(carrier.first_ns[1:], view.end_ns)
    sent, acked = carrier.sent.at(at), carrier.acked.at(at)
    flight = np.maximum(sent - acked, 0)
    emptied = np.maximum(carrier.acked.reached(sent, view.end_ns), at)
    taken = emptied - at
    least = max(_PROMPT_NS, 2 * view.resolution_ns)
    slack = np.maximum(least, np.minimum(taken, until - at) // _SLACK_PARTS)
    repairs = [span for span in view.recoveries if span[2] == carrier.subflow.number]
    allowed = _allowed(carrier, repairs, at, emptied, until, flight)
    target = sent - (_ROOM_SHARE * allowed).astype(np.int64)
    room_ns = np.maximum(carrier.acked.reached(target, view.end_ns), at)
    grown = carrier.acked.time_ns[np.diff(carrier.acked.value, prepend=carrier.acked.start) > 0]
    answer_ns = np.append(grown, view.end_ns)[np.searchsorted(grown, at, side="right")]
    idle = (room_ns < until) & (until - room_ns > slack)
    idle |= (answer_ns < until) & (until - answer_ns > taken // 2 + slack)
    gap = np.maximum(max(_LEAST_GAP_NS, carrier.round_trip_ns // 4), slack)
    unasked = answer_ns >= until + _HOST_NS
    if view.near:  # a write, of which the answers that had come before it asked nothing
        burst = np.append(carrier.rows["payload_bytes"][1:], 0)
        unasked |= (burst >= _BURST_SEGMENTS * view.mss) & (answer_ns < until)
    unasked &= until - at > gap
    unasked[-1:] = False  # nothing was sent at the end
    idle |= unasked
    idle &= ~_answers(view, carrier, grown, until)
    idle |= until - emptied > least
    idle &= ~(within(repairs, at) | within(repairs, until))
    starts = at.copy()
    if len(view.carriers) > 1:
        # Where nothing moves for long on a subflow, others are used instead.
        dead = ~idle & (until - at > _DEAD_NS)
        starts[dead] += _DEAD_NS
        idle |= dead
    chosen = np.flatnonzero(idle & (until > starts))
    return (
        np.append(view.start_ns, starts[chosen]),
        np.append(min(int(carrier.first_ns[0]), view.end_ns), until[chosen]),
    )


def _answers(view: SenderView, carrier: Carrier, grown: Ints, until: Ints) -> Mask:
    """Return where what ended a wait was an answer to an acknowledgement.

    It waited for that acknowledgement: an application whose send buffer was full does.  ``grown``
    has the times of acknowledgements.  Where data passes by only later, a tick of the timestamps
    is how well the time of sending is known.
    """
    if view.near:
        rows = carrier.rows[1:]
        return np.append(2 * rows["prompt_bytes"] > rows["new_bytes"], False)
    place = np.searchsorted(grown, until + TICK_NS, side="right") - 1
    latest = np.where(place >= 0, np.append(grown, 0)[np.maximum(place, 0)], 0)
    prompt = np.abs(until - latest) <= TICK_NS
    prompt[-1:] = False
    waiting = carrier.acked.at(until - TICK_NS, "left") < carrier.sent.at(until, "left")
    return np.asarray(prompt & waiting)


def _allowed(
    carrier: Carrier,
    repairs: list[tuple[int, int, int]],
    at: Ints,
    emptied: Ints,
    until: Ints,
    flight: Ints,
) -> Ints:
    """Return the largest flight of late, since the last loss or long idle time: it was allowed."""
    events = [np.array([span[k] for span in repairs], dtype=np.int64) for k in (0, 1)]
    pause = _RETRANSMISSION_NS + 2 * carrier.round_trip_ns
    events.append(until[until - emptied > pause])
    span = max(_RECENT_ROUND_TRIPS * int(median(emptied - at)), _RETRANSMISSION_NS)
    span = min(span, _LONGEST_NS)
    fresh = np.searchsorted(np.sort(np.concatenate(events)), at, side="right")
    since = at - int(at[0])
    # Of two stretches that overlap by half, one began at least a span ago.
    return np.maximum(*(
        _largest_so_far(flight, _numbered(fresh) + _numbered((since + shift) // (2 * span)))
        for shift in (0, span)
    ))  # fmt: skip


def _numbered(key: Ints) -> Ints:
    """Number the runs of equal keys, which only grow."""
    return np.cumsum(np.diff(key, prepend=key[:1]) > 0).astype(np.int64)


def _largest_so_far(values: Ints, run: Ints) -> Ints:
    """Return the largest value so far in each run."""
    raised = np.minimum(values, (1 << 40) - 1) + (run << 40)
    return np.asarray(np.maximum.accumulate(raised) - (run << 40))


def _ended(connection: Connection, view: SenderView) -> bool:
    """Whether the side has said that it has sent all its data."""
    return view.side in connection.ended or all(
        carrier.half.seen.fin_ns or carrier.half.seen.rst_ns for carrier in view.carriers
    )


def _without_room(view: SenderView, at: Ints, until: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """Return from when to when the window ended before ``wanted``; equal times where it never did.

    From the first offer in the time from ``at`` to ``until`` that was too small to the one after
    the last such.
    """
    offers = view.offers
    if offers.time_ns.size == 0:
        return at, at
    when = np.append(offers.time_ns, view.end_ns)
    before = np.searchsorted(offers.time_ns, at, side="right") - 1
    small_before = (before >= 0) & (offers.edge[np.maximum(before, 0)] < wanted)
    wait = np.searchsorted(at, offers.time_ns, side="right") - 1
    small = np.flatnonzero((wait >= 0) & (offers.edge < wanted[np.maximum(wait, 0)]))
    wait = wait[small]
    every = np.arange(at.size)
    first, past = np.searchsorted(wait, every), np.searchsorted(wait, every, side="right")
    within_wait = past > first
    small = np.append(small, 0)
    closes = np.where(
        within_wait & ~small_before, when[small[np.minimum(first, small.size - 1)]], at
    )
    last = np.where(within_wait, small[np.maximum(past - 1, 0)], before)
    opens = np.where(within_wait | small_before, when[np.maximum(last, 0) + 1], at)
    return closes, np.clip(opens, closes, until)


def claims_of_waits(connection: Connection, view: SenderView, sends: Sends) -> list[Claim]:
    """Return what the waits after sends show, those that come first being the surer."""
    out = []
    first = int(sends.at[0])
    up_ns = connection.subflows[0].halves[0].seen.established_ns or first
    up_ns = min(up_ns, first) if connection.saw_syn else view.start_ns
    out.append(_claim(Cause.HANDSHAKE, [view.start_ns], [up_ns]))
    stalled = _stalled(view, sends)
    if stalled is not None:
        out.append(_claim(Cause.STALLED, [stalled], [view.end_ns]))
    out += _of_window(view, sends)
    out += _of_data_acks(view, sends)
    if sends.ended:
        out.append(_claim(Cause.APPLICATION, sends.emptied[-1:], sends.until[-1:], ENDED))
    out.append(Claim(Cause.APPLICATION, *sends.idle))
    quiet = sends.until - sends.emptied > max(_PROMPT_NS, 2 * view.resolution_ns)
    out.append(Claim(Cause.APPLICATION, sends.emptied[quiet], sends.until[quiet]))
    return out


def _claim(cause: Cause, starts: Ints | list[int], ends: Ints | list[int], kind: str = "") -> Claim:
    return Claim(cause, np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64), kind)


def _stalled(view: SenderView, sends: Sends) -> int | None:
    """Return since when nothing has moved although data waits; None where it did."""
    if sends.tight[-1] or int(sends.emptied[-1]) < view.end_ns:
        return None
    progress = view.start_ns
    for steps in (view.sent, view.acked, view.passed):
        if steps.time_ns.size:
            grown = steps.time_ns[np.diff(steps.value, prepend=steps.start) > 0]
            progress = max(progress, int(grown[-1]) if grown.size else 0)
    least = max(_STALL_NS, 4 * view.round_trip_ns)
    return progress if view.end_ns - progress > least else None


def _of_window(view: SenderView, sends: Sends) -> list[Claim]:
    """Return the times in which the window had no room, by why it had none."""
    tight = np.flatnonzero(sends.tight)
    if tight.size == 0:
        return []
    last = sends.at.size - 1
    if int(tight[-1]) == last and int(sends.emptied[-1]) < view.end_ns and not _probed(view, sends):
        tight = tight[:-1]  # closed to the end, with no sign that anything waits
        if tight.size == 0:
            return []
    starts, ends = sends.closes[tight], sends.opens[tight].copy()
    # Between two such waits, what the window let through was sent, within a slot or two.
    close = (np.diff(tight) == 1) & (starts[1:] - ends[:-1] <= 2 * view.resolution_ns)
    ends[:-1][close] = np.maximum(ends[:-1], starts[1:])[close]
    out = head_of_line(view, starts, ends) if len(view.carriers) > 1 else []
    kinds = _window_kinds(view, starts, ends)
    for kind in (CLOSED, SLOW_READER, GROWING, SMALL):
        chosen = kinds == kind
        if chosen.any():
            out.append(Claim(Cause.RECEIVE_WINDOW, starts[chosen], ends[chosen], kind))
    return out


def _of_data_acks(view: SenderView, sends: Sends) -> list[Claim]:
    """Return the times in which only DATA_ACKs were missing for what the subflows had delivered."""
    arrived = np.max(
        [each.acked.reached(each.sent.at(sends.at), view.end_ns) for each in view.carriers], axis=0
    )
    starts = np.maximum(arrived, sends.at)
    ends = np.minimum(sends.emptied, sends.until)
    unacked = view.sent.at(sends.at) - view.acked.at(starts)
    slack = max(_PROMPT_NS, 2 * view.resolution_ns, (view.loop_ns or 0) // _SLACK_PARTS)
    grown = view.acked.time_ns[np.diff(view.acked.value, prepend=view.acked.start) > 0]
    if grown.size == 0:
        return []
    latest = grown[np.maximum(np.searchsorted(grown, sends.until, side="right") - 1, 0)]
    held = (ends - starts > slack) & (unacked >= _FULL_SHARE * unacked.max(initial=0))
    held &= (unacked > view.mss) & (latest > starts) & (sends.until - latest <= slack)
    held &= ~_brought_data(view, latest)
    chosen = np.flatnonzero(held)
    return [Claim(Cause.SEND_BUFFER, sends.at[chosen], ends[chosen], DATA_ACKS)]


def _brought_data(view: SenderView, times_ns: Ints) -> Mask:
    """Tell at which times data of the other side arrived, which an application may have waited
    for."""
    brought = np.zeros(times_ns.shape, dtype=bool)
    for carrier in view.carriers:
        rows = carrier.answer.samples
        rows = rows[rows["payload_bytes"] > 0]
        first = rows["first_ns"] + carrier.shift_ns - view.resolution_ns
        last = rows["time_ns"] + carrier.shift_ns + view.resolution_ns
        if rows.size:
            place = np.searchsorted(first, times_ns, side="right") - 1
            brought |= (place >= 0) & (times_ns <= last[np.maximum(place, 0)])
    return brought


def _probed(view: SenderView, sends: Sends) -> bool:
    """Whether the sender sent anything after all was acknowledged: it asks for the window."""
    since = int(sends.emptied[-1])
    return any(bool((carrier.half.samples["time_ns"] > since).any()) for carrier in view.carriers)


def _window_kinds(view: SenderView, starts: Ints, ends: Ints) -> np.ndarray:
    """Return of each time without room why the window was no larger."""
    offers = view.offers
    place = offers.place(starts)
    window, largest = offers.bytes[place], offers.largest[place]
    span = max(_LEAST_SPAN_NS, 2 * view.round_trip_ns)
    group = (starts - view.start_ns) // span
    _, group = np.unique(group, return_inverse=True)
    lasting = np.maximum(ends - starts, 1).astype(np.float64)
    usual = np.bincount(group, weights=window * lasting) / np.bincount(group, weights=lasting)
    # Of a window of which the scale is not known, nothing is known but that it is 0.
    closed = window < view.mss if view.scale_known else window == 0
    closed &= view.acked.at(ends, "left") >= view.sent.at(starts)
    later = offers.largest[offers.place(ends + min(5 * span, view.end_ns - view.start_ns))]
    kinds = np.full(starts.size, SMALL, dtype=object)
    kinds[later >= _GROWN * largest] = GROWING
    kinds[usual[group] < _SHRUNK * largest] = SLOW_READER
    kinds[closed] = CLOSED
    return kinds


def head_of_line(view: SenderView, starts: Ints, ends: Ints) -> list[Claim]:
    """Return when, of the given times, a byte was missing behind which others had arrived.

    A byte is missing from when it was sent until its subflow acknowledged it.  Kinds name that
    subflow, and what became of the byte.
    """
    when, until = _between_acks(view, starts, ends)
    number = view.acked.at(when)
    asked, inverse = np.unique(number, return_inverse=True)
    known = inverse < _MOST_ASKED
    when, until, inverse = when[known], until[known], inverse[known]
    asked = asked[:_MOST_ASKED]
    carrier, sent, arrived = _first_carriers(view, asked)
    overtaken = np.full(asked.size, view.end_ns, dtype=np.int64)
    for each in view.carriers:
        overtaken = np.minimum(overtaken, each.arrived.reached(asked + 1, view.end_ns))
    begin = np.maximum(when, overtaken[inverse])
    if view.near:  # elsewhere, what was lost before the capture point is seen only later
        begin = np.maximum(begin, sent[inverse])
    end = np.minimum(until, arrived[inverse])
    missing = np.flatnonzero((carrier[inverse] >= 0) & (end > begin))
    fates: dict[int, str] = {}
    places: dict[str, list[int]] = {}
    for k, unique in zip(missing.tolist(), inverse[missing].tolist(), strict=True):
        if unique not in fates:
            fates[unique] = _fate(
                view, int(carrier[unique]), int(sent[unique]), int(arrived[unique])
            )
        places.setdefault(fates[unique], []).append(k)
    return [
        Claim(Cause.HEAD_OF_LINE, begin[chosen], end[chosen], kind)
        for kind, chosen in places.items()
    ]


def _between_acks(view: SenderView, starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Divide times at each acknowledgement of something new."""
    marks = view.acked.time_ns[np.diff(view.acked.value, prepend=view.acked.start) > 0]
    wait = np.searchsorted(starts, marks, side="right") - 1
    inside = (wait >= 0) & (marks < ends[np.maximum(wait, 0)])
    when = np.concatenate((starts, marks[inside]))
    bound = np.concatenate((ends, ends[wait[inside]]))
    order = np.argsort(when, kind="stable")
    when, bound = when[order], bound[order]
    until = np.minimum(np.append(when[1:], bound[-1:]), bound)
    return when, until


def _first_carriers(view: SenderView, asked: Ints) -> tuple[Ints, Ints, Ints]:
    """Return which carrier sent each byte first (-1: none), when, and when any had it delivered."""
    carrier = np.full(asked.size, -1, dtype=np.int64)
    sent = np.full(asked.size, view.end_ns, dtype=np.int64)
    arrived = np.full(asked.size, view.end_ns, dtype=np.int64)
    for k, each in enumerate(view.carriers):
        order = np.argsort(each.half.data_rel, kind="stable")
        start = each.half.data_rel[order]
        if start.size == 0:
            continue
        extents = each.half.extents[order]
        place = np.maximum(np.searchsorted(start, asked, side="right") - 1, 0)
        inside = (asked >= start[place]) & (asked < start[place] + extents["bytes"][place])
        seq = extents["seq"][place] + asked - start[place]
        when = extents["first_ns"][place]
        back = each.acked.reached(seq + 1, view.end_ns)
        arrived = np.where(inside, np.minimum(arrived, back), arrived)
        first = inside & (when < sent)
        carrier[first], sent[first] = k, when[first]
    return carrier, sent, arrived


def _fate(view: SenderView, carrier: int, sent_ns: int, arrived_ns: int) -> str:
    """Return what became of a byte: the kind of a head-of-line wait."""
    mine = view.carriers[carrier]
    name = f"subflow {mine.subflow.number}"
    if mine.half.total("retransmissions", sent_ns, arrived_ns + 1):
        return f"{name}: lost"
    progress = mine.acked.at(np.array([sent_ns, arrived_ns], dtype=np.int64), "left")
    if arrived_ns - sent_ns > _DEAD_NS and progress[0] == progress[1]:
        return f"{name}: dead"
    others = [each.round_trip_ns for each in view.carriers if each is not mine]
    fastest = min(others, default=0)
    if mine.round_trip_ns > _SLOWER * fastest + _SLOWER_NS and arrived_ns - sent_ns > fastest:
        return f"{name}: slow"
    return name
