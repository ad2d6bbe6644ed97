"""The agent as one text: a loader, and the sources of every module that it imports.

The modules are those of this package, found by their imports, so that a host's senders, receivers
and samples are the ones of the Linux testbed.  On the host they live in memory alone.
"""

from __future__ import annotations

import ast
import zlib
from functools import cache
from pathlib import Path
from typing import Final

import mptcplab

ENTRY: Final = "mptcplab.remote.agent.main"
_PACKAGE: Final = Path(mptcplab.__file__).parent

_LOADER: Final = """
import importlib.abc, importlib.util, sys

class FromMemory(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def find_spec(self, name, path=None, target=None):
        if name in SOURCES:
            return importlib.util.spec_from_loader(name, self, is_package=SOURCES[name][0])
    def get_source(self, name):
        return SOURCES[name][1]
    def get_code(self, name):
        return compile(SOURCES[name][1], name, "exec", dont_inherit=True)

sys.meta_path.insert(0, FromMemory())
from {entry} import main
main(sys.argv[1], sys.argv[2])
"""

BOOTSTRAP: Final = (
    "import os,sys,zlib\n"
    "def r(n):\n"
    ' b=b""\n'
    " while len(b)<n:\n"
    "  d=os.read(0,n-len(b))\n"
    "  if not d: sys.exit(0)\n"
    "  b+=d\n"
    " return b\n"
    'exec(compile(zlib.decompress(r(int(r(10)))),"mptcplab-agent","exec"))\n'
)
"""Reads the length of what follows, ten digits, then that; the rest is the agent's."""


def modules() -> dict[str, Path]:
    """Return the modules of the agent by name, with the packages that they are in."""
    found: dict[str, Path] = {}
    _follow(ENTRY, found)
    return found


@cache
def program() -> bytes:
    """Return what the bootstrap reads: ten digits, then so many bytes."""
    sources = {
        name: (path.name == "__init__.py", path.read_text()) for name, path in modules().items()
    }
    text = f"SOURCES = {sources!r}\n{_LOADER.format(entry=ENTRY)}"
    packed = zlib.compress(text.encode(), 9)
    return f"{len(packed):010d}".encode() + packed


def command(*, watch: bool = False) -> str:
    """Return the command line that starts the agent on a host, for whatever shell is there.

    It takes the first Python of 3.11 or later that it finds, as root or by ``sudo`` without a
    password; one that is only to ``watch`` runs as whoever logs in.
    """
    may_watch = f'[ "{int(watch)}" = 1 ]'
    arguments = f'-I -u -c "$0" "$SSH_CONNECTION" {"watch" if watch else "change"}'
    shell = (
        "for p in python3 python3.14 python3.13 python3.12 python3.11; do "
        'if "$p" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then '
        f'if {may_watch} || [ "$(id -u)" = 0 ]; then exec "$p" {arguments}; '
        f'else exec sudo -n -- "$p" {arguments}; fi; fi; done; '
        'echo "no Python 3.11 or later" >&2; exit 127'
    )
    return f"exec sh -c '{shell}' '{BOOTSTRAP}'"


def _follow(name: str, found: dict[str, Path]) -> None:
    path = _source_of(name)
    if name in found or path is None:
        return
    found[name] = path
    parent = name.rpartition(".")[0]
    if parent:
        _follow(parent, found)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            _follow(node.module, found)
            for alias in node.names:
                _follow(f"{node.module}.{alias.name}", found)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                _follow(alias.name, found)


def _source_of(name: str) -> Path | None:
    first, *rest = name.split(".")
    if first != mptcplab.__name__:
        return None
    path = _PACKAGE.joinpath(*rest)
    if (path / "__init__.py").exists():
        return path / "__init__.py"
    return path.with_suffix(".py") if rest and path.with_suffix(".py").exists() else None
