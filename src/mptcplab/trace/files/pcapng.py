"""The pcapng format (draft-ietf-opsawg-pcapng): sections, interfaces, packet blocks."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import PADDING, Bytes, Heads, Ints, Mask, windows
from mptcplab.trace.files.batch import CaptureError
from mptcplab.trace.files.record_scan import ABSURD, RecordFormat

SECTION_HEADER: Final = 0x0A0D0D0A
INTERFACE_DESCRIPTION: Final = 1
PACKET: Final = 2  # obsolete, still written by old tools
SIMPLE_PACKET: Final = 3
ENHANCED_PACKET: Final = 6

_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_MAX_BLOCK_BYTES: Final = 1 << 26
_MAX_GUESSED_BYTES: Final = 1 << 20
_MAX_SECONDS: Final = 1 << 32
"""What pcap can hold (until 2106); as nanoseconds, the sum of two such times fits in 64 bits."""
_OPTION_TSRESOL: Final = 9
_OPTION_TSOFFSET: Final = 14


def is_pcapng(head: bytes) -> bool:
    """Tell whether a file that starts with ``head`` is pcapng."""
    return head[:4] == SECTION_HEADER.to_bytes(4, "big")


@dataclass(slots=True)
class Interface:
    """What an interface description block says."""

    link_type: int
    snap_bytes: int
    units_per_s: int = 1_000_000
    offset_s: int = 0

    def time_ns(self, units: NDArray[np.uint64]) -> Ints:
        """Convert this interface's timestamps to nanoseconds since 1970."""
        per_s = np.uint64(self.units_per_s)
        seconds = (units // per_s).astype(np.int64) + self.offset_s
        fraction = units % per_s
        if self.units_per_s <= 1_000_000_000 and 1_000_000_000 % self.units_per_s == 0:
            part = fraction * np.uint64(1_000_000_000 // self.units_per_s)
        else:  # powers of two, or finer than a nanosecond
            part = (fraction.astype(np.float64) / self.units_per_s * 1e9).astype(np.uint64)
        return np.clip(seconds, 0, _MAX_SECONDS) * 1_000_000_000 + part.astype(np.int64)


class PcapngFormat(RecordFormat):
    """The blocks of one pcapng section."""

    alignment = 4
    header_bytes = 12
    head_bytes = 28

    def __init__(self, header: bytes) -> None:
        """Take the byte order from a section header block's first 12 bytes."""
        for order in ("<", ">"):
            if len(header) >= 12 and struct.unpack_from(order + "I", header, 8)[0] == (
                _BYTE_ORDER_MAGIC
            ):
                self.order = order
                break
        else:
            raise CaptureError("the pcapng section header holds no byte-order magic")
        self.unpack = struct.Struct(self.order + "I").unpack_from
        self.word = np.dtype(self.order + "u4")
        self.interfaces: list[Interface] = []
        """Of all sections; each section counts its own from 0."""
        self._rows: list[int] = []
        self._sections: list[tuple[int, int]] = [(-1, 0)]
        """Row and first interface of sections, of the last one and of those in hand."""

    def begin(self, _data: Bytes, _stop: int) -> None:
        """Nothing: its header says all that there is to know."""

    def other_byte_order(self, heads: Heads) -> int:
        """Return at which record a section begins that is not in this byte order."""
        headers = np.flatnonzero(self.word_of(heads, 0) == SECTION_HEADER)
        others = headers[self.word_of(heads, 8)[headers] != _BYTE_ORDER_MAGIC]
        return int(others[0]) if others.size else len(heads)

    def start_section(self, row: int) -> None:
        """Note that a section begins at a row of the records in hand."""
        self._sections.append((row, len(self.interfaces)))

    def declarations(self, packets: Ints) -> tuple[Ints, Ints]:
        """Return the first interface of each packet's section, and each interface's row.

        The rows are below 0 for what earlier records described.  Then the records are done with.
        """
        starts = np.array([row for row, _ in self._sections])
        firsts = np.array([first for _, first in self._sections])
        base = firsts[np.searchsorted(starts, packets, side="right") - 1]
        declared = np.array(self._rows, dtype=np.int64)
        self._rows = [-1] * len(self._rows)
        self._sections = [(-1, self._sections[-1][1])]
        return base, declared

    def words(self, data: Bytes, at: Ints) -> Ints:
        """Return the 32-bit number in the section's byte order at each position."""
        return windows(data, 4)[at].view(self.word).astype(np.int64)

    def word_of(self, heads: Heads, place: int) -> Ints:
        """Return the 32-bit number ``place`` bytes after the start of each block."""
        return heads.view(self.word)[place // 4 :: self.head_bytes // 4].astype(np.int64)

    def sizes(self, heads: Heads) -> Ints:
        size = self.word_of(heads, 4)
        for k in np.flatnonzero(self.word_of(heads, 0) == SECTION_HEADER).tolist():
            size[k] = self.size(memoryview(heads[k].tobytes()), 0)
        size[(size < 12) | (size > _MAX_BLOCK_BYTES) | (size % 4 != 0)] = ABSURD
        return size

    def size(self, data: memoryview, at: int) -> int:
        size: int = self.unpack(data, at + 4)[0]
        if self.unpack(data, at)[0] == SECTION_HEADER and (
            self.unpack(data, at + 8)[0] != _BYTE_ORDER_MAGIC
        ):
            size = int.from_bytes(size.to_bytes(4, "big"), "little")  # the other byte order
        return size if 12 <= size <= _MAX_BLOCK_BYTES and size % 4 == 0 else ABSURD

    def scan(self, data: Bytes, start: int, stop: int) -> tuple[Ints, Heads] | None:
        words = (stop - start) // 4
        types = np.ndarray((words,), self.word, data.data, offset=start)
        at = start + 4 * np.flatnonzero(types == ENHANCED_PACKET)
        at = at[self.plausible(data, at)]
        return at, self.heads(data, at)

    def places(self, data: Bytes, start: int, stop: int) -> Ints:
        at = np.arange(start, max(stop - self.header_bytes + 1, start), dtype=np.int64)
        at = at[self.words(data, at) == ENHANCED_PACKET]
        return np.asarray(at[self.plausible(data, at)])

    def doubtful(self, data: Bytes, at: Ints, heads: Heads) -> Ints:
        cut = self.other_byte_order(heads)
        at, size = at[:cut], self.sizes(heads)[:cut]
        inside = at + size <= data.size - PADDING
        trailer = self.words(data, np.where(inside, at + size - 4, at))
        return np.flatnonzero(~inside | (trailer != size))

    def candidates(self, data: Bytes, bases: Ints, span: int) -> tuple[Ints, Ints]:
        step = int(bases[1] - bases[0])
        count = span // 4
        types = np.ndarray(
            (bases.size, count), self.word, data.data, offset=int(bases[0]), strides=(step, 4)
        )
        segment, within = np.nonzero(types == ENHANCED_PACKET)
        at = bases[segment] + 4 * within
        good = self.plausible(data, at)
        return segment[good], at[good]

    def plausible(self, data: Bytes, at: Ints) -> Mask:
        size = self.words(data, at + 4)
        good = (size >= 32) & (size <= _MAX_GUESSED_BYTES) & (size % 4 == 0)
        good &= at + size + 4 <= data.size
        trailer = self.words(data, np.where(good, at + size - 4, at))
        good &= trailer == size
        good &= self.words(data, at) == ENHANCED_PACKET
        return np.asarray(good)

    def add_interface(self, body: bytes, row: int) -> None:
        """Note an interface from the bytes between the length fields of the IDB at a row."""
        if len(body) < 8:
            raise CaptureError("an interface description block is cut short")
        link_type, _, snap = struct.unpack_from(self.order + "HHI", body)
        interface = Interface(link_type, snap)
        at = 8
        while at + 4 <= len(body):
            code, size = struct.unpack_from(self.order + "HH", body, at)
            value = body[at + 4 : at + 4 + size]
            if code == 0:
                break
            if code == _OPTION_TSRESOL and len(value) == 1:
                exponent = value[0] & 0x7F
                base = 2 if value[0] & 0x80 else 10
                if base**exponent < 1 << 63:
                    interface.units_per_s = base**exponent
            elif code == _OPTION_TSOFFSET and len(value) == 8:
                interface.offset_s = struct.unpack(self.order + "q", value)[0]
            at += 4 + size + (-size % 4)
        self.interfaces.append(interface)
        self._rows.append(row)
