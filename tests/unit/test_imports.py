"""No module of the package imports one that imports it, however long the way round, and packages
import what ARCHITECTURE.md says that they may.

Imports inside functions and under ``TYPE_CHECKING`` count: they show what a module knows. That
importing a module also runs the ``__init__`` of its packages does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.unit.source_tree import PACKAGE, ROOT, imported_names, modules

ARCHITECTURE = ROOT.parents[1] / "ARCHITECTURE.md"


def import_graph() -> dict[str, set[str]]:
    """Return, for each module, the modules that it imports."""
    parsed = modules()
    graph: dict[str, set[str]] = {}
    for name, module in parsed.items():
        targets = imported_names(module).values()
        imported = {target if target in parsed else target.rpartition(".")[0] for target in targets}
        graph[name] = (imported & parsed.keys()) - {name}
    return graph


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Return every module that importing ``start`` leads to."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def cycles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Return the sets of modules that lead to one another."""
    ways = {name: reachable(graph, name) for name in graph}
    return {
        frozenset(other for other in ways[name] if name in ways[other])
        for name in graph
        if name in ways[name]
    }


def test_cycles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert cycles(graph) == {frozenset("abc"), frozenset("de")}


def test_function_level_and_type_checking_imports_are_seen() -> None:
    graph = import_graph()
    assert "mptcplab.results.observer" in graph["mptcplab.testbeds"]  # for type checking
    assert "mptcplab.linux.lab.supervisor" in graph["mptcplab.cli.doctor"]  # in a function


def test_modules_do_not_import_in_a_circle() -> None:
    assert cycles(import_graph()) == set()


def permissions() -> dict[str, set[str] | None]:
    """Return, by package, what the table of ARCHITECTURE.md lets it import; None for all."""
    permitted: dict[str, set[str] | None] = {}
    table = ARCHITECTURE.read_text().partition("| package |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        packages, _, imports = (cell.strip() for cell in line.strip("|").split("|"))
        for package in re.findall(r"`(\w+)`", packages):
            permitted[package] = None if imports == "all" else set(re.findall(r"`(\w+)`", imports))
    return permitted


def test_packages_import_what_the_architecture_says() -> None:
    permitted = permissions()
    offences = []
    for module, imported in import_graph().items():
        package = module.split(".")[1] if module != PACKAGE else PACKAGE
        if package in (PACKAGE, "__main__"):
            continue
        allowed = permitted[package]
        for name in imported - {PACKAGE}:  # where the version is, and names that are imported later
            other = name.split(".")[1]
            if other != package and allowed is not None and other not in allowed:
                offences.append(f"{module} imports {name}")
    assert offences == []
