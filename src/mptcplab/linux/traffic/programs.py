"""Programs of flows, on whatever hosts they run: started, listened to, asked to end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mptcplab.linux.traffic.flow import Spawn, end_process
from mptcplab.linux.traffic.ports import is_bound

KEEP_OUTPUT: Final = 'output="$1"; shift; exec "$@" >"$output" 2>&1'
"""A shell's program: runs its other arguments with their output in the file of the first."""


class Program(ABC):
    """A program at work; its standard input is empty."""

    pid: int | None = None
    """Its process, where that is on this machine."""
    descriptor: int
    """Readable when :meth:`read` has something to do."""

    @abstractmethod
    def read(self) -> bool:
        """Take in what has come; False: it has ended, and nothing more comes."""

    @property
    @abstractmethod
    def text(self) -> str:
        """What it has printed; empty where that goes to a file."""

    @abstractmethod
    def status(self) -> int | None:
        """Return its exit status, minus the number of the signal that ended it; None: it runs."""

    @abstractmethod
    def listens(self, port: int) -> bool:
        """Return whether a socket of its host is bound to a port."""

    @abstractmethod
    def send_signal(self, number: int) -> None:
        """Send it a signal; one to a program that has ended is lost."""

    @abstractmethod
    def close(self) -> None:
        """Kill it if it runs, and give everything back."""


class Programs(ABC):
    """Finds and starts programs on hosts."""

    @abstractmethod
    def where_is(self, host: str) -> str:
        """Return what messages call the machine that a host's programs are on."""

    @abstractmethod
    def find(self, host: str, name: str) -> bool:
        """Return whether a host has a program."""

    @abstractmethod
    def options(self, host: str, name: str) -> str:
        """Return what a program says with ``--help``."""

    @abstractmethod
    def start(self, host: str, argv: Sequence[str], output: Path | None = None) -> Program:
        """Start one.  What it prints goes to a file of this machine; without one, to its text."""


class LocalProgram(Program):
    """A program on a host of the lab."""

    def __init__(self, process: subprocess.Popen[bytes], *, keeps_text: bool) -> None:
        assert process.stdout is not None
        self._process = process
        self.pid = process.pid
        self._text = bytearray()
        self._pidfd = -1
        if keeps_text:
            self.descriptor = process.stdout.fileno()
            os.set_blocking(self.descriptor, False)
        else:
            self.descriptor = self._pidfd = os.pidfd_open(process.pid)

    def read(self) -> bool:
        """Take in what has come; False: it has ended, and nothing more comes."""
        if self._pidfd >= 0:
            self._process.wait()
            return False
        try:
            while data := os.read(self.descriptor, 1 << 16):
                self._text += data
        except BlockingIOError:
            return True
        return False

    @property
    def text(self) -> str:
        """What it has printed to standard output."""
        return self._text.decode(errors="replace")

    def status(self) -> int | None:
        """Return its exit status, minus the number of the signal that ended it; None: it runs."""
        return self._process.poll()

    def listens(self, port: int) -> bool:
        """Return whether a socket of its host is bound to a port, as far as /proc tells."""
        return is_bound(self._process.pid, port)

    def send_signal(self, number: int) -> None:
        """Send it a signal; one to a program that has ended is lost."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def close(self) -> None:
        """Kill it if it runs, and give everything back."""
        end_process(self._process)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


class LocalPrograms(Programs):
    """The programs of this machine, on hosts of the lab."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn

    def where_is(self, host: str) -> str:
        """Return what messages call this machine."""
        del host  # each has the machine's file system
        return "this machine"

    def find(self, host: str, name: str) -> bool:
        """Return whether this machine has a program."""
        del host
        return shutil.which(name) is not None

    def options(self, host: str, name: str) -> str:
        """Return what a program says with ``--help``."""
        del host
        told = subprocess.run([name, "--help"], capture_output=True, text=True, check=False)
        return told.stdout + told.stderr

    def start(self, host: str, argv: Sequence[str], output: Path | None = None) -> Program:
        """Start one.  What it prints goes to a file; without one, to its text."""
        if output is not None:
            argv = ["sh", "-c", KEEP_OUTPUT, "sh", str(output), *argv]
        return LocalProgram(self._spawn(host, argv), keeps_text=output is None)
