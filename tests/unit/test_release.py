"""One version everywhere, and builds that are made with what the locks name."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import mptcplab

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def released() -> list[tuple[str, str]]:
    """Return (version, date) of the changelog's released sections, newest first."""
    text = (ROOT / "CHANGELOG.md").read_text()
    return re.findall(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d{2}-\d{2})\)$", text, re.MULTILINE)


def citation(key: str) -> str:
    (value,) = re.findall(rf'^{key}: "?([^"\n]+)"?$', (ROOT / "CITATION.cff").read_text(), re.M)
    return str(value)


def test_the_newest_release_is_the_version_that_is_cited() -> None:
    version, date = released()[0]
    assert version == mptcplab.__version__
    assert version == citation("version")
    assert date == citation("date-released")


def test_every_section_of_the_changelog_is_a_release_newest_first_or_unreleased() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings == ["Unreleased", *(f"{version} ({date})" for version, date in released())]
    keys = [([int(part) for part in version.split(".")], date) for version, date in released()]
    assert keys == sorted(keys, reverse=True)


def test_the_command_tells_the_version() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "mptcplab", "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout == f"mptcplab {mptcplab.__version__}\n"


def test_builds_use_what_the_developers_lock_has() -> None:
    locked = re.findall(
        r"^([\w-]+==[^ ]+)(?: ; (.*?))? \\$", (ROOT / "requirements-dev.lock").read_text(), re.M
    )
    known = {
        (requirement, marker.replace("python_full_version", "python_version"))
        for requirement, marker in locked
    }
    for required in PROJECT["build-system"]["requires"]:
        requirement, _, marker = required.partition("; ")
        assert (requirement, marker) in known, required


def test_the_oldest_python_is_the_one_that_is_checked_against() -> None:
    named = [
        entry.removeprefix("Programming Language :: Python :: ")
        for entry in PROJECT["project"]["classifiers"]
        if re.search(r"Python :: 3\.", entry)
    ]
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{named[0].replace('.', '')}"
