"""What a connection shows its packet scheduler, and what the scheduler answers.

Data are named by *offset*: the number of bytes of the connection's stream before them, a plain
integer that never wraps (the connection adds its initial data sequence number). The connection
keeps one ``ConnectionView`` and one ``SubflowView`` per subflow up to date and calls
``next_allotment`` until the answer is None: "nothing more can or should be sent now". It is asked
again after each ACK, window update, application write, timeout and change of the subflows.

A view lists only subflows that may carry data: established, confirmed, not closing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from mptcplab.compiling import mypyc_attr
from mptcplab.stack.congestion.base import CongestionControl


class SubflowView:
    """One subflow as its scheduler sees it. Window, MSS and srtt are ``congestion``'s."""

    __slots__ = (
        "backup",
        "congestion",
        "first_timeout_ns",
        "in_flight_bytes",
        "in_recovery",
        "penalised_until_ns",
        "queue_room_bytes",
        "queued_bytes",
        "rttvar_ns",
        "stale",
        "subflow_id",
        "timed_out",
        "timeouts",
        "train_room_bytes",
        "unacked_bytes",
        "worthwhile_bytes",
    )

    def __init__(self, subflow_id: int, congestion: CongestionControl) -> None:
        self.subflow_id: int = subflow_id
        """Small number of the subflow in its connection, in the order of creation from 0."""
        self.congestion: CongestionControl = congestion
        self.backup: bool = False
        """Either side asked for this subflow to be used only when no other is (RFC 8684, 3.3.8)."""
        self.stale: bool = False
        """Timed out without progress since: its data were reinjected elsewhere."""
        self.timed_out: bool = False
        """In recovery from a retransmission timeout: it takes no new data until that ends."""
        self.timeouts: int = 0
        """Retransmission timeouts in a row, with no progress since."""
        self.first_timeout_ns: int = 0
        """When the first of these was."""
        self.in_recovery: bool = False
        """In fast recovery."""
        self.penalised_until_ns: int = 0
        """Until then its window is small because the scheduler halved it."""
        self.in_flight_bytes: int = 0
        """Sent and neither acknowledged nor deemed lost (RFC 6675 pipe)."""
        self.unacked_bytes: int = 0
        """Sent and not yet acknowledged, deemed lost or not."""
        self.queued_bytes: int = 0
        """Given to the subflow and not yet sent."""
        self.queue_room_bytes: int = 0
        """What its send buffer still takes beyond what is in flight and queued."""
        self.train_room_bytes: int = 0
        """The most that one train may hold now; 0 to wait for a better filled one, or while the
        subflow is paced."""
        self.worthwhile_bytes: int = 0
        """The least room in the connection's window to be used now, where it holds data back: a
        whole train while the peer's reading is about to open it further, else 0."""
        self.rttvar_ns: int = 0
        """RTTVAR of RFC 6298."""

    def window_room_bytes(self) -> int:
        """Return what the congestion window still takes, counting what is queued; can be < 0."""
        return self.congestion.cwnd_bytes - self.in_flight_bytes - self.queued_bytes


class ConnectionView:
    """A connection as its scheduler sees it."""

    __slots__ = (
        "acked_offset",
        "head_carriers",
        "head_end_offset",
        "now_ns",
        "pending_carriers",
        "pending_end_offset",
        "pending_is_new",
        "pending_offset",
        "send_buffer_full",
        "sent_offset",
        "subflows",
        "train_bytes",
        "window_end_offset",
        "written_offset",
    )

    def __init__(self) -> None:
        self.now_ns: int = 0
        self.subflows: list[SubflowView] = []
        self.acked_offset: int = 0
        """All data before it are acknowledged at the data level (DATA_ACK)."""
        self.sent_offset: int = 0
        """Data before it were given to at least one subflow."""
        self.written_offset: int = 0
        """End of what the application wrote."""
        self.window_end_offset: int = 0
        """Right edge of the peer's receive window, at the data level."""
        self.send_buffer_full: bool = False
        """The application has more to write and the send buffer no room for it."""
        self.train_bytes: int = 65535
        """The most that one segment (train) may carry."""
        self.pending_offset: int = 0
        """The data to send next: a range waiting for reinjection if there is one, else the new
        data from ``sent_offset`` on. New data may reach beyond the window: see
        ``window_end_offset``."""
        self.pending_end_offset: int = 0
        self.pending_is_new: bool = True
        self.pending_carriers: int = 0
        """Bit ``1 << subflow_id`` is set for each subflow that was given the pending data."""
        self.head_end_offset: int = 0
        """End of the oldest unacknowledged piece, which starts at ``acked_offset``; equal to it
        when nothing is outstanding. The piece has the same carriers throughout."""
        self.head_carriers: int = 0
        """Bit ``1 << subflow_id`` is set for each subflow that was given that piece."""


@mypyc_attr(free_list_len=1)
class Allotment:
    """An order: send the data from ``offset`` to ``end_offset`` on ``subflow``."""

    __slots__ = ("end_offset", "offset", "subflow")

    def __init__(self, subflow: SubflowView, offset: int, end_offset: int) -> None:
        self.subflow: SubflowView = subflow
        self.offset: int = offset
        self.end_offset: int = end_offset


@mypyc_attr(allow_interpreted_subclasses=True)
class Scheduler(ABC):
    """Decides which subflow carries what. One object per connection.

    A subclass gives ``select``, and gets reinjections, backups, window and segment limits for
    nothing; one that sends data more than once replaces ``next_allotment``.
    """

    __slots__ = ()

    @abstractmethod
    def select(self, usable: list[SubflowView], view: ConnectionView) -> SubflowView | None:
        """Return the subflow of ``usable`` for the pending data, or None to wait.

        ``usable`` is never empty; all of them are eligible (right priority, not stale, have not
        yet carried the data), and not all need have room: see ``has_room``.
        """

    def next_allotment(self, view: ConnectionView) -> Allotment | None:
        """Return what to send now on which subflow, or None."""
        end_offset = view.pending_end_offset
        if view.pending_is_new:
            end_offset = min(end_offset, view.window_end_offset)
        if end_offset <= view.pending_offset:
            return None
        usable = eligible_subflows(view.subflows, view.pending_carriers)
        if not usable:
            return None
        subflow = self.select(usable, view)
        if subflow is None:
            return None
        wanted_bytes = end_offset - view.pending_offset
        if end_offset < view.pending_end_offset and wanted_bytes < subflow.worthwhile_bytes:
            return None  # the window is about to open further: trains are not to crumble
        length_bytes = self.allotted_bytes(subflow, wanted_bytes, view)
        if length_bytes <= 0:
            return None
        return Allotment(subflow, view.pending_offset, view.pending_offset + length_bytes)

    def allotted_bytes(self, subflow: SubflowView, wanted_bytes: int, view: ConnectionView) -> int:
        """Return how much of ``wanted_bytes`` to give to the selected ``subflow``."""
        return sendable_bytes(subflow, wanted_bytes, view.train_bytes)

    def on_probe(self, subflow_id: int, end_offset: int) -> None:
        """New data up to an offset went to the subflow unasked, as a tail loss probe."""

    def on_subflow_closed(self, subflow_id: int) -> None:
        """Forget what was kept for the subflow."""


def eligible_subflows(subflows: list[SubflowView], carriers: int) -> list[SubflowView]:
    """Return the subflows that may be given data which ``carriers`` were already given.

    Backups count only while no other subflow works; subflows that carried the data count only if
    all did (out-of-tree kernel, mptcp_sched.c, get_available_subflow). Then backups count as well,
    but not after the first timeout, as in Linux (net/mptcp/protocol.c, mptcp_subflow_get_retrans).
    """
    plain = True
    for subflow in subflows:
        if subflow.stale or subflow.backup:
            plain = False
            break
    if plain and not carriers:
        return subflows
    working = [subflow for subflow in subflows if not subflow.stale]
    regular = [subflow for subflow in working if not subflow.backup]
    first = regular or working
    if not carriers:
        return first
    fresh = [subflow for subflow in first if not carriers >> subflow.subflow_id & 1]
    if not fresh and regular and all(subflow.timeouts > 1 for subflow in regular):
        fresh = [
            subflow
            for subflow in working
            if subflow.backup and not carriers >> subflow.subflow_id & 1
        ]
    return fresh or first


def has_room(subflow: SubflowView, view: ConnectionView) -> bool:
    """Say whether the subflow can be given a useful part of the pending data now."""
    wanted_bytes = view.pending_end_offset - view.pending_offset
    return sendable_bytes(subflow, wanted_bytes, view.train_bytes) > 0


def sendable_bytes(subflow: SubflowView, wanted_bytes: int, train_bytes: int) -> int:
    """Return how much of ``wanted_bytes`` the subflow can be given now, in whole segments.

    Only the end of what is wanted may make a segment that is not full: silly windows
    (RFC 9293, section 3.8.6.2.1) and windows that no train fits exactly must not cut data small.
    """
    room_bytes = subflow.window_room_bytes()
    if subflow.train_room_bytes < room_bytes:
        room_bytes = subflow.train_room_bytes
    if train_bytes < room_bytes:
        room_bytes = train_bytes
    if subflow.timed_out or room_bytes <= 0:
        return 0
    if wanted_bytes <= room_bytes:
        return wanted_bytes
    return room_bytes - room_bytes % subflow.congestion.mss_bytes
