"""On which line of a TOML file each key stands, which Python's parser does not tell."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from mptcplab.scenario.errors import Path

_SPACE: Final = " \t"
_BLANK: Final = " \t\r\n"
_BARE_END: Final = ",]}\n#"
_KEY_END: Final = " \t.=]"


def lines_of(text: str) -> dict[Path, int]:
    """Return the line (from 1 on) of every table, key and element of a list of valid TOML.

    Elements of lists have their numbers as names, as in ``("timeline", "0", "at")``.
    """
    return _Scanner(text).read()


class _Scanner:
    """Goes through a text whose syntax is right, from key to key."""

    def __init__(self, text: str) -> None:
        self._text = text + "\n"
        self._at = 0
        self._starts = [0, *(at + 1 for at, letter in enumerate(text) if letter == "\n")]
        self._lines: dict[Path, int] = {}
        self._rows: dict[Path, int] = {}
        """How many tables each list of tables (``[[NAME]]``) has so far."""

    def read(self) -> dict[Path, int]:
        """Read it all."""
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._lines

    def _header(self) -> Path:
        is_row = self._text.startswith("[[", self._at)
        start = self._at
        self._at += 2 if is_row else 1
        parts = self._key()
        self._at += 2 if is_row else 1
        path: Path = ()
        for place, part in enumerate(parts):
            path = (*path, part)
            if is_row and place == len(parts) - 1:
                self._rows[path] = self._rows.get(path, 0) + 1
            self._note(path, start)
            if path in self._rows:
                path = (*path, str(self._rows[path] - 1))
                self._note(path, start)
        return path

    def _pair(self, table: Path) -> None:
        start = self._at
        path = table
        for part in self._key():
            path = (*path, part)
            self._note(path, start)
        self._at += 1  # the "="
        self._value(path)

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip(_SPACE)
            if self._text[self._at] in "\"'":
                parts.append(self._quoted())
            else:
                start = self._at
                while self._text[self._at] not in _KEY_END:
                    self._at += 1
                parts.append(self._text[start : self._at])
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        match self._text[self._at]:
            case '"' | "'":
                self._quoted()
            case "[":
                self._list(path)
            case "{":
                self._at += 1
                while self._goes_on("}"):
                    self._pair(path)
            case _:
                while self._text[self._at] not in _BARE_END:
                    self._at += 1

    def _list(self, path: Path) -> None:
        self._at += 1
        count = 0
        while self._goes_on("]"):
            element = (*path, str(count))
            self._note(element, self._at)
            self._value(element)
            count += 1

    def _goes_on(self, end: str) -> bool:
        """Go to the next element, past a comma; False at the end, which is passed."""
        self._skip(_BLANK + ",")
        if self._text[self._at] != end:
            return True
        self._at += 1
        return False

    def _quoted(self) -> str:
        """Pass a string and return what is in it, escapes as they are written."""
        quote = self._text[self._at]
        if self._text.startswith(quote * 3, self._at):
            quote *= 3
        start = self._at = self._at + len(quote)
        while not self._text.startswith(quote, self._at):
            self._at += 2 if self._text[self._at] == "\\" and quote[0] == '"' else 1
        inside = self._text[start : self._at]
        self._at += len(quote)
        if len(quote) == 3:  # up to two more of them belong to the string
            self._skip(quote[0])
        return inside

    def _skip(self, letters: str) -> None:
        """Pass letters, and comments where lines may end."""
        while self._at < len(self._text):
            if self._text[self._at] in letters:
                self._at += 1
            elif self._text[self._at] == "#" and "\n" in letters:
                self._at = self._text.index("\n", self._at)
            else:
                return

    def _note(self, path: Path, at: int) -> None:
        self._lines.setdefault(path, bisect_right(self._starts, at))
