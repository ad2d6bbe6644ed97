"""Which build of mptcplab this is: compiled or interpreted, of which commit, on which Python."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mptcplab import __version__

_PACKAGE: Final = Path(__file__).parent
_CHECKOUT: Final = _PACKAGE.parents[1]
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


@cache
def this_build() -> Build:
    """Return the build that is running."""
    return Build(
        version=__version__,
        compiled=_origin().endswith(tuple(EXTENSION_SUFFIXES)),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        commit=_commit(),
    )


def stale_modules() -> list[str]:
    """Return the sources of a checkout that are newer than what was compiled of them.

    Their changes do not run. Elsewhere nothing: an installer writes both with dates of its own.
    """
    if not _is_checkout():
        return []
    found = []
    for suffix in EXTENSION_SUFFIXES:
        for library in _PACKAGE.rglob(f"*{suffix}"):
            source = library.with_name(library.name.removesuffix(suffix) + ".py")
            if source.exists() and source.stat().st_mtime > library.stat().st_mtime:
                found.append(str(source.relative_to(_PACKAGE)))
    return sorted(set(found))


def how_to_compile() -> str:
    """Return what makes this installation the compiled build, one line."""
    if _is_checkout():
        return "make compile (a C compiler and some minutes, once)"
    return (
        "a C compiler and Python's headers, then in the sources: MPTCPLAB_COMPILE=1 pip install "
        "--force-reinstall --no-deps . (some minutes, once)"
    )


def _origin() -> str:
    spec = find_spec(_COMPILED_OR_NOT)
    return "" if spec is None or spec.origin is None else spec.origin


def _is_checkout() -> bool:
    """Say whether the package runs from its sources, as an editable installation does."""
    return (_CHECKOUT / "setup.py").exists() and _PACKAGE.parent.name == "src"


def _commit() -> str | None:
    """Return what the wheel's builder wrote down, or what git says of the checkout."""
    try:
        return (_PACKAGE / "COMMIT").read_text().strip() or None
    except OSError:
        pass
    if not _is_checkout() or not (_CHECKOUT / ".git").exists():
        return None
    git = ["git", "-C", str(_CHECKOUT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        asked = subprocess.run(
            [*git, "--exclude=*"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None if asked.returncode == 0 else None
