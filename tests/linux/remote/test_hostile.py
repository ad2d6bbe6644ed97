"""Hosts that answer something else than an agent does: one clear error, soon, and nothing acts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tests.linux.remote.conftest import TWO_LINKS
from tests.linux.remote.machines import Machines

pytestmark = [pytest.mark.kernel, pytest.mark.program("sshd"), pytest.mark.slow]

HOSTILE = Path(__file__).with_name("hostile.py")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("noise", "instead of its agent came"),
        ("noise after the mark", "is announced"),
        ("a long message", "takes longer than|its agent has ended|is announced|not JSON"),
        ("wrong JSON", "not JSON"),
        ("ends", "its agent did not start"),
        ("nonsense", "answers nonsense: facts: lacks"),
        ("refuses", r"\\x1b\[2Jno"),
        ("endless", "answers nonsense|faster than they can be taken"),
    ],
)
def test_one_clear_error(two_machines: Machines, kind: str, says: str) -> None:
    command = f"{sys.executable} {HOSTILE} '{kind}'"
    with two_machines.serving("server", 2222, command):
        address = two_machines.addresses["server"]
        done = two_machines.run(
            *("hosts", str(TWO_LINKS), "check", *two_machines.options),
            *("--set", f'hosts.server.ssh="root@{address}:2222"'),
            timeout=120,
        )
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("mptcplab: server: ")
    assert line.isprintable()
    assert len(line) < 600
    assert re.search(says, line), line
