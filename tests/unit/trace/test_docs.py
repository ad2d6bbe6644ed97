"""The Python example of the page about captures says what it should.

That its commands print what the page shows is tested with those of all pages, in tests/behaviour.
"""

from __future__ import annotations

import pytest
from tests.behaviour.documentation import DOCS, ROOT, Code, read


def test_the_python_example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    page = read(DOCS / "reference" / "inspect.md")
    (code,) = [part.text for part in page.parts if isinstance(part, Code)]
    exec(compile(code, page.name, "exec"), {})
    printed = capsys.readouterr().out
    assert "10.0.1.1:60766" in printed
    assert "subflow lost" in printed
