"""Where the bytes of a capture come from: files, compressed or not, pipes and standard input."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Protocol, cast

from mptcplab.trace.files.batch import CaptureError
from mptcplab.trace.files.expansion import BoundedExpansion, Readable

STANDARD_INPUT: Final = Path("-")

_HEAD_BYTES: Final = 6
_UNPACKED_BYTES: Final = 1 << 18
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_XZ_MAGIC: Final = b"\xfd7zXZ\x00"
_BZIP2_MAGIC: Final = b"BZh"

MoreComes = Callable[[], bool]
"""Called when a growing capture has no more bytes yet: waits a little, and says whether to go on
waiting."""


class Source:
    """The opened bytes of one capture."""

    def __init__(
        self, path: Path, more_comes: MoreComes | None = None, unpacked: bool = True
    ) -> None:
        """Open ``path``; raises ``CaptureError`` where that is not possible.

        With ``more_comes``, the file's end is not the end while it says so; reading then returns
        as soon as there are any bytes.  Unless ``unpacked``, the bytes are left as they are.
        """
        self.name = source_name(path)
        self.size = 0
        """Of the file as it is on disk, 0 for a pipe."""
        try:
            self.raw = _open(path)
            status = os.fstat(self.raw.fileno())
        except OSError as error:
            raise CaptureError(f"{self.name}: {error.strerror or error}") from None
        if stat.S_ISREG(status.st_mode):
            self.size = status.st_size
        self.is_growing = more_comes is not None
        if not unpacked:
            self.stream: Readable = self.raw
            return
        grows: Readable = self.raw
        if more_comes is not None:
            grows = _Growing(self.raw, self.name, more_comes)
        head = read_up_to(_HEAD_BYTES, grows.readinto)
        stream: Readable = _Rest(head, grows)
        if head.startswith((_GZIP_MAGIC, _ZSTD_MAGIC, _XZ_MAGIC, _BZIP2_MAGIC)):
            if self.is_growing:
                self.close()
                raise CaptureError(
                    f"{self.name}: a compressed file cannot be followed while it grows; "
                    "decompress it on the way, as in 'zcat FILE | mptcplab inspect -'"
                )
            packed = _Packed(stream)
            unpacked_stream = _decompressed(head, cast("IO[bytes]", packed))
            stream = BoundedExpansion(unpacked_stream, packed.taken_bytes)
        self.stream = stream

    def position(self) -> int:
        """Return how many of the bytes on disk have been read."""
        return self.raw.tell() if self.size else 0

    def close(self) -> None:
        """Close it."""
        self.raw.close()


def source_name(path: Path) -> str:
    """Return what messages call a source."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def is_stream(path: Path) -> bool:
    """Tell whether a source is there only once: standard input, a pipe, a FIFO, a socket."""
    if path == STANDARD_INPUT:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _open(path: Path) -> io.FileIO:
    if path != STANDARD_INPUT:
        if path.is_dir():
            raise OSError(errno.EISDIR, "a folder, expected a capture file")
        return io.FileIO(path, "rb")
    if sys.stdin is not None and sys.stdin.isatty():
        raise OSError(errno.EINVAL, "a terminal, expected a capture: pipe one in")
    return io.FileIO(os.dup(0), "rb")


def read_up_to(size: int, readinto: Callable[[memoryview], int | None]) -> bytes:
    """Read so many bytes, fewer where there are no more."""
    buffer = bytearray(size)
    done = 0
    while done < size:
        count = readinto(memoryview(buffer)[done:])
        if not count:
            break
        done += count
    return bytes(buffer[:done])


class _Rest:
    """A stream of which the first bytes have been looked at."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def readinto(self, buffer: memoryview, /) -> int | None:
        if not self._head:
            return self._stream.readinto(buffer)
        count = min(len(buffer), len(self._head))
        buffer[:count] = self._head[:count]
        self._head = self._head[count:]
        return count


class _Growing:
    """A file that is still written: its end is the end only when nothing more is waited for."""

    def __init__(self, raw: io.FileIO, name: str, more_comes: MoreComes) -> None:
        self._raw = raw
        self._name = name
        self._more_comes = more_comes
        self._is_file = stat.S_ISREG(os.fstat(raw.fileno()).st_mode)
        if not self._is_file:
            os.set_blocking(raw.fileno(), False)

    def readinto(self, buffer: memoryview, /) -> int | None:
        while True:
            count = self._raw.readinto(buffer)
            if count or (count == 0 and not self._is_file):
                return count
            if self._is_file and os.fstat(self._raw.fileno()).st_size < self._raw.tell():
                raise CaptureError(f"{self._name}: became shorter while it was followed")
            if not self._more_comes():
                return 0


class _Packed(io.BufferedReader):
    """What decompressors read from; knows how much that was."""

    def __init__(self, stream: Readable) -> None:
        self._counted = _AsRaw(stream)
        super().__init__(self._counted, 1 << 18)

    def taken_bytes(self) -> int:
        """Return how many bytes were read, of which up to a buffer may not be unpacked yet."""
        return self._counted.bytes


class _AsRaw(io.RawIOBase):
    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int | None:
        count = self._stream.readinto(memoryview(buffer).cast("B"))  # type: ignore[arg-type]
        self.bytes += count or 0
        return count


class _Unpacked:
    """Reads what a decompressor has at a time: what comes before a broken place is not lost."""

    def __init__(self, file: _Unpacker) -> None:
        self._file = file

    def readinto(self, buffer: memoryview, /) -> int:
        data = self._file.read1(min(len(buffer), _UNPACKED_BYTES))
        buffer[: len(data)] = data
        return len(data)


class _Unpacker(Protocol):
    def read1(self, size: int, /) -> bytes:
        """Return some bytes, none at the end."""


def _decompressed(head: bytes, packed: IO[bytes]) -> Readable:
    if head.startswith(_GZIP_MAGIC):
        import gzip

        return _Unpacked(gzip.GzipFile(fileobj=packed))
    if head.startswith(_XZ_MAGIC):
        import lzma

        return _Unpacked(lzma.LZMAFile(packed))
    if head.startswith(_BZIP2_MAGIC):
        import bz2

        return _Unpacked(bz2.BZ2File(packed))
    import zstandard

    reader: Readable = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
    return reader


def broken_compression() -> tuple[type[Exception], ...]:
    """Return what reading raises where the compressed bytes are broken."""
    import lzma
    import zlib

    import zstandard

    return (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
