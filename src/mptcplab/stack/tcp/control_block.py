"""The transmission control block of one subflow (RFC 9293 section 3.3.1), without its stream.

It knows nothing of MPTCP. What the bytes mean, which MPTCP options travel and how far the window
opens is its caller's to say, with each call: :class:`~mptcplab.stack.mptcp.subflow.MptcpSubflow`
for segments that leave, :class:`~mptcplab.stack.mptcp.connection.Connection` for those that arrive.
What happened comes back as values.

A segment that arrives goes through the steps of RFC 9293 section 3.10.7, with the amendments of
RFC 7323 (timestamps) and RFC 5961 (blind resets and injections): ``receive`` and ``receive_ack``
take it as far as the acknowledgment; its text goes to ``receiver``, and ``take_fin`` does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.seq import SEQ32_MASK, seq_lt, unwrap32
from mptcplab.stack.config import StackConfig
from mptcplab.stack.events import CloseReason
from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.tcp.ecn import Ecn
from mptcplab.stack.tcp.keepalive import Keepalive
from mptcplab.stack.tcp.opening import Opening
from mptcplab.stack.tcp.path_view import PathView
from mptcplab.stack.tcp.peer_window import PeerWindow, WindowProbes
from mptcplab.stack.tcp.receiver import Receiver
from mptcplab.stack.tcp.report import (
    ACKNOWLEDGED,
    DROPPED,
    RESET,
    SYN_ACK,
    THIRD_ACK,
    Arrival,
    Report,
)
from mptcplab.stack.tcp.sender import Sender
from mptcplab.stack.tcp.sent import Sent
from mptcplab.stack.tcp.state import (
    CAN_RECEIVE,
    CLOSE_WAIT,
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
from mptcplab.stack.tcp.timers import Timers
from mptcplab.stack.tcp.timestamps import Timestamps
from mptcplab.wire.fast_open import fast_open_option
from mptcplab.wire.icmp import Problem
from mptcplab.wire.mptcp import Dss, MptcpOption
from mptcplab.wire.segment import ACK, ECE, FIN, MAX_OPTION_BYTES, PSH, RST, SYN, Segment

if TYPE_CHECKING:
    from mypy_extensions import i64

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

NO_WAY: Final = (Problem.NO_ROUTE, Problem.HOST)
"""What says that the network is broken somewhere, not congested (RFC 6069 section 3)."""

ENDS_HALF_OPEN: Final = (*NO_WAY, Problem.TIME_EXCEEDED, Problem.PARAMETER)
"""After which a SYN is not answered any longer (Linux's tcp_req_err)."""

NO_BLOCKS: Final[list[tuple[int, int]]] = []
"""What an ACK without SACK reports; nobody adds to it."""


class ControlBlock:
    """State, timers and segments of one subflow."""

    __slots__ = (
        "_challenge_allowed_ns",
        "active",
        "close_reason",
        "config",
        "dscp",
        "ecn",
        "fin_pending",
        "fin_seq",
        "keepalive",
        "last_receive_ns",
        "local",
        "local_port",
        "opening",
        "outbox",
        "path",
        "peer_window",
        "rcv_wscale",
        "receiver",
        "remote",
        "remote_port",
        "sender",
        "state",
        "timers",
        "timestamps",
        "window_probes",
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
        timers = sender.timers
        self.config: StackConfig = config
        self.dscp: i64 = config.dscp
        """Differentiated services code point of what leaves (RFC 2474)."""
        self.local: bytes = local
        self.local_port: i64 = local_port
        self.remote: bytes = remote
        self.remote_port: i64 = remote_port
        self.sender: Sender = sender
        self.receiver = Receiver(timers, config.receive_coalescing_ns)
        self.ecn = Ecn(config.ecn, precise=sender.congestion.needs_ecn)
        self.timers: Timers = timers
        self.timestamps = Timestamps(config.timestamps, ts_offset)
        self.keepalive = Keepalive(
            timers, config.keepalive_ns, config.keepalive_interval_ns, config.keepalive_probes
        )
        self.peer_window = PeerWindow()
        self.window_probes = WindowProbes()
        self.outbox: list[Segment] = outbox
        """Where segments go that must leave whatever becomes of this subflow."""
        self.active: bool = active
        """Whether we opened it."""
        self.path = PathView(mss_bytes, ipv4=len(local) == 4)
        self.state: State = CLOSED
        self.close_reason: CloseReason | None = None
        self.rcv_wscale: i64 = 0
        """Rcv.Wind.Shift of RFC 7323 section 2.3."""
        self.opening = Opening()
        self.fin_pending: bool = False
        """Our FIN leaves once everything before it has."""
        self.fin_seq: i64 = -1
        """Our FIN's sequence number, -1 before it leaves."""
        self.last_receive_ns: i64 = 0
        self._challenge_allowed_ns: i64 = 0

    # Opening.

    def open(self, largest_window_bytes: int, now_ns: i64) -> None:
        """Send our SYN (active open), with a scale for the largest window we may ever offer."""
        self.state = next_state(self.state, Change.ACTIVE_OPEN)
        self.rcv_wscale = window_shift(largest_window_bytes) if self.config.window_scaling else 0
        self.sender.record_syn(now_ns)

    def accept(self, syn: Segment, largest_window_bytes: int, now_ns: i64) -> i64:
        """Take in the SYN of a passive open; return the MSS that both allow.

        The caller takes the options that each segment carries from it, and calls ``answer_syn``.
        """
        self.state = next_state(self.state, Change.PASSIVE_OPEN)
        self.ecn.take_syn(syn.flags)
        return self.take_syn(syn, largest_window_bytes, now_ns)

    def answer_syn(self, now_ns: i64) -> None:
        """Send our SYN/ACK."""
        self.sender.record_syn(now_ns)

    def take_syn(self, segment: Segment, largest_window_bytes: int, now_ns: i64) -> i64:
        """Take in what the peer's SYN says; return the MSS that both allow."""
        config = self.config
        self.receiver.open_at(segment.seq)
        self.last_receive_ns = now_ns
        mss = segment.mss
        if mss is None:
            mss = DEFAULT_MSS_BYTES if len(self.local) == 4 else DEFAULT_MSS_IPV6_BYTES
        self.timestamps.open_at(segment, now_ns)
        if config.window_scaling and segment.wscale is not None:
            self.peer_window.scale = min(segment.wscale, MAX_WINDOW_SHIFT)
            self.rcv_wscale = window_shift(largest_window_bytes)
        else:
            self.peer_window.scale = 0
            self.rcv_wscale = 0
        self.sender.sack_enabled = config.sack and segment.sack_permitted
        return max(MIN_MSS_BYTES, min(mss, self.path.announced_mss_bytes))

    def receive_in_syn_sent(self, segment: Segment) -> Arrival:
        """Judge a segment in SYN-SENT (RFC 9293 section 3.10.7.3); a SYN is the caller's to take.

        It calls ``take_syn`` and then ``open_simultaneously`` or ``finish_active_open``.
        """
        flags = segment.flags
        acked_bytes = self.sender.unwrap(segment.ack) - 1
        acceptable = bool(flags & ACK) and 0 <= acked_bytes <= self.opening.sent_bytes
        if flags & ACK and not acceptable:
            if not flags & RST:
                self.outbox.append(self.make_bare(RST, segment.ack, 0))
            return DROPPED
        if flags & RST:
            return RESET if acceptable else DROPPED
        if not flags & SYN:
            return DROPPED
        return SYN_ACK if acceptable else Arrival.SYN

    def open_simultaneously(self, now_ns: i64) -> None:
        """The peer's SYN crossed ours (RFC 9293 section 3.5, figure 7)."""
        self.state = next_state(self.state, Change.SYN)
        self.sender.handle_syn_timeout(now_ns, again=True)

    def finish_active_open(self, segment: Segment, now_ns: i64) -> None:
        """The SYN/ACK is as it should be: be ESTABLISHED, and acknowledge it."""
        self.ecn.take_syn_ack(segment.flags)
        self.sender.handle_syn_acked(self.timestamps.echoed_ns(segment, now_ns), now_ns)
        if self.opening.sent_bytes > 0:
            self.opening.acked_bytes = self.sender.unwrap(segment.ack) - 1
            self.sender.skip(self.opening.acked_bytes)
        self.state = next_state(self.state, Change.SYN_ACK)
        self.receiver.ack_now = True
        self.keepalive.restart(now_ns)

    def finish_passive_open(self, segment: Segment, now_ns: i64) -> None:
        """The handshake's last ACK is as it should be: be ESTABLISHED."""
        self.sender.handle_syn_acked(self.timestamps.echoed_ns(segment, now_ns), now_ns)
        if self.opening.fast:
            self.receiver.ack_now = False  # the SYN/ACK was all there was to acknowledge
        self.state = next_state(self.state, Change.SYN_ACKED)
        self.keepalive.restart(now_ns)

    # Arriving segments.

    def receive(self, segment: Segment, window_bytes: i64, now_ns: i64, report: Report) -> Arrival:
        """Take in a segment as far as its acknowledgment (RFC 9293 section 3.10.7.4).

        ``window_bytes`` is how much text is taken from ``rcv_nxt`` on. After ``THIRD_ACK`` the
        caller judges the handshake and calls ``finish_passive_open`` and ``receive_ack``, after
        ``RESET`` it calls ``close``.
        """
        report.acked = False
        report.time_wait = False
        if self.state is CLOSED:
            return DROPPED
        flags = segment.flags
        receiver = self.receiver
        timestamps = self.timestamps
        size = segment.payload_bytes
        seq = unwrap32(segment.seq - receiver.irs, receiver.rcv_nxt)
        report.seq = seq
        ts_val = segment.ts_val
        if timestamps.enabled and not flags & RST:
            if ts_val is None:
                # RFC 7323 section 3.2: drop, timestamps were negotiated. An ADD_ADDR with an IPv6
                # address, port and HMAC leaves no room for them, though.
                if size or not segment.mptcp:
                    return DROPPED
            elif (
                ts_val != timestamps.recent
                and seq_lt(ts_val, timestamps.recent)
                and not timestamps.recent_is_outdated(now_ns)
            ):
                self._challenge(now_ns, always=size > 0 or bool(flags & FIN))
                return DROPPED
        if flags & (SYN | FIN | RST):
            arrival = self._receive_control(segment, seq, receiver.rcv_nxt + window_bytes, now_ns)
            if arrival is not ACKNOWLEDGED:
                return arrival
        elif seq != receiver.rcv_nxt and (
            seq + size < receiver.last_ack_sent or seq > receiver.rcv_nxt + window_bytes
        ):
            if size and seq + size < receiver.last_ack_sent:
                receiver.enter_quick_ack_mode()  # tcp_send_dupack
                receiver.note_duplicate(seq, seq + size)
            self._challenge(now_ns, always=size > 0)
            return DROPPED
        if not flags & ACK:
            return DROPPED
        if ts_val is not None and ts_val != timestamps.recent and seq <= receiver.last_ack_sent:
            timestamps.note(ts_val, now_ns)  # RFC 7323 section 5.3, R3: R1 and R2 have passed it
        self.last_receive_ns = now_ns
        if size:
            pushed = flags & PSH != 0
            rto_ns = self.sender.rtt.rto_ns
            receiver.note_train(segment.packets, segment.spread_ns, rto_ns, now_ns, pushed)
            if size >= receiver.mss_bytes:
                timestamps.measure(segment, now_ns)
            if self.ecn.take_text(segment):
                receiver.ack_now = True
        if self.state is SYN_RECEIVED:
            sender = self.sender
            if 1 <= sender.unwrap(segment.ack) <= (sender.snd_nxt if self.opening.fast else 1):
                return THIRD_ACK
            self._stamp_and_send(self.make_bare(RST, segment.ack, 0), now_ns)
            return DROPPED
        if self.keepalive.idle_ns and self.state is not TIME_WAIT:
            self.keepalive.restart(now_ns)
        return self.receive_ack(segment, now_ns, report)

    def _receive_control(self, segment: Segment, seq: i64, edge: i64, now_ns: i64) -> Arrival:
        """Check a segment with SYN, FIN or RST; ``ACKNOWLEDGED`` to go on with it."""
        flags = segment.flags
        receiver = self.receiver
        if flags & (SYN | RST) == SYN and self.state is SYN_RECEIVED and seq == 0:
            if flags & ACK:
                return ACKNOWLEDGED  # simultaneous open: their SYN/ACK
            self.sender.handle_syn_timeout(now_ns, again=True)
            return DROPPED
        end = seq + segment.payload_bytes + (1 if flags & FIN else 0) + (1 if flags & SYN else 0)
        acceptable = end >= receiver.last_ack_sent and seq <= edge
        if flags & RST:
            # RFC 5961 section 3.2: only the exact next sequence number resets.
            if seq == receiver.rcv_nxt:
                return RESET
            if acceptable:
                self._challenge(now_ns)
            return DROPPED
        if not acceptable:
            self._challenge(now_ns, always=bool(flags & FIN))
            return DROPPED
        if flags & SYN:
            self._challenge(now_ns)  # RFC 5961 section 4
            return DROPPED
        return ACKNOWLEDGED

    def receive_ack(self, segment: Segment, now_ns: i64, report: Report) -> Arrival:
        """Process the acknowledgment (RFC 9293 section 3.10.7.4, fifth)."""
        sender = self.sender
        peer_window = self.peer_window
        snd_una = sender.snd_una
        ack = unwrap32(segment.ack - sender.iss, snd_una)
        if ack > sender.snd_nxt or snd_una - ack > peer_window.largest_bytes:
            self._challenge(now_ns, always=segment.payload_bytes > 0)  # RFC 5961 section 5.2
            return DROPPED
        blocks = NO_BLOCKS
        if segment.sack and sender.sack_enabled:
            blocks = []
            for left, right in segment.sack:
                blocks.append((sender.unwrap(left), sender.unwrap(right)))
        duplicate = False
        if ack == snd_una:
            duplicate = (
                segment.payload_bytes == 0
                and sender.queue.out_bytes > 0
                and segment.window == peer_window.field
                and not segment.flags & FIN
                and _only_dss(segment)
            )
        if segment.window != peer_window.field:
            peer_window.note(segment.window)
        sender.echoed = self.ecn.enabled and segment.flags & ECE != 0
        if ack > snd_una or blocks or duplicate or sender.echoed:
            echoed_ns: i64 = -1
            if sender.counters.resent_segments:
                echoed_ns = self.timestamps.echoed_ns(segment, now_ns)
            if ack < snd_una:
                ack = snd_una
            acks = segment.ack_count
            duplicates: i64 = 0
            if duplicate:
                duplicates = acks
            spread_ns: i64 = 0
            if acks > 1:
                spread_ns = segment.spread_ns
            sender.handle_ack(ack, blocks, echoed_ns, duplicates, acks, spread_ns, now_ns)
            if ack > snd_una:
                report.acked = True
                self.path.error = None
                if self.fin_seq >= 0 and ack > self.fin_seq:
                    self._fin_acked(now_ns, report)
        return ACKNOWLEDGED

    def take_fin(self, segment: Segment, seq: i64, now_ns: i64, report: Report) -> bool:
        """Take in the peer's FIN (eighth), of this segment or an earlier one.

        ``True`` if everything before it is there, for the first time.
        """
        receiver = self.receiver
        end = seq + segment.payload_bytes
        again = bool(segment.flags & FIN)
        if again and receiver.fin_seq < 0 and end >= receiver.rcv_nxt:
            receiver.fin_seq = end
        if receiver.fin_seq < 0:
            return False
        if receiver.rcv_nxt == receiver.fin_seq:
            receiver.ack_now = True
            if self.state not in CAN_RECEIVE:
                return False
            receiver.rcv_nxt += 1
            self.state = next_state(self.state, Change.FIN)
            if self.state is TIME_WAIT:
                self._enter_time_wait(now_ns, report)
            return True
        if again:
            receiver.ack_now = True
            if self.state is TIME_WAIT:  # RFC 9293 section 3.10.7.4: restart the 2 MSL timeout
                self.timers.time_wait_ns = now_ns + self.config.time_wait_ns
        return False

    def _fin_acked(self, now_ns: i64, report: Report) -> None:
        if self.state not in (FIN_WAIT_1, CLOSING, LAST_ACK):
            return
        if self.state is LAST_ACK:
            self.close(CloseReason.FINISHED)
            return
        self.state = next_state(self.state, Change.FIN_ACKED)
        if self.state is TIME_WAIT:
            self._enter_time_wait(now_ns, report)

    def _enter_time_wait(self, now_ns: i64, report: Report) -> None:
        self.timers.stop_sending()
        self.keepalive.stop()
        self.timers.time_wait_ns = now_ns + self.config.time_wait_ns
        report.time_wait = True

    def _challenge(self, now_ns: i64, always: bool = False) -> None:
        """Answer an unacceptable segment with an ACK, not too often (RFC 5961 section 7)."""
        if always or now_ns >= self._challenge_allowed_ns:
            if not always:
                self._challenge_allowed_ns = now_ns + CHALLENGE_INTERVAL_NS
            self.receiver.ack_now = True

    # Timers.

    def handle_timeout(self, window_closed: bool, now_ns: i64, report: Report) -> None:
        """Do what is due; nothing if nothing is.

        ``window_closed`` says that the peer's window takes nothing beyond ``snd_una``.
        """
        report.begin()
        sender = self.sender
        timers = self.timers
        if timers.time_wait_ns <= now_ns:
            self.close(CloseReason.FINISHED)
            return
        if timers.delayed_ack_ns <= now_ns:
            timers.delayed_ack_ns = NEVER_NS
            self.receiver.note_delayed_ack()
        if timers.user_timeout_ns <= now_ns:
            report.gave_up = True
            return
        if timers.pacing_ns <= now_ns:
            timers.pacing_ns = NEVER_NS
        if timers.path_mtu_ns <= now_ns:
            self.limit_packets(0, NEVER_NS)
        if timers.reorder_ns <= now_ns:
            sender.detect_losses(sender.queue.out_bytes, now_ns)
        if timers.rto_ns <= now_ns:
            self._retransmission_timeout(window_closed, now_ns, report)
        elif timers.probe_ns <= now_ns:
            # tcp_schedule_loss_probe: none before the handshake of a fast open is over
            sender.probe_due = self.state is not SYN_RECEIVED
            timers.probe_ns = NEVER_NS
        if timers.keepalive_ns <= now_ns:
            if self.keepalive.may_probe():
                report.keepalive_due = True
            else:
                report.gave_up = True

    def _retransmission_timeout(self, window_closed: bool, now_ns: i64, report: Report) -> None:
        sender = self.sender
        if self.state is SYN_SENT or self.state is SYN_RECEIVED:
            limit = (
                self.config.syn_retries if self.state is SYN_SENT else self.config.synack_retries
            )
            if self.opening.timeouts >= limit:
                self.close(self.reason_for_silence())
                return
            self.opening.timeouts += 1
            sender.handle_syn_timeout(now_ns, again=False)
            return
        if window_closed and self.last_receive_ns >= sender.last_send_ns:
            # RFC 9293 section 3.8.6.1: not while the peer answers that its window is closed.
            sender.rtt.backoff = sender.rtt.timeouts = 0
        if sender.rtt.is_given_up(self.config.retries, now_ns):
            report.gave_up = True
            return
        sender.handle_rto(now_ns)
        report.timed_out = True

    # Errors that come back from the path (ICMP).

    def limit_packets(self, mtu_bytes: i64, expires_ns: i64) -> None:
        """Let packets be as large as a path MTU allows, until then; 0 for nothing known of it."""
        path = self.path
        path.mtu_bytes = mtu_bytes
        path.resent_for_bytes = 0 if mtu_bytes == 0 else path.resent_for_bytes
        self.timers.path_mtu_ns = expires_ns
        if self.state is not SYN_SENT:  # there the peer's MSS is yet to come
            self.sender.change_mss(path.payload_bytes())

    def take_too_big(self, mtu_bytes: i64, now_ns: i64) -> None:
        """Packets of ours were larger than the path MTU, which is known by now: send them again.

        Linux's tcp_v4_mtu_reduced.
        """
        path = self.path
        if (
            path.resent_for_bytes == 0 or mtu_bytes < path.resent_for_bytes
        ) and self.state in SYNCHRONIZED:
            path.resent_for_bytes = mtu_bytes
            self.sender.resend_too_big(now_ns)

    def take_unreachable(self, problem: Problem, seq: int, now_ns: i64) -> None:
        """A segment did not get to the peer (RFC 1122 section 4.2.3.9), as Linux's tcp_v4_err.

        It ends an attempt to connect. Later it is only remembered: even what the RFC calls hard
        errors are no proof that the peer is gone for good.
        """
        self.path.error = problem
        if self.state is SYN_SENT or (
            self.state is SYN_RECEIVED and problem in ENDS_HALF_OPEN  # tcp_req_err
        ):
            self.close(self.reason_for_silence())
        elif problem in NO_WAY:
            self.sender.revert_backoff(seq, now_ns)

    def reason_for_silence(self) -> CloseReason:
        """Return what a subflow ends for that has timed out: the last error, if one came."""
        error = self.path.error
        if error is None:
            return CloseReason.TIMEOUT
        if error is Problem.PORT or error is Problem.PROTOCOL:
            return CloseReason.REFUSED
        return CloseReason.UNREACHABLE

    # Ending.

    def finish(self) -> None:
        """Close our direction: send FIN once everything sent so far left."""
        if self.fin_seq < 0 and self.state in (ESTABLISHED, CLOSE_WAIT, SYN_RECEIVED):
            self.fin_pending = True

    def close(self, reason: CloseReason) -> None:
        """Be CLOSED, for the first reason given."""
        if self.close_reason is not None:
            return
        self.close_reason = reason
        self.state = next_state(self.state, Change.ENDED)
        self.timers.stop_sending()
        self.receiver.stop()
        self.keepalive.stop()
        self.timers.time_wait_ns = NEVER_NS
        self.timers.join_ack_ns = NEVER_NS
        self.timers.path_mtu_ns = NEVER_NS
        self.fin_pending = False
        self.sender.congestion.close()

    def reason_for_reset(self) -> CloseReason:
        """Return what an acceptable RST means in this state (RFC 9293 section 3.10.7.4)."""
        if self.state is SYN_SENT or self.state is SYN_RECEIVED:
            return CloseReason.REFUSED
        if self.state in (CLOSING, LAST_ACK, TIME_WAIT):
            return CloseReason.FINISHED  # nothing is lost
        return CloseReason.RESET

    def owes_reset(self) -> bool:
        """Say whether aborting sends RST: there is someone to send it to (RFC 9293 3.10.5)."""
        state = self.state
        return (state in SYNCHRONIZED or state is SYN_RECEIVED) and state is not TIME_WAIT

    def gives_way_to(self, syn: Segment, now_ns: i64) -> bool:
        """Leave TIME-WAIT for a new SYN of the same pair (RFC 9293 section 3.6.1, MAY-2)."""
        if self.state is not TIME_WAIT or syn.flags & ACK:
            return False
        newer = self.receiver.unwrap(syn.seq) > self.receiver.rcv_nxt
        if self.timestamps.enabled and syn.ts_val is not None:  # RFC 6191
            newer = newer or not self.timestamps.paws_rejects(syn.ts_val - 1, now_ns)
        if newer:
            self.close(CloseReason.FINISHED)
        return newer

    # Leaving segments. Windows are in bytes.

    def next_due(self, now_ns: i64) -> Sent | None:
        """Return what is due whatever new data there are: SYN, lost data, a probe, or FIN."""
        sender = self.sender
        if sender.queue.lost_bytes and (self.state is SYN_SENT or not sender.pacing.holds(now_ns)):
            record = sender.next_retransmission(now_ns)
            if record is not None:
                return record
        if sender.probe_due:
            record = sender.take_probe(now_ns)
            if record is not None:
                return record
        if self.fin_pending and self.state is not SYN_SENT and self.state is not SYN_RECEIVED:
            self.fin_pending = False
            self.fin_seq = sender.snd_nxt
            self.state = next_state(self.state, Change.FIN_SENT)
            return sender.record_fin(now_ns)
        return None

    def make_train(
        self, record: Sent, window: i64, options: tuple[MptcpOption, ...], now_ns: i64
    ) -> Segment:
        """Return the segment for data, or for our FIN, as recorded."""
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
            seq=(self.sender.iss + record.seq) & SEQ32_MASK,
            ack=(receiver.irs + receiver.rcv_nxt) & SEQ32_MASK,
            flags=flags,
            window=window >> self.rcv_wscale,
            payload_bytes=size,
            payload=record.payload,
            segment_size_bytes=mss,
            mptcp=options,
            dscp=self.dscp,
        )
        if self.timestamps.enabled:
            self.timestamps.stamp(segment, now_ns)
        segment.flags |= self.ecn.ack_flags()
        if size > 0:
            self._stamp_text(segment, record)
            receiver.note_data_sent(now_ns)
        receiver.ack_sent()
        return segment

    def _stamp_text(self, segment: Segment, record: Sent) -> None:
        """Mark text as ECN-capable, and the first new text after a reduction with CWR."""
        sender = self.sender
        new = record.sends <= 1
        if new and sender.reduced:
            sender.reduced = False
            self.ecn.cwr_due = True
        self.ecn.stamp_data(segment, new)

    def make_ack(self, window: i64, options: tuple[MptcpOption, ...], now_ns: i64) -> Segment:
        """Return an ACK without payload."""
        receiver = self.receiver
        sender = self.sender
        segment = Segment(
            self.local,
            self.local_port,
            self.remote,
            self.remote_port,
            seq=(sender.iss + sender.snd_nxt) & SEQ32_MASK,
            ack=(receiver.irs + receiver.rcv_nxt) & SEQ32_MASK,
            flags=ACK,
            window=window >> self.rcv_wscale,
            mptcp=options,
            dscp=self.dscp,
        )
        if self.timestamps.enabled:
            self.timestamps.stamp(segment, now_ns)
        if sender.sack_enabled and receiver.has_sacks():
            room = MAX_OPTION_BYTES - segment.option_bytes
            if room >= 12:
                segment.sack = receiver.sack_blocks((room - 2) >> 3)
        self.ecn.stamp_ack(segment)
        receiver.make_ack_train(segment)
        receiver.ack_sent(segment.ack_count)
        return segment

    def make_probe(self, window: i64, options: tuple[MptcpOption, ...], now_ns: i64) -> Segment:
        """Return a probe of the peer's window, or of its presence (RFC 9293 section 3.8.6.1).

        As Linux's tcp_xmit_probe_skb: an old sequence number, one before ``snd_una``, without
        payload, which has to be answered.
        """
        self.window_probes.note_sent(self.last_receive_ns, now_ns)
        probe = self.make_ack(window, options, now_ns)
        probe.seq = (self.sender.iss + self.sender.snd_una - 1) & SEQ32_MASK
        return probe

    def make_syn(self, window: i64, options: tuple[MptcpOption, ...], now_ns: i64) -> Segment:
        """Return our SYN, or SYN/ACK in SYN-RECEIVED. Its window is not scaled."""
        config = self.config
        passive = self.state is SYN_RECEIVED
        opening = self.opening
        flags = SYN | self.ecn.syn_flags(passive, opening.timeouts > 0)
        segment = self.make_bare(flags | ACK if passive else flags, self.sender.iss, 0)
        segment.window = min(window, 0xFFFF)
        segment.mss = self.path.announced_mss_bytes
        segment.sack_permitted = self.sender.sack_enabled if passive else config.sack
        if config.window_scaling and (not passive or self.rcv_wscale or self.peer_window.scale):
            segment.wscale = self.rcv_wscale
        if self.timestamps.enabled:
            self.timestamps.stamp(segment, now_ns)
        if passive:
            segment.ack = (self.receiver.irs + self.receiver.rcv_nxt) & SEQ32_MASK
            self.receiver.ack_sent()
        segment.mptcp = options
        cookie = opening.cookie
        if cookie is not None and opening.timeouts == 0:
            segment.raw_options = (fast_open_option(cookie),)
            if segment.option_bytes <= MAX_OPTION_BYTES:
                segment.payload_bytes = opening.sent_bytes
                segment.payload = opening.payload
            else:  # no room for so long a cookie: the option is left out (tcp_syn_options)
                segment.raw_options = ()
                opening.sent_bytes = 0
        return segment

    def send_reset(self, options: tuple[MptcpOption, ...], now_ns: i64) -> None:
        """Send our RST, which leaves whatever becomes of this subflow."""
        segment = self.make_bare(
            RST | ACK,
            (self.sender.iss + self.sender.snd_nxt) & SEQ32_MASK,
            (self.receiver.irs + self.receiver.rcv_nxt) & SEQ32_MASK,
        )
        segment.mptcp = options
        self._stamp_and_send(segment, now_ns)

    def _stamp_and_send(self, reset: Segment, now_ns: i64) -> None:
        """RFC 7323 section 3.2: a RST should have timestamps where they were negotiated."""
        if self.timestamps.enabled:
            self.timestamps.stamp(reset, now_ns)
        self.outbox.append(reset)

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
            dscp=self.dscp,
        )


def window_shift(window: int) -> int:
    """Return the smallest shift that lets ``window`` fit the window field (RFC 7323 section 2)."""
    shift = 0
    while shift < MAX_WINDOW_SHIFT and window >> shift > 0xFFFF:
        shift += 1
    return shift


def _only_dss(segment: Segment) -> bool:
    """Say whether no MPTCP option but DSS is there.

    RFC 8684 section 3.4.1: an ACK with another one is a signal, not a duplicate in the sense of
    congestion control.
    """
    return all(isinstance(option, Dss) for option in segment.mptcp)
