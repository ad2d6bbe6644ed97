"""Results that benches keep in a file, and the places in pages that hold their tables."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read_results(path: Path) -> dict[str, Any]:
    """Return what has been measured so far."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def with_table(text: str, name: str, rows: Iterable[str]) -> str:
    """Return a page's text with other rows between ``<!-- measured: NAME -->`` and its end."""
    begin, end = f"<!-- measured: {name} -->\n", f"<!-- end: {name} -->\n"
    before, rest = text.split(begin)
    return before + begin + "\n".join(rows) + "\n" + end + rest.split(end)[1]
