"""Large JSON, some lines at a time: the text need not be in memory beside the values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

_CHUNKS: Final = 20_000


def json_lines(value: Any) -> Iterator[str]:
    """Yield the lines that ``json.dumps(value, indent=2)`` has, many at a time."""
    chunks: list[str] = []
    for chunk in json.JSONEncoder(indent=2).iterencode(value):
        if len(chunks) > _CHUNKS and "\n" in chunk:
            before, _, chunk = chunk.partition("\n")
            yield "".join([*chunks, before])
            chunks.clear()
        chunks.append(chunk)
    yield "".join(chunks)
