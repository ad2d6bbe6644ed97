"""Make the captures in this folder again: kernel MPTCP between two network namespaces.

Needs root, tcpdump and a kernel with MPTCP:  ``python tests/captures/generate.py [NAME ...]``.
Packets are cut at 128 bytes, files are compressed; nothing outside the namespaces is touched.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = Path(__file__).parent

_SERVER = """
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
listener = socket.socket(family, socket.SOCK_STREAM, 262)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(('::' if family == socket.AF_INET6 else '', 5001))
listener.listen()
print('ready', flush=True)
peer, _ = listener.accept()
total = 0
while data := peer.recv(1 << 16):
    total += len(data)
peer.sendall(b'%d' % total)
peer.close()
print(total, flush=True)
"""

_CLIENT = """
import socket, struct, sys, time
address, seconds, amount, abort, protocol = sys.argv[1:6]
family = socket.AF_INET6 if ':' in address else socket.AF_INET
peer = socket.socket(family, socket.SOCK_STREAM, int(protocol))
peer.connect((address, 5001))
stop = time.monotonic() + float(seconds)
sent = 0
while time.monotonic() < stop and sent < int(amount):
    sent += peer.send(b'm' * min(4096, int(amount) - sent))
    if int(amount) < 1 << 40:
        time.sleep(float(seconds) / (int(amount) / 4096))
if abort == 'abort':
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    peer.close()
else:
    peer.shutdown(socket.SHUT_WR)
    print(int(peer.recv(64)), flush=True)
"""


class Pair:
    """Two namespaces with two links between them, client 10.0.N.1 and server 10.0.N.2."""

    def __init__(self, rate_mbit: float) -> None:
        self.client, self.server = f"cap-c{os.getpid()}", f"cap-s{os.getpid()}"
        for name in (self.client, self.server):
            self.ip("netns", "add", name)
        for n in (1, 2):
            self.ip(
                *("link", "add", f"v{n}", "netns", self.client, "type", "veth"),
                *("peer", "name", f"v{n}", "netns", self.server),
            )
            for end, name in ((1, self.client), (2, self.server)):
                self.ip("-n", name, "addr", "add", f"10.0.{n}.{end}/24", "dev", f"v{n}")
                self.ip("-n", name, "addr", "add", f"fd00:{n}::{end}/64", "dev", f"v{n}", "nodad")
                self.ip("-n", name, "link", "set", f"v{n}", "up")
                self.inside(
                    name,
                    *("tc", "qdisc", "add", "dev", f"v{n}", "root", "tbf"),
                    *("rate", f"{rate_mbit}mbit", "burst", "16kb", "latency", "60ms"),
                )
                self.inside(
                    name, "ethtool", "-K", f"v{n}", "tso", "off", "gso", "off", "gro", "off"
                )
        for name in (self.client, self.server):
            self.ip("-n", name, "link", "set", "lo", "up")
            for setting in ("enabled=1", "blackhole_timeout=0"):
                self.inside(name, "sysctl", "-qw", f"net.mptcp.{setting}")
            self.mptcp(name, "limits", "set", "subflows", "4", "add_addr_accepted", "4")

    def close(self) -> None:
        """Remove the namespaces and what is in them."""
        for name in (self.client, self.server):
            self.ip("netns", "del", name)

    @staticmethod
    def ip(*words: str) -> None:
        """Run ip(8)."""
        subprocess.run(("ip", *words), check=True)

    def inside(self, name: str, *words: str) -> None:
        """Run a command in a namespace; what it prints is not wanted."""
        subprocess.run(("ip", "netns", "exec", name, *words), check=True, capture_output=True)

    def mptcp(self, name: str, *words: str) -> None:
        """Run ``ip mptcp``."""
        self.ip("-n", name, "mptcp", *words)

    def start(self, name: str, *words: str) -> subprocess.Popen[str]:
        """Start a command in a namespace."""
        return subprocess.Popen(
            ("ip", "netns", "exec", name, *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    @contextlib.contextmanager
    def captured(self, path: Path, name: str | None = None) -> Iterator[None]:
        """Capture both links in a namespace while the block runs."""
        dump = self.start(
            name or self.client,
            *(
                "tcpdump",
                "-i",
                "any",
                "-s",
                "128",
                "--immediate-mode",
                "-U",
                "-w",
                str(path),
                "tcp",
            ),
        )
        deadline = time.monotonic() + 5
        while not (path.exists() and path.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield
        finally:
            time.sleep(0.3)
            dump.send_signal(signal.SIGINT)
            dump.communicate(timeout=5)

    def transfer(
        self,
        address: str,
        seconds: float,
        amount: int = 1 << 40,
        abort: bool = False,
        protocol: int = 262,
        during: Callable[[], None] | None = None,
    ) -> int:
        """Send from client to server; returns the bytes the server got (0 after an abort)."""
        server = self.start(self.server, sys.executable, "-c", _SERVER, address)
        assert server.stdout is not None
        server.stdout.readline()
        client = self.start(
            self.client, sys.executable, "-c", _CLIENT,
            address, str(seconds), str(amount), "abort" if abort else "close", str(protocol),
        )  # fmt: skip
        try:
            if during is not None:
                during()
            out, _ = client.communicate(timeout=seconds + 20)
        finally:
            for process in (client, server):
                process.kill()
                process.communicate()
        return int(out or 0)


def handover(pair: Pair, path: Path) -> int:
    """Experiment B in short: link 2 joins at 1 s, link 1 fails at 2.5 s and returns at 4 s."""

    def during() -> None:
        time.sleep(1.0)
        pair.mptcp(pair.client, "endpoint", "add", "10.0.2.1", "dev", "v2", "subflow")
        time.sleep(1.5)
        pair.ip("-n", pair.client, "link", "set", "v1", "down")
        time.sleep(1.5)
        pair.ip("-n", pair.client, "link", "set", "v1", "up")

    with pair.captured(path):
        return pair.transfer("10.0.1.2", 6.0, during=during)


def addresses(pair: Pair, path: Path) -> int:
    """The server announces an address and withdraws it; the client changes a priority; IPv6."""
    pair.mptcp(pair.server, "endpoint", "add", "fd00:2::2", "dev", "v2", "signal")

    def during() -> None:
        time.sleep(0.6)
        pair.mptcp(pair.client, "endpoint", "add", "fd00:2::1", "dev", "v2", "subflow", "backup")
        time.sleep(0.3)
        pair.mptcp(pair.server, "endpoint", "del", "id", "1")

    with pair.captured(path):
        return pair.transfer("fd00:1::2", 1.5, 40960, during=during)


def abort(pair: Pair, path: Path) -> int:
    """The client gives up: MP_FASTCLOSE."""
    with pair.captured(path):
        return pair.transfer("10.0.1.2", 0.5, 20480, abort=True)


def checksums(pair: Pair, path: Path) -> int:
    """Both sides use DSS checksums, over two links."""
    for name in (pair.client, pair.server):
        pair.inside(name, "sysctl", "-qw", "net.mptcp.checksum_enabled=1")
    pair.mptcp(pair.client, "endpoint", "add", "10.0.2.1", "dev", "v2", "subflow")
    with pair.captured(path):
        return pair.transfer("10.0.1.2", 0.8, 81920)


def plain_peer(pair: Pair, path: Path) -> int:
    """The server's kernel has MPTCP switched off: fallback at the SYN/ACK."""
    pair.inside(pair.server, "sysctl", "-qw", "net.mptcp.enabled=0")
    server = _SERVER.replace("socket.SOCK_STREAM, 262", "socket.SOCK_STREAM")
    with pair.captured(path):
        global_server, globals()["_SERVER"] = _SERVER, server
        try:
            return pair.transfer("10.0.1.2", 0.3, 8192)
        finally:
            globals()["_SERVER"] = global_server


SCENARIOS: dict[str, tuple[float, Callable[[Pair, Path], int]]] = {
    "handover": (2.0, handover),
    "addresses": (10.0, addresses),
    "abort": (10.0, abort),
    "checksums": (10.0, checksums),
    "plain-peer": (10.0, plain_peer),
}


def generate(name: str, path: Path) -> int:
    """Make one capture; returns the bytes that the server received."""
    rate_mbit, scenario = SCENARIOS[name]
    pair = Pair(rate_mbit)
    try:
        return scenario(pair, path)
    finally:
        pair.close()


def main(names: list[str]) -> None:
    """Make the named captures, all without names."""
    for name in names or list(SCENARIOS):
        raw = FOLDER / f"{name}.pcap"
        received = generate(name, raw)
        packed = FOLDER / f"{name}.pcap.gz"
        packed.write_bytes(gzip.compress(raw.read_bytes(), 9, mtime=0))
        raw.unlink()
        print(f"{packed.name}: {packed.stat().st_size} bytes; the server received {received}")


if __name__ == "__main__":
    main(sys.argv[1:])
