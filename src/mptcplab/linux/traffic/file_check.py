"""The checking process: ``python -m mptcplab.linux.traffic.file_check FILE STREAM``.

Compares a file with the stream of that number, and says on standard output what is wrong with it;
nothing where all is right.
"""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import Final

from mptcplab.linux.traffic.pattern import Pattern

_PIECE_BYTES: Final = 1 << 20


def write_file(path: Path, stream: int, size_bytes: int) -> None:
    """Make a file of so many bytes (one at least) of a stream."""
    pattern = Pattern(stream)
    with path.open("wb") as file:
        for position in range(0, size_bytes, _PIECE_BYTES):
            file.writelines(pattern.pieces(position, min(_PIECE_BYTES, size_bytes - position)))


def wrong_byte(path: Path, stream: int) -> str | None:
    """Say where a file, which is not empty, is not the stream; None where it is."""
    pattern = Pattern(stream)
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
    ):
        for position in range(0, len(view), _PIECE_BYTES):
            with view[position : position + _PIECE_BYTES] as piece:
                wrong = pattern.wrong(position, piece)
            if wrong is not None:
                return wrong
    return None


if __name__ == "__main__":
    print(wrong_byte(Path(sys.argv[1]), int(sys.argv[2])) or "", end="")
