"""What one subflow consists of, what its subclass decides, and the segments that it sends.

The part that takes segments in is ``subflow.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from mptcplab.stack.config import StackConfig
from mptcplab.stack.events import CloseReason
from mptcplab.stack.tcp.receiver import NEVER_NS, Receiver
from mptcplab.stack.tcp.sender import Sender
from mptcplab.stack.tcp.sent import Sent
from mptcplab.stack.tcp.state import (
    CLOSED,
    ESTABLISHED,
    SYN_RECEIVED,
    SYN_SENT,
    Change,
    State,
    next_state,
)
from mptcplab.wire.mptcp import MptcpOption
from mptcplab.wire.segment import ACK, FIN, MAX_OPTION_BYTES, PSH, RST, SYN, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

MASK32: Final = 0xFFFF_FFFF
TICK_NS: Final = 1_000_000
"""Our timestamp clock: 1 ms, the rate RFC 7323 section 5.4 allows and Linux uses."""

TIMESTAMP_BYTES: Final = 12
"""Timestamps option, aligned (RFC 7323 appendix A)."""

MAX_WINDOW_SHIFT: Final = 14
"""RFC 7323 section 2.3."""

DEFAULT_MSS_BYTES: Final = 536
"""RFC 9293 section 3.7.1: the MSS of an IPv4 peer that announces none (IPv6: 1220)."""
DEFAULT_MSS_IPV6_BYTES: Final = 1220

CHALLENGE_INTERVAL_NS: Final = 500_000_000
"""At most one ACK per half second for unacceptable segments (RFC 5961 section 7; Linux's
tcp_invalid_ratelimit)."""

MIN_MSS_BYTES: Final = 88
"""Smaller announcements are raised to this: 48 is Linux's TCP_MIN_SND_MSS, and 40 are options."""


class SubflowBase(ABC):
    """Fields, hooks and outgoing segments of one subflow."""

    __slots__ = (
        "_challenge_allowed_ns",
        "_keepalive_ns",
        "_keepalives_sent",
        "_largest_window",
        "_last_probe_ns",
        "_last_window",
        "_user_timeout_ns",
        "active",
        "close_reason",
        "config",
        "fin_pending",
        "fin_seq",
        "last_receive_ns",
        "local",
        "local_port",
        "outbox",
        "plain",
        "probe_due",
        "probes_unanswered",
        "rcv_wscale",
        "receiver",
        "remote",
        "remote_port",
        "reset_reason",
        "sender",
        "snd_wscale",
        "state",
        "syn_mss_bytes",
        "syn_timeouts",
        "time_wait_ns",
        "ts_enabled",
        "ts_offset",
    )

    def __init__(
        self,
        config: StackConfig,
        local: bytes,
        local_port: int,
        remote: bytes,
        remote_port: int,
        sender: Sender,
        outbox: list[Segment],
        active: bool,
        ts_offset: int,
        mss_bytes: int,
    ) -> None:
        self.config: StackConfig = config
        self.local: bytes = local
        self.local_port: i64 = local_port
        self.remote: bytes = remote
        self.remote_port: i64 = remote_port
        self.sender: Sender = sender
        self.receiver = Receiver()
        self.outbox: list[Segment] = outbox
        """Where segments go that must leave whatever becomes of this subflow."""
        self.plain: bool = False
        """Its sequence numbers are the stream's: plain TCP."""
        self.active: bool = active
        """Whether we opened it."""
        self.state: State = CLOSED
        self.close_reason: CloseReason | None = None
        self.reset_reason: i64 = -1
        """Code of the MP_TCPRST that closed it, -1 for none."""
        self.ts_enabled: bool = config.timestamps
        self.ts_offset: i64 = ts_offset
        self.rcv_wscale: i64 = 0
        self.snd_wscale: i64 = 0
        self.syn_mss_bytes: i64 = mss_bytes
        """The MSS that our SYN announces."""
        self.syn_timeouts: i64 = 0
        self.fin_pending: bool = False
        self.fin_seq: i64 = -1
        self.probe_due: bool = False
        self.time_wait_ns: i64 = NEVER_NS
        self.last_receive_ns: i64 = 0
        self._keepalive_ns: i64 = config.keepalive_ns
        self._user_timeout_ns: i64 = config.user_timeout_ns
        self._keepalives_sent: i64 = 0
        self._challenge_allowed_ns: i64 = 0
        self._last_window: i64 = -1
        self._largest_window: i64 = 0
        """The largest window the peer has advertised here, in bytes (MAX.SND.WND)."""
        self.probes_unanswered: i64 = 0
        """Window probes since anything acceptable arrived, less the last."""
        self._last_probe_ns: i64 = 0

    # Hooks.

    @abstractmethod
    def on_window(self) -> i64:
        """Return the window to advertise in bytes; it is then taken as advertised."""

    @abstractmethod
    def on_acceptance_edge(self) -> i64:
        """Return the sequence number up to which payload is taken."""

    @abstractmethod
    def on_syn_options(self) -> tuple[MptcpOption, ...]:
        """Return the MPTCP options of our SYN or SYN/ACK."""

    @abstractmethod
    def on_ack_options(self) -> tuple[MptcpOption, ...]:
        """Return the MPTCP options of an ACK without payload."""

    @abstractmethod
    def on_data_options(self, record: Sent) -> tuple[MptcpOption, ...]:
        """Return the MPTCP options that go with a train."""

    @abstractmethod
    def on_syn_ack(self, segment: Segment, now_ns: i64) -> bool:
        """Judge the peer's SYN/ACK; ``False`` if the subflow was reset for it."""

    @abstractmethod
    def on_handshake_ack(self, segment: Segment, now_ns: i64) -> bool:
        """Judge the ACK that ends a passive open; ``False`` to ignore it or after a reset."""

    @abstractmethod
    def on_established(self, now_ns: i64) -> None:
        """The handshake is done."""

    @abstractmethod
    def on_segment(self, segment: Segment, now_ns: i64) -> bool:
        """Take in the options and the window; ``False`` to ignore the rest of the segment."""

    @abstractmethod
    def on_payload(self, seq: i64, end: i64, payload: bytes | None, now_ns: i64) -> None:
        """Payload is there in order."""

    @abstractmethod
    def on_acked(self, now_ns: i64) -> None:
        """``sender.snd_una`` moved."""

    @abstractmethod
    def on_fin(self, now_ns: i64) -> None:
        """The peer's FIN is there, in order."""

    @abstractmethod
    def on_timeout(self) -> None:
        """The retransmission timer expired."""

    @abstractmethod
    def on_time_wait(self) -> None:
        """Both directions are done; only the wait of 2 MSL is left."""

    @abstractmethod
    def on_closed(self, now_ns: i64) -> None:
        """The subflow is CLOSED, for ``close_reason``."""

    @abstractmethod
    def on_agreed_mss(self, mss_bytes: i64) -> None:
        """The smaller of both MSS is known, before options are taken off."""

    @abstractmethod
    def on_largest_window(self) -> i64:
        """Return the largest window that we may ever advertise, in bytes."""

    @abstractmethod
    def on_window_closed(self) -> bool:
        """Say whether the peer's window takes nothing beyond ``sender.snd_una``."""

    @abstractmethod
    def on_reset_options(self) -> tuple[MptcpOption, ...]:
        """Return the MPTCP options of our RST."""

    # Output.

    def poll_transmit(self, now_ns: i64) -> Segment | None:
        """Return a segment that is due whatever new data there are: SYN, resent data, FIN."""
        sender = self.sender
        if sender.queue.lost_bytes and (
            not sender.pacing or now_ns >= sender.next_send_ns or self.state is SYN_SENT
        ):
            record = sender.next_retransmission(now_ns)
            if record is not None:
                return self._make_train(record, now_ns)
        if self.probe_due:
            self.probe_due = False
            record = sender.take_probe(now_ns)
            if record is not None:
                return self._make_train(record, now_ns)
        if self.fin_pending and self.state is not SYN_SENT and self.state is not SYN_RECEIVED:
            self.fin_pending = False
            self.fin_seq = sender.snd_nxt
            record = sender.record_new(self.fin_seq + 1, None, sender.in_flight_bytes(), now_ns)
            record.fin = True
            sender.sent_bytes -= 1  # a FIN is no payload
            self.state = next_state(self.state, Change.FIN_SENT)
            return self._make_train(record, now_ns)
        return None

    def poll_ack(self, now_ns: i64) -> Segment | None:
        """Return an ACK if one is due and nothing else carried it."""
        if self.receiver.ack_now and self.state is not CLOSED and self.state is not SYN_SENT:
            return self.make_ack(now_ns)
        return None

    def make_data(self, record: Sent, now_ns: i64) -> Segment:
        """Return the segment for a train that leaves for the first time."""
        return self._make_train(record, now_ns)

    def finish(self) -> None:
        """Close our direction: send FIN once everything sent so far left."""
        if self.fin_seq < 0 and self.state in (ESTABLISHED, State.CLOSE_WAIT, SYN_RECEIVED):
            self.fin_pending = True

    def make_reset(self) -> Segment:
        """Return our RST."""
        segment = self.make_bare(
            RST | ACK,
            (self.sender.iss + self.sender.snd_nxt) & MASK32,
            (self.receiver.irs + self.receiver.rcv_nxt) & MASK32,
        )
        segment.mptcp = self.on_reset_options()
        return segment

    def make_bare(self, flags: int, seq: int, ack: int) -> Segment:
        """Return a segment without options and window."""
        return Segment(
            self.local,
            self.local_port,
            self.remote,
            self.remote_port,
            seq=seq,
            ack=ack,
            flags=flags,
        )

    def send_window_probe(self, now_ns: i64) -> None:
        """Ask for the peer's window (RFC 9293 section 3.8.6.1).

        As Linux's tcp_xmit_probe_skb: an old sequence number, one before ``snd_una``, without
        payload, which has to be answered.
        """
        if self.last_receive_ns < self._last_probe_ns:
            self.probes_unanswered += 1
        else:
            self.probes_unanswered = 0
        self._last_probe_ns = now_ns
        probe = self.make_ack(now_ns)
        probe.seq = (self.sender.iss + self.sender.snd_una - 1) & MASK32
        self.outbox.append(probe)

    def make_ack(self, now_ns: i64, options: tuple[MptcpOption, ...] | None = None) -> Segment:
        """Return an ACK without payload; ``options`` replace its usual MPTCP options."""
        receiver = self.receiver
        sender = self.sender
        if options is None:
            options = self.on_ack_options()
        segment = Segment(
            self.local,
            self.local_port,
            self.remote,
            self.remote_port,
            seq=(sender.iss + sender.snd_nxt) & MASK32,
            ack=(receiver.irs + receiver.rcv_nxt) & MASK32,
            flags=ACK,
            window=self.on_window() >> self.rcv_wscale,
            mptcp=options,
        )
        if self.ts_enabled:
            segment.ts_val = (now_ns // TICK_NS + self.ts_offset) & MASK32
            segment.ts_ecr = receiver.ts_recent
        if sender.sack_enabled and receiver.has_sacks():
            room = MAX_OPTION_BYTES - segment.option_bytes
            if room >= 12:
                segment.sack = receiver.sack_blocks((room - 2) >> 3)
        receiver.ack_sent()
        return segment

    def _make_train(self, record: Sent, now_ns: i64) -> Segment:
        if record.syn:
            return self._make_syn(now_ns)
        receiver = self.receiver
        size = record.end - record.seq
        flags = ACK | PSH
        if record.fin:
            size -= 1
            flags = ACK | FIN
        mss = self.sender.mss_bytes
        if size <= mss:
            mss = 0
        segment = Segment(
            self.local,
            self.local_port,
            self.remote,
            self.remote_port,
            seq=(self.sender.iss + record.seq) & MASK32,
            ack=(receiver.irs + receiver.rcv_nxt) & MASK32,
            flags=flags,
            window=self.on_window() >> self.rcv_wscale,
            payload_bytes=size,
            payload=record.payload,
            segment_size_bytes=mss,
            mptcp=self.on_data_options(record),
        )
        if self.ts_enabled:
            segment.ts_val = (now_ns // TICK_NS + self.ts_offset) & MASK32
            segment.ts_ecr = receiver.ts_recent
        receiver.ack_sent()
        return segment

    def _make_syn(self, now_ns: i64) -> Segment:
        config = self.config
        passive = self.state is SYN_RECEIVED
        segment = self.make_bare(SYN | ACK if passive else SYN, self.sender.iss, 0)
        segment.window = min(self.on_window(), 0xFFFF)
        segment.mss = self.syn_mss_bytes
        segment.sack_permitted = self.sender.sack_enabled if passive else config.sack
        if config.window_scaling and (not passive or self.rcv_wscale or self.snd_wscale):
            segment.wscale = self.rcv_wscale
        if self.ts_enabled:
            segment.ts_val = (now_ns // TICK_NS + self.ts_offset) & MASK32
        if passive:
            segment.ack = (self.receiver.irs + 1) & MASK32
            segment.ts_ecr = self.receiver.ts_recent
            self.receiver.ack_sent()
        segment.mptcp = self.on_syn_options()
        return segment


def window_shift(window: int) -> int:
    """Return the smallest shift that lets ``window`` fit the window field (RFC 7323 section 2)."""
    shift = 0
    while shift < MAX_WINDOW_SHIFT and window >> shift > 0xFFFF:
        shift += 1
    return shift
