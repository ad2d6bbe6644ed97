"""From flows to MPTCP connections: handshakes, tokens, joins.

A connection starts with MP_CAPABLE; a subflow joins it with the token of one of its sides.  Where
the start is missing, flows with the same token belong together, and flows that only carry data are
put together in ``inference``.
"""

from __future__ import annotations

from typing import Final

from mptcplab.trace.columns.sorting import distinct
from mptcplab.trace.connections.inference import infer
from mptcplab.trace.connections.model import BY_CAPABLE, BY_TOKEN, INFERRED, Connection, Subflow
from mptcplab.trace.decode.segments import ACK, SYN
from mptcplab.trace.decode.truncated_options import CutOption
from mptcplab.trace.follow.read_pass import Note, Reading
from mptcplab.wire.keys import join_hmac, token_and_idsn
from mptcplab.wire.mptcp import (
    MP_JOIN,
    AddAddr,
    MpCapable,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
)

_MOST_OTHER_KEYS: Final = 16
_MOST_NAMESAKES: Final = 8
"""Connections with the same token that are considered for a join."""


class _Builder:
    """Takes the options of a capture in order."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.connections: list[Connection] = []
        self.of_flow: dict[int, Connection] = {}
        self.subflows: dict[int, Subflow] = {}
        self.by_token: dict[int, list[tuple[Connection, int]]] = {}
        """Connections and their sides; several where two keys have the same token."""

    def subflow(self, flow: int, joined_by: str) -> Subflow:
        """Return the flow's subflow, which is created where it is new."""
        known = self.subflows.get(flow)
        if known is not None:
            return known
        row = self.reading.placer.table.flows[flow]
        book = self.reading.decoder.book
        made = Subflow(
            flow=flow,
            source=book.text(int(row["source"])),
            destination=book.text(int(row["destination"])),
            source_port=int(row["source_port"]),
            destination_port=int(row["destination_port"]),
            joined_by=joined_by,
            first_number=int(row["first_number"]),
            start_ns=int(row["first_ns"]),
        )
        self.subflows[flow] = made
        return made

    def add(self, connection: Connection, subflow: Subflow) -> None:
        """Make a flow part of a connection."""
        connection.subflows.append(subflow)
        self.of_flow[subflow.flow] = connection

    def new(self, subflow: Subflow) -> Connection:
        """Start a connection with its first subflow."""
        connection = Connection()
        self.connections.append(connection)
        self.add(connection, subflow)
        return connection

    def take(self, note: Note) -> None:
        """Handle an option."""
        flow = note.half >> 1
        option = note.option
        if isinstance(option, MpCapable):
            self._capable(flow, note, option)
        elif isinstance(option, MpJoinSyn | MpJoinSynAck | MpJoinAck):
            self._join(flow, note, option)
        elif isinstance(option, CutOption) and option.subtype == MP_JOIN:
            self._cut_join(flow, note, option)

    def _capable(self, flow: int, note: Note, option: MpCapable) -> None:
        connection = self.of_flow.get(flow)
        if connection is None:
            subflow = self.subflow(flow, BY_CAPABLE)
            connection = self.new(subflow)
            subflow.address_ids = [0, 0]  # RFC 8684 section 3.2
        side = note.half & 1
        handshake = note.flags & (SYN | ACK)
        if handshake == SYN:
            connection.saw_syn = True
        elif handshake == SYN | ACK:
            connection.saw_syn_ack = True
            connection.version = option.version  # the listener decides
        else:
            connection.saw_ack |= side == 0
        if connection.version is None:
            connection.version = option.version
        connection.capable_flags[side] = option.flags
        news = [
            self._key(connection, side, option.sender_key),
            self._key(connection, side ^ 1, option.receiver_key),
        ]
        if not all(news) and len(connection.other_keys) < _MOST_OTHER_KEYS:
            connection.other_keys.append((note.number, note.time_ns, side))

    def _key(self, connection: Connection, side: int, key: int | None) -> bool:
        """Learn a side's key; the first one seen counts.  Returns whether ``key`` agrees with it.

        Joins with the token of another key are taken too: the capture does not tell on which of
        them the hosts agreed.
        """
        if key is None or connection.keys[side] == key:
            return True
        token, idsn = token_and_idsn(key, connection.version or 0)
        namesakes = self.by_token.setdefault(token, [])
        known = any(other is connection for other, _ in namesakes)
        if not known and len(namesakes) < _MOST_NAMESAKES:
            namesakes.append((connection, side))
        if connection.keys[side] is not None:
            return False
        connection.keys[side] = key
        connection.tokens[side] = token
        connection.idsns[side] = idsn
        return True

    def _join(self, flow: int, note: Note, option: MpJoinSyn | MpJoinSynAck | MpJoinAck) -> None:
        subflow = self.subflow(flow, BY_TOKEN)
        side = note.half & 1
        match option:
            case MpJoinSyn():
                self._names_token(subflow, option.token)
                subflow.nonces[side] = option.nonce
                subflow.address_ids[side] = option.address_id
                subflow.backup[side] = option.backup
            case MpJoinSynAck():
                subflow.nonces[side] = option.nonce
                subflow.address_ids[side] = option.address_id
                subflow.backup[side] = option.backup
                subflow.hmacs[side] = option.hmac
            case MpJoinAck():
                subflow.hmacs[side] = option.hmac

    def _cut_join(self, flow: int, note: Note, option: CutOption) -> None:
        subflow = self.subflow(flow, BY_TOKEN)
        if note.flags & SYN and option.address_id is not None:
            subflow.address_ids[note.half & 1] = option.address_id
        if option.token is not None:
            self._names_token(subflow, option.token)

    def _names_token(self, subflow: Subflow, token: int) -> None:
        subflow.token = token
        if subflow.flow not in self.of_flow and token in self.by_token:
            self._join_to(subflow, *self.by_token[token][0])

    def _join_to(self, subflow: Subflow, connection: Connection, receiver: int) -> None:
        subflow.opened_by = receiver ^ 1
        self.add(connection, subflow)

    def join_late(self) -> None:
        """Place joins whose connection came later in the capture, or not at all."""
        for flow, subflow in self.subflows.items():
            if subflow.token is None:
                continue
            namesakes = self.by_token.get(subflow.token, [])
            known = self.of_flow.get(flow)
            if known is not None and (len(namesakes) < 2 or subflow.joined_by != BY_TOKEN):
                continue
            if namesakes:
                connection, receiver = _proved(subflow, namesakes)
                if known is not connection:
                    if known is not None:
                        known.subflows.remove(subflow)
                    self._join_to(subflow, connection, receiver)
                continue
            # The start of this connection was not captured: the first join opens it here.
            connection = self.new(subflow)
            connection.tokens[1] = subflow.token
            self.by_token[subflow.token] = [(connection, 1)]

    def place_rest(self) -> None:
        """Give each flow without a handshake a connection of its own, which ``infer`` may merge."""
        for flow in range(self.reading.placer.table.count):
            if flow not in self.of_flow:
                subflow = self.subflow(flow, INFERRED)
                subflow.joined_by = INFERRED
                self.new(subflow)


def _proof(subflow: Subflow, connection: Connection, opened_by: int) -> bool | None:
    """Check a join's HMACs (RFC 8684 section 3.2); None where keys or nonces are not known."""
    keys = [connection.keys[opened_by], connection.keys[opened_by ^ 1]]
    results = []
    for side in (0, 1):
        seen = subflow.hmacs[side]
        mine, theirs = keys[side], keys[side ^ 1]
        nonce, other = subflow.nonces[side], subflow.nonces[side ^ 1]
        if seen is None or mine is None or theirs is None or nonce is None or other is None:
            continue
        right = join_hmac(mine, theirs, nonce, other, connection.version or 0)
        results.append(right[: len(seen)] == seen)
    return all(results) if results else None


def _proved(subflow: Subflow, namesakes: list[tuple[Connection, int]]) -> tuple[Connection, int]:
    """Return the connection that a join's HMACs fit, else the first one."""
    for connection, receiver in namesakes if len(namesakes) > 1 else ():
        if _proof(subflow, connection, receiver ^ 1):
            return connection, receiver
    return namesakes[0]


def _fallback(connection: Connection, reading: Reading, acked: set[int]) -> None:
    """Find out whether, when and why a connection fell back to TCP.

    ``acked`` holds the halves that sent a DATA_ACK.
    """
    first = connection.subflows[0]
    halves = reading.follower.halves
    if connection.saw_syn and not connection.saw_syn_ack:
        answered = int(halves["syn_ack_ns"][2 * first.flow + 1])
        if answered and first.joined_by == BY_CAPABLE:
            connection.fallback_reason = "the SYN/ACK carried no MP_CAPABLE"
            connection.fallback_ns = answered
            return
    for subflow in connection.subflows:
        for side in (0, 1):
            seen = reading.mappings.infinite.get(2 * subflow.flow + side)
            if seen and (not connection.fallback or seen[0] < connection.fallback_ns):
                connection.fallback_reason = "an infinite mapping was announced"
                connection.fallback_ns, connection.fallback_number = seen
    if connection.fallback or len(connection.subflows) > 1:
        return
    if not (connection.saw_syn and connection.saw_syn_ack):
        return
    if not _no_dss_after_handshake(first, reading, acked):
        return
    established = int(halves["established_ns"][2 * first.flow])
    if connection.saw_ack:
        connection.fallback_reason = "no data sequence signal followed the handshake"
    elif established:
        connection.fallback_reason = (
            "the third packet and the data carry no MPTCP option, which both SYNs had: "
            "options are removed on the way"
        )
    else:
        return
    connection.fallback_ns = established


def _no_dss_after_handshake(subflow: Subflow, reading: Reading, acked: set[int]) -> bool:
    """Whether data went both unmapped and unacknowledged at the data level."""
    numbers = (2 * subflow.flow, 2 * subflow.flow + 1)
    unmapped = sum(reading.mappings.unmapped_bytes.get(number, 0) for number in numbers)
    if not unmapped or reading.mappings.maps["kind"][list(numbers)].any():
        return False
    return acked.isdisjoint(numbers)


def _version_from_options(connection: Connection) -> None:
    """Where no MP_CAPABLE was seen, take the version from an ADD_ADDR's form or an MP_TCPRST."""
    if connection.version is None:
        for _, _, _, option in connection.options:
            if isinstance(option, AddAddr) and not option.echo:
                connection.version = option.version
            elif option.subtype == 8:
                connection.version = 1


def build(reading: Reading) -> list[Connection]:
    """Reconstruct the connections of a capture, in order of their first packets."""
    builder = _Builder(reading)
    for note in reading.notes:
        builder.take(note)
    builder.join_late()
    builder.place_rest()
    connections = infer(builder.connections, reading)
    of_flow = {
        subflow.flow: connection for connection in connections for subflow in connection.subflows
    }
    for note in reading.notes:
        of_flow[note.half >> 1].options.append((note.number, note.time_ns, note.half, note.option))
    rows = reading.samples.table()
    acked = set(distinct(rows["half"][rows["data_ack_bits"] > 0]).tolist())
    for connection in connections:
        connection.subflows.sort(key=lambda subflow: subflow.first_number)
        for number, subflow in enumerate(connection.subflows):
            subflow.number = number
            subflow.hmac_ok = _proof(subflow, connection, subflow.opened_by)
        _fallback(connection, reading, acked)
        _version_from_options(connection)
    connections.sort(key=lambda connection: connection.subflows[0].first_number)
    for number, connection in enumerate(connections):
        connection.number = number
    return connections
