"""GridFTP as the application: the Grid Community Toolkit's servers and client move one file.

Data go in extended block mode (MODE E, GFD.20), in which whoever sends opens the data connections
to ports of the flow's own on the receiver.  The client runs on the sender and puts the file on the
receiver's server, or on the receiver and gets it from the sender's.  A striped transfer goes from
server to server: on each host a front end hands out the file's blocks to data nodes, one for each
path, which it reaches over the loopback.

The file lies in a tmpfs, so that no disk limits the transfer, which hangs on a descriptor of the
testbed's and goes with that.  How much of what arrives is there is asked of that tmpfs: a file's
pages are allocated as they are written, in whatever order.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mptcplab.applications.workloads import GridFtp
from mptcplab.linux.kernel.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, mount, unmount
from mptcplab.linux.traffic import file_check
from mptcplab.linux.traffic.flow import Answer, Connection, Spawn, Traffic, end_process
from mptcplab.linux.traffic.plan import FlowError
from mptcplab.linux.traffic.ports import is_bound
from mptcplab.linux.traffic.programs import KEEP_OUTPUT
from mptcplab.network.topology import Path as NetworkPath
from mptcplab.scenario.model import Flow

_PACKAGES: Final = {
    "globus-url-copy": "globus-gass-copy-progs",
    "globus-gridftp-server": "globus-gridftp-server-progs",
    "mptcpize": "mptcpize",
}
_SEARCHED: Final = ("/usr/sbin", "/usr/local/sbin")  # servers' folders, which users do not search
_OF_GLOBUS: Final = ("GLOBUS_", "X509_")  # names of environment variables that change transfers
_LOOPBACK: Final = "127.0.0.1"
_BLOCK_BYTES: Final = 512  # of st_blocks (stat(2))
_SPARE_BYTES: Final = 1 << 20  # for the folder itself
_MEMORY_SHARE: Final = 0.8  # of what is available, for both copies of the file
_TOLD_CHARACTERS: Final = 200
_IP_VERSION: Final = 4


def stripes_of(paths: Sequence[NetworkPath]) -> list[NetworkPath]:
    """Return paths that have no address in common, one for each data node of a host."""
    chosen: list[NetworkPath] = []
    for path in paths:
        taken = {address for each in chosen for address in _addresses(each)}
        if taken.isdisjoint(_addresses(path)):
            chosen.append(path)
    return chosen


def _addresses(path: NetworkPath) -> tuple[str, str]:
    return str(path.local_address.ip), str(path.remote_address.ip)


def programs(flow: Flow) -> dict[str, str]:
    """Return where each program is that a flow needs; FlowError names the packages of the rest."""
    wanted = ["globus-url-copy", "globus-gridftp-server"]
    if flow.protocol == "mptcp":
        wanted.append("mptcpize")
    searched = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SEARCHED))
    found = {name: shutil.which(name, path=searched) for name in wanted}
    missing = [name for name in wanted if found[name] is None]
    if missing:
        packages = " ".join(_PACKAGES[name] for name in missing)
        raise FlowError(
            f"flow {flow.name}: GridFTP needs {' and '.join(missing)}, which this machine does not "
            f"have; apt-get install --no-install-recommends {packages} (Debian), or use "
            'application = "striped" or "bulk"'
        )
    return {name: path for name, path in found.items() if path is not None}


class Plan:
    """What runs where for one transfer: argument lists, ports and addresses."""

    def __init__(self, flow: Flow, paths: Sequence[NetworkPath], first_port: int) -> None:
        """Take the flow's paths, from its source's side."""
        assert isinstance(flow.workload, GridFtp)
        self.flow, self.workload = flow, flow.workload
        self.found = programs(flow)
        stripes = stripes_of(paths)
        self.stripes = stripes if self.workload.striped else stripes[:1]
        self.data_ports = [first_port + number for number in range(len(self.stripes))]
        self.control_port = first_port + len(self.stripes)
        self._ipc_ports = [self.control_port + 1 + n for n in range(len(self.stripes))]

    @property
    def ports(self) -> int:
        """How many ports it takes."""
        return len(self.stripes) * (3 if self.workload.striped else 1) + 1

    @property
    def client_host(self) -> str:
        """The host on which the client runs."""
        return self.flow.destination if self.workload.download else self.flow.source

    def servers(self) -> list[tuple[str, str, list[str], int]]:
        """Return the host, role and arguments of each server, and the port where it listens."""
        source, destination = self.flow.source, self.flow.destination
        if not self.workload.striped:
            host = source if self.workload.download else destination
            options = [*self._for_clients(), *self._data(host, 0)]
            return [(host, "server", self._server(options), self.control_port)]
        servers = []
        for host, side in ((source, "source"), (destination, "destination")):
            for number, port in enumerate(self._ipc_ports):
                options = ["-dn", "-p", str(port), "-ipc-interface", _LOOPBACK, "-no-secure-ipc"]
                options += ["-ipc-allow-from", _LOOPBACK, "-auth-level", "0"]
                options += self._data(host, number)
                role = f"{side}-node-{number + 1}"
                servers.append((host, role, self._server(options), port))
            nodes = ",".join(f"{_LOOPBACK}:{port}" for port in self._ipc_ports)
            options = [*self._for_clients(), "-r", nodes, "-no-secure-ipc"]
            options += ["-data-interface", self._address(host)]
            servers.append((host, f"{side}-front-end", self._server(options), self.control_port))
        return servers

    def client(self, sent: Path, arrived: Path) -> list[str]:
        """Return the client's arguments, for the file that is sent and the one that arrives."""
        options = ["-p", str(self.workload.streams)]
        if self.workload.striped:
            options.insert(0, "-stripe")
        if self.flow.send_buffer_bytes is not None:  # the kernel doubles it
            options += ["-tcp-bs", str(self.flow.send_buffer_bytes // 2)]
        download, striped = self.workload.download, self.workload.striped
        urls = [
            self._url(self.flow.source, sent, served=striped or download),
            self._url(self.flow.destination, arrived, served=striped or not download),
        ]
        return self._program("globus-url-copy", [*options, *urls], self._port_range(0))

    def _server(self, options: Sequence[str]) -> list[str]:
        """Return a server that serves one transfer, in one process, and reads no configuration."""
        always = ["-c", os.devnull, "-no-fork"]
        return self._program("globus-gridftp-server", [*always, *options], "")

    def _for_clients(self) -> list[str]:
        """Return a server's options for anonymous clients; root is whoever owns the lab."""
        port = str(self.control_port)
        options = ["-p", port, "-aa", "-anonymous-user", "root", "-allow-root"]
        return [*options, "-auth-level", "0", "-home-dir", "/"]

    def _data(self, host: str, number: int) -> list[str]:
        address, ports = self._address(host, number), self._port_range(number)
        return ["-data-interface", address, "-port-range", ports]

    def _port_range(self, number: int) -> str:
        return f"{self.data_ports[number]},{self.data_ports[number]}"

    def _address(self, host: str, number: int = 0) -> str:
        """Return a host's address on a stripe's path."""
        here, there = _addresses(self.stripes[number])
        return here if host == self.flow.source else there

    def _url(self, host: str, file: Path, *, served: bool) -> str:
        place = quote(str(file))
        if not served:
            return f"file://{place}"
        return f"ftp://{self._address(host)}:{self.control_port}{place}"

    def _program(self, name: str, options: Sequence[str], port_range: str) -> list[str]:
        """Return a program with its arguments, in an environment without the user's settings."""
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SEARCHED))
        own = [name for name in os.environ if name.startswith(_OF_GLOBUS)]
        argv = ["env", *(f"--unset={name}" for name in own), f"PATH={path}", "LC_ALL=C"]
        if port_range:
            argv.append(f"GLOBUS_TCP_PORT_RANGE={port_range}")
        if self.flow.protocol == "mptcp":
            argv += [self.found["mptcpize"], "run"]
        return [*argv, self.found[name], *options]


class GridFtpTraffic(Traffic):
    """One transfer: its servers, its client, its file at both ends."""

    def __init__(
        self,
        flow: Flow,
        paths: Sequence[NetworkPath],
        first_port: int,
        spawn: Spawn,
        workspace: Path,
        on_answer: Answer,
    ) -> None:
        self.flow = flow
        if _keeps_groups():
            raise FlowError(
                f"flow {flow.name}: GridFTP's servers give up their groups, which a user namespace "
                'does not let them; run as root, or use application = "striped" or "bulk"'
            )
        paths = [each for each in paths if each.local_address.version == _IP_VERSION]
        if not paths:
            raise FlowError(
                f"flow {flow.name}: no IPv4 path between its hosts, over which GridFTP runs here"
            )
        self._plan = Plan(flow, paths, first_port)
        first, *further = self._plan.data_ports
        self._connection = Connection(
            flow, 0, first, checked=flow.verify, begun=False, further_ports=tuple(further)
        )
        self.connections = [self._connection]
        self._spawn, self._workspace, self._on_answer = spawn, workspace, on_answer
        self._memory = -1  # a descriptor of the folder in memory that holds the file
        self._servers: list[tuple[str, int, subprocess.Popen[bytes]]] = []
        self._client: subprocess.Popen[bytes] | None = None
        self._check: subprocess.Popen[bytes] | None = None
        self._end = -1  # a descriptor that is readable when the client has ended
        self._stopped = self._ended = False

    @property
    def ports(self) -> int:
        """How many ports it takes, from its first on."""
        return self._plan.ports

    @property
    def _sent(self) -> Path:
        return self._file("sent")

    @property
    def _arrived(self) -> Path:
        return self._file("arrived")

    def _file(self, name: str) -> Path:
        """Return a path that all programs of the lab can use, without the letters that GridFTP's
        cannot.
        """
        return Path(f"/proc/{os.getpid()}/fd/{self._memory}/{name}")

    @property
    def _size_bytes(self) -> int:
        assert self.flow.size_bytes is not None
        return self.flow.size_bytes

    def prepare(self) -> None:
        """Make the file and start the servers."""
        available_bytes = _available_bytes()
        if available_bytes is not None and 2 * self._size_bytes > available_bytes * _MEMORY_SHARE:
            raise FlowError(
                f"flow {self.flow.name}: its file is twice in memory, which is "
                f"{2 * self._size_bytes / 1e9:.1f} GB of the {available_bytes / 1e9:.1f} GB that "
                "this machine has available; choose a smaller size"
            )
        self._memory = _open_memory(self._workspace, 2 * self._size_bytes + _SPARE_BYTES)
        file_check.write_file(self._sent, self._connection.port, self._size_bytes)
        for host, role, argv, port in self._plan.servers():
            process = self._start(host, f"{self.flow.name}-{role}", argv)
            self._servers.append((role, port, process))

    def _start(self, host: str, name: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        output = str(self._workspace / f"{name}.txt")
        return self._spawn(host, ["sh", "-c", KEEP_OUTPUT, "sh", output, *argv])

    def _told(self, name: str) -> str:
        """Return the end of what a program of the flow's printed."""
        with contextlib.suppress(OSError):
            text = (self._workspace / f"{name}.txt").read_text(errors="replace")
            return " ".join(text.split())[-_TOLD_CHARACTERS:]
        return ""

    def descriptors(self) -> Mapping[int, Callable[[], bool]]:
        """Return what tells that the client has ended, once it runs."""
        return {} if self._end < 0 or self._ended else {self._end: self._note_end}

    @property
    def ready(self) -> bool:
        """Whether every server listens."""
        for role, _, process in self._servers:
            if process.poll() is not None and not self._connection.errors:
                told = self._told(f"{self.flow.name}-{role}")
                self._connection.errors.append(
                    f"globus-gridftp-server ended before the flow began: {told}"
                )
        return all(is_bound(process.pid, port) for _, port, process in self._servers)

    def start(self) -> None:
        """Start the client."""
        argv = self._plan.client(self._sent, self._arrived)
        self._client = self._start(self._plan.client_host, self.flow.name, argv)
        self._end = os.pidfd_open(self._client.pid)

    def _note_end(self) -> bool:
        """The client has ended: see how, and begin to check the file that arrived."""
        assert self._client is not None
        connection, now_ns = self._connection, time.monotonic_ns()
        status = self._client.wait()
        self._ended = True
        answer: dict[str, str | int] = {"event": "done", "bytes": self._arrived_bytes()}
        if status == 0:
            connection.end_monotonic_ns = now_ns
            connection.bytes_sent = self._size_bytes
            if self.flow.verify:
                argv = [sys.executable, "-P", "-m", file_check.__name__]
                argv += [str(self._arrived), str(connection.port)]
                self._check = self._spawn(self.flow.destination, argv)
            else:
                connection.bytes_received = self._arrived_bytes()
        elif not self._stopped:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            text = (
                f"globus-url-copy ended with {how}: {self._told(self.flow.name)} "
                f"({self.flow.name}.txt has all that it printed)"
            )
            connection.errors.append(text)
            answer = {"event": "failed", "text": text}
        self._on_answer(connection, "sender", answer)
        return False

    def stop(self) -> None:
        """Ask the client to end (SIGTERM); wait for the check where it goes on."""
        self._stopped = True
        if self._client is not None and not self._ended:
            with contextlib.suppress(ProcessLookupError):
                self._client.send_signal(signal.SIGTERM)
        if self._check is not None:
            self._check.wait()
            self._take_check(self._check)

    def _take_check(self, check: subprocess.Popen[bytes]) -> None:
        """Note what the check that has ended has found."""
        connection = self._connection
        if connection.bytes_received is not None:
            return
        connection.bytes_received = self._arrived_bytes()
        assert check.stdout is not None
        wrong = check.stdout.read().decode(errors="replace")
        if wrong:
            connection.errors.append(wrong)
        elif check.returncode:
            connection.errors.append(f"its check ended with status {check.returncode}")

    @property
    def finished(self) -> bool:
        """Whether the client has run and ended, and what arrived is checked."""
        if self._check is not None:
            if self._check.poll() is None:
                return False
            self._take_check(self._check)
        return self._ended

    def held(self) -> list[Connection]:
        """Return none: programs close their sockets when they like."""
        return []

    def release(self, connection: Connection) -> None:
        """Do nothing."""

    def delivered_bytes(self) -> list[int]:
        """Return how much of the file the receiver has written, in whole pages until it is done."""
        return [self._arrived_bytes()]

    def _arrived_bytes(self) -> int:
        try:
            status = self._arrived.stat()
        except OSError:  # not yet, or not any more
            return self._connection.bytes_received or 0
        return min(status.st_blocks * _BLOCK_BYTES, status.st_size)

    def processes(self) -> list[tuple[str, int]]:
        """Return the client, then the servers."""
        clients = [] if self._client is None else [("client", self._client.pid)]
        return [*clients, *((role, process.pid) for role, _, process in self._servers)]

    def process_of(self, role: str, _index: int) -> int | None:
        """Return the program at one end; None where data nodes share the work."""
        if self._plan.workload.striped or not self._servers:
            return None
        if (role == "sender") != self._plan.workload.download:
            return None if self._client is None else self._client.pid
        return self._servers[0][2].pid

    def close(self) -> None:
        """Kill what still runs, and give the file's memory back."""
        for process in (self._client, self._check, *(each for _, _, each in self._servers)):
            if process is not None:
                end_process(process)
        if self._end >= 0:
            os.close(self._end)
            self._end = -1
        for name in (self.flow.name, *(f"{self.flow.name}-{role}" for role, _, _ in self._servers)):
            output = self._workspace / f"{name}.txt"
            with contextlib.suppress(OSError):  # not there, or the run's folder is in its place
                if output.stat().st_size == 0:
                    output.unlink()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1


def _open_memory(workspace: Path, size_bytes: int) -> int:
    """Return a descriptor of a folder in memory without a name, which goes with its holder."""
    place = workspace / "memory"
    place.mkdir()
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mount("tmpfs", str(place), "tmpfs", flags, f"size={size_bytes},mode=700")
    try:
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        unmount(str(place))
        place.rmdir()


def _keeps_groups() -> bool:
    """Return whether processes cannot change their groups here (user_namespaces(7))."""
    with contextlib.suppress(OSError):
        return Path("/proc/self/setgroups").read_text().strip() == "deny"
    return False


def _available_bytes() -> int | None:
    """Return the memory that programs may still take (proc_meminfo(5)); None where nobody tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
