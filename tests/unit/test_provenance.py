"""Which build runs: told from the files that Python would load, and from git or the wheel."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import mptcplab
from mptcplab import provenance
from mptcplab.loop import virtual


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return an empty package in an empty checkout."""
    folder = tmp_path / "src" / "mptcplab"
    folder.mkdir(parents=True)
    (tmp_path / "setup.py").touch()
    return folder


def test_this_build_is_what_its_modules_are() -> None:
    build = provenance.this_build()
    assert build.version == mptcplab.__version__
    assert build.compiled == (not str(virtual.__file__).endswith(".py"))
    assert build.python.endswith(platform.python_version())
    assert build.commit is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", build.commit)


def test_the_commit_of_a_wheel_is_the_one_that_came_with_it(package: Path) -> None:
    (package / "COMMIT").write_text("0123\n")
    assert provenance.commit_of(package) == "0123"


def test_without_git_and_wheel_the_commit_is_unknown(package: Path) -> None:
    assert provenance.commit_of(package) is None


@pytest.mark.program("git")
def test_the_commit_of_a_checkout_tells_whether_files_differ(package: Path) -> None:
    source = package / "seq.py"
    source.write_text("1\n")
    git = ["git", "-C", str(package.parents[1])]
    person = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, *person, "commit", "-q", "-m", "a"], check=True)
    commit = provenance.commit_of(package)
    assert commit is not None
    assert re.fullmatch("[0-9a-f]{40}", commit)
    source.write_text("2\n")
    assert provenance.commit_of(package) == f"{commit}-dirty"


def test_a_module_that_changed_after_it_was_compiled_is_named(package: Path) -> None:
    for name in ("old", "new"):
        (package / f"{name}.py").touch()
        (package / f"{name}{EXTENSION_SUFFIXES[0]}").touch()
    os.utime(package / f"old{EXTENSION_SUFFIXES[0]}", (1, 1))
    (package / "interpreted.py").touch()
    os.utime(package / "new.py", (2, 2))
    assert provenance.stale_modules(package) == ["old.py"]


def test_an_installed_package_is_compiled_by_installing_it_again(package: Path) -> None:
    assert "make compile" in provenance.how_to_compile(package)
    (package.parents[1] / "setup.py").unlink()
    assert "pip install" in provenance.how_to_compile(package)


def test_a_compiled_module_beside_its_source_is_what_counts(tmp_path: Path) -> None:
    sources = tmp_path / "src"
    shutil.copytree(
        Path(mptcplab.__file__).parent,
        sources / "mptcplab",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )

    def compiled() -> str:
        code = "from mptcplab.provenance import this_build; print(this_build().compiled)"
        told = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(sources)},
            capture_output=True,
            text=True,
            check=True,
        )
        return told.stdout.strip()

    assert compiled() == "False"
    # a spec names it without loading it; an empty file will do
    loop = sources / "mptcplab" / "loop"
    (loop / f"virtual{EXTENSION_SUFFIXES[0]}").touch()
    (loop / "__init__.py").write_text("")
    assert compiled() == "True"


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/usr/bin/mptcplab", "run", "A", "--set", "a=b c"], "mptcplab run A --set 'a=b c'"),
        (["/lib/mptcplab/__main__.py", "run"], "mptcplab run"),
        (["figure.py", "\x1b[2J"], "figure.py '\\x1b[2J'"),
        (["-c"], None),
        ([""], None),
        (["/x/ipykernel_launcher.py", "-f", "k.json"], None),
    ],
)
def test_the_command_is_what_was_typed(
    argv: list[str], command: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert provenance.this_command() == command


def test_the_machine_has_a_name_cores_and_a_kernel() -> None:
    machine = provenance.this_machine()
    assert machine.cpu.isprintable()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.kernel == platform.release()
