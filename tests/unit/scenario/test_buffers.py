"""Equations 4, 5 and 6 with the report's own numbers."""

from pathlib import Path

import pytest

from mptcplab.scenario import load
from mptcplab.scenario.buffers import (
    BufferNeed,
    buffer_needs,
    mptcp_buffer_bytes,
    tcp_buffer_bytes,
)


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
    assert (need.equation, need.equation_bytes, need.short) == (equation, needed, short)


def scenario(tmp_path: Path, link: str, *overrides: str) -> BufferNeed:
    """Return the need of the one flow over one link."""
    text = (
        'duration = "5s"\n[hosts.a.nics]\neth0 = "10Gb/s"\n[hosts.b]\n'
        f'[links.l]\nbetween = ["a:eth0", "b"]\n{link}\n'
        '[flows.f]\nfrom = "a"\nto = "b"\nprotocol = "tcp"\n'
    )
    return need_of(tmp_path, text, overrides)


def need_of(tmp_path: Path, text: str, overrides: tuple[str, ...]) -> BufferNeed:
    """Return the need of the one flow of a scenario."""
    file = tmp_path / "scenario.toml"
    file.write_text(text)
    (need,) = buffer_needs(load(str(file), overrides=overrides))
    return need


LINK = 'rate = "100Mb/s"\nrtt = "40ms"\nqueue = "1BDP"'


def test_autotuned_buffers_are_held_against_their_ceiling(tmp_path: Path) -> None:
    need = scenario(tmp_path, LINK, "links.l.rate=1Gb/s", "links.l.rtt=100ms")
    assert need.autotuned
    assert need.given_bytes == 4 << 20
    assert need.short
    assert need.bounds
    raised = scenario(
        tmp_path,
        LINK,
        "links.l.rate=1Gb/s",
        "links.l.rtt=100ms",
        "tunables.send_buffer_max=60MB",
        "tunables.receive_buffer_max=50MB",
    )
    assert raised.given_bytes == 50_000_000
    assert not raised.short


@pytest.mark.parametrize(
    ("queue", "full_rtt_ms"), [("1BDP", 80), ("25ms", 65), ("100 packets", 40 + 12.112)]
)
def test_the_slowest_link_s_queue_belongs_to_the_round_trip(
    tmp_path: Path, queue: str, full_rtt_ms: float
) -> None:
    need = scenario(tmp_path, LINK, f'links.l.queue="{queue}"')
    assert need.rtt_ns == 40_000_000
    assert need.full_rtt_ns == full_rtt_ms * 1e6
    assert need.equation_bytes == 500_000
    assert need.needed_bytes == need.full_rtt_ns // 80


SHARED = """
duration = "5s"
hosts = { a = {}, b = { nics = { eth0 = "10Gb/s" } } }
switches = { left = {}, right = {} }
[links.neck]
between = ["left", "right"]
rate = "10Mb/s"
rtt = "40ms"
queue = "1 BDP"
[links.a1]
between = ["a", "left"]
rate = "8Mb/s"
[links.a2]
between = ["a", "left"]
rate = "100Mb/s"
[links.b]
between = ["b:eth0", "right"]
[flows.f]
from = "a"
to = "b"
"""


@pytest.mark.parametrize(
    ("overrides", "rate_bps"),
    [
        ((), 10_000_000),
        (("links.neck.rate=200Mb/s",), 108_000_000),
        (("links.neck.rate=200Mb/s", "links.b.rate=50Mb/s"), 50_000_000),
        (("hosts.b.nics.eth0=9Mb/s",), 9_000_000),
        (("links.neck.backward.rate=1Mb/s",), 10_000_000),
        (("links.neck.backward.rate=1Mb/s", "flows.f.from=b", "flows.f.to=a"), 1_000_000),
    ],
)
def test_what_paths_have_in_common_counts_once(
    tmp_path: Path, overrides: tuple[str, ...], rate_bps: int
) -> None:
    need = need_of(tmp_path, SHARED, overrides)
    assert (need.equation, need.rate_bps) == (5, rate_bps)
    assert need.equation_bytes == 2 * 40 * rate_bps // 8000


def test_a_buffer_may_be_short_only_while_queues_are_full(tmp_path: Path) -> None:
    need = scenario(tmp_path, LINK, "flows.f.buffer=700kB")
    assert (need.short, need.bounds, need.autotuned) == (True, False, False)


def test_a_queue_that_never_fills_adds_nothing(tmp_path: Path) -> None:
    need = scenario(tmp_path, LINK, "hosts.a.nics.eth0=10Mb/s")
    assert need.full_rtt_ns == need.rtt_ns


def test_links_without_delay_need_nothing() -> None:
    assert buffer_needs(load("A")) == ()
