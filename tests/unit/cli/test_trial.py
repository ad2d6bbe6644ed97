"""A first run on a busy machine is not a failed installation; other failures are not excused."""

from __future__ import annotations

import inspect
from ipaddress import ip_interface

import pytest

from mptcplab.cli.trial import judge
from mptcplab.linux.emulator.reading import Lateness
from mptcplab.linux.measure import validity, verify
from mptcplab.network.topology import Channel, Host, InterfaceEnd, Link, Path, Topology
from mptcplab.scenario.model import Expectation

A, B = InterfaceEnd("a", "eth0"), InterfaceEnd("b", "eth0")
WAN = Link("wan", A, B, Channel(), Channel())
PATH = Path(A, ip_interface("10.0.0.1/24"), B, ip_interface("10.0.0.2/24"), ("wan",))
NETWORK = Topology("t", (Host("a", (), ()), Host("b", (), ())), (), (WAN,))
SECOND = 1_000_000_000


def late(late_ns: int) -> Lateness:
    lateness = Lateness()
    lateness.record(late_ns)
    return lateness


EXPECTED = Expectation(2 * 10**9)
CPU_LIMIT = verify.check_cpu(
    [verify.BusyInterval(0, SECOND, 1.0)], [EXPECTED], [(0, SECOND)], {EXPECTED: 1e9}
)
BUSY = [
    verify.check_rtt(NETWORK, verify.PathCheck("main", PATH, (5_000_000,))),
    verify.check_rate("wan", "forward", 10**9, 0.8e9),
    *(verify.check_lateness(WAN, late(each)) for each in (20_000_000, 900_000_000, 700_000)),
    verify.check_emulator("wan", 9, 10),
    verify.check_starved("wan", 9, 10),
    *CPU_LIMIT,
    "the sampler was late by up to 700 ms, of an interval of 1000 ms",
    "the timeline was late by up to 700 ms, of an interval of 1000 ms",
]


def judged(*reasons: str | None) -> tuple[bool, str]:
    return judge({"valid": not reasons, "invalid_reasons": list(reasons)})


def test_a_valid_run_says_that_all_is_well() -> None:
    assert judged() == (True, "mptcplab is installed and works.")


@pytest.mark.parametrize("reason", BUSY)
def test_a_disturbed_run_says_what_was_disturbed_and_that_the_installation_works(
    reason: str,
) -> None:
    works, text = judged(reason)
    assert works
    assert reason in text
    assert "installed and works" in text
    assert "not valid" in text


def test_the_samplers_reason_is_still_what_the_testbed_says() -> None:
    source = inspect.getsource(validity)
    assert 'f"the sampler was late by up to {' in source
    assert 'f"the timeline was late by up to {' in source


@pytest.mark.parametrize(
    "reason",
    [
        "flow main connection 0: fell back to TCP",
        "flow main connection 0: 10 bytes sent, 9 received",
        "stopped by SIGINT at 1.0 s",
        verify.check_rtt(NETWORK, verify.PathCheck("main", PATH, ())),
        *verify.check_channel("wan", "forward", Channel(rate_bps=10**9), Channel(rate_bps=10**8)),
    ],
)
def test_what_a_busy_machine_does_not_do_is_no_success(reason: str) -> None:
    works, text = judged(*BUSY, reason)
    assert not works
    assert reason in text
