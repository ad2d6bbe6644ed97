"""The loop on the monotonic clock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from mptcplab.loop import CallbackTimer, RealTimeLoop


@pytest.fixture
def loop() -> Iterator[RealTimeLoop]:
    with closing(RealTimeLoop()) as loop:
        yield loop


def test_a_timer_is_never_early(loop: RealTimeLoop) -> None:
    start_ns = loop.now_ns
    seen: list[int] = []
    for delay_ns in (300_000, 200_000, 2_500_000):
        loop.call_at(start_ns + delay_ns, lambda: seen.append(loop.now_ns - start_ns))
    loop.run()
    assert len(seen) == 3
    assert all(
        at_ns >= due_ns for at_ns, due_ns in zip(seen, (200_000, 300_000, 2_500_000), strict=True)
    )


def test_a_readable_descriptor_calls_back(loop: RealTimeLoop) -> None:
    reader, writer = os.pipe()
    try:
        seen: list[bytes] = []

        def read() -> None:
            seen.append(os.read(reader, 10))
            loop.remove_reader(reader)

        loop.add_reader(reader, read)

        def write() -> None:
            os.write(writer, b"hello")

        loop.call_at(loop.now_ns + 100_000, write)
        loop.run()
        assert seen == [b"hello"]
    finally:
        os.close(reader)
        os.close(writer)


def test_run_until_returns_then_even_while_a_descriptor_is_watched(loop: RealTimeLoop) -> None:
    reader, writer = os.pipe()
    try:
        loop.add_reader(reader, loop.stop)
        until_ns = loop.now_ns + 1_000_000
        loop.run(until_ns)
        assert loop.now_ns >= until_ns
    finally:
        os.close(reader)
        os.close(writer)


def test_a_timer_moved_earlier_wakes_at_the_earlier_time(loop: RealTimeLoop) -> None:
    start_ns = loop.now_ns
    timer = CallbackTimer(loop, loop.stop)
    timer.set(start_ns + 10**10)
    loop.call_at(start_ns + 100_000, lambda: timer.set(start_ns + 200_000))
    loop.run(start_ns + 5 * 10**9)
    assert loop.now_ns < start_ns + 5 * 10**9
