"""The pcap format (draft-ietf-opsawg-pcap): either byte order, micro- or nanoseconds.

Kuznetzov's variant, with longer record headers, is read too.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import (
    Bytes,
    Heads,
    Ints,
    Mask,
    be16,
    column,
    rows,
    whole_bytes,
    windows,
)
from mptcplab.trace.files.batch import CaptureError
from mptcplab.trace.files.record_chain import IS_COMPILED, record_chain
from mptcplab.trace.files.record_scan import ABSURD, RecordFormat, Walk
from mptcplab.wire.ip import ETHERTYPE_IPV4, ETHERTYPE_IPV6

FILE_HEADER_BYTES: Final = 24
MAX_CAPTURED_BYTES: Final = 262_144
"""libpcap's MAXIMUM_SNAPLEN; a record that claims more than this and its snap length is damage."""

# magic (as read in the file's own byte order) -> (nanoseconds per unit, record header bytes)
_MAGICS: Final = {0xA1B2C3D4: (1000, 16), 0xA1B23C4D: (1, 16), 0xA1B2CD34: (1000, 24)}
_SCAN_BYTES: Final = 1 << 17
_TIME_SPREAD_S: Final = 86_400  # a guessed record is from within a day of the block's first

_ETHERTYPES: Final = {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}
_IP_AT: Final = {1: (14, 12), 101: (0, None), 113: (16, 14), 228: (0, None), 276: (20, 0)}
"""By LINKTYPE_: where a packet's IP header starts, and where its EtherType is."""
_IPV6_PAYLOADS: Final = (6, 17, 58)  # TCP, UDP, ICMPv6
_SHORTEST_FRAME: Final = 60  # shorter IP packets are padded on Ethernet


def is_pcap(head: bytes) -> bool:
    """Tell whether a file that starts with ``head`` is pcap."""
    return any(int.from_bytes(head[:4], order) in _MAGICS for order in ("big", "little"))


class PcapFormat(RecordFormat):
    """The records of one pcap file."""

    alignment = 1
    head_bytes = 16

    def __init__(self, header: bytes) -> None:
        """Read the file's header; raises ``CaptureError`` where it is cut short or unknown."""
        if len(header) < FILE_HEADER_BYTES or not is_pcap(header):
            raise CaptureError("the pcap file header is cut short")
        self.order = ">" if int.from_bytes(header[:4], "big") in _MAGICS else "<"
        magic, major, minor, _, _, snap, network = struct.unpack(self.order + "IHHiIII", header)
        self.unit_ns, self.header_bytes = _MAGICS[magic]
        if (major, minor) < (2, 3):
            raise CaptureError(
                f"pcap version {major}.{minor} swaps its length fields, expected 2.4: "
                "convert the file with 'editcap IN OUT'"
            )
        self.link_type = network & 0xFFFF  # the upper bits say whether frames end in an FCS
        self.limit = max(MAX_CAPTURED_BYTES, snap if snap < 1 << 26 else 0)
        self.unpack = struct.Struct(self.order + "I").unpack_from
        self.word = np.dtype(self.order + "u4")
        self.reference_s = 0
        self._top_at = 3 if self.order == "<" else 0  # the upper byte of a word

    def _words(self, data: Bytes, at: Ints) -> NDArray[np.int64]:
        return windows(data, 4)[at].view(self.word).astype(np.int64)

    def begin(self, data: Bytes, stop: int) -> None:
        """Take the time of the first record for that of all, until more is known."""
        if stop >= self.header_bytes:
            self.reference_s = self.unpack(data.data, 0)[0]

    def sizes(self, heads: Heads) -> Ints:
        words = heads.view(self.word)
        captured = words[2::4].astype(np.int64)
        if self.reference_s and not captured.all():  # zeros in a file of packets with times
            captured[(captured == 0) & (words[3::4] == 0)] = ABSURD
        captured += self.header_bytes
        if captured.size and captured.max() > self.limit + self.header_bytes:
            captured[captured > self.limit + self.header_bytes] = ABSURD
        return captured

    def size(self, data: memoryview, at: int) -> int:
        captured: int = self.unpack(data, at + 8)[0]
        if captured == 0 and self.reference_s and self.unpack(data, at + 12)[0] == 0:
            return ABSURD
        return captured + self.header_bytes if captured <= self.limit else ABSURD

    def _seconds(self) -> tuple[int, int]:
        """Return the earliest plausible time, and the upper byte of all of them, 0 if it varies."""
        low = max(0, self.reference_s - _TIME_SPREAD_S)
        top = low >> 24
        return low, top if top == (low + 2 * _TIME_SPREAD_S) >> 24 else 0

    def chain(self, data: Bytes, start: int, stop: int) -> Walk | None:
        if not IS_COMPILED:
            return None
        places, end, breaks = record_chain(
            whole_bytes(data),
            start,
            stop,
            self.header_bytes,
            self.limit,
            self.order == ">",
            self.reference_s != 0,
        )
        at = np.frombuffer(memoryview(places), dtype=np.int64)
        return Walk(at, self.heads(data, at), end, breaks)

    def scan(self, data: Bytes, start: int, stop: int) -> tuple[Ints, Heads] | None:
        low, top = self._seconds()
        if not top:
            return None
        place = start + self._top_at
        tops = data[place : stop - self.header_bytes + 1 + self._top_at]
        at = np.concatenate(
            [
                np.flatnonzero(tops[first : first + _SCAN_BYTES] == top) + (start + first)
                for first in range(0, tops.size, _SCAN_BYTES)
            ]
        )
        heads = self.heads(data, at)
        words = heads.view(self.word)
        good = words[0::4] - np.uint32(low) < 2 * _TIME_SPREAD_S  # unsigned: earlier wraps high
        good &= self._is_sound(words[1::4], words[2::4], words[3::4])
        chosen = np.flatnonzero(good)
        return at[chosen], heads[chosen]

    def places(self, data: Bytes, start: int, stop: int) -> Ints:
        last = max(stop - self.header_bytes + 1, start)
        at = np.arange(start, last, dtype=np.int64)
        if self.reference_s:
            seconds = np.ndarray(at.shape, self.word, data.data, offset=start, strides=(1,))
            at = at[np.abs(seconds.astype(np.int64) - self.reference_s) <= _TIME_SPREAD_S]
        return at[self.plausible(data, at)]

    def proven(self, data: Bytes, at: Ints, end: int, following: int | None) -> Mask:
        """Tell which records hold an IP packet of their length, and fit to the times around them.

        An IPv4 header must have its right checksum; an IPv6 header, which has none, a usual
        protocol.
        """
        good = np.zeros(at.size, dtype=bool)
        if not self.reference_s or self.link_type not in _IP_AT or not at.size:
            return good
        ip_at, kind_at = _IP_AT[self.link_type]
        seconds = self._words(data, at)
        latest = int(seconds.max()) if following is None else self.unpack(data.data, following)[0]
        captured, original = self._words(data, at + 8), self._words(data, at + 12)
        fits = (seconds >= self.reference_s - 1) & (seconds <= latest + 1)
        fits &= at + self.header_bytes + captured <= end
        packet = at + self.header_bytes
        header = rows(data, packet + ip_at, 40)
        for version, shortest in ((4, 20), (6, 40)):
            mine = fits & (header[:, 0] >> 4 == version) & (captured >= ip_at + shortest)
            if kind_at is not None:
                mine &= be16(data, packet + kind_at) == _ETHERTYPES[version]
            if version == 4:
                size = column(header, 2, ">u2").astype(np.int64)
                words = header[:, :20].copy().view(">u2").sum(axis=1, dtype=np.int64)
                mine &= (header[:, 0] == 0x45) & (size >= 20) & (words % 0xFFFF == 0)
            else:
                size = column(header, 4, ">u2").astype(np.int64) + 40
                mine &= np.isin(header[:, 6], _IPV6_PAYLOADS)
            size += ip_at
            padded = (original <= _SHORTEST_FRAME) & (size < original)
            good |= mine & ((size == original) | padded)
        return good

    def doubtful(self, _data: Bytes, _at: Ints, heads: Heads) -> Ints:
        seconds = heads.view(self.word)[0::4].astype(np.int64)
        before = self.reference_s or int(seconds[0]) if seconds.size else 0
        return np.flatnonzero(np.abs(np.diff(seconds, prepend=before)) > _TIME_SPREAD_S)

    def candidates(self, data: Bytes, bases: Ints, span: int) -> tuple[Ints, Ints]:
        step = int(bases[1] - bases[0])
        shape, first = (bases.size, span), int(bases[0])
        low, top = self._seconds()
        if top:  # one byte excludes nearly all
            place = first + self._top_at
            near = np.ndarray(shape, np.uint8, data.data, offset=place, strides=(step, 1)) == top
        else:
            seconds = np.ndarray(shape, self.word, data.data, offset=first, strides=(step, 1))
            near = (seconds - np.uint32(low)) < 2 * _TIME_SPREAD_S  # unsigned: earlier wraps high
        segment, within = np.divmod(np.flatnonzero(near), span)
        at = bases[segment] + within
        apart = (self._words(data, at) - low).astype(np.uint32)
        good = apart < 2 * _TIME_SPREAD_S
        segment, at = segment[good], at[good]
        good = self.plausible(data, at)
        return segment[good], at[good]

    def plausible(self, data: Bytes, at: Ints) -> Mask:
        return self._is_sound(*(self._words(data, at + offset) for offset in (4, 8, 12)))

    def _is_sound(
        self, fraction: NDArray[Any], captured: NDArray[Any], original: NDArray[Any]
    ) -> Mask:
        """Tell which headers have a possible fraction of a second and possible lengths."""
        return (
            (captured > 0)
            & (captured <= original)
            & (original <= self.limit)
            & (fraction < 1_000_000_000 // self.unit_ns)
        )

    def headers(self, heads: Heads) -> tuple[Ints, Ints, Ints]:
        """Return (capture time in ns, captured bytes, original bytes) of each record."""
        words = heads.view(self.word)
        time_ns = words[0::4] * np.int64(1_000_000_000)
        time_ns += words[1::4] * np.int64(self.unit_ns)
        return time_ns, words[2::4].astype(np.int64), words[3::4].astype(np.int64)
