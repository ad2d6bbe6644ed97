"""Cores and what they share."""

from __future__ import annotations

from mptcplab.loop import VirtualLoop
from mptcplab.simulated.cpu import PROFILES, Core, Shared, Work


class Noted(Work):
    """Notes when it is finished."""

    __slots__ = ("_loop", "_times")

    def __init__(self, cost_ns: int, shared_ns: int, loop: VirtualLoop, times: list[int]) -> None:
        super().__init__(cost_ns, shared_ns)
        self._loop = loop
        self._times = times

    def finish(self) -> None:
        self._times.append(self._loop.now_ns)


def test_a_core_does_one_thing_after_another() -> None:
    loop, times = VirtualLoop(), list[int]()
    core = Core(loop, Shared())
    for cost_ns in (100, 50):
        core.add(Noted(cost_ns, 0, loop, times))
    loop.run()
    assert times == [100, 150]
    assert core.busy_ns == 150


def test_cores_work_side_by_side_but_for_what_they_share() -> None:
    loop, times = VirtualLoop(), list[int]()
    shared = Shared()
    for _ in range(2):
        Core(loop, shared).add(Noted(100, 80, loop, times))
    loop.run()
    assert times == [100, 160]


def test_the_report_s_figures_follow_from_the_profile() -> None:
    profile = PROFILES["2012"]
    assert profile is not None
    for mss, bps in ((1400, 4.667e9), (8900, 10.0e9)):
        cost_ns = profile.packet_ns + mss * profile.byte_ns
        assert abs(mss * 8e9 / cost_ns / bps - 1) < 0.01
    assert abs(8e9 / profile.shared_byte_ns / 12.754e9 - 1) < 0.01
