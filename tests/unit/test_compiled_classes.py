"""A class that is compiled has subclasses in compiled modules only, unless it says otherwise.

A compiled build would otherwise fail where the first object of such a subclass is made.
"""

from __future__ import annotations

import ast
import runpy
from fnmatch import fnmatch

import pytest
from tests.unit.source_tree import ROOT, imported_names, modules

MODULES = modules()
PATTERNS: list[str] = runpy.run_path(str(ROOT.parents[1] / "setup.py"))["COMPILED"]
CLASSES = {
    f"{name}.{node.name}": node
    for name, module in MODULES.items()
    for node in module.body
    if isinstance(node, ast.ClassDef)
}


def is_compiled(module: str) -> bool:
    """Return whether setup.py has a module compiled."""
    path = module.removeprefix("mptcplab.").replace(".", "/") + ".py"
    return any(fnmatch(path, pattern) for pattern in PATTERNS)


def is_open(definition: ast.ClassDef) -> bool:
    """Return whether a class is marked as one that interpreted classes may inherit from."""
    return any(
        isinstance(decorator, ast.Call)
        and any(each.arg == "allow_interpreted_subclasses" for each in decorator.keywords)
        for decorator in definition.decorator_list
    )


def defined(name: str) -> str:
    """Return where what a dotted name stands for is defined, which a package may pass on."""
    while name not in CLASSES:
        module, _, last = name.rpartition(".")
        passed_on = imported_names(MODULES[module]).get(last) if module in MODULES else None
        if passed_on is None:
            return name
        name = passed_on
    return name


def closed_bases(name: str) -> set[str]:
    """Return the compiled classes that a class inherits from and may not, if it is interpreted."""
    module = name.rpartition(".")[0]
    imported = imported_names(MODULES[module])
    bases = set()
    for base in CLASSES[name].bases:
        said = ast.unparse(base).partition("[")[0]
        known = defined(imported.get(said, f"{module}.{said}"))
        if known in CLASSES:
            compiled = is_compiled(known.rpartition(".")[0])
            bases |= {known} if compiled and not is_open(CLASSES[known]) else closed_bases(known)
    return bases


INTERPRETED = sorted(name for name in CLASSES if not is_compiled(name.rpartition(".")[0]))


@pytest.mark.parametrize("name", [each for each in INTERPRETED if CLASSES[each].bases])
def test_an_interpreted_class_inherits_from_none_that_forbids_it(name: str) -> None:
    assert not closed_bases(name), "compile its module (COMPILED of setup.py), or mark the base"


def test_the_rule_knows_compiled_bases() -> None:
    assert is_compiled("mptcplab.simulated.transfer")
    assert not is_compiled("mptcplab.cli.run")
    assert closed_bases("mptcplab.simulated.datagrams.DatagramTransfer")
