"""JSON in lines is the JSON of the standard library."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mptcplab.cli.json_lines import Streamed, json_lines


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"a": [1, {"b": None}], "c": "x\ny"},
        "text",
        [[], {}],
        1.5,
        [[k] for k in range(30_000)],
    ],
)
def test_lines_are_those_of_dumps(value: Any) -> None:
    assert "\n".join(json_lines(value)) == json.dumps(value, indent=2)


@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_values_are_made_one_after_the_other(size: int) -> None:
    made = 0

    def values() -> Iterator[dict[str, int]]:
        nonlocal made
        for number in range(size):
            made += 1
            yield {"number": number}

    written = Streamed(values())
    assert made <= 1
    assert "\n".join(json_lines({"a": written})) == json.dumps(
        {"a": [{"number": number} for number in range(size)]}, indent=2
    )
