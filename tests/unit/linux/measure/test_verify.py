from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import pytest
from tests.times import MS

from mptcplab.linux.measure.verify import (
    BusyInterval,
    PathCheck,
    check_cpu,
    check_emulator,
    check_emulator_cpu,
    check_emulators_cpu,
    check_lateness,
    check_overshoot,
    check_rate,
    check_rtt,
    check_starved,
    check_subflows,
    extent,
    mean_bps,
    note_dropped_data,
    sending_ns,
    unfilled_intervals,
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


@pytest.mark.parametrize(("found_ms", "right"), [(13.6, True), (10.0, False), (15.0, False)])
def test_a_slow_link_s_round_trip_includes_the_sending_of_the_echo(
    found_ms: float, right: bool
) -> None:
    slow = replace(wan(5 * MS).links[0], forward=Channel(256_000, 5 * MS))
    slow = replace(slow, backward=slow.forward)
    topology = replace(wan(5 * MS), links=(slow,))
    sent_ns = sending_ns(topology, PATH.links, 58)
    assert sent_ns == 2 * 58 * 8 * 10**9 // 256_000
    check = PathCheck("main", PATH, (round(found_ms * MS),), sent_ns)
    assert (check_rtt(topology, check) is None) == right


@pytest.mark.parametrize(("found_ms", "right"), [(10.1, True), (13.6, True), (15.0, False)])
def test_a_burst_may_spare_an_echo_the_wait(found_ms: float, right: bool) -> None:
    sent_ns = 2 * 58 * 8 * 10**9 // 256_000
    check = PathCheck("main", PATH, (round(found_ms * MS),), burst_ns=sent_ns)
    assert (check_rtt(wan(5 * MS), check) is None) == right


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


def subflow_row(
    link: str | None, acked: int, subflow: int = 0, state: str = "ESTABLISHED"
) -> dict[str, Any]:
    return {
        "flow": "main",
        "connection": 0,
        "subflow": subflow,
        "state": state,
        "link": link,
        "bytes_acked": acked,
        "bytes_received": 0,
    }


def test_subflows() -> None:
    flow = Flow("main", "a", "b")
    rows = [subflow_row("lan1", 10**6), subflow_row("lan2", 0)]
    assert check_subflows(flow, [0], {"lan1": 1}, rows) == []
    reasons = check_subflows(flow, [0], {"lan1": 1, "lan2": 1, "lan3": 1}, rows)
    assert reasons == [
        "flow main: its subflow on lan2 carried no data",
        "flow main: no subflow on lan3, where one should be",
    ]
    stray = check_subflows(flow, [0], {"lan1": 1}, [*rows, subflow_row(None, 5)])
    assert stray == ["flow main: a subflow is on an address pair that is no path"]


def test_every_subflow_that_was_promised_must_have_stood() -> None:
    flow = Flow("main", "a", "b")
    rows = [subflow_row("lan1", 10**6, 0), subflow_row("lan1", 10**6, 1)]
    assert check_subflows(flow, [0], {"lan1": 2}, rows) == []
    asked = [subflow_row("lan1", 0, 2, "SYN-SENT"), *rows]
    assert check_subflows(flow, [0], {"lan1": 3}, asked) == [
        "flow main connection 0: 2 of 3 subflows stood on lan1"
    ]
    assert check_subflows(flow, [0, 1], {"lan1": 1}, rows) == [
        "flow main connection 1: 0 of 1 subflows stood on lan1"
    ]


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
    assert unfilled_intervals({100 * MS: {"fast", "slow"}}, rows) == {"fast": 1}
    assert unfilled_intervals({100 * MS: {"slow"}, 200 * MS: ()}, rows) == {}


def test_an_emulator_without_time_is_a_reason_where_it_left_its_link_unfilled_for_long() -> None:
    assert check_emulator("lan", 1, 25) is None
    assert check_emulator("lan", 0, 3) is None
    assert "lan: its emulator was the limit in 3 of 25 intervals" in str(
        check_emulator("lan", 3, 25)
    )


def test_links_for_which_there_was_no_cpu_are_a_reason() -> None:
    assert check_starved("lan", 1, 25) is None
    assert check_starved("lan", 0, 3) is None
    assert str(check_starved("lan", 3, 25)).startswith(
        "lan: the CPU was the limit in 3 of 25 intervals: the processes that carry its traffic"
    )


def test_the_worst_lateness_counts_beside_that_of_one_packet_in_a_hundred() -> None:
    [link] = wan(10 * MS).links
    assert check_lateness(link, 100_000, 99 * MS) is None
    assert "late by up to 900 ms (tolerance 100 ms)" in str(check_lateness(link, 0, 900 * MS))


def test_lateness_is_held_against_what_a_packet_takes() -> None:
    slow = Channel(rate_bps=10_000)  # 1.2 s for a full packet
    link = Link("slow", A, B, slow, slow)
    assert check_lateness(link, 20 * MS) is None
    assert check_lateness(link, 30 * MS) is not None
    assert check_lateness(Link("fast", A, B, Channel(), Channel()), 2 * MS) is not None


def test_what_emulators_need_is_held_against_the_cpus_that_there_are() -> None:
    assert check_emulator_cpu("lan", "forward", 10**9, 0.9, 1e9) is None
    assert check_emulator_cpu("lan", "forward", 5 * 10**9, 1.25, 4e9) == (
        "lan forward: its emulator needs 1.2 CPUs at 5 Gb/s, more than the one CPU that it runs "
        "on; 4 Gb/s went through"
    )
    assert check_emulators_cpu({f"l{number}": 0.1 for number in range(20)}, 2.5) == []
    assert check_emulators_cpu({f"l{number}": 0.3 for number in range(10)}, 2) == [
        "the emulators of 10 links need 3.0 CPUs at their rates, more than the 2 CPUs that this "
        "run may use"
    ]


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
