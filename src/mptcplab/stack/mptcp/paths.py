"""The addresses of a connection, the signals about them, and its path manager.

ADD_ADDR is repeated until it is echoed, ADD_ADDR and its echo travel alone on a pure ACK (as Linux
requires), REMOVE_ADDR and MP_PRIO on ACKs of their own (RFC 8684 sections 3.3.8 and 3.4).

What the path manager orders about addresses is carried out here; subflows are opened and closed by
the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.host_view import HostView
from mptcplab.stack.mptcp.session import Session
from mptcplab.stack.mptcp.subflow import MptcpSubflow
from mptcplab.stack.path_managers.base import (
    AnnounceAddress,
    Command,
    PathManager,
    PathView,
    RemoteAddress,
    SubflowPath,
    SubflowState,
)
from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.tcp.state import SYN_RECEIVED, SYN_SENT
from mptcplab.wire.ip import is_loopback, is_unicast
from mptcplab.wire.keys import add_addr_hmac
from mptcplab.wire.mptcp import AddAddr, MpPrio, MptcpOption, RemoveAddr
from mptcplab.wire.segment import MAX_OPTION_BYTES, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

ADD_ADDR_RETRANSMISSIONS: Final = 3
"""Linux's ADD_ADDR_RETRANS_MAX."""

MAX_REMOVED_IDS: Final = 8
"""Identifiers of one REMOVE_ADDR (Linux's MPTCP_RM_IDS_MAX), so that it fits beside a DSS."""

MAX_SIGNALS: Final = 64
"""Echoes wait only while fewer signals than this do: ADD_ADDR is repeated by who wants an echo."""

UNKNOWN_ID: Final = 255
"""The identifier of an address that the host does not have (any more)."""


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
    """Local and remote addresses, pending signals, and the path manager."""

    __slots__ = (
        "_add_addr_timeout_ns",
        "_due_ns",
        "_host",
        "_session",
        "_subflows",
        "_wanted_ns",
        "announcements",
        "initial_local",
        "initial_remote",
        "manager",
        "remotes",
        "signals",
        "started",
        "waiting",
    )

    def __init__(
        self,
        host: HostView,
        session: Session,
        manager: PathManager,
        subflows: list[MptcpSubflow],
        initial_local: bytes,
        initial_remote: RemoteAddress,
        add_addr_timeout_ns: int,
    ) -> None:
        """``subflows`` is the connection's own list."""
        self._host: HostView = host
        self._session: Session = session
        self._subflows: list[MptcpSubflow] = subflows
        self._add_addr_timeout_ns: int = add_addr_timeout_ns
        self.manager: PathManager = manager
        self.initial_local: bytes = initial_local
        self.initial_remote: RemoteAddress = initial_remote
        self.remotes: list[RemoteAddress] = []
        """What the peer announced and did not remove."""
        self.announcements: dict[int, Announcement] = {}
        self.signals: list[tuple[MptcpSubflow | None, MptcpOption]] = []
        """Options that wait for an ACK of their own; on any subflow where none is named."""
        self.started: bool = False
        """The path manager is at work: the peer's key is known, and that it has ours."""
        self.waiting: list[Command] = []
        """Orders for subflows that wait until the connection is fully established."""
        self._wanted_ns: int = NEVER_NS
        """When the manager wants to be called, as of its last orders."""
        self._due_ns: int = NEVER_NS
        """That, or when an announcement is due again."""

    # What the path manager sees.

    def view(self, now_ns: int) -> PathView:
        """Return the paths as they are."""
        view = PathView(
            is_client=self._session.is_client,
            initial_local=self.initial_local,
            initial_remote=self.initial_remote,
            now_ns=now_ns,
            local_addresses=list(self._host.host_addresses()),
            remote_addresses=[self.initial_remote, *self.remotes],
            peer_denies_initial=self._session.peer_denies_initial,
        )
        view.subflows = [
            subflow_path(subflow) for subflow in self._subflows if not subflow.is_half_open_join()
        ]
        return view

    def local_id_of(self, address: bytes) -> int:
        """Return the address identifier of one of our addresses in this connection."""
        if address == self.initial_local:
            return 0
        for local in self._host.host_addresses():
            if local.address == address:
                return local.address_id
        return UNKNOWN_ID

    # Address signals in.

    def take_echo(self, option: AddAddr) -> None:
        """The peer has our announcement (RFC 8684 section 3.4.1)."""
        announcement = self.announcements.get(option.address_id)
        if announcement is not None and announcement.address == option.address:
            announcement.deadline_ns = NEVER_NS
            self.settle_due()

    def take_address(self, option: AddAddr, subflow: MptcpSubflow | None) -> RemoteAddress | None:
        """ADD_ADDR on ``subflow``: echo it; return the address if it is new and can be used.

        RFC 8684 section 3.4.1. The echo says no more than that it came; what no host can have, or
        we have ourselves (private addresses do repeat), is not used (RFC 9293 section 3.9.2.3).
        """
        session = self._session
        if session.version != 0:
            expected = add_addr_hmac(
                session.peer_key,
                session.local_key,
                option.address_id,
                option.address,
                option.port,
            )
            if option.hmac != expected:
                return None  # RFC 8684 section 3.4.1: not acted upon
        known = [item for item in self.remotes if item.address_id == option.address_id]
        if any(item.address != option.address for item in known):
            return None  # an identifier means another address only after its removal
        if session.version != 0 and len(self.signals) < MAX_SIGNALS:
            echo = AddAddr(option.address_id, option.address, option.port, echo=True)
            self.signals.append((subflow, echo))
        remote = RemoteAddress(
            option.address_id, option.address, (option.port or 0) or self.initial_remote.port
        )
        if remote in known or not self._may_connect_to(option.address):
            return None
        self._forget(option.address_id)
        self.remotes.append(remote)
        return remote

    def _may_connect_to(self, address: bytes) -> bool:
        if not is_unicast(address) or is_loopback(address) or address == self.initial_local:
            return False
        return all(local.address != address for local in self._host.host_addresses())

    def take_removal(self, address_id: int) -> bool:
        """REMOVE_ADDR (section 3.4.2); ``False`` for an identifier that is not in use: ignored."""
        known = any(item.address_id == address_id for item in self.remotes) or any(
            subflow.join.remote_id == address_id for subflow in self._subflows
        )
        if known:
            self._forget(address_id)
        return known

    def _forget(self, address_id: int) -> None:
        self.remotes = [item for item in self.remotes if item.address_id != address_id]

    # Orders carried out.

    def note_wish(self) -> None:
        """The manager gave orders: note when it wants to be called."""
        wanted_ns = self.manager.deadline_ns()
        self._wanted_ns = NEVER_NS if wanted_ns is None else wanted_ns

    def announce(self, command: AnnounceAddress, usable: list[MptcpSubflow], now_ns: int) -> None:
        """Send ADD_ADDR until it is echoed."""
        known = self.announcements.get(command.address_id)
        if known is not None and known.address != command.address:
            # RFC 8684 section 3.4.1: before it is used again
            self.remove(command.address_id, usable)
        announcement = Announcement(command.address_id, command.address, command.port)
        self.announcements[command.address_id] = announcement
        self._send_announcement(announcement, now_ns)

    def _send_announcement(self, announcement: Announcement, now_ns: int) -> None:
        session = self._session
        port = announcement.port or None
        hmac = None
        if session.version != 0:
            hmac = add_addr_hmac(
                session.local_key,
                session.peer_key,
                announcement.address_id,
                announcement.address,
                port,
            )
        option = AddAddr(
            announcement.address_id,
            announcement.address,
            port,
            hmac=hmac,
            version=session.version,
        )
        self.signals.append((None, option))
        announcement.sends += 1
        limit_ns = self._add_addr_timeout_ns
        if session.version == 0 or not limit_ns:
            return  # version 0 has no echo to wait for
        if announcement.sends > ADD_ADDR_RETRANSMISSIONS:
            announcement.deadline_ns = NEVER_NS
            return
        # Linux: the smaller of the largest RTO and the limit, doubled each time.
        longest_ns = max(
            (subflow.tcp.sender.rtt.rto_ns for subflow in self._subflows), default=limit_ns
        )
        wait_ns = min(longest_ns, limit_ns) << (announcement.sends - 1)
        announcement.deadline_ns = now_ns + wait_ns

    def remove(self, address_id: int, usable: list[MptcpSubflow]) -> None:
        """Send REMOVE_ADDR on every other subflow, and stop announcing the address."""
        self.announcements.pop(address_id, None)
        others = [subflow for subflow in usable if subflow.join.local_id != address_id]
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

    def keep(self, address_id: int) -> None:
        """Take back what was to be said of an address that is there again: no subflow could carry
        its REMOVE_ADDR so far, and the peer would close by it the subflows that it has now."""
        signals = self.signals
        self.signals = []
        for target, option in signals:
            if isinstance(option, RemoveAddr) and address_id in option.address_ids:
                others = tuple(other for other in option.address_ids if other != address_id)
                if not others:
                    continue
                option = RemoveAddr(others)
            self.signals.append((target, option))

    # Timers and segments.

    def next_deadline_ns(self) -> i64:
        """Return when an announcement is due again or the manager wants to be called."""
        return self._due_ns

    def settle_due(self) -> None:
        """Work out when ``repeat_announcements`` is due: asked for often, it changes seldom."""
        deadline_ns = self._wanted_ns
        for announcement in self.announcements.values():
            if announcement.deadline_ns < deadline_ns:
                deadline_ns = announcement.deadline_ns
        self._due_ns = deadline_ns

    def repeat_announcements(self, now_ns: int) -> bool:
        """Repeat those that are due; say whether the manager wants to be called as well."""
        for announcement in list(self.announcements.values()):
            if announcement.deadline_ns <= now_ns:
                self._send_announcement(announcement, now_ns)
        self.settle_due()
        return self._wanted_ns <= now_ns

    def stop(self) -> None:
        """Announce nothing any more: the connection is over, or plain TCP."""
        self.announcements.clear()
        self.signals.clear()
        self.waiting.clear()

    def poll_signal(self, usable: list[MptcpSubflow], now_ns: int) -> Segment | None:
        """Return an ACK that carries the next signal, if a subflow can take it."""
        while self.signals:
            target, option = self.signals[0]
            subflow = target if target in usable else (usable[0] if usable else None)
            if subflow is None:
                return None
            self.signals.pop(0)
            if target is not None and target is not subflow and isinstance(option, MpPrio):
                continue  # RFC 8684 section 3.3.8: it speaks of the subflow that carries it
            return _signal_segment(subflow, option, now_ns)
        return None


def _signal_segment(subflow: MptcpSubflow, option: MptcpOption, now_ns: int) -> Segment:
    """Return an ACK with a signal, and with the subflow's usual options where these fit."""
    receiver = subflow.tcp.receiver
    data_fin_offset = subflow.data_fin_offset
    alone = isinstance(option, AddAddr)
    ack_is_due = receiver.ack_is_due()
    options: tuple[MptcpOption, ...] = (option,)
    if not alone:
        options = (*subflow.ack_options(), option)
    segment = subflow.make_ack(now_ns, options)
    if alone and ack_is_due:
        receiver.ack_now = True  # it has no room for the DATA_ACK, or DATA_FIN, that is due
    if segment.option_bytes > MAX_OPTION_BYTES:
        # An IPv6 address with port and HMAC leaves no room for timestamps.
        segment.ts_val = None
        segment.sack = ()
    if segment.option_bytes > MAX_OPTION_BYTES:
        # The keys of the handshake, or a DATA_FIN, go on an ACK of their own.
        segment.mptcp = (option,)
        subflow.data_fin_offset = data_fin_offset
        receiver.ack_now = True
    if alone and segment.sack:
        segment.sack = ()
    return segment


def subflow_path(subflow: MptcpSubflow) -> SubflowPath:
    """Return a subflow as path managers see it."""
    tcp = subflow.tcp
    opening = tcp.state is SYN_SENT or tcp.state is SYN_RECEIVED
    return SubflowPath(
        subflow_id=subflow.subflow_id,
        local_id=subflow.join.local_id,
        local_address=tcp.local,
        local_port=tcp.local_port,
        remote_id=subflow.join.remote_id,
        remote_address=tcp.remote,
        remote_port=tcp.remote_port,
        state=SubflowState.OPENING if opening else SubflowState.ESTABLISHED,
        backup=subflow.backup,
        opened_by_us=tcp.active,
        joined=not subflow.initial,
    )
