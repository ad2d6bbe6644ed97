"""Any program as a flow: started on the flow's source, with another that serves it or without."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from mptcplab.applications.workloads import Command
from mptcplab.linux.traffic.flow import Answer, Connection, Spawn, Traffic, end_process
from mptcplab.linux.traffic.plan import FlowError
from mptcplab.linux.traffic.ports import is_bound
from mptcplab.network.topology import Path as NetworkPath
from mptcplab.scenario.model import Flow

KEEP_OUTPUT: Final = 'output="$1"; shift; exec "$@" >"$output" 2>&1'
"""A shell's program: runs its other arguments with their output in the file of the first."""


def arguments(text: str, server: str, port: int) -> list[str]:
    """Return a command's arguments; ``{server}`` and ``{port}`` replaced in each."""
    return [
        part.replace("{server}", server).replace("{port}", str(port)) for part in shlex.split(text)
    ]


class CommandTraffic(Traffic):
    """The processes of a flow's programs; what they print is kept in the run's folder."""

    def __init__(
        self,
        flow: Flow,
        path: NetworkPath,
        port: int,
        spawn: Spawn,
        folder: Path,
        on_answer: Answer,
    ) -> None:
        assert isinstance(flow.workload, Command)
        self.flow = flow
        self.connections = [Connection(flow, 0, port, checked=False, begun=False)]
        self._spawn, self._folder, self._on_answer = spawn, folder, on_answer
        server = str(path.remote_address.ip)
        self._command = self._checked(arguments(flow.workload.command, server, port))
        self._serving = self._checked(arguments(flow.workload.server_command, server, port))
        self._server: subprocess.Popen[bytes] | None = None
        self._client: subprocess.Popen[bytes] | None = None
        self._end = -1  # a descriptor that is readable when the client has ended
        self._stopped = False
        self._ended = False

    def _checked(self, argv: list[str]) -> list[str]:
        if argv and shutil.which(argv[0]) is None:
            raise FlowError(
                f"flow {self.flow.name}: there is no program {argv[0]} on this machine; install "
                "it, or name another in command"
            )
        return argv

    def _started(self, host: str, argv: list[str], name: str) -> subprocess.Popen[bytes]:
        output = str(self._folder / f"{name}.txt")
        return self._spawn(host, ["sh", "-c", KEEP_OUTPUT, "sh", output, *argv])

    def prepare(self) -> None:
        """Start the program that serves."""
        if self._serving:
            name = f"{self.flow.name}-server"
            self._server = self._started(self.flow.destination, self._serving, name)

    def descriptors(self) -> Mapping[int, Callable[[], bool]]:
        """Return what tells that the program has ended, once it runs."""
        return {} if self._client is None or self._ended else {self._end: self._note_end}

    def _note_end(self) -> bool:
        assert self._client is not None
        status = self._client.wait()
        self._ended = True
        (connection,) = self.connections
        answer: dict[str, str | int] = {"event": "done", "bytes": connection.bytes_sampled}
        if status and not self._stopped:
            program = self._command[0]
            how = f"signal {-status}" if status < 0 else f"status {status}"
            text = f"{program} ended with {how}; {self.flow.name}.txt has what it printed"
            connection.errors.append(text)
            answer = {"event": "failed", "text": text}
        if self._server is not None:
            self._server.terminate()
        self._on_answer(connection, "sender", answer)
        return False

    @property
    def ready(self) -> bool:
        """Whether the server listens, where it was told the port."""
        if self._server is None or "{port}" not in self._workload.server_command:
            return True
        if self._server.poll() is not None:
            (connection,) = self.connections
            if not connection.errors:
                connection.errors.append(f"{self._serving[0]} ended before the flow began")
            return False
        return is_bound(self._server.pid, self.connections[0].port)

    @property
    def _workload(self) -> Command:
        assert isinstance(self.flow.workload, Command)
        return self.flow.workload

    def start(self) -> None:
        """Start the program."""
        self._client = self._started(self.flow.source, self._command, self.flow.name)
        self._end = os.pidfd_open(self._client.pid)

    def stop(self) -> None:
        """Ask the program to end (SIGTERM)."""
        self._stopped = True
        if self._client is not None and not self._ended:
            with contextlib.suppress(ProcessLookupError):
                self._client.send_signal(signal.SIGTERM)

    @property
    def finished(self) -> bool:
        """Whether the program has run and ended."""
        return self._ended

    def held(self) -> list[Connection]:
        """Return none: programs close their sockets when they like."""
        return []

    def release(self, connection: Connection) -> None:
        """Do nothing."""

    def delivered_bytes(self) -> list[int] | None:
        """Return None: the kernel's counters tell, where the program uses the flow's port."""
        return None

    def processes(self) -> list[tuple[str, int]]:
        """Return the programs."""
        both = (("command", self._client), ("server", self._server))
        return [(role, process.pid) for role, process in both if process is not None]

    def process_of(self, role: str, _index: int) -> int | None:
        """Return the program at one end."""
        process = self._client if role == "sender" else self._server
        return None if process is None else process.pid

    def close(self) -> None:
        """Kill what still runs."""
        for process in (self._client, self._server):
            if process is not None:
                end_process(process)
        if self._end >= 0:
            os.close(self._end)
            self._end = -1
