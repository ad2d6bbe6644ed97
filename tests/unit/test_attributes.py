"""No object of the stack or of a measurement holds more than a reader can keep in mind.

Attributes are those of the slots, of the class body's annotations and of every ``self.NAME =``,
with those of bases in the package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from tests.unit.source_tree import imported_names, modules

MOST_ATTRIBUTES = 25
CHECKED = ("mptcplab.stack", "mptcplab.linux.measure")

EXCEPTIONS = {"mptcplab.stack.config.StackConfig"}
"""Classes that may hold more; each says in its docstring why its attributes belong together."""


def own_attributes(definition: ast.ClassDef) -> set[str]:
    """Return the attributes that a class itself gives its objects."""
    names = set()
    for node in definition.body:
        if isinstance(node, ast.Assign) and _names(node.targets) == {"__slots__"}:
            names |= {
                slot.value
                for slot in ast.walk(node.value)
                if isinstance(slot, ast.Constant) and isinstance(slot.value, str)
            }
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            annotation = ast.unparse(node.annotation)
            if not annotation.startswith(("ClassVar", "Final")):
                names.add(node.target.id)
    for inner in ast.walk(definition):
        if (
            isinstance(inner, ast.Attribute)
            and isinstance(inner.ctx, ast.Store)
            and isinstance(inner.value, ast.Name)
            and inner.value.id == "self"
        ):
            names.add(inner.attr)
    return names


def _names(targets: list[ast.expr]) -> set[str]:
    return {target.id for target in targets if isinstance(target, ast.Name)}


MODULES = modules()
IMPORTED = {name: imported_names(module) for name, module in MODULES.items()}
CLASSES = {
    f"{name}.{node.name}": node
    for name, module in MODULES.items()
    for node in module.body
    if isinstance(node, ast.ClassDef)
}


def defined_as(name: str) -> str:
    """Return the dotted name under which a class is defined that a module calls ``name``."""
    module, _, own_name = name.rpartition(".")
    if name in CLASSES or module not in MODULES or own_name not in IMPORTED[module]:
        return name
    return defined_as(IMPORTED[module][own_name])


def attributes(name: str) -> set[str]:
    """Return the attributes of a class, its bases' included."""
    definition = CLASSES.get(name)
    if definition is None:
        return set()  # of the standard library
    module = name.rpartition(".")[0]
    bases = [base.id for base in definition.bases if isinstance(base, ast.Name)]
    return own_attributes(definition).union(
        *(attributes(defined_as(f"{module}.{base}")) for base in bases)
    )


def checked_classes() -> Iterator[str]:
    """Yield the classes that have a limit."""
    return (name for name in CLASSES if name.startswith(CHECKED))


def test_attributes_are_counted_once_with_those_of_bases() -> None:
    (definition,) = ast.parse(
        "class Example:\n"
        "    __slots__ = ('a', 'b')\n"
        "    kind: Final = 1\n"
        "    def __init__(self):\n"
        "        self.a = 1\n"
        "        self.c, self.d = 1, 2\n"
        "        self.d += 1\n"
        "        other.e = 1\n"
    ).body
    assert isinstance(definition, ast.ClassDef)
    assert own_attributes(definition) == {"a", "b", "c", "d"}
    assert attributes("mptcplab.simulated.host.Alarm") > attributes("mptcplab.loop.timers.Timer")


@pytest.mark.parametrize("name", sorted(checked_classes()))
def test_a_class_has_few_attributes_or_says_why(name: str) -> None:
    allowed = len(attributes(name)) <= MOST_ATTRIBUTES
    assert allowed == (name not in EXCEPTIONS)
    if name in EXCEPTIONS:
        assert "attributes" in (ast.get_docstring(CLASSES[name]) or "")
