"""Timers on a loop: when they expire, and in which order."""

from __future__ import annotations

import pytest

from mptcplab.loop import NEVER, CallbackTimer, VirtualLoop


def test_timers_of_one_instant_expire_in_the_order_in_which_they_were_set() -> None:
    loop = VirtualLoop()
    seen: list[str] = []
    late = CallbackTimer(loop, lambda: seen.append("moved"))
    late.set(5)
    for name in "abc":
        loop.call_at(10, lambda name=name: seen.append(name))  # type: ignore[misc]
    late.set(10)  # moved behind the others, although its heap entry is in front
    loop.call_at(10, lambda: seen.append("d"))
    loop.run()
    assert seen == ["a", "b", "c", "moved", "d"]
    assert loop.now_ns == 10


def test_a_timer_that_moves_expires_once_at_its_last_deadline() -> None:
    loop = VirtualLoop()
    seen: list[int] = []
    timer = CallbackTimer(loop, lambda: seen.append(loop.now_ns))
    for deadline_ns in (50, 100, 20, 30, 70):
        timer.set(deadline_ns)
    loop.run()
    assert seen == [70]


def test_a_cancelled_timer_does_not_expire_and_may_be_set_again() -> None:
    loop = VirtualLoop()
    seen: list[int] = []
    timer = CallbackTimer(loop, lambda: seen.append(loop.now_ns))
    timer.set(10)
    timer.cancel()
    assert not timer.is_set
    assert loop.next_deadline_ns() == NEVER
    timer.set(30)
    timer.cancel()
    timer.set(20)
    assert loop.next_deadline_ns() == 20
    loop.run()
    assert seen == [20]


def test_a_timer_may_be_set_from_its_own_expiry() -> None:
    loop = VirtualLoop()
    seen: list[int] = []

    def tick() -> None:
        seen.append(loop.now_ns)
        if loop.now_ns < 50:
            timer.set(loop.now_ns + 10)

    timer = CallbackTimer(loop, tick)
    timer.set(10)
    loop.run()
    assert seen == [10, 20, 30, 40, 50]
    assert loop.events == 5


def test_a_deadline_in_the_past_expires_at_the_present_in_turn() -> None:
    loop = VirtualLoop(start_ns=100)
    seen: list[tuple[str, int]] = []
    loop.call_at(100, lambda: seen.append(("first", loop.now_ns)))
    loop.call_at(7, lambda: seen.append(("second", loop.now_ns)))
    loop.run()
    assert seen == [("first", 100), ("second", 100)]


@pytest.mark.parametrize("until_ns", [15, 20])
def test_run_until_leaves_the_clock_there_and_later_timers_pending(until_ns: int) -> None:
    loop = VirtualLoop()
    seen: list[int] = []
    for time_ns in (10, 20, 30):
        loop.call_at(time_ns, lambda: seen.append(loop.now_ns))
    loop.run(until_ns)
    assert loop.now_ns == until_ns
    assert seen == [time_ns for time_ns in (10, 20) if time_ns <= until_ns]
    loop.run()
    assert seen == [10, 20, 30]


def test_stop_returns_after_the_event_at_hand() -> None:
    loop = VirtualLoop()
    seen: list[int] = []
    loop.call_at(1, loop.stop)
    loop.call_at(2, lambda: seen.append(2))
    loop.run()
    assert (loop.now_ns, seen) == (1, [])
