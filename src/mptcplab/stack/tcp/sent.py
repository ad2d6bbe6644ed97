"""What a subflow has sent and not had acknowledged: the retransmission queue and SACK scoreboard.

Sequence numbers here are relative to the initial one and never wrap: the SYN is 0, the first
payload byte 1 (as in an MPTCP mapping's subflow sequence number). One :class:`Sent` is one train
as it left; it is cut where an acknowledgment ends inside it.

Counted bytes follow RFC 6675 and Linux: a record is *sacked* (RFC 2018), or *lost* (deemed so),
and *retransmitted* while a retransmission of it is believed in flight; what is in flight is

    out - sacked - lost + retransmitted
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mptcplab.compiling import mypyc_attr
from mptcplab.stack.tcp.delivery_rate import DeliveryRate, SentState

if TYPE_CHECKING:
    from mypy_extensions import i64


@mypyc_attr(free_list_len=1)
class Sent:
    """One train in flight. ``end - seq`` counts the SYN or FIN where it carries one."""

    __slots__ = (
        "checksum",
        "done",
        "end",
        "fin",
        "lost",
        "map_length",
        "map_ssn",
        "newer",
        "offset",
        "older",
        "payload",
        "rate_state",
        "retransmitted",
        "sacked",
        "sends",
        "sent_ns",
        "seq",
        "spread_ns",
        "syn",
        "timed",
    )

    def __init__(self, seq: i64, end: i64, payload: bytes | None, sent_ns: i64) -> None:
        self.seq: i64 = seq
        self.end: i64 = end
        self.payload: bytes | None = payload
        self.sent_ns: i64 = sent_ns
        """When it last left, its last packet if it is a train."""
        self.spread_ns: i64 = 0
        """How long before that the first packet left."""
        self.sends: i64 = 1
        self.sacked: bool = False
        self.lost: bool = False
        self.retransmitted: bool = False
        self.done: bool = False
        """Cumulatively acknowledged, or replaced by its halves."""
        self.syn: bool = False
        self.fin: bool = False
        self.timed: bool = False
        """Linked by ``older`` and ``newer`` into the queue's order of transmission."""
        self.older: Sent | None = None
        self.newer: Sent | None = None
        self.offset: i64 = 0
        """Stream offset of the first byte of the mapping that carries this train."""
        self.map_ssn: i64 = 0
        """First subflow sequence number of that mapping; 0 where there is none."""
        self.map_length: i64 = 0
        self.checksum: i64 = -1
        """DSS checksum of that mapping, -1 for none."""
        self.rate_state: SentState | None = None
        """What it noted for samples of the delivery rate, where these are wanted."""

    def fork(self, seq: i64, end: i64) -> Sent:
        """Return a record for the part ``seq`` to ``end`` of this one, in the same condition."""
        payload = self.payload
        if payload is not None:
            payload = payload[seq - self.seq : end - self.seq]
        part = Sent(seq, end, payload, self.sent_ns)
        if self.spread_ns > 0:
            size = self.end - self.seq
            part.sent_ns -= self.spread_ns * (self.end - end) // size
            part.spread_ns = self.spread_ns * (end - seq) // size
        part.sends = self.sends
        part.sacked = self.sacked
        part.lost = self.lost
        part.retransmitted = self.retransmitted
        part.offset = self.offset
        part.map_ssn = self.map_ssn
        part.map_length = self.map_length
        part.checksum = self.checksum
        part.rate_state = self.rate_state
        return part

    def keep_from(self, seq: i64) -> None:
        """Drop everything before ``seq``."""
        if self.payload is not None:
            self.payload = self.payload[seq - self.seq :]
        if self.spread_ns > 0:
            self.spread_ns = self.spread_ns * (self.end - seq) // (self.end - self.seq)
        self.seq = seq

    def keep_to(self, end: i64) -> None:
        """Drop everything from ``end`` on."""
        if self.payload is not None:
            self.payload = self.payload[: end - self.seq]
        if self.spread_ns > 0:
            size = self.end - self.seq
            self.sent_ns -= self.spread_ns * (self.end - end) // size
            self.spread_ns = self.spread_ns * (end - self.seq) // size
        self.end = end


class SentQueue:
    """The records in sequence order, the counts over them, and what the last ACK delivered."""

    __slots__ = (
        "_head",
        "_records",
        "delivered_bytes",
        "fack",
        "highest_sacked",
        "lost_bytes",
        "lost_queue",
        "newest",
        "newest_end",
        "newest_resent",
        "newest_sent_ns",
        "oldest",
        "out_bytes",
        "rate",
        "reordered",
        "retransmitted_bytes",
        "sacked_bytes",
        "sample_first_ns",
        "sample_sent_ns",
    )

    def __init__(self) -> None:
        self._records: list[Sent] = []
        self._head: i64 = 0
        self.oldest: Sent | None = None
        self.newest: Sent | None = None
        """Ends of the list of what may yet be deemed lost, in the order in which it last left (as
        Linux's tsorted_sent_queue)."""
        self.rate = DeliveryRate()
        self.lost_queue: deque[Sent] = deque()
        """Records to retransmit, in the order they were deemed lost."""
        self.out_bytes: i64 = 0
        self.sacked_bytes: i64 = 0
        self.lost_bytes: i64 = 0
        self.retransmitted_bytes: i64 = 0
        self.fack: i64 = 0
        """Highest sequence number known delivered (RACK.fack of RFC 8985)."""
        self.highest_sacked: i64 = 0
        self.delivered_bytes: i64 = 0
        """Newly delivered by the ACK in hand, by whatever means."""
        self.sample_sent_ns: i64 = -1
        """When the newest delivered record that was sent only once left; -1 for none."""
        self.sample_first_ns: i64 = -1
        """When the first packet of the oldest such record did."""
        self.newest_sent_ns: i64 = -1
        """When the newest delivered record left, however often it was sent; -1 for none."""
        self.newest_end: i64 = 0
        self.newest_resent: bool = False
        self.reordered: bool = False
        """Some record was delivered after one beyond it, without having been sent again."""

    def __len__(self) -> int:
        return len(self._records) - self._head

    def in_flight_bytes(self) -> i64:
        """Return the pipe of RFC 6675."""
        return self.out_bytes - self.sacked_bytes - self.lost_bytes + self.retransmitted_bytes

    def records(self) -> list[Sent]:
        """Return the outstanding records in sequence order."""
        return self._records[self._head :]

    def first(self) -> Sent | None:
        """Return the oldest outstanding record."""
        return self._records[self._head] if self._head < len(self._records) else None

    def last(self) -> Sent | None:
        """Return the newest outstanding record."""
        return self._records[-1] if self._head < len(self._records) else None

    def append(self, record: Sent) -> None:
        """Add a record that left just now."""
        self._records.append(record)
        if self.rate.enabled:
            record.rate_state = self.rate.note_sent(self.out_bytes, record.sent_ns)
        self.out_bytes += record.end - record.seq
        self._link(record)

    def lose_unsent(self, record: Sent) -> None:
        """Deem a record lost that was appended and has not left yet."""
        record.lost = True
        self.lost_bytes += record.end - record.seq
        self.lost_queue.append(record)

    def note_resent(self, record: Sent, now_ns: i64) -> None:
        """Account for one more transmission of ``record``."""
        record.sent_ns = now_ns
        record.sends += 1
        if self.rate.enabled:
            record.rate_state = self.rate.note_sent(self.out_bytes, now_ns)
        if not record.retransmitted:
            record.retransmitted = True
            self.retransmitted_bytes += record.end - record.seq
        if record.timed:
            self.unlink(record)
        self._link(record)

    def begin_ack(self) -> None:
        """Forget what the previous ACK delivered."""
        self.delivered_bytes = 0
        self.sample_sent_ns = -1
        self.sample_first_ns = -1
        self.newest_sent_ns = -1
        self.newest_end = 0
        self.newest_resent = False
        if self.rate.enabled:
            self.rate.begin_ack(self.in_flight_bytes())

    def acknowledge(self, una: i64) -> None:
        """Take out everything before ``una`` (a cumulative acknowledgment)."""
        records = self._records
        head = self._head
        count = len(records)
        while head < count:
            record = records[head]
            if record.end <= una:
                head += 1
                record.done = True
                if record.timed:
                    self.unlink(record)
            elif record.seq < una:
                record = self._cut_front(record, una)
            else:
                break
            size = record.end - record.seq
            self.out_bytes -= size
            if record.sacked:
                self.sacked_bytes -= size
            else:
                self._delivered(record, size)
            if not record.done:
                break
        if head > 64 and head * 2 > count:
            del records[:head]
            head = 0
        self._head = head
        if self.fack < una:
            self.fack = una

    def sack(self, left: i64, right: i64) -> None:
        """Mark ``left`` to ``right`` as received (RFC 2018)."""
        records = self._records
        index = self._find(left)
        while index < len(records):
            record = records[index]
            if record.seq >= right:
                break
            if not record.sacked:
                if record.seq < left:
                    index = self._split(index, left)
                    continue
                if record.end > right:
                    # The object that stays outstanding keeps its place in time: cut the front.
                    front = self._cut_front(record, right)
                    records.insert(index, front)
                    record = front
                size = record.end - record.seq
                self._delivered(record, size)
                record.sacked = True
                if record.timed:
                    self.unlink(record)
                self.sacked_bytes += size
                if record.end > self.fack:
                    self.fack = record.end
                if record.end > self.highest_sacked:
                    self.highest_sacked = record.end
            index += 1

    def mark_lost(self, record: Sent) -> i64:
        """Deem a record (or its retransmission) lost; return how many bytes that newly are."""
        size = record.end - record.seq
        if record.retransmitted:
            record.retransmitted = False
            self.retransmitted_bytes -= size
            if record.lost:
                self.lost_queue.append(record)
                return size
        if record.lost or record.sacked:
            return 0
        if self.lost_bytes == 0:
            self.lost_queue.clear()  # what is left in it is settled
        record.lost = True
        self.lost_bytes += size
        self.lost_queue.append(record)
        return size

    def mark_all_lost(self) -> None:
        """Deem everything lost that is not sacked (after a retransmission timeout)."""
        self.lost_queue.clear()
        for index in range(self._head, len(self._records)):
            record = self._records[index]
            if record.timed:
                self.unlink(record)
            if record.sacked:
                continue
            size = record.end - record.seq
            if record.retransmitted:
                record.retransmitted = False
                self.retransmitted_bytes -= size
            if not record.lost:
                record.lost = True
                self.lost_bytes += size
            self.lost_queue.append(record)

    def mark_larger_lost(self, size_bytes: i64) -> i64:
        """Deem lost what is larger than ``size_bytes``; return how many bytes newly are."""
        newly_lost: i64 = 0
        for index in range(self._head, len(self._records)):
            record = self._records[index]
            if record.end - record.seq > size_bytes and not record.sacked:
                newly_lost += self.mark_lost(record)
        return newly_lost

    def forget_sacks(self) -> None:
        """Forget what was sacked: the receiver may have reneged (RFC 2018 section 8)."""
        for index in range(self._head, len(self._records)):
            self._records[index].sacked = False
        self.sacked_bytes = 0
        self.highest_sacked = 0

    def next_lost(self) -> Sent | None:
        """Return the next record to retransmit, or None."""
        queue = self.lost_queue
        while queue:
            record = queue[0]
            if record.done or record.sacked or record.retransmitted or not record.lost:
                queue.popleft()
                continue
            return record
        return None

    def cut(self, record: Sent, end: i64) -> None:
        """Split an outstanding record at ``end``; ``record`` keeps the front part."""
        index = self._find(record.seq)
        self._split(index, end)

    def _link(self, record: Sent) -> None:
        """Note that a record left last of all."""
        last = self.newest
        record.timed = True
        record.older = last
        if last is None:
            self.oldest = record
        else:
            last.newer = record
        self.newest = record

    def unlink(self, record: Sent) -> None:
        """Take a record out of the order of transmission."""
        older = record.older
        newer = record.newer
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self.newest = older
        else:
            newer.older = older
        record.older = None
        record.newer = None
        record.timed = False

    def _delivered(self, record: Sent, size: i64) -> None:
        self.delivered_bytes += size
        if record.rate_state is not None:
            self.rate.note_delivered(record.rate_state, record.sent_ns, size)
        if record.lost:
            self.lost_bytes -= size
            record.lost = False
        if record.retransmitted:
            self.retransmitted_bytes -= size
            record.retransmitted = False
        sent_ns = record.sent_ns
        if record.sends == 1:
            if sent_ns > self.sample_sent_ns:
                self.sample_sent_ns = sent_ns
            first_ns = sent_ns - record.spread_ns
            if first_ns < self.sample_first_ns or self.sample_first_ns < 0:
                self.sample_first_ns = first_ns
            if record.end < self.fack:
                self.reordered = True
        if sent_ns > self.newest_sent_ns or (
            sent_ns == self.newest_sent_ns and record.end > self.newest_end
        ):
            self.newest_sent_ns = sent_ns
            self.newest_end = record.end
            self.newest_resent = record.sends > 1

    def _find(self, seq: i64) -> i64:
        """Return the index of the first record that ends after ``seq``."""
        records = self._records
        low = self._head
        high = len(records)
        while low < high:
            middle = (low + high) >> 1
            if records[middle].end <= seq:
                low = middle + 1
            else:
                high = middle
        return low

    def _cut_front(self, record: Sent, seq: i64) -> Sent:
        """Return a record, not in the queue, for what ``record`` held before ``seq``."""
        front = record.fork(record.seq, seq)
        front.syn = record.syn
        record.syn = False
        record.keep_from(seq)
        return front

    def _split(self, index: i64, seq: i64) -> i64:
        """Split the record at ``index`` at ``seq``; return the index of the new second half."""
        record = self._records[index]
        rest = record.fork(seq, record.end)
        rest.fin = record.fin
        record.fin = False
        record.keep_to(seq)
        self._records.insert(index + 1, rest)
        if record.timed:
            following = record.newer
            rest.timed = True
            rest.older = record
            rest.newer = following
            record.newer = rest
            if following is None:
                self.newest = rest
            else:
                following.older = rest
        if rest.lost and not rest.retransmitted:
            self.lost_queue.insert(1 if self.lost_queue else 0, rest)
        return index + 1
