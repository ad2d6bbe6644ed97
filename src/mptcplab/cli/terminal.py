"""What the program writes to a terminal: lines of text, whatever a file or a peer put into them."""

from __future__ import annotations

import sys

from mptcplab.plain_text import printable

TYPE_CHECKING = False  # of typing, which costs --help 10 ms
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO


class PlainStream:
    """A text stream that passes on lines and tabs, and escapes what else does not print."""

    def __init__(self, raw: TextIO) -> None:
        """Take the stream to write to; it stays at hand as ``raw``, for a display's own control."""
        self.raw = raw

    def write(self, text: str) -> int:
        """Write a text, made harmless."""
        self.raw.write("\n".join(printable(line, keep="\t") for line in text.split("\n")))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def unfiltered(stream: Any) -> TextIO:
    """Return what takes control sequences too, for a display of our own making."""
    bare: TextIO = stream.raw if isinstance(stream, PlainStream) else stream
    return bare


def protect_terminal() -> None:
    """Let standard output and standard error take plain text alone, from here on."""
    sys.stdout = _plain(sys.stdout)
    sys.stderr = _plain(sys.stderr)


def _plain(stream: Any) -> Any:
    return stream if isinstance(stream, PlainStream) else PlainStream(stream)
