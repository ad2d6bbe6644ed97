"""Capturing on an interface, in a network namespace of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mptcplab import trace

pytestmark = [pytest.mark.kernel, pytest.mark.program("ip", "setpriv"), pytest.mark.slow]

_PEERS = """\
import socket
listener = socket.create_server(("127.0.0.1", 5000))
client = socket.create_connection(("127.0.0.1", 5000))
server, _ = listener.accept()
client.sendall(bytes(20000))
client.shutdown(socket.SHUT_WR)
while server.recv(65536):
    pass
"""


@pytest.fixture
def inside() -> Iterator[list[str]]:
    """What runs a command in the namespace."""
    name = f"mptcplab-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def _inspect(*arguments: str) -> list[str]:
    return [sys.executable, "-u", "-m", "mptcplab", "inspect", *arguments]


@pytest.mark.parametrize("interface", ["lo", "any"])
def test_packets_are_captured_once_and_rights_are_dropped(
    inside: list[str], tmp_path: Path, interface: str
) -> None:
    target = tmp_path / "x.pcap"
    process = subprocess.Popen(
        [*inside, *_inspect("-i", interface, "--duration", "20s", "-c", "12", "-w", str(target))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "reading from interface" in process.stderr.readline()
    status = Path("/proc", str(process.pid), "status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    subprocess.run([*inside, sys.executable, "-c", _PEERS], check=True)
    subprocess.run([*inside, sys.executable, "-c", _PEERS], check=True)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    capture = trace.open(target)
    assert capture.packets == 12
    syns = subprocess.run(
        _inspect(str(target), "--filter", "tcp.flags.syn == 1 and tcp.flags.ack == 0"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ports = [line.split(" > ")[0].rsplit(".", 1)[1] for line in syns.stdout.splitlines()]
    assert len(ports) == len(set(ports)) > 0  # the loopback interface shows each packet once


def test_without_rights_it_says_what_to_do(inside: list[str]) -> None:
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps=-all"]
    done = subprocess.run(
        [*inside, *nobody, *_inspect("-i", "lo")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "you may not capture here" in line
    assert "tcpdump -i lo" in line
