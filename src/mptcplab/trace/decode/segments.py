"""TCP headers and options of a batch as columns (RFC 9293 section 3.1, RFC 7323)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.address_book import AddressBook
from mptcplab.trace.columns.fields import Bytes, Ints, Mask, be32, column, rows, whole_bytes
from mptcplab.trace.columns.sorting import distinct
from mptcplab.trace.decode import ip, link_layers, tunnels
from mptcplab.trace.decode.dss import DssColumns, decode_dss
from mptcplab.trace.decode.fast_path import take_usual
from mptcplab.trace.decode.fragments import Reassembly
from mptcplab.trace.decode.layers import LINK, Layers, Step
from mptcplab.trace.decode.packet_loop import COLUMNS, DSS_COLUMNS, IS_COMPILED, decode_usual
from mptcplab.trace.decode.truncated_options import decode_cut
from mptcplab.trace.files.batch import Batch, Damage
from mptcplab.wire.mptcp import DSS, MPTCP_KIND, MpCapable, MptcpOption
from mptcplab.wire.mptcp_decode import decode_mptcp

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10

_STEPS: Final[dict[int, Step]] = {**link_layers.STEPS, **ip.STEPS, **tunnels.STEPS}
MAX_MALFORMED: Final = 1 << 20
"""Malformed packets that are listed; further ones are left out without a word."""

IGNORED: Final = "the option is ignored, its segment counts"
"""What becomes of a malformed option (RFC 8684 section 3)."""

_ROW_BYTES: Final = 64  # the longest TCP header is 60 bytes
_TIMESTAMPS_FIRST: Final = 0x0101080A  # NOP, NOP, timestamps: how nearly every header starts
_PADDING_OF: Final = np.array([0, 0xFE00_0000, 0xFEFE_0000, 0xFEFE_FE00], dtype=np.uint32)
"""Of four bytes, the bits that are 0 where the first so many are NOPs or end the list."""


@dataclass(slots=True, eq=False, repr=False)
class Segments:
    """The TCP segments of a batch, well-formed ones only; one element of each column a segment."""

    row: Ints
    """The packet's row in the batch."""
    number: Ints
    time_ns: Ints
    source: Ints
    """Address codes, see ``AddressBook``."""
    destination: Ints
    ports: Ints
    """Source port * 65536 + destination port."""
    seq: Ints
    ack: Ints
    flags: NDArray[np.uint8]
    control: NDArray[np.uint16]
    """The header's length in words (4 bits), reserved bits and flags (12 bits)."""
    window: Ints
    """As on the wire, unscaled."""
    payload_bytes: Ints
    payload_at: Ints
    """Where the payload starts in ``data``."""
    payload_captured: Ints
    data: Bytes
    window_scale: NDArray[np.int8]
    """The shift of a window scale option, -1 where there is none."""
    mss: Ints
    """Of an MSS option, 0 where there is none."""
    dss: DssColumns
    options: list[tuple[int, MptcpOption]]
    """(element, option) of every MPTCP option but DSS, in order."""
    is_mptcp: Mask
    """Whether the segment has any MPTCP option."""
    ip_id: Ints
    """Identification of its IPv4 header, -1 for IPv6."""
    hops: Ints
    """Time to live, or hop limit, that its IP header states."""
    timestamp: Ints
    """TSval (RFC 7323) where the options start with timestamps, -1 elsewhere."""
    echo: Ints
    """TSecr, likewise."""

    def __len__(self) -> int:
        return self.row.size

    @property
    def source_port(self) -> Ints:
        """The source port of each segment."""
        return self.ports >> 16

    @property
    def destination_port(self) -> Ints:
        """The destination port of each segment."""
        return self.ports & 0xFFFF

    @property
    def has_checksums(self) -> bool:
        """Whether any mapping of them has a DSS checksum."""
        return bool((self.dss.checksum >= 0).any()) or any(
            option.checksum is not None for _, option in self.first_data()
        )

    def first_data(self) -> list[tuple[int, MpCapable]]:
        """Return (element, option) of every MP_CAPABLE that maps data (RFC 8684 section 3.1)."""
        return [
            (element, option)
            for element, option in self.options
            if isinstance(option, MpCapable) and option.data_length
        ]


_ARRAYS: Final = tuple(
    field.name for field in fields(Segments) if field.name not in ("data", "dss", "options")
)
"""The columns of segments."""


class Decoder:
    """Decodes the batches of a capture in order."""

    def __init__(self) -> None:
        self.book = AddressBook()
        self.malformed: list[Damage] = []
        """Packets that were left out, and options that were ignored (RFC 9293 section 3.1)."""
        self.cut_off = 0
        """Segments left out because the snap length ends within their fixed header."""
        self.unknown_links: Counter[int] = Counter()
        """Packets whose link layer is not read, by its LINKTYPE_ value."""
        self._reassembly = Reassembly()

    def decode(self, batch: Batch) -> Segments:
        """Return the TCP segments of a batch; what is malformed goes to ``malformed``."""
        if not IS_COMPILED:
            return self.decode_by_columns(batch)
        table, others = decode_usual(
            whole_bytes(batch.data), batch.offset, batch.captured, batch.original, batch.link_type
        )
        unusual = np.frombuffer(memoryview(others), dtype=np.int64)
        if unusual.size == len(batch):
            return self.decode_by_columns(batch)
        segments = _usual_columns(batch, np.frombuffer(memoryview(table), dtype=np.int64))
        if not unusual.size:
            return segments
        return _with(segments, unusual, self.decode_by_columns(batch.take(unusual)))

    def decode_by_columns(self, batch: Batch) -> Segments:
        """Do the same, all packets a step at a time, whatever they are."""
        layers = Layers(batch, self.book, self._reassembly.add)
        take_usual(layers)
        located = layers.run(_STEPS)
        if located.size < len(batch):
            self._note_links(batch)
        table = _OptionTable(layers, located)
        left_out = dict(layers.malformed)
        for element, reason in table.malformed:
            left_out.setdefault(int(located[element]), reason)
        dss, bad_dss = decode_dss(
            table.headers, table.dss_element, table.dss_at, table.dss_length, table.dss_captured
        )
        ignored: dict[int, str] = {}
        for element, reason in (*table.malformed_options, *bad_dss):
            ignored.setdefault(int(located[element]), reason)
        told = {row: f"{reason}: {IGNORED}" for row, reason in ignored.items()}
        told |= {row: f"{reason}: left out" for row, reason in left_out.items()}
        room = MAX_MALFORMED - len(self.malformed)
        self.malformed.extend(
            Damage(int(batch.number[row]), told[row]) for row in sorted(told)[:room]
        )
        segments = _columns(batch, layers, located, table, dss)
        bad = table.cut_off
        if left_out:
            bad = bad | np.isin(located, np.fromiter(left_out, dtype=np.int64))
        self.cut_off += int(table.cut_off.sum())
        return _without(segments, ~bad) if bad.any() else segments

    def _note_links(self, batch: Batch) -> None:
        for kind in distinct(batch.link_type).tolist():
            if kind + LINK not in _STEPS:
                self.unknown_links[kind] += int((batch.link_type == kind).sum())


def _columns(
    batch: Batch, layers: Layers, located: Ints, table: _OptionTable, dss: DssColumns
) -> Segments:
    headers = table.headers
    chosen = slice(None) if located.size == len(batch) else located
    payload_at = layers.at[chosen] + table.header_bytes
    is_mptcp = dss.flags >= 0
    is_mptcp[[element for element, _ in table.options]] = True
    control = column(headers, 12, ">u2")
    return Segments(
        row=located,
        number=batch.number[chosen],
        time_ns=batch.time_ns[chosen],
        source=layers.source[chosen],
        destination=layers.destination[chosen],
        ports=column(headers, 0, ">u4").astype(np.int64),
        seq=column(headers, 4, ">u4").astype(np.int64),
        ack=column(headers, 8, ">u4").astype(np.int64),
        flags=control.astype(np.uint8),
        control=control,
        window=column(headers, 14, ">u2").astype(np.int64),
        payload_bytes=np.maximum(layers.limit[chosen] - payload_at, 0),
        payload_at=payload_at,
        payload_captured=np.maximum(layers.end[chosen] - payload_at, 0),
        data=layers.data,
        window_scale=table.window_scale,
        mss=table.mss,
        dss=dss,
        options=table.options,
        is_mptcp=is_mptcp,
        ip_id=layers.ip_id[chosen],
        hops=layers.hops[chosen],
        timestamp=table.timestamp,
        echo=table.echo,
    )


def _usual_columns(batch: Batch, table: Ints) -> Segments:
    """Return the segments that ``decode_usual`` has decoded."""
    size = len(batch)
    names = (*COLUMNS, *DSS_COLUMNS)
    found = dict(zip(names, table.reshape(len(names), -1)[:, :size], strict=True))
    of_dss = {name: found.pop(name) for name in DSS_COLUMNS}
    for name in ("flags", "parts"):
        of_dss[name] = of_dss[name].astype(np.int16)
    for name in ("data_ack", "dsn"):
        of_dss[name] = of_dss[name].view(np.uint64)
    control = found.pop("control").astype(np.uint16)
    return Segments(
        row=np.arange(size, dtype=np.int64),
        number=batch.number,
        time_ns=batch.time_ns,
        flags=control.astype(np.uint8),
        control=control,
        data=batch.data,
        window_scale=found.pop("window_scale").astype(np.int8),
        dss=DssColumns(**of_dss),
        options=[],
        is_mptcp=of_dss["flags"] >= 0,
        **found,
    )


def _with(segments: Segments, unusual: Ints, others: Segments) -> Segments:
    """Put the segments that are not usual in their places, and leave out what is none."""
    places = unusual[others.row]
    columns = {}
    for name in _ARRAYS:
        column = getattr(segments, name).copy()
        column[places] = getattr(others, name)
        columns[name] = column
    columns["row"][places] = places
    of_dss = {}
    for field in fields(DssColumns):
        column = getattr(segments.dss, field.name).copy()
        column[places] = getattr(others.dss, field.name)
        of_dss[field.name] = column
    options = [(int(places[element]), option) for element, option in others.options]
    segments = replace(
        segments, **columns, dss=DssColumns(**of_dss), options=options, data=others.data
    )
    if places.size == unusual.size:
        return segments
    kept = np.ones(len(segments), dtype=bool)
    kept[unusual] = False
    kept[places] = True
    return _without(segments, kept)


def _without(segments: Segments, kept: Mask) -> Segments:
    """Leave out the elements that are not ``kept``."""
    renumbered = np.cumsum(kept) - 1
    columns = {name: getattr(segments, name)[kept] for name in _ARRAYS}
    options = [
        (int(renumbered[element]), option) for element, option in segments.options if kept[element]
    ]
    return replace(segments, **columns, dss=segments.dss.take(kept), options=options)


class _OptionTable:
    """One pass over the TCP options of all segments, an option of each at a time."""

    def __init__(self, layers: Layers, located: Ints) -> None:
        chosen = slice(None) if located.size == layers.at.size else located
        at = layers.at[chosen]
        available = layers.end[chosen] - at
        self.headers = rows(layers.data, at, _ROW_BYTES)
        self.malformed: list[tuple[int, str]] = []
        self.malformed_options: list[tuple[int, str]] = []
        self.options: list[tuple[int, MptcpOption]] = []
        size = located.size
        self.header_bytes: Ints = (self.headers[:, 12] >> 4).astype(np.int64) * 4
        self.window_scale = np.full(size, -1, dtype=np.int8)
        self.mss: Ints = np.zeros(size, dtype=np.int64)
        self.cut_off: Mask = np.zeros(size, dtype=bool)
        self.timestamp: Ints = np.full(size, -1, dtype=np.int64)
        self.echo: Ints = self.timestamp
        self._mptcp: list[tuple[Ints, Ints, Ints]] = []
        self._flat = self.headers.ravel()
        self._limit = self._end = self.header_bytes
        if not ((self.header_bytes >= 20) & (self.header_bytes <= available)).all():
            whole = self._check_headers(available, layers.cut[chosen])
            # What the snap length cut off cannot be decoded, but is not malformed.
            self._limit = np.where(whole, self.header_bytes, 0)
            self._end = np.minimum(self._limit, available)
        self._walk()
        self._decode_mptcp()

    def _check_headers(self, available: Ints, cut: Mask) -> Mask:
        short = available < 20
        self._reject(np.flatnonzero(short & ~cut), "the packet ends within its TCP header")
        # With fewer than 20 bytes, ports and sequence number are all that may be there.
        wrong = ~short & (self.header_bytes < 20)
        self._reject(np.flatnonzero(wrong), "the TCP header states a length below 20 bytes")
        beyond = ~short & ~wrong & ~cut & (self.header_bytes > available)
        self._reject(np.flatnonzero(beyond), "the TCP header is longer than the packet")
        self.cut_off = short & cut
        return ~(short | wrong | beyond)

    def _reject(self, elements: Ints, reason: str) -> None:
        self.malformed.extend((element, reason) for element in elements.tolist())

    def _walk(self) -> None:
        if not (self._end > 20).any():
            return
        usual = column(self.headers, 20, ">u4") == _TIMESTAMPS_FIRST
        usual &= self._end >= 32
        self.timestamp = column(self.headers, 24, ">u4").astype(np.int64)
        self.echo = column(self.headers, 28, ">u4").astype(np.int64)
        if not usual.all():
            self.timestamp[~usual] = -1
            self.echo[~usual] = -1
        position = 20 + 12 * usual.astype(np.int64)
        done = self._mptcp_alone(usual, position)
        element = np.flatnonzero(~done & (position < self._end))
        position = position[element]
        for _ in range(40):  # options are at most 40 bytes, each at least one
            live = position < self._end[element]
            if not live.all():
                element, position = element[live], position[live]
            if element.size == 0:
                return
            element, position = self._step(element, position)

    def _mptcp_alone(self, usual: Mask, position: Ints) -> Mask:
        """Take an MPTCP option followed only by padding, as on nearly every data packet and ACK.

        Options start at 32 after the ``usual`` timestamps, at 20 otherwise.  Returns where nothing
        else follows.
        """
        first = column(self.headers, 32, ">u2")
        if not usual.all():
            first = np.where(usual, first, column(self.headers, 20, ">u2"))
        length = (first & 0xFF).astype(np.int64)
        rest = self._end - position - length
        alone: Mask = (first >> 8 == MPTCP_KIND) & (length >= 3) & (rest >= 0) & (rest <= 3)
        if self._end is not self._limit:
            alone &= self._end == self._limit
        padded = np.flatnonzero(alone & (rest > 0))
        if padded.size:
            at = padded * _ROW_BYTES + position[padded] + length[padded]
            following = be32(self._flat, at)
            alone[padded] = following & _PADDING_OF[rest[padded]] == 0
        element = np.flatnonzero(alone)
        if element.size == alone.size:
            self._mptcp.append((element, position, length))
        elif element.size:
            self._mptcp.append((element, position[element], length[element]))
        return alone

    def _step(self, element: Ints, position: Ints) -> tuple[Ints, Ints]:
        """Take the option at each position; returns where the next ones are."""
        base = element * _ROW_BYTES + position
        kind = self._flat[base]
        single = kind <= 1
        length = self._flat[base + 1].astype(np.int64)
        over = ~single & (position + np.maximum(length, 2) > self._end[element])
        bad = ~single & ((length < 2) | over)
        if bad.any():
            self._cut_option(element[bad], position[bad], length[bad])
        if (kind == 0).any():
            position = np.where(kind == 0, 60, position)
        plain = ~single & ~bad
        for code in distinct(kind[plain]).tolist():
            rows_of = plain & (kind == code)
            self._take(code, element[rows_of], position[rows_of], length[rows_of])
        return element, position + np.where(single, 1, np.where(bad, 60, length))

    def _cut_option(self, element: Ints, position: Ints, length: Ints) -> None:
        limit = self._limit[element]
        end = self._end[element]
        snapped = end < limit
        fits = (length >= 2) & (position + length <= limit)
        unknown = position + 1 >= end  # the length byte itself is cut off
        wrong = ~(snapped & (fits | unknown))
        known = snapped & fits & (position + 2 < end)
        known &= self._flat[element * _ROW_BYTES + position] == MPTCP_KIND
        if known.any():
            self._mptcp.append((element[known], position[known], length[known]))
        for one, size in zip(element[wrong].tolist(), length[wrong].tolist(), strict=True):
            reason = f"a TCP option of {size} bytes does not fit in its header"
            self.malformed_options.append((one, reason))

    def _take(self, code: int, element: Ints, position: Ints, length: Ints) -> None:
        if code == MPTCP_KIND:
            self._mptcp.append((element, position, length))
        elif code == 2:
            usable = length == 4
            at = element[usable] * _ROW_BYTES + position[usable]
            high = self._flat[at + 2].astype(np.int64)
            self.mss[element[usable]] = high << 8 | self._flat[at + 3]
        elif code == 3:
            usable = length == 3
            shift = self._flat[element[usable] * _ROW_BYTES + position[usable] + 2]
            self.window_scale[element[usable]] = np.minimum(shift, 14)  # RFC 7323 section 2.3

    def _decode_mptcp(self) -> None:
        empty = np.zeros(0, dtype=np.int64)
        parts = self._mptcp or [(empty, empty, empty)]
        element, position, length = parts[0]
        if len(parts) > 1:
            element, position, length = (np.concatenate(part) for part in zip(*parts, strict=True))
            order = np.lexsort((position, element))
            element, position, length = element[order], position[order], length[order]
        at = element * _ROW_BYTES + position
        captured = np.minimum(length, self._end[element] - position)
        is_dss = (self._flat[at + 2] >> 4 == DSS) & (length >= 4)
        rare = np.flatnonzero(~is_dss)
        self.dss_element, self.dss_at = element, at
        self.dss_length, self.dss_captured = length, captured
        if rare.size == 0:
            return
        usual = np.flatnonzero(is_dss)
        self.dss_element, self.dss_at = element[usual], at[usual]
        self.dss_length, self.dss_captured = length[usual], captured[usual]
        for one, start, size, there in zip(
            *(part[rare].tolist() for part in (element, at, length, captured)), strict=True
        ):
            raw = self._flat[start : start + there].tobytes()
            option = decode_mptcp(raw) if there == size else decode_cut(raw, size)
            if isinstance(option, str):
                self.malformed_options.append((one, option))
            else:
                self.options.append((one, option))
