"""The sending half of a subflow: window, round-trip times, loss recovery and its timers.

Loss detection is RACK-TLP (RFC 8985: ``rack``, ``tail_loss_probe``) over a SACK scoreboard
(``sent``: RFC 2018, 2883, 6675); for a peer without SACK it is NewReno (RFC 6582). How far to open
the window is the congestion control's business (``mptcplab.stack.congestion``); what is sent next
is the subflow's and the connection's.

Sequence numbers are relative to our initial one and never wrap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.seq import unwrap32
from mptcplab.stack.congestion.base import AckSample, CongestionControl
from mptcplab.stack.ready import NEVER_NS
from mptcplab.stack.tcp.pacing import UNPACED_SEGMENTS, Pacing, window_rate
from mptcplab.stack.tcp.rack import DUP_THRESHOLD, Rack
from mptcplab.stack.tcp.rate_reduction import RateReduction
from mptcplab.stack.tcp.rtt import RttEstimator
from mptcplab.stack.tcp.sent import Sent, SentQueue
from mptcplab.stack.tcp.tail_loss_probe import TailLossProbe
from mptcplab.stack.tcp.timers import Timers
from mptcplab.stack.tcp.timestamps import TICK_NS

if TYPE_CHECKING:
    from mypy_extensions import i64

CA_OPEN: Final = 0
CA_CWR: Final = 2
"""Coming down to a smaller window because of marks."""
CA_RECOVERY: Final = 3
"""In fast recovery (RFC 5681 section 3.2)."""
CA_LOSS: Final = 4
"""Recovering from a retransmission timeout. The states are Linux's tcp_ca_state."""

NOT_RESENT: Final = -2
"""A recovery has begun, and nothing of it was sent yet."""


class SendCounters:
    """What a subflow has sent since its handshake."""

    __slots__ = (
        "resent_bytes",
        "resent_segments",
        "sent_bytes",
        "sent_trains",
        "timeouts",
    )

    def __init__(self) -> None:
        self.sent_bytes: i64 = 0
        """Payload sent for the first time."""
        self.sent_trains: i64 = 0
        self.resent_bytes: i64 = 0
        """Payload sent again."""
        self.resent_segments: i64 = 0
        self.timeouts: i64 = 0

    def reset(self) -> None:
        """Begin anew: the handshake is done."""
        self.sent_bytes = 0
        self.sent_trains = 0
        self.resent_bytes = 0
        self.resent_segments = 0
        self.timeouts = 0


class Sender:
    """Send state of one subflow. Windows and counts are bytes, times nanoseconds."""

    __slots__ = (
        "_force_one",
        "_rack",
        "_reduction",
        "_sample",
        "_tlp",
        "_undo_stamp_ns",
        "_user_timeout_ns",
        "ca_state",
        "congestion",
        "counters",
        "dupacks",
        "echoed",
        "iss",
        "last_send_ns",
        "mss_bytes",
        "pacing",
        "probe_due",
        "queue",
        "recovery_point",
        "reduced",
        "rtt",
        "sack_enabled",
        "snd_nxt",
        "snd_una",
        "timers",
    )

    def __init__(
        self,
        iss: int,
        rtt: RttEstimator,
        congestion: CongestionControl,
        timers: Timers,
        user_timeout_ns: int = 0,
    ) -> None:
        self.iss: i64 = iss
        self.rtt: RttEstimator = rtt
        self.congestion: CongestionControl = congestion
        self.timers: Timers = timers
        self.queue = SentQueue()
        self.counters = SendCounters()
        self.pacing = Pacing(timers)
        self.pacing.enabled = congestion.controls_rate
        self.queue.rate.enabled = congestion.controls_rate
        self.mss_bytes: i64 = congestion.mss_bytes
        """Payload per packet that we send: the agreed MSS less our options."""
        self.snd_una: i64 = 0
        self.snd_nxt: i64 = 0
        self.sack_enabled: bool = False
        self.ca_state: i64 = CA_OPEN
        self.probe_due: bool = False
        """A tail loss probe is due."""
        self.echoed: bool = False
        """Whether the ACK at hand echoes marks."""
        self.reduced: bool = False
        """The window was reduced, and the peer does not know yet (RFC 3168 section 6.1.2)."""
        self.recovery_point: i64 = 0
        self.dupacks: i64 = 0
        self.last_send_ns: i64 = 0
        self._rack = Rack()
        self._reduction = RateReduction()
        self._tlp = TailLossProbe(timers)
        self._sample = AckSample()
        self._sample.rate = self.queue.rate.sample
        self._user_timeout_ns: i64 = user_timeout_ns
        self._force_one: bool = False
        """The first retransmission of a recovery may leave whatever the window says."""
        self._undo_stamp_ns: i64 = -1
        """When the first retransmission of a recovery left, -1 outside, or ``NOT_RESENT``."""

    # What others read.

    def in_flight_bytes(self) -> i64:
        """Return the pipe of RFC 6675 (without SACK: less one segment per duplicate ACK)."""
        pipe = self.queue.in_flight_bytes()
        if self.dupacks and not self.sack_enabled:
            pipe -= self.dupacks * self.mss_bytes
            if pipe < 0:
                pipe = 0
        return pipe

    def unwrap(self, ack: i64) -> i64:
        """Return the relative form of an acknowledgment number."""
        return unwrap32(ack - self.iss, self.snd_una)

    def has_in_flight(self, seq: int) -> bool:
        """Say whether a sequence number, as on the wire, was sent and is not acknowledged."""
        return self.snd_una <= self.unwrap(seq) <= self.snd_nxt

    # Sending.

    def record_syn(self, now_ns: i64) -> None:
        """Queue our SYN, as lost: the first time it is sent is like all others."""
        record = self.record_new(1, None, 0, now_ns)
        record.syn = True
        record.sends = 0
        self.queue.lose_unsent(record)
        self.timers.probe_ns = NEVER_NS

    def record_fin(self, now_ns: i64) -> Sent:
        """Account for our FIN, which leaves now."""
        record = self.record_new(self.snd_nxt + 1, None, self.in_flight_bytes(), now_ns)
        record.fin = True
        self.counters.sent_bytes -= 1  # a FIN is no payload
        return record

    def record_new(
        self, end: i64, payload: bytes | None, in_flight_bytes: i64, now_ns: i64
    ) -> Sent:
        """Account for new sequence space up to ``end`` that leaves now."""
        seq = self.snd_nxt
        record = Sent(seq, end, payload, now_ns)
        timers = self.timers
        if self._user_timeout_ns and self.snd_una == seq:
            timers.user_timeout_ns = now_ns + self._user_timeout_ns
        self.queue.append(record)
        self.snd_nxt = end
        size = end - seq
        counters = self.counters
        counters.sent_bytes += size
        counters.sent_trains += 1
        if in_flight_bytes == 0:
            self.congestion.on_transmit_start(now_ns, now_ns - self.last_send_ns)
        self.last_send_ns = now_ns
        if self.ca_state == CA_RECOVERY or self.ca_state == CA_CWR:
            self._reduction.note_sent(size)
        self.congestion.on_send(now_ns, in_flight_bytes + size)
        if timers.rto_ns == NEVER_NS:
            timers.rto_ns = now_ns + self.rtt.rto_ns
        if self.sack_enabled:
            recovering = self.ca_state >= CA_RECOVERY
            self._tlp.arm(self.queue, recovering, self.rtt.srtt_ns, self.mss_bytes, now_ns)
        if self.pacing.enabled:
            self._pace(size, now_ns)
        return record

    def next_retransmission(self, now_ns: i64) -> Sent | None:
        """Return what to send again now, cut to what the window allows; None for nothing."""
        record = self.queue.next_lost()
        if record is None:
            return None
        mss = self.mss_bytes
        room = self.congestion.cwnd_bytes - self.in_flight_bytes()
        if room < mss:
            if not self._force_one and room < record.end - record.seq:
                return None
            room = mss
        self._force_one = False
        if record.end - record.seq > room:
            self.queue.cut(record, record.seq + max(mss, room - room % mss))
        self._resend(record, now_ns)
        return record

    def may_probe(self) -> bool:
        """Say whether a tail loss probe is due, and none is out."""
        return self.probe_due and self._tlp.may_send() and self.queue.out_bytes > 0

    def note_probe(self, now_ns: i64) -> None:
        """New data have left as a tail loss probe (RFC 8985 section 7.3)."""
        self._end_probe(False, now_ns)

    def take_probe(self, now_ns: i64) -> Sent | None:
        """Return what leaves again now as a tail loss probe, or None."""
        self.timers.probe_ns = NEVER_NS
        self.probe_due = False
        record = self._tlp.choose(self.queue, self.mss_bytes)
        if record is not None:
            self._resend(record, now_ns)
            self._end_probe(True, now_ns)
        return record

    def _end_probe(self, resent: bool, now_ns: i64) -> None:
        self.probe_due = False
        self._tlp.note_sent(self.snd_nxt, resent)
        self.timers.probe_ns = NEVER_NS
        self.timers.rto_ns = now_ns + self.rtt.rto_ns

    def _resend(self, record: Sent, now_ns: i64) -> None:
        """Account for one more transmission of ``record``."""
        self.queue.note_resent(record, now_ns)
        size = record.end - record.seq
        counters = self.counters
        counters.resent_bytes += size - 1 if record.fin else size
        counters.resent_segments += (size + self.mss_bytes - 1) // self.mss_bytes
        self.last_send_ns = now_ns
        if self.ca_state == CA_RECOVERY:
            self._reduction.note_sent(size)
        self.congestion.on_send(now_ns, self.in_flight_bytes())
        if self._undo_stamp_ns == NOT_RESENT:
            self._undo_stamp_ns = now_ns
        if self.timers.rto_ns == NEVER_NS:
            self.timers.rto_ns = now_ns + self.rtt.rto_ns
        if self.pacing.enabled:
            self._pace(size, now_ns)

    def _pace(self, size: i64, now_ns: i64) -> None:
        rate = self.pacing_rate()
        if rate > 0 and self.counters.sent_bytes > UNPACED_SEGMENTS * self.mss_bytes:
            self.pacing.note_sent(size, rate, now_ns)

    def pacing_rate(self) -> i64:
        """Return the rate of pacing, were it on (bytes per second); 0 before there is one."""
        congestion = self.congestion
        rate: i64 = congestion.pacing_rate
        srtt_ns = self.rtt.srtt_ns
        if rate == 0 and srtt_ns > 0:
            cwnd: i64 = congestion.cwnd_bytes
            rate = window_rate(cwnd, srtt_ns, congestion.in_slow_start())
        return rate

    # Acknowledgments.

    def handle_ack(
        self,
        ack: i64,
        blocks: list[tuple[int, int]],
        echoed_sent_ns: i64,
        duplicates: i64,
        acks: i64,
        spread_ns: i64,
        now_ns: i64,
    ) -> None:
        """Take in an acceptable ACK (``snd_una <= ack <= snd_nxt``).

        ``blocks`` are SACK blocks in relative numbers, ``echoed_sent_ns`` the time our echoed
        timestamp stands for (-1 for none), ``duplicates`` for how many duplicates in the sense of
        RFC 5681 section 2 the ACK stands. It stands for ``acks`` ACKs that came over
        ``spread_ns``.
        """
        queue = self.queue
        timers = self.timers
        queue.begin_ack()
        flight_size = queue.out_bytes
        progress = ack > self.snd_una
        if progress:
            queue.acknowledge(ack)
            self.snd_una = ack
            self.dupacks = 0
            if self._user_timeout_ns:
                timers.user_timeout_ns = (
                    now_ns + self._user_timeout_ns if queue.out_bytes else NEVER_NS
                )
        if blocks:
            self._take_sacks(blocks, ack)
        self._take_rtt(progress, echoed_sent_ns, acks, spread_ns, now_ns)
        if self.ca_state != CA_OPEN:
            self._while_recovering(ack, progress, echoed_sent_ns, now_ns)
        if duplicates and not self.sack_enabled:
            self.dupacks += duplicates
            if self.dupacks >= DUP_THRESHOLD and self.ca_state < CA_RECOVERY:
                self._mark_head_lost()
                self._enter_recovery(flight_size, now_ns)
        if self._tlp.end >= 0 and (progress or duplicates):
            self._settle_probe(ack, flight_size, duplicates > 0, now_ns)
        newly_lost: i64 = 0
        if queue.sacked_bytes or queue.lost_bytes or queue.retransmitted_bytes:
            newly_lost = self.detect_losses(flight_size, now_ns)
        if self.echoed or self.ca_state == CA_RECOVERY or self.ca_state == CA_CWR:
            self._reduce(progress and newly_lost == 0, flight_size, now_ns)
        if queue.delivered_bytes > 0:
            self._sample.spread_ns = spread_ns
            queue.rate.note_acks(queue.delivered_bytes, spread_ns)
            if queue.rate.enabled:
                self._sample_rate(newly_lost, now_ns)
            self._note_delivery(progress, now_ns)

    def _reduce(self, safe: bool, flight_size: i64, now_ns: i64) -> None:
        """Bring the window down while recovering, and for marks that the peer echoes."""
        if self.echoed and self.ca_state == CA_OPEN:
            self._enter_cwr(flight_size, now_ns)
        if self._reduces():
            self.congestion.cwnd_bytes = self._reduction.window_bytes(
                self.in_flight_bytes(), self.queue.delivered_bytes, safe, self.mss_bytes
            )

    def _sample_rate(self, newly_lost: i64, now_ns: i64) -> None:
        """Work out the sample of the delivery rate for the congestion control."""
        rate = self.queue.rate
        rate.end_ack(self.rtt.min_rtt_ns, now_ns)
        sample = rate.sample
        sample.lost_bytes = newly_lost
        sample.recovering = self.ca_state == CA_RECOVERY
        sample.timed_out = self.ca_state == CA_LOSS
        allowed_ns = self.timers.pacing_ns
        sample.next_send_ns = allowed_ns if allowed_ns != NEVER_NS else now_ns

    def note_no_data(self) -> None:
        """The application has no more to send at present (tcp_rate_check_app_limited)."""
        queue = self.queue
        if queue.rate.enabled and queue.lost_bytes <= queue.retransmitted_bytes:
            in_flight = self.in_flight_bytes()
            if in_flight < self.congestion.cwnd_bytes:
                queue.rate.limit(in_flight)

    def _note_delivery(self, progress: bool, now_ns: i64) -> None:
        """Something newly arrived: tell the congestion control, and set the timers anew."""
        queue = self.queue
        timers = self.timers
        sample = self._sample
        sample.now_ns = now_ns
        sample.acked_bytes = queue.delivered_bytes
        sample.srtt_ns = self.rtt.srtt_ns
        sample.in_flight_bytes = self.in_flight_bytes()
        sample.in_recovery = self.ca_state == CA_RECOVERY or self.ca_state == CA_CWR
        sample.advanced = progress
        sample.echoed = self.echoed
        self.congestion.on_ack(sample)
        if sample.rate.limit_by_application:
            sample.rate.limit_by_application = False
            queue.rate.limit(self.in_flight_bytes())
        if queue.out_bytes:
            timers.rto_ns = now_ns + self.rtt.rto_ns
            if self.sack_enabled:
                recovering = self.ca_state >= CA_RECOVERY
                self._tlp.arm(queue, recovering, self.rtt.srtt_ns, self.mss_bytes, now_ns)
        else:
            timers.rto_ns = NEVER_NS
            timers.probe_ns = NEVER_NS
            timers.reorder_ns = NEVER_NS

    def detect_losses(self, flight_size: i64, now_ns: i64) -> i64:
        """Deem lost what RACK says, and react; return how many bytes newly are."""
        newly_lost = self._rack.detect(
            self.queue,
            self.timers,
            self.rtt,
            self.ca_state >= CA_RECOVERY,
            self.mss_bytes,
            now_ns,
        )
        if newly_lost and self.queue.rate.enabled:
            self.queue.rate.note_lost(newly_lost)
        if newly_lost and self.ca_state < CA_RECOVERY:
            self._enter_recovery(flight_size, now_ns)
        return newly_lost

    # Timers.

    def handle_rto(self, now_ns: i64) -> None:
        """The retransmission timer expired (RFC 6298 section 5, RFC 5681 section 3.1)."""
        queue = self.queue
        timers = self.timers
        self.counters.timeouts += 1
        self.rtt.back_off()
        first = self.ca_state != CA_LOSS
        if first and queue.sacked_bytes:
            head = queue.first()
            if head is not None and head.sacked:
                queue.forget_sacks()  # RFC 2018 section 8: the receiver reneged
        self._end_reduction()
        self.reduced = True
        self.congestion.on_rto(now_ns, queue.out_bytes, first)
        self.ca_state = CA_LOSS
        if first:
            self._undo_stamp_ns = NOT_RESENT
        self.recovery_point = self.snd_nxt
        self.dupacks = 0
        self._tlp.forget()
        queue.mark_all_lost()
        timers.probe_ns = NEVER_NS
        timers.reorder_ns = NEVER_NS
        timers.rto_ns = now_ns + self.rtt.rto_ns

    def resend_waiting(self, now_ns: i64) -> None:
        """What was sent again at the last timeout did not leave then, and does so now."""
        if self.rtt.timeouts and self.queue.out_bytes:
            self.queue.mark_all_lost()
            self._force_one = True
            self.timers.rto_ns = now_ns + self.rtt.rto_ns

    def change_mss(self, mss_bytes: i64) -> None:
        """Let packets carry so much from now on."""
        before_bytes = self.mss_bytes
        if mss_bytes != before_bytes:
            self.congestion.change_mss(mss_bytes)
            reduction = self._reduction
            reduction.target_bytes = reduction.target_bytes * mss_bytes // before_bytes
            self.mss_bytes = mss_bytes

    def resend_too_big(self, now_ns: i64) -> None:
        """Packets that carry more than one may now are lost: send what they carried again.

        Linux's tcp_simple_retransmit: the window stays, since the path has shown no congestion.
        """
        if not self.queue.mark_larger_lost(self.mss_bytes):
            return
        if self.ca_state != CA_LOSS:
            congestion = self.congestion
            if self.ca_state == CA_OPEN:  # tcp_current_ssthresh
                congestion.ssthresh_bytes = max(
                    congestion.ssthresh_bytes, congestion.cwnd_bytes * 3 // 4
                )
            self.ca_state = CA_LOSS
            self.recovery_point = self.snd_nxt
            self._undo_stamp_ns = -1
        self.dupacks = 0
        self._tlp.forget()
        self._force_one = True
        timers = self.timers
        timers.probe_ns = NEVER_NS
        timers.rto_ns = now_ns + self.rtt.rto_ns

    def revert_backoff(self, seq: int, now_ns: i64) -> None:
        """What was sent again did not get through for want of a way: take back one doubling of the
        timer (RFC 6069; Linux's tcp_ld_RTO_revert).
        """
        record = self.queue.first()
        if self.rtt.backoff == 0 or record is None or self.unwrap(seq) != self.snd_una:
            return
        self.rtt.revert_backoff(now_ns)
        due_ns = record.sent_ns + self.rtt.rto_ns
        self.timers.rto_ns = due_ns if due_ns > now_ns else now_ns

    def handle_syn_timeout(self, now_ns: i64, again: bool) -> None:
        """Send our SYN once more: the timer expired, or (``again``) the peer repeated its own.

        RFC 6298 section 5 applies, but the windows stay: nothing is known of the path yet.
        """
        if not again:
            self.counters.timeouts += 1
            self.rtt.back_off()
            self.timers.rto_ns = now_ns + self.rtt.rto_ns
        syn = self.queue.first()
        if syn is not None:
            self.queue.mark_lost(syn)
        self._force_one = True

    def handle_syn_acked(self, echoed_sent_ns: i64, now_ns: i64) -> None:
        """Our SYN was acknowledged; sample the RTT, by timestamps if it was sent twice (Karn)."""
        queue = self.queue
        queue.begin_ack()
        queue.acknowledge(1)
        self.snd_una = 1
        if queue.sample_sent_ns >= 0:
            self.rtt.add_sample(now_ns - queue.sample_sent_ns, now_ns)
        elif echoed_sent_ns >= 0:
            self.rtt.add_sample(now_ns - echoed_sent_ns, now_ns)
        else:
            self.rtt.restart_unsampled()
        if self.counters.timeouts:
            self.congestion.restart_after_syn_loss()
        # Karn's rule may leave no sample; schedulers that compare times need some value.
        self.congestion.srtt_ns = self.rtt.srtt_ns or self.rtt.rto_ns
        self._force_one = False
        queue.lost_queue.clear()
        self.timers.stop_sending()
        if queue.out_bytes:  # data that left before (RFC 7413)
            self.timers.rto_ns = now_ns + self.rtt.rto_ns
        else:
            self.counters.reset()

    def skip(self, size_bytes: i64) -> None:
        """Take data for sent and acknowledged that went with our SYN (RFC 7413)."""
        self.snd_una += size_bytes
        self.snd_nxt += size_bytes
        self.counters.sent_bytes += size_bytes

    # Inside.

    def _take_rtt(
        self, progress: bool, echoed_sent_ns: i64, acks: i64, spread_ns: i64, now_ns: i64
    ) -> None:
        """Sample the round trip (RFC 6298 section 3, RFC 7323 section 4), once for each ACK."""
        queue = self.queue
        rtt_ns: i64 = 0
        if queue.sample_sent_ns >= 0:
            rtt_ns = now_ns - queue.sample_sent_ns
        elif progress and queue.newest_sent_ns >= 0 and echoed_sent_ns >= 0:
            rtt_ns = now_ns - echoed_sent_ns
        first_ns = rtt_ns
        if rtt_ns > 0:
            if acks > 1 and queue.sample_first_ns >= 0:
                first_ns = now_ns - spread_ns - queue.sample_first_ns
                if first_ns <= 0:
                    first_ns = rtt_ns
            self.rtt.add_samples(first_ns, rtt_ns, acks, now_ns)
        elif progress:
            self.rtt.reset_backoff()
        self._sample.rtt_ns = first_ns if first_ns < rtt_ns else rtt_ns
        self._sample.mean_rtt_ns = (first_ns + rtt_ns) >> 1
        # What arrives out of order leaves TS.Recent, and so the echo, as it was (RFC 7323, 4.3).
        echo_ns: i64 = -1
        if progress:
            echo_ns = echoed_sent_ns
        self._rack.note_delivered(queue, self.rtt.min_rtt_ns, echo_ns, now_ns)

    def _take_sacks(self, blocks: list[tuple[int, int]], ack: i64) -> None:
        queue = self.queue
        first = blocks[0]
        if first[1] <= ack or (
            len(blocks) > 1 and first[0] >= blocks[1][0] and first[1] <= blocks[1][1]
        ):
            if not self._tlp.was_duplicate(first[1]):
                self._rack.note_duplicate_report(self.snd_una, self.snd_nxt)
            blocks = blocks[1:]
        for left, right in blocks:
            if left < right <= self.snd_nxt and right > self.snd_una:
                queue.sack(left, right)

    def _while_recovering(self, ack: i64, progress: bool, echoed_sent_ns: i64, now_ns: i64) -> None:
        # Eifel detection (RFC 3522): an ACK for the original, sent before the retransmission
        # was, shows that the loss did not happen. Timestamps tick in milliseconds.
        if (
            progress
            and echoed_sent_ns >= 0
            and self._undo_stamp_ns >= 0
            and echoed_sent_ns + TICK_NS <= self._undo_stamp_ns
        ):
            self._end_reduction()
            self.congestion.undo(now_ns)
            self._leave_recovery()
            return
        if progress and self._undo_stamp_ns >= 0:
            self._undo_stamp_ns = -1
        # As tcp_fastretrans_alert: what follows the reduction for marks says so (CWR), and until it
        # is acknowledged marks are echoed that count no more.
        if ack > self.recovery_point or (ack == self.recovery_point and self.ca_state != CA_CWR):
            if self.ca_state != CA_LOSS:
                self._end_reduction()
                self.congestion.on_recovery_exit(now_ns)
            self._leave_recovery()
        elif progress and self.ca_state == CA_RECOVERY and not self.sack_enabled:
            self._mark_head_lost()  # RFC 6582 section 3.2, step 3: a partial acknowledgment
            self._force_one = True

    def _leave_recovery(self) -> None:
        self.ca_state = CA_OPEN
        self._force_one = False
        self._undo_stamp_ns = -1
        self._rack.note_recovery_end()

    def _enter_cwr(self, flight_size: i64, now_ns: i64) -> None:
        """The peer echoes marks: reduce the window, once for what is in flight (tcp_enter_cwr)."""
        self.ca_state = CA_CWR
        self.reduced = True
        self.recovery_point = self.snd_nxt
        congestion = self.congestion
        congestion.on_mark(now_ns, flight_size)
        self._reduction.begin(congestion.cwnd_bytes, flight_size)

    def _enter_recovery(self, flight_size: i64, now_ns: i64) -> None:
        marked = self.ca_state == CA_CWR
        self.reduced = True
        self.ca_state = CA_RECOVERY
        self._force_one = True
        self.recovery_point = self.snd_nxt
        self._undo_stamp_ns = NOT_RESENT
        self.timers.probe_ns = NEVER_NS
        congestion = self.congestion
        if not marked or self.queue.rate.enabled:
            congestion.on_loss_event(now_ns, flight_size)
        else:  # reduced already; one reduction a round trip (tcp_enter_recovery)
            congestion.cwnd_bytes = self._reduction.target_bytes
        if self._reduces():
            self._reduction.begin(congestion.cwnd_bytes, flight_size)
            congestion.cwnd_bytes = self._reduction.window_bytes(
                self.in_flight_bytes(), 0, False, self.mss_bytes
            )

    def _reduces(self) -> bool:
        """Say whether the window is coming down step by step (RFC 6937, which needs SACK)."""
        if self.queue.rate.enabled:
            return False  # the congestion control sets it (tcp_cong_control)
        state = self.ca_state
        return state == CA_CWR or (state == CA_RECOVERY and self.sack_enabled)

    def _end_reduction(self) -> None:
        """Recovery is over: the window is what it was to become."""
        if self._reduces():
            self.congestion.cwnd_bytes = self._reduction.target_bytes

    def _mark_head_lost(self) -> None:
        head = self.queue.first()
        if head is not None and not head.retransmitted:
            if head.end - head.seq > self.mss_bytes:
                self.queue.cut(head, head.seq + self.mss_bytes)
            self.queue.mark_lost(head)

    def _settle_probe(self, ack: i64, flight_size: i64, duplicate: bool, now_ns: i64) -> None:
        """See what a tail loss probe told: react once to a loss that it repaired."""
        if self._tlp.repaired_loss(ack, duplicate) and self.ca_state < CA_RECOVERY:
            self.congestion.on_loss_event(now_ns, flight_size)
            self.congestion.on_recovery_exit(now_ns)
