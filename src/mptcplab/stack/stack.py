"""The engine of one host: listeners, connections, and which segment belongs to whom.

Sans-IO: it owns no socket, clock, thread or random source. Put segments in with ``receive``, call
``handle_timeout`` when ``poll_timeout`` says so (early calls change nothing), and after each take
segments out with ``poll_transmit`` and events with ``poll_event`` until both give ``None``.

Times are nanoseconds of any clock that does not go back.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from mptcplab.seq import seq_add
from mptcplab.stack import events
from mptcplab.stack.config import StackConfig
from mptcplab.stack.fast_open import FastOpen
from mptcplab.stack.host_view import HostView
from mptcplab.stack.mptcp import handshake
from mptcplab.stack.mptcp.connection import Connection, Outputs
from mptcplab.stack.mptcp.mode import Mode
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.path_managers.base import (
    Command,
    LocalAddress,
    PathManager,
    PathView,
    RemoteAddress,
)
from mptcplab.stack.path_mtu import PathMtus
from mptcplab.stack.ready import NEVER_NS, ReadyQueue
from mptcplab.stack.syn_queue import SynQueue
from mptcplab.wire.icmp import IcmpError, Problem
from mptcplab.wire.ip import IPV4_FIXED_BYTES, IPV6_FIXED_BYTES, format_address, is_unicast
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

RECENT_SLOTS: Final = 64
"""How many of the subflows used last the stack remembers; a power of two."""


class Listener:
    """Accepts connections to a port, on one address or (``address`` empty) on all."""

    __slots__ = ("address", "config", "port", "syn_queue")

    def __init__(self, address: bytes, port: int, config: StackConfig) -> None:
        self.address: bytes = address
        self.port: int = port
        self.config: StackConfig = config
        self.syn_queue = SynQueue(config.backlog)


class Binding:
    """A subflow and the connection that segments of its address pair go to."""

    __slots__ = ("connection", "local", "local_port", "remote", "remote_port", "subflow")

    def __init__(self, connection: Connection, subflow: MptcpSubflow) -> None:
        self.connection: Connection = connection
        self.subflow: MptcpSubflow = subflow
        tcp = subflow.tcp
        self.local: bytes = tcp.local
        self.local_port: i64 = tcp.local_port
        self.remote: bytes = tcp.remote
        self.remote_port: i64 = tcp.remote_port


class Stack(HostView):
    """The MPTCP and TCP of one host."""

    __slots__ = (
        "_by_ports",
        "_by_token",
        "_fast_open",
        "_listeners",
        "_outputs",
        "_ready",
        "_recent",
        "config",
        "connections",
        "local_addresses",
        "mtu_of",
        "path_mtus",
        "random",
    )

    def __init__(self, config: StackConfig, random: Random) -> None:
        """Take the default configuration of connections and the seeded source of randomness."""
        self.config: StackConfig = config
        self.random: Random = random
        self.local_addresses: list[LocalAddress] = []
        self.mtu_of: dict[bytes, int] = {}
        """MTU of the interfaces of addresses that differ from the configuration's."""
        self.path_mtus = PathMtus()
        self.connections: list[Connection] = []
        self._outputs = Outputs()
        self._ready = ReadyQueue()
        self._by_ports: dict[int, list[Binding]] = {}
        """By their two ports in one number; those of one number differ in addresses."""
        self._recent: list[Binding | None] = [None] * RECENT_SLOTS
        """Whom a segment was for last, by a hash of its ports."""
        self._by_token: dict[int, Connection] = {}
        self._listeners: list[Listener] = []
        self._fast_open = FastOpen(random)

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

    def resend_waiting(self, address: bytes, now_ns: i64) -> None:
        """What was last sent again from an address has waited in its interface: it leaves now."""
        for connection in list(self.connections):
            connection.resend_waiting(address, now_ns)

    def _set_address(self, address: bytes, up: bool, now_ns: i64) -> None:
        for local in self.local_addresses:
            if local.address == address and local.up is not up:
                local.up = up
                for connection in list(self.connections):
                    connection.handle_local(local, now_ns)

    def change_paths(
        self, change: Callable[[PathManager, PathView], list[Command]], now_ns: i64
    ) -> None:
        """Let the path manager of each connection act upon a change of what the host wants."""
        for connection in list(self.connections):
            connection.change_paths(change, now_ns)

    def host_addresses(self) -> list[LocalAddress]:
        """Return the host's addresses, in the order in which they were added."""
        return self.local_addresses

    def source_for(self, remote: bytes) -> bytes:
        """Return our first address of the same family whose link is up; empty if there is none."""
        for local in self.local_addresses:
            if len(local.address) == len(remote) and local.up:
                return local.address
        return b""

    def mss_for(self, local: bytes) -> int:
        """Return the MSS that we announce from an address (RFC 9293 section 3.7.1)."""
        mss = self._interface_mtu(local) - (
            IPV4_FIXED_BYTES if len(local) == 4 else IPV6_FIXED_BYTES
        )
        limit = self.config.mss_bytes
        return mss if limit == 0 or mss < limit else limit

    def _interface_mtu(self, local: bytes) -> int:
        return self.mtu_of.get(local, self.config.mtu_bytes)

    def path_mtu(self, local: bytes, remote: bytes, now_ns: int) -> tuple[int, int]:
        """Return the path MTU that routers have told of, and when that is forgotten."""
        return self.path_mtus.find(local, remote, now_ns) or (0, NEVER_NS)

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
        """Open a connection.

        With ``fast_open`` its SYN carries what is written before it leaves, if there is a cookie
        of the peer's. Raises ``ValueError`` if the port is taken or none is free, or no host can
        have the remote address (RFC 9293 section 3.9.2.3).
        """
        if not is_unicast(remote):
            raise ValueError(f"{format_address(remote)} is not the address of a host")
        port = self.local_port(local, local_port, remote, remote_port)
        if port == 0:
            raise ValueError(f"no free local port towards port {remote_port}")
        connection = self._new_connection(
            config or self.config, True, local, RemoteAddress(0, remote, remote_port)
        )
        self._give_key(connection)
        connection.open(local, port, now_ns)
        return connection

    def _new_connection(
        self, config: StackConfig, is_client: bool, local: bytes, remote: RemoteAddress
    ) -> Connection:
        connection = Connection(self, self._ready, self._outputs, config, is_client, local, remote)
        self.connections.append(connection)
        return connection

    def local_port(self, local: bytes, wanted: int, remote: bytes, remote_port: int) -> int:
        """Return ``wanted``, or a free ephemeral port for 0; 0 if it is taken or none is free."""
        self._take_changes()
        if wanted:
            return 0 if self._find(local, wanted, remote, remote_port) is not None else wanted
        for _ in range(EPHEMERAL_LAST - EPHEMERAL_FIRST + 1):
            port = self.random.randint(EPHEMERAL_FIRST, EPHEMERAL_LAST)
            if self._find(local, port, remote, remote_port) is None:
                return port
        return 0

    def fast_open(self) -> FastOpen:
        """Return the host's cookies of TCP Fast Open."""
        return self._fast_open

    def random_bits(self, count: int) -> int:
        """Return a random number of so many bits."""
        return self.random.getrandbits(count)

    def _give_key(self, connection: Connection) -> None:
        """Choose a key whose token no other connection has (RFC 8684 section 3.1)."""
        session = connection.session
        if not session.mptcp:
            return
        while True:
            key = self.random.getrandbits(64)
            token, idsn = token_and_idsn(key, session.version)
            if token not in self._by_token and idsn:
                break
        session.set_local_key(key)
        self._by_token[session.local_token] = connection

    # In.

    def receive(self, segment: Segment, now_ns: i64) -> None:
        """Take in a segment that arrived for one of our addresses."""
        if self._outputs.changes:
            self._take_changes()
        binding = self._find(segment.dst, segment.dst_port, segment.src, segment.src_port)
        if binding is None:
            self._receive_unknown(segment, now_ns)
        elif segment.flags & SYN and binding.subflow.tcp.gives_way_to(segment, now_ns):
            # RFC 9293 section 3.6.1, MAY-2: a later SYN takes the pair over from TIME-WAIT.
            binding.connection.handle_closed(binding.subflow, now_ns)
            self._take_changes()
            self._receive_unknown(segment, now_ns)
        else:
            connection = binding.connection
            connection.receive(binding.subflow, segment, now_ns)
            self._ready.mark(connection)

    def receive_error(self, error: IcmpError, now_ns: i64) -> None:
        """Take in an ICMP error about a segment of ours.

        It has to quote a sequence number that is in flight, which who sees none of our packets
        would have to guess (RFC 5927 section 4.1); so in Linux's tcp_v4_err.
        """
        if self._outputs.changes:
            self._take_changes()
        binding = self._find(error.src, error.src_port, error.dst, error.dst_port)
        if binding is None or not binding.subflow.tcp.sender.has_in_flight(error.seq):
            return
        connection = binding.connection
        if error.problem is Problem.TOO_BIG:
            self._take_too_big(error, binding.subflow, now_ns)
        else:
            connection.handle_unreachable(binding.subflow, error, now_ns)
        self._ready.mark(connection)

    def _take_too_big(self, error: IcmpError, subflow: MptcpSubflow, now_ns: i64) -> None:
        """RFC 1191 section 6.4: all connections on the path are told; one sends again."""
        local, remote = error.src, error.dst
        interface_bytes = self._interface_mtu(local)
        mtu = self.path_mtus.take(local, remote, error.mtu_bytes, interface_bytes, now_ns)
        if mtu:
            _, expires_ns = self.path_mtu(local, remote, now_ns)
            for connection in self.connections:
                connection.limit_packets(local, remote, mtu, expires_ns)
            subflow.tcp.take_too_big(mtu, now_ns)

    def handle_timeout(self, now_ns: i64) -> None:
        """Do what is due; nothing if nothing is."""
        ready = self._ready
        ready.refresh()
        node = ready.take_due(now_ns)
        while node is not None:
            assert isinstance(node, Connection)
            node.handle_timeout(now_ns)
            node.mark()
            node = ready.take_due(now_ns)

    # Out.

    def poll_transmit(self, now_ns: i64) -> Segment | None:
        """Return the next segment to send, or ``None``."""
        segments = self._outputs.segments
        while True:
            if segments:
                return segments.pop(0)
            node = self._ready.first()
            if node is None:
                return None
            assert isinstance(node, Connection)
            segment = node.poll_transmit(now_ns)
            if segment is not None:
                return segment
            self._ready.remove_first()
            if node.is_over():
                self._drop(node)

    def poll_timeout(self) -> int | None:
        """Return when ``handle_timeout`` is due, or ``None``."""
        deadline_ns = self._ready.next_deadline_ns()
        return None if deadline_ns == NEVER_NS else deadline_ns

    def next_wake_ns(self) -> i64:
        """Return a time not later than ``poll_timeout`` says, ``NEVER_NS`` for none.

        Timers move later with every acknowledgement; this does not follow each of them, so that a
        loop woken then may find nothing due, and has little to do until then.
        """
        return self._ready.next_wake_ns()

    def poll_event(self) -> tuple[Connection, events.Event] | None:
        """Return the next event and its connection, or ``None``."""
        waiting = self._outputs.events
        return waiting.pop(0) if waiting else None

    def has_events(self) -> bool:
        """Say whether ``poll_event`` has something to return."""
        return bool(self._outputs.events)

    def take_events(self) -> list[tuple[Connection, events.Event]]:
        """Return all that ``poll_event`` would, in its order."""
        outputs = self._outputs
        taken = outputs.events
        outputs.events = []
        return taken

    # Which subflow and which connection.

    def _take_changes(self) -> None:
        """Bring up to date by what connections are found."""
        changes = self._outputs.changes
        if not changes:
            return
        for change in changes:
            subflow = change.subflow
            if subflow is None:
                self._forget_token(change.connection)
            else:
                self._unbind(subflow)
                if change.added:
                    tcp = subflow.tcp
                    number = tcp.local_port << 16 | tcp.remote_port
                    binding = Binding(change.connection, subflow)
                    self._by_ports.setdefault(number, []).append(binding)
        changes.clear()

    def _unbind(self, subflow: MptcpSubflow) -> None:
        tcp = subflow.tcp
        self._recent[(tcp.local_port ^ tcp.remote_port) & (RECENT_SLOTS - 1)] = None
        number = tcp.local_port << 16 | tcp.remote_port
        others = [item for item in self._by_ports.get(number, ()) if item.subflow is not subflow]
        if others:
            self._by_ports[number] = others
        else:
            self._by_ports.pop(number, None)

    def _find(
        self, local: bytes, local_port: i64, remote: bytes, remote_port: i64
    ) -> Binding | None:
        """Return whom segments of an address pair are for."""
        slot = (local_port ^ remote_port) & (RECENT_SLOTS - 1)
        recent = self._recent[slot]
        if (
            recent is not None
            and recent.local_port == local_port
            and recent.remote_port == remote_port
            and recent.local == local
            and recent.remote == remote
        ):
            return recent
        several = self._by_ports.get(local_port << 16 | remote_port)
        if several is not None:
            for binding in several:
                if binding.local == local and binding.remote == remote:
                    self._recent[slot] = binding
                    return binding
        return None

    def _forget_token(self, connection: Connection) -> None:
        """Take no more joins for a connection."""
        token = connection.session.local_token
        if self._by_token.get(token) is connection:
            del self._by_token[token]

    def _drop(self, connection: Connection) -> None:
        self._take_changes()
        self._forget_token(connection)
        connection.cancel()
        if connection in self.connections:
            self.connections.remove(connection)

    # Segments of no subflow.

    def _receive_unknown(self, segment: Segment, now_ns: i64) -> None:
        flags = segment.flags
        if flags & RST or not (is_unicast(segment.src) and is_unicast(segment.dst)):
            return  # RFC 9293 section 3.9.2.3: MUST-57, MUST-63
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
        if listener.syn_queue.is_full():
            return  # the SYN comes again
        remote = RemoteAddress(0, syn.src, syn.src_port)
        connection = self._new_connection(config, False, syn.dst, remote)
        session = connection.session
        option = handshake.find_capable(syn)
        if not handshake.usable_offer(option, config.version):
            session.set_mode(Mode.PLAIN)
        self._give_key(connection)
        if session.mptcp and option is not None:
            session.take_capable(option)
        connection.accept(syn, listener.syn_queue, now_ns)

    def _accept_join(self, syn: Segment, join: MpJoinSyn, now_ns: i64) -> None:
        """RFC 8684 section 3.2: an unknown token is answered with RST."""
        connection = self._by_token.get(join.token)
        if connection is None or connection.closed_for is not None:
            self._refuse(syn, (MpTcpRst(RST_MPTCP_ERROR),))
        elif not connection.accept_join(syn, join, now_ns):
            self._refuse(syn, (MpTcpRst(RST_PROHIBITED),) if connection.version else ())

    def _listener_for(self, segment: Segment) -> Listener | None:
        for listener in self._listeners:
            if listener.port == segment.dst_port and (
                not listener.address or listener.address == segment.dst
            ):
                return listener
        return None

    def _fast_close_by_key(self, segment: Segment, now_ns: i64) -> None:
        """An MP_FASTCLOSE on a subflow that we no longer know still ends its connection."""
        for option in segment.mptcp:
            if isinstance(option, MpFastclose):
                token, _ = token_and_idsn(option.receiver_key)
                connection = self._by_token.get(token)
                if connection is not None and connection.subflows:
                    connection.take_fast_close(option, now_ns)
                    connection.mark()

    def _refuse(self, segment: Segment, said: tuple[MptcpOption, ...]) -> None:
        """Answer a segment of no connection with RST (RFC 9293 section 3.10.7.1)."""
        reply = Segment(segment.dst, segment.dst_port, segment.src, segment.src_port, flags=RST)
        if segment.flags & ACK:
            reply.seq = segment.ack
        else:
            reply.flags = RST | ACK
            reply.ack = seq_add(segment.seq, segment.sequence_length)
        reply.mptcp = said
        self._outputs.segments.append(reply)
