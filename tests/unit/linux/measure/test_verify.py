from __future__ import annotations

from ipaddress import ip_interface
from typing import Any

import pytest
from tests.times import MS

from mptcplab.linux.measure.verify import (
    BusyInterval,
    PathCheck,
    check_cpu,
    check_lateness,
    check_overshoot,
    check_rate,
    check_rtt,
    check_subflows,
    cpu_limited_links,
    extent,
    mean_bps,
    note_dropped_data,
)
from mptcplab.network.topology import Channel, Host, InterfaceEnd, Link, Path, Topology
from mptcplab.scenario.model import Expectation, Flow

A, B = InterfaceEnd("a", "eth0"), InterfaceEnd("b", "eth0")
PATH = Path(A, ip_interface("10.0.0.1/24"), B, ip_interface("10.0.0.2/24"), ("wan",))


def wan(delay_ns: int, jitter_ns: int = 0) -> Topology:
    channel = Channel(delay_ns=delay_ns, jitter_ns=jitter_ns)
    return Topology(
        "t", (Host("a", (), ()), Host("b", (), ())), (), (Link("wan", A, B, channel, channel),)
    )


@pytest.mark.parametrize(
    ("delay_ms", "jitter_ms", "found_ms", "right"),
    [
        (10, 0, [20.1, 25.0], True),
        (10, 0, [0.1, 0.2], False),  # delay asked for and not given
        (10, 0, [20.6], False),
        (10, 0, [19.4], False),
        (101, 0, [205.9], True),  # 2 % of 202 ms
        (101, 0, [206.5], False),
        (0, 0, [0.4], True),
        (0, 0, [0.6], False),
        (10, 5, [12.0, 24.0, 28.0], True),
        (10, 5, [31.0, 32.0, 33.0], False),
    ],
)
def test_round_trips(delay_ms: int, jitter_ms: int, found_ms: list[float], right: bool) -> None:
    check = PathCheck("main", PATH, tuple(round(each * MS) for each in found_ms))
    problem = check_rtt(wan(delay_ms * MS, jitter_ms * MS), check)
    assert (problem is None) == right
    if problem is not None and not jitter_ms:
        assert "wan" in problem
        assert "asked for" in problem


def test_a_path_that_does_not_answer_names_both_addresses() -> None:
    problem = check_rtt(wan(0), PathCheck("main", PATH, ()))
    assert problem is not None
    assert "10.0.0.2" in problem
    assert "10.0.0.1" in problem


def test_rate() -> None:
    assert check_rate("lan", "forward", 10**9, 0.98e9) is None
    assert "1 Gb/s" in str(check_rate("lan", "forward", 10**9, 0.96e9))
    assert check_rate("lan", "forward", 10**9, 1.04e9) is not None


def link_row(time_ms: int, bps: float, rate_bps: int = 10**9, link: str = "lan") -> dict[str, Any]:
    return {
        "time_ns": time_ms * MS,
        "interval_ns": 100 * MS,
        "link": link,
        "direction": "forward",
        "up": True,
        "rate_bps": rate_bps,
        "tx_bytes": round(bps / 80),
        "bps": bps,
    }


def test_overshoot_needs_a_whole_second() -> None:
    steady = [link_row(100 * k, 1.0e9) for k in range(1, 40)]
    assert check_overshoot(steady) == []
    burst = [*steady[:20], link_row(2100, 1.1e9), *steady[21:]]
    assert check_overshoot(burst) == []
    broken = [link_row(100 * k, 1.05e9) for k in range(1, 40)]
    assert "above its rate" in check_overshoot(broken)[0]


def test_a_count_that_was_taken_late_is_no_overshoot() -> None:
    late = [{**link_row(1000 * k, 1.0e9), "interval_ns": 1000 * MS} for k in range(1, 5)]
    late[2]["tx_bytes"] = 127_500_000  # in 1.02 s
    assert check_overshoot(late) == []


def test_a_change_of_rate_is_no_overshoot() -> None:
    rows = [link_row(100 * k, 1.0e9) for k in range(1, 21)]
    rows.append(link_row(2100, 0.9e9, 10**8))  # the interval in which the rate fell
    rows += [link_row(100 * k, 1.0e8, 10**8) for k in range(22, 60)]
    assert check_overshoot(rows) == []


def subflow_row(link: str | None, acked: int, received: int = 0) -> dict[str, Any]:
    return {"flow": "main", "link": link, "bytes_acked": acked, "bytes_received": received}


def test_subflows() -> None:
    flow = Flow("main", "a", "b")
    rows = [subflow_row("lan1", 10**6), subflow_row("lan2", 0)]
    assert check_subflows(flow, ["lan1"], rows) == []
    reasons = check_subflows(flow, ["lan1", "lan2", "lan3"], rows)
    assert reasons == [
        "flow main: its subflow on lan2 carried no data",
        "flow main: no subflow on lan3, where one should be",
    ]
    stray = check_subflows(flow, ["lan1"], [*rows, subflow_row(None, 5)])
    assert stray == ["flow main: a subflow is on an address pair that is no path"]


def busy(*fractions: float) -> list[BusyInterval]:
    return [
        BusyInterval(100 * k * MS, 100 * (k + 1) * MS, fraction)
        for k, fraction in enumerate(fractions)
    ]


def test_links_that_the_cpu_could_not_fill_are_found() -> None:
    rows = [
        link_row(100, 5e9, 10**10, "fast"),
        link_row(200, 5e9, 10**10, "fast"),
        link_row(100, 0.99e9, 10**9, "slow"),
    ]
    assert cpu_limited_links(busy(1.0, 0.5), rows) == {"fast": 1}


def test_an_expectation_missed_on_a_full_cpu_is_a_reason() -> None:
    expectation = Expectation(10**10, stage=1)
    stages = [(0, 200 * MS), (200 * MS, 400 * MS)]
    found = {expectation: 5e9}
    reasons = check_cpu(busy(0.1, 0.1, 1.0, 1.0), [expectation], stages, found)
    assert "stage 1" in reasons[0]
    assert check_cpu(busy(1.0, 1.0, 0.1, 0.1), [expectation], stages, found) == []
    met = {expectation: 9.8e9}
    assert check_cpu(busy(1.0, 1.0, 1.0, 1.0), [expectation], stages, met) == []


def test_settling_is_left_out_of_a_stage() -> None:
    stages = [(0, 100 * MS), (100 * MS, 300 * MS)]
    assert extent(Expectation(1, stage=1, settle_ns=50 * MS), stages) == (150 * MS, 300 * MS)
    assert extent(Expectation(1), stages) == (0, 300 * MS)
    assert extent(Expectation(1, stage=5), stages) == (0, 0)


def test_the_mean_takes_whole_intervals_and_sums_what_is_parallel() -> None:
    rows = [link_row(100 * k, 1e9, link=name) for k in (1, 2, 3) for name in ("lan1", "lan2")]
    assert mean_bps(rows, "tx_bytes", 100 * MS, 300 * MS) == 2e9
    assert mean_bps(rows, "tx_bytes", 150 * MS, 190 * MS) is None


def test_a_late_emulator() -> None:
    link = wan(101 * MS).link("wan")
    assert check_lateness(link, 4 * MS) is None
    assert "too busy" in str(check_lateness(link, 5 * MS))
    assert check_lateness(wan(0).link("wan"), 2 * MS) is not None


def test_data_dropped_beyond_the_window_is_told() -> None:
    assert note_dropped_data("bob", {"TcpRetransSegs": (0, 9)}) is None
    note = note_dropped_data("bob", {"MPTcpExtNoDSSInWindow": (1, 12)})
    assert note is not None
    assert note.startswith("bob dropped data 11 times")
