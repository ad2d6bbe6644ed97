"""The package's own source, parsed, for tests of its structure."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = "mptcplab"
ROOT = Path(__file__).parents[2] / "src" / PACKAGE


@cache
def modules() -> dict[str, ast.Module]:
    """Return every module of the package by its dotted name, parsed."""
    parsed = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        parsed[name] = ast.parse(path.read_text())
    return parsed


def imported_names(module: ast.Module) -> dict[str, str]:
    """Return what a module imports from the package, by the name it has there: dotted names.

    Of ``from a.b import c``, that is ``a.b.c``, whether ``c`` is a module or something in one.
    Imports inside functions and for type checking count like any other.
    """
    found = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    found[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            if node.module is not None and node.module.split(".")[0] == PACKAGE:
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found
