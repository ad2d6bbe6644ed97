"""The tests that docs/validation/conformance.md names are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "validation" / "conformance.md"


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", PAGE.read_text()))
    written = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_[a-z0-9_]+)\(", written, re.MULTILINE))
    assert len(named) > 80
    assert named <= defined, f"not there: {sorted(named - defined)}"
