"""Programs that an agent runs: as who, what is kept of what they print, and what is left."""

from __future__ import annotations

import pwd
import select
import time
from pathlib import Path

import pytest

from mptcplab.remote.agent import programs
from mptcplab.remote.agent.programs import MARK, HostProgram, end_marked

pytestmark = pytest.mark.kernel


def ended(program: HostProgram) -> HostProgram:
    """Return a program once it has ended."""
    while program.status is None:
        select.select([program.exit, program.output], [], [], 10)
        program.look()
    return program


def marked(mark: str) -> list[str]:
    """Return the processes that have a mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_a_program_is_whose_login_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    who = pwd.getpwnam("nobody")
    monkeypatch.setenv("SUDO_UID", str(who.pw_uid))
    monkeypatch.setenv("SUDO_GID", str(who.pw_gid))
    words = ["sh", "-c", 'id -un; echo "$HOME"; echo worse >&2; exit 3']
    program = ended(HostProgram(words, "whose", keeps_errors=True))
    assert program.status == 3
    assert program.read(0, 1000).decode().split() == ["nobody", who.pw_dir, "worse"]
    program.close()


def test_what_prints_without_end_is_kept_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_KEPT_BYTES", 100_000)
    program = HostProgram(["yes"], "endless", keeps_errors=False)
    deadline = time.monotonic() + 10
    while not program.dropped_bytes and time.monotonic() < deadline:
        program.look()
    program.kill()
    assert program.kept_bytes == 100_000
    assert program.read(0, 4) == b"y\ny\n"
    assert program.dropped_bytes
    program.close()


def test_what_it_left_in_sessions_of_its_own_is_ended() -> None:
    words = ["sh", "-c", "setsid sleep 600 & sleep 600 & echo started"]
    program = ended(HostProgram(words, "left", keeps_errors=False))
    program.close()
    assert marked("left")
    end_marked("left")
    assert marked("left") == []
