"""The examples of docs/extend/sockets.md, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.linux.sockets.conftest import Lab

pytestmark = pytest.mark.kernel

PAGE = Path(__file__).parents[3] / "docs" / "extend" / "sockets.md"


def test_the_examples_work_together(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    with lab.namespace().net.entered():
        for block in blocks:
            exec(block, names)
        names["listener"].close()
        for cable in names["cables"]:
            cable.close()
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1100005 bytes; ConnectionEstablished, SubflowEstablished, ")
    assert first.count("SubflowEstablished") == 2
    assert second == "1000000 bytes"
