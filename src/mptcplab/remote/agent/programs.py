"""The programs of flows on this host: iperf3, or what a scenario's ``command`` says.

They run as who has logged in, also where the agent is root by ``sudo``.  What they print is kept in
memory until the controller fetches it.  All that they start carries a mark in its environment, by
which the journal's undoing ends it, whatever has become of its parents.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from mptcplab.remote.agent.processes import die_with_parent

MARK: Final = "MPTCPLAB_AGENT"
_KEPT_BYTES: Final = 16 << 20
_READ_BYTES: Final = 1 << 16
_END_WITHIN_S: Final = 5
_POLL_S: Final = 0.01


class HostProgram:
    """One program, from its start until its output has been read."""

    def __init__(self, argv: list[str], mark: str, *, keeps_errors: bool) -> None:
        """Start it; OSError where that cannot be.

        What it says on standard error is part of its output or, without ``keeps_errors``, lost.
        """
        self.output, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=subprocess.STDOUT if keeps_errors else subprocess.DEVNULL,
                env=_environment() | {MARK: mark},
                preexec_fn=_become_who_logged_in,
            )
        except BaseException:
            os.close(self.output)
            raise
        finally:
            os.close(writing)
        os.set_blocking(self.output, False)
        self.exit = os.pidfd_open(self._process.pid)
        """Readable when it has ended."""
        self.status: int | None = None
        self.is_silent = False
        """Whether nobody can print to its output any more."""
        self._kept = bytearray()
        self.dropped_bytes = 0

    def look(self) -> bool:
        """Take in what it has printed; return whether it has ended since the last look."""
        while not self.is_silent:
            try:
                data = os.read(self.output, _READ_BYTES)
            except BlockingIOError:
                break
            self.is_silent = not data
            room = data[: _KEPT_BYTES - len(self._kept)]
            self._kept += room
            self.dropped_bytes += len(data) - len(room)
            if self.dropped_bytes:
                break  # of what never ends, a part at a time
        if self.status is None:
            self.status = self._process.poll()
            return self.status is not None
        return False

    @property
    def kept_bytes(self) -> int:
        """How much of what it printed is kept."""
        return len(self._kept)

    def read(self, start: int, count: int) -> bytes:
        """Return a part of what it printed."""
        return bytes(self._kept[start : start + count])

    def send_signal(self, number: int) -> None:
        """Send it a signal; one to a program that has ended is lost."""
        with contextlib.suppress(OSError):
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it, and take in what it has printed."""
        self._process.kill()
        self._process.wait()
        self.look()

    def close(self) -> None:
        """Kill it and forget what it printed."""
        self._process.kill()
        self._process.wait()
        os.close(self.output)
        os.close(self.exit)


def end_marked(mark: str) -> None:
    """Kill all that runs with a mark, and wait until none of it does."""
    wanted = f"{MARK}={mark}".encode()
    deadline = time.monotonic() + _END_WITHIN_S
    while time.monotonic() < deadline:
        found = False
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and wanted in _environment_of(process):
                found = True
                with contextlib.suppress(OSError):
                    os.kill(int(process.name), signal.SIGKILL)
        if not found:
            return
        time.sleep(_POLL_S)


def _environment_of(process: Path) -> list[bytes]:
    """Return what a process was started with; nothing of one that is dead (proc(5), environ)."""
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _environment() -> dict[str, str]:
    """Return the environment of who has logged in."""
    environment = dict(os.environ)
    if "SUDO_UID" in environment:
        entry = pwd.getpwuid(int(environment["SUDO_UID"]))
        environment |= {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
    return environment


def _become_who_logged_in() -> None:
    """Give up what ``sudo`` gave, and end with the agent; in the child, before the program."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        user, group = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
        os.initgroups(pwd.getpwuid(user).pw_name, group)
        os.setgid(group)
        os.setuid(user)
    die_with_parent()  # setuid(2) would undo it
