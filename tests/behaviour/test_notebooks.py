"""The notebooks of the documentation: every cell of code runs, in order, in one name space."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mptcplab.laboratory import Run, Sweep

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[str]:
    """Return the code of a notebook's cells."""
    content = json.loads(notebook.read_text())
    assert content["nbformat"] == 4
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


@pytest.mark.documented
@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in cells(notebook):
        exec(compile(code, notebook.name, "exec"), names)
    shown = [value._repr_html_() for value in names.values() if isinstance(value, Run | Sweep)]
    assert shown
    assert all("<svg" in html for html in shown)


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["buffers", "first-look"]
