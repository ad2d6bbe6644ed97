"""Texts of files, captures and remote ends, made harmless for terminals, figures and pages.

What a terminal acts on (C0 and C1 control characters, and so escape sequences), what reorders the
text around it (bidirectional controls) and what nobody sees (zero-width characters) is shown as an
escape sequence of Python's: ``\\x1b``, ``\\u202e``.
"""

from __future__ import annotations

_SPACES = "\u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""Unicode's other spaces (category Zs), which Python does not count as printable."""


def printable(text: str, keep: str = "") -> str:
    """Return a text with every character escaped that does not print, but for those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or letter in keep or letter in _SPACES
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def plain_values(value: object) -> object:
    """Return what JSON or TOML gave, with :func:`printable` done to every text in it, keys too.

    Takes values of any depth.  The lists and objects given are changed in place.
    """
    top = [value]
    waiting: list[list[object] | dict[str, object]] = [top]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict):
            for key in [key for key in holder if not key.isprintable()]:
                holder[printable(key)] = holder.pop(key)
        for place, item in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(item, str):
                holder[place] = printable(item)  # type: ignore[index]
            elif isinstance(item, list | dict):
                waiting.append(item)
    return top[0]
