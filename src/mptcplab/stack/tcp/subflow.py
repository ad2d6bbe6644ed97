"""One subflow: a TCP connection between two address pairs (RFC 9293), without its stream.

The class is abstract: what the bytes mean, which MPTCP options travel and how far the window
opens is for the subclass in ``mptcplab.stack.mptcp``. Methods sort by name: ``handle_...`` and
``receive`` take in, ``poll_...`` give out, ``on_...`` are the hooks of the subclass.

``receive`` follows the steps of RFC 9293 section 3.10.7, with the amendments of RFC 7323
(timestamps) and RFC 5961 (blind resets and injections).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Final

from mptcplab.stack.config import StackConfig
from mptcplab.stack.events import CloseReason
from mptcplab.stack.tcp.receiver import NEVER_NS, Receiver
from mptcplab.stack.tcp.sender import Sender
from mptcplab.stack.tcp.sent import Sent
from mptcplab.stack.tcp.state import (
    CAN_RECEIVE,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    LAST_ACK,
    SYN_RECEIVED,
    SYN_SENT,
    SYNCHRONIZED,
    TIME_WAIT,
    Change,
    State,
    next_state,
)
from mptcplab.wire.mptcp import MptcpOption
from mptcplab.wire.segment import ACK, FIN, MAX_OPTION_BYTES, PSH, RST, SYN, Segment

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


class Subflow(ABC):
    """State machine, timers and segments of one subflow."""

    __slots__ = (
        "_challenge_allowed_ns",
        "_keepalives_sent",
        "_last_window",
        "active",
        "close_reason",
        "config",
        "fin_pending",
        "fin_seq",
        "last_receive_ns",
        "local",
        "local_port",
        "outbox",
        "probe_due",
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
        outbox: deque[Segment],
        active: bool,
        ts_offset: int,
        mss_bytes: int,
    ) -> None:
        self.config: StackConfig = config
        self.local: bytes = local
        self.local_port: int = local_port
        self.remote: bytes = remote
        self.remote_port: int = remote_port
        self.sender: Sender = sender
        self.receiver = Receiver()
        self.outbox: deque[Segment] = outbox
        """Where segments go that must leave whatever becomes of this subflow."""
        self.active: bool = active
        """Whether we opened it."""
        self.state: State = CLOSED
        self.close_reason: CloseReason | None = None
        self.reset_reason: int = -1
        """Code of the MP_TCPRST that closed it, -1 for none."""
        self.ts_enabled: bool = config.timestamps
        self.ts_offset: int = ts_offset
        self.rcv_wscale: int = 0
        self.snd_wscale: int = 0
        self.syn_mss_bytes: int = mss_bytes
        """The MSS that our SYN announces."""
        self.syn_timeouts: int = 0
        self.fin_pending: bool = False
        self.fin_seq: int = -1
        self.probe_due: bool = False
        self.time_wait_ns: int = NEVER_NS
        self.last_receive_ns: int = 0
        self._keepalives_sent: int = 0
        self._challenge_allowed_ns: int = 0
        self._last_window: int = -1

    # Hooks.

    @abstractmethod
    def on_window(self) -> int:
        """Return the window to advertise in bytes; it is then taken as advertised."""

    @abstractmethod
    def on_acceptance_edge(self) -> int:
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
    def on_syn_ack(self, segment: Segment, now_ns: int) -> bool:
        """Judge the peer's SYN/ACK; ``False`` if the subflow was reset for it."""

    @abstractmethod
    def on_handshake_ack(self, segment: Segment, now_ns: int) -> bool:
        """Judge the ACK that ends a passive open; ``False`` to ignore it or after a reset."""

    @abstractmethod
    def on_established(self, now_ns: int) -> None:
        """The handshake is done."""

    @abstractmethod
    def on_segment(self, segment: Segment, seq: int, now_ns: int) -> bool:
        """Take in the options and the window; ``False`` to ignore the rest of the segment."""

    @abstractmethod
    def on_payload(self, seq: int, end: int, payload: bytes | None, now_ns: int) -> None:
        """Payload is there in order."""

    @abstractmethod
    def on_acked(self, now_ns: int) -> None:
        """``sender.snd_una`` moved."""

    @abstractmethod
    def on_fin(self, now_ns: int) -> None:
        """The peer's FIN is there, in order."""

    @abstractmethod
    def on_timeout(self, now_ns: int) -> None:
        """The retransmission timer expired."""

    @abstractmethod
    def on_closed(self, now_ns: int) -> None:
        """The subflow is CLOSED, for ``close_reason``."""

    # Opening.

    def open(self, window: int, now_ns: int) -> None:
        """Send our SYN (active open). ``window`` is the largest the receive buffer may become."""
        self.state = next_state(self.state, Change.ACTIVE_OPEN)
        self.rcv_wscale = window_shift(window) if self.config.window_scaling else 0
        self._send_syn(now_ns)

    def accept(self, syn: Segment, window: int, now_ns: int) -> None:
        """Take in a SYN (passive open) and answer it."""
        self.state = next_state(self.state, Change.PASSIVE_OPEN)
        self._take_syn_options(syn, window, now_ns)
        self._send_syn(now_ns)

    def _send_syn(self, now_ns: int) -> None:
        record = self.sender.record_new(1, None, 0, now_ns)
        record.syn = True
        record.lost = True  # so that poll_transmit finds it: the first time is like all others
        self.sender.queue.lost_bytes += 1
        self.sender.queue.lost_queue.append(record)
        record.sends = 0

    def _take_syn_options(self, segment: Segment, window: int, now_ns: int) -> None:
        config = self.config
        self.receiver.open_at(segment.seq)
        self.last_receive_ns = now_ns
        mss = segment.mss
        if mss is None:
            mss = DEFAULT_MSS_BYTES if len(self.local) == 4 else DEFAULT_MSS_IPV6_BYTES
        agreed = max(MIN_MSS_BYTES, min(mss, self.syn_mss_bytes))
        self.ts_enabled = config.timestamps and segment.ts_val is not None
        if self.ts_enabled and segment.ts_val is not None:
            self.receiver.ts_recent = segment.ts_val
            self.receiver.ts_recent_age_ns = now_ns
        if config.window_scaling and segment.wscale is not None:
            self.snd_wscale = min(segment.wscale, MAX_WINDOW_SHIFT)
            self.rcv_wscale = window_shift(window)
        else:
            self.snd_wscale = 0
            self.rcv_wscale = 0
        self.sender.sack_enabled = config.sack and segment.sack_permitted
        self.receiver.mss_bytes = agreed
        self.on_agreed_mss(agreed)

    @abstractmethod
    def on_agreed_mss(self, mss_bytes: int) -> None:
        """The smaller of both MSS is known, before options are taken off."""

    # Input.

    def receive(self, segment: Segment, now_ns: int) -> None:
        """Take in a segment (RFC 9293 section 3.10.7)."""
        state = self.state
        if state is SYN_SENT:
            self._receive_in_syn_sent(segment, now_ns)
            return
        if state is CLOSED:
            return
        flags = segment.flags
        receiver = self.receiver
        size = segment.payload_bytes
        seq = receiver.unwrap(segment.seq)
        if self.ts_enabled and not flags & RST:
            ts_val = segment.ts_val
            if ts_val is None:
                return  # RFC 7323 section 3.2: drop, timestamps were negotiated
            if receiver.paws_rejects(ts_val, now_ns):
                self._challenge(now_ns)
                return
            if seq <= receiver.last_ack_sent:
                receiver.note_timestamp(seq, ts_val, now_ns)
        if flags & (SYN | FIN | RST):
            if not self._receive_control(segment, seq, now_ns):
                return
        elif seq + size < receiver.last_ack_sent or seq > self.on_acceptance_edge():
            if size and seq + size < receiver.last_ack_sent:
                receiver.note_duplicate(seq, seq + size)
            self._challenge(now_ns, always=size > 0)
            return
        if not flags & ACK:
            return
        self.last_receive_ns = now_ns
        self._keepalives_sent = 0
        if self.state is SYN_RECEIVED and not self._finish_passive_open(segment, now_ns):
            return
        if not self._receive_ack(segment, now_ns):
            return
        if not self.on_segment(segment, seq, now_ns) or self.state is CLOSED:
            return
        if size:
            self._receive_payload(segment, seq, seq + size, now_ns)
        if flags & FIN and receiver.fin_seq < 0 and self.state is not CLOSED:
            receiver.fin_seq = seq + size
        if receiver.fin_seq >= 0 and receiver.rcv_nxt == receiver.fin_seq:
            self._receive_fin(now_ns)

    def _receive_control(self, segment: Segment, seq: int, now_ns: int) -> bool:
        """Check a segment with SYN, FIN or RST; ``True`` to go on with it."""
        flags = segment.flags
        receiver = self.receiver
        end = seq + segment.payload_bytes + (1 if flags & FIN else 0) + (1 if flags & SYN else 0)
        acceptable = end >= receiver.last_ack_sent and seq <= self.on_acceptance_edge()
        if flags & RST:
            # RFC 5961 section 3.2: only the exact next sequence number resets.
            if seq == receiver.rcv_nxt:
                self.on_segment(segment, seq, now_ns)
                self._become_closed(
                    CloseReason.REFUSED if self.state is SYN_RECEIVED else CloseReason.RESET, now_ns
                )
            elif acceptable:
                self._challenge(now_ns)
            return False
        if not acceptable:
            self._challenge(now_ns, always=bool(flags & FIN))
            return False
        if flags & SYN:
            if self.state is SYN_RECEIVED and seq == 0:
                if flags & ACK:
                    return True  # simultaneous open: their SYN/ACK
                self.sender.handle_syn_timeout(now_ns, again=True)
            else:
                self._challenge(now_ns)  # RFC 5961 section 4
            return False
        return True

    def _receive_in_syn_sent(self, segment: Segment, now_ns: int) -> None:
        """RFC 9293 section 3.10.7.3."""
        flags = segment.flags
        acceptable = bool(flags & ACK) and self.sender.unwrap(segment.ack) == 1
        if flags & ACK and not acceptable:
            if not flags & RST:
                self.outbox.append(self.make_bare(RST, segment.ack, 0))
            return
        if flags & RST:
            if acceptable:
                self.on_segment(segment, 0, now_ns)
                self._become_closed(CloseReason.REFUSED, now_ns)
            return
        if not flags & SYN:
            return
        self._take_syn_options(segment, self.on_largest_window(), now_ns)
        if not acceptable:
            self.state = next_state(self.state, Change.SYN)
            self.sender.handle_syn_timeout(now_ns, again=True)
            return
        if not self.on_syn_ack(segment, now_ns):
            return
        self.sender.handle_syn_acked(now_ns)
        self.state = next_state(self.state, Change.SYN_ACK)
        self.receiver.ack_now = True
        self.on_established(now_ns)

    @abstractmethod
    def on_largest_window(self) -> int:
        """Return the largest window that we may ever advertise, in bytes."""

    def _finish_passive_open(self, segment: Segment, now_ns: int) -> bool:
        if self.sender.unwrap(segment.ack) != 1:
            self.outbox.append(self.make_bare(RST, segment.ack, 0))
            return False
        if not self.on_handshake_ack(segment, now_ns):
            return False
        self.sender.handle_syn_acked(now_ns)
        self.state = next_state(self.state, Change.SYN_ACKED)
        self.on_established(now_ns)
        return True

    def _receive_ack(self, segment: Segment, now_ns: int) -> bool:
        """Process the acknowledgment (RFC 9293 section 3.10.7.4, fifth)."""
        sender = self.sender
        ack = sender.unwrap(segment.ack)
        snd_una = sender.snd_una
        if ack > sender.snd_nxt:
            self._challenge(now_ns)  # RFC 5961 section 5.2
            return False
        queue = sender.queue
        blocks: list[tuple[int, int]] = []
        if segment.sack and sender.sack_enabled:
            for left, right in segment.sack:
                blocks.append((sender.unwrap(left), sender.unwrap(right)))
        duplicate = False
        if ack == snd_una:
            duplicate = (
                segment.payload_bytes == 0
                and queue.out_bytes > 0
                and segment.window == self._last_window
                and not segment.flags & FIN
            )
        self._last_window = segment.window
        if ack > snd_una or blocks or duplicate:
            echoed_ns = -1
            if sender.resent_segments and segment.ts_val is not None and self.ts_enabled:
                age = ((now_ns // TICK_NS + self.ts_offset) - segment.ts_ecr) & MASK32
                if age < 0x8000_0000:
                    echoed_ns = (now_ns // TICK_NS - age) * TICK_NS
            if ack < snd_una:
                ack = snd_una
            sender.handle_ack(ack, blocks, echoed_ns, duplicate, now_ns)
            if ack > snd_una:
                self.on_acked(now_ns)
                if self.fin_seq >= 0 and ack > self.fin_seq:
                    self._fin_acked(now_ns)
        return self.state is not CLOSED

    def _receive_payload(self, segment: Segment, seq: int, end: int, now_ns: int) -> None:
        receiver = self.receiver
        if self.state not in CAN_RECEIVE:
            if end > receiver.rcv_nxt:
                receiver.note_duplicate(seq, end)
            receiver.ack_now = True
            return
        if receiver.ack_now:
            # The previous train's ACK was not collected yet: each gets its own.
            self.outbox.append(self.make_ack(now_ns))
        data = segment.payload
        payload = data if data is None or isinstance(data, bytes) else bytes(data)
        ready = receiver.accept(seq, end, payload, now_ns)
        if ready is None:
            self.on_payload(seq, end, payload, now_ns)
            return
        for start, stop, part in ready:
            self.on_payload(start, stop, part, now_ns)

    def _receive_fin(self, now_ns: int) -> None:
        receiver = self.receiver
        receiver.ack_now = True
        if self.state not in CAN_RECEIVE:
            if self.state is TIME_WAIT:
                self.time_wait_ns = now_ns + self.config.time_wait_ns
            return
        receiver.rcv_nxt += 1
        self.state = next_state(self.state, Change.FIN)
        if self.state is TIME_WAIT:
            self._enter_time_wait(now_ns)
        self.on_fin(now_ns)

    def _fin_acked(self, now_ns: int) -> None:
        if self.state not in (FIN_WAIT_1, CLOSING, LAST_ACK):
            return
        self.state = next_state(self.state, Change.FIN_ACKED)
        if self.state is TIME_WAIT:
            self._enter_time_wait(now_ns)
        elif self.state is CLOSED:
            self._become_closed(CloseReason.FINISHED, now_ns)

    def _enter_time_wait(self, now_ns: int) -> None:
        self.sender.stop()
        self.time_wait_ns = now_ns + self.config.time_wait_ns

    def _become_closed(self, reason: CloseReason, now_ns: int) -> None:
        if self.close_reason is not None:
            return
        self.close_reason = reason
        self.state = next_state(self.state, Change.ENDED)
        self.sender.stop()
        self.receiver.ack_now = False
        self.receiver.ack_deadline_ns = NEVER_NS
        self.time_wait_ns = NEVER_NS
        self.fin_pending = False
        self.sender.congestion.close()
        self.on_closed(now_ns)

    def _challenge(self, now_ns: int, always: bool = False) -> None:
        """Answer an unacceptable segment with an ACK, not too often (RFC 5961 section 7)."""
        if always or now_ns >= self._challenge_allowed_ns:
            if not always:
                self._challenge_allowed_ns = now_ns + CHALLENGE_INTERVAL_NS
            self.receiver.ack_now = True

    # Timers.

    def next_deadline_ns(self) -> int:
        """Return the earliest timer of the subflow."""
        deadline = self.sender.next_deadline_ns()
        if self.receiver.ack_deadline_ns < deadline:
            deadline = self.receiver.ack_deadline_ns
        if self.time_wait_ns < deadline:
            deadline = self.time_wait_ns
        config = self.config
        if config.keepalive_ns and self.state in SYNCHRONIZED and self.time_wait_ns == NEVER_NS:
            keepalive_ns = self._keepalive_deadline_ns()
            if keepalive_ns < deadline:
                deadline = keepalive_ns
        if config.user_timeout_ns and self.sender.stalled_since_ns != NEVER_NS:
            limit_ns = self.sender.stalled_since_ns + config.user_timeout_ns
            if limit_ns < deadline:
                deadline = limit_ns
        return deadline

    def handle_timeout(self, now_ns: int) -> None:
        """Do what is due; nothing if nothing is."""
        sender = self.sender
        if self.time_wait_ns <= now_ns:
            self._become_closed(CloseReason.FINISHED, now_ns)
            return
        if self.receiver.ack_deadline_ns <= now_ns:
            self.receiver.ack_deadline_ns = NEVER_NS
            self.receiver.ack_now = True
        config = self.config
        if config.user_timeout_ns and sender.stalled_since_ns + config.user_timeout_ns <= now_ns:
            self.reset(CloseReason.TIMEOUT, now_ns)
            return
        if sender.reorder_deadline_ns <= now_ns:
            sender.detect_losses(sender.queue.out_bytes, now_ns)
        if sender.rto_deadline_ns <= now_ns:
            self._retransmission_timeout(now_ns)
        elif sender.probe_deadline_ns <= now_ns:
            self.probe_due = True
            sender.probe_deadline_ns = NEVER_NS
        if config.keepalive_ns and self.state in SYNCHRONIZED and self.time_wait_ns == NEVER_NS:
            self._keepalive(now_ns)

    def _retransmission_timeout(self, now_ns: int) -> None:
        sender = self.sender
        if self.state is SYN_SENT or self.state is SYN_RECEIVED:
            limit = (
                self.config.syn_retries if self.state is SYN_SENT else self.config.synack_retries
            )
            if self.syn_timeouts >= limit:
                self._become_closed(CloseReason.TIMEOUT, now_ns)
                return
            self.syn_timeouts += 1
            sender.handle_syn_timeout(now_ns, again=False)
            return
        if sender.rtt.backoff >= self.config.retries:
            self.reset(CloseReason.TIMEOUT, now_ns)
            return
        sender.handle_rto(now_ns)
        self.on_timeout(now_ns)

    def _keepalive_deadline_ns(self) -> int:
        sent = self._keepalives_sent
        return (
            self.last_receive_ns
            + self.config.keepalive_ns
            + sent * self.config.keepalive_interval_ns
        )

    def _keepalive(self, now_ns: int) -> None:
        if self._keepalive_deadline_ns() > now_ns:
            return
        if self._keepalives_sent >= self.config.keepalive_probes:
            self.reset(CloseReason.TIMEOUT, now_ns)
            return
        self._keepalives_sent += 1
        self.send_window_probe(now_ns)

    # Output.

    def poll_transmit(self, now_ns: int) -> Segment | None:
        """Return a segment that is due whatever new data there are: SYN, resent data, FIN."""
        sender = self.sender
        if sender.queue.lost_queue and (
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
            record = sender.record_new(
                self.fin_seq + 1, None, sender.in_flight_bytes(), now_ns
            )
            record.fin = True
            self.state = next_state(self.state, Change.FIN_SENT)
            return self._make_train(record, now_ns)
        return None

    def poll_ack(self, now_ns: int) -> Segment | None:
        """Return an ACK if one is due and nothing else carried it."""
        if self.receiver.ack_now and self.state is not CLOSED and self.state is not SYN_SENT:
            return self.make_ack(now_ns)
        return None

    def make_data(self, record: Sent, now_ns: int) -> Segment:
        """Return the segment for a train that leaves for the first time."""
        return self._make_train(record, now_ns)

    def finish(self) -> None:
        """Close our direction: send FIN once everything sent so far left."""
        if self.fin_seq < 0 and self.state in (ESTABLISHED, State.CLOSE_WAIT, SYN_RECEIVED):
            self.fin_pending = True

    def reset(self, reason: CloseReason, now_ns: int) -> None:
        """Abort: send RST where there is someone to send it to, and be CLOSED."""
        if self.state in SYNCHRONIZED or self.state is SYN_RECEIVED:
            if self.state is not TIME_WAIT:
                self.outbox.append(self.make_reset())
        self._become_closed(reason, now_ns)

    @abstractmethod
    def on_reset_options(self) -> tuple[MptcpOption, ...]:
        """Return the MPTCP options of our RST."""

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

    def send_window_probe(self, now_ns: int) -> None:
        """Ask for the peer's window: an old sequence number that must be answered (RFC 9293 3.8.6.1).

        As Linux's tcp_xmit_probe_skb: no payload, one before ``snd_una``.
        """
        probe = self.make_ack(now_ns)
        probe.seq = (self.sender.iss + self.sender.snd_una - 1) & MASK32
        self.outbox.append(probe)

    def make_ack(self, now_ns: int, options: tuple[MptcpOption, ...] | None = None) -> Segment:
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

    def _make_train(self, record: Sent, now_ns: int) -> Segment:
        if record.syn:
            return self._make_syn(now_ns)
        receiver = self.receiver
        size = record.end - record.seq
        flags = ACK | PSH
        if record.fin:
            size -= 1
            flags = ACK | FIN
        mss = self.sender.mss_bytes
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
            segment_size_bytes=mss if size > mss else 0,
            mptcp=self.on_data_options(record),
        )
        if self.ts_enabled:
            segment.ts_val = (now_ns // TICK_NS + self.ts_offset) & MASK32
            segment.ts_ecr = receiver.ts_recent
        receiver.ack_sent()
        return segment

    def _make_syn(self, now_ns: int) -> Segment:
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
