"""The fixed points of bench/papers.py, against the equations of the OLIA paper's scenarios.

With z = sqrt(p1 / p2), the relative loss of the two links, and a capacity of 1 for each user:
z + N z^2 / (1 + 2 z^2) = 1 in scenario A and z + N z^2 + z^3 = 1 in C, where N users of Multipath
TCP come to one of TCP. The TCP users get z in A, and z (1 + z^2) in C.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from bench.papers import OLIA, Case, coupled, settled_mbps, uncoupled


def root(function: Callable[[float], float]) -> float:
    """Return where a growing function of 0 to 1 is 1."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 1 else (low, middle)
    return low


def case(title: str) -> Case:
    (chosen,) = (each for each in OLIA if each.title == title)
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize("more", [1, 3])
def test_scenario_a(more: int) -> None:
    chosen = case(f"A, {10 * more} and 10 users")
    rates, _ = settled_mbps(chosen.users, chosen.links_mbps, coupled)
    z = root(lambda z: z + more * z**2 / (1 + 2 * z**2))
    assert rates["red"] == pytest.approx(z, rel=0.005)
    assert rates["blue"] == pytest.approx(1, rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("more", [1, 3])
def test_scenario_c(more: int) -> None:
    chosen = case(f"C, {10 * more} and 10 users")
    rates, _ = settled_mbps(chosen.users, chosen.links_mbps, coupled)
    z = root(lambda z: z + more * z**2 + z**3)
    assert rates["single"] == pytest.approx(z * (1 + z**2), rel=0.005)
    assert rates["multi"] == pytest.approx(1 + z**2, rel=0.005)


def test_uncoupled_users_of_two_paths_have_what_two_tcps_have() -> None:
    assert uncoupled([0.5, 2.0]) == [1.0, 2.0]
    assert coupled([2.0, 2.0]) == [1.0, 1.0]
