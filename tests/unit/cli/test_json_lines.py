"""JSON in lines is the JSON of the standard library."""

import json
from typing import Any

import pytest

from mptcplab.cli.json_lines import json_lines


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
