"""iperf3 as the application: a server and a client for each connection; bytes are not checked.

What has arrived is asked of the kernel while it runs (the receiving socket's counter).  iperf3 sets
its own buffers, so what it got is compared with what the scenario asked for when it has finished.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from typing import Any, Final

from mptcplab.linux.traffic.flow import Answer, Connection, Traffic
from mptcplab.linux.traffic.plan import FlowError, client_and_server
from mptcplab.linux.traffic.programs import Program, Programs
from mptcplab.network.topology import Path as NetworkPath
from mptcplab.scenario.model import Flow

_FOREVER_S: Final = 86400


PROGRAM: Final = "iperf3"
MPTCPIZE: Final = "mptcpize"


def command(mptcp_option: bool | None) -> list[str]:
    """Return how to start iperf3: plainly, with its own MPTCP option, or through mptcpize.

    ``mptcp_option`` is None for TCP, else whether this iperf3 has ``--mptcp`` (from 3.19 on).
    """
    if mptcp_option is None:
        return [PROGRAM]
    return [PROGRAM, "--mptcp"] if mptcp_option else [MPTCPIZE, "run", PROGRAM]


def _command(flow: Flow, host: str, programs: Programs) -> list[str]:
    """Return how a host starts iperf3; FlowError where it cannot."""
    if not programs.find(host, PROGRAM):
        raise FlowError(
            f"flow {flow.name}: iperf3 is not installed on {programs.where_is(host)}; install it "
            'or use application = "bulk"'
        )
    if flow.protocol != "mptcp":
        return command(None)
    argv = command("--mptcp" in programs.options(host, PROGRAM))
    if not programs.find(host, argv[0]):
        raise FlowError(
            f"flow {flow.name}: the iperf3 of {programs.where_is(host)} has no --mptcp and "
            "mptcpize is not installed"
        )
    return argv


def client_arguments(flow: Flow, path: NetworkPath, port: int) -> list[str]:
    """Return iperf3's options for the client of one connection."""
    arguments = ["-c", str(path.remote_address.ip), "-B", str(path.local_address.ip)]
    arguments += ["-p", str(port), "-J", "-l", str(min(flow.write_bytes, 1 << 20))]
    arguments += ["-C", flow.congestion]
    if flow.write_rate_bps is not None:
        arguments += ["-b", str(flow.write_rate_bps)]
    if flow.send_buffer_bytes is not None:
        arguments += ["-w", str(flow.send_buffer_bytes // 2)]  # the kernel doubles it
    if flow.size_bytes is not None:
        arguments += ["-n", str(flow.size_bytes // flow.connections)]
    else:
        arguments += ["-t", str(_FOREVER_S)]
    if client_and_server(flow)[0] != flow.source:
        arguments.append("-R")
    return arguments


def check_buffers(flow: Flow) -> None:
    """Raise FlowError where iperf3 cannot give the buffers that the flow asks for."""
    if flow.send_buffer_bytes != flow.receive_buffer_bytes:
        raise FlowError(
            f"flow {flow.name}: iperf3 has one size for both buffers (-w); give "
            'send_buffer and receive_buffer the same size, or use application = "bulk"'
        )


def read_report(text: str, connection: Connection) -> None:
    """Take from iperf3's JSON what the connection still lacks; problems go to its errors."""
    try:
        report: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError:
        connection.errors.append(f"iperf3 gave no report: {text.strip()[:200] or 'no output'}")
        return
    error = str(report.get("error", ""))
    if error and "interrupt" not in error:
        connection.errors.append(f"iperf3: {error}")
    end = report.get("end", {})
    if "sum_sent" in end:
        connection.bytes_sent = int(end["sum_sent"]["bytes"])
    got = report.get("start", {}).get("sndbuf_actual")
    asked = connection.flow.send_buffer_bytes
    if asked is not None and got is not None and int(got) != asked:
        connection.errors.append(
            f"iperf3 got a send buffer of {got} bytes where {asked} were asked for; "
            "raise net.core.wmem_max and rmem_max"
        )


class Iperf3Traffic(Traffic):
    """A server and a client process for each connection."""

    def __init__(
        self, flow: Flow, path: NetworkPath, first_port: int, programs: Programs, on_answer: Answer
    ) -> None:
        check_buffers(flow)
        self._commands = {host: _command(flow, host, programs) for host in client_and_server(flow)}
        self.flow = flow
        self.connections = [
            Connection(flow, index, first_port + index, checked=False)
            for index in range(flow.connections)
        ]
        self._path, self._programs, self._on_answer = path, programs, on_answer
        self._servers: list[Program] = []
        self._clients: list[Program] = []
        self._open = 0

    def prepare(self) -> None:
        """Start the servers; the clients start when the flow does."""
        server = client_and_server(self.flow)[1]
        for connection in self.connections:
            argv = [*self._commands[server], "-s", "-1", "-J", "-p", str(connection.port)]
            self._servers.append(self._programs.start(server, argv))

    def descriptors(self) -> Mapping[int, Callable[[], bool]]:
        """Return what tells that clients have printed or ended, once they run."""
        return {
            client.descriptor: self._reader(connection, client)
            for connection, client in zip(self.connections, self._clients, strict=False)
        }

    def _reader(self, connection: Connection, client: Program) -> Callable[[], bool]:
        def read() -> bool:
            if client.read():
                return True
            self._open -= 1
            read_report(client.text, connection)
            event = "failed" if connection.errors else "done"
            answer = {"event": event, "text": "; ".join(connection.errors)}
            self._on_answer(connection, "sender", answer)
            return False

        return read

    @property
    def ready(self) -> bool:
        """Whether every server listens."""
        return all(
            server.listens(connection.port)
            for server, connection in zip(self._servers, self.connections, strict=True)
        )

    def start(self) -> None:
        """Start the clients."""
        client = client_and_server(self.flow)[0]
        for connection in self.connections:
            options = client_arguments(self.flow, self._path, connection.port)
            self._clients.append(self._programs.start(client, [*self._commands[client], *options]))
            self._open += 1

    def stop(self) -> None:
        """Interrupt the clients; they report what they sent."""
        for client in self._clients:
            client.send_signal(signal.SIGINT)

    @property
    def finished(self) -> bool:
        """Whether every client that was started has reported."""
        return bool(self._clients) and self._open == 0

    def held(self) -> list[Connection]:
        """Return none: iperf3 closes its sockets when it likes."""
        return []

    def release(self, connection: Connection) -> None:
        """Do nothing."""

    def delivered_bytes(self) -> list[int] | None:
        """Return None: the kernel's counters tell."""
        return None

    def processes(self) -> list[tuple[str, int]]:
        """Return clients, then servers."""
        return [
            (role, program.pid)
            for role, programs in (("client", self._clients), ("server", self._servers))
            for program in programs
            if program.pid is not None
        ]

    def process_of(self, role: str, index: int) -> int | None:
        """Return the client or the server of a connection, whichever sends or receives."""
        client = (role == "sender") == (client_and_server(self.flow)[0] == self.flow.source)
        programs = self._clients if client else self._servers
        return programs[index].pid if index < len(programs) else None

    def close(self) -> None:
        """Kill what still runs."""
        for program in (*self._clients, *self._servers):
            program.close()
