"""What the pages show: their files, commands with the output below them, and Python code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# ([\w.-]+\.(?:toml|py))\n")


@dataclass(frozen=True)
class File:
    """A block whose first line is a comment with a file's name."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command line, and the lines that a page shows below it; "..." stands for lines left out."""

    page: str
    line: str
    output: tuple[str, ...] = ()


@dataclass(frozen=True)
class Code:
    """A block of Python that is no file."""

    text: str


@dataclass
class Page:
    """All of a page, in its order."""

    path: Path
    parts: list[File | Command | Code] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its path from the root of the sources."""
        return str(self.path.relative_to(ROOT))

    @property
    def commands(self) -> list[Command]:
        """Its commands in order."""
        return [part for part in self.parts if isinstance(part, Command)]


def read(path: Path) -> Page:
    """Read a page."""
    page = Page(path)
    text = path.read_text(encoding="utf-8")
    last = 0
    for block in _FENCE.finditer(text):
        page.parts += _indented(page.name, text[last : block.start()])
        last = block.end()
        indent, language, body = block.groups()
        body = re.sub(f"^{indent}", "", body, flags=re.MULTILINE)
        named = _FILE_NAME.match(body) if language in ("toml", "python") else None
        if named:
            page.parts.append(File(named[1], body))
        elif language == "python":
            page.parts.append(Code(body))
        elif language == "sh":
            page.parts += [Command(page.name, line) for line in _shell_lines(body)]
        elif language == "console":
            page.parts += _console(page.name, body)
    page.parts += _indented(page.name, text[last:])
    return page


def _shell_lines(body: str) -> Iterator[str]:
    for line in body.splitlines():
        if line.strip() and not line.startswith("#"):
            yield re.sub(r"\s+# .*$", "", line)


def _console(page: str, body: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        line, *output = part.splitlines()
        yield Command(page, line, tuple(output))


def _indented(page: str, prose: str) -> Iterator[Command]:
    """Yield the commands of blocks that are code by their indentation alone."""
    for line in re.findall(r"^ {4}((?:make|mptcplab|python|\$) ?.*)$", prose, re.MULTILINE):
        yield Command(page, re.sub(r"\s+# .*$", "", line).removeprefix("$ "))
