"""From files and ``--set`` arguments to one raw tree that remembers where each value is from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from importlib import resources
from pathlib import Path as FilePath
from typing import Any

from mptcplab.scenario.errors import Path, ScenarioError, dotted, nearest
from mptcplab.scenario.schema.keys import SCENARIO, TOPOLOGY
from mptcplab.scenario.schema.lines import lines_of
from mptcplab.scenario.schema.parts import Key, Rows, Section, Settings, Table, Tables
from mptcplab.units import format_size

Raw = dict[str, Any]
_SHARED = (
    "families",
    "generate",
    "hosts",
    "switches",
    "routers",
    "links",
)  # the keys that a topology file may have
_GENERATED = ("hosts", "routers", "links", "flows")
# A key that is set drops these at the same place: two ways to say one thing.
_REPLACES = {
    "delay": ("rtt",),
    "rtt": ("delay",),
    "rate": ("trace",),
    "trace": ("rate",),
    "loss": ("burst_loss",),
    "burst_loss": ("loss",),
    "buffer": ("send_buffer", "receive_buffer"),
    "goodput": ("at_least",),
    "at_least": ("goodput",),
}
EXAMPLES = "examples"
"""The folder of the package's examples, by which their names begin."""
MAX_FILE_BYTES = 1 << 20
"""Of a scenario or topology file."""
MAX_DEPTH = 32
"""Of tables and lists within one another; scenarios have five levels."""
_MOST_BITS = 1024
"""Of a number; TOML asks for 64, and what fits a key is told with the key's own bounds."""
_LONG_KEY = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)"""
    f"{{{MAX_DEPTH + 1}}}"
)
"""More dotted parts than that; Python's parser takes time that grows with their square."""
_KEY_PART = re.compile(r'\s*(?:"([^"]*)"|\'([^\']*)\'|([^\s.="\']+))\s*')


class Source:
    """The raw tree of a scenario and the origin of its values."""

    def __init__(self, file: str, own: Raw, topology_file: str = "", topology: Raw | None = None):
        self.file = file
        self._own = own
        self.topology_file = topology_file
        self._topology = topology or {}
        self._set: dict[Path, str] = {}
        self._lines: dict[str, dict[Path, int]] = {}
        self.tree = merged(
            {key: self._topology[key] for key in _SHARED if key in self._topology}, own
        )

    def fresh(self) -> Source:
        """Return the same files without any override."""
        return Source(self.file, self._own, self.topology_file, self._topology)

    def at_point(self, index: int) -> Source:
        """Return a copy, overrides included, whose sweep has the point at ``index`` alone.

        With all points, the time to check each of them would grow with the square of their number.
        """
        copy = self.without_sweep()
        sweep = self.tree["sweep"]
        copy.tree["sweep"] = deepcopy({**sweep, "points": sweep["points"][index : index + 1]})
        return copy

    def without_sweep(self) -> Source:
        """Return a copy, overrides included, that has no sweep."""
        copy = Source(self.file, {}, self.topology_file, {})
        copy._own, copy._topology = self._own, self._topology
        copy._set = dict(self._set)
        copy.tree = deepcopy({key: value for key, value in self.tree.items() if key != "sweep"})
        return copy

    def _generates(self) -> bool:
        return "generate" in self._own or "generate" in self._topology

    def origin(self, path: Path) -> str:
        """Return the file or ``--set`` argument that the value at ``path``, or its table, is from.

        A path may lead to a key that is missing; then its nearest table counts.
        """
        for length in range(len(path), 0, -1):
            prefix = path[:length]
            if prefix in self._set:
                return self._set[prefix]
            if _exists(self._own, prefix):
                return self.file
            if prefix[0] in _SHARED and _exists(self._topology, prefix):
                return self.topology_file
        return self.file

    def place(self, path: Path) -> str:
        """Return :meth:`origin`, of a file with the line, as far as the path is in it."""
        origin = self.origin(path)
        if origin not in (self.file, self.topology_file):
            return origin
        if origin not in self._lines:
            self._lines[origin] = _lines_of_file(origin)
        for length in range(len(path), 0, -1):
            line = self._lines[origin].get(path[:length])
            if line is not None:
                return f"{origin}, line {line}"
        return origin

    def apply(
        self,
        override: str,
        section: Section = SCENARIO,
        expand: Callable[[Raw], Raw] = lambda tree: tree,
    ) -> None:
        """Apply one ``KEY=VALUE``; ScenarioError where the key matches nothing.

        ``expand`` puts generated tables in the place of ``generate``, before any of them is set.
        """
        label = f"--set {override}"
        parts, value = _parse_override(override, label)
        if parts[0] in _GENERATED:
            self.tree = expand(self.tree)
        elif parts[0] == "generate" and "generate" not in self.tree and self._generates():
            raise ScenarioError(
                label,
                "generate",
                "comes after a --set of what it generates",
                "those of generate first",
            )
        if parts == ("topology",):
            raise ScenarioError(
                label,
                "topology",
                "cannot be changed: links and flows of the file refer to it",
                "another scenario file for another topology",
            )
        targets = _expand(self.tree, section, parts, label)
        for path in targets:
            _assign(self.tree, path, deepcopy(value))
            self._set[path] = label


def _lines_of_file(name: str) -> dict[Path, int]:
    """Return the lines of a file that was read; none where it has changed meanwhile."""
    try:
        text = FilePath(name).read_text(encoding="utf-8-sig")
        tomllib.loads(text)
    except (OSError, ValueError, RecursionError):
        return {}
    return lines_of(text)


def read_toml(path: FilePath) -> Raw:
    """Return a TOML file's content; ScenarioError where it cannot be read or is not TOML."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ScenarioError(
                str(path),
                "",
                f"is larger than {format_size(MAX_FILE_BYTES)}",
                "a scenario or topology; of flows that are alike, one with `connections`",
            )
        return _parsed(content.decode("utf-8-sig"), str(path))  # editors add byte order marks
    except OSError as error:
        raise ScenarioError(
            str(path), "", f"cannot be read: {error.strerror or error}", "a TOML file"
        ) from error
    except UnicodeDecodeError as error:
        raise ScenarioError(
            str(path), "", f"is not UTF-8 text (byte {error.start})", "a TOML file"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(path, str(error)) from error


def _parsed(text: str, where: str) -> Raw:
    """Return TOML of bounded depth, and with numbers that print; raises ScenarioError."""
    dotted_key = _LONG_KEY.search(text)
    if dotted_key:
        raise _too_deep(f"{where}, line {text.count(chr(10), 0, dotted_key.start()) + 1}", "")
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise _too_deep(where, "") from None
    except ValueError as error:  # Python reads no numbers of more than 4300 digits
        digits = max(re.finditer(r"[0-9_]+", text), key=lambda run: len(run[0]))
        line = text.count("\n", 0, digits.start()) + 1
        raise _too_large(f"{where}, line {line}", "", f"of {len(digits[0])} digits") from error
    _check_values(tree, where, ())
    return tree


def _check_values(tree: Raw | list[Any], where: str, path: Path) -> None:
    """Raise ScenarioError for what is nested too deeply and for numbers beyond all use."""
    if len(path) >= MAX_DEPTH:
        raise _too_deep(where, dotted(path[:3]))
    for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, dict | list):
            _check_values(value, where, (*path, str(name)))
        elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
            size = f"of {value.bit_length()} bits"
            raise _too_large(where, dotted((*path, str(name))), size)


def _too_deep(where: str, key: str) -> ScenarioError:
    return ScenarioError(
        where, key, "tables or lists are nested too deeply", f"{MAX_DEPTH} levels at most"
    )


def _too_large(where: str, key: str, size: str) -> ScenarioError:
    return ScenarioError(where, key, f"a whole number {size}", "one of 64 bits, as TOML has it")


def _syntax_error(path: FilePath, message: str) -> ScenarioError:
    where = re.search(r"\(at line (\d+), column (\d+)\)", message)
    text = message[: where.start()].strip() if where else message
    if not where:
        return ScenarioError(str(path), "", f"TOML syntax: {text}", hint="see https://toml.io")
    line = int(where[1])
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    shown = lines[line - 1].strip() if line <= len(lines) else ""
    hint = (
        'quote text and quantities: rate = "1Gb/s"'
        if "Invalid value" in text or ("Expected newline" in text)
        else "see https://toml.io"
    )
    if "overwrite" in text or "declare" in text.lower():
        hint = "a file may have each table and key only once"
    return ScenarioError(
        f"{path}, line {line}",
        "",
        f"TOML syntax: {text[0].lower() + text[1:]} in {shown!r}",
        "TOML",
        hint,
    )


@cache
def built_in(folder: str) -> dict[str, FilePath]:
    """Return the scenario files of a data folder, such as "topologies", by lower-case name."""
    root = resources.files("mptcplab.scenario") / "data" / folder
    files = {}
    for entry in root.iterdir():
        if entry.name.endswith(".toml"):
            files[entry.name.removesuffix(".toml").lower()] = FilePath(str(entry))
    return dict(sorted(files.items()))


@cache
def built_in_scenarios() -> dict[str, FilePath]:
    """Return the scenarios of the package by lower-case name; an example's is "examples/NAME"."""
    examples = built_in("examples").items()
    return built_in("experiments") | {f"{EXAMPLES}/{name}": path for name, path in examples}


def locate(name: str, known: dict[str, FilePath], what: str) -> FilePath:
    """Return the file that a path or one of the known names stands for; a file has precedence."""
    path = FilePath(name)
    if is_file(path):
        return path
    if name.lower() in known:
        return known[name.lower()]
    names = [key.upper() if len(key) == 1 else key for key in known]
    problem = "is a folder" if _is_folder(path) else f"no such file, and no {what} of that name"
    short = [key for key in names if not key.startswith(EXAMPLES)]
    more = (
        " or of the examples that `mptcplab experiments` lists" if len(short) < len(names) else ""
    )
    raise ScenarioError(
        name, "", problem, f"a TOML file or one of {', '.join(short)}{more}", nearest(name, names)
    )


def open_source(path: FilePath) -> Source:
    """Read a scenario file and the topology that it refers to."""
    own = normalised(SCENARIO, read_toml(path))
    name = own.get("topology")
    if not isinstance(name, str):
        return Source(str(path), own)
    beside = path.parent / name
    if is_file(beside):
        topology_path = beside
    else:
        known = built_in("topologies")
        if name.lower() not in known:
            raise ScenarioError(
                str(path),
                "topology",
                f"{name!r} is neither a built-in topology nor a file",
                f"one of {', '.join(known)}, or a file relative to {path.parent}",
                nearest(name, known),
            )
        topology_path = known[name.lower()]
    try:
        topology = normalised(TOPOLOGY, read_toml(topology_path))
    except ScenarioError:
        if is_outside(topology_path, path):
            raise withheld(topology_path, path) from None
        raise
    return Source(str(path), own, str(topology_path), topology)


def is_file(path: FilePath) -> bool:
    """Return whether a path leads to a file; it may be anything that a scenario or user wrote."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, not allowed, a zero byte
        return False


def _is_folder(path: FilePath) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_outside(path: FilePath, scenario: FilePath) -> bool:
    """Return whether a file that a scenario names is neither in its folder nor built in.

    Nothing of such a file's content is shown: a stranger's scenario may name any file of yours.
    """
    if path in built_in("topologies").values():
        return False
    return not path.resolve().is_relative_to(scenario.parent.resolve())


def withheld(path: FilePath, scenario: FilePath) -> ScenarioError:
    """Return the error about a topology outside the scenario's folder that is none."""
    return ScenarioError(
        str(scenario),
        "topology",
        f"{path} is no valid topology; as it is outside the folder of the scenario, nothing of it "
        "is shown",
        f"a topology that `mptcplab check {path}` finds valid",
    )


def normalised(section: Section, raw: Raw) -> Raw:
    """Return ``raw`` with shorthands written out; errors are left for ``read_section`` to note."""
    result = dict(raw)
    for name, value in raw.items():
        kind = section.keys[name].kind if name in section.keys else None
        if isinstance(kind, Table) and isinstance(value, dict):
            result[name] = normalised(kind.section, value)
        elif isinstance(kind, Tables):
            result[name] = _normalised_tables(kind, value)
        elif isinstance(kind, Rows) and kind.shorthand:
            rows = [value] if isinstance(value, str) else value
            if isinstance(rows, list):
                result[name] = [
                    {kind.shorthand: row} if isinstance(row, str) else row for row in rows
                ]
    return result


def _normalised_tables(kind: Tables, value: Any) -> Any:
    if kind.listed and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return {item: {} for item in value} if len(set(value)) == len(value) else value
    if not isinstance(value, dict):
        return value
    entries = {}
    for name, entry in value.items():
        if isinstance(entry, dict):
            entries[name] = normalised(kind.section, entry)
        elif kind.shorthand:
            entries[name] = {kind.shorthand: entry}
        else:
            entries[name] = entry
    return entries


def _exists(tree: Any, path: Path) -> bool:
    for part in path:
        if isinstance(tree, dict) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return False
    return True


def merged(below: Raw, above: Raw) -> Raw:
    """Return ``below`` with ``above`` laid over it, tables merged key by key."""
    result = deepcopy(below)
    # plain values first: a link's own value replaces those of its directions below, not above
    for key, value in sorted(above.items(), key=lambda item: isinstance(item[1], dict)):
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            _drop_replaced(result, key)
            result[key] = deepcopy(value)
    return result


def _drop_replaced(table: Raw, key: str) -> None:
    for other in _REPLACES.get(key, ()):
        table.pop(other, None)
    for direction in ("forward", "backward"):  # a link's own value replaces its directions'
        if isinstance(table.get(direction), dict):
            for other in (key, *_REPLACES.get(key, ())):
                table[direction].pop(other, None)


def _parse_override(override: str, label: str) -> tuple[Path, Any]:
    parts: list[str] = []
    at = 0
    while match := _KEY_PART.match(override, at):
        parts.append(next(group for group in match.groups() if group is not None))
        at = match.end()
        if at < len(override) and override[at] == ".":
            at += 1
            continue
        break
    if not parts or at >= len(override) or override[at] != "=":
        raise ScenarioError(
            label, "", "is not KEY=VALUE", "such as flows.*.buffer=10MB or duration=30s"
        )
    return tuple(parts), _value(override[at + 1 :].strip(), label)


def _value(text: str, label: str) -> Any:
    """Return a value written as TOML; text that is not TOML is the value itself."""
    try:
        return _parsed(f"value = {text}", label)["value"]
    except tomllib.TOMLDecodeError:
        return text


def _expand(tree: Raw, section: Section, parts: Path, label: str) -> list[Path]:
    """Return the paths that a dotted key with ``*`` matches, checked against schema and tree."""
    paths: list[Path] = []
    _walk(tree, Key(Table(section), ""), parts, (), label, paths)
    if not paths:
        raise ScenarioError(label, ".".join(parts), "matches nothing", "a key that matches")
    return paths


def _walk(tree: Any, key: Key, parts: Path, done: Path, label: str, paths: list[Path]) -> None:
    if not parts:
        paths.append(done)
        return
    part, rest = parts[0], parts[1:]
    kind = key.kind
    if isinstance(kind, Table):
        matches = _table_matches(kind, part, done, label)
    elif isinstance(kind, Tables):
        matches = _named_matches(tree, kind, part, done, label)
    elif isinstance(kind, Rows):
        matches = _row_matches(tree, kind, part, done, label)
    elif isinstance(kind, Settings):
        matches = {part: Key(kind.kind, "")}
    else:
        raise ScenarioError(
            label,
            ".".join((*done, part)),
            f"{'.'.join(done)} is a value, not a table",
            f"no key below {'.'.join(done)}",
        )
    for name, inner in matches.items():
        below = None
        if isinstance(tree, dict):
            below = tree.get(name)
        elif isinstance(tree, list):
            below = tree[int(name)]
        _walk(below, inner, rest, (*done, name), label, paths)


def _table_matches(kind: Table, part: str, done: Path, label: str) -> dict[str, Key]:
    keys = kind.section.keys
    if part in keys:
        return {part: keys[part]}
    raise ScenarioError(
        label, ".".join((*done, part)), f'unknown key "{part}"', hint=suggestion(part, keys)
    )


def _named_matches(tree: Any, kind: Tables, part: str, done: Path, label: str) -> dict[str, Key]:
    names = list(tree) if isinstance(tree, dict) else []
    inner = Key(Table(kind.section), "")
    if part == "*":
        return dict.fromkeys(names, inner)
    if part in names:
        return {part: inner}
    raise ScenarioError(
        label,
        ".".join((*done, part)),
        f'there is no {kind.what} "{part}"',
        f"one of {', '.join(names)}, or *" if names else f"a {kind.what} that the file declares",
        nearest(part, names),
    )


def _row_matches(tree: Any, kind: Rows, part: str, done: Path, label: str) -> dict[str, Key]:
    rows = tree if isinstance(tree, list) else []
    inner = Key(Table(kind.section), "")
    if part == "*":
        return {str(index): inner for index in range(len(rows))}
    if part.isdigit() and int(part) < len(rows):
        return {part: inner}
    raise ScenarioError(
        label,
        ".".join((*done, part)),
        f"{'.'.join(done)} has {len(rows)} entries",
        f"a number from 0 to {len(rows) - 1}, or *" if rows else "an entry that the file declares",
    )


def suggestion(name: str, keys: dict[str, Key]) -> str:
    """Return the nearest known key as a question, else the keys there are."""
    for known, key in keys.items():
        if name.lower() in key.aliases:
            return f'did you mean "{known}"?'
    return nearest(name, keys) or f"the keys are {', '.join(keys)}"


def _assign(tree: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        tree = tree[int(part)] if isinstance(tree, list) else tree.setdefault(part, {})
    if isinstance(tree, list):
        tree[int(path[-1])] = value
    else:
        _drop_replaced(tree, path[-1])
        tree[path[-1]] = value
