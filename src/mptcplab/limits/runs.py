"""What held each connection of a run back: the time that its sender waited, and what for.

The tables say what the sender waited for (``limits``); what lies behind that, links, processors,
the reader, is told from the rest of the evidence, interval by interval. Where it does not say, the
cause is unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mptcplab.limits.advice import (
    AUTOTUNING,
    DATA_ACKS_MISSING,
    DROPPED_ABOVE_TCP,
    ONLY_BACKUPS,
    PENALISED,
    READER_SLOW,
    READER_STOPPED,
    SLOW_START,
    TOO_SMALL,
    USED_UP,
    Given,
    Remedy,
    remedy,
)
from mptcplab.limits.applications import Applications, Parts
from mptcplab.limits.causes import (
    CLIENT_TO_SERVER,
    SERVER_TO_CLIENT,
    Cause,
    DownPaths,
    FullLinks,
    Kind,
    Limit,
)
from mptcplab.limits.evidence import Interval, Path, PathUse, Row, Tables
from mptcplab.results.liveness import why_never_up
from mptcplab.results.run import Run
from mptcplab.units import NANOSECONDS, format_duration

_CPU_BUSY: Final = 0.9
"""Of an interval: a processor that is busy for longer has no time left."""
_MOSTLY: Final = 0.5
"""Of the receive buffer: where more is unread, the reader is what the sender waits for. And of an
interval: an application that works for longer may be slow for want of a processor."""
_GROWN: Final = 0.98
"""Of the largest receive buffer: from here on, autotuning has got there."""
_LEAST_RTO_NS: Final = NANOSECONDS
"""A handshake that takes longer had its SYN repeated (RFC 6298 section 2.1)."""

_CONGESTION: Final = {
    "slow-start": SLOW_START,
    "recovery": "in fast recovery",
    "timeout": "after a timeout",
    "avoidance": "in congestion avoidance",
    "penalised": PENALISED,
}
_HEAD_OF_LINE: Final = ("head-of-line", "head-of-line-loss")
_DATA_ACK: Final = ("data-ack", "window-data-ack")
_HELD: Final = ("send-buffer", "receive-window", "window-data-ack", *_HEAD_OF_LINE)
_OF_BUFFERS: Final = (*_HELD, "penalised")
"""What larger buffers may change."""
NO_SUBFLOW: Final = "no subflow was usable"
BLACK_HOLE: Final = "path-MTU black hole"
"""Packets are too big for a link beyond a router, and the sender is not told (RFC 2923)."""
_FIXED_BYTES: Final = {False: 40, True: 60}
"""IP and TCP headers without options, by whether IPv6."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What held one direction of a connection back, the longest first."""

    connection: str
    direction: str
    limits: tuple[Limit, ...]
    remedy: Remedy
    """What would change the first of them."""


WAITING: Final = {
    Cause.HANDSHAKE: "waiting for the handshake",
    Cause.APPLICATION: "waiting for the application",
    Cause.SEND_BUFFER: "waiting for the send buffer",
    Cause.RECEIVE_WINDOW: "waiting for the receive window",
    Cause.HEAD_OF_LINE: "waiting for missing bytes, with the window full behind them",
    Cause.CONGESTION_WINDOW: "held back by congestion windows",
    Cause.LINK: "held back by a link",
    Cause.CPU: "waiting for a processor",
    Cause.SCHEDULER: "held back by the scheduler",
    Cause.STALLED: "stalled",
    Cause.UNKNOWN: "held back by what the run does not show",
}
"""How each cause is told."""


def run_limits(run: Run) -> list[Diagnosis]:
    """Return what held each connection of a run back, in the order of ``run.json``.

    Of flows whose applications ask, answer or send messages it is what held the flow back; those
    without connections, programs and SCTP are left out.
    """
    tables = Tables(run)
    applications = Applications(run, tables.links)
    flows = {flow["name"]: flow for flow in run.scenario["flows"]}
    known = {entry["flow"]: entry for entry in run.metadata.get("flow_limits", ())}
    diagnoses: dict[tuple[str, int], Diagnosis | None] = {}
    for end in run.metadata["flows"]:
        flow = flows[end["flow"]]
        if flow["start_ns"] >= run.metadata["measured_ns"] or _is_unseen(flow):
            continue
        if not flow.get("workload"):
            key = (flow["name"], end["connection"])
            connection = _Connection(run, tables, flow, end, known.get(flow["name"]))
            diagnoses[key] = connection.diagnosis()
        elif (flow["name"], 0) not in diagnoses:
            diagnoses[flow["name"], 0] = _of_application(run, flow, applications)
    return [diagnosis for diagnosis in diagnoses.values() if diagnosis is not None]


def cause_intervals(run: Run) -> dict[str, list[tuple[int, int, dict[Cause, int]]]]:
    """Return what held each connection of a run back over time: by its name, as `Limit` has it,
    the intervals between its samples.

    Each is (start, end, time by cause), all in nanoseconds. Left out are the flows that
    :func:`run_limits` leaves out, and those of which the run has no table.
    """
    return {
        connection.name: intervals
        for connection in _connections(run)
        if (intervals := list(connection.divided()))
    }


def _connections(run: Run) -> Iterator[_Connection]:
    """Yield the connections of bulk flows that were to begin in what was measured of a run."""
    tables = Tables(run)
    flows = {flow["name"]: flow for flow in run.scenario["flows"]}
    known = {entry["flow"]: entry for entry in run.metadata.get("flow_limits", ())}
    for end in run.metadata["flows"]:
        flow = flows[end["flow"]]
        begun = flow["start_ns"] < run.metadata["measured_ns"]
        if begun and not flow.get("workload") and not _is_unseen(flow):
            yield _Connection(run, tables, flow, end, known.get(end["flow"]))


def _is_unseen(flow: Mapping[str, Any]) -> bool:
    """Return whether no table has what a flow's sender waited for: libusrsctp does not tell."""
    return bool(flow["protocol"] == "sctp")


def _of_application(
    run: Run, flow: Mapping[str, Any], applications: Applications
) -> Diagnosis | None:
    """Say what held a flow back whose applications ask, answer or send messages."""
    divided = applications.parts(flow)
    if divided is None:
        return None
    direction, parts = divided
    never_up = why_never_up(run.metadata["invalid_reasons"], flow["name"], 0)
    if never_up is not None:
        parts = {(Cause.HANDSHAKE, _never_up(never_up)): max(sum(parts.values()), 1)}
    return _told(flow["name"], direction, parts, sum(parts.values()))


def _told(
    name: str,
    direction: str,
    parts: Mapping[tuple[Cause, Kind], int],
    total_ns: int,
    cure: Callable[[Cause, Mapping[Kind, int]], Remedy] | None = None,
) -> Diagnosis:
    """Put the parts of a time in order, the longest first, with what would change each."""
    by_cause: dict[Cause, dict[Kind, int]] = defaultdict(dict)
    for (cause, kind), duration_ns in parts.items():
        if duration_ns:
            by_cause[cause][kind] = duration_ns
    order = sorted(by_cause, key=lambda cause: -sum(by_cause[cause].values()))
    remedies = {cause: cure(cause, by_cause[cause]) if cure else Remedy() for cause in order}
    limits = []
    for cause in order:
        waited_ns = sum(by_cause[cause].values())
        limits.append(
            Limit(
                name,
                direction,
                cause,
                waited_ns / NANOSECONDS,
                waited_ns / total_ns,
                _kinds_text(
                    _worded(cause, by_cause[cause], remedies[cause]), remedies[cause].value
                ),
                remedies[cause].advice,
            )
        )
    return Diagnosis(name, direction, tuple(limits), remedies[order[0]])


def _never_up(why: str) -> str:
    return f"it never came up: {why}" if why else "it never came up"


class _Connection:
    """One connection of a run."""

    def __init__(
        self,
        run: Run,
        tables: Tables,
        flow: Mapping[str, Any],
        end: Mapping[str, Any],
        known: Mapping[str, Any] | None,
    ) -> None:
        self._flow = flow
        self._end = end
        self._tables = tables
        self._key = (flow["name"], end["connection"])
        self._known = known
        paths = [] if known is None else [Path.of(path) for path in known["paths"]]
        self._paths = list(dict.fromkeys(paths))
        measured_ns: int = run.metadata["measured_ns"]
        self._span = (flow["start_ns"], min(end.get("end_ns") or measured_ns, measured_ns))
        self._stalled_ns = end.get("stalled_since_ns")
        self._handshake = ""
        self._narrow_mss: int | None = None
        """The MSS with which packets would pass a path-MTU black hole, where one was found."""
        routers = run.scenario["topology"].get("routers", ())
        self._ways_are_known = all(router["ecmp"] != "ports" for router in routers)
        self._never_up = why_never_up(run.metadata["invalid_reasons"], *self._key)
        sent = tables.rows("subflows", self._key, flow["source"])
        self._used = self._carriers(sent)
        self._given = Given(
            run.metadata["testbed"],
            flow,
            known or {},
            (self._used, self._paths_of([row for row in sent if not row["backup"]])),
            {
                "sender": tables.rows("connections", self._key, flow["source"]),
                "receiver": tables.rows("connections", self._key, flow["destination"]),
                "sent": sent,
                "received": tables.rows("subflows", self._key, flow["destination"]),
            },
            PathUse(tables.links, self._span),
        )

    def diagnosis(self) -> Diagnosis:
        """Divide its time, and say what follows."""
        parts: Parts = defaultdict(int)
        held_ns = 0
        if self._never_up is not None:
            parts[Cause.HANDSHAKE, self._why_never_up(self._never_up)] = max(
                self._span[1] - self._span[0], 1
            )
        elif self._is_told:
            intervals = list(self._intervals())
            self._handshake = self._handshake_kind(intervals)
            for interval in intervals:
                self._divide(interval, parts)
                reasons = interval.reasons.items()
                held_ns += sum(ns for (why, _), ns in reasons if why in _OF_BUFFERS)
            missing = ""
        else:
            missing = "the run has no table of it: it was made by an earlier version"
        counted_ns = sum(parts.values())
        total_ns = max(self._span[1] - self._span[0], counted_ns, 1)
        self._given.held = held_ns / total_ns
        if total_ns > counted_ns:
            parts[Cause.UNKNOWN, missing] += total_ns - counted_ns
        return _told(
            self.name,
            self._direction,
            parts,
            total_ns,
            self._remedy,
        )

    def _remedy(self, cause: Cause, kinds: Mapping[Kind, int]) -> Remedy:
        if cause is Cause.STALLED and self._narrow_mss is not None:
            smaller = f"tunables.mss={self._narrow_mss}"
            return Remedy("", f"ICMP errors that get through, or {smaller}", (smaller,))
        return remedy(cause, kinds, self._given)

    def divided(self) -> Iterator[tuple[int, int, dict[Cause, int]]]:
        """Yield start and end of each interval, and its time by cause (ns)."""
        intervals = list(self._intervals()) if self._is_told and self._never_up is None else []
        self._handshake = self._handshake_kind(intervals)
        for interval in intervals:
            parts: Parts = defaultdict(int)
            self._divide(interval, parts)
            by_cause: dict[Cause, int] = defaultdict(int)
            for (cause, _), duration_ns in parts.items():
                by_cause[cause] += duration_ns
            yield interval.start_ns, interval.end_ns, dict(by_cause)

    @property
    def _is_told(self) -> bool:
        """Whether the run counted what its sender waited for."""
        return self._known is not None and self._tables.has_limits(self._key)

    def _intervals(self) -> Iterator[Interval]:
        hosts = (self._flow["source"], self._flow["destination"])
        return self._tables.intervals(self._key, hosts, self._span[1])

    @property
    def name(self) -> str:
        """What ``Limit`` calls it: ``FLOW``, or ``FLOW/1`` of several."""
        name: str = self._flow["name"]
        several = self._flow["connections"] > 1
        return f"{name}/{self._end['connection'] + 1}" if several else name

    @property
    def _direction(self) -> str:
        opens = self._flow["client"] in ("", self._flow["source"])
        return CLIENT_TO_SERVER if opens else SERVER_TO_CLIENT

    # -- one interval

    def _divide(self, interval: Interval, parts: Parts) -> None:
        """Add an interval to the parts of the causes."""
        length_ns = sum(interval.reasons.values())
        live = 1.0
        if self._stalled_ns is not None and self._stalled_ns < interval.end_ns:
            since_ns = max(self._stalled_ns, interval.start_ns)
            live = (since_ns - interval.start_ns) / (interval.end_ns - interval.start_ns)
            dead_ns = length_ns - round(length_ns * live)
            why = self._black_hole(interval) or f"since {format_duration(self._stalled_ns)}"
            parts[Cause.STALLED, why] += dead_ns
        for (reason, subflow), duration_ns in interval.reasons.items():
            cause, kind = self._name_cause(interval, reason, subflow)
            waited_ns = round(duration_ns * live)
            host, busy = self._processor(interval, cause, kind)
            if busy >= _MOSTLY:  # an application that works is waited for, and one that sleeps
                working_ns = round(waited_ns * min(busy, 1.0))
                parts[Cause.CPU, host] += working_ns
                waited_ns -= working_ns
            parts[cause, kind] += waited_ns

    def _name_cause(
        self, interval: Interval, reason: str, subflow: int | None
    ) -> tuple[Cause, Kind]:
        if reason == "handshake":
            return Cause.HANDSHAKE, self._handshake
        if reason == "tail":
            return Cause.APPLICATION, "all was sent, the last bytes were on their way"
        full, every, down = self._links(interval)
        sender, receiver = interval.sender.cpu, interval.receiver.cpu
        if reason == "application":
            return Cause.APPLICATION, ""
        if down and reason in (*_CONGESTION, "no-subflow"):
            return Cause.LINK, down
        if reason == "no-subflow":
            return Cause.STALLED, NO_SUBFLOW
        if full and (reason in _CONGESTION or (reason in _HELD and every)):
            return Cause.LINK, full
        if reason in _CONGESTION and sender >= _CPU_BUSY:
            return Cause.CPU, self._flow["source"]
        if reason in (*_CONGESTION, *_HELD) and receiver >= _CPU_BUSY:
            return Cause.CPU, self._flow["destination"]
        return self._waited(interval, reason, subflow)

    def _waited(self, interval: Interval, reason: str, subflow: int | None) -> tuple[Cause, str]:
        """Return the cause behind what neither links nor processors account for."""
        if reason in _CONGESTION:
            hole = self._black_hole(interval)
            if hole:
                return Cause.STALLED, hole
            return Cause.CONGESTION_WINDOW, _CONGESTION[reason]
        unread = self._unread(interval)
        if reason == "receive-window" or (unread and reason in (*_HEAD_OF_LINE, *_DATA_ACK)):
            return Cause.RECEIVE_WINDOW, unread or self._window(interval)
        if reason in _HEAD_OF_LINE:
            return Cause.HEAD_OF_LINE, self._missing(interval, reason, subflow)
        if reason in _DATA_ACK:
            return self._unacknowledged(reason)
        if reason == "send-buffer":
            return Cause.SEND_BUFFER, ""
        if reason == "backup":
            return Cause.SCHEDULER, ONLY_BACKUPS
        if reason == "scheduler":
            return Cause.SCHEDULER, "a subflow had room and was not used"
        return Cause.UNKNOWN, ""

    def _processor(self, interval: Interval, cause: Cause, kind: Kind) -> tuple[str, float]:
        """Return the host whose application was waited for, and how busy its processor was."""
        if cause is Cause.APPLICATION and not kind:
            return self._flow["source"], interval.sender.cpu
        if cause is Cause.RECEIVE_WINDOW and kind in (READER_SLOW, READER_STOPPED):
            return self._flow["destination"], interval.receiver.cpu
        return "", 0.0

    def _links(self, interval: Interval) -> tuple[FullLinks | None, bool, DownPaths | None]:
        """Return what was full on the way, whether all paths in use were, and what was down.

        The first is None where nothing was, the last unless every path was.  Backups are in use
        where no other path is up, and paths that carried nothing are not.
        """
        links, at_ns = self._tables.links, interval.end_ns
        rows = interval.subflows.values()
        there = self._paths_of([row for row in rows if not row["backup"]])
        backups = self._paths_of([row for row in rows if row["backup"]])
        up = [path for path in there if not links.is_down(path, at_ns)] or [
            path for path in backups if not links.is_down(path, at_ns)
        ]
        full = {path: name for path in up if (name := links.full(path, at_ns, self._span))}
        down = [] if up else [*there, *backups] or self._paths
        if not all(links.is_down(path, at_ns) for path in down):
            down = []
        every = all(path in full or path not in self._used for path in up)
        others = _names(path for path in up if path not in full)
        return (
            FullLinks(tuple(dict.fromkeys(full.values())), others) if full else None,
            every,
            DownPaths(_names(down)) if down else None,
        )

    def _carriers(self, sent: Sequence[Row]) -> list[Path]:
        """Return the paths that carried data; without samples, those that were to carry them."""
        carried = [row for row in sent if row["bytes_sent"]]
        regular = [row for row in carried if not row["backup"]]
        several = self._flow["protocol"] == "mptcp"
        return self._paths_of(regular or carried) or (self._paths if several else self._paths[:1])

    def _paths_of(self, rows: Sequence[Row]) -> list[Path]:
        """Return the paths of subflows, each once, in the scenario's order."""
        used = [self._path_of(row) for row in rows]
        return [path for path in self._paths if path in used]

    def _path_of(self, row: Row) -> Path | None:
        ends = [row[end].rpartition(":")[0].strip("[]") for end in ("local", "remote")]
        for path in self._paths:
            if [path.source, path.destination] == ends:
                return path
        over = [path for path in self._paths if row["link"] in dict(path.links)]
        return over[0] if len(over) == 1 else None  # addresses were translated on the way

    def _handshake_kind(self, intervals: Sequence[Interval]) -> str:
        """Say what the handshake waited for beside its round trips; "" for nothing that shows."""
        waited_ns = sum(interval.reasons.get(("handshake", None), 0) for interval in intervals)
        if waited_ns < max(_LEAST_RTO_NS, 2 * self._given.round_trip_ns):
            return ""
        return "; ".join(["its SYN was repeated", *self._lost(self._span[0] + waited_ns)])

    def _why_never_up(self, why: str) -> str:
        return "; ".join([_never_up(why), *self._lost(self._span[1])])

    def _lost(self, until_ns: int) -> list[str]:
        """Say what links lost of a handshake that was not answered."""
        span = (self._span[0], until_ns)
        first = self._paths_of(self._given.first_subflow()) or self._paths[:1]
        losses = [loss for path in first for loss in self._tables.links.losses(path, span)]
        return [f"{name} lost {lost} of {given} packets" for name, lost, given in losses]

    def _missing(self, interval: Interval, reason: str, subflow: int | None) -> str:
        """Say which subflow carried the missing bytes, and what was wrong with it."""
        row = interval.subflows.get(-1 if subflow is None else subflow)
        if row is None:
            return "of a subflow that is gone"
        before = interval.before.get(row["subflow"])
        moved = before is None or row["bytes_acked"] > before["bytes_acked"]
        path = self._path_of(row)
        where = row["link"] if path is None else path.name
        if not moved:
            return self._hole_of(interval, row) or f"{where} carried nothing"
        return f"{where} repaired losses" if reason == "head-of-line-loss" else f"{where} is slower"

    def _black_hole(self, interval: Interval) -> str:
        """Say where packets of all subflows are too big for a link, and nothing came of them."""
        holes = [self._hole_of(interval, row) for row in interval.subflows.values()]
        return holes[0] if holes and all(holes) else ""

    def _hole_of(self, interval: Interval, row: Row) -> str:
        """Say the same of one subflow; "" where that is not so, or its way is not known.

        Its segments are larger than a link takes although it has lost them: nobody has told it.
        """
        path = self._path_of(row) if self._ways_are_known else None
        before = interval.before.get(row["subflow"])
        acked = 0 if before is None else before["bytes_acked"]
        if (
            path is None
            or not path.links
            or row["bytes_acked"] > acked
            or not row["retransmissions"]
            or row["mss_bytes"] is None
        ):
            return ""
        name, mtu = self._tables.links.narrowest(path)
        headers_bytes = _FIXED_BYTES[":" in path.source]
        packet_bytes = row["mss_bytes"] + headers_bytes
        if packet_bytes <= mtu:
            return ""
        self._narrow_mss = mtu - headers_bytes
        return f"{BLACK_HOLE}: {name} takes {mtu} bytes, its packets have {packet_bytes} and more"

    def _unread(self, interval: Interval) -> str:
        """Say what the reader does where most of the buffer waits for it; "" where it does not."""
        end, window = interval.receiver, self._given.largest_window_bytes
        unread = end.latest("unread_bytes")
        if unread is None or not window or unread < _MOSTLY * window:
            return ""
        read = (end.growth("bytes_received") or 0) - (end.growth("unread_bytes") or 0)
        return READER_SLOW if read > 0 else READER_STOPPED

    def _unacknowledged(self, reason: str) -> tuple[Cause, str]:
        """Return why DATA_ACKs are missing for what the subflows have delivered."""
        if self._tables.has_dropped_data(self._flow["destination"]):
            return Cause.HEAD_OF_LINE, DROPPED_ABOVE_TCP
        waits_for = Cause.SEND_BUFFER if reason == "data-ack" else Cause.RECEIVE_WINDOW
        return waits_for, DATA_ACKS_MISSING

    def _window(self, interval: Interval) -> str:
        """Say of what kind the wait for a window was that the reader does not account for."""
        size = interval.receiver.latest("receive_buffer_bytes")
        grows = self._given.autotunes_receive_buffer and size is not None
        if grows and (size or 0) < _GROWN * self._given.receive_buffer_max_bytes:
            return AUTOTUNING
        return TOO_SMALL


def _names(paths: Iterable[Path]) -> tuple[str, ...]:
    """Return the names of paths, each once: several may take the same links."""
    return tuple(dict.fromkeys(path.name for path in paths))


def _worded(cause: Cause, kinds: Mapping[Kind, int], cure: Remedy) -> Mapping[Kind, int]:
    """Call a buffer too small only where a larger one would change something."""
    if cause is Cause.RECEIVE_WINDOW and not cure.advice:
        return {USED_UP if kind == TOO_SMALL else kind: ns for kind, ns in kinds.items()}
    return kinds


def _kinds_text(kinds: Mapping[Kind, int], value: str) -> str:
    """Return the kinds of a cause, the longest first, with their parts where there are several."""
    total_ns = sum(kinds.values())
    named = sorted(((kind, ns) for kind, ns in kinds.items() if kind), key=lambda pair: -pair[1])
    told = [(kind, ns / total_ns) for kind, ns in named if ns >= 0.01 * total_ns] or [
        (kind, ns / total_ns) for kind, ns in named[:1]
    ]
    if len(told) == 1 and told[0][1] > 0.99:
        texts = [str(told[0][0])]
    else:
        texts = [f"{kind} {share:.0%}" for kind, share in told]
    return ", ".join([*([value] if value else []), *texts])


def mean_limits(runs: Sequence[Sequence[Diagnosis]]) -> list[Limit]:
    """Return the mean of several runs of one scenario; details and advice are the first run's."""
    seconds: dict[tuple[str, str, Cause], float] = defaultdict(float)
    shares: dict[tuple[str, str, Cause], float] = defaultdict(float)
    texts: dict[tuple[str, str, Cause], tuple[str, str]] = {}
    connections: dict[tuple[str, str], None] = {}
    for limit in (limit for run in runs for diagnosis in run for limit in diagnosis.limits):
        key = (limit.connection, limit.direction, limit.cause)
        connections[key[:2]] = None
        seconds[key] += limit.seconds / len(runs)
        shares[key] += limit.share / len(runs)
        texts.setdefault(key, (limit.detail, limit.advice))
    return [
        Limit(*key, seconds[key], shares[key], *texts[key])
        for connection in connections
        for key in sorted(
            (key for key in shares if key[:2] == connection), key=lambda key: -shares[key]
        )
    ]
