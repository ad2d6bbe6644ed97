"""Markup in which texts are texts, whatever they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from mptcplab.plain_text import printable

_VOID: Final = ("br", "hr", "img", "input", "meta")


class Markup(str):
    """A piece of HTML; every other text is escaped when it becomes part of one."""

    __slots__ = ()


def element(tag: str, /, *children: str | Iterable[str], **attributes: str | int | None) -> Markup:
    """Return an element; attributes that are None are left out.

    ``class_`` and ``for_`` are those attributes, other underscores are hyphens.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(printable(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{joined(*children)}</{tag}>")


def joined(*children: str | Iterable[str]) -> Markup:
    """Return children one after the other; texts among them are escaped."""
    parts = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(str(child))
        elif isinstance(child, str):
            parts.append(escape(printable(child)))
        else:
            parts.append(joined(*child))
    return Markup("".join(parts))


def preformatted(text: str) -> Markup:
    """Return a text whose lines stay as they are."""
    return element("pre", Markup(escape(printable(text, keep="\n"))))


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1
) -> Markup:
    """Return a table; all columns after the first ``left`` are numbers, aligned to the right."""
    titles = (
        element("th", title, scope="col", class_=None if place < left else "number")
        for place, title in enumerate(head)
    )
    body = (
        element(
            "tr",
            element("th", row[0], scope="row"),
            (
                element("td", cell, class_=None if place < left else "number")
                for place, cell in enumerate(row[1:], 1)
            ),
        )
        for row in rows
    )
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", titles)),
            element("tbody", body),
        ),
        class_="wide",
    )


def pairs(rows: Iterable[tuple[str, str]]) -> Markup:
    """Return names and what they stand for, one pair a line."""
    return element("dl", (joined(element("dt", name), element("dd", text)) for name, text in rows))


def paragraphs(texts: Iterable[str]) -> Markup:
    """Return texts as paragraphs."""
    return joined(element("p", text) for text in texts)


def section(title: str, *children: str | Iterable[str], class_: str | None = None) -> Markup:
    """Return a section of a part, with its heading."""
    return element("section", element("h3", title), *children, class_=class_)
