"""The engine of one host: listeners, connections, and which segment belongs to whom.

Sans-IO: it owns no socket, clock, thread or random source. Put segments in with ``receive``, call
``handle_timeout`` when ``poll_timeout`` says so (early calls change nothing), and after each take
segments out with ``poll_transmit`` and events with ``poll_event`` until both give ``None``.

Times are nanoseconds of any clock that does not go back.
"""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.mptcp import handshake, options
from mptcplab.stack.mptcp.connection import Connection
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.path_managers.base import LocalAddress, RemoteAddress
from mptcplab.stack.tcp.receiver import NEVER_NS
from mptcplab.wire.keys import token_and_idsn
from mptcplab.wire.mptcp import (
    RST_MPTCP_ERROR,
    RST_PROHIBITED,
    MpFastclose,
    MpJoinSyn,
    MptcpOption,
    MpTcpRst,
)
from mptcplab.wire.segment import ACK, FIN, RST, SYN, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

EPHEMERAL_FIRST: Final = 32_768
"""Linux's ip_local_port_range; RFC 6056 asks for random choice within a range."""
EPHEMERAL_LAST: Final = 60_999

FOUND_SLOTS: Final = 64
"""How many of the subflows used last the stack remembers; a power of two."""

IPV4_FIXED_BYTES: Final = 40
IPV6_FIXED_BYTES: Final = 60


class Listener:
    """Accepts connections to a port, on one address or (``address`` empty) on all."""

    __slots__ = ("address", "config", "port")

    def __init__(self, address: bytes, port: int, config: StackConfig) -> None:
        self.address: bytes = address
        self.port: int = port
        self.config: StackConfig = config


class Stack:
    """The MPTCP and TCP of one host."""

    __slots__ = (
        "_by_ports",
        "_by_token",
        "_found",
        "_last_pending",
        "_listeners",
        "_pending",
        "_timer_count",
        "_timers",
        "_unsure",
        "_wake_ns",
        "config",
        "connections",
        "events",
        "local_addresses",
        "mtu_of",
        "outbox",
        "random",
    )

    def __init__(self, config: StackConfig, random: Random) -> None:
        """Take the default configuration of connections and the seeded source of randomness."""
        self.config: StackConfig = config
        self.random: Random = random
        self.local_addresses: list[LocalAddress] = []
        self.mtu_of: dict[bytes, int] = {}
        """MTU of the interfaces of addresses that differ from the configuration's."""
        self.connections: list[Connection] = []
        self.events: list[events.Event] = []
        self.outbox: list[Segment] = []
        """Lists: they are looked at far more often than they hold anything, and compiled code sees
        at once whether a list is empty."""
        self._by_ports: dict[int, list[MptcpSubflow]] = {}
        """Subflows by their two ports in one number; those of one number differ in addresses."""
        self._found: list[MptcpSubflow | None] = [None] * FOUND_SLOTS
        """The subflow that a segment was for last, by a hash of its ports."""
        self._by_token: dict[int, Connection] = {}
        self._listeners: list[Listener] = []
        self._pending: Connection | None = None
        self._last_pending: Connection | None = None
        """Connections that may have something to send, linked by ``next_pending``."""
        self._unsure: Connection | None = None
        """Connections whose timers may have changed since the last look, linked."""
        self._timers: list[tuple[int, int, Connection]] = []
        self._timer_count: int = 0
        self._wake_ns: i64 = NEVER_NS
        """When the first of them is due."""

    # Addresses.

    def add_address(
        self, address: bytes, address_id: int, interface: str = "", mtu_bytes: int = 0
    ) -> LocalAddress:
        """Give the host an address before it is used; ``address_id`` 1 to 255 is unique to it."""
        local = LocalAddress(address, address_id, True, interface)
        self.local_addresses.append(local)
        if mtu_bytes:
            self.mtu_of[address] = mtu_bytes
        return local

    def address_up(self, address: bytes, now_ns: i64) -> None:
        """The link of one of our addresses works (again)."""
        self._set_address(address, True, now_ns)

    def address_down(self, address: bytes, now_ns: i64) -> None:
        """The link of one of our addresses is down, or the address is gone."""
        self._set_address(address, False, now_ns)

    def _set_address(self, address: bytes, up: bool, now_ns: i64) -> None:
        for local in self.local_addresses:
            if local.address == address and local.up is not up:
                local.up = up
                for connection in list(self.connections):
                    connection.paths.handle_local(local, now_ns)
                    self.touch(connection)

    def source_for(self, remote: bytes) -> bytes:
        """Return our first address of the same family whose link is up; empty if there is none."""
        for local in self.local_addresses:
            if len(local.address) == len(remote) and local.up:
                return local.address
        return b""

    def mss_for(self, local: bytes) -> int:
        """Return the MSS that we announce from an address (RFC 9293 section 3.7.1)."""
        mtu = self.mtu_of.get(local, self.config.mtu_bytes)
        mss = mtu - (IPV4_FIXED_BYTES if len(local) == 4 else IPV6_FIXED_BYTES)
        limit = self.config.mss_bytes
        return mss if limit == 0 or mss < limit else limit

    # Opening.

    def listen(
        self, port: int, address: bytes = b"", config: StackConfig | None = None
    ) -> Listener:
        """Accept connections to ``port``; ``ConnectionAccepted`` tells of each."""
        listener = Listener(address, port, config or self.config)
        self._listeners.append(listener)
        return listener

    def stop_listening(self, listener: Listener) -> None:
        """Accept no more; connections that were accepted stay."""
        self._listeners.remove(listener)

    def connect(
        self,
        local: bytes,
        remote: bytes,
        remote_port: int,
        now_ns: i64,
        local_port: int = 0,
        config: StackConfig | None = None,
    ) -> Connection:
        """Open a connection. Raises ``ValueError`` if the port is taken or none is free."""
        port = self.local_port(local, local_port, remote, remote_port)
        if port == 0:
            raise ValueError(f"no free local port towards port {remote_port}")
        connection = Connection(
            self,
            config or self.config,
            True,
            local,
            RemoteAddress(0, remote, remote_port),
        )
        self.connections.append(connection)
        self._give_key(connection)
        subflow = connection.add_subflow(local, port, remote, remote_port, active=True)
        subflow.open(connection.receive_buffer.largest_bytes(), now_ns)
        self.touch(connection)
        return connection

    def local_port(self, local: bytes, wanted: int, remote: bytes, remote_port: int) -> int:
        """Return ``wanted``, or a free ephemeral port for 0; 0 if it is taken or none is free."""
        if wanted:
            return 0 if self._find(local, wanted, remote, remote_port) is not None else wanted
        for _ in range(EPHEMERAL_LAST - EPHEMERAL_FIRST + 1):
            port = self.random.randint(EPHEMERAL_FIRST, EPHEMERAL_LAST)
            if self._find(local, port, remote, remote_port) is None:
                return port
        return 0

    def _give_key(self, connection: Connection) -> None:
        """Choose a key whose token no other connection has (RFC 8684 section 3.1)."""
        if not connection.mptcp:
            return
        while True:
            key = self.random.getrandbits(64)
            token, idsn = token_and_idsn(key, connection.version)
            if token not in self._by_token and idsn:
                break
        connection.set_local_key(key)
        self._by_token[connection.local_token] = connection

    # In.

    def receive(self, segment: Segment, now_ns: i64) -> None:
        """Take in a segment that arrived for one of our addresses."""
        subflow = self._find(segment.dst, segment.dst_port, segment.src, segment.src_port)
        if subflow is not None:
            if segment.flags & SYN and self._reuses_time_wait(subflow, segment, now_ns):
                self._receive_unknown(segment, now_ns)
                return
            subflow.receive(segment, now_ns)
            self.touch(subflow.connection)
            return
        self._receive_unknown(segment, now_ns)

    def handle_timeout(self, now_ns: i64) -> None:
        """Do what is due; nothing if nothing is."""
        self._refresh_timers()
        timers = self._timers
        while timers and timers[0][0] <= now_ns:
            deadline, _, connection = heappop(timers)
            if connection.wake_ns == deadline:
                connection.wake_ns = NEVER_NS
                connection.handle_timeout(now_ns)
                self.touch(connection)
        self._wake_ns = timers[0][0] if timers else NEVER_NS

    # Out.

    def poll_transmit(self, now_ns: i64) -> Segment | None:
        """Return the next segment to send, or ``None``."""
        while True:
            if self.outbox:
                return self.outbox.pop(0)
            connection = self._pending
            if connection is None:
                return None
            self._note_timers(connection)
            segment = connection.poll_transmit(now_ns)
            if segment is not None:
                return segment
            self._pending = connection.next_pending
            connection.next_pending = None
            connection.pending = False
            if connection.closed_for is not None and not connection.subflows:
                self._drop(connection)

    def poll_timeout(self) -> int | None:
        """Return when ``handle_timeout`` is due, or ``None``."""
        self._refresh_timers()
        timers = self._timers
        while timers:
            wake_ns, _, connection = timers[0]
            deadline_ns = connection.next_deadline_ns()
            if connection.wake_ns == wake_ns and deadline_ns == wake_ns:
                self._wake_ns = wake_ns
                return wake_ns
            heappop(timers)
            if connection.wake_ns == wake_ns:
                connection.wake_ns = NEVER_NS
                self._note_timers(connection)
                self._refresh_timers()
        self._wake_ns = NEVER_NS
        return None

    def next_wake_ns(self) -> i64:
        """Return a time not later than ``poll_timeout`` says, ``NEVER_NS`` for none.

        Timers move later with every acknowledgement; this does not follow each of them, so that a
        loop woken then may find nothing due, and has little to do until then.
        """
        self._refresh_timers()
        return self._wake_ns

    def _refresh_timers(self) -> None:
        """Look again at the connections that something happened to.

        The heap holds a connection's entry until its time, though its timers move later. It may
        stand there several times; only the entry that agrees with its ``wake_ns`` counts.
        """
        timers = self._timers
        connection = self._unsure
        while connection is not None:
            connection.timer_unsure = False
            deadline = connection.next_deadline_ns()
            if deadline < connection.wake_ns:
                connection.wake_ns = deadline
                self._timer_count += 1
                heappush(timers, (deadline, self._timer_count, connection))
                if deadline < self._wake_ns:
                    self._wake_ns = deadline
            following = connection.next_unsure
            connection.next_unsure = None
            connection = following
        self._unsure = None

    def poll_event(self) -> events.Event | None:
        """Return the next event, or ``None``."""
        return self.events.pop(0) if self.events else None

    def take_events(self) -> list[events.Event]:
        """Return all that ``poll_event`` would, in its order."""
        taken = self.events
        self.events = []
        return taken

    # For connections.

    def touch(self, connection: Connection) -> None:
        """Note that a connection may have something to send."""
        if not connection.pending:
            connection.pending = True
            last = self._last_pending
            if self._pending is None or last is None:
                self._pending = connection
            else:
                last.next_pending = connection
            self._last_pending = connection
        self._note_timers(connection)

    def _note_timers(self, connection: Connection) -> None:
        if not connection.timer_unsure:
            connection.timer_unsure = True
            connection.next_unsure = self._unsure
            self._unsure = connection

    def register(self, subflow: MptcpSubflow) -> None:
        """Send segments of its address pairs to a subflow."""
        self.unregister(subflow)
        number = subflow.local_port << 16 | subflow.remote_port
        self._by_ports.setdefault(number, []).append(subflow)

    def unregister(self, subflow: MptcpSubflow) -> None:
        """Forget a subflow."""
        self._found[(subflow.local_port ^ subflow.remote_port) & (FOUND_SLOTS - 1)] = None
        number = subflow.local_port << 16 | subflow.remote_port
        others = [item for item in self._by_ports.get(number, ()) if item is not subflow]
        if others:
            self._by_ports[number] = others
        else:
            self._by_ports.pop(number, None)

    def _find(
        self, local: bytes, local_port: i64, remote: bytes, remote_port: i64
    ) -> MptcpSubflow | None:
        """Return the subflow of an address pair."""
        slot = (local_port ^ remote_port) & (FOUND_SLOTS - 1)
        found = self._found[slot]
        if (
            found is not None
            and found.local_port == local_port
            and found.remote_port == remote_port
            and found.local == local
            and found.remote == remote
        ):
            return found
        several = self._by_ports.get(local_port << 16 | remote_port)
        if several is not None:
            for subflow in several:
                if subflow.local == local and subflow.remote == remote:
                    self._found[slot] = subflow
                    return subflow
        return None

    def forget_token(self, connection: Connection) -> None:
        """Take no more joins for a connection."""
        if self._by_token.get(connection.local_token) is connection:
            del self._by_token[connection.local_token]

    def _drop(self, connection: Connection) -> None:
        self.forget_token(connection)
        connection.wake_ns = NEVER_NS
        if connection in self.connections:
            self.connections.remove(connection)

    # Segments of no subflow.

    def _receive_unknown(self, segment: Segment, now_ns: i64) -> None:
        flags = segment.flags
        if flags & RST:
            return
        if flags & (SYN | ACK | FIN) == SYN:
            join = handshake.find_join_syn(segment)
            if join is not None and self.config.mptcp:
                self._accept_join(segment, join, now_ns)
                return
            listener = self._listener_for(segment)
            if listener is not None:
                self._accept(segment, listener, now_ns)
                return
        self._fast_close_by_key(segment, now_ns)
        self._refuse(segment, ())

    def _accept(self, syn: Segment, listener: Listener, now_ns: i64) -> None:
        config = listener.config
        connection = Connection(
            self,
            config,
            False,
            syn.dst,
            RemoteAddress(0, syn.src, syn.src_port),
        )
        option = handshake.find_capable(syn)
        if not config.mptcp or not handshake.usable_offer(option, config.version):
            connection.mptcp = False
        self.connections.append(connection)
        self._give_key(connection)
        if connection.mptcp and option is not None:
            if option.sender_key is not None:
                connection.set_peer_key(option.sender_key, option.flags)
            else:
                connection.take_flags(option.flags)
        subflow = connection.add_subflow(syn.dst, syn.dst_port, syn.src, syn.src_port, active=False)
        self.events.append(events.ConnectionAccepted(connection))
        subflow.accept(syn, connection.receive_buffer.largest_bytes(), now_ns)
        self.touch(connection)

    def _accept_join(self, syn: Segment, join: MpJoinSyn, now_ns: i64) -> None:
        """RFC 8684 section 3.2: an unknown token is answered with RST."""
        connection = self._by_token.get(join.token)
        if connection is None or connection.closed_for is not None:
            self._refuse(syn, (MpTcpRst(RST_MPTCP_ERROR),))
            return
        if not self._may_join(connection, syn, now_ns):
            self._refuse(syn, (MpTcpRst(RST_PROHIBITED),) if connection.version else ())
            return
        subflow = connection.add_subflow(syn.dst, syn.dst_port, syn.src, syn.src_port, active=False)
        subflow.remote_id = join.address_id
        subflow.local_id = connection.local_id_of(syn.dst)
        subflow.remote_nonce = join.nonce
        subflow.local_nonce = self.random.getrandbits(32)
        subflow.backup_remote = join.backup
        connection.emit(events.SubflowOpening(connection, subflow.subflow_id))
        subflow.accept(syn, connection.receive_buffer.largest_bytes(), now_ns)
        self.touch(connection)

    def _may_join(self, connection: Connection, syn: Segment, now_ns: i64) -> bool:
        config = connection.config
        if not connection.mptcp or not connection.fully_established:
            return False
        if len(connection.subflows) >= config.max_subflows:
            return False
        if (
            not config.allow_join_initial
            and syn.dst == connection.initial_local
            and not connection.is_client
        ):
            return False
        return connection.paths.manager.accepts(connection.paths.view(now_ns))

    def _listener_for(self, segment: Segment) -> Listener | None:
        for listener in self._listeners:
            if listener.port == segment.dst_port and (
                not listener.address or listener.address == segment.dst
            ):
                return listener
        return None

    def _reuses_time_wait(self, subflow: MptcpSubflow, syn: Segment, now_ns: i64) -> bool:
        """RFC 9293 section 3.6.1, MAY-2: a later SYN takes the pair over from TIME-WAIT."""
        return subflow.gives_way_to(syn, now_ns)

    def _fast_close_by_key(self, segment: Segment, now_ns: i64) -> None:
        """An MP_FASTCLOSE on a subflow that we no longer know still ends its connection."""
        for option in segment.mptcp:
            if isinstance(option, MpFastclose):
                token, _ = token_and_idsn(option.receiver_key)
                connection = self._by_token.get(token)
                if connection is not None and connection.local_key == option.receiver_key:
                    subflows = connection.subflows
                    if subflows:
                        options.take(connection, subflows[0], option, segment, now_ns)
                        self.touch(connection)

    def _refuse(self, segment: Segment, said: tuple[MptcpOption, ...]) -> None:
        """Answer a segment of no connection with RST (RFC 9293 section 3.10.7.1)."""
        reply = Segment(segment.dst, segment.dst_port, segment.src, segment.src_port, flags=RST)
        if segment.flags & ACK:
            reply.seq = segment.ack
        else:
            reply.flags = RST | ACK
            reply.ack = (segment.seq + segment.sequence_length) & 0xFFFF_FFFF
        reply.mptcp = said
        self.outbox.append(reply)
