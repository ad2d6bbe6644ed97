"""The program that is sent to hosts: of the standard library alone."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from mptcplab.remote import bundle
from mptcplab.remote.frames import MARK
from mptcplab.remote.ssh import Target


def test_the_agent_needs_nothing_but_the_standard_library() -> None:
    names = bundle.modules()
    for path in names.values():
        for node in ast.walk(ast.parse(path.read_text())):
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported = [node.module]
            for name in imported:
                first = name.partition(".")[0]
                known = name in names or name in ("mptcplab.laboratory", "mypy_extensions")
                assert known or first in sys.stdlib_module_names, f"{path}: {name}"


def test_it_starts_where_nothing_else_is_installed() -> None:
    started = subprocess.run(
        [sys.executable, "-I", "-S", "-u", "-c", bundle.BOOTSTRAP, "", "watch"],
        input=bundle.program(),
        capture_output=True,
        timeout=60,
    )
    assert started.stderr == b""
    assert started.stdout.startswith(MARK)


def test_it_is_small() -> None:
    assert len(bundle.program()) < 64_000
    assert "'" not in bundle.command().split("'")[1]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("host", Target("host")),
        ("me@host", Target("host", "me")),
        ("me@10.0.0.1:2222", Target("10.0.0.1", "me", 2222)),
        ("me@[fd00::1]:2222", Target("fd00::1", "me", 2222)),
        ("fd00::1", Target("fd00::1")),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert Target.parse(text) == target


@pytest.mark.parametrize(
    "text",
    [
        *("", "@host", "-oProxyCommand=x", "me@-x", "a b", "me@host\x1b"),
        *("host:ssh", "host:0", "host:99999", "host:²"),
    ],
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(ValueError, match='"'):
        Target.parse(text)
