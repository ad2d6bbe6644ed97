"""Packet captures on a run's interfaces, into the run's folder.

By tcpdump; without root by dumpcap, because tcpdump changes its user when it thinks that it is
root, which a user namespace does not let it (setgroups is denied there, user_namespaces(7)).
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from mptcplab.linux.errors import MachineCannotError
from mptcplab.linux.lab.lab import Lab
from mptcplab.scenario.model import Scenario

_END_WITHIN_S: Final = 5.0
_LISTENS: Final = {"tcpdump": b"listening on", "dumpcap": b"File:"}  # said once packets are taken
_BLOCK_S: Final = 1.1
"""The kernel hands captured packets over a block at a time, when it is full or a second old
(tcpdump's time-out); what is in a younger block when the program ends is lost."""
_BUFFER_MIB: Final = 16
"""Of each interface: room for a hundred thousand packets of the default length."""


class Captures:
    """The captures that a scenario asks for, from :meth:`start` to :meth:`stop`."""

    def __init__(self, scenario: Scenario, lab: Lab, folder: Path) -> None:
        """Take where to write; MachineCannotError where a capture is wanted and its program is not
        there.
        """
        self._scenario = scenario
        self._lab = lab
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._program = "tcpdump" if _may_set_groups() else "dumpcap"
        if scenario.captures and shutil.which(self._program) is None:
            raise MachineCannotError(
                f"captures need {self._program}, which is not installed; install it"
                f"{'' if self._program == 'tcpdump' else ', run as root'}, or leave captures out"
            )

    def start(self) -> None:
        """Start one program for each interface and wait until each listens.

        Raises MachineCannotError where one does not.
        """
        for end in self._scenario.captures:
            file = self._folder / f"{end.host}-{end.interface}.pcap"
            argv = _command(self._program, end.interface, self._scenario.snaplen_bytes, file)
            process = self._lab.spawn(
                end.host, argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            self._processes.append(process)
            assert process.stderr is not None
            said = b""
            while line := process.stderr.readline():
                said += line
                if _LISTENS[self._program] in line:
                    break
            else:
                raise MachineCannotError(
                    f"{self._program} on {end} ended: {said.decode(errors='replace').strip()}"
                )

    def lost(self) -> list[str]:
        """Return the interfaces whose program has ended by itself."""
        return [
            str(end)
            for end, process in zip(self._scenario.captures, self._processes, strict=False)
            if process.poll() is not None
        ]

    def stop(self) -> None:
        """Let every program write what it has, and end."""
        if self._processes:
            time.sleep(_BLOCK_S)
        for process in self._processes:
            process.send_signal(signal.SIGINT)
        for process in self._processes:
            try:
                process.communicate(timeout=_END_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        self._processes.clear()


def _may_set_groups() -> bool:
    try:
        return Path("/proc/self/setgroups").read_text().strip() == "allow"
    except FileNotFoundError:  # a kernel without user namespaces
        return True


def _command(program: str, interface: str, snaplen: int, file: Path) -> list[str]:
    arguments = ["-i", interface, "-s", str(snaplen), "-w", str(file)]
    if program == "tcpdump":
        return [program, *arguments, "-B", str(_BUFFER_MIB * 1024), "-n", "-Z", "root"]
    return [program, *arguments, "-B", str(_BUFFER_MIB), "-q", "-P"]
