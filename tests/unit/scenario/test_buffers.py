"""Equations 4, 5 and 6 with the report's own numbers."""

import pytest

from mptcplab.scenario import load
from mptcplab.scenario.buffers import buffer_needs, mptcp_buffer_bytes, tcp_buffer_bytes


def test_the_report_s_example_of_equation_5() -> None:
    assert mptcp_buffer_bytes(36_000_000, [10**9, 10**9]) == 18_000_000


def test_the_report_s_example_of_equation_6() -> None:
    assert mptcp_buffer_bytes(33_000_000, [10**9, 300_000_000]) == 10_725_000


def test_equation_4() -> None:
    assert tcp_buffer_bytes(33_300_000, 10**9) == 4_162_500


@pytest.mark.parametrize(
    ("name", "overrides", "equation", "needed", "short"),
    [
        ("F", (), 5, 10_822_500, True),
        ("F", ("flows.main.buffer=115MB",), 5, 10_822_500, False),
        ("F", ("flows.main.protocol=tcp",), 4, 4_162_500, False),
        ("F", ("hosts.bliksem.nics.eth8=100Mb/s",), 5, 3_330_000, False),
        ("G", (), 5, 570_650_000, True),
        ("H", (), 5, 16_650_000, True),
    ],
)
def test_experiments(
    name: str, overrides: tuple[str, ...], equation: int, needed: int, short: bool
) -> None:
    (need,) = buffer_needs(load(name, overrides=overrides))
    assert (need.equation, need.needed_bytes, need.short) == (equation, needed, short)


def test_links_without_delay_need_nothing() -> None:
    assert buffer_needs(load("A")) == ()
