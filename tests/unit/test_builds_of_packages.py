"""When setup.py compiles, and what a wheel has where it cannot."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", name="setup")
def setup_names() -> dict[str, Any]:
    """Return what setup.py defines, with nothing built."""
    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup")


@pytest.mark.parametrize(
    ("switch", "command", "decision"),
    [
        ("", "bdist_wheel", "try"),  # pip install ., pip wheel .
        ("1", "bdist_wheel", "compile"),
        ("0", "bdist_wheel", "interpret"),
        ("", "editable_wheel", "interpret"),  # pip install -e .
        ("1", "editable_wheel", "compile"),
        ("1", "build_ext", "compile"),  # make compile
        ("", "egg_info", "interpret"),  # metadata alone: nothing to compile for
        ("1", "egg_info", "interpret"),
        ("1", "sdist", "interpret"),
    ],
)
def test_what_is_compiled(setup: dict[str, Any], switch: str, command: str, decision: str) -> None:
    assert setup["decide"](switch, ["-q", command]) == decision


def test_a_switch_that_is_neither_is_refused(setup: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="expected 1"):
        setup["decide"]("yes", ["bdist_wheel"])


def test_the_modules_to_compile_exist(setup: dict[str, Any]) -> None:
    for pattern in setup["COMPILED"]:
        assert list((ROOT / "src" / "mptcplab").glob(pattern)), pattern


def test_without_clang_a_build_says_what_it_lacks(
    tmp_path: Path,
    setup: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    setup["compile_bpf"](tmp_path, must=False)
    assert "no congestion controls for the kernel (lia, olia, balia)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit, match="no clang"):
        setup["compile_bpf"](tmp_path, must=True)


@pytest.mark.slow
def test_without_a_compiler_a_wheel_is_interpreted_and_whole(
    tmp_path: Path, setup: dict[str, Any]
) -> None:
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(
        ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    shutil.copytree(ROOT / "docs" / "man", tmp_path / "docs" / "man")
    environment = {name: value for name, value in os.environ.items() if name != setup["SWITCH"]}
    command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
    built = subprocess.run(
        command,
        cwd=tmp_path,
        env={**environment, "CC": "/bin/false"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "this build is interpreted" in built.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    check_files: Callable[[Path], None] = runpy.run_path(str(ROOT / ".ci" / "try_wheel.py"))[
        "check_files"
    ]
    check_files(wheel)

    refused = subprocess.run(
        command,
        cwd=tmp_path,
        env={**environment, "CC": "/bin/false", setup["SWITCH"]: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0
    assert "no C compiler" in refused.stderr
