"""Packets as lines in tcpdump's manner, many at once.

Each part of a line (a number, an address, a word) has a slot of fixed width in a matrix of
characters, one row a packet; slots are filled up with NUL, and all NULs are dropped at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mptcplab.trace.columns.fields import Ints, Mask

MOST_LINES: Final = 4096
"""Lines that are best put together at a time: their matrix stays in the processor's cache."""

_CHUNK: Final = 10_000
_NOTHING: Final = 2 * _CHUNK


@cache
def _digits(zero: str) -> NDArray[np.uint32]:
    """Return the four digits of each number: without leading zeros, with them, and none at all.

    ``zero`` is how zero is written without leading zeros.
    """
    short = [f"{number}" for number in range(_CHUNK)]
    short[0] = zero
    every = [text.rjust(4, "\0") for text in short]
    every += [f"{number:04d}" for number in range(_CHUNK)]
    return np.frombuffer("".join([*every, "\0\0\0\0"]).encode(), dtype=np.uint32)


_DECIMALS: Final = np.frombuffer(
    "".join(f"\0.{number:02d}" for number in range(100)).encode(), dtype=np.uint32
)

Four = NDArray[np.uint32]
"""Four characters of each line."""


def _fours(text: bytes) -> Four:
    return np.frombuffer(text + bytes(-len(text) % 4), dtype=np.uint32)


class Vocabulary:
    """Texts of which lines have one each."""

    def __init__(self, texts: Sequence[str]) -> None:
        encoded = [text.encode() for text in texts]
        width = -(-max(map(len, encoded), default=0) // 4) * 4
        whole = b"".join(text.ljust(width, b"\0") for text in encoded)
        self.fours = list(np.frombuffer(whole, dtype=np.uint32).reshape(len(texts), -1).T.copy())


class Lines:
    """Lines while they are put together, part by part."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._columns: list[Four | np.uint32] = []

    def word(self, text: str, where: Mask | None = None) -> None:
        """Add the same text to all lines, or to those ``where`` says."""
        for four in _fours(text.encode()):
            self._columns.append(four if where is None else where * four)

    def words(self, vocabulary: Vocabulary, which: NDArray[Any]) -> None:
        """Add to each line the text that ``which`` gives the place of."""
        self._columns += [fours[which] for fours in vocabulary.fours]

    def number(self, values: Ints, where: Mask | None = None) -> None:
        """Add numbers, none of them negative, to all lines, or to those ``where`` says."""
        chunks = -(-len(str(int(values.max(initial=0)))) // 4)
        columns: list[Four] = []
        for k in range(chunks - 1, -1, -1):
            entry = values
            if k:
                values = values // _CHUNK
                entry = entry - values * _CHUNK
                entry += _CHUNK * (values > 0)
            if where is not None:
                entry = np.where(where, entry, _NOTHING)
            columns.append(_digits("" if columns else "0")[entry])
        self._columns += columns[::-1]

    def microseconds(self, values: Ints) -> None:
        """Add times in microseconds as seconds with six decimals."""
        seconds = values // 1_000_000
        rest = values - seconds * 1_000_000
        high = rest // _CHUNK
        self.number(seconds)
        self._columns += [_DECIMALS[high], _digits("0")[rest - high * _CHUNK + _CHUNK]]

    def hexadecimal(self, values: Ints, where: Mask) -> None:
        """Add numbers of 16 bits as four hexadecimal digits to the lines that ``where`` says."""
        letters = np.zeros((self._rows, 4), dtype=np.uint8)
        for k in range(4):
            digit = values >> 4 * (3 - k) & 15
            letters[:, k] = (digit + np.where(digit < 10, ord("0"), ord("a") - 10)) * where
        self._columns.append(letters.view(np.uint32)[:, 0])

    def text(self) -> str:
        """Return all lines, each ended by a newline."""
        self.word("\n")
        out = np.empty((self._rows, len(self._columns)), dtype=np.uint32)
        for k, column in enumerate(self._columns):
            out[:, k] = column
        return out.tobytes().translate(None, b"\0").decode()
