"""The documentation builds without a warning, and its pages say what the program says."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.behaviour.documentation import DOCS, PAGES, ROOT, File, read

from mptcplab.linux import testbed as linux_testbed
from mptcplab.results.observer import Silent
from mptcplab.results.run import Run
from mptcplab.scenario import load
from mptcplab.simulated import testbed as simulated_testbed


@pytest.fixture(name="generator", scope="module")
def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_current(generator: ModuleType) -> None:
    for path, text in generator.pages().items():
        assert path.read_text(encoding="utf-8") == text, "run: python docs/generate.py"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("sphinx") is None:
        assert os.environ.get("CI") != "true", "CI must build the site: the docs extra is missing"
        pytest.skip("the docs extra is not installed")
    quietly = ["-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *quietly, str(DOCS), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_readme_has_no_link_that_breaks_on_a_package_index() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []
    for alternative, image in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", text):
        assert (ROOT / image).exists()
        assert len(alternative) > 60  # says what the picture shows, where it cannot be loaded
    for path in re.findall(r"`((?:docs/)?[\w/-]+\.md)`", text):
        assert (ROOT / path).exists(), path


def test_the_tutorial_shows_the_files_beside_it() -> None:
    shown = {part.name: part.text for part in read(DOCS / "tutorial" / "index.md").parts
             if isinstance(part, File)}  # fmt: skip
    lying = {path.name: path.read_text() for path in (DOCS / "tutorial").glob("*.toml")}
    assert shown == lying
    assert len(lying) == 6


def _messages() -> list[str]:
    """Return the texts of the sources, with "…" for what is filled in."""
    found = []
    for path in (ROOT / "src" / "mptcplab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                ]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_the_messages_of_troubleshooting_are_the_program_s() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    text = text[: text.index("## Something else")]
    rows = re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)
    assert len(rows) > 50
    sources = [message.replace("…", "\0") for message in _messages()]
    for row in rows:
        pieces = [re.escape(piece.strip()) for piece in row.split("…") if piece.strip(" :")]
        pattern = re.compile(".*?".join(pieces), re.DOTALL)
        assert any(pattern.search(message) for message in sources), row


REASONS = {  # where what makes a run invalid is said (one file or two), and in which functions
    "linux/measure/verify.py": r"check_\w+",
    "linux/measure/validity.py linux/measure/outcome.py": r"_\w+|\w+_connections|\w+_subflows",
    "remote/testbed.py": "_reasons",
    "simulated/validity.py": "_problems|missing",
    "results/liveness.py": "judge",
}


@pytest.mark.parametrize("source", REASONS)
def test_every_reason_for_invalidity_is_explained(source: str) -> None:
    explained = re.findall(r"`([^`]+)`", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"))
    trees = [ast.parse((ROOT / "src/mptcplab" / path).read_text()) for path in source.split()]
    reasons = 0
    for function in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(function, ast.FunctionDef) and re.fullmatch(REASONS[source], function.name):
            for node in ast.walk(function):
                if not isinstance(node, ast.JoinedStr):
                    continue
                texts = [str(part.value) for part in node.values if isinstance(part, ast.Constant)]
                words = max(texts, key=len, default="").strip(" :;,()")
                if len(words) > 12:
                    reasons += 1
                    start = words.split("; ")[0].split(" (")[0][:24]
                    assert any(start in text for text in explained), words
    assert reasons >= 3


def _assert_documented(folder: Path) -> None:
    page = (DOCS / "reference" / "results.md").read_text(encoding="utf-8")
    page = page[page.index("## `run.json`") : page.index("## What the rows count")]
    metadata = Run(folder).metadata
    listed = {
        key
        for keys, testbed in re.findall(r"^\| (`.*?) \|.*\| (both|Linux) \|$", page, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", keys)
        if testbed == "both" or metadata["testbed"] == "linux"
    }
    assert set(metadata) == listed


def test_run_json_has_the_keys_that_the_page_lists(tmp_path: Path) -> None:
    scenario = load("A", duration_ns=300_000_000, interval_ns=100_000_000)
    _assert_documented(simulated_testbed.run(scenario, tmp_path / "run", Silent()))


@pytest.mark.kernel
def test_run_json_of_linux_has_the_keys_that_the_page_lists(tmp_path: Path) -> None:
    scenario = load("A", duration_ns=1_000_000_000, interval_ns=200_000_000)
    _assert_documented(linux_testbed.run(scenario, tmp_path / "run", Silent()))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link
