"""Packets of a capture as a capture of their own, their bytes unchanged.

The name decides on the format: ``.pcapng`` is pcapng, anything else pcap.  Pcap has microseconds
where all times are whole microseconds, as in most captures, else nanoseconds; pcapng always has
nanoseconds.  An interface of a pcapng file stands for each link type; comments and other blocks of
the original are not kept.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from mptcplab.trace.columns.fields import Bytes, Ints
from mptcplab.trace.columns.sorting import distinct
from mptcplab.trace.files.batch import Batch, CaptureError
from mptcplab.trace.files.sources import STANDARD_INPUT as STANDARD_OUTPUT

_SNAP_BYTES: Final = 1 << 18
_NANOSECONDS: Final = 9
_RECORD: Final = 16
_BLOCK: Final = 28
_ENHANCED_PACKET: Final = 6


class CaptureWriter:
    """Writes packets, batch by batch, in the order given."""

    def __init__(self, path: Path, sources: Sequence[Path]) -> None:
        """Open the file, which is none of the ``sources``; ``-`` is standard output.

        Raises ``CaptureError`` where that fails.
        """
        if any(path.exists() and source.exists() and path.samefile(source) for source in sources):
            raise CaptureError(f"-w {path}: is a file that is read; expected another")
        self.path = path
        self.packets = 0
        self.is_pcapng = path.suffix == ".pcapng"
        self._unit_ns = 0
        """Nanoseconds of a pcap file's unit of time, 0 while nothing is written."""
        self._link_types: list[int] = []
        try:
            if path == STANDARD_OUTPUT:
                self._file: BinaryIO = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
            else:
                self._file = path.open("wb")
        except OSError as error:
            raise CaptureError(f"-w {path}: {error.strerror or error}") from None

    @property
    def description(self) -> str:
        """What has been written, in words."""
        unit = "microseconds" if self._unit_ns == 1000 and not self.is_pcapng else "nanoseconds"
        name = "standard output" if self.path == STANDARD_OUTPUT else str(self.path)
        count = f"{self.packets:,} packet{'' if self.packets == 1 else 's'}"
        return f"wrote {count} to {name} ({'pcapng' if self.is_pcapng else 'pcap'}, {unit})"

    def write(self, batch: Batch, has_nanoseconds: bool | None = None) -> None:
        """Write all packets of a batch.

        ``has_nanoseconds`` says whether the capture has times finer than microseconds; None judges
        by the first batch.  Raises ``CaptureError`` where the packets do not fit in the format.
        """
        if not len(batch):
            return
        if not self._unit_ns:
            if has_nanoseconds is None:
                has_nanoseconds = bool((batch.time_ns % 1000).any())
            self._unit_ns = 1 if has_nanoseconds or self.is_pcapng else 1000
        for link_type in distinct(batch.link_type).tolist():
            if link_type not in self._link_types:
                self._add_link_type(link_type)
        data = self._blocks(batch) if self.is_pcapng else self._records(batch)
        self._put(data.tobytes())
        self.packets += len(batch)

    def flush(self) -> None:
        """Let readers of the file see everything."""
        self._file.flush()

    def close(self) -> None:
        """Complete the file; one without packets is a valid capture, too."""
        if not self._link_types:
            self._unit_ns = self._unit_ns or 1000
            self._add_link_type(1)
        try:
            self._file.close()
        except OSError as error:
            raise self._failed(error) from None

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> CaptureError:
        """Remove a file that is cut off somewhere, and return what says why."""
        if self.path != STANDARD_OUTPUT and self.path.is_file():
            self.path.unlink(missing_ok=True)
        return CaptureError(f"-w {self.path}: {error.strerror or error}; nothing is left of it")

    def _add_link_type(self, link_type: int) -> None:
        first = not self._link_types
        self._link_types.append(link_type)
        if self.is_pcapng:
            if first:
                self._put(struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28))
            resolution = struct.pack("<HHB3xHH", 9, 1, _NANOSECONDS, 0, 0)
            size = 20 + len(resolution)
            self._put(
                struct.pack("<IIHHI", 1, size, link_type, 0, 0)
                + resolution
                + struct.pack("<I", size)
            )
        elif first:
            magic = 0xA1B2C3D4 if self._unit_ns == 1000 else 0xA1B23C4D
            self._put(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, _SNAP_BYTES, link_type))
        else:
            raise CaptureError(
                f"-w {self.path}: the packets have several link types "
                f"({self._link_types[0]} and {link_type}), of which a pcap file holds one; "
                "give the file a name that ends in .pcapng"
            )

    def _records(self, batch: Batch) -> Bytes:
        """Return pcap records."""
        seconds, rest = np.divmod(batch.time_ns, 1_000_000_000)
        words = (seconds, rest // self._unit_ns, batch.captured, batch.original)
        out, at = _laid_out(batch, _RECORD, batch.captured)
        _put_words(out, at, [*words])
        return out

    def _blocks(self, batch: Batch) -> Bytes:
        """Return enhanced packet blocks."""
        padded = (batch.captured + 3) & ~3
        total = padded + _BLOCK + 4
        interface = np.array([self._link_types.index(kind) for kind in batch.link_type.tolist()])
        words = (
            np.full(len(batch), _ENHANCED_PACKET), total, interface,
            batch.time_ns >> 32, batch.time_ns & 0xFFFF_FFFF, batch.captured, batch.original,
        )  # fmt: skip
        out, at = _laid_out(batch, _BLOCK, padded + 4)
        _put_words(out, at, [*words])
        _put_words(out, at + total - 4, [total])
        return out


def _laid_out(batch: Batch, head: int, body: Ints) -> tuple[Bytes, Ints]:
    """Return room for each packet after ``head`` bytes, its bytes in place, and where each is."""
    size = body + head
    ends = np.cumsum(size)
    at = ends - size
    out = np.zeros(int(ends[-1]), dtype=np.uint8)
    counts = batch.captured
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    out[np.repeat(at + head, counts) + within] = batch.data[
        np.repeat(batch.offset, counts) + within
    ]
    return out, at


def _put_words(out: Bytes, at: Ints, words: list[Ints]) -> None:
    """Write 32-bit numbers, one after another, from each place on."""
    raw = np.stack(words, axis=1).astype("<u4").view(np.uint8)
    out[at[:, None] + np.arange(raw.shape[1])] = raw
