"""What was changed on this host, and how to undo it: written down before it is done.

The journal is the one file that an agent makes, in ``/run``, by the number of the network namespace
that the changes are in.  A line is the undoing of one change, a list of commands; undoing takes the
lines from the last to the first and removes the file.  A line that is torn belongs to a change that
was not begun.  Undoing may be broken off and begun again by another process, so every command of it
may be carried out twice, and for what was never done.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any, Final

from mptcplab.linux.kernel.mptcp_endpoints import Endpoint, Flags, PathManager
from mptcplab.linux.kernel.netlink import NETLINK_GENERIC, NetlinkSocket
from mptcplab.remote.agent.programs import end_marked

Command = list[str]
"""A command line; "write", a path and a text stand for writing that file, "forget-implicit" and the
identifiers of endpoints for deleting all other implicit ones, which the kernel makes by itself,
"end-programs" and a mark for ending the programs that have it."""

FOLDER: Final = Path("/run/mptcplab-hosts")
_COMMAND_S: Final = 20
_SO_NETNS_COOKIE: Final = 71  # include/uapi/asm-generic/socket.h
_COOKIE: Final = struct.Struct("=Q")


class CommandError(RuntimeError):
    """A change that this host refused; the text says which and why."""


class UnansweredError(CommandError):
    """A command that was killed, or took too long: what became of the change is not known."""


def execute(command: Command) -> None:
    """Carry out one command; CommandError where it fails."""
    if command[0] == "forget-implicit":
        _forget_implicit(command[1:])
        return
    if command[0] == "end-programs":
        end_marked(command[1])
        return
    if command[0] == "write":
        _, path, text = command
        try:
            Path(path).write_text(text)
        except OSError as error:
            raise CommandError(f"write {text} to {path}: {error.strerror}") from error
        return
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise UnansweredError(f"{' '.join(command)}: {error}") from error
    except OSError as error:
        raise CommandError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:400]
        kind = UnansweredError if done.returncode < 0 else CommandError
        raise kind(f"{' '.join(command)}: {said or f'status {done.returncode}'}")


def _execute_again(command: Command) -> None:
    """Carry out one command, once more where nothing came of it; CommandError where it fails."""
    try:
        execute(command)
    except UnansweredError:
        execute(command)


def implicit_endpoints() -> list[Endpoint]:
    """Return the endpoints that the kernel has made for addresses that it joined from."""
    channel = NetlinkSocket(NETLINK_GENERIC)
    try:
        endpoints = PathManager(lambda: channel).endpoints()
    except OSError:  # no MPTCP here
        return []
    finally:
        channel.close()
    return [each for each in endpoints if Flags.IMPLICIT in each.flags]


def _forget_implicit(known: list[str]) -> None:
    for endpoint in implicit_endpoints():
        if str(endpoint.identifier) not in known:
            execute(["ip", "mptcp", "endpoint", "delete", "id", str(endpoint.identifier)])


def namespace_number() -> int:
    """Return the number of the network namespace that this process is in.

    Its cookie is no other's until the machine restarts. Before Linux 5.14 it is that of its file,
    which another namespace may get once this one is gone.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        try:
            cookie = here.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _COOKIE.size)
        except OSError:
            return Path("/proc/self/ns/net").stat().st_ino
    number: int = _COOKIE.unpack(cookie)[0]
    return number


class Journal:
    """The journal of this network namespace, whether or not there is one at present."""

    def __init__(self) -> None:
        self.path = FOLDER / f"{namespace_number()}.journal"

    def read(self) -> tuple[dict[str, Any] | None, list[list[Command]]]:
        """Return the header, None where there is no journal, and the undoing of each change."""
        try:
            lines = self.path.read_text().splitlines()
        except OSError:
            return None, []
        entries = []
        for line in lines:
            with contextlib.suppress(ValueError):
                entries.append(json.loads(line))
        header = entries[0] if entries and isinstance(entries[0], dict) else {}
        return header, [entry for entry in entries if isinstance(entry, list)]

    def begin(self, header: dict[str, Any]) -> None:
        """Write the header of a new journal."""
        while True:
            FOLDER.mkdir(mode=0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another namespace's undoing removed it
                self.path.write_text(json.dumps(header) + "\n")
                return

    def note(self, undoing: list[Command]) -> None:
        """Write down how the next change is undone."""
        with self.path.open("a") as file:
            file.write(json.dumps(undoing) + "\n")

    def keep_standing(self, who: str) -> None:
        """Mark the journal as of changes that are to outlast their agent."""
        header, undoings = self.read()
        lines = [(header or {}) | {"standing": True, "who": who}, *undoings]
        self._new_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._new_path.replace(self.path)

    @property
    def _new_path(self) -> Path:
        """What a journal is called before it takes the place of another."""
        return self.path.with_suffix(".new")

    def undo(self) -> list[str]:
        """Undo everything, the last change first, and remove the journal.

        Returns what could not be undone, most often since it was never done.
        """
        _, undoings = self.read()
        problems = []
        for undoing in reversed(undoings):
            for command in undoing:
                try:
                    _execute_again(command)
                except Exception as error:  # whatever it is, what is left is to be undone as well
                    problems.append(str(error))
        for path in (self._new_path, self.path):
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):
            FOLDER.rmdir()  # unless another namespace of this machine has one
        return problems


def take_lock() -> socket.socket | None:
    """Return what excludes other agents from this network namespace; None where one has it.

    An abstract socket (unix(7)): it belongs to the namespace, and is gone with its last holder.
    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind("\0mptcplab-hosts")
    except OSError:
        lock.close()
        return None
    return lock
