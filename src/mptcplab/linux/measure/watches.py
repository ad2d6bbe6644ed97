"""Whether connections live: followed from sample to sample, while a run lasts and while it drains.

What it means to live is the same for every testbed, :mod:`mptcplab.results.liveness`; here is what
this one knows of it: what the workers have written and read, and what both ends' sockets count of
the connection's own stream.  What subflows carry is not progress: a kernel may repeat for minutes
what its peer drops above TCP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mptcplab.linux.traffic.flow import Connection, Traffic
from mptcplab.linux.traffic.flows import Flows
from mptcplab.network.topology import Path
from mptcplab.results.liveness import Judgement, Liveness, patience_ns
from mptcplab.scenario.model import Scenario, Tunables
from mptcplab.scenario.path_states import PathStates
from mptcplab.stack.plugin import is_reference
from mptcplab.units import format_duration, format_size

Row = Mapping[str, Any]

_COUNTERS: Final = ("bytes_acked", "bytes_received")


class Watch:
    """One connection from the start of its flow to its end."""

    def __init__(self, connection: Connection, paths: Iterable[Path], states: PathStates) -> None:
        self.connection = connection
        self._paths = tuple(dict.fromkeys(paths))
        self._states = states
        patience = [patience_ns(states.round_trip_ns(each), states.loss(each)) for each in paths]
        self.patience_ns = max(patience, default=0)
        self.liveness = Liveness(self.patience_ns)
        self.waiting_bytes = 0
        self._counts: dict[tuple[str, str], int] = {}
        self._last: dict[tuple[str, int], Row] = {}
        self._in_flight_bytes = 0
        self._delivered_bytes = 0

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"flow {self.connection.flow.name} connection {self.connection.index}"

    @property
    def is_over(self) -> bool:
        """Whether its receiver has seen the end of the stream."""
        return self.connection.bytes_received is not None

    def take(self, subflows: Iterable[Row], ends: Iterable[Row]) -> None:
        """Take in the rows of its subflows, and of both ends."""
        self._in_flight_bytes = 0
        for row in subflows:
            self._last[row["host"], row["subflow"]] = row
            self._in_flight_bytes += row["in_flight_bytes"]
        for row in ends:
            for counter in _COUNTERS:
                key = (row["host"], counter)
                self._counts[key] = max(self._counts.get(key, 0), row[counter])

    def look(self, time_ns: int, written_bytes: int | None, delivered_bytes: int) -> None:
        """Take in what has come of it by now, of that which was written."""
        self._delivered_bytes = max(self._delivered_bytes, delivered_bytes)
        self.waiting_bytes = (
            self._in_flight_bytes if written_bytes is None else written_bytes - delivered_bytes
        )
        self.liveness.came_up = self.liveness.came_up or self.connection.came_up
        self.liveness.note(
            time_ns,
            sum(self._counts.values()) + self._delivered_bytes,
            0 if self.is_over else max(self.waiting_bytes, 0),
            reachable=any(self._states.is_open(path, time_ns) for path in self._paths),
            obstacle=self._obstacle(),
        )

    def _obstacle(self) -> str:
        """Return the last thing known of what holds it back, of both ends."""
        if not self.liveness.came_up:
            return self.connection.errors[0] if self.connection.errors else "no answer to its SYN"
        if not self.connection.is_sampled:
            return ""  # its sockets are not the kernel's, or are gone
        flow = self.connection.flow
        ends = []
        for host, verb, counter in (
            (flow.source, "acknowledged", "bytes_acked"),
            (flow.destination, "received", "bytes_received"),
        ):
            rows = [row for (of, _), row in self._last.items() if of == host]
            parts = [f"{row['link']} {_state(row, counter, verb)}" for row in rows]
            ends.append(f"{host}: {', '.join(parts) or 'no subflow'}")
        return "; ".join(ends)


def _state(row: Row, counter: str, verb: str) -> str:
    window = ", window closed" if row["send_window_bytes"] == 0 else ""
    return (
        f"{row['state']}, {format_size(row[counter])} {verb}, "
        f"{format_size(row['in_flight_bytes'])} in flight, timeout "
        f"{format_duration(row['rto_ns'])}{window}"
    )


class Watches:
    """All connections of a run."""

    def __init__(self, scenario: Scenario, flows: Flows) -> None:
        states = PathStates(scenario)
        self._flows = flows
        self._now_ns = 0
        self._watches: dict[int, Watch] = {}
        for connection in flows.connections():
            flow = connection.flow
            manager = scenario.tunables.get(flow.client, Tunables()).path_manager
            paths = scenario.expected_subflows(flow)
            if flow.is_striped or is_reference(manager):
                paths = scenario.paths(flow)
            if flow.is_striped:
                paths = (paths[connection.index % len(paths)],)
            self._watches[connection.port] = Watch(connection, paths, states)

    def look(self, time_ns: int, subflows: Iterable[Row], connections: Iterable[Row]) -> None:
        """Take in the rows of these tables that were sampled at ``time_ns``."""
        self._now_ns = max(time_ns, self._now_ns)
        parts, ends = _by_connection(subflows), _by_connection(connections)
        for traffic in self._flows.traffic:
            if time_ns <= traffic.flow.start_ns:
                continue
            written = traffic.written_bytes()
            delivered = _delivered(traffic)
            for position, connection in enumerate(traffic.connections):
                watch, key = self._watches[connection.port], (traffic.flow.name, connection.index)
                watch.take(parts.get(key, ()), ends.get(key, ()))
                sent = None if written is None else written[position]
                watch.look(self._now_ns, sent, delivered[position])

    def is_hopeless(self) -> bool:
        """Say whether nothing more will come of any connection that is not over."""
        return all(
            watch.is_over or watch.liveness.is_hopeless(self._now_ns) for watch in self._started()
        )

    def patience_ns(self) -> int:
        """Return how long it takes at most to tell a connection that died from one that lives."""
        return max((watch.patience_ns for watch in self._started()), default=0)

    def waiting_bytes(self) -> dict[str, int]:
        """Return what is still to come, by flow."""
        waiting: dict[str, int] = {}
        for watch in self._started():
            if not watch.is_over:
                flow = watch.connection.flow.name
                waiting[flow] = waiting.get(flow, 0) + max(watch.waiting_bytes, 0)
        return waiting

    def judgements(self) -> list[tuple[str, Judgement]]:
        """Return what is to be said of the connections that did not end, each with its flow."""
        return [
            (watch.connection.flow.name, watch.liveness.judge(watch.name, self._now_ns))
            for watch in self._started()
            if not watch.is_over
        ]

    def stalled_since_ns(self) -> dict[int, int]:
        """Return by port from when on nothing of a connection moved, of those that did not live."""
        stalled = {}
        for watch in self._started():
            since_ns = watch.liveness.stalled_since_ns(self._now_ns)
            if not watch.is_over and since_ns is not None:
                stalled[watch.connection.port] = since_ns
        return stalled

    def came_up(self, connection: Connection) -> bool:
        """Say whether both ends of a connection were established."""
        return self._watches[connection.port].liveness.came_up

    def has_died(self, connection: Connection) -> bool:
        """Say whether a judgement says already what became of a connection."""
        watch = self._watches[connection.port]
        judgement = watch.liveness.judge(watch.name, self._now_ns)
        told = bool(judgement.reason or judgement.note)
        return connection.begun and not watch.is_over and told

    def _started(self) -> Iterator[Watch]:
        for watch in self._watches.values():
            if watch.connection.begun and watch.connection.flow.start_ns < self._now_ns:
                yield watch


def _by_connection(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    grouped: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row["flow"], row["connection"]), []).append(row)
    return grouped


def _delivered(traffic: Traffic) -> list[int]:
    """Return the bytes received so far of each connection, as far as they are known."""
    delivered = traffic.delivered_bytes()
    if delivered is None:
        delivered = [connection.bytes_sampled for connection in traffic.connections]
    return delivered
