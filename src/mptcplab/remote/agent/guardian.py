"""A process beside the agent that undoes what the agent did, should it die or be stuck.

It hears a byte from the agent whenever the controller has been heard of; when the pipe closes, or
nothing is heard for too long, it kills all that the agent runs and undoes the journal.  It holds
the lock as well, so that no other agent begins before it is done.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mptcplab.remote.agent.journal import Journal
from mptcplab.remote.agent.processes import close_all_but

SILENCE_S: Final = 20
"""How long the agent may say nothing: it ends by itself well before that."""
_ALIVE: Final = b"."
_DONE: Final = b"!"
_END_WITHIN_S: Final = 10
_POLL_S: Final = 0.01
_IGNORED: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


class Guardian:
    """The agent's side of it."""

    def __init__(self, keep: int) -> None:
        """Start the process, which keeps the descriptor of the lock open."""
        reading, self._pipe = os.pipe()
        agent = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)  # until it ignores them
        self._process = os.fork()
        if self._process == 0:
            try:
                os.close(self._pipe)
                _watch(agent, reading, keep, before)
            finally:
                os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reading)
        os.set_blocking(self._pipe, False)

    def alive(self) -> bool:
        """Say that the controller has been heard of; False where it has died and hears nothing."""
        try:
            os.write(self._pipe, _ALIVE)
        except BrokenPipeError:
            os.close(self._pipe)
            os.waitpid(self._process, 0)
            return False
        except BlockingIOError:  # it has enough to read
            pass
        return True

    def dismiss(self) -> None:
        """Let it end: nothing is left to undo, or is to stay."""
        with contextlib.suppress(OSError):
            os.write(self._pipe, _DONE)


def _watch(agent: int, reading: int, keep: int, mask: Iterable[int]) -> None:
    os.setsid()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # the SSH session ends without it
        os.dup2(null, descriptor)
    close_all_but(reading, keep)
    while True:
        if not select.select([reading], [], [], SILENCE_S)[0]:
            break  # stuck
        said = os.read(reading, 1 << 12)
        if _DONE in said:
            return
        if not said:
            break  # dead
    _end_group(agent)
    Journal().undo()


def _end_group(agent: int) -> None:
    """Kill the agent and all that it started, and wait until none of it can change anything."""
    deadline = time.monotonic() + _END_WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            os.killpg(agent, signal.SIGKILL)
        if not _runs(agent):
            return
        time.sleep(_POLL_S)


def _runs(group: int) -> bool:
    """Say whether a process of a group is there that is not dead already (proc(5), stat)."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = (process / "stat").read_text()
                state, _, its_group = text.rpartition(")")[2].split()[:3]
                if int(its_group) == group and state not in "ZX":
                    return True
    return False
