"""Any program as a flow: started on the flow's source, with another that serves it or without."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from mptcplab.applications.workloads import Command
from mptcplab.linux.traffic.flow import Answer, Connection, Traffic
from mptcplab.linux.traffic.plan import FlowError
from mptcplab.linux.traffic.programs import Program, Programs
from mptcplab.network.topology import Path as NetworkPath
from mptcplab.scenario.model import Flow


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
        programs: Programs,
        folder: Path,
        on_answer: Answer,
    ) -> None:
        assert isinstance(flow.workload, Command)
        self.flow = flow
        self.connections = [Connection(flow, 0, port, checked=False, begun=False)]
        self._programs, self._folder, self._on_answer = programs, folder, on_answer
        server, workload = str(path.remote_address.ip), flow.workload
        self._command = arguments(workload.command, server, port)
        self._serving = arguments(workload.server_command, server, port)
        self._check(flow.source, self._command)
        self._check(flow.destination, self._serving)
        self._server: Program | None = None
        self._client: Program | None = None
        self._stopped = False
        self._ended = False

    def _check(self, host: str, argv: list[str]) -> None:
        if argv and not self._programs.find(host, argv[0]):
            raise FlowError(
                f"flow {self.flow.name}: there is no program {argv[0]} on "
                f"{self._programs.where_is(host)}; install it, or name another in command"
            )

    def _started(self, host: str, argv: list[str], name: str) -> Program:
        return self._programs.start(host, argv, self._folder / f"{name}.txt")

    def prepare(self) -> None:
        """Start the program that serves."""
        if self._serving:
            name = f"{self.flow.name}-server"
            self._server = self._started(self.flow.destination, self._serving, name)

    def descriptors(self) -> Mapping[int, Callable[[], bool]]:
        """Return what tells that the program has ended, once it runs."""
        if self._client is None or self._ended:
            return {}
        return {self._client.descriptor: self._note_end}

    def _note_end(self) -> bool:
        assert self._client is not None
        if self._client.read():
            return True
        status = self._client.status()
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
            self._server.send_signal(signal.SIGTERM)
        self._on_answer(connection, "sender", answer)
        return False

    @property
    def ready(self) -> bool:
        """Whether the server listens, where it was told the port."""
        if self._server is None or "{port}" not in self._workload.server_command:
            return True
        if self._server.status() is not None:
            (connection,) = self.connections
            if not connection.errors:
                connection.errors.append(f"{self._serving[0]} ended before the flow began")
            return False
        return self._server.listens(self.connections[0].port)

    @property
    def _workload(self) -> Command:
        assert isinstance(self.flow.workload, Command)
        return self.flow.workload

    def start(self) -> None:
        """Start the program."""
        self._client = self._started(self.flow.source, self._command, self.flow.name)

    def stop(self) -> None:
        """Ask the program to end (SIGTERM)."""
        self._stopped = True
        if self._client is not None and not self._ended:
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
        return [
            (role, program.pid)
            for role, program in both
            if program is not None and program.pid is not None
        ]

    def process_of(self, role: str, _index: int) -> int | None:
        """Return the program at one end."""
        program = self._client if role == "sender" else self._server
        return None if program is None else program.pid

    def close(self) -> None:
        """Kill what still runs."""
        for program in (self._client, self._server):
            if program is not None:
                program.close()
