"""iperf3 as the application: a server and a client for each connection; bytes are not checked.

What has arrived is asked of the kernel while it runs (the receiving socket's counter).  iperf3 sets
its own buffers, so what it got is compared with what the scenario asked for when it has finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, Final

from mptcplab.linux.traffic.flow import Answer, Connection, Spawn, Traffic, end_process
from mptcplab.linux.traffic.plan import FlowError, client_and_server
from mptcplab.linux.traffic.ports import is_bound
from mptcplab.network.topology import Path as NetworkPath
from mptcplab.scenario.model import Flow

_FOREVER_S: Final = 86400


def command(program: str, mptcp_option: bool | None) -> list[str]:
    """Return how to start iperf3: plainly, with its own MPTCP option, or through mptcpize.

    ``mptcp_option`` is None for TCP, else whether this iperf3 has ``--mptcp`` (from 3.19 on).
    """
    if mptcp_option is None:
        return [program]
    return [program, "--mptcp"] if mptcp_option else ["mptcpize", "run", program]


def _has_mptcp_option(program: str) -> bool:
    """Return whether this iperf3 knows ``--mptcp``."""
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return "--mptcp" in text.stdout + text.stderr


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
        self, flow: Flow, path: NetworkPath, first_port: int, spawn: Spawn, on_answer: Answer
    ) -> None:
        program = shutil.which("iperf3")
        if program is None:
            raise FlowError(
                f'flow {flow.name}: iperf3 is not installed; install it or use application = "bulk"'
            )
        check_buffers(flow)
        option = _has_mptcp_option(program) if flow.protocol == "mptcp" else None
        self._command = command(program, option)
        if shutil.which(self._command[0]) is None:
            raise FlowError(
                f"flow {flow.name}: this iperf3 has no --mptcp and mptcpize is not installed"
            )
        self.flow = flow
        self.connections = [
            Connection(flow, index, first_port + index, checked=False)
            for index in range(flow.connections)
        ]
        self._path, self._spawn, self._on_answer = path, spawn, on_answer
        self._servers: list[subprocess.Popen[bytes]] = []
        self._clients: list[subprocess.Popen[bytes]] = []
        self._open = 0

    def prepare(self) -> None:
        """Start the servers; the clients start when the flow does."""
        server = client_and_server(self.flow)[1]
        for connection in self.connections:
            argv = [*self._command, "-s", "-1", "-J", "-p", str(connection.port)]
            self._servers.append(self._spawn(server, argv))

    def descriptors(self) -> Mapping[int, Callable[[], bool]]:
        """Return the clients' output pipes, once they run."""
        return {
            _stdout(process): self._reader(connection, process)
            for connection, process in zip(self.connections, self._clients, strict=False)
        }

    def _reader(
        self, connection: Connection, process: subprocess.Popen[bytes]
    ) -> Callable[[], bool]:
        descriptor = _stdout(process)
        text = bytearray()

        def read() -> bool:
            try:
                while data := os.read(descriptor, 1 << 16):
                    text.extend(data)
            except BlockingIOError:
                return True
            self._open -= 1
            read_report(text.decode(errors="replace"), connection)
            event = "failed" if connection.errors else "done"
            answer = {"event": event, "text": "; ".join(connection.errors)}
            self._on_answer(connection, "sender", answer)
            return False

        return read

    @property
    def ready(self) -> bool:
        """Whether every server listens, as far as /proc tells."""
        return all(
            is_bound(server.pid, connection.port)
            for server, connection in zip(self._servers, self.connections, strict=True)
        )

    def start(self) -> None:
        """Start the clients."""
        client = client_and_server(self.flow)[0]
        for connection in self.connections:
            argv = [*self._command, *client_arguments(self.flow, self._path, connection.port)]
            process = self._spawn(client, argv)
            os.set_blocking(_stdout(process), False)
            self._clients.append(process)
            self._open += 1

    def stop(self) -> None:
        """Interrupt the clients; they report what they sent."""
        for process in self._clients:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)

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
            (role, process.pid)
            for role, processes in (("client", self._clients), ("server", self._servers))
            for process in processes
        ]

    def process_of(self, role: str, index: int) -> int | None:
        """Return the client or the server of a connection, whichever sends or receives."""
        client = (role == "sender") == (client_and_server(self.flow)[0] == self.flow.source)
        processes = self._clients if client else self._servers
        return processes[index].pid if index < len(processes) else None

    def close(self) -> None:
        """Kill what still runs."""
        for process in (*self._clients, *self._servers):
            end_process(process)


def _stdout(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    return process.stdout.fileno()
