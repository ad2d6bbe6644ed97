"""From what a user names to packets: files, folders and patterns, one or several, in time's order.

Captures that a tool wrote as a row of files (``tcpdump -C``, ``-G`` and ``-W``, ring buffers of
``dumpcap``) are put in order by the time of their first packets, whatever their names.
"""

from __future__ import annotations

import glob
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mptcplab.trace.files.batch import Batch, CaptureError, Damage
from mptcplab.trace.files.capture import CaptureFile, Progress, is_capture
from mptcplab.trace.files.merging import Part, merged
from mptcplab.trace.files.sources import STANDARD_INPUT, Source, is_stream, source_name

_PATTERN: Final = frozenset("*?[")
_COPY_BYTES: Final = 1 << 20


def expanded(paths: Iterable[Path]) -> list[Path]:
    """Return the files that paths stand for: those in a folder, or those that fit a pattern.

    Of a folder, what is not a capture is left out, and so are files that are still empty.  Raises
    ``CaptureError`` where nothing is left.
    """
    files: list[Path] = []
    for path in paths:
        if path == STANDARD_INPUT or (path.exists() and not path.is_dir()):
            files.append(path)
        elif path.is_dir():
            inside = sorted(entry for entry in path.iterdir() if is_capture(entry))
            if not inside:
                raise CaptureError(
                    f"{path}: the folder holds no capture (pcap or pcapng), and is no run of "
                    "mptcplab, which has a run.json"
                )
            files += inside
        elif _PATTERN.intersection(str(path)):
            fitting = sorted(map(Path, glob.glob(str(path))))  # noqa: PTH207  (may be absolute)
            if not fitting:
                raise CaptureError(f"{path}: no file fits this pattern")
            files += expanded(fitting)
        else:
            files.append(path)  # what is wrong with it is said when it is opened
    return files


@contextmanager
def kept(paths: Iterable[Path], again: bool) -> Iterator[list[Path]]:
    """Yield the files that paths stand for, good to be read ``again`` where that is asked for.

    Then what comes through a pipe is copied to a temporary file first.  Raises ``CaptureError``
    where that is not possible.
    """
    files = expanded(paths)
    if not (again or len(files) > 1) or not any(map(is_stream, files)):
        yield files
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mptcplab-") as folder:
        yield [_copied(path, Path(folder, str(k))) for k, path in enumerate(files)]


def _copied(path: Path, folder: Path) -> Path:
    """Return a path that can be read again: the file itself, or a copy of a stream."""
    if not is_stream(path):
        return path
    source = Source(path, unpacked=False)
    folder.mkdir()
    copy = folder / ("standard input" if path == STANDARD_INPUT else path.name)
    try:
        with copy.open("wb") as file:
            while data := source.raw.read(_COPY_BYTES):
                file.write(data)
    except OSError as error:
        raise CaptureError(f"{source.name}: cannot be kept: {error.strerror or error}") from None
    finally:
        source.close()
    return copy


def stored_bytes(paths: Iterable[Path]) -> int:
    """Return how many bytes the files have on disk together, 0 where one is a pipe."""
    total = 0
    for path in paths:
        if is_stream(path) or not path.exists():
            return 0
        total += path.stat().st_size
    return total


def open_batches(
    paths: list[Path], damage: list[Damage], progress: Progress | None = None
) -> Iterator[Batch]:
    """Yield the packets of one or several files in order of time.

    Raises ``CaptureError`` for a file that is not a capture; damage in a file goes to ``damage``.
    """
    if len(paths) == 1:
        file = CaptureFile(paths[0], progress)
        yield from file.batches()
        damage.extend(file.damage)
        return
    parts = [_Part(path, k, damage, progress) for k, path in enumerate(paths)]
    yield from merged(list(parts))


class _Part(Part):
    """One of several files; a file is only open while its packets are due."""

    def __init__(
        self, path: Path, number: int, damage: list[Damage], progress: Progress | None
    ) -> None:
        self._path = path
        self._number = number
        self._damage = damage
        self._progress = progress
        self._begun: Iterator[Batch] | None = None
        self._ahead: Batch | None = None
        batches = self._batches()
        self._ahead = next(batches, None)
        if self._ahead is not None:
            self.first_ns = int(self._ahead.time_ns[0])
        if is_stream(path):
            self._begun = batches  # it cannot be opened again
        else:
            batches.close()
            self._ahead = None

    def batches(self) -> Iterator[Batch]:
        if self._begun is None:
            yield from self._batches()
            return
        if self._ahead is not None:
            yield self._ahead
            self._ahead = None
        yield from self._begun

    def _batches(self) -> Generator[Batch, None, None]:
        file = CaptureFile(self._path, self._progress, self._number)
        yield from file.batches()
        name = source_name(self._path)
        self._damage.extend(
            Damage(each.number, f"{each.reason} (number within {name})") for each in file.damage
        )
