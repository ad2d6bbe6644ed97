"""The programs of flows on real hosts, which their agents run; what they print is fetched."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from mptcplab.linux.traffic.programs import Program, Programs
from mptcplab.remote.answers import BOUND, ENDED, PRINTED, AnswerError, shown
from mptcplab.remote.errors import HostsError
from mptcplab.remote.fleet import Fleet, checked
from mptcplab.remote.ssh import AgentLine

_NUMBERS: Final = count(1)
_CHUNK_MOST: Final = 2 << 20
_FETCHED_MOST: Final = 64 << 20
_STARTS: Final = 1 << 31


class RemoteProgram(Program):
    """A program that an agent runs."""

    def __init__(self, line: AgentLine, output: Path | None) -> None:
        self.descriptor = self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._line, self._output = line, output
        self._status: int | None = None
        self._text = b""
        self._is_fetched = False
        self.number = next(_NUMBERS)

    def start(self, argv: Sequence[str]) -> None:
        """Have the agent start it; HostsError where that cannot be."""
        errors = self._output is not None
        self._line.ask("run", program=self.number, argv=list(argv), keeps_errors=errors)

    def take_end(self, status: int) -> None:
        """It has ended."""
        self._status = status
        os.eventfd_write(self._event, 1)

    def read(self) -> bool:
        """Fetch what it has printed, once it has ended; return False then."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        if self._status is None:
            return True
        with contextlib.suppress(HostsError):  # the host is lost, of which others tell
            self.fetch()
        return False

    def fetch(self) -> None:
        """End it where it runs and fetch what it has printed; HostsError where that fails."""
        if self._is_fetched:
            return
        self._is_fetched = True
        answer = self._line.ask("printed", program=self.number)
        printed = checked(self._line, PRINTED, answer, "printed")
        data = bytearray()
        while len(data) < min(printed["bytes"], _FETCHED_MOST):
            answer = self._line.ask("text", program=self.number, start=len(data))
            data += _decoded(self._line.name, answer.get("data"))
        if printed["dropped"]:
            data += f"\n[{printed['dropped']} more bytes were not kept]\n".encode()
        self._text = bytes(data)
        if self._output is not None:
            self._output.write_bytes(self._text)

    @property
    def text(self) -> str:
        """What it has printed, once that is fetched; empty where that goes to a file."""
        return "" if self._output is not None else self._text.decode(errors="replace")

    def status(self) -> int | None:
        """Return its exit status, minus the number of the signal that ended it; None: it runs."""
        return self._status

    def listens(self, port: int) -> bool:
        """Return whether a socket of its host is bound to a port."""
        answer = self._line.ask("bound", port=port)
        return bool(checked(self._line, BOUND, answer, "bound")["bound"])

    def send_signal(self, number: int) -> None:
        """Send it a signal; one to a program that has ended is lost."""
        if self._status is None:
            self._line.tell("signal", program=self.number, number=int(number))

    def close(self) -> None:
        """Give everything back; the agent ends the program when it ends."""
        os.close(self._event)


class RemotePrograms(Programs):
    """The programs of a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._by_number: dict[str, dict[int, RemoteProgram]] = {name: {} for name in fleet.lines}

    def where_is(self, host: str) -> str:
        """Return what messages call a host."""
        return host

    def find(self, host: str, name: str) -> bool:
        """Return whether a host has a program."""
        return name in self._fleet.facts[host]["programs"]

    def options(self, host: str, name: str) -> str:
        """Return the options of iperf3's that matter."""
        del name
        return "--mptcp" if self._fleet.facts[host]["iperf3_has_mptcp"] else ""

    def start(self, host: str, argv: Sequence[str], output: Path | None = None) -> Program:
        """Start one; HostsError where that cannot be."""
        program = RemoteProgram(self._fleet.lines[host], output)
        self._by_number[host][program.number] = program
        program.start(argv)
        return program

    def take(self, host: str, message: Mapping[str, Any]) -> None:
        """Take in the end of one; AnswerError where there is none such."""
        ended = ENDED(message, "program")
        program = self._by_number[host].get(ended["program"])
        if program is None or not -_STARTS < ended["status"] < _STARTS:
            raise AnswerError(f"program: {shown(message)}; expected one that was started")
        program.take_end(ended["status"])

    def fetch(self) -> None:
        """End all that run, and fetch what was printed; HostsError where a host is lost."""
        for programs in self._by_number.values():
            for program in programs.values():
                program.fetch()


def _decoded(host: str, value: object) -> bytes:
    """Return a part of what a program printed; HostsError for what is none."""
    data = b""
    if isinstance(value, str) and len(value) < 2 * _CHUNK_MOST:
        with contextlib.suppress(binascii.Error, ValueError):
            data = base64.b64decode(value, validate=True)
    if not data:
        raise HostsError(
            f"{host}: its agent answers nonsense: what a program printed: {shown(value)}"
        )
    return data
