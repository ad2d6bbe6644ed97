"""The machine's limits of socket buffers, raised with consent and put back whatever happens.

``net.core.rmem_max`` and ``wmem_max`` bound what a program may ask for with SO_RCVBUF and SO_SNDBUF
(``iperf -w``).  They belong to the machine, not to a network namespace, so a lab's hosts cannot
have their own.  Raised, they are put back by a *keeper*: a process apart that reads from a pipe
whose writing end is held by whatever needs the limits, and by what that forks; when all of these
have ended, of anything, the pipe reads as closed.  What a killed keeper left is put back by the
next command that looks.

In a folder of the user's, under a lock: ``limits.state`` has the values of before and those that
were set, and each keeper has a file, locked while it lives, with the size that it keeps.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from mptcplab.linux.errors import MachineCannotError
from mptcplab.scenario.model import Scenario

NAMES: Final = ("rmem_max", "wmem_max")
_STATE: Final = "limits.state"  # no .json, which are labs
_LOCK: Final = "limits.lock"
_KEEPER: Final = ".keeps-limits"


def limit_bytes() -> int | None:
    """Return what a program may ask for at most (``iperf -w``); None where it cannot be read."""
    try:
        return min(_read(name) for name in NAMES)
    except OSError:  # the network namespace of a container
        return None


def asked_bytes(scenario: Scenario) -> int:
    """Return what programs must be able to ask for to have the buffers of a scenario's flows.

    The kernel doubles what a program asks for; a flow's buffer is what getsockopt returns.
    """
    sizes = [
        size
        for flow in scenario.flows
        for size in (flow.send_buffer_bytes, flow.receive_buffer_bytes)
        if size is not None
    ]
    return max(sizes, default=0) // 2


def raise_limits(size_bytes: int, folder: Path) -> None:
    """Let programs ask for as much, until this process and what it forks from now on have ended.

    MachineCannotError where this user may not.
    """
    with _locked(folder):
        reading, writing = os.pipe()  # not for programs, which close both
        entry = folder / f"{os.urandom(4).hex()}{_KEEPER}"
        held = os.open(entry, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(held, b"%d" % size_bytes)
        fcntl.flock(held, fcntl.LOCK_EX)
        starter = os.fork()
        if starter == 0:
            if os.fork():
                os._exit(0)
            _keep(folder, entry, held, reading)
        os.waitpid(starter, 0)
        os.close(held)  # the keeper's copy holds the lock on
        os.close(reading)
        try:
            _settle(folder)
        except OSError as error:
            os.close(writing)
            raise MachineCannotError(
                f"net.core.rmem_max and wmem_max cannot be raised to {size_bytes}: "
                f"{error.strerror}; that takes root of the machine, outside containers"
            ) from error


def put_back_left_over(folder: Path) -> None:
    """Put back what a keeper that was killed could not."""
    if (folder / _STATE).exists():
        with _locked(folder):
            _settle(folder)


def _keep(folder: Path, entry: Path, held: int, reading: int) -> NoReturn:
    """Be the keeper: wait until nobody needs the limits, put them back, exit."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    opened = [int(link.name) for link in Path("/proc/self/fd").iterdir()]
    for descriptor in opened:
        if descriptor > 2 and descriptor not in (held, reading):
            with contextlib.suppress(OSError):
                os.close(descriptor)
    os.read(reading, 1)
    with _locked(folder), contextlib.suppress(OSError):
        entry.unlink()
        os.close(held)
        _settle(folder)
    os._exit(0)


def _settle(folder: Path) -> None:
    """Set the limits to the largest that a living keeper keeps, else to what they were before.

    A limit that somebody else has changed meanwhile counts from then on as the one of before.
    """
    kept = list(_kept(folder))
    state = folder / _STATE
    current = {name: _read(name) for name in NAMES}
    stored = (
        json.loads(state.read_text()) if state.exists() else {"before": current, "set": current}
    )
    before = {
        name: stored["before"][name] if current[name] == stored["set"][name] else current[name]
        for name in NAMES
    }
    wanted = {name: max([before[name], *kept]) for name in NAMES}
    state.write_text(json.dumps({"before": before, "set": wanted}))
    for name in NAMES:
        if wanted[name] != current[name]:
            _path(name).write_text(str(wanted[name]))
    if not kept:
        state.unlink()


def _kept(folder: Path) -> Iterator[int]:
    """Yield the sizes that living keepers keep; remove what dead ones left."""
    for entry in folder.glob(f"*{_KEEPER}"):
        with entry.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield int(file.read())
            else:
                entry.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _path(name: str) -> Path:
    return Path("/proc/sys/net/core", name)


def _read(name: str) -> int:
    return int(_path(name).read_text())
