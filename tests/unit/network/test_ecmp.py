"""The hash that chooses among equal next hops: SipHash's own vectors, and Linux's choices."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mptcplab.network.ecmp import chosen, flow_hash, router_seed, siphash


def test_siphash_gives_the_value_that_its_paper_works_out() -> None:
    # Aumasson and Bernstein, "SipHash: a fast short-input PRF", appendix A
    message = bytes(range(15))
    assert siphash(0x0706050403020100, 0x0F0E0D0C0B0A0908, message) == 0xA129CA6149BE45E5


@pytest.mark.parametrize(("one", "other"), [("10.0.1.1", "10.200.3.9"), ("fd09::1", "fd77::abcd")])
@pytest.mark.parametrize("ports", [None, (41000, 5001)])
def test_both_directions_of_a_flow_have_one_hash(
    one: str, other: str, ports: tuple[int, int] | None
) -> None:
    a, b = ip_address(one), ip_address(other)
    there = flow_hash(7, a, b, ports)
    assert there == flow_hash(7, b, a, None if ports is None else ports[::-1])
    assert there != flow_hash(8, a, b, ports)
    assert 0 <= there < 1 << 31


def test_ports_count_only_where_they_are_given() -> None:
    a, b = ip_address("10.0.1.1"), ip_address("10.0.2.2")
    assert flow_hash(1, a, b, (1, 2)) != flow_hash(1, a, b, (1, 3))


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_each_next_hop_has_an_equal_range(count: int) -> None:
    hops = [chosen(value, count) for value in range(0, 1 << 31, (1 << 31) // 4000)]
    for hop in range(count):
        assert hops.count(hop) == pytest.approx(len(hops) / count, rel=0.01)
    assert chosen((1 << 31) - 1, count) == count - 1


def test_a_router_has_a_seed_of_its_own_in_each_run() -> None:
    seeds = {router_seed(seed, name) for seed in range(20) for name in ("r1", "r2")}
    assert len(seeds) == 40
    assert all(0 < seed < 1 << 32 for seed in seeds)
