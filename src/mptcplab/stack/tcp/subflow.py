"""One subflow: a TCP connection between two address pairs (RFC 9293), without its stream.

The class is abstract: what the bytes mean, which MPTCP options travel and how far the window
opens is for the subclass in ``mptcplab.stack.mptcp``. Methods sort by name: ``handle_...`` and
``receive`` take in, ``poll_...`` give out, ``on_...`` are the hooks of the subclass.

``receive`` follows the steps of RFC 9293 section 3.10.7, with the amendments of RFC 7323
(timestamps) and RFC 5961 (blind resets and injections).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.events import CloseReason
from mptcplab.stack.tcp.receiver import NEVER_NS
from mptcplab.stack.tcp.state import (
    CAN_RECEIVE,
    CLOSED,
    CLOSING,
    FIN_WAIT_1,
    LAST_ACK,
    SYN_RECEIVED,
    SYN_SENT,
    SYNCHRONIZED,
    TIME_WAIT,
    Change,
    next_state,
)
from mptcplab.stack.tcp.subflow_base import (
    CHALLENGE_INTERVAL_NS,
    DEFAULT_MSS_BYTES,
    DEFAULT_MSS_IPV6_BYTES,
    MASK32,
    MAX_WINDOW_SHIFT,
    MIN_MSS_BYTES,
    TICK_NS,
    SubflowBase,
    window_shift,
)
from mptcplab.wire.mptcp import Dss
from mptcplab.wire.segment import ACK, FIN, RST, SYN, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64


NO_BLOCKS: Final[list[tuple[int, int]]] = []
"""What an ACK without SACK reports; nobody adds to it."""


class Subflow(SubflowBase):
    """State machine and timers of one subflow."""

    __slots__ = ()

    # Opening.

    def open(self, window: int, now_ns: i64) -> None:
        """Send our SYN (active open). ``window`` is the largest the receive buffer may become."""
        self.state = next_state(self.state, Change.ACTIVE_OPEN)
        self.rcv_wscale = window_shift(window) if self.config.window_scaling else 0
        self._send_syn(now_ns)

    def accept(self, syn: Segment, window: int, now_ns: i64) -> None:
        """Take in a SYN (passive open) and answer it."""
        self.state = next_state(self.state, Change.PASSIVE_OPEN)
        self._take_syn_options(syn, window, now_ns)
        self._send_syn(now_ns)

    def _send_syn(self, now_ns: i64) -> None:
        record = self.sender.record_new(1, None, 0, now_ns)
        record.syn = True
        record.lost = True  # so that poll_transmit finds it: the first time is like all others
        self.sender.queue.lost_bytes += 1
        self.sender.queue.lost_queue.append(record)
        record.sends = 0
        self.sender.probe_deadline_ns = NEVER_NS

    def _take_syn_options(self, segment: Segment, window: int, now_ns: i64) -> None:
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
        self.on_agreed_mss(agreed)

    # Input.

    def receive(self, segment: Segment, now_ns: i64) -> None:
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
        ts_val = segment.ts_val
        if self.ts_enabled and not flags & RST:
            if ts_val is None:
                # RFC 7323 section 3.2: drop, timestamps were negotiated. An ADD_ADDR with an IPv6
                # address, port and HMAC leaves no room for them, though.
                if size or not segment.mptcp:
                    return
            elif ts_val != receiver.ts_recent and receiver.paws_rejects(ts_val, now_ns):
                self._challenge(now_ns, always=size > 0 or bool(flags & FIN))
                return
        if flags & (SYN | FIN | RST):
            if not self._receive_control(segment, seq, now_ns):
                return
        elif seq != receiver.rcv_nxt and (
            seq + size < receiver.last_ack_sent or seq > self.on_acceptance_edge()
        ):
            if size and seq + size < receiver.last_ack_sent:
                receiver.note_duplicate(seq, seq + size)
            self._challenge(now_ns, always=size > 0)
            return
        if not flags & ACK:
            return
        if ts_val is not None and ts_val != receiver.ts_recent and seq <= receiver.last_ack_sent:
            receiver.note_timestamp(seq, ts_val, now_ns)  # RFC 7323 section 5.3, R3: after R2
        self.last_receive_ns = now_ns
        self._keepalives_sent = 0
        if self.state is SYN_RECEIVED and not self._finish_passive_open(segment, now_ns):
            return
        if not self._receive_ack(segment, now_ns):
            return
        if not self.on_segment(segment, now_ns) or self.state is CLOSED:
            return
        if size:
            self._receive_payload(segment, seq, seq + size, now_ns)
        if flags & FIN and receiver.fin_seq < 0 and seq + size >= receiver.rcv_nxt:
            receiver.fin_seq = seq + size
        if receiver.fin_seq >= 0:
            if receiver.rcv_nxt == receiver.fin_seq:
                self._receive_fin(now_ns)
            elif flags & FIN:
                self._receive_fin_again(now_ns)

    def _receive_control(self, segment: Segment, seq: i64, now_ns: i64) -> bool:
        """Check a segment with SYN, FIN or RST; ``True`` to go on with it."""
        flags = segment.flags
        receiver = self.receiver
        end = seq + segment.payload_bytes + (1 if flags & FIN else 0) + (1 if flags & SYN else 0)
        acceptable = end >= receiver.last_ack_sent and seq <= self.on_acceptance_edge()
        if flags & RST:
            # RFC 5961 section 3.2: only the exact next sequence number resets.
            if seq == receiver.rcv_nxt:
                self.on_segment(segment, now_ns)
                reason = CloseReason.RESET
                if self.state is SYN_RECEIVED:
                    reason = CloseReason.REFUSED
                elif self.state in (CLOSING, LAST_ACK, TIME_WAIT):
                    reason = CloseReason.FINISHED  # RFC 9293 section 3.10.7.4: nothing is lost
                self._become_closed(reason, now_ns)
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

    def _receive_in_syn_sent(self, segment: Segment, now_ns: i64) -> None:
        """RFC 9293 section 3.10.7.3."""
        flags = segment.flags
        acceptable = bool(flags & ACK) and self.sender.unwrap(segment.ack) == 1
        if flags & ACK and not acceptable:
            if not flags & RST:
                self.outbox.append(self.make_bare(RST, segment.ack, 0))
            return
        if flags & RST:
            if acceptable:
                self.on_segment(segment, now_ns)
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
        self.sender.handle_syn_acked(self._echoed_ns(segment, now_ns), now_ns)
        self.state = next_state(self.state, Change.SYN_ACK)
        self.receiver.ack_now = True
        self.on_established(now_ns)

    def _finish_passive_open(self, segment: Segment, now_ns: i64) -> bool:
        if self.sender.unwrap(segment.ack) != 1:
            self.outbox.append(self.make_bare(RST, segment.ack, 0))
            return False
        if not self.on_handshake_ack(segment, now_ns):
            return False
        self.sender.handle_syn_acked(self._echoed_ns(segment, now_ns), now_ns)
        self.state = next_state(self.state, Change.SYN_ACKED)
        self.on_established(now_ns)
        return True

    def _receive_ack(self, segment: Segment, now_ns: i64) -> bool:
        """Process the acknowledgment (RFC 9293 section 3.10.7.4, fifth)."""
        sender = self.sender
        ack = sender.unwrap(segment.ack)
        snd_una = sender.snd_una
        if ack > sender.snd_nxt or snd_una - ack > self._largest_window:
            self._challenge(now_ns, always=segment.payload_bytes > 0)  # RFC 5961 section 5.2
            return False
        queue = sender.queue
        blocks = NO_BLOCKS
        if segment.sack and sender.sack_enabled:
            blocks = []
            for left, right in segment.sack:
                blocks.append((sender.unwrap(left), sender.unwrap(right)))
        duplicate = False
        if ack == snd_una:
            duplicate = (
                segment.payload_bytes == 0
                and queue.out_bytes > 0
                and segment.window == self._last_window
                and not segment.flags & FIN
                and _only_dss(segment)
            )
        if segment.window != self._last_window:
            self._last_window = segment.window
            window = segment.window << self.snd_wscale
            if window > self._largest_window:
                self._largest_window = window
        if ack > snd_una or blocks or duplicate:
            echoed_ns: i64 = -1
            if sender.resent_segments:
                echoed_ns = self._echoed_ns(segment, now_ns)
            if ack < snd_una:
                ack = snd_una
            sender.handle_ack(ack, blocks, echoed_ns, duplicate, now_ns)
            if ack > snd_una:
                self.on_acked(now_ns)
                if self.fin_seq >= 0 and ack > self.fin_seq:
                    self._fin_acked(now_ns)
        return self.state is not CLOSED

    def _echoed_ns(self, segment: Segment, now_ns: i64) -> i64:
        """Return when the segment whose timestamp is echoed left, to a tick; -1 for no echo."""
        if segment.ts_val is None or not self.ts_enabled:
            return -1
        age = ((now_ns // TICK_NS + self.ts_offset) - segment.ts_ecr) & MASK32
        if age >= 0x8000_0000:
            return -1
        return (now_ns // TICK_NS - age) * TICK_NS

    def _receive_payload(self, segment: Segment, seq: i64, end: i64, now_ns: i64) -> None:
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
        if self.plain or receiver.fin_seq >= 0:
            # No other level sends again what we drop: take what the window allows only. And
            # nothing comes after a FIN.
            edge = self.on_acceptance_edge() if self.plain else end
            if 0 <= receiver.fin_seq < edge:
                edge = receiver.fin_seq
            if end > edge:
                receiver.ack_now = True
                if edge <= seq:
                    return
                end = edge
                if data is not None:
                    data = data[: end - seq]
        payload = data if data is None or isinstance(data, bytes) else bytes(data)
        ready = receiver.accept(seq, end, payload, now_ns)
        if ready is None:
            self.on_payload(seq, end, payload, now_ns)
            return
        for start, stop, part in ready:
            self.on_payload(start, stop, part, now_ns)

    def _receive_fin(self, now_ns: i64) -> None:
        receiver = self.receiver
        receiver.ack_now = True
        if self.state not in CAN_RECEIVE:
            return
        receiver.rcv_nxt += 1
        self.state = next_state(self.state, Change.FIN)
        self.on_fin(now_ns)
        if self.state is TIME_WAIT:
            self._enter_time_wait(now_ns)

    def _receive_fin_again(self, now_ns: i64) -> None:
        self.receiver.ack_now = True
        if self.state is TIME_WAIT:  # RFC 9293 section 3.10.7.4: restart the 2 MSL timeout
            self.time_wait_ns = now_ns + self.config.time_wait_ns

    def _fin_acked(self, now_ns: i64) -> None:
        if self.state not in (FIN_WAIT_1, CLOSING, LAST_ACK):
            return
        self.state = next_state(self.state, Change.FIN_ACKED)
        if self.state is TIME_WAIT:
            self._enter_time_wait(now_ns)
        elif self.state is CLOSED:
            self._become_closed(CloseReason.FINISHED, now_ns)

    def _enter_time_wait(self, now_ns: i64) -> None:
        self.sender.stop()
        self.time_wait_ns = now_ns + self.config.time_wait_ns
        self.on_time_wait()

    def _become_closed(self, reason: CloseReason, now_ns: i64) -> None:
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

    def _challenge(self, now_ns: i64, always: bool = False) -> None:
        """Answer an unacceptable segment with an ACK, not too often (RFC 5961 section 7)."""
        if always or now_ns >= self._challenge_allowed_ns:
            if not always:
                self._challenge_allowed_ns = now_ns + CHALLENGE_INTERVAL_NS
            self.receiver.ack_now = True

    # Timers.

    def next_deadline_ns(self) -> i64:
        """Return the earliest timer of the subflow."""
        deadline = self.sender.next_deadline_ns()
        if self.receiver.ack_deadline_ns < deadline:
            deadline = self.receiver.ack_deadline_ns
        if self.time_wait_ns < deadline:
            deadline = self.time_wait_ns
        if self._keepalive_ns and self.state in SYNCHRONIZED and self.time_wait_ns == NEVER_NS:
            keepalive_ns = self._keepalive_deadline_ns()
            if keepalive_ns < deadline:
                deadline = keepalive_ns
        if self._user_timeout_ns and self.sender.stalled_since_ns != NEVER_NS:
            limit_ns = self.sender.stalled_since_ns + self._user_timeout_ns
            if limit_ns < deadline:
                deadline = limit_ns
        return deadline

    def handle_timeout(self, now_ns: i64) -> None:
        """Do what is due; nothing if nothing is."""
        sender = self.sender
        if self.time_wait_ns <= now_ns:
            self._become_closed(CloseReason.FINISHED, now_ns)
            return
        if self.receiver.ack_deadline_ns <= now_ns:
            self.receiver.ack_deadline_ns = NEVER_NS
            self.receiver.ack_now = True
        if self._user_timeout_ns and sender.stalled_since_ns + self._user_timeout_ns <= now_ns:
            self.reset(CloseReason.TIMEOUT, now_ns)
            return
        if sender.next_send_ns <= now_ns:
            sender.next_send_ns = 0
        if sender.reorder_deadline_ns <= now_ns:
            sender.detect_losses(sender.queue.out_bytes, now_ns)
        if sender.rto_deadline_ns <= now_ns:
            self._retransmission_timeout(now_ns)
        elif sender.probe_deadline_ns <= now_ns:
            self.probe_due = True
            sender.probe_deadline_ns = NEVER_NS
        if self._keepalive_ns and self.state in SYNCHRONIZED and self.time_wait_ns == NEVER_NS:
            self._keepalive(now_ns)

    def _retransmission_timeout(self, now_ns: i64) -> None:
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
        if self.on_window_closed() and self.last_receive_ns >= sender.last_send_ns:
            # RFC 9293 section 3.8.6.1: not while the peer answers that its window is closed.
            sender.rtt.backoff = 0
        if sender.rtt.backoff >= self.config.retries:
            self.reset(CloseReason.TIMEOUT, now_ns)
            return
        sender.handle_rto(now_ns)
        self.on_timeout()

    def _keepalive_deadline_ns(self) -> int:
        sent = self._keepalives_sent
        return self.last_receive_ns + self._keepalive_ns + sent * self.config.keepalive_interval_ns

    def _keepalive(self, now_ns: i64) -> None:
        if self._keepalive_deadline_ns() > now_ns:
            return
        if self._keepalives_sent >= self.config.keepalive_probes:
            self.reset(CloseReason.TIMEOUT, now_ns)
            return
        self._keepalives_sent += 1
        self.send_window_probe(now_ns)

    # Ending.

    def gives_way_to(self, syn: Segment, now_ns: i64) -> bool:
        """Leave TIME-WAIT for a new SYN of the same pair (RFC 9293 section 3.6.1, MAY-2)."""
        if self.state is not TIME_WAIT or syn.flags & ACK:
            return False
        newer = self.receiver.unwrap(syn.seq) > self.receiver.rcv_nxt
        if self.ts_enabled and syn.ts_val is not None:  # RFC 6191
            newer = newer or not self.receiver.paws_rejects(syn.ts_val - 1, now_ns)
        if newer:
            self._become_closed(CloseReason.FINISHED, now_ns)
        return newer

    def reset(self, reason: CloseReason, now_ns: i64) -> None:
        """Abort: send RST where there is someone to send it to, and be CLOSED."""
        state = self.state
        if (state in SYNCHRONIZED or state is SYN_RECEIVED) and state is not TIME_WAIT:
            self.outbox.append(self.make_reset())
        self._become_closed(reason, now_ns)


def _only_dss(segment: Segment) -> bool:
    """Say whether no MPTCP option but DSS is there.

    RFC 8684 section 3.4.1: an ACK with another one is a signal, not a duplicate in the sense of
    congestion control.
    """
    return all(isinstance(option, Dss) for option in segment.mptcp)
