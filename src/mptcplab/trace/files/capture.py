"""Opening capture files: compression, formats, blocks of bytes, batches of packets."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import PADDING, Bytes, Heads, Ints, windows
from mptcplab.trace.files.batch import BATCH_PACKETS, Batch, CaptureError, Damage
from mptcplab.trace.files.pcap import FILE_HEADER_BYTES, PcapFormat, is_pcap
from mptcplab.trace.files.pcapng import (
    ENHANCED_PACKET,
    INTERFACE_DESCRIPTION,
    PACKET,
    SECTION_HEADER,
    SIMPLE_PACKET,
    PcapngFormat,
    is_pcapng,
)
from mptcplab.trace.files.record_chain import IS_COMPILED
from mptcplab.trace.files.record_scan import (
    RecordFormat,
    Walk,
    between_damage,
    resume,
    walk,
    without_damage,
)
from mptcplab.trace.files.sources import (
    MoreComes,
    Source,
    broken_compression,
    is_stream,
    read_up_to,
)

_BLOCK_BYTES: Final = 4 << 20
_FIRST_BLOCK_BYTES: Final = 1 << 18

_RECORD_BYTES: Final = 1 << 18
"""Of what may be part of a record that goes on in the next block."""
_MOST_BYTE_ORDERS: Final = 100
"""Of a file's sections, one after the other: after each the block of bytes is read again."""
_MOST_DAMAGE: Final = 1000
"""Damaged packets of a file that are listed."""

Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes in the file) of the file as it is on disk."""


class CaptureFile:
    """One capture file, read from start to end; ``damage`` is filled while reading."""

    def __init__(
        self,
        path: Path,
        progress: Progress | None = None,
        number: int = 0,
        more_comes: MoreComes | None = None,
        source: Source | None = None,
    ) -> None:
        """Open ``path``; raises ``CaptureError`` where it cannot be read as a capture.

        ``number`` is its place among the merged files.  With ``more_comes`` a file that is still
        written is read on as it grows, see ``sources``.
        """
        self.damage: list[Damage] = []
        self._is_broken = False
        """Whether its compression broke."""
        self.packets = 0
        self._latest_ns = 0
        self._progress = progress
        self._number = number
        self._source = Source(path, more_comes) if source is None else source
        self._stream = self._source.stream
        head = self._read_some(FILE_HEADER_BYTES)
        self._head = head
        if not is_pcap(head) and not is_pcapng(head):
            self._source.close()
            what = self.damage[0].reason if self.damage else _what_it_is(head)
            raise CaptureError(f"{self._source.name}: {what}, expected a pcap or pcapng file")
        self.format_name = "pcap" if is_pcap(head) else "pcapng"

    def batches(self) -> Iterator[Batch]:
        """Yield the packets in order, at most ``BATCH_PACKETS`` at a time."""
        try:
            if self.format_name == "pcap":
                yield from self._pcap()
            else:
                yield from self._pcapng()
        except CaptureError as error:
            raise CaptureError(f"{self._source.name}: {error}") from None
        finally:
            self._source.close()

    def close(self) -> None:
        """Close a file whose batches are not read."""
        self._source.close()

    def _read_some(self, size: int) -> bytes:
        """Read ``size`` bytes, fewer at the end of the file or where its compression breaks."""
        return read_up_to(size, self._read_into)

    def _read_into(self, buffer: memoryview) -> int:
        """Fill the buffer, of a growing file with what is there; returns the bytes read.

        They are fewer at the end of the file or where its compression breaks.
        """
        done = 0
        while done < len(buffer):
            try:
                count = self._stream.readinto(buffer[done:])
            except broken_compression() as error:
                self.damage.append(
                    Damage(self.packets + 1, f"the compressed file is broken here: {error}")
                )
                self._stream = io.BytesIO()
                self._is_broken = True
                break
            if not count:
                break
            done += count
            if self._source.is_growing:
                break
        return done

    def _blocks(self, form: RecordFormat, head: bytes) -> Iterator[tuple[Bytes, Walk]]:
        """Yield (bytes, records) until the file ends, but for damage between them."""
        leftover = np.frombuffer(head, dtype=np.uint8)
        want = _FIRST_BLOCK_BYTES
        mean_bytes = 0
        lost_bytes: int | None = None
        """Left out since records broke off, None while they follow one another."""
        while True:
            data, fresh = self._block(leftover, max(want, leftover.size))
            stop = leftover.size + fresh
            if not mean_bytes and lost_bytes is None:
                form.begin(data, stop)
            at = 0
            while True:
                if lost_bytes is not None:
                    found = resume(form, data, at, stop, stop, last=not fresh)
                    end = (
                        (max(at, stop - _RECORD_BYTES) if fresh else stop)
                        if found is None
                        else found
                    )
                    alone = between_damage(form, data, at, end, found)
                    if alone.offsets.size:
                        lost_bytes = self._note_between(form, alone, at, lost_bytes)
                        yield data, alone
                        at = alone.end
                    if found is None:
                        break
                    lost_bytes += found - at
                    if lost_bytes:
                        self._note_lost(lost_bytes)
                    at, lost_bytes = found, None
                records = walk(form, data, at, stop, mean_bytes)
                records = without_damage(form, data, records, stop, last=not fresh)
                if records.offsets.size:
                    yield data, records
                    mean_bytes = (records.end - at) // records.offsets.size
                    mean_bytes = max(mean_bytes, form.header_bytes)
                at = records.end
                if not records.damaged:
                    break
                at, lost_bytes = at + 1, 1
            if lost_bytes is not None:  # a record may begin in the last bytes
                kept = max(at, stop - _RECORD_BYTES) if fresh else stop
                at, lost_bytes = kept, lost_bytes + kept - at
            leftover = data[at:stop]
            if not fresh:
                if lost_bytes:
                    self._note_damage(
                        f"the file is damaged from here on: {lost_bytes:,} bytes to its end are "
                        "left out"
                    )
                elif lost_bytes is None and leftover.size:
                    self._note_damage("the file ends in the middle of this packet")
                return
            want = _BLOCK_BYTES

    def _note_between(self, form: RecordFormat, alone: Walk, at: int, lost_bytes: int) -> int:
        """Note what is lost before each of the records; ``lost_bytes`` are before ``at``.

        Returns how many are lost since the last of them.
        """
        sizes = form.sizes(alone.heads).tolist()
        for ahead, (offset, size) in enumerate(zip(alone.offsets.tolist(), sizes, strict=True)):
            lost_bytes += offset - at
            if lost_bytes:
                self._note_lost(lost_bytes, ahead)
            at, lost_bytes = offset + size, 0
        return lost_bytes

    def _note_lost(self, lost_bytes: int, ahead: int = 0) -> None:
        self._note_damage(f"{lost_bytes:,} bytes before it are no record: they are left out", ahead)

    def _block(self, leftover: Bytes, want: int) -> tuple[Bytes, int]:
        """Return what was left over with up to ``want`` bytes more, and how many these are."""
        data = np.empty(leftover.size + want + PADDING, dtype=np.uint8)
        data[: leftover.size] = leftover
        fresh = self._read_into(data.data[leftover.size : leftover.size + want])
        if self._progress is not None:
            self._progress(self._source.position(), self._source.size)
        data = data[: leftover.size + fresh + PADDING]
        data[leftover.size + fresh :] = 0
        if IS_COMPILED:  # as compiled loops read them
            data = np.frombuffer(data.tobytes(), dtype=np.uint8)
        return data, fresh

    def _note_damage(self, reason: str, ahead: int = 0) -> None:
        """Note damage before the packet that comes next, or so many further on."""
        # Broken compression already explains why the file ends early.
        if not self._is_broken and len(self.damage) < _MOST_DAMAGE:
            self.damage.append(Damage(self.packets + 1 + ahead, reason))

    def _batch(
        self,
        data: Bytes,
        offset: Ints,
        lengths: tuple[Ints, Ints],
        time_ns: Ints,
        link_type: NDArray[np.int32],
    ) -> Iterator[Batch]:
        number = np.arange(self.packets + 1, self.packets + 1 + offset.size, dtype=np.int64)
        source = np.full(offset.size, self._number, dtype=np.int32)
        whole = Batch(data, offset, *lengths, time_ns, link_type, number, source)
        for first in range(0, offset.size, BATCH_PACKETS):
            part = whole.take(slice(first, first + BATCH_PACKETS))
            yield part
            self.packets += len(part)

    def _pcap(self) -> Iterator[Batch]:
        form = PcapFormat(self._head)
        for data, records in self._blocks(form, b""):
            at = records.offsets
            link_type = np.full(at.size, form.link_type, dtype=np.int32)
            time_ns, captured, original = form.headers(records.heads)
            form.reference_s = int(time_ns[-1] // 1_000_000_000)
            lengths = (captured, original)
            yield from self._batch(data, at + form.header_bytes, lengths, time_ns, link_type)

    def _pcapng(self) -> Iterator[Batch]:
        head = self._head
        for _ in range(_MOST_BYTE_ORDERS):
            form = PcapngFormat(head)
            following: bytes | None = None
            for data, records in self._blocks(form, head):
                at, heads = records.offsets, records.heads
                cut = form.other_byte_order(heads)
                yield from self._pcapng_packets(form, data, at[:cut], heads[:cut])
                if cut < at.size:
                    following = data[int(at[cut]) : data.size - PADDING].tobytes()
                    break
            if following is None:
                return
            head = following
        raise CaptureError(f"its sections change the byte order {_MOST_BYTE_ORDERS} times")

    def _pcapng_packets(
        self, form: PcapngFormat, data: Bytes, at: Ints, heads: Heads
    ) -> Iterator[Batch]:
        """Handle blocks in order: sections, interface descriptions, and the packets between."""
        types = form.word_of(heads, 0)
        for k in np.flatnonzero((types == INTERFACE_DESCRIPTION) | (types == SECTION_HEADER)):
            row, first = int(k), int(at[k])
            if types[k] == SECTION_HEADER:
                form.start_section(row)
            else:
                size = form.size(data.data, first)
                form.add_interface(data[first + 8 : first + size - 4].tobytes(), row)
        is_packet = (types == ENHANCED_PACKET) | (types == PACKET) | (types == SIMPLE_PACKET)
        packets = np.flatnonzero(is_packet)
        base, declared = form.declarations(packets)
        if packets.size:
            yield from self._pcapng_run(form, data, at, heads, packets, base, declared)

    def _pcapng_run(
        self, form: PcapngFormat, data: Bytes, at: Ints, heads: Heads, packets: Ints, base: Ints,
        declared: Ints,
    ) -> Iterator[Batch]:  # fmt: skip
        """Yield the packets at rows ``packets``.

        ``base`` is the first interface of each packet's section, ``declared`` the row at which each
        interface is described, below 0 in an earlier block of bytes.
        """
        at, heads = at[packets], heads[packets]
        types = form.word_of(heads, 0)
        if (base >= declared.size).any() or (declared[base] > packets).any():
            raise CaptureError("a packet comes before any interface description block")
        size = form.sizes(heads)
        simple = types == SIMPLE_PACKET
        header = np.where(simple, 12, 28)
        interface = form.word_of(heads, 8)
        if (types == PACKET).any():  # 16 bits of interface, 16 of drops
            narrow = windows(data, 2)[at + 8].view(form.word.str[0] + "u2").astype(np.int64)
            interface = np.where(types == PACKET, narrow, interface)
        interface[simple] = 0
        interface += base
        captured = form.word_of(heads, 20)
        original = form.word_of(heads, 24)
        if simple.any():
            original[simple] = form.word_of(heads, 8)[simple]
            snaps = np.array([each.snap_bytes or 1 << 31 for each in form.interfaces])
            least = np.minimum(np.minimum(original, size - 16), snaps[base])
            captured[simple] = least[simple]
        known = interface < declared.size
        interface[~known] = 0
        bad = ~known | (declared[interface] > packets)
        bad |= (captured > size - header - 4) | (size < header + 4)
        captured[bad] = 0
        interface[bad] = base[bad]
        for k in np.flatnonzero(bad)[: _MOST_DAMAGE - len(self.damage)].tolist():
            self.damage.append(
                Damage(self.packets + 1 + k, "the packet block contradicts its own length")
            )
        units = (form.word_of(heads, 12) << 32 | form.word_of(heads, 16)).astype(np.uint64)
        units[simple] = 0
        time_ns = np.zeros(at.size, dtype=np.int64)
        link_type = np.zeros(at.size, dtype=np.int32)
        order = np.argsort(interface, kind="stable")
        edges = np.flatnonzero(np.diff(interface[order])) + 1
        for rows in np.split(order, edges):  # those of one interface
            described = form.interfaces[int(interface[rows[0]])]
            time_ns[rows] = described.time_ns(units[rows])
            link_type[rows] = described.link_type
        if simple.any():  # they have no time: use that of the packet before
            place = np.maximum.accumulate(np.where(simple, -1, np.arange(at.size)))
            time_ns = np.where(place < 0, self._latest_ns, time_ns[place])
        self._latest_ns = int(time_ns[-1])
        yield from self._batch(data, at + header, (captured, original), time_ns, link_type)


def is_capture(path: Path) -> bool:
    """Tell whether a path is a file that starts as a capture does."""
    if is_stream(path) or not path.is_file():
        return False
    try:
        CaptureFile(path).close()
    except CaptureError:
        return False
    return True


def _what_it_is(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head[:4] in (b"\x00\x05\x16\x07", b"snoo", b"\x54\x52\x53\x4e"):
        return "a capture in another tool's format (convert it with 'editcap IN OUT')"
    return f"not a capture: it starts with {head[:8].hex(' ')}"
