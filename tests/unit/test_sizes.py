"""Modules and functions stay short enough to read."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_LINES_OF_A_MODULE = 600
MOST_LINES_OF_A_FUNCTION = 100


def test_no_module_and_no_function_is_too_long() -> None:
    found = []
    for folder in ("src", "tests", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            if text.count("\n") > MOST_LINES_OF_A_MODULE:
                found.append(f"{path}: {text.count(chr(10))} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert node.end_lineno is not None
                    lines = node.end_lineno - node.lineno + 1
                    if lines > MOST_LINES_OF_A_FUNCTION:
                        found.append(f"{path}: {node.name} has {lines} lines")
    assert not found
