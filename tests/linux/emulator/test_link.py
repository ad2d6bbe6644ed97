"""Emulated links on the running kernel: what they carry, and how they end."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from pathlib import Path

import pytest
from tests.times import MS

from mptcplab.linux.emulator import EmulatedLink, EmulatorError, open_tap
from mptcplab.linux.kernel import rtnl
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.network.parameters import ChannelParameters

pytestmark = [pytest.mark.kernel, pytest.mark.program("ip")]

SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
ADDRESSES = ("10.98.0.1/24", "10.98.0.2/24")
ADDRESSES6 = ("fd98::1/64", "fd98::2/64")


@dataclass
class Cable:
    """Two namespaces and the link between them."""

    spaces: tuple[NetNamespace, NetNamespace]
    taps: tuple[int, int]
    link: EmulatedLink | None = None

    def connect(self, parameters: ChannelParameters) -> EmulatedLink:
        self.link = EmulatedLink.start("test", *self.taps, parameters, parameters, seed=3)
        for tap in self.taps:
            os.close(tap)
        return self.link

    def sockets(self, kind: int, family: int = socket.AF_INET) -> tuple[socket.socket, ...]:
        found = []
        for space in self.spaces:
            with space.entered():
                found.append(socket.socket(family, kind))
        return tuple(found)


@pytest.fixture
def cable() -> Iterator[Cable]:
    spaces = (NetNamespace.create("one"), NetNamespace.create("other"))
    taps = []
    for number, space in enumerate(spaces):
        with space.entered():
            taps.append(open_tap("tap0"))
        index = rtnl.devices(space.routing)["tap0"].index
        for address in (ADDRESSES[number], ADDRESSES6[number]):
            space.routing.request(rtnl.add_address(index, ip_interface(address)))
        space.routing.request(rtnl.set_link(index, up=True))
    built = Cable(spaces, (taps[0], taps[1]))
    yield built
    if built.link is not None:
        built.link.stop()
    for tap in taps:
        with suppress(OSError):
            os.close(tap)
    for space in spaces:
        space.close()


def transfer(cable: Cable, family: int, payload: bytes) -> bytes:
    """Send over one TCP connection; returns what arrives."""
    sender, listener = cable.sockets(socket.SOCK_STREAM, family)
    host = "10.98.0.2" if family == socket.AF_INET else "fd98::2"
    with sender, listener:
        listener.bind((host, 7))
        listener.listen()

        def send() -> None:
            sender.connect((host, 7))
            sender.sendall(payload)
            sender.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        connection, _ = listener.accept()
        received = bytearray()
        with connection:
            while data := connection.recv(1 << 20):
                received += data
        thread.join()
    return bytes(received)


def round_trip_ms(cable: Cable) -> float:
    """The shortest of ten echoes."""
    near, far = cable.sockets(socket.SOCK_DGRAM)
    with near, far:
        near.bind(("10.98.0.1", 9))
        far.bind(("10.98.0.2", 9))
        best = float("inf")
        for _ in range(10):
            start = time.perf_counter()
            near.sendto(b"ping", ("10.98.0.2", 9))
            assert select.select([far], [], [], 5)[0]
            far.sendto(*far.recvfrom(100))
            assert select.select([near], [], [], 5)[0]
            near.recv(100)
            best = min(best, time.perf_counter() - start)
    return best * 1000


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize(
    "parameters",
    [
        ChannelParameters(rate_bps=200_000_000, delay_ns=2 * MS, queue_bytes=60_000, loss=0.003),
        ChannelParameters(delay_ns=2 * MS, jitter_ns=MS, jitter_reorders=True, loss=0.003),
    ],
)
def test_trains_that_lose_packets_arrive_with_valid_headers_and_intact(
    cable: Cable, family: int, parameters: ChannelParameters
) -> None:
    link = cable.connect(parameters)
    payload = os.urandom(4 << 20)
    received = transfer(cable, family, payload)
    assert hashlib.sha256(received).digest() == hashlib.sha256(payload).digest()
    reading = link.read()
    counters = reading.forward.counters
    assert counters["loss_packets"] > 0
    assert counters["offered_packets"] > len(payload) / 1448
    for side, space in zip(("forward", "backward"), cable.spaces, strict=True):
        with space.entered():
            lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        errors = dict(zip(names, values, strict=True))["InCsumErrors"]
        assert errors == "0", side


def test_delay_is_added_changed_and_taken_away_in_place(cable: Cable) -> None:
    link = cable.connect(ChannelParameters())
    assert round_trip_ms(cable) < 5.0
    slow = ChannelParameters(delay_ns=20 * MS)
    link.configure(slow, slow)
    assert 40.0 <= round_trip_ms(cable) < 50.0
    link.configure(backward=ChannelParameters())
    assert 20.0 <= round_trip_ms(cable) < 30.0
    assert link.forward == slow
    link.configure(forward=ChannelParameters())
    assert round_trip_ms(cable) < 5.0


def test_a_cut_cable_loses_frames_and_counts_them(cable: Cable) -> None:
    link = cable.connect(ChannelParameters(rate_bps=1_000_000_000))
    assert round_trip_ms(cable) < 5.0
    link.set_up(False)
    near, far = cable.sockets(socket.SOCK_DGRAM)
    with near, far:
        far.bind(("10.98.0.2", 9))
        near.sendto(b"lost", ("10.98.0.2", 9))
        deadline = time.monotonic() + 5
        while not link.read().forward.counters["down_packets"]:
            assert time.monotonic() < deadline
        link.set_up(True)
        near.sendto(b"found", ("10.98.0.2", 9))
        assert select.select([far], [], [], 5)[0]
        assert far.recv(100) == b"found"


def test_readings_tell_cpu_time_and_lateness(cable: Cable) -> None:
    link = cable.connect(ChannelParameters(delay_ns=MS))
    round_trip_ms(cable)
    reading = link.read()
    assert reading.cpu_ns > 0
    assert link.exact_arrivals
    assert reading.forward.lateness.pieces >= 10
    assert reading.forward.refused_packets == 0
    assert 0 < reading.forward.lateness.quantile_ns(0.5) <= reading.forward.lateness.max_ns


def test_frames_wait_for_an_emulator_that_does_not_run(cable: Cable) -> None:
    link = cable.connect(ChannelParameters())
    round_trip_ms(cable)
    near, far = cable.sockets(socket.SOCK_DGRAM)
    with near, far:
        far.bind(("10.98.0.2", 11))
        far.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        near.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 16 << 20)
        before = link.read().forward.counters["offered_packets"]
        os.kill(link.pid, signal.SIGSTOP)
        for _ in range(5000):
            near.sendto(bytes(100), ("10.98.0.2", 11))
        os.kill(link.pid, signal.SIGCONT)
        for _ in range(5000):
            assert select.select([far], [], [], 5)[0]
            far.recv(200)
    reading = link.read()
    # all of them, and perhaps a neighbour or multicast report of the host's own
    assert reading.forward.counters["offered_packets"] >= before + 5000
    assert reading.forward.lateness.max_ns > 0


def test_stop_ends_the_process_and_later_questions_fail(cable: Cable) -> None:
    link = cable.connect(ChannelParameters())
    assert link.is_alive()
    link.stop()
    link.stop()
    assert not link.is_alive()
    with pytest.raises(EmulatorError):
        link.read()


def test_a_killed_emulator_is_noticed(cable: Cable) -> None:
    link = cable.connect(ChannelParameters())
    link.read()
    os.kill(link.pid, signal.SIGKILL)
    with pytest.raises(EmulatorError, match="test"):
        link.read()
    link.stop()
    assert not link.is_alive()


_ORPHAN = """
import os, sys
from mptcplab.linux.emulator import EmulatedLink, open_tap
from mptcplab.linux.kernel.namespaces import NetNamespace
from mptcplab.network.parameters import ChannelParameters
space = NetNamespace.create("orphan")
with space.entered():
    taps = open_tap("tap0"), open_tap("tap1")
link = EmulatedLink.start("orphan", *taps, ChannelParameters(), ChannelParameters())
link.read()
print(link.pid, flush=True)
sys.stdin.read()
"""


def test_an_emulator_whose_devices_are_gone_rests(cable: Cable) -> None:
    link = cable.connect(ChannelParameters())
    link.read()
    for space in cable.spaces:
        with space.entered():
            subprocess.run(["ip", "link", "delete", "tap0"], check=True)
    before = link.read().cpu_ns
    select.select([], [], [], 0.1)
    assert link.read().cpu_ns - before < 50 * MS


def test_the_emulator_dies_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _ORPHAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        emulator = os.pidfd_open(pid)
        try:
            parent.kill()
            assert select.select([emulator], [], [], 5)[0]
        finally:
            os.close(emulator)


@pytest.mark.slow
def test_links_are_what_they_were_asked_to_be() -> None:
    """The fidelity benchmark, in small; delays by their median."""
    bench = Path(__file__).parents[3] / "bench" / "link_fidelity.py"
    done = subprocess.run(
        [sys.executable, str(bench), "--quick", "--driver", "tap", "--attempts", "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_parameters_are_replaced_whole(cable: Cable) -> None:
    first = ChannelParameters(rate_bps=1_000_000_000, delay_ns=MS)
    link = cable.connect(first)
    changed = replace(first, rate_bps=100_000_000)
    before = time.monotonic_ns()
    at_ns = link.configure(forward=changed)
    assert before <= at_ns <= time.monotonic_ns()
    assert (link.forward, link.backward) == (changed, first)
