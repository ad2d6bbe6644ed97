"""Sender and receiver as processes on loopback, with something in between that may do harm."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mptcplab.linux.traffic.pattern import BLOCK_BYTES
from mptcplab.linux.traffic.sockets import SocketPlan
from mptcplab.linux.traffic.worker import BYTES_SLOT, Pace, Progress

Harm = Callable[[bytes, int], bytes]
"""Given a piece of the stream and its position, returns what is passed on."""

SIZE = 10 * BLOCK_BYTES + 1234


class Worker:
    def __init__(self, kind: str, folder: Path, plan: SocketPlan, **order: Any) -> None:
        self.progress = Progress.create(folder / kind)
        order |= {"socket": plan.to_json(), "progress": str(folder / kind), "stream": 7}
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"mptcplab.linux.traffic.{kind}", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def answer(self, event: str) -> dict[str, Any]:
        """Return the next answer of a kind; whatever comes before it is passed over."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"no answer {event}")

    def order(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.progress.close()


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    running: list[Worker] = []
    yield running
    for worker in running:
        worker.close()


def free_port() -> int:
    """Return a free port that no socket gets unasked: those come from 32768 on."""
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def meddle(listener: socket.socket, port: int, harm: Harm) -> None:
    """Pass one connection on, both ways, doing harm to the way there."""
    here, _ = listener.accept()
    listener.close()
    there = socket.create_connection(("127.0.0.1", port))

    def back() -> None:
        with contextlib.suppress(OSError):  # the sender may be gone already
            while data := there.recv(1 << 16):
                here.sendall(data)
            here.shutdown(socket.SHUT_WR)

    returning = threading.Thread(target=back)
    returning.start()
    position = 0
    while data := here.recv(1 << 14):
        there.sendall(harm(data, position))
        position += len(data)
    there.shutdown(socket.SHUT_WR)
    returning.join()
    here.close()
    there.close()


def transfer(
    folder: Path,
    workers: list[Worker],
    harm: Harm,
    protocol: str = "tcp",
    size_bytes: int | None = SIZE,
) -> tuple[Worker, Worker]:
    """Start a receiver, the meddler and a sender that goes; return sender and receiver."""
    port, listener = free_port(), socket.create_server(("127.0.0.1", 0))
    receiver = Worker(
        "receiver", folder, SocketPlan("listen", "tcp", socket.AF_INET, port), verify=True
    )
    workers.append(receiver)
    receiver.answer("ready")
    thread = threading.Thread(target=meddle, args=(listener, port, harm), daemon=True)
    thread.start()
    plan = SocketPlan(
        "connect",
        protocol,
        socket.AF_INET,
        listener.getsockname()[1],
        local="127.0.0.1",
        remote="127.0.0.1",
    )
    sender = Worker("sender", folder, plan, write_bytes=5000, size_bytes=size_bytes)
    workers.append(sender)
    sender.answer("ready")
    sender.order("go")
    return sender, receiver


def flip(data: bytes, position: int) -> bytes:
    at = 3 * BLOCK_BYTES + 100 - position
    if 0 <= at < len(data):
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    return data


def lose(data: bytes, position: int) -> bytes:
    at = 3 * BLOCK_BYTES + 100 - position
    return data[:at] + data[at + 1 :] if 0 <= at < len(data) else data


def double(data: bytes, position: int) -> bytes:
    at = 3 * BLOCK_BYTES + 100 - position
    return data[:at] + data[at:] + data[at:] if 0 <= at < len(data) else data


def nothing(data: bytes, position: int) -> bytes:
    return data


def test_what_arrives_whole_is_confirmed_to_the_sender(
    tmp_path: Path, workers: list[Worker]
) -> None:
    sender, receiver = transfer(tmp_path, workers, nothing)
    done = receiver.answer("done")
    assert (done["bytes"], done["wrong"]) == (SIZE, None)
    assert sender.answer("done")["confirmed_bytes"] == SIZE
    assert receiver.progress.slots[BYTES_SLOT] == SIZE
    for worker in (sender, receiver):  # both keep their sockets until they are told to close
        assert worker.process.poll() is None
        worker.order("close")
        assert worker.process.wait(timeout=20) == 0


@pytest.mark.parametrize("harm", [flip, lose, double])
def test_harm_is_noticed_and_located(tmp_path: Path, workers: list[Worker], harm: Harm) -> None:
    _, receiver = transfer(tmp_path, workers, harm)
    text = receiver.answer("corrupt")["text"]
    assert "block 3" in text or "block 4" in text
    done = receiver.answer("done")
    assert done["wrong"] == text
    assert (done["bytes"] == SIZE) == (harm is flip)


@pytest.mark.slow
def test_a_stop_ends_a_sender_that_waits_for_room(tmp_path: Path, workers: list[Worker]) -> None:
    stuck = threading.Event()
    moved = threading.Event()

    def block(data: bytes, position: int) -> bytes:
        if position > BLOCK_BYTES:
            moved.set()
            stuck.wait(20)
        return data

    sender, receiver = transfer(tmp_path, workers, block, size_bytes=None)
    assert moved.wait(20)
    sender.order("stop")
    sent = sender.answer("sent")["bytes"]
    stuck.set()
    done = receiver.answer("done")
    assert (done["bytes"], done["wrong"]) == (sent, None)


@pytest.mark.kernel
def test_a_fallback_to_tcp_is_noticed(tmp_path: Path, workers: list[Worker]) -> None:
    sender, _ = transfer(tmp_path, workers, nothing, protocol="mptcp")
    assert sender.answer("connected")["protocol"] == "fallback"
    assert sender.answer("done")["protocol"] == "fallback"


def test_a_worker_whose_testbed_dies_ends_too(tmp_path: Path, workers: list[Worker]) -> None:
    plan = SocketPlan("listen", "tcp", socket.AF_INET, free_port())
    receiver = Worker("receiver", tmp_path, plan, verify=True)
    workers.append(receiver)
    receiver.answer("ready")
    assert receiver.process.stdin is not None
    receiver.process.stdin.close()
    assert receiver.process.wait(timeout=10) == 2


def test_a_congestion_control_that_is_not_there_is_named(
    tmp_path: Path, workers: list[Worker]
) -> None:
    plan = SocketPlan("listen", "tcp", socket.AF_INET, free_port(), congestion="nonesuch")
    receiver = Worker("receiver", tmp_path, plan, verify=True)
    workers.append(receiver)
    assert 'congestion control "nonesuch" refused' in receiver.answer("failed")["text"]


def test_a_buffer_that_is_not_granted_is_named(tmp_path: Path, workers: list[Worker]) -> None:
    plan = SocketPlan("listen", "tcp", socket.AF_INET, free_port(), receive_buffer_bytes=1001)
    receiver = Worker("receiver", tmp_path, plan, verify=True)
    workers.append(receiver)
    assert "a receive buffer of 1001 bytes was asked for" in receiver.answer("failed")["text"]


def test_of_a_buffer_of_odd_size_the_kernel_grants_the_even_one_below(
    tmp_path: Path, workers: list[Worker]
) -> None:
    plan = SocketPlan("listen", "tcp", socket.AF_INET, free_port(), receive_buffer_bytes=32_357)
    receiver = Worker("receiver", tmp_path, plan, verify=True)
    workers.append(receiver)
    receiver.answer("ready")


def test_an_application_with_a_rate_pauses_until_it_is_told_to_stop() -> None:
    stop = threading.Event()
    pace = Pace(8_000_000, stop)  # a megabyte a second
    begun = time.monotonic()
    for _ in range(5):
        pace.wait(10_000)
    assert time.monotonic() - begun >= 0.04  # four pauses: the first chunk was there already
    stop.set()
    begun = time.monotonic()
    pace.wait(10_000_000)
    assert time.monotonic() - begun < 1
