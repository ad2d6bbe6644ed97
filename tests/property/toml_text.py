"""Trees of values as TOML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def toml(value: Any) -> str:
    """Return a value as TOML, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def written(tree: dict[str, Any], folder: Path) -> Path:
    """Write a tree as a file into a folder and return its path."""
    path = folder / "drawn.toml"
    text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in tree.items())
    path.write_text(text, encoding="utf-8")
    return path
