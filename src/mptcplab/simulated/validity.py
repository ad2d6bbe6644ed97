"""Whether a simulated run is what was asked for: connections that came up and lived, subflows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mptcplab.network.topology import Path
from mptcplab.results.liveness import Judgement, Liveness, patience_ns
from mptcplab.scenario.box_states import interfering
from mptcplab.scenario.model import Scenario, Tunables
from mptcplab.scenario.path_states import PathStates
from mptcplab.simulated.build import Network, packed_address
from mptcplab.simulated.transfer import Transfer
from mptcplab.stack import events
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.plugin import is_reference
from mptcplab.units import NANOSECONDS, format_duration

Pair = tuple[bytes, bytes]

_SETTLED_NS = NANOSECONDS
"""How long a path must be up, beside four round trips, for its subflow to be missed."""
_EXPECTED_ENDS = (
    events.CloseReason.FINISHED,
    events.CloseReason.REMOVED,
    events.CloseReason.LINK_DOWN,
)


class Watch:
    """One connection from its start to its end."""

    def __init__(
        self, transfer: Transfer, paths: tuple[Path, ...], states: PathStates, *, promised: bool
    ) -> None:
        """Take the path of each subflow; ``promised`` unless a path manager of a user's decides."""
        self.transfer = transfer
        self._paths = paths
        self._promised = promised
        self._states = states
        self._moved = 0
        self._stage = -1
        self._reachable = True
        patience = [
            patience_ns(states.round_trip_ns(path), states.loss(path)) for path in set(paths)
        ]
        self.liveness = Liveness(max(patience, default=0))
        self._established: set[str] = set()
        self._pairs: dict[int, Pair] = {}
        """Of the client's subflows that stand, by number."""
        self._stood: Counter[Pair] = Counter()
        """The most subflows that stood at a time on each pair of addresses."""
        self._broken: dict[Pair, tuple[int, str]] = {}

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"flow {self.transfer.flow.name}, connection {self.transfer.index}"

    def handle(self, host: str, connection: Connection, event: events.Event, now_ns: int) -> None:
        """Take an event of one of its ends."""
        flow = self.transfer.flow
        if isinstance(event, events.ConnectionEstablished):
            self._established.add(host)
            if self._established >= {flow.source, flow.destination}:
                self.liveness.came_up = True
        if host != flow.client:
            return
        if isinstance(event, events.SubflowEstablished):
            subflow = connection.subflow(event.subflow_id)
            if subflow is not None:
                pair = (subflow.tcp.local, subflow.tcp.remote)
                self._pairs[event.subflow_id] = pair
                standing = sum(1 for each in self._pairs.values() if each == pair)
                self._stood[pair] = max(self._stood[pair], standing)
                self._broken.pop(pair, None)
        elif isinstance(event, events.SubflowClosed):
            closed = self._pairs.pop(event.subflow_id, None)
            if closed is not None and event.reason not in _EXPECTED_ENDS:
                self._broken[closed] = (now_ns, event.reason.value)

    def look(self, now_ns: int) -> None:
        """Take what both ends have counted."""
        transfer = self.transfer
        sender, reader = transfer.sending, transfer.receiving
        moved = transfer.delivered_bytes
        if sender is not None:
            moved += sender.data_acked_bytes()
        if reader is not None:
            moved += reader.receive_buffer.rcv_nxt + reader.out_of_order_bytes()
        stage = self._states.stage(now_ns)
        if stage != self._stage:
            self._stage = stage
            self._reachable = any(self._states.carries(path, now_ns) for path in set(self._paths))
        obstacle = self._obstacle() if moved == self._moved else ""
        self._moved = moved
        self.liveness.note(
            now_ns,
            moved,
            transfer.waiting_bytes,
            reachable=self._reachable,
            obstacle=obstacle,
        )

    def _obstacle(self) -> str:
        """Return the last thing known of what holds the connection back."""
        transfer = self.transfer
        sender = transfer.sending
        if sender is None or not self.liveness.came_up:
            return transfer.failed or "its handshake found no answer"
        if not sender.subflows:
            return "no subflow is left"
        unread = transfer.unread_bytes
        if unread:
            return f"{unread} bytes wait to be read"
        backoffs = [subflow.tcp.sender.rtt.backoff for subflow in sender.subflows]
        if min(backoffs):
            return f"{min(backoffs)} timeouts in a row on each of its subflows"
        if sender.send.window_end <= sender.send.sent_offset:
            return "the receiver's window is closed"
        if max(backoffs):
            return f"{max(backoffs)} timeouts in a row on one of its subflows"
        return ""

    def missing(self, end_ns: int) -> Iterator[str]:
        """Yield the subflows that ``check`` promises and that were never there."""
        transfer = self.transfer
        flow = transfer.flow
        if not self._promised or not transfer.is_sampled or transfer.protocol != "mptcp":
            return
        for path, wanted in Counter(self._paths).items():
            round_trip_ns = self._states.handshake_ns(path)
            needed_ns = _SETTLED_NS + 4 * round_trip_ns
            loss = self._states.loss(path)
            if loss > 0:
                needed_ns += patience_ns(round_trip_ns, loss)
            begun_ns = flow.start_ns if transfer.begun_ns is None else transfer.begun_ns
            if self._states.longest_up_ns(path, begun_ns, end_ns) < needed_ns:
                continue
            stood = self._stood[
                packed_address(path.local_address), packed_address(path.remote_address)
            ]
            where = f"{'+'.join(path.links)}, {path.local_address.ip} to {path.remote_address.ip}"
            if stood < wanted and wanted > 1:
                yield f"{self.name}: {stood} of {wanted} subflows came up on {where}"
            elif stood < wanted:
                yield f"{self.name}: no subflow came up on {where}"

    def broken(self, end_ns: int) -> Iterator[str]:
        """Yield the subflows that broke and did not come back, although their links were up."""
        for path in dict.fromkeys(self._paths):
            pair = (packed_address(path.local_address), packed_address(path.remote_address))
            stands = pair in self._pairs.values() or not self._states.is_up(path, end_ns)
            if pair in self._broken and not stands:
                at_ns, why = self._broken[pair]
                yield (
                    f"{self.name}: its subflow on {'+'.join(path.links)} is gone since "
                    f"{format_duration(at_ns)}: {why}"
                )


class Watches:
    """All connections of a run."""

    def __init__(self, scenario: Scenario, network: Network, transfers: list[Transfer]) -> None:
        """Prepare for the start of each transfer."""
        self._loop = network.loop
        self._end_ns = 0
        states = PathStates(scenario)
        self._boxes = {
            flow.name: interfering(scenario, scenario.paths(flow)) for flow in scenario.flows
        }
        """The middleboxes that each flow passes and that may keep it from being what it should."""
        self._watches: dict[Transfer, Watch] = {}
        for transfer in transfers:
            flow = transfer.flow
            manager = scenario.tunables.get(flow.client, Tunables()).path_manager
            paths = scenario.expected_subflows(flow)
            if flow.application == "striped" or is_reference(manager):
                paths = scenario.paths(flow)
            if flow.application == "striped":
                paths = (paths[transfer.index % len(paths)],)
            self._watches[transfer] = Watch(
                transfer, paths, states, promised=not is_reference(manager)
            )
            self._watches[transfer].liveness.came_up = flow.protocol == "udp"

    def handle(
        self, host: str, transfer: Transfer, connection: Connection, event: events.Event
    ) -> None:
        """Take an event of a connection; what comes up after the run has not come up in it."""
        if self._end_ns == 0:
            self._watches[transfer].handle(host, connection, event, self._loop.now_ns)

    def look(self) -> None:
        """Take a sample of each connection that has started."""
        now_ns = self._loop.now_ns
        for watch in self._watches.values():
            begun_ns = watch.transfer.begun_ns
            if begun_ns is not None and begun_ns < now_ns and watch.transfer.end_ns is None:
                watch.look(now_ns)

    def end(self) -> None:
        """The run is over; what follows is draining."""
        self._end_ns = self._loop.now_ns
        self.look()

    def stalled_since_ns(self, transfer: Transfer) -> int | None:
        """Return from when on nothing of a connection moved, to the end; None where it lived."""
        if transfer.end_ns is not None:
            return None
        return self._watches[transfer].liveness.stalled_since_ns(self._loop.now_ns)

    def is_drained(self) -> bool:
        """Say whether nothing more will come."""
        return all(self._is_done(watch) for watch in self._watches.values())

    def _is_done(self, watch: Watch) -> bool:
        transfer = watch.transfer
        if transfer.end_ns is not None or transfer.failed or not self._started(watch):
            return True
        return watch.liveness.is_hopeless(self._loop.now_ns)

    def _started(self, watch: Watch) -> bool:
        begun_ns = watch.transfer.begun_ns
        return begun_ns is not None and begun_ns < self._end_ns

    def reasons(self) -> list[str]:
        """Return why the run is not what was asked for: the dead first, then what is missing."""
        judgements = [(flow, each) for flow, each in self._judgements() if not self._boxes[flow]]
        return [judgement.reason for _, judgement in judgements if judgement.reason] + [
            problem
            for watch in self._watches.values()
            if not self._boxes[watch.transfer.flow.name]
            for problem in self._problems(watch)
        ]

    def _problems(self, watch: Watch) -> Iterator[str]:
        """Yield what a connection lacked that came up."""
        transfer = watch.transfer
        if not self._started(watch) or not watch.liveness.came_up:
            return
        if changed := transfer.changed_bytes:
            yield f"{watch.name}: {changed} bytes arrived in packets that were changed"
        if transfer.failed:
            yield f"{watch.name}: ended early: {transfer.failed}"
        elif transfer.end_ns is not None and transfer.delivered_bytes != transfer.written_bytes:
            yield (
                f"{watch.name}: of {transfer.written_bytes} bytes written, "
                f"{transfer.delivered_bytes} arrived"
            )
        elif transfer.protocol == "fallback":
            yield f"{watch.name}: MPTCP was asked for and the connection fell back to TCP"
        ended_ns = transfer.end_ns or self._end_ns
        stop_ns = transfer.flow.stop_ns or self._end_ns
        yield from watch.missing(min(ended_ns, stop_ns, self._end_ns))

    def notes(self) -> list[str]:
        """Return what a reader should know besides."""
        notes = []
        for flow, judgement in self._judgements():
            notes += [judgement.note] if judgement.note else []
            if judgement.reason and self._boxes[flow]:
                notes.append(self._behind_boxes(flow, judgement.reason))
        for watch in self._watches.values():
            notes += watch.broken(self._end_ns)
            flow = watch.transfer.flow.name
            if self._boxes[flow]:
                notes += [self._behind_boxes(flow, problem) for problem in self._problems(watch)]
        return notes

    def _behind_boxes(self, flow: str, problem: str) -> str:
        """Return what would make a run invalid, had middleboxes not been asked for."""
        return f"{problem} (it passes {', '.join(self._boxes[flow])})"

    def _judgements(self) -> Iterator[tuple[str, Judgement]]:
        """Yield what is to be said of connections that did not end, each with its flow."""
        for watch in self._watches.values():
            ended = watch.transfer.end_ns is not None or watch.transfer.failed
            if self._started(watch) and not (ended and watch.liveness.came_up):
                judgement = watch.liveness.judge(watch.name, self._loop.now_ns)
                yield watch.transfer.flow.name, judgement
