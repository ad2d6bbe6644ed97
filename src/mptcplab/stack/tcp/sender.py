"""The sending half of a subflow: window, round-trip times, loss detection and its timers.

Loss detection is RACK-TLP (RFC 8985) over a SACK scoreboard (RFC 2018, 2883, 6675); for a peer
without SACK it is NewReno (RFC 6582). How far to open the window is the congestion control's
business (``mptcplab.stack.congestion``); what is sent next is the subflow's and the connection's.

Sequence numbers are relative to our initial one and never wrap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mptcplab.stack.congestion.base import AckSample, CongestionControl
from mptcplab.stack.tcp.receiver import NEVER_NS
from mptcplab.stack.tcp.rtt import RttEstimator
from mptcplab.stack.tcp.sent import Sent, SentQueue

if TYPE_CHECKING:
    from mypy_extensions import i64

DUP_THRESHOLD: Final = 3
"""DupThresh of RFC 6675 section 2 and RFC 8985 section 6.2."""

MAX_ACK_DELAY_NS: Final = 200_000_000
"""TLP.max_ack_delay of RFC 8985 section 7.2 (WCDelAckT)."""

FIRST_PROBE_NS: Final = 1_000_000_000
"""RFC 8985 section 7.2: the PTO without an RTT sample is 1 second."""

SHORTEST_PROBE_NS: Final = 2_000_000
"""What the PTO has beyond two round trips (Linux: TCP_TIMEOUT_MIN_US, include/net/tcp.h): where
they are shorter than sending a window takes, as on a LAN, it would come before the ACKs can."""

REORDER_PERSIST: Final = 16
"""RFC 8985 section 6.2: the reordering window falls back after 16 loss recoveries."""

PACING_SLOW_START_PERCENT: Final = 200
"""Linux's tcp_pacing_ss_ratio and tcp_pacing_ca_ratio."""
PACING_AVOIDANCE_PERCENT: Final = 120


class Sender:
    """Send state of one subflow. Windows and counts are bytes, times nanoseconds."""

    __slots__ = (
        "_newest_end",
        "_newest_rtt_ns",
        "_newest_sent_ns",
        "_probe_end",
        "_reorder_multiplier",
        "_reorder_persist",
        "_reorder_round_end",
        "_sample",
        "_undo_stamp",
        "congestion",
        "dupacks",
        "force_one",
        "in_loss",
        "in_recovery",
        "iss",
        "last_send_ns",
        "loss_events",
        "mss_bytes",
        "next_send_ns",
        "pacing",
        "probe_deadline_ns",
        "queue",
        "recovery_point",
        "reorder_deadline_ns",
        "resent_bytes",
        "resent_segments",
        "rto_deadline_ns",
        "rtt",
        "sack_enabled",
        "sent_bytes",
        "sent_trains",
        "snd_nxt",
        "snd_una",
        "stalled_since_ns",
        "timeouts",
    )

    def __init__(self, iss: int, rtt: RttEstimator, congestion: CongestionControl) -> None:
        self.iss: i64 = iss
        self.rtt: RttEstimator = rtt
        self.congestion: CongestionControl = congestion
        self.queue = SentQueue()
        self.mss_bytes: i64 = congestion.mss_bytes
        """Payload per packet that we send: the agreed MSS less our options."""
        self.snd_una: i64 = 0
        self.snd_nxt: i64 = 0
        self.sack_enabled: bool = False
        self.in_recovery: bool = False
        """In fast recovery (RFC 5681 section 3.2)."""
        self.in_loss: bool = False
        """Recovering from a retransmission timeout."""
        self.recovery_point: i64 = 0
        self.dupacks: i64 = 0
        self.force_one: bool = False
        """The first retransmission of a recovery may leave whatever the window says."""
        self.rto_deadline_ns: i64 = NEVER_NS
        self.probe_deadline_ns: i64 = NEVER_NS
        self.reorder_deadline_ns: i64 = NEVER_NS
        self.stalled_since_ns: i64 = NEVER_NS
        """Since when the oldest outstanding byte has waited without progress."""
        self.last_send_ns: i64 = 0
        self.pacing: bool = False
        self.next_send_ns: i64 = 0
        """With pacing: nothing leaves before this time."""
        self.sent_bytes: i64 = 0
        """Payload sent for the first time."""
        self.sent_trains: i64 = 0
        self.resent_bytes: i64 = 0
        """Payload sent again."""
        self.resent_segments: i64 = 0
        self.timeouts: i64 = 0
        self.loss_events: i64 = 0
        self._sample = AckSample()
        self._newest_sent_ns: i64 = -1
        self._newest_end: i64 = 0
        self._newest_rtt_ns: i64 = 0
        self._reorder_multiplier: i64 = 1
        self._reorder_persist: i64 = REORDER_PERSIST
        self._reorder_round_end: i64 = -1
        self._probe_end: i64 = -1
        self._undo_stamp: i64 = -1

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
        near = self.snd_una
        distance = (ack - self.iss - near) & 0xFFFF_FFFF
        if distance >= 0x8000_0000:
            distance -= 0x1_0000_0000
        return near + distance

    def next_deadline_ns(self) -> i64:
        """Return the earliest of the timers."""
        deadline = self.rto_deadline_ns
        if self.probe_deadline_ns < deadline:
            deadline = self.probe_deadline_ns
        if self.reorder_deadline_ns < deadline:
            deadline = self.reorder_deadline_ns
        if self.pacing and 0 < self.next_send_ns < deadline:
            deadline = self.next_send_ns
        return deadline

    # Sending.

    def record_new(
        self, end: i64, payload: bytes | None, in_flight_bytes: i64, now_ns: i64
    ) -> Sent:
        """Account for new sequence space up to ``end`` that leaves now."""
        seq = self.snd_nxt
        record = Sent(seq, end, payload, now_ns)
        queue = self.queue
        if self.snd_una == seq:
            self.stalled_since_ns = now_ns
        queue.append(record)
        self.snd_nxt = end
        size = end - seq
        self.sent_bytes += size
        self.sent_trains += 1
        self.last_send_ns = now_ns
        self.congestion.on_send(now_ns, in_flight_bytes + size)
        if self.rto_deadline_ns == NEVER_NS:
            self.rto_deadline_ns = now_ns + self.rtt.rto_ns
        self._arm_probe(now_ns)
        if self.pacing:
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
            if not self.force_one and room < record.end - record.seq:
                return None
            room = mss
        self.force_one = False
        if record.end - record.seq > room:
            self.queue.cut(record, record.seq + max(mss, room - room % mss))
        self.resend(record, now_ns)
        return record

    def resend(self, record: Sent, now_ns: i64) -> None:
        """Account for one more transmission of ``record``."""
        queue = self.queue
        queue.note_resent(record, now_ns)
        size = record.end - record.seq
        self.resent_bytes += size - 1 if record.fin else size
        self.resent_segments += (size + self.mss_bytes - 1) // self.mss_bytes
        self.last_send_ns = now_ns
        self.congestion.on_send(now_ns, self.in_flight_bytes())
        if self._undo_stamp == -2:
            self._undo_stamp = now_ns
        if self.rto_deadline_ns == NEVER_NS:
            self.rto_deadline_ns = now_ns + self.rtt.rto_ns
        if self.pacing:
            self._pace(size, now_ns)

    # Acknowledgments.

    def handle_ack(
        self,
        ack: i64,
        blocks: list[tuple[int, int]],
        echoed_sent_ns: i64,
        duplicate: bool,
        now_ns: i64,
    ) -> None:
        """Take in an acceptable ACK (``snd_una <= ack <= snd_nxt``).

        ``blocks`` are SACK blocks in relative numbers, ``echoed_sent_ns`` the time our echoed
        timestamp stands for (-1 for none), ``duplicate`` whether the ACK is a duplicate in the
        sense of RFC 5681 section 2.
        """
        queue = self.queue
        queue.begin_ack()
        flight_size = queue.out_bytes
        progress = ack > self.snd_una
        if progress:
            queue.acknowledge(ack)
            self.snd_una = ack
            self.dupacks = 0
            if queue.out_bytes:
                self.stalled_since_ns = now_ns
            else:
                self.stalled_since_ns = NEVER_NS
        if blocks:
            self._take_sacks(blocks, ack)
        rtt_ns = self._take_rtt(progress, echoed_sent_ns, now_ns)
        if self.in_recovery or self.in_loss:
            self._while_recovering(ack, progress, echoed_sent_ns, now_ns)
        if duplicate and not self.sack_enabled:
            self.dupacks += 1
            if self.dupacks >= DUP_THRESHOLD and not self.in_recovery and not self.in_loss:
                self._mark_head_lost()
                self._enter_recovery(flight_size, now_ns)
        if self._probe_end >= 0 and (progress or duplicate):
            self._settle_probe(ack, flight_size, duplicate, now_ns)
        if queue.sacked_bytes or queue.lost_bytes or queue.retransmitted_bytes:
            self.detect_losses(flight_size, now_ns)
        if queue.delivered_bytes > 0:
            sample = self._sample
            sample.now_ns = now_ns
            sample.acked_bytes = queue.delivered_bytes
            sample.rtt_ns = rtt_ns
            sample.srtt_ns = self.rtt.srtt_ns
            sample.in_flight_bytes = self.in_flight_bytes()
            sample.in_recovery = self.in_recovery
            self.congestion.on_ack(sample)
            if queue.out_bytes:
                self.rto_deadline_ns = now_ns + self.rtt.rto_ns
                self._arm_probe(now_ns)
            else:
                self.rto_deadline_ns = NEVER_NS
                self.probe_deadline_ns = NEVER_NS
                self.reorder_deadline_ns = NEVER_NS

    def detect_losses(self, flight_size: i64, now_ns: i64) -> None:
        """Deem lost what RACK says (RFC 8985 section 6.2, step 5), and react."""
        queue = self.queue
        self.reorder_deadline_ns = NEVER_NS
        newest_ns = self._newest_sent_ns
        if newest_ns < 0:
            return
        window_ns = self._reorder_window_ns()
        newly_lost: i64 = 0
        following = queue.oldest
        while following is not None:
            record = following
            following = record.newer
            if record.lost and not record.retransmitted:
                queue.unlink(record)
                continue
            sent_ns = record.sent_ns
            if sent_ns > newest_ns or (sent_ns == newest_ns and record.end >= self._newest_end):
                break
            deadline_ns = sent_ns + self._newest_rtt_ns + window_ns
            if deadline_ns > now_ns:
                self.reorder_deadline_ns = deadline_ns
                break
            queue.unlink(record)
            newly_lost += queue.mark_lost(record)
        if newly_lost and not self.in_recovery and not self.in_loss:
            self._enter_recovery(flight_size, now_ns)

    # Timers.

    def handle_rto(self, now_ns: i64) -> None:
        """The retransmission timer expired (RFC 6298 section 5, RFC 5681 section 3.1)."""
        queue = self.queue
        self.timeouts += 1
        self.rtt.back_off()
        first = not self.in_loss
        if first and queue.sacked_bytes:
            head = queue.first()
            if head is not None and head.sacked:
                queue.forget_sacks()  # RFC 2018 section 8: the receiver reneged
        self.congestion.on_rto(now_ns, queue.out_bytes, first)
        if self.in_recovery:
            self.in_recovery = False
        self.in_loss = True
        if first:
            self._undo_stamp = -2
        self.recovery_point = self.snd_nxt
        self.dupacks = 0
        self._probe_end = -1
        queue.mark_all_lost()
        self.probe_deadline_ns = NEVER_NS
        self.reorder_deadline_ns = NEVER_NS
        self.rto_deadline_ns = now_ns + self.rtt.rto_ns

    def handle_syn_timeout(self, now_ns: i64, again: bool) -> None:
        """Send our SYN once more: the timer expired, or (``again``) the peer repeated its own.

        RFC 6298 section 5 applies, but the windows stay: nothing is known of the path yet.
        """
        if not again:
            self.timeouts += 1
            self.rtt.back_off()
            self.rto_deadline_ns = now_ns + self.rtt.rto_ns
        self.queue.mark_all_lost()
        self.force_one = True

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
        if self.timeouts:
            self.congestion.restart_after_syn_loss()
        # Karn's rule may leave no sample; schedulers that compare times need some value.
        self.congestion.srtt_ns = self.rtt.srtt_ns or self.rtt.rto_ns
        self.force_one = False
        queue.lost_queue.clear()
        self.stop()
        self.sent_bytes = 0
        self.sent_trains = 0
        self.resent_bytes = 0
        self.resent_segments = 0
        self.timeouts = 0

    def take_probe(self, now_ns: i64) -> Sent | None:
        """Return the segment of a tail loss probe (RFC 8985 section 7.3), or None.

        DEVIATION: the probe is always the last segment sent, never new data: which subflow new
        data take is the scheduler's to say.
        """
        self.probe_deadline_ns = NEVER_NS
        last = self.queue.last()
        if last is None or self._probe_end >= 0 or last.sacked or last.lost:
            return None
        mss = self.mss_bytes
        size = last.end - last.seq
        if size > mss:
            self.queue.cut(last, last.seq + (size - 1) // mss * mss)
            last = self.queue.last()
            if last is None:
                return None
        self._probe_end = self.snd_nxt
        self.resend(last, now_ns)
        self.rto_deadline_ns = now_ns + self.rtt.rto_ns
        return last

    def stop(self) -> None:
        """Stop all timers: nothing is to be sent any more."""
        self.rto_deadline_ns = NEVER_NS
        self.probe_deadline_ns = NEVER_NS
        self.reorder_deadline_ns = NEVER_NS
        self.stalled_since_ns = NEVER_NS
        self.next_send_ns = 0

    # Inside.

    def _take_rtt(self, progress: bool, echoed_sent_ns: i64, now_ns: i64) -> i64:
        """Sample the RTT (RFC 6298 section 3, RFC 7323 section 4); return it, 0 for none."""
        queue = self.queue
        rtt_ns = 0
        if queue.sample_sent_ns >= 0:
            rtt_ns = now_ns - queue.sample_sent_ns
        elif progress and queue.newest_sent_ns >= 0 and echoed_sent_ns >= 0:
            rtt_ns = now_ns - echoed_sent_ns
        if rtt_ns > 0:
            self.rtt.add_sample(rtt_ns, now_ns)
        elif progress:
            self.rtt.reset_backoff()
        newest_ns = queue.newest_sent_ns
        if newest_ns >= 0:
            age_ns = now_ns - newest_ns
            if not queue.newest_resent or (
                age_ns >= self.rtt.min_rtt_ns
                and (echoed_sent_ns < 0 or echoed_sent_ns + 1_000_000 > newest_ns)
            ):
                self._newest_rtt_ns = age_ns
                if newest_ns > self._newest_sent_ns or (
                    newest_ns == self._newest_sent_ns and queue.newest_end > self._newest_end
                ):
                    self._newest_sent_ns = newest_ns
                    self._newest_end = queue.newest_end
        return rtt_ns

    def _take_sacks(self, blocks: list[tuple[int, int]], ack: i64) -> None:
        queue = self.queue
        first = blocks[0]
        if first[1] <= ack or (
            len(blocks) > 1 and first[0] >= blocks[1][0] and first[1] <= blocks[1][1]
        ):
            self._take_duplicate_report(first)
            blocks = blocks[1:]
        for left, right in blocks:
            if left < right <= self.snd_nxt and right > self.snd_una:
                queue.sack(left, right)

    def _take_duplicate_report(self, block: tuple[int, int]) -> None:
        """A D-SACK: we retransmitted in vain; widen the reordering window once per round trip."""
        if self._probe_end >= 0 and block[1] >= self._probe_end:
            self._probe_end = -1  # RFC 8985 section 7.4.2: the original arrived as well
            return
        if self._reorder_round_end < 0 or self.snd_una >= self._reorder_round_end:
            self._reorder_round_end = self.snd_nxt
            self._reorder_multiplier += 1
            self._reorder_persist = REORDER_PERSIST

    def _while_recovering(self, ack: i64, progress: bool, echoed_sent_ns: i64, now_ns: i64) -> None:
        # Eifel detection (RFC 3522): an ACK for the original, sent before the retransmission
        # was, shows that the loss did not happen. Timestamps tick in milliseconds.
        if (
            progress
            and echoed_sent_ns >= 0
            and self._undo_stamp >= 0
            and echoed_sent_ns + 1_000_000 <= self._undo_stamp
        ):
            self.congestion.undo(now_ns)
            self._leave_recovery()
            return
        if progress and self._undo_stamp >= 0:
            self._undo_stamp = -1
        if ack >= self.recovery_point:
            if self.in_recovery:
                self.congestion.on_recovery_exit(now_ns)
            self._leave_recovery()
        elif progress and self.in_recovery and not self.sack_enabled:
            self._mark_head_lost()  # RFC 6582 section 3.2, step 3: a partial acknowledgment
            self.force_one = True

    def _leave_recovery(self) -> None:
        self.in_recovery = False
        self.in_loss = False
        self.force_one = False
        self._undo_stamp = -1
        if self._reorder_persist > 0:
            self._reorder_persist -= 1
            if self._reorder_persist == 0:
                self._reorder_multiplier = 1

    def _enter_recovery(self, flight_size: i64, now_ns: i64) -> None:
        self.in_recovery = True
        self.force_one = True
        self.recovery_point = self.snd_nxt
        self.loss_events += 1
        self._undo_stamp = -2
        self.probe_deadline_ns = NEVER_NS
        self.congestion.on_loss_event(now_ns, flight_size)

    def _mark_head_lost(self) -> None:
        head = self.queue.first()
        if head is not None and not head.retransmitted:
            if head.end - head.seq > self.mss_bytes:
                self.queue.cut(head, head.seq + self.mss_bytes)
            self.queue.mark_lost(head)

    def _reorder_window_ns(self) -> i64:
        """Return RACK.reo_wnd (RFC 8985 section 6.2, step 4)."""
        queue = self.queue
        if not queue.reordered and (
            self.in_recovery or self.in_loss or queue.sacked_bytes >= DUP_THRESHOLD * self.mss_bytes
        ):
            return 0
        window_ns = self._reorder_multiplier * self.rtt.min_rtt_ns // 4
        return window_ns if window_ns < self.rtt.srtt_ns else self.rtt.srtt_ns

    def _arm_probe(self, now_ns: i64) -> None:
        """Schedule a tail loss probe (RFC 8985 section 7.2)."""
        queue = self.queue
        if (
            self.in_recovery
            or self.in_loss
            or queue.sacked_bytes
            or self._probe_end >= 0
            or not self.sack_enabled
        ):
            self.probe_deadline_ns = NEVER_NS
            return
        srtt_ns = self.rtt.srtt_ns
        timeout_ns = 2 * srtt_ns if srtt_ns else FIRST_PROBE_NS
        if queue.out_bytes <= self.mss_bytes:
            timeout_ns += MAX_ACK_DELAY_NS
        else:
            timeout_ns += SHORTEST_PROBE_NS
        deadline_ns = now_ns + timeout_ns
        self.probe_deadline_ns = (
            deadline_ns if deadline_ns < self.rto_deadline_ns else self.rto_deadline_ns
        )

    def _settle_probe(self, ack: i64, flight_size: i64, duplicate: bool, now_ns: i64) -> None:
        """See what a tail loss probe told (RFC 8985 section 7.4)."""
        if ack <= self._probe_end:
            if duplicate and ack == self._probe_end:
                self._probe_end = -1  # the original and the probe both arrived
            return
        self._probe_end = -1
        if not self.in_recovery and not self.in_loss:
            # The probe repaired a loss: react once, as to any other.
            self.loss_events += 1
            self.congestion.on_loss_event(now_ns, flight_size)
            self.congestion.on_recovery_exit(now_ns)

    def _pace(self, size: i64, now_ns: i64) -> None:
        congestion = self.congestion
        srtt_ns = self.rtt.srtt_ns
        if srtt_ns == 0:
            return
        percent = (
            PACING_SLOW_START_PERCENT if congestion.in_slow_start() else PACING_AVOIDANCE_PERCENT
        )
        start_ns = self.next_send_ns if self.next_send_ns > now_ns else now_ns
        self.next_send_ns = start_ns + size * srtt_ns * 100 // (congestion.cwnd_bytes * percent)
