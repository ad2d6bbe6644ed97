"""Packet captures on a run's interfaces, by tcpdump, into the run's folder."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

from mptcplab.linux.lab import Lab
from mptcplab.linux.supervisor import MachineCannotError
from mptcplab.scenario.model import Scenario

_END_WITHIN_S: Final = 5.0


class Captures:
    """The captures that a scenario asks for, from :meth:`start` to :meth:`stop`."""

    def __init__(self, scenario: Scenario, lab: Lab, folder: Path) -> None:
        """Take where to write; MachineCannotError where tcpdump is wanted and not there."""
        self._scenario = scenario
        self._lab = lab
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        if scenario.captures and shutil.which("tcpdump") is None:
            raise MachineCannotError(
                "captures need tcpdump, which is not installed; install it, or leave captures out"
            )

    def start(self) -> None:
        """Start one tcpdump for each interface and wait until each listens.

        Raises MachineCannotError where one does not.
        """
        for end in self._scenario.captures:
            file = self._folder / f"{end.host}-{end.interface}.pcap"
            # fmt: off
            argv = ["tcpdump", "-i", end.interface, "-s", str(self._scenario.snaplen_bytes),
                    "-n", "-Z", "root", "-w", str(file)]
            # fmt: on
            process = self._lab.spawn(
                end.host, argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            self._processes.append(process)
            assert process.stderr is not None
            said = b""
            while line := process.stderr.readline():
                said += line
                if b"listening on" in line:
                    break
            else:
                raise MachineCannotError(
                    f"tcpdump on {end} ended: {said.decode(errors='replace').strip()}"
                )

    def stop(self) -> None:
        """Let every tcpdump write what it has, and end."""
        for process in self._processes:
            process.send_signal(signal.SIGINT)
        for process in self._processes:
            try:
                process.communicate(timeout=_END_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        self._processes.clear()
