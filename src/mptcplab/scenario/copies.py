"""Hosts with ``count``, and links and flows ``for`` each of them, written out as tables.

``client`` with ``count = 8`` is client1 to client8. A link or flow ``for = "client"`` is made once
for each, its own name followed by the number too; ``client`` in its ends is then the host of that
number. Several names after ``for`` go through their numbers together.
"""

from __future__ import annotations

from typing import Any

from mptcplab.scenario.errors import Path, Problems, nearest
from mptcplab.scenario.schema.keys import HOST, LINK
from mptcplab.scenario.schema.parts import Key
from mptcplab.scenario.schema.value_kinds import Kind
from mptcplab.units import UnitError

Raw = dict[str, Any]


def with_copies(tree: Raw, problems: Problems) -> Raw:
    """Return a raw tree with its copies written out. Raises ScenarioError."""
    hosts, links, flows = (tree.get(kind) for kind in ("hosts", "links", "flows"))
    if not isinstance(hosts, dict):
        hosts = {}
    counts = _counts(hosts, problems)
    result = dict(tree)
    if counts:
        result["hosts"] = _hosts(hosts, counts, problems)
    many: dict[str, int] = {}
    if isinstance(links, dict):
        result["links"] = _each("links", links, counts, {}, many, problems)
    if isinstance(flows, dict):
        result["flows"] = _each("flows", flows, counts, many, {}, problems)
    problems.raise_any()
    return result


def _counts(hosts: Raw, problems: Problems) -> dict[str, int]:
    counts = {}
    for name, table in hosts.items():
        if isinstance(table, dict) and "count" in table:
            count = _parsed(HOST.keys["count"], table["count"], ("hosts", name, "count"), problems)
            if count is not None:
                counts[name] = count
    return counts


def _parsed(key: Key, value: Any, path: Path, problems: Problems) -> Any:
    """Return a value of a key, None where it is none, which is noted."""
    assert isinstance(key.kind, Kind)
    try:
        return key.kind.parse(value)
    except UnitError as error:
        problem, _, expected = str(error).partition("; expected ")
        problems.add(path, problem, expected)
        return None


def _hosts(hosts: Raw, counts: dict[str, int], problems: Problems) -> Raw:
    made: Raw = {}
    for name, table in hosts.items():
        if name not in counts:
            made[name] = table
            continue
        rest = {key: value for key, value in table.items() if key != "count"}
        for number in range(1, counts[name] + 1):
            copy = f"{name}{number}"
            if copy in hosts:
                problems.add(
                    ("hosts", copy),
                    f"is also number {number} of {name}, which has a count",
                    "a name of its own",
                )
            made[copy] = rest
    return made


def _each(
    kind: str,
    tables: Raw,
    counts: dict[str, int],
    links: dict[str, int],
    many: dict[str, int],
    problems: Problems,
) -> Raw:
    """Return links or flows with those ``for`` hosts made as often; note in ``many`` which are.

    ``links`` are those links.
    """
    made: Raw = {}
    for name, table in tables.items():
        if not isinstance(table, dict) or "for" not in table:
            made[name] = table
            continue
        path = (kind, name, "for")
        names = _parsed(LINK.keys["for"], table["for"], path, problems)
        count = None if names is None else _common(names, counts, path, problems)
        if count is None:
            continue
        many[name] = count
        rest = {key: value for key, value in table.items() if key != "for"}
        for number in range(1, count + 1):
            copy = f"{name}{number}"
            if copy in tables:
                problems.add(
                    (kind, copy), f"is also number {number} of {name}", "a name of its own"
                )
            own = {each: str(number) for each in (*names, *(n for n in links if links[n] == count))}
            made[copy] = {
                key: _numbered(value, own) if key in _NAMING else value
                for key, value in rest.items()
            }
    return made


_NAMING = ("between", "from", "to", "client", "links")
"""The keys of links and flows that name hosts or links."""


def _common(
    names: tuple[str, ...], counts: dict[str, int], path: Path, problems: Problems
) -> int | None:
    """Return how often something is made for hosts that are counted; None, and noted, if not so."""
    for name in names:
        if name not in counts:
            problems.add(
                path,
                f'"{name}" is no host with a count',
                f"one of {', '.join(counts)}" if counts else "a host with count = N",
                nearest(name, counts),
            )
            return None
    numbers = {counts[name] for name in names}
    if len(numbers) > 1:
        said = " and ".join(f"{counts[name]} of {name}" for name in names)
        problems.add(path, f"there are {said}", "hosts of one count")
        return None
    return numbers.pop()


def _numbered(value: Any, own: dict[str, str]) -> Any:
    """Return a name, or names, with the number of each that is made for hosts."""
    if isinstance(value, list):
        return [_numbered(each, own) for each in value]
    if not isinstance(value, str):
        return value
    name, colon, interface = value.partition(":")
    return f"{name}{own.get(name, '')}{colon}{interface}"
