"""Rows of cells as aligned text, as wide as the terminal that it is for."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

_GAP: Final = "  "
_WIDEST: Final = 98
"""Characters of a line of running text; longer ones are hard to read."""
_NARROWEST: Final = 20
_BREAK: Final = re.compile(r"(?<!\d) +| +(?![A-Za-z%])")


def terminal_width() -> int | None:
    """Return the columns of the terminal on standard output; None where it is a file or pipe.

    The variable COLUMNS, where the user has set it, holds for both.
    """
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        return None
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def text_width() -> int:
    """Return the width to which running text is wrapped."""
    return min(_WIDEST, terminal_width() or _WIDEST)


def columns(
    rows: Sequence[Sequence[str]],
    *,
    left: int = 1,
    indent: str = "  ",
    headed: bool = True,
    fitted: bool = True,
) -> str:
    """Return rows as aligned text; the first holds the headings, unless ``headed`` is False.

    The first ``left`` columns are flush left, the others right. What is wider than the terminal is
    wrapped between words, and where even single words are too wide, each row becomes a list of its
    cells. ``fitted`` is False for a text that goes into a file.
    """
    if not rows:
        return ""
    natural = [max(_width(row[index]) for row in rows) for index in range(len(rows[0]))]
    terminal = terminal_width() if fitted else None
    if terminal is None:
        return _table(rows, natural, left, indent)
    room = terminal - len(indent) - len(_GAP) * (len(natural) - 1)
    widths = _fitted(rows, natural, room)
    if widths is None:
        return _lists(rows if headed else [[""] * len(rows[0]), *rows], indent)
    return _table(rows, widths, left, indent)


def _fitted(rows: Sequence[Sequence[str]], natural: Sequence[int], room: int) -> list[int] | None:
    """Return widths that fit into the room, the widest columns narrowed; None where none do."""
    least = [
        max(_width(word) for row in rows for word in _words(row[index]))
        for index in range(len(natural))
    ]
    if sum(least) > room:
        return None
    widths = list(natural)
    while sum(widths) > room:
        widest = max(
            (index for index in range(len(widths)) if widths[index] > least[index]),
            key=lambda index: widths[index],
        )
        widths[widest] -= 1
    return widths


def _table(rows: Sequence[Sequence[str]], widths: Sequence[int], left: int, indent: str) -> str:
    lines = []
    for row in rows:
        wrapped = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        for parts in zip_longest(*wrapped, fillvalue=""):
            cells = [
                part + _blank(part, width) if index < left else _blank(part, width) + part
                for index, (part, width) in enumerate(zip(parts, widths, strict=True))
            ]
            lines.append((indent + _GAP.join(cells)).rstrip())
    return "\n".join(lines)


def _wrapped(cell: str, width: int) -> list[str]:
    """Return a cell as lines of at most this width, broken between words."""
    if _width(cell) <= width:
        return [cell]
    lines = [""]
    for word in _words(cell):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if _width(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _words(cell: str) -> list[str]:
    """Return what a cell may be broken between: words, a number with its unit as one."""
    return _BREAK.split(cell.strip())


def _lists(rows: Sequence[Sequence[str]], indent: str) -> str:
    """Return each row as lines of heading and cell, for a terminal too narrow for a table."""
    headings, *others = rows
    lines = []
    for row in others:
        first, *rest = zip(headings, row, strict=True)
        lines.append(f"{indent}{first[0]} {first[1]}".rstrip() if first[0] else indent + first[1])
        for heading, cell in rest:
            if cell:
                lines.append(f"{indent}  {heading} {cell}" if heading else f"{indent}  {cell}")
    return "\n".join(lines)


def _blank(cell: str, width: int) -> str:
    return " " * (width - _width(cell))


def _width(text: str) -> int:
    """Return the columns of a terminal that a text takes; a Chinese letter takes two."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(letter)
        else 2
        if unicodedata.east_asian_width(letter) in "WF"
        else 1
        for letter in text
    )
