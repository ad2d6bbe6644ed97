"""Which build of mptcplab this is, on which machine it runs, and what was asked of it."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mptcplab import __version__
from mptcplab.plain_text import printable

PACKAGE: Final = Path(__file__).parent
"""The folder that runs; the functions below look at another where one is given."""

_COMPILED_OR_NOT: Final = "mptcplab.loop.virtual"
"""A module of those that are compiled: all of them are, or none."""

SLOWDOWN: Final = 16
"""How many times longer the interpreted build simulates (experiment A)."""


@dataclass(frozen=True, slots=True)
class Build:
    """A build, as ``run.json`` keeps it."""

    version: str
    compiled: bool
    python: str
    """Implementation and version, as in "CPython 3.12.1"."""
    commit: str | None
    """The git commit (40 hexadecimal digits), with "-dirty" where files differed from it; None
    where neither git nor the wheel knows."""

    @property
    def text(self) -> str:
        """One line a person can read."""
        kind = "compiled" if self.compiled else "interpreted"
        commit = f", commit {self.commit}" if self.commit else ""
        return f"{self.version}, {kind}, on {self.python}{commit}"


@cache
def this_build() -> Build:
    """Return the build that is running."""
    return Build(
        version=__version__,
        compiled=_origin().endswith(tuple(EXTENSION_SUFFIXES)),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        commit=commit_of(),
    )


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run was made on, as ``run.json`` keeps it."""

    cpu: str
    """The processor's own name, or its architecture where it tells none."""
    cores: int
    """That this process may use."""
    kernel: str


@cache
def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    return Machine(_processor(), len(os.sched_getaffinity(0)), platform.release())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return printable(" ".join(value.split()))
    return platform.machine()


def this_command() -> str | None:
    """Return what was typed, as a shell takes it; None in a notebook or an interactive Python."""
    program, *words = sys.argv or [""]
    name = Path(program).name
    if name in ("", "-c", "-m", "ipykernel_launcher.py"):
        return None
    if name == "__main__.py":
        name = Path(program).parent.name
    return printable(shlex.join([name, *words]))


def stale_modules(package: Path = PACKAGE) -> list[str]:
    """Return the sources of a checkout that are newer than what was compiled of them.

    Their changes do not run. Elsewhere nothing: an installer writes both with dates of its own.
    """
    if _checkout(package) is None:
        return []
    found = []
    for suffix in EXTENSION_SUFFIXES:
        for library in package.rglob(f"*{suffix}"):
            source = library.with_name(library.name.removesuffix(suffix) + ".py")
            if source.exists() and source.stat().st_mtime > library.stat().st_mtime:
                found.append(str(source.relative_to(package)))
    return sorted(set(found))


def how_to_compile(package: Path = PACKAGE) -> str:
    """Return what makes this installation the compiled build, one line."""
    if _checkout(package) is not None:
        return "make compile (a C compiler and some minutes, once)"
    return (
        "a C compiler and Python's headers, then in the sources: MPTCPLAB_COMPILE=1 pip install "
        "--force-reinstall --no-deps . (some minutes, once)"
    )


def commit_of(package: Path = PACKAGE) -> str | None:
    """Return what the wheel's builder wrote down, or what git says of the checkout."""
    try:
        return (package / "COMMIT").read_text().strip() or None
    except OSError:
        checkout = _checkout(package)
    if checkout is None or not (checkout / ".git").exists():
        return None
    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        asked = subprocess.run(
            [*git, "--exclude=*"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None if asked.returncode == 0 else None


def _origin() -> str:
    spec = find_spec(_COMPILED_OR_NOT)
    return "" if spec is None or spec.origin is None else spec.origin


def _checkout(package: Path) -> Path | None:
    """Return the folder of the sources where a package runs from them: an editable installation."""
    root = package.parents[1]
    return root if package.parent.name == "src" and (root / "setup.py").exists() else None
