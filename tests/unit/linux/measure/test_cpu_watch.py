"""Which processes had no CPU time left, by what they got and where they may run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mptcplab.linux.measure.cpu_watch import Service, is_starved

IDLE = Service(wanted=0.31, waited=0.01, busiest=0.31, crowding=0.5, throttled=0.0)


@pytest.mark.parametrize(
    "services",
    [
        [replace(IDLE, wanted=1.0, busiest=0.95)],
        # three that share the one CPU that they may use, on a machine that is half idle
        [replace(IDLE, crowding=1.0)] * 3,
        [IDLE, replace(IDLE, throttled=0.3)],
        # two that sleep most of the time, and wait for a busy CPU whenever they wake
        [replace(IDLE, wanted=0.2, waited=0.08, crowding=1.0)] * 2,
    ],
)
def test_starved(services: list[Service]) -> None:
    assert is_starved(services)


@pytest.mark.parametrize(
    "services",
    [
        [],
        [IDLE] * 10,
        # a full CPU that one of them is on, and which it hardly wants
        [replace(IDLE, crowding=1.0), IDLE, IDLE],
        [replace(IDLE, wanted=1.2, busiest=0.6)],
        [replace(IDLE, throttled=0.05)],
        [replace(IDLE, waited=0.2)],
    ],
)
def test_not_starved(services: list[Service]) -> None:
    assert not is_starved(services)
