"""Stacks in virtual time over scripted paths: for tests, benchmarks and experiments in a shell.

A :class:`Pipe` joins stacks by paths between address pairs. Each has a delay and a filter that
sees every segment and says what arrives; there is no rate and no queue (that is
``mptcplab.network``'s business). Time moves only with ``run``.

What segments, events and the tables' readings do not tell is asked for by the functions at the end,
and by nothing else outside the stack.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.congestion.newreno import NewReno
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.mptcp.paths import subflow_path
from mptcplab.stack.path_managers.base import SubflowPath
from mptcplab.stack.path_managers.initial_only import InitialOnly
from mptcplab.stack.readings import connection_columns, subflow_columns
from mptcplab.stack.schedulers.lowest_rtt import LowestRtt
from mptcplab.stack.stack import Stack
from mptcplab.stack.tcp.sender import CA_RECOVERY
from mptcplab.wire.ip import parse_address
from mptcplab.wire.segment import Segment

MILLISECOND_NS = 1_000_000

Filter = Callable[[Segment, int], list[tuple[Segment, int]]]
"""Takes a segment and the time it leaves; returns what arrives, each with its extra delay."""

OnEvent = Callable[[Connection, events.Event], None]
"""What an application does when something happened to one of its connections."""


def config() -> StackConfig:
    """Return a configuration with NewReno, lowest RTT first, and no path manager of its own."""
    return StackConfig(congestion=NewReno, scheduler=LowestRtt, path_manager=InitialOnly)


def pass_all(segment: Segment, _now_ns: int) -> list[tuple[Segment, int]]:
    """Let a segment through."""
    return [(segment, 0)]


class Path:
    """One direction between two addresses."""

    __slots__ = ("delay_ns", "filter", "up")

    def __init__(self, delay_ns: int) -> None:
        self.delay_ns = delay_ns
        self.filter: Filter = pass_all
        self.up = True


class Host:
    """A stack and what its application does with events."""

    __slots__ = ("events", "name", "on_event", "stack")

    def __init__(self, name: str, stack: Stack) -> None:
        self.name = name
        self.stack = stack
        self.events: list[events.Event] = []
        self.on_event: OnEvent | None = None

    def kinds(self) -> list[str]:
        """Return the kinds of the events so far."""
        return [event.kind for event in self.events]


class Pipe:
    """Hosts, the paths between their addresses, and the clock."""

    def __init__(self, seed: int = 1) -> None:
        self.now_ns = 1_000 * MILLISECOND_NS
        self.random = Random(seed)
        self.hosts: list[Host] = []
        self.paths: dict[tuple[bytes, bytes], Path] = {}
        self.sent: list[tuple[int, Segment]] = []
        """Every segment that left while ``recording``, with its time."""
        self.recording = False
        self.transmitted = 0
        self._owners: dict[bytes, Host] = {}
        self._queue: list[tuple[int, int, Segment]] = []
        self._calls: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def add_host(self, name: str, settings: StackConfig, *addresses: str) -> Host:
        """Add a host with addresses, numbered from 1."""
        host = Host(name, Stack(settings, Random(self.random.getrandbits(64))))
        for number, text in enumerate(addresses, 1):
            packed = parse_address(text)
            host.stack.add_address(packed, number)
            self._owners[packed] = host
        self.hosts.append(host)
        return host

    def link(self, left: str, right: str, delay_ns: int = 10 * MILLISECOND_NS) -> None:
        """Join two addresses, both ways."""
        one, other = parse_address(left), parse_address(right)
        self.paths[one, other] = Path(delay_ns)
        self.paths[other, one] = Path(delay_ns)

    def path(self, source: str, destination: str) -> Path:
        """Return one direction."""
        return self.paths[parse_address(source), parse_address(destination)]

    def connect(self, client: Host, local: str, remote: str, port: int = 80) -> Connection:
        """Have a host open a connection between two addresses."""
        addresses = parse_address(local), parse_address(remote)
        return client.stack.connect(*addresses, port, self.now_ns)

    def both(self, left: str, right: str) -> tuple[Path, Path]:
        """Return both directions."""
        return self.path(left, right), self.path(right, left)

    def at(self, delay_ns: int, call: Callable[[], None]) -> None:
        """Have something done ``delay_ns`` from now."""
        self._count += 1
        heapq.heappush(self._calls, (self.now_ns + delay_ns, self._count, call))

    def flush(self) -> None:
        """Send what the stacks have to send now, and hand out their events."""
        busy = True
        while busy:
            busy = False
            for host in self.hosts:
                for connection, event in polled_events(host.stack):
                    busy = True
                    host.events.append(event)
                    if host.on_event is not None:
                        host.on_event(connection, event)
                segment = host.stack.poll_transmit(self.now_ns)
                while segment is not None:
                    busy = True
                    self._carry(segment)
                    segment = host.stack.poll_transmit(self.now_ns)

    def inject(self, segment: Segment, delay_ns: int = 0) -> None:
        """Have a segment arrive that nobody sent."""
        self._count += 1
        heapq.heappush(self._queue, (self.now_ns + delay_ns, self._count, segment))

    def run(self, duration_ns: int, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; stop early, and return true, when ``until`` holds."""
        end_ns = self.now_ns + duration_ns
        while True:
            self.flush()
            if until is not None and until():
                return True
            next_ns = self._next_ns()
            if next_ns is None or next_ns > end_ns:
                self.now_ns = end_ns
                return False
            if next_ns > self.now_ns:
                self.now_ns = next_ns
            self._step()

    def _next_ns(self) -> int | None:
        times = [host.stack.poll_timeout() for host in self.hosts]
        if self._queue:
            times.append(self._queue[0][0])
        if self._calls:
            times.append(self._calls[0][0])
        known = [time for time in times if time is not None]
        return min(known) if known else None

    def _step(self) -> None:
        now_ns = self.now_ns
        if self._calls and self._calls[0][0] <= now_ns:
            heapq.heappop(self._calls)[2]()
        elif self._queue and self._queue[0][0] <= now_ns:
            segment = heapq.heappop(self._queue)[2]
            owner = self._owners.get(segment.dst)
            if owner is not None:
                owner.stack.receive(segment, now_ns)
        else:
            for host in self.hosts:
                host.stack.handle_timeout(now_ns)

    def _carry(self, segment: Segment) -> None:
        self.transmitted += 1
        if self.recording:
            self.sent.append((self.now_ns, segment))
        path = self.paths.get((segment.src, segment.dst))
        if path is None or not path.up:
            return
        for arriving, extra_ns in path.filter(segment, self.now_ns):
            self.inject(arriving, path.delay_ns + extra_ns)


def polled_events(stack: Stack) -> Iterator[tuple[Connection, events.Event]]:
    """Take a stack's events, each with its connection, until there are none."""
    while (told := stack.poll_event()) is not None:
        yield told


def pump(host: Host, connection: Connection, total: int | bytes) -> None:
    """Have ``host`` write a whole stream, as its connection takes it, and then close."""
    written = 0
    size = total if isinstance(total, int) else len(total)

    def write() -> None:
        nonlocal written
        while written < size and connection.closed_for is None:
            if isinstance(total, int):
                taken = connection.write_length(size - written)
            else:
                taken = connection.write(total[written:])
            if taken == 0:
                return
            written += taken
        connection.close()

    def on_event(subject: Connection, event: events.Event) -> None:
        if isinstance(event, events.DataWritable) and subject is connection:
            write()

    host.on_event = on_event
    write()


class Sink:
    """Reads what a host's connections receive, at once."""

    def __init__(self, host: Host, *, content: bool = False) -> None:
        self.received = 0
        self.content = bytearray()
        self.finished = False
        self.connection: Connection | None = None
        self._keep = content
        self._host = host
        host.on_event = self.on_event

    def on_event(self, connection: Connection, event: events.Event) -> None:
        """React to an event of the host."""
        if isinstance(event, events.ConnectionAccepted):
            self.connection = connection
        elif isinstance(event, events.DataReadable):
            if self._keep:
                piece = connection.read()
                self.content += piece
                self.received += len(piece)
            else:
                self.received += connection.read_length()
        elif isinstance(event, events.PeerFinished):
            self.finished = True
            connection.close()


# What an observer sees.


def connection_row(connection: Connection) -> dict[str, Any]:
    """Return a connection's row of the results' table, in its columns."""
    return connection_columns(connection)


def subflow_rows(connection: Connection) -> list[dict[str, Any]]:
    """Return the rows of a connection's subflows, in the order in which they were opened."""
    return [subflow_columns(connection, subflow) for subflow in connection.subflows]


def subflow_paths(connection: Connection) -> list[SubflowPath]:
    """Return the connection's subflows as its path manager sees them, opening ones included."""
    return connection.paths.view(0).subflows


def usable_paths(connection: Connection) -> list[SubflowPath]:
    """Return those that may be given data: established, confirmed and not closing."""
    return [subflow_path(subflow) for subflow in connection.usable]


def sends_mappings(connection: Connection) -> bool:
    """Say whether what is sent has mappings: false after a fallback, of either kind."""
    return connection.mptcp and not connection.session.tx_infinite


def is_fully_established(connection: Connection) -> bool:
    """Say whether the peer has proved to know our key (RFC 8684 section 3.1)."""
    return connection.fully_established


def backlog_bytes(connection: Connection) -> dict[int, int]:
    """Return by subflow how much it was given that waits for room in its window."""
    return {one.subflow_id: one.backlog.waiting_bytes for one in connection.subflows}


def flights(connection: Connection) -> list[tuple[int, int]]:
    """Return what is in flight (RFC 6675's pipe) and the most that may be, subflow by subflow.

    The most is the congestion window and a segment, since a tail loss probe may exceed the window
    (RFC 8985 section 7.3). Subflows that recover from losses are left out: their window may have
    shrunk below what is in flight.
    """
    senders = [subflow.tcp.sender for subflow in connection.subflows]
    return [
        (sender.in_flight_bytes(), int(sender.congestion.cwnd_bytes) + sender.mss_bytes)
        for sender in senders
        if sender.ca_state < CA_RECOVERY
    ]


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a connection keeps and a peer might make grow."""

    subflows: int
    announced_addresses: int
    signals: int
    """Options that wait for an ACK of their own."""
    mappings: int
    """Received ones, of the subflow that has most."""
    buffered_bytes: int
    """Received and not read, in order or not."""
    least_flight_bytes: int
    """The smallest pipe of its subflows: never below zero."""


def holdings(connection: Connection) -> Holdings:
    """Return what a connection keeps."""
    buffer, subflows = connection.receive_buffer, connection.subflows
    return Holdings(
        len(subflows),
        len(connection.paths.remotes),
        len(connection.paths.signals),
        max((len(subflow.mappings) for subflow in subflows), default=0),
        buffer.readable_bytes() + buffer.out_of_order_bytes(),
        min((subflow.tcp.sender.in_flight_bytes() for subflow in subflows), default=0),
    )


def description(connection: Connection) -> str:
    """Return the state of a connection and its subflows, for the message of a failed test."""
    send, buffer, ending = connection.send, connection.receive_buffer, connection.ending
    lines = [
        f"mptcp {connection.mptcp} full {connection.fully_established} "
        f"why {connection.fallback_reason!r} written {send.buffer.written_offset} "
        f"sent {send.sent_offset} acked {send.buffer.acked_offset} edge {send.window_end} "
        f"ending {send.finished} {ending.state.value} mode {connection.session.mode.name} "
        f"rcv_nxt {buffer.rcv_nxt} ooo {buffer.out_of_order_bytes()} "
        f"peer finished {connection.peer_finished} reinject {len(send.reinject)}"
    ]
    for subflow in connection.subflows:
        tcp = subflow.tcp
        sender = tcp.sender
        lines.append(
            f"  {subflow.subflow_id} {tcp.state.value} confirmed {subflow.confirmed} "
            f"una {sender.snd_una} nxt {sender.snd_nxt} out {sender.queue.out_bytes} "
            f"cwnd {sender.congestion.cwnd_bytes} pipe {sender.in_flight_bytes()} "
            f"lost {sender.queue.lost_bytes} rto {tcp.timers.rto_ns} "
            f"ca_state {sender.ca_state} stale {subflow.view.stale} "
            f"rcv_nxt {tcp.receiver.rcv_nxt} held {subflow.held_bytes()}"
        )
    return "\n".join(lines)
