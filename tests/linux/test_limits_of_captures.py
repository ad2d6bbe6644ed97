"""What captures say held a sender back, beside what this kernel counted (``tcp_info``).

A client that speaks MPTCP asks a server that does not: the connection goes on as plain TCP, whose
sender counts how long it was busy, and of that how long the receiver's window and its own send
buffer held it back (include/uapi/linux/tcp.h).  For MPTCP it has no such counters.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.linux.conftest import host, interface
from tests.linux.test_links import on_lab

from mptcplab import trace
from mptcplab.limits.causes import Cause
from mptcplab.linux.lab.lab import Lab
from mptcplab.network.topology import Channel, InterfaceEnd, Link, Queue, Topology

pytestmark = [pytest.mark.kernel, pytest.mark.program("tcpdump")]

TCPDUMP = ("tcpdump", "-i", "eth1", "-s", "128", "-U", "-n", "-Z", "root", "-B", "16384", "-w")
SECONDS = 3.0
POINTS = 0.10

SEND = """
import json, signal, socket, sys, time
how = json.loads(sys.argv[1])
listener = socket.socket()
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
if how.get("sndbuf"):
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, how["sndbuf"])
listener.bind(("10.0.1.2", 5001))
listener.listen()
print("ready", flush=True)
sock, _ = listener.accept()
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
begun = time.time()
data = bytes(how.get("write", 1 << 16))
due = begun

def stop(*_):
    raise TimeoutError

signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, how["seconds"])
try:
    while True:
        sock.sendall(data)
        if how.get("every"):
            due += how["every"]
            time.sleep(max(0, due - time.time()))
except TimeoutError:
    pass
info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
print(json.dumps([begun, time.time(), info.hex()]), flush=True)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
sock.close()
"""
READ = """
import json, socket, sys, time
how = json.loads(sys.argv[1])
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
if how.get("rcvbuf"):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, how["rcvbuf"])
sock.connect(("10.0.1.2", 5001))
begun, got = time.time(), 0
try:
    while data := sock.recv(how.get("read", 1 << 20)):
        got += len(data)
        if how.get("rate"):
            time.sleep(max(0, begun + got / how["rate"] - time.time()))
except ConnectionError:
    pass
"""


def link(**changes: Any) -> Topology:
    """Two hosts and a link that changes as asked from one of 100 Mb/s without delay."""
    values: dict[str, Any] = {"rate_bps": 100_000_000, "queue": Queue(limit_bytes=500_000)}
    data = Channel(**(values | changes))
    back = Channel(**(values | {k: v for k, v in changes.items() if k != "loss"}))
    ends = (InterfaceEnd("left", "eth1"), InterfaceEnd("right", "eth1"))
    hosts = tuple(
        host(name, [interface("eth1", f"10.0.1.{number}/24")])
        for name, number in (("left", 1), ("right", 2))
    )
    return Topology("one", hosts, (), (Link("lan", *ends, back, data),))


def measured(topology: Topology, folder: Path, **how: Any) -> tuple[float, float, dict[str, float]]:
    """Send from right to left; returns when it began and ended, and what the kernel counted."""
    text = json.dumps({"seconds": SECONDS, **how})

    def work(lab: Lab) -> Any:
        captures = []
        for name in ("left", "right"):
            command = [*TCPDUMP, str(folder / f"{name}.pcap"), "tcp"]
            capture = lab.spawn(name, command, stderr=subprocess.PIPE)
            assert capture.stderr is not None
            while b"listening" not in capture.stderr.readline():
                pass
            captures.append(capture)
        sender = lab.spawn("right", [sys.executable, "-c", SEND, text], stdout=subprocess.PIPE)
        assert sender.stdout is not None
        assert sender.stdout.readline() == b"ready\n"
        reader = lab.spawn("left", [sys.executable, "-c", READ, text])
        begun, ended, info = json.loads(sender.communicate(timeout=30)[0])
        reader.wait(timeout=30)
        time.sleep(1.2)
        for capture in captures:
            capture.terminate()
            capture.communicate(timeout=10)
        return begun, ended, info

    begun, ended, info = on_lab(topology, work)
    busy, window, buffer = (
        value / 1e6 / (ended - begun)
        for value in struct.unpack_from("=QQQ", bytes.fromhex(info), 168)
    )
    counted = {
        "application": 1 - busy,
        "window": window,
        "buffer": buffer,
        "congestion": busy - window - buffer,
    }
    return begun, ended, counted


GROUPS = {
    Cause.APPLICATION: "application",
    Cause.RECEIVE_WINDOW: "window",
    Cause.HEAD_OF_LINE: "window",
    Cause.SEND_BUFFER: "buffer",
    Cause.CONGESTION_WINDOW: "congestion",
    Cause.LINK: "congestion",
}


def said(path: Path, begun: float, ended: float) -> dict[str, float]:
    """Return the shares that a capture gives to what the kernel counts."""
    (connection,) = trace.open(path).connections
    (held,) = [held for held in connection.held if held.side == 1]
    shares = dict.fromkeys((*GROUPS.values(), "unknown"), 0.0)
    low, high = int(begun * 1e9), int(ended * 1e9)
    for span in held.spans:
        inside = min(span.end_ns, high) - max(span.start_ns, low)
        if inside > 0:
            shares[GROUPS.get(span.cause, "unknown")] += inside / (high - low)
    return shares


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "slow reader": ({}, {"rate": 500_000, "read": 16384}),
    "small receive buffer": ({"delay_ns": 40_000_000}, {"rcvbuf": 12_000}),
    "paced": ({}, {"write": 8192, "every": 0.02}),
    "bulk": ({"rate_bps": 20_000_000, "queue": Queue(limit_bytes=100_000)}, {}),
    "bulk with loss": ({"rate_bps": 20_000_000, "delay_ns": 10_000_000, "loss": 0.01}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_shares_are_those_that_the_kernel_counted(tmp_path: Path, case: str) -> None:
    changes, how = CASES[case]
    begun, ended, counted = measured(link(**changes), tmp_path, **how)
    for end in ("left", "right"):
        shares = said(tmp_path / f"{end}.pcap", begun, ended)
        for name in ("application", "window", "congestion"):
            assert shares[name] == pytest.approx(counted[name], abs=POINTS), (end, shares, counted)


@pytest.mark.slow
def test_a_small_send_buffer_is_named_at_the_sender(tmp_path: Path) -> None:
    """The kernel counts the time as busy; its application waits for room all the time."""
    topology = link(delay_ns=20_000_000)
    begun, ended, counted = measured(topology, tmp_path, sndbuf=32_768)
    assert counted["application"] < POINTS
    at_sender, at_receiver = (
        said(tmp_path / f"{end}.pcap", begun, ended) for end in ("right", "left")
    )
    assert max(at_sender, key=lambda name: at_sender[name]) == "buffer", at_sender
    assert at_sender["window"] == at_receiver["window"] == 0
    assert at_receiver["application"] < 0.5
