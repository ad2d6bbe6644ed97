"""Large JSON, some lines at a time: neither text nor values need be in memory as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

_CHUNKS: Final = 20_000


class Streamed(list[Any]):
    """A list for :func:`json_lines` whose values are made when they are written, once."""

    def __init__(self, values: Iterable[Any]) -> None:
        """Take the values; only the first is asked for before they are written."""
        rest = iter(values)
        super().__init__(islice(rest, 1))
        self._rest = rest

    def __iter__(self) -> Iterator[Any]:
        return chain(super().__iter__(), self._rest)


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
