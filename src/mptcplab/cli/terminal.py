"""What the program writes to a terminal: lines of text, whatever a file or a peer put into them."""

from __future__ import annotations

import os
import sys

from mptcplab.plain_text import printable

_RED, _GREEN, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[0m"
_COLUMN_END = r"(?=  |$)"
_BAD = (
    r"\bNOT VALID\b|(?<=: )missed$|(?<=  )(?:worse|missed|NO)" + _COLUMN_END
    + r"|^Verdict: \d+ of \d+ expectations not met"
)  # fmt: skip
"""Where a verdict stands: alone, at the end of an expectation's line, in a column of a table."""
_GOOD = (
    r"^valid(?=:)|(?<=: )met$|(?<=  )(?:valid|better|met|every byte)" + _COLUMN_END
    + r"|^Verdict: all \d+ expectations met"
)  # fmt: skip

TYPE_CHECKING = False  # of typing, which costs --help 10 ms
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO


class PlainStream:
    """A text stream that passes on lines and tabs, and escapes what else does not print.

    In a terminal, what is valid or met is green, and what is not is red, unless NO_COLOR is set
    (no-color.org).
    """

    def __init__(self, raw: TextIO) -> None:
        """Take the stream to write to; it stays at hand as ``raw``, for a display's own control."""
        self.raw = raw
        self._is_coloured = has_colours(raw)

    def write(self, text: str) -> int:
        """Write a text, made harmless."""
        plain = "\n".join(printable(line, keep="\t") for line in text.split("\n"))
        self.raw.write(coloured(plain) if self._is_coloured else plain)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def has_colours(stream: TextIO) -> bool:
    """Say whether a stream is a terminal that shows colours, and its user wants them."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # none, or closed
        return False


def coloured(text: str) -> str:
    """Return a text with the words of verdicts in colour, where such words stand."""
    import re  # costs --help 10 ms

    text = re.sub(_BAD, f"{_RED}\\g<0>{_PLAIN}", text, flags=re.MULTILINE)
    return re.sub(_GOOD, f"{_GREEN}\\g<0>{_PLAIN}", text, flags=re.MULTILINE)


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
