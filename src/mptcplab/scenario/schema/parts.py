"""The parts of a schema: tables, their keys, and rules between keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mptcplab.scenario.schema import value_kinds
from mptcplab.scenario.schema.value_kinds import Kind


@dataclass(frozen=True, slots=True)
class Rule:
    """How many of some keys one table may have: ``least`` to ``most``."""

    keys: tuple[str, ...]
    least: int
    most: int

    def __str__(self) -> str:
        count = "one" if self.most == 1 else "at least one"
        if not self.least:
            count = "only one"
        return f"{count} of {', '.join(f'`{key}`' for key in self.keys)}"


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the file: its name in the documentation, its keys, and rules between them."""

    name: str
    doc: str
    keys: dict[str, Key]
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A value that is one table."""

    section: Section


@dataclass(frozen=True, slots=True)
class Tables:
    """A value that holds one table for each name.

    ``shorthand`` is the key that a bare value in place of the table sets.  With ``listed``, a list
    of names is as many empty tables.
    """

    section: Section
    what: str
    name_pattern: str = value_kinds.NAME
    shorthand: str = ""
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """A value that is an array of tables; ``shorthand`` is as in :class:`Tables`."""

    section: Section
    shorthand: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """A value that is a table of free names, all of one kind."""

    kind: Kind
    name_pattern: str


@dataclass(frozen=True, slots=True)
class Key:
    """One key: kind, default (as resolved), how documentation shows the default, meaning."""

    kind: Kind | Table | Tables | Rows | Settings
    doc: str
    default: Any = None
    shown: str = ""
    required: bool = False
    aliases: tuple[str, ...] = field(default=())  # names in other tools, for suggestions only
