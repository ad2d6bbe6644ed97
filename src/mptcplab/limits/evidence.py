"""What a run's tables hold of one connection, interval by interval."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mptcplab.results.run import Run
from mptcplab.units import BITS_NS

Row = Mapping[str, Any]
State = tuple[tuple[tuple[str, str], int | None], ...]
"""Links that are up, with their rates."""

_FULL: Final = 0.95
"""Of what a link could have sent while the connection was there: from here on it sent all the
time, but for what counters and shapers are off by."""
_FULL_WITH_DROPS: Final = 0.85
"""The same where its queue was full as well: packets were dropped at it."""
_ETHERNET_BYTES: Final = 14
"""Of a frame's header, beyond the MTU."""
_BURST_BYTES: Final = 65_536
"""What a host with offload sends at once: a queue is short that does not hold it."""
_TELLING: Final = 100
"""Packets of a link, from which on what it lost tells its loss to a hundredth."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path of a flow in the direction of the data, as ``flow_limits`` of ``run.json`` has it."""

    source: str
    destination: str
    links: tuple[tuple[str, str], ...]
    rate_bps: int | None
    rtt_ns: int
    queue_ns: int
    """How long the queue of its slowest link takes to send when it is full."""
    nics: tuple[tuple[str, int, tuple[tuple[str, str], ...]], ...]
    loss: float = 0.0
    """The share of packets that its links are set to lose."""

    @property
    def name(self) -> str:
        """The links of the path."""
        return "+".join(link for link, _ in self.links)

    @staticmethod
    def of(value: Mapping[str, Any]) -> Path:
        """Read one from JSON."""
        return Path(
            value["source"],
            value["destination"],
            tuple((link, direction) for link, direction in value["links"]),
            value["rate_bps"],
            value["rtt_ns"],
            value.get("queue_ns", 0),
            tuple(
                (nic["name"], nic["rate_bps"], tuple((a, b) for a, b in nic["links"]))
                for nic in value["nics"]
            ),
            value.get("loss", 0.0),
        )


@dataclass(frozen=True, slots=True)
class Interval:
    """The time between two samples of a connection, and what was seen of it."""

    start_ns: int
    end_ns: int
    reasons: dict[tuple[str, int | None], int]
    """How long the sender waited for what (ns), and for which subflow."""
    subflows: dict[int, Row]
    """At its end, at the sender."""
    before: dict[int, Row]
    """At its start."""
    sender: End
    receiver: End


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection at the start of an interval and at its end."""

    before: Row | None
    after: Row | None
    length_ns: int

    def latest(self, column: str) -> int | None:
        """Return a column at the end; None where it is not known."""
        value: int | None = None if self.after is None else self.after[column]
        return value

    @property
    def cpu(self) -> float:
        """How busy the processor was that serves this end, 0 to 1; 0 where that is not known."""
        used_ns = self.growth("cpu_ns")
        return 0.0 if used_ns is None or self.length_ns <= 0 else used_ns / self.length_ns

    def growth(self, column: str) -> int | None:
        """Return by how much a counter grew; None where it is not known."""
        after = self.latest(column)
        before = 0 if self.before is None else self.before[column]
        return None if after is None else after - (before or 0)


@dataclass(frozen=True, slots=True)
class Refused:
    """Packets that the full queue of a link refused."""

    link: str
    packets: int
    given: int
    """Of how many."""
    carried_bps: float
    """What the link carried meanwhile."""


class LinkUse:
    """How full links were, by the interval of their rows that an instant lies in."""

    def __init__(self, run: Run) -> None:
        self._rows: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in run.rows("links"):
            self._rows[row["link"], row["direction"]].append(row)
        self._times = {link: [row["time_ns"] for row in rows] for link, rows in self._rows.items()}
        self._overhead_bytes: dict[tuple[str, str], int] = {}
        self._frame_bytes: dict[tuple[str, str], int] = {}
        self._mtu: dict[str, int] = {}
        self._drop_tail: dict[tuple[str, str], int | None] = {}
        """Links whose queues refuse what they have no room for, with their rates."""
        for link in run.scenario["topology"]["links"]:
            self._mtu[link["name"]] = link.get("mtu", 1500)
            for direction in ("forward", "backward"):
                key = (link["name"], direction)
                if link[direction].get("queue", {}).get("discipline") == "drop-tail":
                    self._drop_tail[key] = link[direction]["rate_bps"]
                self._overhead_bytes[key] = link[direction].get("overhead_bytes", 0)
                self._frame_bytes[key] = (
                    link.get("mtu", 0) + _ETHERNET_BYTES + self._overhead_bytes[key]
                )

    def narrowest(self, path: Path) -> tuple[str, int]:
        """Return the link of a path with the smallest MTU (bytes), the first of several."""
        return min(((name, self._mtu[name]) for name, _ in path.links), key=lambda pair: pair[1])

    def full(self, path: Path, at_ns: int, span: tuple[int, int]) -> str:
        """Return the link or NIC of a path that was full all the time; "" where none was.

        ``at_ns`` is the end of an interval, ``span`` the time in which the connection was there.
        Links that are full in the direction of the acknowledgments are named with it.
        """
        for link in path.links:
            if self._is_full(link, at_ns, span):
                return link[0]
        for name, rate_bps, links in path.nics:
            rows = [(link, row) for link in links if (row := self._row(link, at_ns)) is not None]
            used = sum(self._wire_bytes(link, row) for link, row in rows) * BITS_NS
            if rows and used >= _FULL * rate_bps * _overlap_ns(rows[0][1], span):
                return name
        for name, direction in path.links:
            back = "backward" if direction == "forward" else "forward"
            if self._is_full((name, back), at_ns, span):
                return f"{name} ({back})"
        return ""

    def _is_full(self, link: tuple[str, str], at_ns: int, span: tuple[int, int]) -> bool:
        row = self._row(link, at_ns)
        if row is None or not row["rate_bps"]:
            return False
        used_bytes = self._wire_bytes(link, row)
        could = row["rate_bps"] * _overlap_ns(row, span)
        if used_bytes * BITS_NS >= could * (_FULL_WITH_DROPS if row["drops_queue"] else _FULL):
            return True
        # packets waited: the one that is being sent is counted once it has left
        before = self._row(link, row["time_ns"] - row["interval_ns"])
        began = row["time_ns"] - row["interval_ns"] <= span[0]
        waited = row["queue_bytes"] and (began or (before is not None and before["queue_bytes"]))
        sending_bytes = self._frame_bytes.get(link, 0) if waited else 0
        return bool((used_bytes + sending_bytes) * BITS_NS >= _FULL * could)

    def times(self, paths: Sequence[Path]) -> Sequence[int]:
        """Return the ends of the intervals of the rows of paths' links (ns)."""
        return self._times.get(paths[0].links[0], []) if paths and paths[0].links else []

    def is_down(self, path: Path, at_ns: int) -> bool:
        """Say whether a link of a path was down."""
        rows = (self._row(link, at_ns) for link in path.links)
        return any(row is not None and row["up"] is False for row in rows)

    def together_bps(self, paths: Sequence[Path], span: tuple[int, int]) -> int | None:
        """Return the most that paths carried together at a time within ``span``.

        Paths that were not up at the same time do not add up, and links and NICs that several have
        in common carry their rate once.  None where a path had no rate.
        """
        states = dict.fromkeys(self._states(paths, span))
        totals = [_together_bps(paths, dict(state)) for state in states]
        known = [total for total in totals if total is not None]
        return max(known, default=None) if len(known) == len(totals) else None

    def losses(self, path: Path, span: tuple[int, int]) -> list[tuple[str, int, int]]:
        """Return the links of a path that lost packets within ``span``, in either direction.

        Of each, its name, how many packets it lost and how many it was given, in the intervals that
        end by then.
        """
        losses = []
        for name in dict.fromkeys(link for link, _ in path.links):
            lost = given = 0
            for direction in ("forward", "backward"):
                for row in self._rows.get((name, direction), ()):
                    if span[0] <= row["time_ns"] <= span[1]:  # sent at its end, lost at once
                        down = row["drops_down"] or 0
                        lost += (row["drops_loss"] or 0) + down
                        given += (row["tx_packets"] or 0) + down
            if lost:
                losses.append((name, lost, given))
        return losses

    def loss(self, path: Path, span: tuple[int, int]) -> float:
        """Return which share of a path's packets its links lost within ``span``, by the loss that
        they are set to, in the direction of the data; where it carried few, what they are set to.
        """
        arrived = 1.0
        for link in path.links:
            rows = [row for row in self._rows.get(link, ()) if span[0] <= row["time_ns"] <= span[1]]
            sent = sum(row["tx_packets"] or 0 for row in rows)
            if sent < _TELLING:
                return path.loss
            lost = sum(row["drops_loss"] or 0 for row in rows)
            arrived *= 1 - min(lost / sent, 1)
        return 1 - arrived

    def short_queue(self, path: Path) -> str:
        """Return the slowest link of a path, if its queue holds less than a burst and less than
        what the path carries in a round trip, and refuses the rest; "" otherwise.
        """
        if path.rate_bps is None or path.queue_ns >= path.rtt_ns:
            return ""
        if path.rate_bps * path.queue_ns >= _BURST_BYTES * BITS_NS:
            return ""
        rates = ((name, self._drop_tail.get((name, way))) for name, way in path.links)
        return next((name for name, rate_bps in rates if rate_bps == path.rate_bps), "")

    def refused(self, path: Path, span: tuple[int, int]) -> Refused | None:
        """Return what the full queue of one link refused, if that is most of what a path lost in
        the direction of its data within ``span``; None where most was lost otherwise, or nothing.
        """
        worst, lost = None, 0
        for link in path.links:
            rows = [row for row in self._rows.get(link, ()) if span[0] <= row["time_ns"] <= span[1]]
            sent_bytes = sum(row["tx_bytes"] for row in rows)
            found = Refused(
                link[0],
                sum(row["drops_queue"] or 0 for row in rows),
                sum((row["tx_packets"] or 0) + (row["drops_queue"] or 0) for row in rows),
                sent_bytes * BITS_NS / max(span[1] - span[0], 1),
            )
            lost += sum((row["drops_loss"] or 0) + (row["drops_down"] or 0) for row in rows)
            lost += found.packets
            if link in self._drop_tail and (worst is None or found.packets > worst.packets):
                worst = found
        return worst if worst is not None and 2 * worst.packets > lost else None

    def _states(self, paths: Sequence[Path], span: tuple[int, int]) -> Iterator[State]:
        """Yield for each interval within ``span`` the rates of the links that were up."""
        links = sorted({link for path in paths for link in path.links})
        times = self._times.get(links[0], []) if links else []
        for at_ns in times:
            rows = {link: self._row(link, at_ns) for link in links}
            first = rows[links[0]]
            if first is None or at_ns <= span[0] or at_ns - first["interval_ns"] >= span[1]:
                continue
            yield tuple(
                (link, row["rate_bps"])
                for link, row in rows.items()
                if row is not None and row["up"] is not False
            )

    def _row(self, link: tuple[str, str], at_ns: int) -> Row | None:
        times = self._times.get(link, [])
        place = bisect_left(times, at_ns)
        return self._rows[link][place] if place < len(times) else None

    def _wire_bytes(self, link: tuple[str, str], row: Row) -> int:
        size: int = row["tx_bytes"] + (row["tx_packets"] or 0) * self._overhead_bytes.get(link, 0)
        return size


def _together_bps(paths: Sequence[Path], rates: Mapping[tuple[str, str], int | None]) -> int | None:
    """Return what the paths carry together whose links have ``rates``; the others are down.

    All grow alike until something of theirs is full (max-min fairness); None where one has no end.
    """
    growing = {
        path: {*path.links, *((name, "") for name, _, _ in path.nics)}
        for path in paths
        if all(link in rates for link in path.links)
    }
    left = {link: float(rate) for link, rate in rates.items() if rate is not None}
    left |= {(name, ""): float(rate) for path in growing for name, rate, _ in path.nics}
    total = 0.0
    while growing:
        users = {
            part: sum(part in parts for parts in growing.values())
            for part in left
            if any(part in parts for parts in growing.values())
        }
        if any(not parts & users.keys() for parts in growing.values()):
            return None
        tightest = min(users, key=lambda part: left[part] / users[part])
        step = left[tightest] / users[tightest]
        total += step * len(growing)
        for part, number in users.items():
            left[part] -= step * number
        growing = {path: parts for path, parts in growing.items() if tightest not in parts}
    return round(total)


def _overlap_ns(row: Row, span: tuple[int, int]) -> int:
    """Return how much of a row's interval lies within a span."""
    end_ns: int = row["time_ns"]
    start_ns = end_ns - row["interval_ns"]
    overlap_ns: int = min(end_ns, span[1]) - max(start_ns, span[0])
    return max(overlap_ns, 1)


@dataclass(frozen=True, slots=True)
class PathUse:
    """What links say of paths in the time of one connection; see `LinkUse`."""

    links: LinkUse
    span: tuple[int, int]

    def together_bps(self, paths: Sequence[Path]) -> int | None:
        """Return the most that paths carried together at a time."""
        return self.links.together_bps(paths, self.span)

    def loss(self, path: Path) -> float:
        """Return which share of a path's packets its links lost, full queues aside."""
        return self.links.loss(path, self.span)

    def short_queue(self, path: Path) -> str:
        """Return the slowest link of a path if its queue is short; "" otherwise."""
        return self.links.short_queue(path)

    def refused(self, path: Path) -> Refused | None:
        """Return what a full queue refused, if that is most of what a path lost."""
        return self.links.refused(path, self.span)


class Tables:
    """The tables of a run that say what a connection did, by connection."""

    def __init__(self, run: Run) -> None:
        self.links = LinkUse(run)
        self._limits = _grouped(run.rows("limits"))
        self._subflows = _grouped(run.rows("subflows"))
        self._connections = _grouped(run.rows("connections"))
        self._dropping = {
            row["host"]
            for row in run.rows("counters")
            if row["counter"] == "MPTcpExtNoDSSInWindow" and row["after"] > row["before"]
        }

    def has_dropped_data(self, host: str) -> bool:
        """Say whether a host dropped what TCP had acknowledged to its senders."""
        return host in self._dropping

    def has_limits(self, key: tuple[str, int]) -> bool:
        """Say whether it was counted what a connection waited for."""
        return key in self._limits

    def rows(self, table: str, key: tuple[str, int], host: str) -> list[Row]:
        """Return the rows of "subflows" or "connections" of one end."""
        of = self._subflows if table == "subflows" else self._connections
        return [row for row in of.get(key, ()) if row["host"] == host]

    def intervals(
        self, key: tuple[str, int], hosts: tuple[str, str], end_ns: int
    ) -> Iterator[Interval]:
        """Yield the intervals between the samples of a connection, up to that with ``end_ns``.

        ``hosts`` are the sender's and the receiver's.
        """
        totals: dict[int, dict[tuple[str, int | None], int]] = defaultdict(dict)
        rows = self._limits.get(key, [])
        last_ns = min((row["time_ns"] for row in rows if row["time_ns"] >= end_ns), default=end_ns)
        for row in rows:
            if row["time_ns"] <= last_ns:
                totals[row["time_ns"]][row["limited_by"], row["subflow"]] = row["duration_ns"]
        subflows = _by_time(self.rows("subflows", key, hosts[0]))
        ends = [_by_time(self.rows("connections", key, host)) for host in hosts]
        so_far: dict[tuple[str, int | None], int] = {}
        known: dict[int, Row] = {}
        last: list[Row | None] = [None, None]
        since_ns = 0
        for time_ns, now in sorted(totals.items()):
            reasons = {
                reason: duration_ns - so_far.get(reason, 0)
                for reason, duration_ns in now.items()
                if duration_ns > so_far.get(reason, 0)
            }
            present = {row["subflow"]: row for row in subflows.get(time_ns, ())}
            latest = [_only(end.get(time_ns, [])) for end in ends]
            waited_ns = sum(reasons.values())
            if waited_ns:
                start_ns = max(since_ns, time_ns - waited_ns)
                both = [
                    End(before, after, time_ns - since_ns)
                    for before, after in zip(last, latest, strict=True)
                ]
                yield Interval(start_ns, time_ns, reasons, present, known, both[0], both[1])
            so_far, known, last, since_ns = now, present, latest, time_ns


def _grouped(rows: list[dict[str, Any]]) -> dict[tuple[str, int], list[Row]]:
    grouped: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["flow"], row["connection"]].append(row)
    return grouped


def _by_time(rows: list[Row]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["time_ns"]].append(row)
    return grouped


def _only(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None
