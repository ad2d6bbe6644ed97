"""The packets of a reconstructed capture, listed in a second pass that knows the connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.address_book import FIRST_IPV6
from mptcplab.trace.columns.fields import Ints, Mask
from mptcplab.trace.columns.sequence_numbers import unwrapped
from mptcplab.trace.decode.segments import ACK, FIN, PSH, RST, SYN, Segments
from mptcplab.trace.decode.truncated_options import option_text
from mptcplab.trace.files.batch import CaptureError
from mptcplab.trace.files.opening import open_batches
from mptcplab.trace.files.sources import is_stream, source_name
from mptcplab.trace.files.writing import CaptureWriter
from mptcplab.trace.follow.decoded import decoded
from mptcplab.trace.follow.read_pass import Reading
from mptcplab.trace.follow.tcp import Followed
from mptcplab.trace.option_fields import OPTION_FIELDS, option_values
from mptcplab.trace.packet_filter import Network, Test, Values
from mptcplab.trace.packet_text import MOST_LINES, Lines, Vocabulary
from mptcplab.trace.tcp_streams import Streams
from mptcplab.trace.trace import Trace
from mptcplab.wire.mptcp import (
    DSS,
    DSS_ACK_8,
    DSS_DSN_8,
    Dss,
    MpCapable,
)
from mptcplab.wire.text import format_flags

_TCP_FLAGS: Final = {"syn": SYN, "fin": FIN, "rst": RST, "psh": PSH}


_FLAGS: Final = Vocabulary([format_flags(flags) for flags in range(256)])
_MARK_NAMES: Final = ("retransmission", "out_of_order", "duplicate_ack")


def _marks(bits: int) -> str:
    names = [name.replace("_", " ") for bit, name in enumerate(_MARK_NAMES) if bits >> bit & 1]
    return f" ({', '.join(names)})" if names else ""


_MARKS: Final = Vocabulary([_marks(bits) for bits in range(1 << len(_MARK_NAMES))])


class PacketBatch:
    """TCP segments with what the reconstruction knows about each."""

    def __init__(self, trace: Trace, labels: _Labels, segments: Segments, follow: Followed | None):
        self.trace = trace
        self.segments = segments
        self._labels = labels
        self._stream: Ints | None = None
        size = len(segments)
        self.half: Ints = np.full(size, -1, dtype=np.int64)
        self.seq = segments.seq.copy()
        self.ack = segments.ack.copy()
        self.window = segments.window.copy()
        self.in_flight: Ints = np.zeros(size, dtype=np.int64)
        self.rtt_ns: Ints = np.zeros(size, dtype=np.int64)
        self.retransmission: Mask = np.zeros(size, dtype=bool)
        self.out_of_order: Mask = np.zeros(size, dtype=bool)
        self.duplicate_ack: Mask = np.zeros(size, dtype=bool)
        if follow is not None:
            at = follow.element
            self.half[at] = follow.order.half
            self.seq[at], self.ack[at], self.window[at] = (
                follow.seq,
                follow.ack,
                follow.window_bytes,
            )
            self.in_flight[at], self.rtt_ns[at] = follow.in_flight_bytes, follow.rtt_ns
            self.retransmission[at] = follow.retransmitted_bytes > 0
            self.out_of_order[at] = follow.out_of_order
            self.duplicate_ack[at] = follow.duplicate_ack
        flow = np.where(self.half >= 0, self.half >> 1, labels.connection.size - 1)
        self.connection = labels.connection[flow]
        self.subflow = labels.subflow[flow]
        self.side = np.where(self.half >= 0, (self.half & 1) ^ labels.opened_by[flow], -1)
        self.dsn, self.data_ack = labels.data_numbers(self)
        dss = segments.dss
        self.has_map, self.ssn, self.dlen = dss.has_map, dss.ssn.copy(), dss.length.copy()
        for element, option in segments.options:  # the first data of version 1
            if isinstance(option, MpCapable) and option.data_length:
                self.has_map[element] = True
                self.dsn[element] = self.ssn[element] = 1
                self.dlen[element] = option.data_length

    def __len__(self) -> int:
        return len(self.segments)

    def flag(self, name: str) -> Mask:
        """Return a flag of ``packet_filter.FLAGS``."""
        if name in _TCP_FLAGS:
            return np.asarray(self.segments.flags & _TCP_FLAGS[name] != 0)
        if name == "mptcp":
            return np.asarray(self.segments.is_mptcp)
        if name == "data_fin":
            return self.segments.dss.has_fin
        if name == "backup":
            mask = np.zeros(len(self), dtype=bool)
            for element, option in self.segments.options:
                mask[element] |= bool(getattr(option, "backup", False))
            return mask
        return np.asarray(getattr(self, name))

    def values(self, name: str) -> Values:
        """Return the packets that have a field, and its values."""
        version, _, rest = name.partition(" ")
        if version in ("ipv4", "ipv6"):
            rows, codes = self.values(rest)
            of_version = (codes < FIRST_IPV6) == (version == "ipv4")
            return rows[of_version], codes[of_version]
        if version == "flag":
            return self._every(self.segments.control & int(rest, 16) != 0)
        if version == "followed":
            rows = np.flatnonzero(self.half >= 0)
            return rows, getattr(self, rest)[rows]
        if version == "raw":
            return self._raw(rest)
        if version == "dss":
            rows = np.flatnonzero(self.segments.dss.has_map)
            return rows, getattr(self, rest)[rows]
        segments = self.segments
        if name in OPTION_FIELDS:
            return self._of_options(name)
        if name in ("port", "addr"):
            pair = ("source_port", "destination_port") if name == "port" else (
                "source", "destination",
            )  # fmt: skip
            every = np.arange(len(self), dtype=np.int64)
            return np.tile(every, 2), np.concatenate([getattr(segments, one) for one in pair])
        plain: dict[str, Callable[[], NDArray[Any]]] = {
            "packet": lambda: segments.number,
            "time": lambda: (segments.time_ns - self.trace.first_ns) / 1e9,
            "epoch": lambda: segments.time_ns / 1e9,
            "sport": lambda: segments.source_port,
            "dport": lambda: segments.destination_port,
            "src": lambda: segments.source,
            "dst": lambda: segments.destination,
            "seq": lambda: self.seq,
            "ack": lambda: self.ack,
            "len": lambda: segments.payload_bytes,
            "window": lambda: self.window,
            "in_flight": lambda: self.in_flight,
            "header": lambda: (segments.control >> 12) * 4,
            "flags": lambda: segments.control & 0xFFF,
            "stream": self._streams,
        }
        if name in plain:
            return self._every(plain[name]())
        return self._present(name)

    def _present(self, name: str) -> Values:
        """Return a field that not all packets have."""
        if name == "rtt":
            rows = np.flatnonzero(self.rtt_ns > 0)
            return rows, self.rtt_ns[rows] / 1e9
        if name in ("connection", "subflow", "side"):
            column = getattr(self, name)
            rows = np.flatnonzero(column >= 0)
            return rows, column[rows]
        rows = np.flatnonzero(self.segments.dss.has_ack if name == "data_ack" else self.has_map)
        return rows, np.asarray(getattr(self, name))[rows]

    def _every(self, column: NDArray[Any]) -> Values:
        return np.arange(len(self), dtype=np.int64), column

    def _raw(self, name: str) -> Values:
        """Return a field as it is on the wire."""
        dss = self.segments.dss
        if name in ("dsn", "ssn"):
            rows = np.flatnonzero(dss.has_map)
            return rows, getattr(dss, name)[rows]
        if name == "data_ack":
            rows = np.flatnonzero(dss.has_ack)
            return rows, dss.data_ack[rows]
        return self._every(getattr(self.segments, name))

    def _streams(self) -> Ints:
        if self._stream is None:
            self._stream = self._labels.streams.numbers(self.segments)
        return self._stream

    def _of_options(self, name: str) -> Values:
        pairs = [
            (element, value)
            for element, option in self.segments.options
            for value in option_values(name, option)
        ]
        rows = np.array([row for row, _ in pairs], dtype=np.int64)
        values = np.array([value for _, value in pairs], dtype=np.uint64)
        dss = self.segments.dss
        if name in ("subtype", "data_fin flag"):
            more = np.flatnonzero(dss.flags >= 0)
            of_dss = dss.has_fin[more] if name != "subtype" else np.full(more.size, DSS)
            rows = np.concatenate((rows, more))
            values = np.concatenate((values, of_dss.astype(np.uint64)))
        return rows, values

    def within(self, codes: NDArray[Any], network: Network) -> Mask:
        """Tell which address codes are in a network."""
        return self.trace.reading.decoder.book.within(codes, *network)

    def lines(self, chosen: Ints) -> Iterator[str]:
        """Yield the chosen packets in tcpdump's manner."""
        yield from self.block(chosen).splitlines()

    def block(self, chosen: Ints) -> str:
        """Return the chosen packets in tcpdump's manner, each line ended by a newline."""
        options: dict[int, list[str]] = {}
        for element, option in self.segments.options:
            options.setdefault(element, []).append(option_text(option))
        rare = self._rare(chosen)
        if options:
            rare |= np.isin(chosen, np.fromiter(options, dtype=np.int64))
        usual_rows = chosen[~rare]
        text = "".join(
            self._usual(usual_rows[first : first + MOST_LINES])
            for first in range(0, usual_rows.size, MOST_LINES)
        )
        if not rare.any():
            return text
        usual = iter(text.splitlines())
        return "".join(
            f"{self._line(k, options.get(k, [])) if is_rare else next(usual)}\n"
            for k, is_rare in zip(chosen.tolist(), rare.tolist(), strict=True)
        )

    def _rare(self, chosen: Ints) -> Mask:
        """Tell which packets have numbers that ``_usual`` cannot write."""
        segments = self.segments
        least = np.minimum(segments.time_ns - self.trace.first_ns, self.seq)
        for column in (self.ack, self.dsn, self.data_ack, self.window):
            least = np.minimum(least, column)
        narrow = segments.dss.flags & DSS_DSN_8 == 0
        beyond = (self.dsn + segments.dss.length) >> np.where(narrow, 32, 62) != 0
        return np.asarray(((least < 0) | beyond)[chosen])

    def _usual(self, chosen: Ints) -> str:
        """Return lines of packets without MPTCP options but DSS."""
        segments, book = self.segments, self.trace.reading.decoder.book
        out = Lines(chosen.size)
        out.number(segments.number[chosen])
        out.word(" ")
        out.microseconds((segments.time_ns[chosen] - self.trace.first_ns + 500) // 1000)
        connection, subflow = self.connection[chosen], self.subflow[chosen]
        known = connection >= 0
        if known.any():
            out.word(" c", known)
            out.number(np.maximum(connection, 0), known)
            out.word(" s", known)
            out.number(np.maximum(subflow, 0), known)
        both = np.concatenate((segments.source[chosen], segments.destination[chosen]))
        codes, which = np.unique(both, return_inverse=True)
        addresses = Vocabulary([book.text(code) for code in codes.tolist()])
        out.word(" ")
        out.words(addresses, which[: chosen.size])
        out.word(".")
        out.number(segments.source_port[chosen])
        out.word(" > ")
        out.words(addresses, which[chosen.size :])
        out.word(".")
        out.number(segments.destination_port[chosen])
        out.word(": Flags [")
        flags = segments.flags[chosen]
        out.words(_FLAGS, flags)
        out.word("], seq ")
        seq, size = self.seq[chosen], segments.payload_bytes[chosen]
        out.number(seq)
        out.word(":", size > 0)
        out.number(seq + size, size > 0)
        acks = flags & ACK != 0
        out.word(", ack ", acks)
        out.number(self.ack[chosen], acks)
        out.word(", win ")
        out.number(self.window[chosen])
        self._usual_dss(out, chosen)
        out.word(", length ")
        out.number(size)
        marks = (
            self.retransmission[chosen]
            + 2 * self.out_of_order[chosen]
            + 4 * self.duplicate_ack[chosen].astype(np.int64)
        )
        if marks.any():
            out.words(_MARKS, marks)
        return out.text()

    def _usual_dss(self, out: Lines, chosen: Ints) -> None:
        dss = self.segments.dss
        present = dss.flags[chosen] >= 0
        if not present.any():
            return
        has_ack, has_map = dss.has_ack[chosen], dss.has_map[chosen]
        out.word(", options [mp dss", present)
        out.word(" fin", dss.has_fin[chosen])
        out.word(" ack ", has_ack)
        out.number(self.data_ack[chosen], has_ack)
        dsn, length = self.dsn[chosen], dss.length[chosen]
        for word, values in (
            (" seq ", dsn), (":", dsn + length), (" subseq ", dss.ssn[chosen]), (" len ", length),
        ):  # fmt: skip
            out.word(word, has_map)
            out.number(values, has_map)
        summed = dss.checksum[chosen] >= 0
        if summed.any():
            out.word(" csum 0x", summed)
            out.hexadecimal(dss.checksum[chosen], summed)
        out.word("]", present)

    def _line(self, k: int, options: list[str]) -> str:
        segments, book = self.segments, self.trace.reading.decoder.book
        seconds = (int(segments.time_ns[k]) - self.trace.first_ns + 500) // 1000 / 1e6
        label = ""
        if self.connection[k] >= 0:
            label = f" c{self.connection[k]} s{self.subflow[k]}"
        size = int(segments.payload_bytes[k])
        flags = int(segments.flags[k])
        seq = int(self.seq[k])
        text = (
            f"{int(segments.number[k])} {seconds:.6f}{label} "
            f"{book.text(int(segments.source[k]))}.{int(segments.source_port[k])} > "
            f"{book.text(int(segments.destination[k]))}.{int(segments.destination_port[k])}: "
            f"Flags [{format_flags(flags)}], seq {seq}" + (f":{seq + size}" if size else "")
        )
        if flags & ACK:
            text += f", ack {int(self.ack[k])}"
        text += f", win {int(self.window[k])}"
        options = options + self._dss(k)
        if options:
            text += f", options [{', '.join(options)}]"
        marks = sum(int(getattr(self, mark)[k]) << bit for bit, mark in enumerate(_MARK_NAMES))
        return f"{text}, length {size}{_marks(marks)}"

    def _dss(self, k: int) -> list[str]:
        """Return a packet's DSS, its numbers relative; what the snap length cut is left out."""
        dss = self.segments.dss
        if dss.flags[k] < 0:
            return []
        flags, checksum = int(dss.flags[k]), int(dss.checksum[k])
        option = Dss(
            data_ack=int(self.data_ack[k]) if dss.has_ack[k] else None,
            data_ack_8=flags & DSS_ACK_8 != 0,
            dsn=int(self.dsn[k]) if dss.has_map[k] else None,
            dsn_8=flags & DSS_DSN_8 != 0,
            ssn=int(dss.ssn[k]),
            data_length=int(dss.length[k]),
            checksum=checksum if checksum >= 0 else None,
            data_fin=bool(dss.has_fin[k]),
        )
        return [option_text(option)]


class _Labels:
    """The connection and subflow of every flow; the last row stands for none."""

    def __init__(self, trace: Trace) -> None:
        self.streams = Streams()
        count = trace.reading.placer.table.count + 1
        self.connection: Ints = np.full(count, -1, dtype=np.int64)
        self.subflow: Ints = np.full(count, -1, dtype=np.int64)
        self.opened_by: Ints = np.zeros(count, dtype=np.int64)
        self.bases = np.zeros((len(trace.connections) + 1, 2), dtype=np.uint64)
        self._reference = np.zeros((len(trace.connections) + 1, 2), dtype=np.int64)
        for connection in trace.connections:
            for side, base in enumerate(connection.data_bases):
                self.bases[connection.number, side] = (base or 0) & (1 << 64) - 1
            for subflow in connection.subflows:
                self.connection[subflow.flow] = connection.number
                self.subflow[subflow.flow] = subflow.number
                self.opened_by[subflow.flow] = subflow.opened_by

    def go_on_from(self, before: _Labels) -> None:
        """Take over where data sequence numbers of 32 bits had got to."""
        rows = min(len(before._reference), len(self._reference))
        self._reference[: rows - 1] = before._reference[: rows - 1]
        self.streams = before.streams

    def data_numbers(self, batch: PacketBatch) -> tuple[Ints, Ints]:
        """Return relative data sequence numbers and DATA_ACKs, 0 where a packet has none."""
        dss = batch.segments.dss
        dsn = np.zeros(len(batch), dtype=np.int64)
        data_ack = np.zeros(len(batch), dtype=np.int64)
        acks = np.flatnonzero(dss.has_ack & (batch.connection >= 0))
        maps = np.flatnonzero(dss.has_map & (batch.connection >= 0))
        if maps.size:
            dsn[maps] = self._relative(
                batch, maps, dss.dsn[maps], dss.flags[maps] & DSS_DSN_8 != 0, 0
            )
        if acks.size:
            wide = dss.flags[acks] & DSS_ACK_8 != 0
            data_ack[acks] = self._relative(batch, acks, dss.data_ack[acks], wide, 1)
        return dsn, data_ack

    def _relative(
        self, batch: PacketBatch, rows: Ints, number: NDArray[Any], wide: Mask, other: int
    ) -> Ints:
        connection, side = batch.connection[rows], batch.side[rows] ^ other
        base = self.bases[connection, side]
        exact = (number - base).view(np.int64)
        low = ((number - base) & np.uint64(0xFFFF_FFFF)).astype(np.int64)
        reference = self._reference[connection, side]
        out = np.where(wide, exact, unwrapped(low, np.zeros_like(low), reference))
        np.maximum.at(self._reference, (connection, side), out)
        return out


def packet_batches(trace: Trace) -> Iterator[PacketBatch]:
    """Read the capture again and yield its TCP segments, batch by batch.

    Raises ``CaptureError`` for what came through a pipe.
    """
    _check_again(trace)
    reading = Reading()
    reading.decoder.book = trace.reading.decoder.book
    labels = _Labels(trace)
    for _, segments, placed in decoded(trace.paths, reading.decoder, reading.placer, []):
        if len(segments):
            followed = None if placed is None else reading.follower.follow(segments, placed)
            yield PacketBatch(trace, labels, segments, followed)


def _check_again(trace: Trace) -> None:
    for path in trace.paths:
        if is_stream(path):
            raise CaptureError(
                f"{source_name(path)}: came through a pipe and cannot be read a second time; "
                "save it in a file"
            )


class LiveBatches:
    """The packets of a capture that is still being made, labelled by what is known so far."""

    def __init__(self) -> None:
        self._trace: Trace | None = None
        self._labels: _Labels | None = None

    def batch(self, trace: Trace, segments: Segments, followed: Followed | None) -> PacketBatch:
        """Return a batch; ``trace`` knows all its flows."""
        if self._labels is None or trace is not self._trace:
            before, self._labels, self._trace = self._labels, _Labels(trace), trace
            if before is not None:
                self._labels.go_on_from(before)
        return PacketBatch(trace, self._labels, segments, followed)


def packet_lines(trace: Trace, test: Test | None) -> Iterator[str]:
    """Yield the packets that pass the filter (all TCP segments without one) as text."""
    for block in packet_blocks(trace, test):
        yield from block.splitlines()


def packet_blocks(trace: Trace, test: Test | None) -> Iterator[str]:
    """Yield the same lines many at a time, each ended by a newline."""
    for batch in packet_batches(trace):
        chosen = np.arange(len(batch)) if test is None else np.flatnonzero(test(batch))
        if chosen.size:
            yield batch.block(chosen)


def write_packets(trace: Trace, test: Test | None, writer: CaptureWriter) -> None:
    """Write the packets that pass the filter, or all packets without one, as they were captured.

    Raises ``CaptureError`` where they cannot be written, and for what came through a pipe.
    """
    _check_again(trace)
    reading = Reading()
    reading.decoder.book = trace.reading.decoder.book
    labels = _Labels(trace)
    has_nanoseconds = None
    try:
        for batch in open_batches(trace.paths, []):
            if has_nanoseconds is None and len(batch):
                has_nanoseconds = bool((batch.time_ns % 1000).any())
            if test is None:
                writer.write(batch, has_nanoseconds)
                continue
            segments = reading.decoder.decode(batch)
            if len(segments):
                placed = reading.placer.place(segments)
                followed = None if placed is None else reading.follower.follow(segments, placed)
                passed = test(PacketBatch(trace, labels, segments, followed))
                writer.write(batch.take(segments.row[passed]), has_nanoseconds)
    finally:
        writer.close()
