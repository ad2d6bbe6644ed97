"""The addresses of a connection, and its path manager's orders carried out.

ADD_ADDR is repeated until it is echoed, ADD_ADDR and its echo travel alone on a pure ACK (as Linux
requires), REMOVE_ADDR and MP_PRIO on ACKs of their own (RFC 8684 sections 3.3.8 and 3.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack import events
from mptcplab.stack.events import CloseReason
from mptcplab.stack.mptcp import closing
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.path_managers.base import (
    AnnounceAddress,
    CloseSubflow,
    Command,
    LocalAddress,
    OpenSubflow,
    PathManager,
    PathView,
    RemoteAddress,
    RemoveAddress,
    SetPriority,
    SubflowPath,
    SubflowState,
)
from mptcplab.stack.tcp.receiver import NEVER_NS
from mptcplab.stack.tcp.state import SYN_RECEIVED, SYN_SENT
from mptcplab.wire.keys import add_addr_hmac
from mptcplab.wire.mptcp import RST_UNSPECIFIED, AddAddr, MpPrio, MptcpOption, RemoveAddr
from mptcplab.wire.segment import Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

    from mptcplab.stack.mptcp.connection import Connection

ADD_ADDR_RETRANSMISSIONS: Final = 3
"""Linux's ADD_ADDR_RETRANS_MAX."""


MAX_REMOVED_IDS: Final = 8
"""Identifiers of one REMOVE_ADDR (Linux's MPTCP_RM_IDS_MAX), so that it fits beside a DSS."""

MAX_SIGNALS: Final = 64
"""Echoes wait only while fewer signals than this do: ADD_ADDR is repeated by who wants an echo."""


class Announcement:
    """One of our addresses, announced and perhaps not echoed yet."""

    __slots__ = ("address", "address_id", "deadline_ns", "port", "sends")

    def __init__(self, address_id: int, address: bytes, port: int) -> None:
        self.address_id: int = address_id
        self.address: bytes = address
        self.port: int = port
        self.sends: int = 0
        self.deadline_ns: int = NEVER_NS


class Paths:
    """Local and remote addresses, pending address signals, and the path manager."""

    __slots__ = (
        "_due_ns",
        "_wanted_ns",
        "announcements",
        "connection",
        "manager",
        "remotes",
        "signals",
        "started",
    )

    def __init__(self, connection: Connection, manager: PathManager) -> None:
        self.connection: Connection = connection
        self.manager: PathManager = manager
        self.remotes: list[RemoteAddress] = []
        self.announcements: dict[int, Announcement] = {}
        self.signals: list[tuple[MptcpSubflow | None, MptcpOption]] = []
        """Options that wait for an ACK of their own; on any subflow where none is named."""
        self.started: bool = False
        self._wanted_ns: int = NEVER_NS
        """When the manager wants to be called, as of its last orders."""
        self._due_ns: int = NEVER_NS
        """That, or when an announcement is due again."""

    # What the path manager sees.

    def view(self, now_ns: int) -> PathView:
        """Return the paths as they are."""
        connection = self.connection
        initial_remote = connection.initial_remote
        view = PathView(
            is_client=connection.is_client,
            initial_local=connection.initial_local,
            initial_remote=initial_remote,
            now_ns=now_ns,
            local_addresses=list(connection.stack.local_addresses),
            remote_addresses=[initial_remote, *self.remotes],
            peer_denies_initial=connection.peer_denies_initial,
        )
        view.subflows = [subflow_path(subflow) for subflow in connection.subflows]
        return view

    # Events in.

    def start(self, now_ns: int) -> None:
        """The connection is fully established."""
        if not self.started:
            self.started = True
            self.apply(self.manager.on_established(self.view(now_ns)), now_ns)

    def handle_local(self, local: LocalAddress, now_ns: int) -> None:
        """One of the host's addresses came or went."""
        if not self.started or not self._active():
            return
        view = self.view(now_ns)
        if local.up:
            self.apply(self.manager.on_local_up(view, local), now_ns)
        else:
            self.apply(self.manager.on_local_down(view, local), now_ns)

    def handle_established(self, subflow: MptcpSubflow, now_ns: int) -> None:
        """A joined subflow is established."""
        if self.started:
            commands = self.manager.on_subflow_established(self.view(now_ns), subflow_path(subflow))
            self.apply(commands, now_ns)

    def handle_closed(self, subflow: MptcpSubflow, failed: bool, now_ns: int) -> None:
        """A subflow is gone."""
        if self.started and self._active():
            commands = self.manager.on_subflow_closed(
                self.view(now_ns), subflow_path(subflow), failed
            )
            self.apply(commands, now_ns)

    def handle_add_addr(self, option: AddAddr, subflow: MptcpSubflow, now_ns: int) -> None:
        """ADD_ADDR, or the echo of ours (RFC 8684 section 3.4.1)."""
        connection = self.connection
        if option.echo:
            announcement = self.announcements.get(option.address_id)
            if announcement is not None and announcement.address == option.address:
                announcement.deadline_ns = NEVER_NS
                self._settle_due()
            return
        if connection.version != 0:
            expected = add_addr_hmac(
                connection.peer_key,
                connection.local_key,
                option.address_id,
                option.address,
                option.port,
            )
            if option.hmac != expected:
                return  # RFC 8684 section 3.4.1: not acted upon
        known = [item for item in self.remotes if item.address_id == option.address_id]
        if any(item.address != option.address for item in known):
            return  # an identifier means another address only after its removal
        if connection.version != 0:
            echo = AddAddr(option.address_id, option.address, option.port, echo=True)
            if len(self.signals) < MAX_SIGNALS:
                self.signals.append((subflow, echo))
        port = option.port or 0
        remote = RemoteAddress(
            option.address_id, option.address, port or connection.initial_remote.port
        )
        if remote in known:
            return
        self.remotes = [item for item in self.remotes if item.address_id != option.address_id]
        self.remotes.append(remote)
        connection.emit(
            events.AddressAnnounced(connection, option.address_id, option.address, port)
        )
        if self.started:
            self.apply(self.manager.on_remote_added(self.view(now_ns), remote), now_ns)

    def handle_remove_addr(self, address_ids: tuple[int, ...], now_ns: int) -> None:
        """REMOVE_ADDR (RFC 8684 section 3.4.2)."""
        connection = self.connection
        for address_id in address_ids:
            known = any(item.address_id == address_id for item in self.remotes) or any(
                subflow.remote_id == address_id for subflow in connection.subflows
            )
            if not known:
                continue  # "the receiver ... will silently ignore the request"
            self.remotes = [item for item in self.remotes if item.address_id != address_id]
            connection.emit(events.AddressRemoved(connection, address_id))
            commands = self.manager.on_remote_removed(self.view(now_ns), address_id)
            self.apply(commands, now_ns, CloseReason.REMOVED)

    # Orders out.

    def apply(
        self,
        commands: list[Command],
        now_ns: int,
        reason: CloseReason = CloseReason.ABORTED,
    ) -> None:
        """Carry out what a path manager ordered."""
        wanted_ns = self.manager.deadline_ns()
        self._wanted_ns = NEVER_NS if wanted_ns is None else wanted_ns
        for command in commands:
            if not self._active():
                break
            if isinstance(command, OpenSubflow):
                self._open(command, now_ns)
            elif isinstance(command, AnnounceAddress):
                self._announce(command, now_ns)
            elif isinstance(command, RemoveAddress):
                self._remove(command.address_id)
            elif isinstance(command, CloseSubflow):
                self._close(command.subflow_id, reason, now_ns)
            elif isinstance(command, SetPriority):
                self.set_priority(command.subflow_id, command.backup)
        self._settle_due()

    def _active(self) -> bool:
        connection = self.connection
        return connection.mptcp and not connection.tx_infinite and connection.closed_for is None

    def _open(self, command: OpenSubflow, now_ns: int) -> None:
        connection = self.connection
        if len(connection.subflows) >= connection.config.max_subflows:
            return
        remote = command.remote
        local = command.local_address
        local_id = command.local_id
        if not local:
            local = connection.stack.source_for(remote.address)
            if not local:
                return
            local_id = connection.local_id_of(local)
        if len(local) != len(remote.address):
            return
        port = connection.stack.local_port(local, command.local_port, remote.address, remote.port)
        if port == 0:
            return
        subflow = connection.add_subflow(local, port, remote.address, remote.port, active=True)
        subflow.local_id = local_id
        subflow.remote_id = remote.address_id
        subflow.backup_local = command.backup
        subflow.local_nonce = connection.stack.random.getrandbits(32)
        connection.emit(events.SubflowOpening(connection, subflow.subflow_id))
        subflow.open(connection.receive_buffer.largest_bytes(), now_ns)
        connection.stack.touch(connection)

    def _announce(self, command: AnnounceAddress, now_ns: int) -> None:
        known = self.announcements.get(command.address_id)
        if known is not None and known.address != command.address:
            self._remove(command.address_id)  # RFC 8684 section 3.4.1: before it is used again
        announcement = Announcement(command.address_id, command.address, command.port)
        self.announcements[command.address_id] = announcement
        self._send_announcement(announcement, now_ns)

    def _send_announcement(self, announcement: Announcement, now_ns: int) -> None:
        connection = self.connection
        port = announcement.port or None
        hmac = None
        if connection.version != 0:
            hmac = add_addr_hmac(
                connection.local_key,
                connection.peer_key,
                announcement.address_id,
                announcement.address,
                port,
            )
        option = AddAddr(
            announcement.address_id,
            announcement.address,
            port,
            hmac=hmac,
            version=connection.version,
        )
        self.signals.append((None, option))
        announcement.sends += 1
        limit_ns = connection.config.add_addr_timeout_ns
        if connection.version == 0 or not limit_ns:
            return  # version 0 has no echo to wait for
        if announcement.sends > ADD_ADDR_RETRANSMISSIONS:
            announcement.deadline_ns = NEVER_NS
            return
        # Linux: the smaller of the largest RTO and the limit, doubled each time.
        longest_ns = max(
            (subflow.sender.rtt.rto_ns for subflow in connection.subflows), default=limit_ns
        )
        wait_ns = min(longest_ns, limit_ns) << (announcement.sends - 1)
        announcement.deadline_ns = now_ns + wait_ns

    def _remove(self, address_id: int) -> None:
        connection = self.connection
        self.announcements.pop(address_id, None)
        others = [subflow for subflow in connection.usable if subflow.local_id != address_id]
        targets: list[MptcpSubflow | None] = [*others] or [None]
        # One option for all that go at once: Linux drops one that comes while another is pending.
        for index, (target, option) in enumerate(self.signals):
            if (
                isinstance(option, RemoveAddr)
                and target in targets
                and len(option.address_ids) < MAX_REMOVED_IDS
            ):
                self.signals[index] = (target, RemoveAddr((*option.address_ids, address_id)))
                targets.remove(target)
        self.signals.extend((target, RemoveAddr((address_id,))) for target in targets)

    def _close(self, subflow_id: int, reason: CloseReason, now_ns: int) -> None:
        subflow = self.connection.subflow(subflow_id)
        if subflow is not None:
            subflow.reset_for(RST_UNSPECIFIED, reason, now_ns)

    def set_priority(self, subflow_id: int, backup: bool) -> None:
        """Make a subflow backup or regular, and tell the peer."""
        connection = self.connection
        subflow = connection.subflow(subflow_id)
        if subflow is None or subflow.backup_local == backup:
            return
        subflow.backup_local = backup
        subflow.view.backup = subflow.backup
        self.signals.append((subflow, MpPrio(backup)))
        connection.emit(
            events.SubflowPriorityChanged(connection, subflow_id, backup, by_peer=False)
        )

    # Timers and segments.

    def next_deadline_ns(self) -> i64:
        """Return when an announcement is due again or the manager wants to be called."""
        if not self.started or not self._active():
            return NEVER_NS
        return self._due_ns

    def _settle_due(self) -> None:
        """Work out when ``handle_timeout`` is to be called: asked for often, it changes seldom."""
        deadline = self._wanted_ns
        for announcement in self.announcements.values():
            if announcement.deadline_ns < deadline:
                deadline = announcement.deadline_ns
        self._due_ns = deadline

    def handle_timeout(self, now_ns: int) -> None:
        """Repeat announcements that are due; call the manager if it asked for it."""
        if not self.started or not self._active():
            return
        for announcement in list(self.announcements.values()):
            if announcement.deadline_ns <= now_ns:
                self._send_announcement(announcement, now_ns)
        self._settle_due()
        if self._wanted_ns <= now_ns:
            self.apply(self.manager.on_timeout(self.view(now_ns)), now_ns)

    def poll_signal(self, now_ns: int) -> Segment | None:
        """Return an ACK that carries the next signal, if a subflow can take it."""
        while self.signals:
            target, option = self.signals[0]
            connection = self.connection
            usable = connection.usable
            subflow = target if target in usable else (usable[0] if usable else None)
            if subflow is None:
                return None
            self.signals.pop(0)
            if target is not None and target is not subflow and isinstance(option, MpPrio):
                continue  # RFC 8684 section 3.3.8: it speaks of the subflow that carries it
            options: tuple[MptcpOption, ...] = (option,)
            if not isinstance(option, AddAddr):
                options = (*subflow.on_ack_options(), option)
            receiver = subflow.receiver
            ack_due = receiver.ack_now or receiver.ack_deadline_ns != NEVER_NS
            segment = subflow.make_ack(now_ns, options)
            if isinstance(option, AddAddr) and ack_due:
                receiver.ack_now = True  # it has no room for the DATA_ACK, or DATA_FIN, that is due
            if segment.option_bytes > 40:
                # An IPv6 address with port and HMAC leaves no room for timestamps.
                segment.ts_val = None
                segment.sack = ()
            if segment.option_bytes > 40:
                # The keys of the handshake, or a DATA_FIN, go on an ACK of their own.
                segment.mptcp = (option,)
                subflow.receiver.ack_now = True
                closing.signal_data_fin(connection)
            if isinstance(option, AddAddr) and segment.sack:
                segment.sack = ()
            return segment
        return None


def subflow_path(subflow: MptcpSubflow) -> SubflowPath:
    """Return a subflow as path managers see it."""
    opening = subflow.state is SYN_SENT or subflow.state is SYN_RECEIVED
    return SubflowPath(
        subflow_id=subflow.subflow_id,
        local_id=subflow.local_id,
        local_address=subflow.local,
        local_port=subflow.local_port,
        remote_id=subflow.remote_id,
        remote_address=subflow.remote,
        remote_port=subflow.remote_port,
        state=SubflowState.OPENING if opening else SubflowState.ESTABLISHED,
        backup=subflow.backup,
        opened_by_us=subflow.active,
    )
