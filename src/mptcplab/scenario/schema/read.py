"""Read a raw tree by its schema: parse values, fill in defaults, note errors."""

from __future__ import annotations

import re
from typing import Any

from mptcplab.scenario.errors import Path, Problems, dotted, duplicate
from mptcplab.scenario.schema.keys import SCENARIO
from mptcplab.scenario.schema.parts import Key, Rows, Section, Settings, Table, Tables
from mptcplab.scenario.schema.source_files import suggestion
from mptcplab.scenario.schema.value_kinds import (
    HOPS,
    LISTED,
    SCTP_SETTINGS,
    SCTP_VALUE,
    Kind,
    quoted,
)
from mptcplab.units import UnitError

Values = dict[str, Any]


def read_section(section: Section, raw: Any, path: Path, problems: Problems) -> Values:
    """Return the parsed values of one table; keys without value or default are None."""
    if not isinstance(raw, dict):
        problems.add(path, f"{quoted(raw)} is not a table", f"the keys {', '.join(section.keys)}")
        unheard = Problems(lambda _: "")
        return {name: _absent(key, (*path, name), unheard) for name, key in section.keys.items()}
    where = dotted(path) or f"a {section.name}"
    for name in raw:
        if name not in section.keys:
            hint = suggestion(name, section.keys)
            if path and name in SCENARIO.keys:  # TOML: it fell into the table above it
                hint = f'"{name}" is a key of the whole file; it goes above the first [table]'
            problems.add((*path, name), f'unknown key "{name}"', f"a key of {where}", hint)
    for rule in section.rules:
        present = [name for name in rule.keys if name in raw]
        if len(present) > rule.most:
            problems.add((*path, present[1]), f"is given together with {present[0]}", str(rule))
        elif len(present) < rule.least:
            problems.add(path, f"has none of {', '.join(rule.keys)}", str(rule))
    values: Values = {}
    for name, key in section.keys.items():
        here = (*path, name)
        if name in raw:
            values[name] = _read_value(key, raw[name], here, problems)
        else:
            values[name] = _absent(key, here, problems)
    return values


def _absent(key: Key, path: Path, problems: Problems) -> Any:
    if key.required:
        example = f" such as {key.kind.example}" if isinstance(key.kind, Kind) else ""
        problems.add(path, "is missing", f"a value{example}: {key.doc}")
        return None
    if isinstance(key.kind, Table):
        return None
    if isinstance(key.kind, Tables | Settings):
        return {}
    if isinstance(key.kind, Rows):
        return []
    return key.default


def _read_value(key: Key, raw: Any, path: Path, problems: Problems) -> Any:
    kind = key.kind
    if isinstance(kind, Kind):
        return _parsed(kind, raw, path, problems, key.default)
    if isinstance(kind, Table):
        return read_section(kind.section, raw, path, problems)
    if isinstance(kind, Rows):
        if not isinstance(raw, list):
            problems.add(path, f"{quoted(raw)} is not an array of tables", f"[[{'.'.join(path)}]]")
            return []
        return [
            read_section(kind.section, row, (*path, str(index)), problems)
            for index, row in enumerate(raw)
        ]
    if not isinstance(raw, dict):
        if isinstance(raw, list) and isinstance(kind, Tables) and kind.listed:
            odd = next((item for item in raw if not isinstance(item, str)), None)
            what = f"{quoted(odd)} is not a name"
            if odd is None:
                what = f'"{duplicate(raw)}" is listed twice'
            problems.add(path, what, 'a list of different names, such as ["alice", "bob"]')
        else:
            problems.add(path, f"{quoted(raw)} is not a table", f"[{'.'.join(path)}.NAME]")
        return {}
    return _read_named(kind, raw, path, problems)


def _read_named(kind: Tables | Settings, raw: Values, path: Path, problems: Problems) -> Values:
    values = {}
    for name, entry in raw.items():
        here = (*path, name)
        if not re.fullmatch(kind.name_pattern, name):
            _bad_name(kind, name, here, problems)
        elif isinstance(kind, Tables):
            values[name] = read_section(kind.section, entry, here, problems)
        else:
            values[name] = _parsed(kind.kind, entry, here, problems, "")
    return values


def _bad_name(kind: Tables | Settings, name: str, path: Path, problems: Problems) -> None:
    if isinstance(kind, Settings) and kind.kind is HOPS:
        problems.add(
            path,
            f'"{name}" is no destination',
            '"default", a subnet such as "10.0.3.0/24", or the name of a host',
        )
        return
    if isinstance(kind, Settings) and kind.kind is LISTED:
        problems.add(path, f'"{name}" is no key', 'a key as for --set, such as "flows.*.buffer"')
        return
    if isinstance(kind, Settings) and kind.kind is SCTP_VALUE:
        problems.add(
            path,
            f'"{name}" is no setting of SCTP',
            f"one of {', '.join(SCTP_SETTINGS)}",
        )
        return
    if isinstance(kind, Settings):
        problems.add(
            path,
            f'"{name}" is not a sysctl of a network namespace',
            "a name under net.ipv4, net.ipv6 or net.mptcp, or one of those under net.core",
        )
        return
    longest = 15 if "14" in kind.name_pattern else 32
    problems.add(
        path,
        f'"{name}" cannot be the name of a {kind.what}',
        f"a letter or digit, then letters, digits, '.', '_' or '-', {longest} in all",
    )


def _parsed(kind: Kind, raw: Any, path: Path, problems: Problems, default: Any) -> Any:
    try:
        return kind.parse(raw)
    except UnitError as error:
        problem, _, expected = str(error).partition("; expected ")
        problems.add(path, problem, expected or f"a {kind.name} such as {kind.example}")
        return default
